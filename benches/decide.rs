//! Reading a cluster and deciding on it: 5,000 nodes in a hundred kinds, 10,000 pods.

use std::collections::BTreeMap;

use loadline::decide::{Policy, Request, Requirement, decide};
use loadline::inventory::{Inventory, Node, Pod, Snapshot, Sources};
use loadline::units::Bytes;

fn main() {
    divan::main();
}

fn snapshot() -> Snapshot {
    let nodes = (0..5_000_u64).map(|index| Node {
        name: format!("node-{index:04}"),
        labels: BTreeMap::from([
            ("nvidia.com/gpu.memory".to_owned(), (8_000 + index % 100 * 800).to_string()),
            ("nvidia.com/gpu.product".to_owned(), format!("GPU-{}", index % 100)),
            ("kubernetes.io/hostname".to_owned(), format!("node-{index:04}")),
            ("topology.kubernetes.io/zone".to_owned(), format!("zone-{}", index % 3)),
        ]),
        allocatable: BTreeMap::from([("nvidia.com/gpu".to_owned(), 8)]),
        ready: true,
        ..Node::default()
    });
    let pods = (0..10_000_u64).map(|index| Pod {
        namespace: "default".to_owned(),
        name: format!("pod-{index}"),
        node: Some(format!("node-{:04}", index % 5_000)),
        requests: BTreeMap::from([("nvidia.com/gpu".to_owned(), 1 + index % 3)]),
        ..Pod::default()
    });
    Snapshot::new(nodes, pods)
}

#[divan::bench]
fn read(bencher: divan::Bencher<'_, '_>) {
    bencher.with_inputs(snapshot).bench_values(|snapshot| Inventory::new(snapshot, &Sources::default()));
}

#[divan::bench]
fn decide_5000_nodes(bencher: divan::Bencher<'_, '_>) {
    let inventory = Inventory::new(snapshot(), &Sources::default());
    let policy = Policy::default();
    let requirement = Requirement { per_gpu: Bytes(40_000_000_000), gpus: 2 };
    bencher.bench(|| decide(&Request { requirement, policy: &policy, owner: None }, &inventory, &[]));
}

#[divan::bench]
fn decide_5000_nodes_with_a_selector(bencher: divan::Bencher<'_, '_>) {
    let inventory = Inventory::new(snapshot(), &Sources::default());
    let node_selector = BTreeMap::from([("topology.kubernetes.io/zone".to_owned(), "zone-1".to_owned())]);
    let policy = Policy { node_selector, ..Policy::default() };
    let requirement = Requirement { per_gpu: Bytes(40_000_000_000), gpus: 2 };
    bencher.bench(|| decide(&Request { requirement, policy: &policy, owner: None }, &inventory, &[]));
}
