use serde_json::json;

use super::*;
use crate::api::v1alpha1::ModelDeploymentStatus;
use crate::controller::testing::{cluster, object, plan};
use crate::inventory::testing::{golden, gpu_node, gpu_pod, node};
use crate::inventory::{Inventory, Node};
use crate::launch::rollout::Child;
use crate::launch::{Launch, Nothing};
use crate::refusal::Refusal;
use k8s_openapi::api::apps::v1::Deployment;

fn at(second: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(second).unwrap()
}

/// A plan for an object that needs so much on one GPU.
fn planned(gib: u64, inventory: &Inventory) -> Found {
    Found::Planned(Box::new(plan(&object(&json!({"model": {"parameters": "8B"}})), gib, inventory)))
}

fn child(ready: i32) -> Rollout {
    Rollout::Written(Child { is_current: true, replicas: 2, updated: 2, ready, ..Child::default() })
}

/// A plan for which nothing runs.
fn without_pods(gib: u64, inventory: &Inventory, nothing: Nothing) -> Found {
    let Found::Planned(plan) = planned(gib, inventory) else { panic!("a plan") };
    Found::Planned(Box::new(Plan { launch: Launch::Nothing(nothing), ..*plan }))
}

/// A pod of which this is known.
fn pod(status: &serde_json::Value) -> PodFacts {
    let pod = json!({"metadata": {"name": "llama-5d4-x"}, "status": status});
    PodFacts::from_object(&serde_json::from_value(pod).unwrap())
}

fn facts<'a>(found: &'a Found, rollout: &'a Rollout) -> Facts<'a> {
    Facts {
        name: "llama",
        generation: Some(3),
        wanted: 2,
        found,
        hopeless: false,
        rollout,
        pods: &[],
        replacement: Replacement::Surge,
    }
}

/// Each condition as `Status Reason`, in the order in which they are written.
fn shown(status: &ModelDeploymentStatus) -> Vec<String> {
    let of_all = status.conditions.iter().filter(|condition| condition.type_ != UP_TO_DATE);
    of_all.map(|condition| format!("{} {}", condition.status, condition.reason)).collect()
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
    let left_alone = Rollout::AsItIs(None);
    let failing = Rollout::Written(Child {
        failure: Some("exceeded quota".to_owned()),
        is_current: true,
        ..Child::default()
    });
    let stale = Rollout::Written(Child { replicas: 2, updated: 2, ready: 2, ..Child::default() });
    let old_pods =
        Rollout::Written(Child { is_current: true, replicas: 3, updated: 1, ready: 2, ..Child::default() });
    let old_ready =
        Rollout::Written(Child { is_current: true, replicas: 4, updated: 2, ready: 2, ..Child::default() });
    let rejected = Rollout::Rejected { why: "spec.template: Invalid value".to_owned(), child: None };
    let denied = Rollout::Denied {
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
            "an estimate only, and it fits",
            without_pods(20, &l4(), Nothing::NoEngine),
            Rollout::None,
            [
                "True EstimateOnly",
                "True Estimated",
                "True FitsNow",
                "False EstimateOnly",
                "False EstimateOnly",
            ],
        ),
        (
            "an estimate only, and it does not fit",
            without_pods(20, &Inventory::default(), Nothing::Training),
            Rollout::None,
            [
                "True EstimateOnly",
                "True Estimated",
                "False NoGpuNodes",
                "False EstimateOnly",
                "False EstimateOnly",
            ],
        ),
        (
            "what is asked for cannot be run, and pods of an earlier spec serve on",
            without_pods(20, &l4(), Nothing::NoModel),
            child(2),
            ["False CannotRun", "True Estimated", "True FitsNow", "False CannotRun", "True CannotRun"],
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
            Rollout::AsItIs(None),
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
            Rollout::NameTaken,
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
            Rollout::Predecessor,
            ["False Progressing", "True Estimated", "True FitsNow", "True Progressing", "False Progressing"],
        ),
    ] {
        let status = status(facts(&found, &workload), None, at(100));
        assert_eq!(shown(&status), expected, "{case}");
        let kinds: Vec<&str> = status.conditions.iter().map(|condition| condition.type_.as_str()).collect();
        let runs = kinds.contains(&UP_TO_DATE);
        let expected: &[&str] = if runs {
            &[READY, ESTIMATED, PLACEABLE, UP_TO_DATE, RECONCILING, STALLED]
        } else {
            &[READY, ESTIMATED, PLACEABLE, RECONCILING, STALLED]
        };
        assert_eq!(kinds, expected, "{case}");
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
    let workload = Rollout::AsItIs(None);
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
    let none = Rollout::Written(Child { is_current: true, ..Child::default() });
    let scaled = |workload| status(Facts { wanted: 0, ..facts(&found, workload) }, None, at(1));
    assert_eq!(shown(&scaled(&none))[0], "True ScaledToZero");
    assert_eq!(shown(&status(facts(&found, &workload), None, at(1)))[0], "False Progressing");
}

#[test]
fn pods_that_fail_say_why() {
    let waits = |reason: &str, message: &str| {
        pod(
            &json!({"phase": "Pending", "containerStatuses": [{"name": "model", "ready": false, "restartCount": 0, "image": "",
            "imageID": "", "state": {"waiting": {"reason": reason, "message": message}}}]}),
        )
    };
    let ended = |reason: &str, message: &str| {
        pod(
            &json!({"phase": "Running", "containerStatuses": [{"name": "model", "ready": false, "restartCount": 5, "image": "",
            "imageID": "", "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"reason": reason, "exitCode": 1, "message": message}}}]}),
        )
    };
    let unbound = |message: &str| {
        pod(&json!({"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]}))
    };
    let cpu = || unbound("0/24 nodes are available: 24 Insufficient cpu.");
    let starts = Child { is_current: true, replicas: 2, updated: 2, ready: 0, ..Child::default() };
    let overdue = Child { overdue: Some("timed out progressing".to_owned()), ..starts.clone() };
    let replaces = Child { replicas: 3, updated: 1, ready: 2, ..starts.clone() };
    let busy = cluster(vec![gpu_node("l4", 23034, 4)], vec![gpu_pod("other", "l4", 4)]);
    for (case, inventory, child, pods, expected, parts) in [
        (
            "out of GPU memory",
            l4(),
            &starts,
            vec![ended("Error", "CUDA out of memory. Tried to allocate 2.00 GiB")],
            "False GpuOutOfMemory False",
            &["CUDA out of memory", "20.0 GiB per GPU", "safetyMargin above 1.2"][..],
        ),
        (
            "crashes",
            l4(),
            &starts,
            vec![ended("Error", "no such flag")],
            "False CrashLooping False",
            &["no such flag"],
        ),
        (
            "out of host memory",
            l4(),
            &starts,
            vec![ended("OOMKilled", "")],
            "False HostOutOfMemory False",
            &["memory limit"],
        ),
        (
            "no image",
            l4(),
            &starts,
            vec![waits("ImagePullBackOff", "not found")],
            "False ImagePullFailed False",
            &["not found"],
        ),
        ("no CPU", l4(), &starts, vec![cpu()], "False Unschedulable False", &["24 Insufficient cpu"]),
        (
            "no GPU",
            busy,
            &starts,
            vec![unbound("0/1 nodes are available: 1 Insufficient nvidia.com/gpu.")],
            "False GpusBusy False",
            &["in use"],
        ),
        (
            "it has waited too long",
            l4(),
            &overdue,
            vec![cpu()],
            "False DeadlineExceeded True",
            &["24 Insufficient cpu", "deadline"],
        ),
        (
            "and nothing says why",
            l4(),
            &overdue,
            vec![],
            "False DeadlineExceeded True",
            &["timed out progressing"],
        ),
        (
            "a new pod waits for an old one's GPU",
            l4(),
            &replaces,
            vec![unbound("0/1 nodes are available: 1 Insufficient nvidia.com/gpu.")],
            "False Replacing False",
            &["which serve on", "InPlace"],
        ),
    ] {
        let (found, rollout) = (planned(20, &inventory), Rollout::Written(child.clone()));
        let status = status(Facts { pods: &pods, ..facts(&found, &rollout) }, None, at(1));
        let of = |kind| conditions::find(&status.conditions, kind).unwrap();
        let (ready, stalled) = (of(READY), of(STALLED));
        assert_eq!(format!("{} {} {}", ready.status, ready.reason, stalled.status), expected, "{case}");
        for part in parts {
            assert!(ready.message.contains(part), "{case}: {}", ready.message);
        }
    }
}

#[test]
fn pods_that_were_given_less_than_is_needed_by_now_stay_and_say_so() {
    let rollout = child(2);
    let Found::Planned(plan) = planned(20, &l4()) else { panic!("a plan") };
    let given = |gib: u64| Requirement { per_gpu: Bytes(gib << 30), gpus: 1 };
    for (kept, expected) in [
        (None, "True AsEstimated"),
        (Some(given(20)), "True AsEstimated"),
        (Some(given(22)), "True AsEstimated"),
        (Some(given(18)), "False EstimateGrown"),
    ] {
        let found = Found::Planned(Box::new(Plan { kept, ..Plan::clone(&plan) }));
        let status = status(facts(&found, &rollout), None, at(1));
        let condition = conditions::find(&status.conditions, UP_TO_DATE).unwrap();
        assert_eq!(format!("{} {}", condition.status, condition.reason), expected);
        assert_eq!(condition.message.contains("loadline.dev/roll="), expected.starts_with("False"));
        assert_eq!(shown(&status)[0], "True Available", "what runs is ready");
    }
    let found = without_pods(20, &l4(), Nothing::NoEngine);
    let before = status(facts(&planned(20, &l4()), &rollout), None, at(1));
    let after = status(facts(&found, &Rollout::None), Some(&before), at(2));
    assert_eq!(conditions::find(&after.conditions, UP_TO_DATE), None, "it goes with the pods");
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
            Child { is_current: true, replicas: 3, updated: 2, ready: 1, ..Child::default() },
        ),
        (
            deployment(
                2,
                json!({"observedGeneration": 2, "conditions": [
                    {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"},
                ]}),
            ),
            Child { is_current: true, overdue: Some("timed out".to_owned()), ..Child::default() },
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
