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
fn discovered(layout: Layout, shares: Shares, release: Release, mib: u64) -> Labels {
    let mut labels = Labels::new();
    let mut set = |base: &str, product: &str, mib: u64, shares: Option<Shares>| {
        let mut set = |name: &str, value: String| labels.insert(format!("nvidia.com/{base}.{name}"), value);
        let is_shared = shares.is_some_and(|shares| shares.replicas > 1 && release > Release::BeforeSharing);
        let suffix = if is_shared && shares.is_some_and(|shares| !shares.renamed) { "-SHARED" } else { "" };
        set("product", format!("{product}{suffix}"));
        set("count", "4".to_owned());
        set("memory", mib.to_string());
        if release >= Release::Replicas {
            set("replicas", shares.map_or(0, |shares| shares.replicas).to_string());
        }
        if release >= Release::Strategies {
            let strategy = shares.filter(|_| is_shared).map_or("none", |shares| shares.strategy);
            set("sharing-strategy", strategy.to_owned());
        }
    };
    let card = "NVIDIA-A100-SXM4-80GB";
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
    (layout, shares, release, mib)
        .prop_map(|(layout, shares, release, mib)| discovered(layout, shares, release, mib))
}

/// What becomes of labels: one is removed, or says something else.
fn any_fault() -> impl Strategy<Value = (String, Option<String>)> {
    let key = (
        select(vec!["gpu", "mig-1g.10gb"]),
        select(vec![".memory", ".memory", ".count", ".replicas", ".sharing-strategy"]),
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

/// The labels of a node of any kind, some of them wrong: but `-SHARED` and `-MIG-` in the name of a product, which only
/// GPU Feature Discovery writes, are never without the labels that it writes with them.
fn any_labels() -> impl Strategy<Value = Labels> {
    let faults = prop_oneof![2 => Just(Vec::new()), 3 => proptest::collection::vec(any_fault(), 1..4)];
    (prop_oneof![6 => any_discovered(), 1 => Just(Labels::new())], faults).prop_map(|(mut labels, faults)| {
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
    ])
}

/// Any need: of a GPU that a label states to the byte, or of none.
fn any_need(labels: &Labels) -> impl Strategy<Value = u64> + use<> {
    let stated: Vec<u64> = labels
        .iter()
        .filter(|(key, _)| key.ends_with(".memory"))
        .filter_map(|(_, value)| value.parse::<u64>().ok()?.checked_mul(MIB))
        .chain([GIB])
        .collect();
    let near = (select(stated), 1_u64..5, -1_i64..2)
        .prop_map(|(bytes, parts, more)| (bytes / parts).saturating_add_signed(more));
    prop_oneof![4 => near, 1 => 0..100 * GIB, 1 => any::<u64>()]
}

proptest! {
    #![proptest_config(ProptestConfig::default())]

    /// A pod is bound only where `decide` would have it, and wherever `decide` says that it fits it can be bound.
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
        let accepted = decision.classes[0].verdict == Verdict::Fits;
        let admitted = terms.iter().any(|term| term.matches("n", &labels));
        prop_assert_eq!(admitted, accepted, "{:?}: {:?} {:?}", decision.classes[0], labels, terms);
        // What is read of one resource does not depend on what else the node hands out.
        let mut more = node;
        for other in ["nvidia.com/gpu", "nvidia.com/mig-1g.10gb", "example.com/nic"] {
            more.allocatable.entry(other.to_owned()).or_insert(1);
        }
        let pools = sources.pools(&more);
        let alone = &inventory.nodes()[0].pools[0];
        prop_assert_eq!(pools.iter().find(|pool| pool.resource == resource), Some(alone));
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
                    pool.memory =
                        Memory::Known { bytes: Bytes(gib * GIB), label: "example.com/gpu-memory".to_owned() };
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
