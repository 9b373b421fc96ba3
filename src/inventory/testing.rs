//! Nodes, pods and whole clusters for tests: by hand, and at random.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;

use super::{Amounts, Capacity, Claims, Device, Node, Pod, Requests, Slice, Slices, Snapshot, Taint};

/// A ready node with these labels and allocatable resources.
pub(crate) fn node(name: &str, labels: &[(&str, &str)], allocatable: &[(&str, u64)]) -> Node {
    Node {
        name: name.to_owned(),
        labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        allocatable: allocatable.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
        ready: true,
        ..Node::default()
    }
}

/// A ready node with so many whole NVIDIA GPUs of so many MiB.
pub(crate) fn gpu_node(name: &str, mib: u64, gpus: u64) -> Node {
    let memory = mib.to_string();
    node(
        name,
        &[("nvidia.com/gpu.memory", &memory), ("nvidia.com/gpu.product", name)],
        &[("nvidia.com/gpu", gpus)],
    )
}

/// A pod that holds so many NVIDIA GPUs of a node.
pub(crate) fn gpu_pod(name: &str, node: &str, gpus: u64) -> Pod {
    Pod {
        namespace: "default".to_owned(),
        name: name.to_owned(),
        node: Some(node.to_owned()),
        requests: BTreeMap::from([("nvidia.com/gpu".to_owned(), gpus)]),
        ..Pod::default()
    }
}

/// The cluster that most examples are about: four GPUs each of T4, L4, A100 80 GB and H100 80 GB, and a node without.
pub(crate) fn golden() -> Vec<Node> {
    vec![
        gpu_node("t4", 15360, 4),
        gpu_node("l4", 23034, 4),
        gpu_node("a100", 81920, 4),
        gpu_node("h100", 81559, 4),
        node("cpu", &[("kubernetes.io/arch", "amd64")], &[]),
    ]
}

fn label() -> impl Strategy<Value = (String, String)> {
    let key = select(vec![
        "nvidia.com/gpu.memory",
        "nvidia.com/gpu.product",
        "nvidia.com/gpu.replicas",
        "nvidia.com/gpu.sharing-strategy",
        "nvidia.com/mig.strategy",
        "nvidia.com/mig.config.state",
        "nvidia.com/mig-1g.10gb.memory",
        "nvidia.com/mig-1g.10gb.sharing-strategy",
        "nvidia.com/gpu.count",
        "nvidia.com/gpu.present",
        "team",
        "kubernetes.io/hostname",
    ]);
    let value = prop_oneof![
        4 => select(vec!["15360", "23034", "40960", "81559", "81920", "143771"]).prop_map(str::to_owned),
        2 => select(vec!["none", "mps", "time-slicing", "success", "pending", "mixed", "single", "true", "0", "2", "4", "",
            "A100-MIG-INVALID", "T4-SHARED", "A100-SXM4-80GB-MIG-1g.10gb", "192G", "15360MiB", "-1", "1e30"])
            .prop_map(str::to_owned),
        1 => vec(any::<char>(), 0..8).prop_map(String::from_iter),
    ];
    (key.prop_map(str::to_owned), value)
}

fn amount() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0_u64..10, 1 => any::<u64>()]
}

fn resource() -> impl Strategy<Value = String> {
    select(vec![
        "nvidia.com/gpu",
        "nvidia.com/gpu.shared",
        "nvidia.com/mig-1g.10gb",
        "amd.com/gpu",
        "example.com/nic",
    ])
    .prop_map(str::to_owned)
}

fn taint() -> impl Strategy<Value = Taint> {
    let key = select(vec![
        "nvidia.com/gpu",
        "team",
        "node.kubernetes.io/unschedulable",
        "node.kubernetes.io/not-ready",
    ]);
    let effect = select(vec!["NoSchedule", "PreferNoSchedule", "NoExecute"]);
    (key, select(vec!["", "a"]), effect).prop_map(|(key, value, effect)| Taint {
        key: key.to_owned(),
        value: value.to_owned(),
        effect: effect.to_owned(),
    })
}

/// What a pod may request of what every node has. It is at least one pod.
fn amounts() -> impl Strategy<Value = Amounts> {
    let one = || prop_oneof![3 => Just(0), 6 => 0_u64..5000, 1 => any::<u64>()];
    (one(), one(), prop_oneof![8 => Just(0), 1 => 0_u64..5000], prop_oneof![8 => Just(1), 1 => 1_u64..5])
        .prop_map(|(cpu, memory, storage, pods)| Amounts([cpu, memory, storage, pods]))
}

/// What a node may say that it has.
fn capacity() -> impl Strategy<Value = Capacity> {
    let one = || prop_oneof![1 => Just(None), 2 => (0_u64..9000).prop_map(Some)];
    (one(), one(), one(), prop_oneof![1 => Just(None), 2 => (0_u64..6).prop_map(Some)])
        .prop_map(|(cpu, memory, storage, pods)| Capacity([cpu, memory, storage, pods]))
}

/// What an object's pods may request besides GPUs: mostly nothing.
pub(crate) fn any_requests() -> impl Strategy<Value = Requests> {
    let device = prop_oneof![4 => Just(None), 1 => (1_u64..4).prop_map(Some)];
    prop_oneof![
        1 => Just(Requests::default()),
        2 => (amounts(), device).prop_map(|(host, device)| {
            let device = device.map(|amount| ("example.com/nic".to_owned(), amount));
            Requests { host, extended: device.into_iter().collect() }
        }),
    ]
}

/// Any node: mostly one that could have GPUs.
pub(crate) fn any_node(name: impl Strategy<Value = String>) -> impl Strategy<Value = Node> {
    (
        name,
        vec(label(), 0..6),
        btree_map(resource(), amount(), 0..3),
        prop_oneof![3 => Just(Vec::new()), 1 => vec(taint(), 0..3)],
        prop::bool::weighted(0.9),
        prop::bool::weighted(0.1),
        prop_oneof![3 => select(vec!["15360", "23034", "81920"]).prop_map(Some), 1 => Just(None)],
        capacity(),
    )
        .prop_map(|(name, labels, allocatable, taints, ready, unschedulable, memory, host)| {
            let mut labels: BTreeMap<String, String> = labels.into_iter().collect();
            if let Some(memory) = memory {
                labels.insert("nvidia.com/gpu.memory".to_owned(), memory.to_owned());
            }
            // Some nodes have HAMi's annotation, as a file of a cluster keeps it.
            let cards = r#"[{"count":10,"devmem":23034,"type":"NVIDIA L4","health":true}]"#;
            let hami = unschedulable.then(|| ("hami.io/node-nvidia-register".to_owned(), cards.to_owned()));
            let annotations = hami.into_iter().collect();
            Node { name, labels, annotations, taints, allocatable, host, ready, unschedulable }
        })
}

/// Any pod, bound to one of a few nodes or to none.
pub(crate) fn any_pod() -> impl Strategy<Value = Pod> {
    (
        select(vec!["team-a", "team-b"]),
        "[a-z]{1,3}",
        prop_oneof![Just(None), "n[0-9]".prop_map(Some)],
        prop_oneof![Just(None), "n[0-9]".prop_map(Some)],
        any::<bool>(),
        btree_map(resource(), prop_oneof![8 => 1_u64..6, 1 => 1..=u64::MAX], 1..3),
        prop_oneof![Just(None), select(vec!["m", "x"]).prop_map(|name| Some(name.to_owned()))],
        amounts(),
    )
        .prop_map(|(namespace, name, node, nominated, finished, requests, model_deployment, host)| Pod {
            namespace: namespace.to_owned(),
            name,
            node,
            nominated,
            finished,
            requests,
            host,
            model_deployment,
        })
}

/// What drivers may offer on a few nodes, and what of it is held.
pub(crate) fn any_slices() -> impl Strategy<Value = (Slices, Claims)> {
    let driver = || select(vec!["gpu.nvidia.com", "gpu.nvidia.com", "gpu.amd.com", "gpu.intel.com"]);
    let memory = select(vec!["23034Mi", "80Gi", "20Gi", "85520809984", "0", "", "-1", "1Ti", "lots"]);
    let consumes = prop_oneof![2 => Just(BTreeMap::new()), 1 => btree_map("c[01]", btree_map("[ab]", amount(), 0..3), 1..3)];
    let device = (
        "g[0-4]",
        proptest::option::of("n[0-9]"),
        select(vec!["gpu", "mig", "amdgpu", "amdgpu-partition", ""]),
        proptest::option::of(select(vec!["NVIDIA L4", "AMD Instinct MI210", "x"])),
        proptest::option::of(memory),
        vec(taint(), 0..2),
        consumes,
    );
    let device = device.prop_map(|(name, node, kind, product, memory, taints, consumes)| Device {
        name,
        node,
        kind: kind.to_owned(),
        product: product.map(str::to_owned),
        memory: memory.map(str::to_owned),
        taints,
        consumes,
    });
    let slice = (
        "s[0-9]",
        driver(),
        "p[0-2]",
        1_i64..3,
        1_i64..3,
        btree_map("c[01]", btree_map("[ab]", amount(), 0..3), 0..3),
        vec(device, 0..4),
    );
    let slice = slice.prop_map(|(name, driver, pool, generation, slices, counters, devices)| {
        (
            name.clone(),
            Arc::new(Slice { name, driver: driver.to_owned(), pool, generation, slices, counters, devices }),
        )
    });
    let held =
        (driver(), "p[0-2]", "g[0-4]").prop_map(|(driver, pool, device)| (driver.to_owned(), pool, device));
    let claim = ("[a-c]", "[a-c]", vec(held, 1..4))
        .prop_map(|(namespace, name, held)| ((namespace, name), held.into_iter().collect()));
    (vec(slice, 0..4), vec(claim, 0..3))
        .prop_map(|(slices, claims)| (slices.into_iter().collect(), claims.into_iter().collect()))
}

/// Any cluster of a few nodes and pods.
pub(crate) fn any_snapshot() -> impl Strategy<Value = Snapshot> {
    let others = btree_map("n[0-9]", amounts(), 0..3);
    let devices = prop_oneof![2 => Just((BTreeMap::new(), BTreeMap::new())), 1 => any_slices()];
    (vec(any_node("n[0-9]"), 0..5), vec(any_pod(), 0..5), others, devices).prop_map(
        |(nodes, pods, others, (slices, claims))| Snapshot {
            others,
            slices,
            claims,
            ..Snapshot::new(nodes, pods)
        },
    )
}
