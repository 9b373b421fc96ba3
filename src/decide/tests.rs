mod promises;
mod properties;
mod requests;

use std::collections::BTreeMap;

use super::*;
use crate::inventory::testing::{golden, gpu_node, gpu_pod, node};
use crate::inventory::{Node, Pod, Snapshot, Sources, Taint};
use crate::precision::Precision;
use crate::units::MIB;

const GB: u64 = 1_000_000_000;

fn needs(bytes: u64, gpus: u64) -> Requirement {
    Requirement { per_gpu: Bytes(bytes), gpus }
}

fn ask(requirement: Requirement, policy: &Policy, nodes: Vec<Node>, pods: Vec<Pod>) -> Decision {
    let request = Request { requirement, policy, owner: None };
    decide(&request, &Inventory::new(Snapshot::new(nodes, pods), &Sources::default()), &[])
}

fn ask_one(requirement: Requirement, policy: &Policy, node: Node) -> ClassVerdict {
    ask(requirement, policy, vec![node], vec![]).classes.remove(0)
}

fn by_node(decision: &Decision) -> BTreeMap<String, (Verdict, Reason)> {
    let classes = &decision.classes;
    classes
        .iter()
        .flat_map(|class| class.nodes.iter().map(|node| (node.to_owned(), (class.verdict(), class.reason()))))
        .collect()
}

#[test]
fn the_golden_cluster_answers_as_the_seed_rules_say() {
    use Reason::{FitsNow, GpuMemoryTooSmall, NoGpus, TooFewGpus};
    for (what, requirement, expected) in [
        // 8B at FP16: 16 GB of weights, 17.3 GB with a modest context, x1.2.
        ("8B fp16", needs(20_760_000_000, 1), [GpuMemoryTooSmall, FitsNow, FitsNow, FitsNow, NoGpus]),
        // 8B at INT4: 4 GB of weights, 5.3 GB, x1.2.
        ("8B int4", needs(6_360_000_000, 1), [FitsNow, FitsNow, FitsNow, FitsNow, NoGpus]),
        (
            "70B fp16 on one",
            needs(170 * GB, 1),
            [GpuMemoryTooSmall, GpuMemoryTooSmall, GpuMemoryTooSmall, GpuMemoryTooSmall, NoGpus],
        ),
        (
            "70B fp16 on two",
            needs(88 * GB, 2),
            [GpuMemoryTooSmall, GpuMemoryTooSmall, GpuMemoryTooSmall, GpuMemoryTooSmall, NoGpus],
        ),
        (
            "70B fp16 on four",
            needs(46 * GB, 4),
            [GpuMemoryTooSmall, GpuMemoryTooSmall, FitsNow, FitsNow, NoGpus],
        ),
        (
            "70B fp16 on eight",
            needs(25 * GB, 8),
            [GpuMemoryTooSmall, GpuMemoryTooSmall, TooFewGpus, TooFewGpus, NoGpus],
        ),
    ] {
        let decision = ask(requirement, &Policy::default(), golden(), vec![]);
        let verdicts = by_node(&decision);
        let found = ["t4", "l4", "a100", "h100", "cpu"].map(|node| verdicts[node].1);
        assert_eq!(found, expected, "{what}");
    }
}

#[test]
fn the_boundary_fits() {
    for (needed, reason) in [
        (15360 * MIB - 1, Reason::FitsNow),
        (15360 * MIB, Reason::FitsNow),
        (15360 * MIB + 1, Reason::GpuMemoryTooSmall),
    ] {
        let class = ask_one(needs(needed, 1), &Policy::default(), gpu_node("t4", 15360, 1));
        assert_eq!(class.reason(), reason, "{needed}");
        let (needed, has) = (Bytes(needed), Bytes(15360 * MIB));
        let expected = match reason {
            Reason::FitsNow => Finding::FitsNow { needed, has },
            _ => Finding::GpuMemoryTooSmall { needed, has },
        };
        assert_eq!(class.finding, expected);
    }
}

#[test]
#[allow(clippy::too_many_lines)] // A table, one line or two per case.
fn every_reason_of_a_node_has_a_case() {
    let label = |key: &str, value: &str| {
        let mut node = gpu_node("n", 81920, 4);
        node.labels.insert(key.to_owned(), value.to_owned());
        node
    };
    let taint = |key: &str, effect: &str| {
        let mut node = gpu_node("n", 81920, 4);
        node.taints = vec![Taint { key: key.to_owned(), value: "a".to_owned(), effect: effect.to_owned() }];
        node
    };
    let amd = Policy { vendors: vec![Vendor::Amd], ..Policy::default() };
    let team = Policy { node_selector: BTreeMap::from([("team".into(), "a".into())]), ..Policy::default() };
    let shared = Policy { allow_shared: true, ..Policy::default() };
    let tolerant = |key: &str, exists, value: &str| Policy {
        tolerations: vec![Toleration { key: key.into(), exists, value: value.into(), effect: String::new() }],
        ..Policy::default()
    };
    let any = Policy::default();
    let sliced = || label("nvidia.com/gpu.replicas", "2");
    let mps = || {
        let mut node = sliced();
        node.labels.insert("nvidia.com/gpu.sharing-strategy".into(), "mps".into());
        node
    };
    let mig = || label("nvidia.com/gpu.product", "NVIDIA-A100-SXM4-80GB-MIG-7g.80gb");
    for (what, policy, node, gpus, verdict, reason) in [
        ("no GPU", &any, node("n", &[], &[]), 1, Verdict::Rejected, Reason::NoGpus),
        ("another vendor", &amd, gpu_node("n", 81920, 4), 1, Verdict::Rejected, Reason::VendorMismatch),
        ("label absent", &team, gpu_node("n", 81920, 4), 1, Verdict::Rejected, Reason::SelectorMismatch),
        ("label other", &team, label("team", "b"), 1, Verdict::Rejected, Reason::SelectorMismatch),
        ("label as wanted", &team, label("team", "a"), 1, Verdict::Fits, Reason::FitsNow),
        (
            "no memory label",
            &any,
            node("n", &[], &[("nvidia.com/gpu", 1)]),
            1,
            Verdict::Unknown,
            Reason::LabelMissing,
        ),
        (
            "memory label empty",
            &any,
            label("nvidia.com/gpu.memory", ""),
            1,
            Verdict::Unknown,
            Reason::LabelUntrusted,
        ),
        (
            "memory label with unit",
            &any,
            label("nvidia.com/gpu.memory", "81920MiB"),
            1,
            Verdict::Unknown,
            Reason::LabelUntrusted,
        ),
        (
            "memory label negative",
            &any,
            label("nvidia.com/gpu.memory", "-1"),
            1,
            Verdict::Unknown,
            Reason::LabelUntrusted,
        ),
        (
            "memory label 1e30",
            &any,
            label("nvidia.com/gpu.memory", "1e30"),
            1,
            Verdict::Unknown,
            Reason::LabelUntrusted,
        ),
        (
            "memory label zero",
            &any,
            label("nvidia.com/gpu.memory", "0"),
            1,
            Verdict::Unknown,
            Reason::LabelUntrusted,
        ),
        (
            "memory label in bytes",
            &any,
            label("nvidia.com/gpu.memory", "85899345920"),
            1,
            Verdict::Unknown,
            Reason::LabelUntrusted,
        ),
        (
            "MIG invalid",
            &any,
            label("nvidia.com/gpu.product", "A100-MIG-INVALID"),
            1,
            Verdict::Unknown,
            Reason::LabelUntrusted,
        ),
        (
            "MIG pending",
            &any,
            label("nvidia.com/mig.config.state", "pending"),
            1,
            Verdict::Unknown,
            Reason::LabelUntrusted,
        ),
        ("too small", &any, gpu_node("n", 15360, 4), 1, Verdict::Rejected, Reason::GpuMemoryTooSmall),
        ("too few", &any, gpu_node("n", 81920, 4), 5, Verdict::Rejected, Reason::TooFewGpus),
        ("handed out: none", &any, gpu_node("n", 81920, 0), 1, Verdict::Rejected, Reason::TooFewGpus),
        (
            "labelled, device plugin down",
            &any,
            node("n", &[("nvidia.com/gpu.present", "true")], &[]),
            1,
            Verdict::Rejected,
            Reason::TooFewGpus,
        ),
        ("time-sliced", &any, sliced(), 1, Verdict::Rejected, Reason::SharedGpu),
        ("time-sliced, allowed", &shared, sliced(), 1, Verdict::Fits, Reason::FitsNow),
        ("time-sliced, allowed, two", &shared, sliced(), 2, Verdict::Rejected, Reason::SharedGpu),
        ("MPS", &any, mps(), 1, Verdict::Rejected, Reason::SharedGpu),
        ("MPS, allowed", &shared, mps(), 1, Verdict::Fits, Reason::FitsNow),
        ("MPS, allowed, two", &shared, mps(), 2, Verdict::Rejected, Reason::SharedGpu),
        ("MIG slice", &any, mig(), 1, Verdict::Fits, Reason::FitsNow),
        ("two MIG slices", &any, mig(), 2, Verdict::Rejected, Reason::SharedGpu),
        (
            "cordoned",
            &any,
            Node { unschedulable: true, ..gpu_node("n", 81920, 4) },
            1,
            Verdict::Rejected,
            Reason::NodeCordoned,
        ),
        (
            "cordoned by taint",
            &any,
            taint("node.kubernetes.io/unschedulable", "NoSchedule"),
            1,
            Verdict::Rejected,
            Reason::NodeCordoned,
        ),
        (
            "not ready",
            &any,
            Node { ready: false, ..gpu_node("n", 81920, 4) },
            1,
            Verdict::Rejected,
            Reason::NodeNotReady,
        ),
        (
            "not ready by taint",
            &any,
            taint("node.kubernetes.io/not-ready", "NoExecute"),
            1,
            Verdict::Rejected,
            Reason::NodeNotReady,
        ),
        (
            "unreachable",
            &any,
            taint("node.kubernetes.io/unreachable", "NoSchedule"),
            1,
            Verdict::Rejected,
            Reason::NodeNotReady,
        ),
        ("tainted", &any, taint("team", "NoSchedule"), 1, Verdict::Rejected, Reason::TaintNotTolerated),
        (
            "tainted, no execution",
            &any,
            taint("team", "NoExecute"),
            1,
            Verdict::Rejected,
            Reason::TaintNotTolerated,
        ),
        (
            "tainted, only preferred",
            &any,
            taint("team", "PreferNoSchedule"),
            1,
            Verdict::Fits,
            Reason::FitsNow,
        ),
        (
            "tainted, tolerated",
            &tolerant("team", false, "a"),
            taint("team", "NoSchedule"),
            1,
            Verdict::Fits,
            Reason::FitsNow,
        ),
        (
            "tainted, other value tolerated",
            &tolerant("team", false, "b"),
            taint("team", "NoSchedule"),
            1,
            Verdict::Rejected,
            Reason::TaintNotTolerated,
        ),
        (
            "the GPU's own taint",
            &any,
            taint("nvidia.com/gpu", "NoSchedule"),
            1,
            Verdict::Fits,
            Reason::FitsNow,
        ),
        (
            "cordoned, all tolerated",
            &tolerant("", true, ""),
            Node { unschedulable: true, ..gpu_node("n", 81920, 4) },
            1,
            Verdict::Fits,
            Reason::FitsNow,
        ),
        (
            "not ready, all tolerated",
            &tolerant("", true, ""),
            Node { ready: false, ..gpu_node("n", 81920, 4) },
            1,
            Verdict::Rejected,
            Reason::NodeNotReady,
        ),
        ("fits", &any, gpu_node("n", 81920, 4), 4, Verdict::Fits, Reason::FitsNow),
    ] {
        let class = ask_one(needs(30 * GB, gpus), policy, node);
        assert_eq!((class.verdict(), class.reason()), (verdict, reason), "{what}");
    }
}

#[test]
fn mps_is_judged_by_the_share() {
    let mut mps = gpu_node("n", 81920, 16);
    mps.labels.insert("nvidia.com/gpu.sharing-strategy".into(), "mps".into());
    mps.labels.insert("nvidia.com/gpu.replicas".into(), "4".into());
    let shared = Policy { allow_shared: true, ..Policy::default() };
    for (needed, reason) in [(20480 * MIB, Reason::FitsNow), (20480 * MIB + 1, Reason::GpuMemoryTooSmall)] {
        assert_eq!(ask_one(needs(needed, 1), &shared, mps.clone()).reason(), reason, "{needed}");
    }
}

#[test]
fn the_first_check_that_fails_is_the_reason() {
    // A node at fault in every way, put right one fault at a time.
    let mut node = gpu_node("n", 81920, 2);
    node.labels.remove("nvidia.com/gpu.memory");
    node.labels.insert("nvidia.com/gpu.replicas".into(), "2".into());
    node.unschedulable = true;
    node.ready = false;
    node.taints = vec![Taint { key: "team".into(), value: String::new(), effect: "NoSchedule".into() }];
    let policy =
        Policy { node_selector: BTreeMap::from([("pool".into(), "gpu".into())]), ..Policy::default() };
    let pods = || vec![gpu_pod("p", "n", 4)];
    let mut reasons = Vec::new();
    let mut step =
        |node: &Node| reasons.push(ask(needs(30 * GB, 4), &policy, vec![node.clone()], pods()).reason());
    step(&node);
    node.labels.insert("pool".into(), "gpu".into());
    step(&node);
    node.labels.insert("nvidia.com/gpu.memory".into(), "0".into());
    step(&node);
    node.labels.insert("nvidia.com/gpu.memory".into(), "15360".into());
    step(&node);
    node.labels.insert("nvidia.com/gpu.memory".into(), "81920".into());
    step(&node);
    node.allocatable.insert("nvidia.com/gpu".into(), 4);
    step(&node);
    node.labels.remove("nvidia.com/gpu.replicas");
    step(&node);
    node.unschedulable = false;
    step(&node);
    node.ready = true;
    step(&node);
    node.taints.clear();
    step(&node);
    assert_eq!(
        reasons,
        [
            Reason::SelectorMismatch,
            Reason::LabelMissing,
            Reason::LabelUntrusted,
            Reason::GpuMemoryTooSmall,
            Reason::TooFewGpus,
            Reason::SharedGpu,
            Reason::NodeCordoned,
            Reason::NodeNotReady,
            Reason::TaintNotTolerated,
            Reason::GpusBusy,
        ]
    );
}

#[test]
fn the_object_has_the_reason_of_the_class_that_comes_nearest() {
    let missing = || node("m", &[], &[("nvidia.com/gpu", 4)]);
    let cordoned = || Node { unschedulable: true, ..gpu_node("c", 81920, 4) };
    let cpu = || node("cpu", &[], &[]);
    let busy = || vec![gpu_pod("p", "a", 4)];
    for (what, nodes, pods, verdict, reason) in [
        ("no node", vec![], vec![], Verdict::Rejected, Reason::NoGpuNodes),
        ("no GPU", vec![cpu()], vec![], Verdict::Rejected, Reason::NoGpuNodes),
        (
            "small beats none",
            vec![cpu(), gpu_node("t", 15360, 4)],
            vec![],
            Verdict::Rejected,
            Reason::GpuMemoryTooSmall,
        ),
        (
            "cordoned beats small",
            vec![gpu_node("t", 15360, 4), cordoned()],
            vec![],
            Verdict::Rejected,
            Reason::NodeCordoned,
        ),
        (
            "unknown beats rejected",
            vec![missing(), cordoned()],
            vec![],
            Verdict::Unknown,
            Reason::LabelMissing,
        ),
        (
            "busy beats unknown",
            vec![missing(), gpu_node("a", 81920, 4)],
            busy(),
            Verdict::Busy,
            Reason::GpusBusy,
        ),
        (
            "fits beats busy",
            vec![gpu_node("a", 81920, 4), gpu_node("b", 81920, 4)],
            busy(),
            Verdict::Fits,
            Reason::FitsNow,
        ),
    ] {
        let decision = ask(needs(30 * GB, 1), &Policy::default(), nodes, pods);
        assert_eq!((decision.verdict(), decision.reason()), (verdict, reason), "{what}");
    }
    let small = ask(needs(90 * GB, 1), &Policy::default(), golden(), vec![]);
    assert_eq!(small.classes[0].nodes.first(), Some("a100"), "the largest of those too small is named first");
}

#[test]
fn what_no_gpu_has_never_fits() {
    let largest = LARGEST_GPU_MADE.0;
    let unknown = || node("m", &[], &[("nvidia.com/gpu", 4)]);
    for (what, bytes, nodes, verdict, reason) in [
        ("as large as the largest", largest, golden(), Verdict::Rejected, Reason::GpuMemoryTooSmall),
        ("larger", largest + 1, golden(), Verdict::Rejected, Reason::NeverFits),
        ("larger, in a cluster without nodes", largest + 1, vec![], Verdict::Rejected, Reason::NeverFits),
        ("larger, a label missing", largest + 1, vec![unknown()], Verdict::Rejected, Reason::NeverFits),
        ("a GPU of the future", largest + 1, vec![gpu_node("f", 393_216, 1)], Verdict::Fits, Reason::FitsNow),
    ] {
        let decision = ask(needs(bytes, 1), &Policy::default(), nodes, vec![]);
        assert_eq!((decision.verdict(), decision.reason()), (verdict, reason), "{what}");
    }
}

#[test]
fn two_kinds_of_gpu_are_never_put_together() {
    let labels = [("nvidia.com/mig-1g.10gb.memory", "9728"), ("nvidia.com/gpu.memory", "9728")];
    let mixed = node("n", &labels, &[("nvidia.com/gpu.shared", 1), ("nvidia.com/gpu", 1)]);
    assert_eq!(ask_one(needs(GB, 2), &Policy::default(), mixed).reason(), Reason::TooFewGpus);
}

#[test]
fn the_owners_pods_do_not_count_against_it() {
    let own = Pod { model_deployment: Some("m".into()), ..gpu_pod("own", "a", 3) };
    let other = gpu_pod("other", "a", 1);
    let namesake = Pod { namespace: "elsewhere".into(), ..own.clone() };
    let ask = |pods: Vec<Pod>, owner| {
        let inventory = Inventory::new(
            Snapshot::new([gpu_node("a", 81920, 4), gpu_node("b", 81920, 2)], pods),
            &Sources::default(),
        );
        let policy = Policy::default();
        decide(&Request { requirement: needs(GB, 3), policy: &policy, owner }, &inventory, &[])
    };
    let owner = Some(Owner { namespace: "default", name: "m" });
    assert_eq!(ask(vec![own.clone(), other.clone()], None).reason(), Reason::GpusBusy);
    let with = ask(vec![own.clone(), other.clone()], owner);
    assert_eq!((with.reason(), with.slots), (Reason::FitsNow, 1));
    assert_eq!(with.classes[0].pool.as_deref().map(|pool| pool.free), Some(3));
    assert_eq!(ask(vec![namesake, other], owner).reason(), Reason::GpusBusy);
}

#[test]
fn classes_are_in_order_and_slots_are_counted() {
    let nodes = vec![
        gpu_node("d", 81920, 8),
        gpu_node("c", 23034, 8),
        gpu_node("b", 23034, 4),
        gpu_node("a", 15360, 4),
    ];
    let named = |decision: &Decision| {
        decision.classes.iter().map(|class| class.nodes.first().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let smallest = ask(needs(20 * GB, 2), &Policy::default(), nodes.clone(), vec![gpu_pod("p", "c", 1)]);
    assert_eq!(named(&smallest), ["b", "c", "d", "a"]);
    assert_eq!(smallest.slots, 2 + 3 + 4);
    let policy = Policy { strategy: Strategy::LargestFit, ..Policy::default() };
    let largest = ask(needs(20 * GB, 2), &policy, nodes, vec![]);
    assert_eq!(named(&largest), ["d", "b", "c", "a"]);
}

#[test]
fn a_node_is_answered_for_by_the_smallest_pool_that_fits() {
    let labels = [("nvidia.com/mig-1g.10gb.memory", "9728"), ("nvidia.com/mig-3g.40gb.memory", "40192")];
    let resources = [("nvidia.com/mig-1g.10gb", 4), ("nvidia.com/mig-3g.40gb", 1)];
    for (needed, resource) in [
        (9 * GB, "nvidia.com/mig-1g.10gb"),
        (20 * GB, "nvidia.com/mig-3g.40gb"),
        (90 * GB, "nvidia.com/mig-3g.40gb"),
    ] {
        let class = ask_one(needs(needed, 1), &Policy::default(), node("n", &labels, &resources));
        assert_eq!(class.pool.as_deref().map(|pool| pool.resource.as_str()), Some(resource), "{needed}");
    }
}

#[test]
fn the_pods_request_whole_gpus_unless_only_slices_fit() {
    let slices = || {
        let labels = [("nvidia.com/mig-1g.10gb.memory", "9728"), ("nvidia.com/mig-3g.40gb.memory", "40192")];
        node("mig", &labels, &[("nvidia.com/mig-1g.10gb", 4), ("nvidia.com/mig-3g.40gb", 1)])
    };
    for (what, nodes, expected) in [
        ("nothing", vec![], "nvidia.com/gpu"),
        ("too small", vec![gpu_node("t4", 15360, 1)], "nvidia.com/gpu"),
        ("slices", vec![slices(), gpu_node("t4", 15360, 1)], "nvidia.com/mig-3g.40gb"),
        ("both", vec![slices(), gpu_node("a100", 81920, 1)], "nvidia.com/gpu"),
    ] {
        assert_eq!(ask(needs(20 * GB, 1), &Policy::default(), nodes, vec![]).resource(), expected, "{what}");
    }
}

#[test]
fn suggestions_are_decided_themselves() {
    let alternative = |change, bytes, gpus| Alternative { change, requirement: needs(bytes, gpus) };
    let alternatives = [
        alternative(Change::Precision(Precision::Fp8), 12 * GB, 1),
        alternative(Change::Precision(Precision::Int8), 12 * GB, 1),
        alternative(Change::Precision(Precision::Int4), 7 * GB, 1),
        alternative(Change::Tensor(2), 11 * GB, 2),
        alternative(Change::Tensor(8), 4 * GB, 8),
        alternative(Change::Context(4096), 30 * GB, 1),
        alternative(Change::Context(2048), 15 * GB, 1),
    ];
    let suggest = |needed, nodes: Vec<Node>, pods: Vec<Pod>| {
        let policy = Policy::default();
        let request = Request { requirement: needs(needed, 1), policy: &policy, owner: None };
        decide(&request, &Inventory::new(Snapshot::new(nodes, pods), &Sources::default()), &alternatives)
            .suggestions
            .into_iter()
            .map(|suggestion| (suggestion.change, suggestion.nodes))
            .collect::<Vec<_>>()
    };
    let t4s = || vec![gpu_node("t1", 15360, 4), gpu_node("t2", 15360, 4)];
    assert_eq!(
        suggest(20 * GB, t4s(), vec![]),
        [
            (Change::Precision(Precision::Fp8), 2),
            (Change::Precision(Precision::Int4), 2),
            (Change::Tensor(2), 2),
            (Change::Context(2048), 2),
        ]
    );
    assert_eq!(suggest(10 * GB, t4s(), vec![]), [], "it fits already");
    assert_eq!(suggest(20 * GB, vec![gpu_node("s", 4096, 4)], vec![]), [], "nothing fits");
    let busy = vec![gpu_pod("p", "a", 1)];
    let nodes = vec![gpu_node("a", 23034, 1), gpu_node("t", 8188, 1)];
    assert_eq!(
        suggest(20 * GB, nodes, busy),
        [(Change::Precision(Precision::Int4), 1)],
        "what is as busy helps nobody"
    );
}
