//! What pods request besides GPUs: CPU, memory, storage, places for pods, other devices.

use super::*;
use crate::inventory::{Amounts, Capacity, Requests};
use crate::units::GIB;

/// A node with 8 GPUs, 64 CPU, 512 GiB of memory, 100 GiB of storage and places for 110 pods.
fn host(name: &str) -> Node {
    Node {
        host: Capacity([Some(64_000), Some(512 * GIB), Some(100 * GIB), Some(110)]),
        ..gpu_node(name, 81920, 8)
    }
}

fn requesting(cpu: u64, memory: u64) -> Policy {
    let requests = Requests { host: Amounts([cpu, memory, 0, 1]), ..Requests::default() };
    Policy { requests, ..Policy::default() }
}

/// A pod without GPUs.
fn pod(name: &str, node: &str, cpu: u64, memory: u64) -> Pod {
    Pod {
        namespace: "default".into(),
        name: name.into(),
        node: Some(node.into()),
        host: Amounts([cpu, memory, 0, 1]),
        ..Pod::default()
    }
}

#[test]
fn a_node_is_judged_by_what_a_pod_requests() {
    let too_small = |resource: &str, needed, allocatable| Finding::ResourcesTooSmall {
        resource: resource.to_owned(),
        needed,
        allocatable,
    };
    let busy = |resource: &str, needed, free, allocatable| Finding::ResourcesBusy {
        resource: resource.to_owned(),
        needed,
        free,
        allocatable,
    };
    let fits = || Finding::FitsNow { needed: Bytes(GB), has: Bytes(81920 * MIB) };
    let silent = || gpu_node("n", 81920, 8);
    let full = || (0..110).map(|at| pod(&at.to_string(), "n", 0, 0)).collect::<Vec<_>>();
    for (what, policy, node, pods, expected, slots) in [
        ("nothing", Policy::default(), host("n"), vec![], fits(), 8),
        ("as many as GPUs", requesting(8_000, 64 * GIB), host("n"), vec![], fits(), 8),
        ("fewer than GPUs", requesting(16_000, GIB), host("n"), vec![], fits(), 4),
        ("fewer for their memory", requesting(1, 200 * GIB), host("n"), vec![], fits(), 2),
        ("all there is", requesting(64_000, 0), host("n"), vec![], fits(), 1),
        ("more CPU", requesting(64_001, 0), host("n"), vec![], too_small("cpu", 64_001, 64_000), 0),
        (
            "more memory",
            requesting(0, 513 * GIB),
            host("n"),
            vec![],
            too_small("memory", 513 * GIB, 512 * GIB),
            0,
        ),
        (
            "CPU in use",
            requesting(16_000, 0),
            host("n"),
            vec![pod("p", "n", 50_000, 0)],
            busy("cpu", 16_000, 14_000, 64_000),
            0,
        ),
        (
            "more CPU in use than there is",
            requesting(1, 0),
            host("n"),
            vec![pod("p", "n", u64::MAX, 0), pod("q", "n", u64::MAX, 0)],
            busy("cpu", 1, 0, 64_000),
            0,
        ),
        ("CPU in use elsewhere", requesting(64_000, 0), host("n"), vec![pod("p", "m", 1, 0)], fits(), 1),
        (
            "memory never goes before CPU in use",
            requesting(16_000, 513 * GIB),
            host("n"),
            vec![pod("p", "n", 50_000, 0)],
            too_small("memory", 513 * GIB, 512 * GIB),
            0,
        ),
        ("a place for it", requesting(0, 0), host("n"), full().split_off(1), fits(), 1),
        ("no place for it", requesting(0, 0), host("n"), full(), busy("pods", 1, 0, 110), 0),
        ("a node that says nothing", requesting(1 << 40, 1 << 60), silent(), full(), fits(), 8),
        (
            "never goes before GPUs in use",
            requesting(65_000, 0),
            host("n"),
            vec![gpu_pod("p", "n", 8)],
            too_small("cpu", 65_000, 64_000),
            0,
        ),
        (
            "GPUs in use go before CPU in use",
            requesting(64_000, 0),
            host("n"),
            vec![gpu_pod("p", "n", 8), pod("q", "n", 1, 0)],
            Finding::GpusBusy { needed: 1, free: 0, allocatable: 8 },
            0,
        ),
    ] {
        let decision = ask(needs(GB, 1), &policy, vec![node], pods);
        assert_eq!(decision.classes[0].finding, expected, "{what}");
        assert_eq!(decision.slots, slots, "{what}");
        assert_eq!(decision.finding, expected, "{what}");
    }
}

#[test]
fn other_devices_are_counted_too() {
    let mut policy = requesting(0, 0);
    policy.requests.extended.insert("rdma/hca".into(), 2);
    let with = |devices| {
        let mut node = host("n");
        node.allocatable.insert("rdma/hca".into(), devices);
        node
    };
    let holds = |devices| {
        let mut pod = gpu_pod("p", "n", 1);
        pod.requests.insert("rdma/hca".into(), devices);
        pod
    };
    for (what, node, pods, reason, slots) in [
        ("none there", host("n"), vec![], Reason::ResourcesTooSmall, 0),
        ("too few", with(1), vec![], Reason::ResourcesTooSmall, 0),
        ("enough", with(8), vec![], Reason::FitsNow, 4),
        ("in use", with(8), vec![holds(7)], Reason::ResourcesBusy, 0),
        ("some in use", with(8), vec![holds(6)], Reason::FitsNow, 1),
    ] {
        let decision = ask(needs(GB, 1), &policy, vec![node], pods);
        assert_eq!((decision.reason(), decision.slots), (reason, slots), "{what}");
    }
}

#[test]
fn the_owners_pods_keep_no_cpu_from_it() {
    let own = Pod {
        model_deployment: Some("m".into()),
        host: Amounts([40_000, 0, 0, 1]),
        ..gpu_pod("own", "a", 1)
    };
    let policy = requesting(40_000, 0);
    let decided = |owner| {
        let inventory = Inventory::new(Snapshot::new([host("a")], [own.clone()]), &Sources::default());
        let request = Request { requirement: needs(GB, 1), policy: &policy, owner };
        let decision = decide(&request, &inventory, &[]);
        (decision.reason(), decision.slots)
    };
    assert_eq!(decided(Some(Owner { namespace: "default", name: "m" })), (Reason::FitsNow, 1));
    assert_eq!(decided(Some(Owner { namespace: "default", name: "x" })), (Reason::ResourcesBusy, 0));
}

#[test]
fn what_is_suggested_has_room_for_what_is_requested() {
    let alternatives =
        [Alternative { change: Change::Precision(Precision::Int4), requirement: needs(GB, 1) }];
    let nodes = || vec![Node { host: host("a").host, ..gpu_node("a", 15360, 1) }];
    let suggested = |policy: &Policy| {
        let request = Request { requirement: needs(30 * GB, 1), policy, owner: None };
        let inventory = Inventory::new(Snapshot::new(nodes(), []), &Sources::default());
        decide(&request, &inventory, &alternatives).suggestions.len()
    };
    assert_eq!((suggested(&requesting(64_000, 0)), suggested(&requesting(64_001, 0))), (1, 0));
}

#[test]
fn nodes_are_told_apart_by_the_answer_and_not_by_how_much_they_have() {
    let nodes = (0..5000_u64).map(|index| {
        let mut node = host("x");
        node.name = format!("node-{index:04}");
        // No two nodes have quite the same memory, and no two of a hundred the same CPU in use.
        node.host.0[1] = Some(512 * GIB - index * 4096);
        node
    });
    let pods = (0..5000_u64)
        .map(|index| pod(&format!("p{index}"), &format!("node-{index:04}"), index % 100 * 640, 0));
    let inventory = Inventory::new(Snapshot::new(nodes, pods), &Sources::default());
    assert_eq!(inventory.class_count(), 1);
    let decided = |policy: &Policy| {
        decide(&Request { requirement: needs(GB, 1), policy, owner: None }, &inventory, &[])
    };
    assert_eq!(decided(&Policy::default()).classes.len(), 1);
    assert_eq!(decided(&requesting(0, 0)).classes.len(), 1);
    let half = decided(&requesting(32_000, 0));
    let found: Vec<(Reason, usize)> =
        half.classes.iter().map(|class| (class.reason(), class.nodes.len())).collect();
    assert_eq!(found, [(Reason::FitsNow, 2550), (Reason::ResourcesBusy, 2450)]);
    assert_eq!(half.slots, 2550 + 50, "an empty one has room for two");
    let most = decided(&requesting(0, 512 * GIB - 8192));
    let found: Vec<(Reason, usize)> =
        most.classes.iter().map(|class| (class.reason(), class.nodes.len())).collect();
    assert_eq!(found, [(Reason::FitsNow, 3), (Reason::ResourcesTooSmall, 4997)]);
}

#[test]
fn what_a_status_shows_of_it_wakes_the_object() {
    let digest = |policy: &Policy, cpu| {
        ask(needs(GB, 1), policy, vec![host("n")], vec![pod("p", "n", cpu, 0)]).digest(1)
    };
    let asks = requesting(16_000, 0);
    assert_ne!(digest(&asks, 50_000), digest(&asks, 51_000), "what is free is shown");
    assert_ne!(digest(&asks, 48_000), digest(&asks, 48_001), "it fits, or not");
    assert_eq!(digest(&asks, 1_000), digest(&asks, 2_000), "how much more there is nothing shows");
    assert_eq!(digest(&requesting(0, 0), 50_000), digest(&requesting(0, 0), 51_000));
}
