mod hami;
mod site;

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::decide::{Policy, Request, Requirement, Verdict, decide};
use crate::inventory::testing::node;
use crate::inventory::{Inventory, Snapshot};
use crate::units::{GIB, MIB};

type Labels = BTreeMap<String, String>;

/// What GPU Feature Discovery finds on a node.
#[derive(Clone, Copy, Debug)]
enum Layout {
    Whole,
    Single,
    Mixed { some_whole: bool },
    Invalid,
}

/// How the device plugin is told to share.
#[derive(Clone, Copy, Debug)]
struct Shares {
    strategy: &'static str,
    replicas: u64,
    renamed: bool,
}

/// What the release of GPU Feature Discovery has labels for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Release {
    BeforeSharing,
    Replicas,
    Strategies,
}

/// The labels that GPU Feature Discovery writes (v0.17 `internal/lm`, and what earlier releases leave out).
fn discovered(layout: Layout, shares: Shares, release: Release, card: &str, mib: u64) -> Labels {
    let mut labels = Labels::new();
    let mut set = |base: &str, product: &str, mib: u64, shares: Option<Shares>| {
        let mut set = |name: &str, value: String| labels.insert(format!("nvidia.com/{base}.{name}"), value);
        let is_shared = shares.is_some_and(|shares| shares.replicas > 1 && release > Release::BeforeSharing);
        let suffix = if is_shared && shares.is_some_and(|shares| !shares.renamed) { "-SHARED" } else { "" };
        set("product", format!("{product}{suffix}"));
        set("count", "64".to_owned());
        set("memory", mib.to_string());
        if release >= Release::Replicas {
            set("replicas", shares.map_or(0, |shares| shares.replicas).to_string());
        }
        if release >= Release::Strategies {
            let strategy = shares.filter(|_| is_shared).map_or("none", |shares| shares.strategy);
            set("sharing-strategy", strategy.to_owned());
        }
    };
    match layout {
        Layout::Whole => set("gpu", card, mib, Some(shares)),
        Layout::Single => {
            set("gpu", &format!("{card}-MIG-1g.10gb"), mib, Some(shares));
            labels.insert("nvidia.com/gpu.slices.gi".to_owned(), "1".to_owned());
        }
        Layout::Mixed { some_whole } => {
            set("gpu", card, 81920, some_whole.then_some(shares));
            set("mig-1g.10gb", &format!("{card}-MIG-1g.10gb"), mib, Some(shares));
            labels.insert("nvidia.com/mig-1g.10gb.slices.gi".to_owned(), "1".to_owned());
        }
        Layout::Invalid => {
            set("gpu", &format!("{card}-MIG-INVALID"), 0, None);
        }
    }
    if !matches!(layout, Layout::Whole) {
        let strategy = if matches!(layout, Layout::Mixed { .. }) { "mixed" } else { "single" };
        labels.insert("nvidia.com/mig.strategy".to_owned(), strategy.to_owned());
    }
    labels
}

fn any_discovered() -> impl Strategy<Value = Labels> {
    let layout = select(vec![
        Layout::Whole,
        Layout::Single,
        Layout::Mixed { some_whole: true },
        Layout::Mixed { some_whole: false },
        Layout::Invalid,
    ]);
    let shares = prop_oneof![
        2 => Just(Shares { strategy: "none", replicas: 1, renamed: false }),
        3 => (select(vec!["time-slicing", "mps"]), 2_u64..12, any::<bool>())
            .prop_map(|(strategy, replicas, renamed)| Shares { strategy, replicas, renamed }),
    ];
    let release = select(vec![Release::BeforeSharing, Release::Replicas, Release::Strategies]);
    let mib = prop_oneof![1_u64..300_000, select(vec![9728, 15360, 23034, 81920, 1_048_575])].no_shrink();
    let other = ("NVIDIA-Next-Year", 15360);
    let card =
        select(vec![("Tesla-T4", 15360), ("NVIDIA-A10", 24564), ("NVIDIA-H100-80GB-HBM3", 81920), other]);
    let mib = prop_oneof![1 => mib.prop_map(Some), 2 => Just(None)];
    (layout, shares, release, card, mib).prop_map(|(layout, shares, release, (card, own), mib)| {
        discovered(layout, shares, release, card, mib.unwrap_or(own))
    })
}

/// What becomes of labels: one is removed, or says something else.
fn any_fault() -> impl Strategy<Value = (String, Option<String>)> {
    let key = (
        select(vec!["gpu", "mig-1g.10gb"]),
        select(vec![".memory", ".memory", ".replicas", ".sharing-strategy"]),
    )
        .prop_map(|(base, name)| format!("nvidia.com/{base}{name}"));
    let key = prop_oneof![4 => key, 1 => Just("nvidia.com/mig.config.state".to_owned())];
    let value = prop_oneof![
        2 => Just(None),
        2 => select(vec![
            "", "0", "00", "1", "01", "2", "8", "9", "x", "none", "novel", "mps", "time-slicing", "success",
            "pending", "rebooting", "failed", "192G", "15360MiB", "15360.5", "1e30", "1048576", "85899345920",
            "9223372036854775807", "9223372036854775808", "99999999999999999999999",
        ])
        .prop_map(|value| Some(value.to_owned())),
        1 => "[a-z0-9]{1,6}".prop_map(Some),
    ];
    (key, value)
}

/// The labels that clouds and other vendors' labellers write, rightly and wrongly.
fn any_other() -> impl Strategy<Value = Labels> {
    let pair = |key: &'static str, values: Vec<&'static str>| {
        select(values).prop_map(move |value| vec![(key.to_owned(), value.to_owned())])
    };
    let names = || select(vec!["t4", "l4", "a100", "h100", "T4", "zz", ""]);
    let mibs = || {
        select(vec![
            "16384",
            "22888",
            "40960",
            "81920",
            "2861",
            "0",
            "81920MiB",
            "-1",
            "99999999999999999999",
        ])
    };
    let aws = |prefix: &'static str| {
        (names(), proptest::option::of(mibs())).prop_map(move |(name, mib)| {
            let name = (format!("{prefix}/instance-gpu-name"), name.to_owned());
            let mib = mib.map(|mib| (format!("{prefix}/instance-gpu-memory"), mib.to_owned()));
            std::iter::once(name).chain(mib).collect::<Vec<_>>()
        })
    };
    let gke = prop_oneof![
        pair(
            "cloud.google.com/gke-accelerator",
            vec!["nvidia-tesla-t4", "nvidia-l4", "nvidia-h100-80gb", "NVIDIA-L4", "tpu", ""]
        ),
        pair("cloud.google.com/gke-gpu-sharing-strategy", vec!["time-sharing", "mps", "none"]),
        pair("cloud.google.com/gke-max-shared-clients-per-gpu", vec!["4", "x"]),
        pair("cloud.google.com/gke-gpu-partition-size", vec!["1g.5gb"]),
    ];
    let amd_sizes = || {
        vec![
            "192G",
            "144G",
            "24G",
            "0G",
            "G",
            "",
            "192",
            "192g",
            "191G",
            "0192G",
            "192GiB",
            "1e3G",
            "99999999999999999999G",
        ]
    };
    let kinds = pair("amd.com/gpu.vram.64G", vec!["4"]).prop_map(|mut kinds| {
        kinds.push(("amd.com/gpu.vram.192G".to_owned(), "4".to_owned()));
        kinds
    });
    let sums = (
        select(vec!["17179869184", "137438953472", "16", "0", "-1", "16Gi", "", "9999999999999999999999"]),
        proptest::option::of(select(vec!["1000", "4000", "8000", "9000", "1500", "0", ""])),
    )
        .prop_map(|(sum, millicores)| {
            let sum = ("gpu.intel.com/memory.max".to_owned(), sum.to_owned());
            let millicores =
                millicores.map(|value| ("gpu.intel.com/millicores".to_owned(), value.to_owned()));
            std::iter::once(sum).chain(millicores).collect::<Vec<_>>()
        });
    let one = prop_oneof![
        3 => gke,
        1 => aws("karpenter.k8s.aws"),
        1 => aws("eks.amazonaws.com"),
        1 => pair("karpenter.azure.com/sku-gpu-name", vec!["T4", "A100", "A10", "h100", ""]),
        1 => pair("gpu.nvidia.com/vram", vec!["81", "143", "0", "", "81GB", "081", "81559", "-1"]),
        1 => pair("aliyun.accelerator/nvidia_name", vec!["Tesla-T4", "NVIDIA-H100-80GB-HBM3", "t4", ""]),
        2 => pair("amd.com/gpu.vram", amd_sizes()),
        1 => pair("beta.amd.com/gpu.vram", amd_sizes()),
        1 => kinds,
        2 => sums,
        1 => pair("gpu.intel.com/product", vec!["Max_1100", "max_1100", "Arc", ""]),
    ];
    proptest::collection::vec(one, 0..4).prop_map(|all| all.into_iter().flatten().collect())
}

/// The labels of a node of any kind, some of them wrong: but `-SHARED` and `-MIG-` in the name of a product, which only
/// GPU Feature Discovery writes, are never without the labels that it writes with them.
fn any_labels() -> impl Strategy<Value = Labels> {
    let faults = prop_oneof![2 => Just(Vec::new()), 3 => proptest::collection::vec(any_fault(), 1..4)];
    let discovered = prop_oneof![2 => any_discovered(), 1 => Just(Labels::new())];
    let other = prop_oneof![1 => Just(Labels::new()), 1 => any_other()];
    (discovered, faults, other).prop_map(|(mut labels, faults, other)| {
        labels.extend(other);
        for (key, value) in faults {
            match value {
                Some(value) => labels.insert(key, value),
                None => labels.remove(&key),
            };
        }
        for key in ["nvidia.com/gpu", "nvidia.com/mig-1g.10gb"] {
            let product = format!("{key}.product");
            let is = |end: &str| labels.get(&product).is_some_and(|product| product.ends_with(end));
            let replicas = labels.get(&format!("{key}.replicas")).map(String::as_str);
            if is("-SHARED") && matches!(replicas, None | Some("1" | "01")) {
                labels.remove(&product);
            } else if is("-MIG-INVALID") && replicas != Some("0") {
                labels.insert(format!("{key}.memory"), "0".to_owned());
            }
        }
        labels
    })
}

fn any_resource() -> impl Strategy<Value = &'static str> {
    select(vec![
        "nvidia.com/gpu",
        "nvidia.com/gpu.shared",
        "nvidia.com/mig-1g.10gb",
        "nvidia.com/mig-1g.10gb.shared",
        "amd.com/gpu",
        "gpu.intel.com/i915",
    ])
}

/// Any need: of a GPU that a label states to the byte, or of none.
fn any_need(labels: &Labels) -> impl Strategy<Value = u64> + use<> {
    let stated: Vec<u64> = labels
        .iter()
        .filter(|(key, _)| key.ends_with(".memory"))
        .filter_map(|(_, value)| value.parse::<u64>().ok()?.checked_mul(MIB))
        .chain([
            GIB,
            15360 * MIB,
            22888 * MIB,
            23034 * MIB,
            24 * GIB,
            81000 * MIB,
            81559 * MIB,
            192 * GIB,
            137_438_953_472,
        ])
        .collect();
    let near = (select(stated), 1_u64..5, -1_i64..2)
        .prop_map(|(bytes, parts, more)| (bytes / parts).saturating_add_signed(more));
    prop_oneof![4 => near, 1 => 0..100 * GIB, 1 => any::<u64>()]
}

proptest! {
    #![proptest_config(ProptestConfig::default())]

    /// A pod is bound only where `decide` would have it, and wherever `decide` says that it fits it can be bound. A label that
    /// is far from its card is not believed, and admitted all the same where the card too has what is needed: one of the two
    /// is wrong, and either is enough.
    #[test]
    fn the_terms_admit_the_nodes_that_are_accepted_and_no_other(
        (labels, per_gpu) in any_labels().prop_flat_map(|labels| (any_need(&labels), Just(labels)).prop_map(|(need, labels)| (labels, need))),
        resource in any_resource(),
        gpus in 1_u64..=8,
        shared in any::<bool>(),
    ) {
        let sources = Sources::default();
        let wish = Wish { resource, per_gpu: Bytes(per_gpu), gpus, shared };
        let Ok(terms) = sources.required(&wish) else { return Ok(()) };
        let pairs: Vec<(&str, &str)> = labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let node = node("n", &pairs, &[(resource, 64)]);
        let requirement = Requirement { per_gpu: Bytes(per_gpu), gpus };
        let policy = Policy { allow_shared: shared, ..Policy::default() };
        let inventory = Inventory::new(Snapshot::new([node.clone()], []), &sources);
        let decision = decide(&Request { requirement, policy: &policy, owner: None }, &inventory, &[]);
        let accepted = decision.classes[0].verdict() == Verdict::Fits;
        let admitted = terms.iter().any(|term| term.matches("n", &labels));
        let either_is_enough = match &inventory.nodes()[0].pools.first().map(|pool| pool.memory.clone()) {
            Some(Memory::Untrusted { value, fault: LabelFault::NotTheCard { mib }, .. }) => {
                let clients = labels.get("nvidia.com/gpu.replicas").and_then(|replicas| replicas.parse::<u64>().ok());
                let label = value.parse::<u64>().unwrap_or(0);
                let least = label.min(mib * 16 / 15 + 1) * MIB;
                least >= per_gpu || clients.is_some_and(|clients| least / clients.max(1) >= per_gpu)
            }
            _ => false,
        };
        prop_assert!(
            admitted == accepted || (admitted && either_is_enough),
            "{:?}: {:?} {:?}", decision.classes[0], labels, terms
        );
        // What is read of one resource does not depend on what else the node hands out.
        let mut more = node;
        for other in ["nvidia.com/gpu", "nvidia.com/mig-1g.10gb", "example.com/nic"] {
            more.allocatable.entry(other.to_owned()).or_insert(1);
        }
        let pools = sources.pools(&more);
        let read = inventory.nodes()[0].pools.iter().map(AsRef::as_ref).find(|pool| pool.resource == resource);
        prop_assert_eq!(pools.iter().find(|pool| pool.resource == resource), read);
    }

    /// Autoscalers cannot reason with names, and kube-scheduler with what is malformed.
    #[test]
    fn every_term_is_one_that_the_api_takes(resource in any_resource(), per_gpu in any::<u64>(), gpus in 1_u64..=8, shared in any::<bool>()) {
        let wish = Wish { resource, per_gpu: Bytes(per_gpu), gpus, shared };
        let Ok(terms) = Sources::default().required(&wish) else { return Ok(()) };
        prop_assert!(!terms.is_empty());
        for term in terms {
            prop_assert!(!term.expressions.is_empty() && term.names.is_empty());
            prop_assert_eq!(Term::from_api(&term.to_api()), Ok(term));
        }
    }

    /// The smallest GPU that fits is preferred, or at least no larger one is.
    #[test]
    fn a_smaller_gpu_is_never_preferred_less(
        needs in 1_u64..200_000, small in 1_u64..300_000, more in 0_u64..300_000,
    ) {
        let score = |mib: u64, preference| {
            let wish = Wish { resource: "nvidia.com/gpu", per_gpu: Bytes(needs * MIB), gpus: 1, shared: false };
            let labels = Labels::from([("nvidia.com/gpu.memory".to_owned(), mib.to_string())]);
            Sources::default()
                .preferred(&wish, preference)
                .iter()
                .filter(|preferred| preferred.term.matches("n", &labels))
                .map(|preferred| preferred.weight)
                .sum::<i32>()
        };
        prop_assert!(score(small, Preference::Smallest) >= score(small + more, Preference::Smallest));
        prop_assert!(score(small, Preference::Largest) <= score(small + more, Preference::Largest));
    }
}

#[test]
fn a_site_adds_a_source_of_its_own_at_run_time() {
    #[derive(Debug)]
    struct Own;
    impl Source for Own {
        fn name(&self) -> &'static str {
            "own"
        }
        fn domains(&self) -> Vec<&str> {
            vec!["example.com/gpu"]
        }
        fn is_resource(&self, resource: &str) -> bool {
            resource == "nvidia.com/gpu"
        }
        fn meaning(&self, key: &str) -> Meaning {
            if key == "example.com/gpu-memory" { Meaning::Memory } else { Meaning::Other }
        }
        fn taints(&self) -> Vec<&str> {
            Vec::new()
        }
        fn pools(&self, node: &Node) -> Vec<GpuPool> {
            let mut pools = nvidia::GpuFeatureDiscovery.pools(node);
            for pool in &mut pools {
                if let Some(gib) =
                    node.labels.get("example.com/gpu-memory").and_then(|gib| gib.parse::<u64>().ok())
                {
                    pool.memory = reported(Bytes(gib * GIB), "example.com/gpu-memory", "own");
                }
            }
            pools
        }
        fn terms(&self, wish: &Wish<'_>) -> Result<Vec<Term>, Overflow> {
            let more_than = wish.per_gpu.0.div_ceil(GIB).saturating_sub(1);
            Ok(vec![
                [crate::inventory::Expression::above("example.com/gpu-memory", more_than)]
                    .into_iter()
                    .collect(),
            ])
        }
        fn memory_label(&self, _: &str) -> Option<String> {
            None
        }
    }
    let sources = Sources::default().with([Arc::new(Own) as Arc<dyn Source>]);
    let own = node("n", &[("example.com/gpu-memory", "24")], &[("nvidia.com/gpu", 4)]);
    let both = node(
        "n",
        &[("example.com/gpu-memory", "24"), ("nvidia.com/gpu.memory", "15360")],
        &[("nvidia.com/gpu", 4)],
    );
    let memory = |sources: &Sources, node| sources.pools(node)[0].usable_memory();
    assert_eq!(memory(&sources, &own), Some(Bytes(24 * GIB)));
    assert_eq!(memory(&Sources::default(), &own), None);
    assert_eq!(memory(&sources, &both), Some(Bytes(15 * GIB)), "the more trusted source is taken");
    assert!(sources.is_about_gpus("example.com/gpu-memory"));
    assert_eq!(sources.meaning("example.com/gpu-memory"), Meaning::Memory);
    let wish = Wish { resource: "nvidia.com/gpu", per_gpu: Bytes(20 * GIB), gpus: 1, shared: false };
    let terms = sources.required(&wish).unwrap();
    assert!(terms.iter().any(|term| term.matches("n", &own.labels)));
}

#[test]
fn each_label_means_what_it_is_named_for() {
    let sources = Sources::default();
    for (key, meaning) in [
        ("nvidia.com/gpu.memory", Meaning::Memory),
        ("nvidia.com/mig-1g.10gb.memory", Meaning::Memory),
        ("nvidia.com/gpu.product", Meaning::Product),
        ("nvidia.com/gpu.count", Meaning::Other),
        ("nvidia.com/cuda.driver-version.full", Meaning::Other),
        ("example.com/gpu.memory", Meaning::Other),
    ] {
        assert_eq!(sources.meaning(key), meaning, "{key}");
    }
    for (resource, expected) in [
        ("nvidia.com/gpu", true),
        ("nvidia.com/gpu.shared", true),
        ("nvidia.com/mig-3g.40gb", true),
        ("nvidia.com/gpumem", false),
        ("example.com/gpu", false),
        ("cpu", false),
    ] {
        assert_eq!(sources.is_resource(resource), expected, "{resource}");
    }
}

#[test]
fn the_terms_are_those_of_the_cluster_and_an_autoscaler_is_asked_last() {
    let wish = Wish { resource: "nvidia.com/gpu", per_gpu: Bytes(20 * GIB), gpus: 1, shared: false };
    let keys = |nodes: &[Node]| {
        let nodes: Vec<&Node> = nodes.iter().collect();
        let terms = Sources::default().of_cluster(&nodes).required(&wish).unwrap();
        // What a term demands to be there, in order.
        let positive = |term: &Term| {
            use crate::inventory::Operator::{Gt, In};
            let first = term.expressions.iter().find(|one| matches!(one.operator, In | Gt));
            first.map(|one| one.key.clone()).unwrap_or_default()
        };
        let mut keys: Vec<String> = terms.iter().map(positive).collect();
        keys.dedup();
        keys
    };
    let own = ["nvidia.com/gpu.memory", "nvidia.com/gpu.product"];
    assert_eq!(keys(&[node("metal", &[("kubernetes.io/arch", "amd64")], &[])]), own);
    let mut aws = own.to_vec();
    aws.extend(["eks.amazonaws.com/instance-gpu-name", "karpenter.k8s.aws/instance-gpu-name"]);
    // A node without a GPU tells the cloud, so that the first with one can be made.
    assert_eq!(keys(&[node("cpu", &[("eks.amazonaws.com/nodegroup", "general")], &[])]), aws);
    assert_eq!(
        keys(&[node("cpu", &[("cloud.google.com/gke-nodepool", "a")], &[])]).last().unwrap(),
        "cloud.google.com/gke-accelerator"
    );
    let all = keys(&[]);
    assert_eq!(all.len(), 8, "{all:?}");
    assert!(
        all.iter().rposition(|key| key.starts_with("nvidia.com/"))
            < all.iter().position(|key| key.starts_with("cloud.google.com/"))
    );
}

/// As Karpenter has it, a label that it does not know stands in no term that it could meet but for its absence.
#[test]
fn a_node_that_an_autoscaler_would_make_matches_by_its_own_labels_alone() {
    let wish = Wish { resource: "nvidia.com/gpu", per_gpu: Bytes(20 * GIB), gpus: 1, shared: false };
    for labels in [
        vec![
            ("karpenter.k8s.aws/instance-gpu-name", "l4"),
            ("karpenter.k8s.aws/instance-gpu-memory", "22888"),
        ],
        vec![
            ("eks.amazonaws.com/instance-gpu-name", "l40s"),
            ("eks.amazonaws.com/instance-gpu-memory", "45776"),
        ],
        vec![("karpenter.azure.com/sku-gpu-name", "A100")],
        vec![("cloud.google.com/gke-accelerator", "nvidia-l4")],
    ] {
        let template = node("", &labels, &[]);
        let terms = Sources::default().of_cluster(&[&template]).required(&wish).unwrap();
        assert!(terms.iter().any(|term| term.matches("", &template.labels)), "{labels:?}");
        let small = Wish { per_gpu: Bytes(300 * GIB), ..wish };
        let terms = Sources::default().required(&small).unwrap();
        assert!(!terms.iter().any(|term| term.matches("", &template.labels)), "{labels:?}");
    }
}

/// A node that hands out three where one card is counted: three kinds behind one label, or one card shared.
#[test]
fn more_than_the_cards_is_not_several_cards() {
    let labels =
        [("nvidia.com/gpu.memory", "24564"), ("nvidia.com/gpu.count", "1"), ("nvidia.com/gpu.replicas", "1")];
    let pool = |handed_out| {
        Sources::default().pools(&node("n", &labels, &[("nvidia.com/gpu", handed_out)])).remove(0)
    };
    assert_eq!(pool(1).usable_memory(), Some(Bytes(24564 * MIB)));
    assert!(matches!(
        pool(3).memory,
        Memory::Untrusted { fault: LabelFault::MoreThanCards { handed_out: 3 }, .. }
    ));
    let admits = |gpus| {
        let wish = Wish { resource: "nvidia.com/gpu", per_gpu: Bytes(20 * GIB), gpus, shared: false };
        let node = node("n", &labels, &[]);
        Sources::default().required(&wish).unwrap().iter().any(|term| term.matches("n", &node.labels))
    };
    assert_eq!((admits(1), admits(2), admits(3)), (true, false, false));
}

#[test]
fn a_label_is_held_against_its_card() {
    for (product, mib, expected) in [
        ("Tesla-T4", 15360, Ok(15360)),
        ("Tesla-T4", 15079, Ok(15079)),
        ("Tesla-T4", 16384, Ok(16384)),
        ("Tesla-T4", 16500, Ok(16384)),
        ("Tesla-T4", 81920, Err(15360)),
        ("NVIDIA-L4", 23, Err(23034)),
        ("NVIDIA-A10", 24564, Ok(24564)),
        ("NVIDIA-A100-SXM4-40GB", 39538, Ok(39538)),
        ("NVIDIA-H100-80GB-HBM3", 81920, Ok(81559)),
        ("NVIDIA-GeForce-RTX-3080", 12288, Ok(12288)),
        ("NVIDIA-A10-4Q", 4096, Ok(4096)),
        ("NVIDIA-A100-SXM4-80GB-MIG-1g.10gb", 9728, Ok(9728)),
    ] {
        let mib = mib.to_string();
        let labels = [("nvidia.com/gpu.memory", mib.as_str()), ("nvidia.com/gpu.product", product)];
        let pool = Sources::default().pools(&node("n", &labels, &[("nvidia.com/gpu", 1)])).remove(0);
        let found = match pool.memory {
            Memory::Known { bytes, .. } => Ok(bytes.0 / MIB),
            Memory::Untrusted { fault: LabelFault::NotTheCard { mib }, .. } => Err(mib),
            other => panic!("{other:?}"),
        };
        assert_eq!(found, expected, "{product} {mib}");
    }
}
