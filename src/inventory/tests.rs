use proptest::prelude::*;

use super::testing::{any_snapshot, golden, gpu_node, gpu_pod, node};
use super::*;

fn pools(node: Node) -> Vec<GpuPool> {
    let inventory = Inventory::new(Snapshot::new([node], []), &Sources::default());
    inventory.nodes()[0].pools.iter().map(|pool| GpuPool::clone(pool)).collect()
}

fn known(mib: u64) -> Memory {
    Memory::Known {
        bytes: Bytes::from_mib(mib).unwrap(),
        label: "nvidia.com/gpu.memory".to_owned(),
        source: "nvidia-gfd".into(),
        trust: Trust::Reported,
    }
}

#[test]
fn each_memory_label_is_believed_or_says_why_not() {
    let untrusted = |value: &str, fault| Memory::Untrusted {
        label: "nvidia.com/gpu.memory".to_owned(),
        value: value.to_owned(),
        fault,
    };
    for (value, expected) in [
        ("15360", known(15360)),
        ("81559", known(81559)),
        ("1048575", known(1_048_575)),
        ("1", known(1)),
        ("015360", known(15360)),
        ("", untrusted("", LabelFault::Empty)),
        ("15360MiB", untrusted("15360MiB", LabelFault::NotANumber)),
        ("-1", untrusted("-1", LabelFault::NotANumber)),
        ("1e30", untrusted("1e30", LabelFault::NotANumber)),
        ("15360.5", untrusted("15360.5", LabelFault::NotANumber)),
        (" 15360", untrusted(" 15360", LabelFault::NotANumber)),
        ("15360 ", untrusted("15360 ", LabelFault::NotANumber)),
        ("+15360", untrusted("+15360", LabelFault::NotANumber)),
        ("１５３６０", untrusted("１５３６０", LabelFault::NotANumber)),
        ("NaN", untrusted("NaN", LabelFault::NotANumber)),
        ("192G", untrusted("192G", LabelFault::NotANumber)),
        ("0", untrusted("0", LabelFault::Zero)),
        ("1048576", untrusted("1048576", LabelFault::TooLarge)),
        ("16106127360", untrusted("16106127360", LabelFault::TooLarge)),
        ("99999999999999999999999999", untrusted("99999999999999999999999999", LabelFault::TooLarge)),
    ] {
        let pools = pools(node("n", &[("nvidia.com/gpu.memory", value)], &[("nvidia.com/gpu", 4)]));
        assert_eq!(pools.len(), 1, "{value:?}");
        assert_eq!(pools[0].memory, expected, "{value:?}");
        assert_eq!((pools[0].allocatable, pools[0].free), (4, 4), "{value:?}");
    }
}

#[test]
fn a_node_has_a_pool_only_if_something_says_so() {
    for (labels, allocatable, expected) in [
        (vec![], vec![], None),
        (vec![("kubernetes.io/arch", "amd64")], vec![("example.com/nic", 2)], None),
        (vec![], vec![("nvidia.com/gpu", 0)], None),
        (vec![("nvidia.com/gpu.present", "false")], vec![], None),
        (vec![], vec![("nvidia.com/gpu", 2)], Some(2)),
        (vec![("nvidia.com/gpu.memory", "15360")], vec![], Some(0)),
        (vec![("nvidia.com/gpu.memory", "15360")], vec![("nvidia.com/gpu", 0)], Some(0)),
        (vec![("nvidia.com/gpu.present", "true")], vec![], Some(0)),
    ] {
        let pools = pools(node("n", &labels, &allocatable));
        assert_eq!(pools.first().map(|pool| pool.allocatable), expected, "{labels:?} {allocatable:?}");
    }
}

#[test]
fn a_missing_label_is_missing() {
    let pools = pools(node("n", &[], &[("nvidia.com/gpu", 1)]));
    assert_eq!(
        pools[0].memory,
        Memory::Missing { label: "nvidia.com/gpu.memory".to_owned(), annotated: None }
    );
    assert_eq!(pools[0].usable_memory(), None);
}

#[test]
fn labels_of_a_mig_layout_in_the_making_are_not_believed() {
    for (label, value, fault) in [
        ("nvidia.com/mig.config.state", "pending", LabelFault::MigPending),
        ("nvidia.com/mig.config.state", "rebooting", LabelFault::MigPending),
        ("nvidia.com/mig.config.state", "failed", LabelFault::MigPending),
        ("nvidia.com/gpu.product", "NVIDIA-A100-SXM4-80GB-MIG-INVALID", LabelFault::MigInvalid),
    ] {
        let pools =
            pools(node("n", &[("nvidia.com/gpu.memory", "81920"), (label, value)], &[("nvidia.com/gpu", 1)]));
        assert_eq!(
            pools[0].memory,
            Memory::Untrusted { label: label.to_owned(), value: value.to_owned(), fault },
            "{label}={value}"
        );
    }
    let done = [("nvidia.com/gpu.memory", "81920"), ("nvidia.com/mig.config.state", "success")];
    assert_eq!(pools(node("n", &done, &[("nvidia.com/gpu", 1)]))[0].memory, known(81920));
}

#[test]
fn single_mig_slices_have_the_memory_of_the_slice() {
    let labels = [
        ("nvidia.com/gpu.memory", "9728"),
        ("nvidia.com/gpu.product", "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb"),
        ("nvidia.com/mig.strategy", "single"),
        ("nvidia.com/gpu.replicas", "1"),
        ("nvidia.com/gpu.sharing-strategy", "none"),
    ];
    let pools = pools(node("n", &labels, &[("nvidia.com/gpu", 7)]));
    assert_eq!((pools[0].memory.clone(), pools[0].sharing), (known(9728), GpuSharing::Mig));
}

#[test]
fn mixed_mig_has_a_pool_per_profile_and_a_card_that_is_cut_is_not_believed() {
    let labels = [
        ("nvidia.com/gpu.memory", "81920"),
        ("nvidia.com/gpu.replicas", "0"),
        ("nvidia.com/mig.strategy", "mixed"),
        ("nvidia.com/mig-1g.10gb.memory", "9728"),
        ("nvidia.com/mig-1g.10gb.product", "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb"),
        ("nvidia.com/mig-3g.40gb.memory", "40192"),
    ];
    let slices = [("nvidia.com/mig-1g.10gb", 4), ("nvidia.com/mig-3g.40gb", 1), ("nvidia.com/gpu", 0)];
    let found: Vec<_> = pools(node("n", &labels, &slices))
        .into_iter()
        .map(|pool| {
            (pool.resource.clone(), pool.usable_memory().map(Bytes::mib_ceil), pool.allocatable, pool.sharing)
        })
        .collect();
    assert_eq!(
        found,
        [
            ("nvidia.com/mig-1g.10gb".to_owned(), Some(9728), 4, GpuSharing::Mig),
            ("nvidia.com/mig-3g.40gb".to_owned(), Some(40192), 1, GpuSharing::Mig),
        ]
    );
    // Should such a node hand out whole cards all the same, the label is not of one.
    let both = [("nvidia.com/mig-1g.10gb", 4), ("nvidia.com/gpu", 1)];
    let card =
        pools(node("n", &labels, &both)).into_iter().find(|pool| pool.resource == "nvidia.com/gpu").unwrap();
    assert!(matches!(card.memory, Memory::Untrusted { fault: LabelFault::MigMixed, .. }), "{card:?}");
    // GPU Feature Discovery gives whole cards precedence: beside slices the label is theirs.
    let mut labels = labels;
    labels[1] = ("nvidia.com/gpu.replicas", "1");
    let beside = pools(node("n", &labels, &both));
    let card = beside.iter().find(|pool| pool.resource == "nvidia.com/gpu").unwrap();
    assert_eq!((card.memory.clone(), card.sharing), (known(81920), GpuSharing::Exclusive));
    // The strategy alone, with no slice made, changes nothing.
    let unsliced = [("nvidia.com/gpu.memory", "81920"), ("nvidia.com/mig.strategy", "mixed")];
    assert_eq!(pools(node("n", &unsliced, &[("nvidia.com/gpu", 8)]))[0].memory, known(81920));
}

#[test]
fn sharing_is_seen_in_every_place_that_says_it() {
    let memory = ("nvidia.com/gpu.memory", "16384");
    for (labels, resource, sharing, usable) in [
        (vec![memory], "nvidia.com/gpu", GpuSharing::Exclusive, 16384),
        (
            vec![memory, ("nvidia.com/gpu.sharing-strategy", "none")],
            "nvidia.com/gpu",
            GpuSharing::Exclusive,
            16384,
        ),
        (vec![memory, ("nvidia.com/gpu.replicas", "1")], "nvidia.com/gpu", GpuSharing::Exclusive, 16384),
        (
            vec![
                memory,
                ("nvidia.com/gpu.sharing-strategy", "time-slicing"),
                ("nvidia.com/gpu.replicas", "4"),
            ],
            "nvidia.com/gpu",
            GpuSharing::TimeSliced(4),
            16384,
        ),
        (vec![memory, ("nvidia.com/gpu.replicas", "4")], "nvidia.com/gpu", GpuSharing::TimeSliced(4), 16384),
        (
            vec![memory, ("nvidia.com/gpu.product", "Tesla-T4-SHARED")],
            "nvidia.com/gpu",
            GpuSharing::TimeSliced(8),
            16384,
        ),
        (vec![memory], "nvidia.com/gpu.shared", GpuSharing::TimeSliced(8), 16384),
        (
            vec![memory, ("nvidia.com/gpu.sharing-strategy", "novel")],
            "nvidia.com/gpu",
            GpuSharing::TimeSliced(8),
            16384,
        ),
        (
            vec![memory, ("nvidia.com/gpu.sharing-strategy", "mps"), ("nvidia.com/gpu.replicas", "4")],
            "nvidia.com/gpu",
            GpuSharing::Mps(4),
            4096,
        ),
        (
            vec![memory, ("nvidia.com/gpu.replicas", "many")],
            "nvidia.com/gpu",
            GpuSharing::TimeSliced(8),
            16384,
        ),
    ] {
        let pools = pools(node("n", &labels, &[(resource, 8)]));
        let found = (pools.len(), pools[0].sharing, pools[0].usable_memory());
        assert_eq!(found, (1, sharing, Bytes::from_mib(usable)), "{labels:?} {resource}");
    }
}

/// What MPS leaves to one client nothing says then, and no term could ask for it.
#[test]
fn memory_that_mps_divides_among_nobody_knows_how_many_is_not_known() {
    let labels = |replicas: Option<&'static str>| {
        let mut labels = vec![("nvidia.com/gpu.memory", "16384"), ("nvidia.com/gpu.sharing-strategy", "mps")];
        labels.extend(replicas.map(|replicas| ("nvidia.com/gpu.replicas", replicas)));
        pools(node("n", &labels, &[("nvidia.com/gpu", 8)])).remove(0)
    };
    let label = || "nvidia.com/gpu.replicas".to_owned();
    for value in [None, Some("x"), Some("1"), Some("")] {
        let pool = labels(value);
        let (fault, said) = (LabelFault::Clients, value.unwrap_or_default().to_owned());
        assert_eq!(pool.memory, Memory::Untrusted { label: label(), value: said, fault });
        assert_eq!((pool.usable_memory(), pool.sharing), (None, GpuSharing::Mps(8)));
    }
}

#[test]
fn free_is_what_bound_unfinished_pods_leave() {
    let finished = Pod { finished: true, ..gpu_pod("done", "n", 4) };
    let waiting = Pod { node: None, ..gpu_pod("waiting", "n", 4) };
    let elsewhere = gpu_pod("elsewhere", "m", 4);
    for (what, pods, free) in [
        ("no pods", vec![], 8),
        ("finished, waiting and other pods hold nothing here", vec![finished, waiting, elsewhere], 8),
        ("two pods", vec![gpu_pod("a", "n", 2), gpu_pod("b", "n", 3)], 3),
        ("over-committed", vec![gpu_pod("a", "n", 9)], 0),
        ("without bound", vec![gpu_pod("a", "n", u64::MAX), gpu_pod("b", "n", u64::MAX)], 0),
    ] {
        let inventory = Inventory::new(Snapshot::new([gpu_node("n", 15360, 8)], pods), &Sources::default());
        assert_eq!(inventory.nodes()[0].pools[0].free, free, "{what}");
    }
}

#[test]
fn identical_nodes_are_one_class_whatever_they_are_called() {
    let labelled = |index: u64, mib| {
        let mut node = gpu_node("x", mib, 8);
        node.name = format!("node-{index}");
        node.labels.insert("kubernetes.io/hostname".to_owned(), node.name.clone());
        node.labels.insert("example.com/rack".to_owned(), (index % 50).to_string());
        node
    };
    let nodes =
        (0..5000).map(|index| labelled(index, [15360, 23034, 81920][usize::try_from(index % 3).unwrap()]));
    assert_eq!(Inventory::new(Snapshot::new(nodes, []), &Sources::default()).class_count(), 3);
}

#[test]
fn what_the_cluster_has_is_summed_up() {
    let inventory = Inventory::new(Snapshot::new(golden(), []), &Sources::default());
    assert_eq!(inventory.largest_gpu(), Bytes::from_mib(81920));
    assert_eq!(inventory.most_gpus_per_node(), 4);
    let empty = Inventory::new(Snapshot::default(), &Sources::default());
    assert_eq!((empty.largest_gpu(), empty.most_gpus_per_node(), empty.has_gpus()), (None, 0, false));
}

#[test]
fn a_snapshot_from_a_file_has_what_the_pods_without_gpus_request() {
    let pod = |name: &str, node: &str, cpu: &str, phase: &str| {
        serde_json::json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "x"}, "status": {"phase": phase},
            "spec": {"nodeName": node, "overhead": {"cpu": "100m"}, "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}})
    };
    let items = [
        pod("a", "n", "1", "Running"),
        pod("b", "n", "500m", "Pending"),
        pod("c", "n", "4", "Succeeded"),
        pod("d", "", "4", "Pending"),
    ];
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items});
    let snapshot = Snapshot::from_text(&list.to_string()).unwrap();
    assert_eq!(snapshot.pods, []);
    assert_eq!(snapshot.others, BTreeMap::from([("n".to_owned(), Amounts([1700, 0, 0, 2]))]));
    let mut redacted = snapshot;
    redacted.redact(&Sources::default());
    assert_eq!(redacted.others.into_values().collect::<Vec<_>>(), [Amounts([1700, 0, 0, 2])]);
}

#[test]
fn redaction_takes_out_names_and_leaves_gpus() {
    let mut secret = gpu_node("db-frankfurt-7.acme.example", 15360, 4);
    secret.labels.insert("kubernetes.io/hostname".into(), "db-frankfurt-7.acme.example".into());
    secret.labels.insert("acme.example/project".into(), "apollo".into());
    secret.taints = vec![Taint {
        key: "acme.example/project".into(),
        value: "apollo".into(),
        effect: "NoSchedule".into(),
    }];
    secret.labels.insert("nvidia.com/gpu.product".into(), "Tesla-T4".into());
    let mut pod = gpu_pod("apollo-llm", "db-frankfurt-7.acme.example", 1);
    pod.namespace = "acme-research".into();
    pod.model_deployment = Some("apollo".into());
    let mut snapshot = Snapshot::new([secret, gpu_node("L4", 23034, 1)], [pod]);
    snapshot.redact(&Sources::default());
    let text = snapshot.to_list().to_string();
    for name in ["acme", "apollo", "frankfurt"] {
        assert!(!text.contains(name), "{name} in {text}");
    }
    for kept in ["15360", "Tesla-T4", "nvidia.com/gpu"] {
        assert!(text.contains(kept), "{kept} not in {text}");
    }
    let node = snapshot.nodes.values().find(|node| !node.taints.is_empty()).unwrap();
    // Label and taint keep matching each other, and the pod its node.
    assert_eq!(node.labels.get(&node.taints[0].key), Some(&node.taints[0].value));
    assert_eq!(node.labels.get("kubernetes.io/hostname"), Some(&node.name));
    assert_eq!(snapshot.pods[0].node.as_ref(), Some(&node.name));
}

proptest! {
    #![proptest_config(ProptestConfig::default())]

    #[test]
    fn a_snapshot_reads_back_as_it_was(snapshot in any_snapshot()) {
        let list = snapshot.to_list();
        let yaml = serde_yaml::to_string(&list).expect("a list of plain values");
        let from_json = Snapshot::from_text(&list.to_string());
        prop_assert_eq!(from_json.as_ref(), Ok(&snapshot));
        prop_assert_eq!(Snapshot::from_text(&yaml), Ok(snapshot), "{}", yaml);
    }

    #[test]
    fn pools_are_within_bounds_and_redaction_changes_none(snapshot in any_snapshot()) {
        let pools = |snapshot| -> Vec<_> {
            let inventory = Inventory::new(snapshot, &Sources::default());
            let mut pools: Vec<_> = inventory.nodes().iter().map(|node| node.pools.clone()).collect();
            pools.sort();
            pools
        };
        let mut redacted = snapshot.clone();
        redacted.redact(&Sources::default());
        let before = pools(snapshot);
        for pool in before.iter().flat_map(|pools| pools.iter()) {
            prop_assert!(pool.free <= pool.allocatable);
            prop_assert!(pool.usable_memory() != Some(Bytes::ZERO) || matches!(pool.sharing, GpuSharing::Mps(_)));
        }
        prop_assert_eq!(pools(redacted), before);
    }
}
