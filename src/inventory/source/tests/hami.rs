use super::*;
use crate::inventory::GpuSharing;
use crate::inventory::source::hami::{REGISTER, kept};

/// As HAMi's documentation has it ("Protocol design", of two V100).
const TWO_V100: &str = r#"[{"id":"GPU-00552014-5c87-89ac-b1a6-7b53aa24b0ec","count":10,"devmem":32768,"devcore":100,"type":"NVIDIA-Tesla V100-PCIE-32GB","numa":1,"mode":"hami-core","health":true},{"id":"GPU-0fc3eda5-e98b-a25b-5b0d-cf5c855d1448","index":1,"count":10,"devmem":32768,"devcore":100,"type":"NVIDIA-Tesla V100-PCIE-32GB","numa":1,"mode":"hami-core","health":true}]"#;

fn read(annotation: &str, labels: &[(&str, &str)], handed_out: u64) -> GpuPool {
    let mut node = node("n", labels, &[("nvidia.com/gpu", handed_out)]);
    node.annotations.insert(REGISTER.to_owned(), kept(annotation));
    let mut pools = Sources::default().pools(&node);
    assert_eq!(pools.len(), 1);
    pools.remove(0)
}

fn card(mib: i64, name: &str) -> String {
    format!(r#"[{{"count":10,"devmem":{mib},"type":"{name}","health":true}}]"#)
}

#[test]
fn the_annotation_says_what_is_to_be_labelled_and_that_cards_are_shared() {
    let label = || "nvidia.com/gpu.memory".to_owned();
    let pool = read(TWO_V100, &[], 20);
    assert_eq!(pool.memory, Memory::Missing { label: label(), annotated: Some(Bytes(32768 * MIB)) });
    assert_eq!(pool.product.as_deref(), Some("NVIDIA-Tesla-V100-PCIE-32GB"));
    assert_eq!(pool.sharing, GpuSharing::TimeSliced(10));
    // Labelled as it should be, it is one card among ten, and so is it where the label knows no sharing.
    for labels in [
        vec![("nvidia.com/gpu.memory", "32768"), ("nvidia.com/gpu.replicas", "10")],
        vec![("nvidia.com/gpu.memory", "32768")],
    ] {
        let pool = read(TWO_V100, &labels, 20);
        assert_eq!(
            (pool.usable_memory(), pool.sharing),
            (Some(Bytes(32768 * MIB)), GpuSharing::TimeSliced(10))
        );
    }
    // Left over from before HAMi was removed: two cards, handed out once each.
    let pool = read(TWO_V100, &[("nvidia.com/gpu.memory", "32768")], 2);
    assert_eq!((pool.usable_memory(), pool.sharing), (Some(Bytes(32768 * MIB)), GpuSharing::Exclusive));
    // The label is the driver's figure, and the annotation may be scaled.
    let pool = read(&card(46068, "NVIDIA L4"), &[("nvidia.com/gpu.memory", "23034")], 10);
    assert_eq!(pool.usable_memory(), Some(Bytes(23034 * MIB)));
}

#[test]
fn a_list_that_cannot_be_believed_says_why() {
    let unhealthy = card(15360, "NVIDIA-Tesla T4").replace("true", "false");
    let mixed = format!(
        "{},{}",
        card(23034, "NVIDIA L4").trim_end_matches(']'),
        &card(15360, "NVIDIA-Tesla T4")[1..]
    );
    for (annotation, expected) in [
        ("", LabelFault::NotRegistered),
        ("[]", LabelFault::NotRegistered),
        ("{}", LabelFault::NotRegistered),
        ("GPU-1,10,15360,100,NVIDIA-Tesla T4,0,true:", LabelFault::NotRegistered),
        (&card(0, "NVIDIA L4"), LabelFault::NotRegistered),
        (&card(-1, "NVIDIA L4"), LabelFault::NotRegistered),
        (&card(24_152_899_584, "NVIDIA L4"), LabelFault::NotRegistered),
        (r#"[{"devmem":"23034MiB","type":"NVIDIA L4"}]"#, LabelFault::NotRegistered),
        (r#"[{"DevMem":23034,"Type":"NVIDIA L4"}]"#, LabelFault::NotRegistered),
        (&unhealthy, LabelFault::NotRegistered),
        (&mixed, LabelFault::SeveralKinds),
        // deviceMemoryScaling of 2.
        (&card(46068, "NVIDIA L4"), LabelFault::NotTheCard { mib: 23034 }),
        (&card(30720, "NVIDIA-Tesla T4"), LabelFault::NotTheCard { mib: 15360 }),
    ] {
        match read(annotation, &[], 10).memory {
            Memory::Untrusted { fault, .. } => assert_eq!(fault, expected, "{annotation}"),
            other => panic!("{annotation}: {other:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::default())]

    /// What is kept of an annotation stays as it is, whatever it was, and says the same; no pod is let onto a node by it.
    #[test]
    fn nothing_is_accepted_by_an_annotation_alone(
        annotation in prop_oneof![
            any::<String>(),
            (any::<i64>(), any::<i64>(), "[A-Za-z0-9 -]{0,12}").prop_map(|(count, mib, name)| {
                format!(r#"[{{"id":"x","count":{count},"devmem":{mib},"type":"{name}"}}]"#)
            }),
            (1_i64..300_000).prop_map(|mib| card(mib, "NVIDIA L4")),
        ],
        labels in any_labels(),
        handed_out in 1_u64..64,
        shared in any::<bool>(),
    ) {
        prop_assert_eq!(kept(&kept(&annotation)), kept(&annotation));
        let without = node("n", &labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect::<Vec<_>>(), &[("nvidia.com/gpu", handed_out)]);
        let mut with = without.clone();
        with.annotations.insert(REGISTER.to_owned(), kept(&annotation));
        let sources = Sources::default();
        let fits = |node: &Node| {
            let policy = Policy { allow_shared: shared, ..Policy::default() };
            let inventory = Inventory::new(Snapshot::new([node.clone()], []), &sources);
            let requirement = Requirement { per_gpu: Bytes(1), gpus: 1 };
            decide(&Request { requirement, policy: &policy, owner: None }, &inventory, &[]).verdict() == Verdict::Fits
        };
        prop_assert!(!fits(&with) || fits(&without), "{:?}", sources.pools(&with));
    }
}
