use serde_json::json;

use super::*;
use crate::api::v1alpha1::ModelDeploymentStatus;
use crate::controller::testing::{cluster, object, plan};
use crate::inventory::testing::{golden, gpu_node, gpu_pod, node};
use crate::inventory::{Inventory, Node};
use crate::refusal::Refusal;

fn at(second: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(second).unwrap()
}

/// A plan for an object that needs so much on one GPU.
fn planned(gib: u64, inventory: &Inventory) -> Found {
    Found::Planned(Box::new(plan(&object(&json!({"model": {"parameters": "8B"}})), gib, inventory)))
}

fn child(ready: i32) -> Workload {
    Workload::Written(Child { is_current: true, replicas: 2, updated: 2, ready, failure: None })
}

fn facts<'a>(found: &'a Found, workload: &'a Workload) -> Facts<'a> {
    Facts { name: "llama", generation: Some(3), wanted: 2, found, hopeless: false, workload }
}

/// Each condition as `Status Reason`, in the order in which they are written.
fn shown(status: &ModelDeploymentStatus) -> Vec<String> {
    status.conditions.iter().map(|condition| format!("{} {}", condition.status, condition.reason)).collect()
}

fn l4() -> Inventory {
    cluster(vec![gpu_node("l4", 23034, 4)], Vec::new())
}

fn one(node: Node) -> Inventory {
    cluster(vec![node], Vec::new())
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn each_case_has_its_conditions() {
    let refused = Refusal::Invalid {
        field: "context.length".to_owned(),
        problem: "0 tokens".to_owned(),
        remedy: "write at least 1".to_owned(),
    };
    let unsupported =
        Refusal::NotSupported { field: "placement.mode".to_owned(), remedy: "use NodeAffinity".to_owned() };
    let busy = cluster(vec![gpu_node("l4", 23034, 4)], vec![gpu_pod("other", "l4", 4)]);
    let nearly = cluster(vec![gpu_node("l4", 23034, 4)], vec![gpu_pod("other", "l4", 3)]);
    let mut cordoned = gpu_node("l4", 23034, 4);
    cordoned.unschedulable = true;
    let unlabelled = node("x", &[], &[("nvidia.com/gpu", 4)]);
    let left_alone = Workload::LeftAlone(None);
    let failing = Workload::Written(Child {
        failure: Some("exceeded quota".to_owned()),
        is_current: true,
        ..Child::default()
    });
    let stale = Workload::Written(Child { replicas: 2, updated: 2, ready: 2, ..Child::default() });
    let old_pods =
        Workload::Written(Child { is_current: true, replicas: 3, updated: 1, ready: 2, failure: None });
    let old_ready =
        Workload::Written(Child { is_current: true, replicas: 4, updated: 2, ready: 2, failure: None });
    let nothing = Workload::Nothing(Nothing::NoModel);
    let rejected = Workload::Rejected { why: "spec.template: Invalid value".to_owned(), child: None };
    let denied = Workload::Denied {
        why: "exceeded quota".to_owned(),
        child: Some(Child { replicas: 2, ready: 2, ..Child::default() }),
    };
    // Ready, Estimated, Placeable, Reconciling, Stalled.
    for (case, found, workload, expected) in [
        (
            "runs",
            planned(20, &l4()),
            child(2),
            ["True Available", "True Estimated", "True FitsNow", "False Available", "False Available"],
        ),
        (
            "starts",
            planned(20, &l4()),
            child(1),
            ["False Progressing", "True Estimated", "True FitsNow", "True Progressing", "False Progressing"],
        ),
        (
            "the Deployment's status is of an older spec",
            planned(20, &l4()),
            stale,
            ["False Progressing", "True Estimated", "True FitsNow", "True Progressing", "False Progressing"],
        ),
        (
            "rolls out",
            planned(20, &l4()),
            old_pods,
            ["False Progressing", "True Estimated", "True FitsNow", "True Progressing", "False Progressing"],
        ),
        (
            "the pods that are ready are those of an older template",
            planned(20, &l4()),
            old_ready,
            ["False Progressing", "True Estimated", "True FitsNow", "True Progressing", "False Progressing"],
        ),
        (
            "room for one of two",
            planned(20, &nearly),
            child(1),
            ["False GpusBusy", "True Estimated", "True FitsNow", "True GpusBusy", "False GpusBusy"],
        ),
        (
            "busy",
            planned(20, &busy),
            child(0),
            ["False GpusBusy", "True Estimated", "False GpusBusy", "True GpusBusy", "False GpusBusy"],
        ),
        (
            "too small",
            planned(20, &one(gpu_node("t4", 15360, 4))),
            child(0),
            [
                "False GpuMemoryTooSmall",
                "True Estimated",
                "False GpuMemoryTooSmall",
                "True GpuMemoryTooSmall",
                "False GpuMemoryTooSmall",
            ],
        ),
        (
            "no nodes",
            planned(20, &Inventory::default()),
            child(0),
            ["False NoGpuNodes", "True Estimated", "False NoGpuNodes", "True NoGpuNodes", "False NoGpuNodes"],
        ),
        (
            "no label",
            planned(20, &one(unlabelled)),
            child(0),
            [
                "False LabelMissing",
                "True Estimated",
                "Unknown LabelMissing",
                "True LabelMissing",
                "False LabelMissing",
            ],
        ),
        (
            "runs on, though its node was cordoned",
            planned(20, &one(cordoned)),
            child(2),
            ["True Available", "True Estimated", "False NodeCordoned", "False Available", "False Available"],
        ),
        (
            "pods cannot be created",
            planned(20, &l4()),
            failing,
            [
                "False ReplicaFailure",
                "True Estimated",
                "True FitsNow",
                "True ReplicaFailure",
                "False ReplicaFailure",
            ],
        ),
        (
            "nothing to run, and it fits",
            planned(20, &l4()),
            nothing.clone(),
            ["True FitsNow", "True Estimated", "True FitsNow", "False FitsNow", "False FitsNow"],
        ),
        (
            "nothing to run, and it does not fit",
            planned(20, &Inventory::default()),
            nothing,
            ["False NoGpuNodes", "True Estimated", "False NoGpuNodes", "True NoGpuNodes", "False NoGpuNodes"],
        ),
        (
            "never fits",
            planned(400, &l4()),
            left_alone.clone(),
            ["False NeverFits", "True Estimated", "False NeverFits", "False NeverFits", "True NeverFits"],
        ),
        (
            "refused",
            Found::Refused(refused),
            left_alone.clone(),
            [
                "False InvalidSpec",
                "False InvalidSpec",
                "Unknown InvalidSpec",
                "False InvalidSpec",
                "True InvalidSpec",
            ],
        ),
        (
            "not supported",
            Found::Refused(unsupported),
            left_alone.clone(),
            [
                "False NotSupported",
                "False NotSupported",
                "Unknown NotSupported",
                "False NotSupported",
                "True NotSupported",
            ],
        ),
        (
            "malformed",
            Found::Malformed(vec!["spec: unknown variant".to_owned()]),
            left_alone.clone(),
            [
                "False InvalidSpec",
                "False InvalidSpec",
                "Unknown InvalidSpec",
                "False InvalidSpec",
                "True InvalidSpec",
            ],
        ),
        (
            "a ConfigMap that may still come",
            Found::Unresolved("there is no ConfigMap x".to_owned()),
            left_alone,
            [
                "False ModelNotResolved",
                "False ModelNotResolved",
                "Unknown ModelNotResolved",
                "True ModelNotResolved",
                "False ModelNotResolved",
            ],
        ),
        (
            "a model that is being read",
            Found::Pending,
            Workload::LeftAlone(None),
            [
                "False EstimatePending",
                "Unknown EstimatePending",
                "Unknown EstimatePending",
                "True EstimatePending",
                "False EstimatePending",
            ],
        ),
        (
            "the name is another's",
            planned(20, &l4()),
            Workload::NameTaken,
            ["False NameTaken", "True Estimated", "True FitsNow", "True NameTaken", "False NameTaken"],
        ),
        (
            "the server refuses the template",
            planned(20, &l4()),
            rejected,
            [
                "False WorkloadRejected",
                "True Estimated",
                "True FitsNow",
                "False WorkloadRejected",
                "True WorkloadRejected",
            ],
        ),
        (
            "a quota is in the way",
            planned(20, &l4()),
            denied,
            [
                "False WorkloadDenied",
                "True Estimated",
                "True FitsNow",
                "True WorkloadDenied",
                "False WorkloadDenied",
            ],
        ),
        (
            "the Deployment of one of the same name is still there",
            planned(20, &l4()),
            Workload::Predecessor,
            ["False Progressing", "True Estimated", "True FitsNow", "True Progressing", "False Progressing"],
        ),
    ] {
        let status = status(facts(&found, &workload), None, at(100));
        assert_eq!(shown(&status), expected, "{case}");
        let kinds: Vec<&str> = status.conditions.iter().map(|condition| condition.type_.as_str()).collect();
        assert_eq!(kinds, [READY, ESTIMATED, PLACEABLE, RECONCILING, STALLED], "{case}");
        for condition in &status.conditions {
            assert_eq!(condition.observed_generation, Some(3), "{case}");
            assert!(condition.message.len() <= 1024, "{case}");
            let silent =
                condition.status == "False" && [RECONCILING, STALLED].contains(&condition.type_.as_str());
            assert_eq!(condition.message.is_empty(), silent, "{case}: {condition:?}");
        }
    }
}

#[test]
fn a_model_that_cannot_be_resolved_is_hopeless_only_if_nothing_will_change_it() {
    let found = Found::Unresolved("spec.model.catalog: \"x\" is not in the catalog".to_owned());
    let workload = Workload::LeftAlone(None);
    let hopeless = Facts { hopeless: true, ..facts(&found, &workload) };
    assert_eq!(
        shown(&status(hopeless, None, at(1)))[3..],
        ["False ModelNotResolved", "True ModelNotResolved"]
    );
}

#[test]
fn the_same_facts_give_the_same_status() {
    let (found, workload) = (planned(20, &cluster(golden(), Vec::new())), child(1));
    let once = status(facts(&found, &workload), None, at(100));
    assert_eq!(status(facts(&found, &workload), Some(&once), at(999)), once);
}

#[test]
fn a_free_gpu_more_or_less_is_a_matter_of_words() {
    let workload = child(2);
    let with = |pods| {
        let found = planned(20, &cluster(golden(), pods));
        status(facts(&found, &workload), None, at(1))
    };
    let (idle, one, all) =
        (with(vec![]), with(vec![gpu_pod("a", "h100", 1)]), with(vec![gpu_pod("a", "h100", 4)]));
    assert_eq!(difference(&idle, &one), Difference::Words);
    assert_eq!(difference(&idle, &all), Difference::Placement, "a node less fits");
    let mut nowhere = all.clone();
    nowhere.conditions.iter_mut().for_each(|condition| condition.status = "Unknown".to_owned());
    assert_eq!(difference(&all, &nowhere), Difference::Substance);
    let unplaced = ModelDeploymentStatus { placement: None, ..idle.clone() };
    assert_eq!(difference(&idle, &unplaced), Difference::Substance, "what was known no longer is");
}

#[test]
fn nothing_wanted_is_ready() {
    let (found, workload) = (planned(20, &l4()), child(0));
    let none = Workload::Written(Child { is_current: true, ..Child::default() });
    let scaled = |workload| status(Facts { wanted: 0, ..facts(&found, workload) }, None, at(1));
    assert_eq!(shown(&scaled(&none))[0], "True Available");
    assert_eq!(shown(&status(facts(&found, &workload), None, at(1)))[0], "False Progressing");
}

#[test]
fn a_whole_status() {
    let (found, workload) = (planned(20, &cluster(golden(), vec![gpu_pod("other", "a100", 4)])), child(1));
    let status = status(facts(&found, &workload), None, at(100));
    insta::assert_snapshot!(serde_yaml::to_string(&status).unwrap());
}

#[test]
fn at_most_ten_nodes_are_listed_and_each_kind_among_them() {
    let mut nodes: Vec<Node> = (0..30).map(|index| gpu_node(&format!("l4-{index:02}"), 23034, 4)).collect();
    // One kind is one class: the product is the same.
    for node in &mut nodes {
        node.labels.insert("nvidia.com/gpu.product".to_owned(), "NVIDIA-L4".to_owned());
    }
    nodes.extend(golden());
    let (found, workload) = (planned(20, &cluster(nodes, Vec::new())), child(2));
    let placement = status(facts(&found, &workload), None, at(1)).placement.unwrap();
    assert_eq!(placement.nodes.len(), 10);
    assert_eq!((placement.fits, placement.busy, placement.unknown), (33, 0, 0));
    let rejected: Vec<(&str, i64)> =
        placement.rejected.iter().map(|rejected| (rejected.reason.as_str(), rejected.nodes)).collect();
    assert_eq!(rejected, [("GpuMemoryTooSmall", 1), ("NoGpus", 1)]);
    for name in ["l4", "a100", "h100", "t4", "cpu"] {
        assert!(placement.nodes.iter().any(|node| node.name == name), "{name}: {:?}", placement.nodes);
    }
    assert_eq!(placement.best.unwrap().memory, 23034 << 20);
}

#[test]
fn a_deployment_is_read_as_it_stands() {
    let deployment = |generation: i64, status: serde_json::Value| -> Deployment {
        serde_json::from_value(json!({"metadata": {"generation": generation}, "status": status})).unwrap()
    };
    for (deployment, expected) in [
        (deployment(1, json!({})), Child::default()),
        (
            deployment(
                2,
                json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 2, "readyReplicas": 1}),
            ),
            Child { is_current: true, replicas: 3, updated: 2, ready: 1, failure: None },
        ),
        (
            deployment(
                2,
                json!({"observedGeneration": 2, "conditions": [
                    {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"},
                ]}),
            ),
            Child { is_current: true, failure: Some("exceeded quota".to_owned()), ..Child::default() },
        ),
    ] {
        assert_eq!(Child::of(&deployment), expected);
    }
}
