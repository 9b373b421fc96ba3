use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::{Just, ProptestConfig, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::Strategy as AnyStrategy;

use super::super::*;
use super::{GB, needs};
use crate::inventory::testing::{any_node, any_snapshot};
use crate::inventory::{Node, Snapshot, Sources};
use crate::units::MIB;

fn any_policy() -> impl AnyStrategy<Value = Policy> {
    let selector =
        prop_oneof![3 => Just(None), 1 => proptest::sample::select(vec!["15360", "a", "2"]).prop_map(Some)];
    let toleration =
        prop_oneof![2 => Just(None), 1 => proptest::sample::select(vec!["", "team"]).prop_map(Some)];
    (any::<bool>(), selector, toleration, any::<bool>()).prop_map(
        |(allow_shared, selector, toleration, largest)| Policy {
            vendors: vec![],
            allow_shared,
            node_selector: selector.into_iter().map(|value| ("team".to_owned(), value.to_owned())).collect(),
            tolerations: toleration
                .into_iter()
                .map(|key| Toleration { key: key.to_owned(), exists: true, ..Toleration::default() })
                .collect(),
            strategy: if largest { Strategy::LargestFit } else { Strategy::SmallestFit },
        },
    )
}

fn any_requirement() -> impl AnyStrategy<Value = Requirement> {
    let bytes =
        prop_oneof![4 => 0..90 * GB, 1 => any::<u64>(), 1 => Just(15360 * MIB), 1 => Just(81920 * MIB)];
    (bytes, prop_oneof![6 => 0_u64..10, 1 => any::<u64>()]).prop_map(|(bytes, gpus)| needs(bytes, gpus))
}

proptest! {
    #![proptest_config(ProptestConfig::default())]

    #[test]
    fn nothing_selected_is_smaller_than_the_requirement(
        snapshot in any_snapshot(), policy in any_policy(), requirement in any_requirement()
    ) {
        let request = Request { requirement, policy: &policy, owner: Some(Owner { namespace: "team-a", name: "m" }) };
        let labels: BTreeMap<String, Node> = snapshot.nodes.clone();
        let decision = decide(&request, &Inventory::new(snapshot, &Sources::default()), &[]);
        let selected = decision.classes.iter().filter(|class| matches!(class.verdict, Verdict::Fits | Verdict::Busy));
        for class in selected {
            let pool = class.pool.as_ref().expect("a class that fits has a pool");
            prop_assert!(pool.usable_memory() >= Some(requirement.per_gpu));
            prop_assert!(pool.allocatable >= requirement.gpus);
            prop_assert!(class.verdict == Verdict::Busy || pool.free >= requirement.gpus);
            for name in &class.nodes {
                // And the node's own label says so: nothing but it does.
                let node = &labels[name];
                let key = format!("{}.memory", pool.resource.trim_end_matches(".shared"));
                let mib: u64 = node.labels[&key].parse().expect("a label that is believed is a number");
                prop_assert!(mib * MIB >= requirement.per_gpu.0);
                prop_assert!(node.ready);
            }
        }
        prop_assert_eq!(decision.verdict == Verdict::Fits, decision.slots > 0);
    }

    #[test]
    fn adding_a_node_never_makes_a_fitting_object_unfit(
        snapshot in any_snapshot(), policy in any_policy(), requirement in any_requirement(), more in any_node("x[0-9]")
    ) {
        let request = Request { requirement, policy: &policy, owner: None };
        let before = decide(&request, &Inventory::new(snapshot.clone(), &Sources::default()), &[]);
        let mut larger = snapshot;
        larger.nodes.insert(more.name.clone(), more);
        let after = decide(&request, &Inventory::new(larger, &Sources::default()), &[]);
        prop_assert!(after.verdict <= before.verdict, "{:?} became {:?}", before.verdict, after.verdict);
        prop_assert!(after.slots >= before.slots);
    }

    #[test]
    fn a_class_answers_as_each_of_its_nodes_would(
        snapshot in any_snapshot(), policy in any_policy(), requirement in any_requirement()
    ) {
        let owner = Some(Owner { namespace: "team-a", name: "m" });
        let request = Request { requirement, policy: &policy, owner };
        let all = decide(&request, &Inventory::new(snapshot.clone(), &Sources::default()), &[]);
        let names: BTreeSet<&String> = all.classes.iter().flat_map(|class| &class.nodes).collect();
        prop_assert_eq!(names, snapshot.nodes.keys().collect::<BTreeSet<_>>());
        prop_assert_eq!(all.classes.iter().map(|class| class.nodes.len()).sum::<usize>(), snapshot.nodes.len());
        for class in &all.classes {
            for name in &class.nodes {
                let alone = Snapshot {
                    nodes: BTreeMap::from([(name.clone(), snapshot.nodes[name].clone())]),
                    pods: snapshot.pods.clone(),
                };
                let single = decide(&request, &Inventory::new(alone, &Sources::default()), &[]).classes.remove(0);
                prop_assert_eq!(
                    (single.verdict, single.reason, single.detail, single.pool),
                    (class.verdict, class.reason, class.detail.clone(), class.pool.clone())
                );
            }
        }
    }
}
