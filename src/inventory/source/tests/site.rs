use super::*;
use crate::inventory::{SiteLabel, SiteLabelError};

const KEY: &str = "example.com/gpu-memory";
const COUNT: &str = "example.com/gpus";

fn own(setting: &str) -> Sources {
    Sources::default().with_labels(&[setting.parse().unwrap()])
}

fn any_setting() -> impl Strategy<Value = String> {
    let unit = select(vec!["MiB", "GiB", "MB", "GB", "bytes"]);
    let resource = select(vec![
        "",
        ",resource=nvidia.com/mig-1g.10gb",
        ",resource=amd.com/gpu",
        ",resource=gpu.intel.com/i915",
    ]);
    let count = select(vec!["", ",count=example.com/gpus"]);
    (unit, resource, count).prop_map(|(unit, resource, count)| format!("{KEY}={unit}{resource}{count}"))
}

fn any_value() -> impl Strategy<Value = String> {
    let odd = select(vec![
        "",
        "0",
        "-1",
        "24GiB",
        "24.5",
        "1e3",
        "024",
        "99999999999999999999",
        "18446744073709551615",
    ]);
    prop_oneof![2 => odd.prop_map(str::to_owned), 1 => (1_u64..400).prop_map(|n| n.to_string()),
        2 => (1_u64..300_000).prop_map(|n| n.to_string()), 2 => (1_u64..200).prop_map(|n| (n * GIB).to_string())]
}

proptest! {
    #![proptest_config(ProptestConfig::default())]

    /// As for every other source, beside whatever else labels the node.
    #[test]
    fn the_terms_admit_the_nodes_that_are_accepted_and_no_other(
        setting in any_setting(),
        value in any_value(),
        counted in proptest::option::of(select(vec!["1", "2", "8", "16", "17", "0", "", "x"])),
        mut labels in any_labels(),
        near in prop_oneof![any::<u64>(), (1_u64..400).prop_map(|n| n * GIB), (1_u64..300_000).prop_map(|n| n * MIB)],
        resource in any_resource(),
        gpus in 1_u64..=8,
        shared in any::<bool>(),
    ) {
        let sources = own(&setting);
        labels.insert(KEY.to_owned(), value);
        labels.extend(counted.map(|counted| (COUNT.to_owned(), counted.to_owned())));
        let pairs: Vec<(&str, &str)> = labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let inventory = Inventory::new(Snapshot::new([node("n", &pairs, &[(resource, 64)])], []), &sources);
        let stated = inventory.nodes()[0].pools.first().and_then(|pool| pool.usable_memory());
        for per_gpu in [near, stated.map_or(1, |bytes| bytes.0), stated.map_or(1, |bytes| bytes.0 + 1)] {
            let wish = Wish { resource, per_gpu: Bytes(per_gpu), gpus, shared };
            let Ok(terms) = sources.required(&wish) else { continue };
            let requirement = Requirement { per_gpu: Bytes(per_gpu), gpus };
            let policy = Policy { allow_shared: shared, ..Policy::default() };
            let decision = decide(&Request { requirement, policy: &policy, owner: None }, &inventory, &[]);
            let accepted = decision.classes[0].verdict() == Verdict::Fits;
            let admitted = terms.iter().any(|term| term.matches("n", &labels));
            let far = matches!(
                inventory.nodes()[0].pools.first().map(|pool| &pool.memory),
                Some(Memory::Untrusted { fault: LabelFault::NotTheCard { .. }, .. })
            );
            prop_assert!(admitted == accepted || (admitted && far), "{:?}: {:?} {:?}", decision.classes[0], labels, terms);
            for term in terms {
                prop_assert_eq!(Term::from_api(&term.to_api()), Ok(term));
            }
        }
    }
}

#[test]
fn a_label_is_read_in_the_unit_that_is_set_and_no_other() {
    let most = (1_u64 << 40).to_string();
    for (setting, labels, expected) in [
        ("example.com/gpu-memory=GiB", vec![(KEY, "24")], Ok(24 * GIB)),
        ("example.com/gpu-memory=GB", vec![(KEY, "24")], Ok(24_000_000_000)),
        ("example.com/gpu-memory=MiB", vec![(KEY, "23034")], Ok(23034 * MIB)),
        ("example.com/gpu-memory=bytes", vec![(KEY, "25769803776")], Ok(24 * GIB)),
        ("example.com/gpu-memory=GiB,count=example.com/gpus", vec![(KEY, "96"), (COUNT, "4")], Ok(24 * GIB)),
        ("example.com/gpu-memory=GiB", vec![(KEY, "")], Err(LabelFault::Empty)),
        ("example.com/gpu-memory=GiB", vec![(KEY, "0")], Err(LabelFault::Zero)),
        ("example.com/gpu-memory=GiB", vec![(KEY, "-24")], Err(LabelFault::NotANumber)),
        ("example.com/gpu-memory=GiB", vec![(KEY, "24GiB")], Err(LabelFault::NotANumber)),
        ("example.com/gpu-memory=GiB", vec![(KEY, "1024")], Err(LabelFault::TooLarge)),
        ("example.com/gpu-memory=bytes", vec![(KEY, &most)], Err(LabelFault::TooLarge)),
        ("example.com/gpu-memory=GiB", vec![(KEY, "99999999999999999999")], Err(LabelFault::TooLarge)),
        (
            "example.com/gpu-memory=GiB,count=example.com/gpus",
            vec![(KEY, "96")],
            Err(LabelFault::SumOfUnknownMany),
        ),
        (
            "example.com/gpu-memory=GiB",
            vec![(KEY, "80"), ("nvidia.com/gpu.product", "Tesla-T4")],
            Err(LabelFault::NotTheCard { mib: 15360 }),
        ),
        // GPU Feature Discovery leaves the memory of a GB10 out, and says how it is handed out.
        (
            "example.com/gpu-memory=GiB",
            vec![(KEY, "110"), ("nvidia.com/gpu.product", "NVIDIA-GB10"), ("nvidia.com/gpu.replicas", "1")],
            Ok(110 * GIB),
        ),
        ("example.com/gpu-memory=GiB", vec![(KEY, "24"), ("nvidia.com/gpu.memory", "15360")], Ok(15 * GIB)),
        (
            "example.com/gpu-memory=GiB",
            vec![(KEY, "24"), ("cloud.google.com/gke-accelerator", "nvidia-l4")],
            Ok(24 * GIB),
        ),
        (
            "example.com/gpu-memory=GiB",
            vec![(KEY, "24"), ("nvidia.com/gpu.sharing-strategy", "mps"), ("nvidia.com/gpu.replicas", "4")],
            Err(LabelFault::Divided),
        ),
    ] {
        let pool = own(setting).pools(&node("n", &labels, &[("nvidia.com/gpu", 4)])).remove(0);
        let found = match pool.memory {
            Memory::Known { bytes, .. } => Ok(bytes.0),
            Memory::Untrusted { fault, .. } => Err(fault),
            Memory::Missing { .. } => panic!("{labels:?}"),
        };
        assert_eq!(found, expected, "{setting} {labels:?}");
    }
    // A label in another case is another label.
    let pools = own("example.com/gpu-memory=GiB").pools(&node(
        "n",
        &[("example.com/GPU-Memory", "24")],
        &[("nvidia.com/gpu", 4)],
    ));
    assert!(matches!(pools[0].memory, Memory::Missing { .. }));
    let amd = own("example.com/gpu-memory=GiB,resource=amd.com/gpu");
    let pools = amd.pools(&node("n", &[(KEY, "64"), ("amd.com/gpu.vram", "192G")], &[("amd.com/gpu", 8)]));
    assert_eq!((pools.len(), pools[0].usable_memory()), (1, Some(Bytes(64 * GIB))));
}

#[test]
fn a_setting_says_what_would_be_right() {
    for (text, expected) in [
        ("", "\"\" is not of the form KEY=UNIT"),
        ("example.com/vram", "is not of the form"),
        ("example.com/vram=GiB,", "is not of the form"),
        ("example.com/vram=GiB,count=a,count=b", "is not of the form"),
        ("example.com/vram=GiB,scope=node", "is not of the form"),
        ("example.com/vram=gib", "\"gib\" is not a unit; write MiB, GiB, MB, GB or bytes"),
        ("example.com/vram=", "\"\" is not a unit"),
        ("no label=GiB", "\"no label\" is not the key of a label"),
        ("example.com/vram=GiB,count=a b", "\"a b\" is not the key of a label"),
        ("nvidia.com/gpu.memory=GiB", "nvidia.com/gpu.memory is read as it is"),
        ("example.com/vram=GiB,resource=cpu", "\"cpu\" is no resource of GPUs"),
        ("example.com/vram=GiB,resource=nvidia.com/gpumem", "is no resource of GPUs"),
    ] {
        let error: SiteLabelError = text.parse::<SiteLabel>().unwrap_err();
        assert!(error.to_string().contains(expected), "{text}: {error}");
    }
    let whole: SiteLabel = "example.com/vram=GiB,count=example.com/n,resource=amd.com/gpu".parse().unwrap();
    assert_eq!(whole.to_string().parse(), Ok(whole));
}
