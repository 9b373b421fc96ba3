use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::{Just, ProptestConfig, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::Strategy as AnyStrategy;

use super::super::*;
use super::{GB, needs};
use crate::inventory::testing::{any_node, any_requests, any_snapshot};
use crate::inventory::{Node, Snapshot, Sources, Taint};
use crate::units::MIB;

pub(super) fn any_policy() -> impl AnyStrategy<Value = Policy> {
    let selector =
        prop_oneof![3 => Just(None), 1 => proptest::sample::select(vec!["15360", "a", "2"]).prop_map(Some)];
    let toleration =
        prop_oneof![2 => Just(None), 1 => proptest::sample::select(vec!["", "team"]).prop_map(Some)];
    (any::<bool>(), selector, toleration, any::<bool>(), any_requests()).prop_map(
        |(allow_shared, selector, toleration, largest, requests)| Policy {
            requests,
            vendors: vec![],
            allow_shared,
            node_selector: selector.into_iter().map(|value| ("team".to_owned(), value.to_owned())).collect(),
            tolerations: toleration
                .into_iter()
                .map(|key| Toleration { key: key.to_owned(), exists: true, ..Toleration::default() })
                .collect(),
            strategy: if largest { Strategy::LargestFit } else { Strategy::SmallestFit },
            ..Policy::default()
        },
    )
}

pub(super) fn any_requirement() -> impl AnyStrategy<Value = Requirement> {
    let bytes =
        prop_oneof![4 => 0..90 * GB, 1 => any::<u64>(), 1 => Just(15360 * MIB), 1 => Just(81920 * MIB)];
    (bytes, prop_oneof![6 => 0_u64..10, 1 => any::<u64>()]).prop_map(|(bytes, gpus)| needs(bytes, gpus))
}

/// Whether a node was found to be as its class is: of what differs from node to node, the class says the most.
fn is_alike(node: &Finding, class: &Finding) -> bool {
    match (node, class) {
        (
            Finding::ResourcesBusy { resource, needed, free, allocatable },
            Finding::ResourcesBusy { resource: of, needed: asked, free: most_free, allocatable: most },
        ) => (resource, needed) == (of, asked) && free <= most_free && allocatable <= most,
        (
            Finding::ResourcesTooSmall { resource, needed, allocatable },
            Finding::ResourcesTooSmall { resource: of, needed: asked, allocatable: most },
        ) => (resource, needed) == (of, asked) && allocatable <= most,
        _ => node == class,
    }
}

/// What each node has left of CPU, memory, storage and places for pods, for an owner.
fn left(snapshot: &Snapshot, owner: Owner<'_>) -> BTreeMap<String, [Option<u128>; 4]> {
    let is_others = |pod: &&crate::inventory::Pod| {
        pod.namespace != owner.namespace || pod.model_deployment.as_deref() != Some(owner.name)
    };
    let left = snapshot.nodes.values().map(|node| {
        let bound = snapshot.pods.iter().filter(|pod| pod.holds() == Some(&node.name) && !pod.finished);
        let held =
            bound.filter(is_others).map(|pod| pod.host).chain(snapshot.others.get(&node.name).copied());
        let mut left = node.host.0.map(|has| has.map(u128::from));
        for amounts in held {
            for (left, amount) in left.iter_mut().zip(amounts.0) {
                *left = left.map(|left| left.saturating_sub(u128::from(amount)));
            }
        }
        (node.name.clone(), left)
    });
    left.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::default())]

    #[test]
    fn nothing_selected_is_smaller_than_the_requirement(
        snapshot in any_snapshot(), policy in any_policy(), requirement in any_requirement()
    ) {
        let request = Request { requirement, policy: &policy, owner: Some(Owner { namespace: "team-a", name: "m" }) };
        let labels: BTreeMap<String, Arc<Node>> = snapshot.nodes.clone();
        let decision = decide(&request, &Inventory::new(snapshot, &Sources::default()), &[]);
        let selected = decision.classes.iter().filter(|class| matches!(class.verdict(), Verdict::Fits | Verdict::Busy));
        for class in selected {
            let pool = class.pool.as_deref().expect("a class that fits has a pool");
            prop_assert!(pool.usable_memory() >= Some(requirement.per_gpu));
            prop_assert!(pool.allocatable >= requirement.gpus);
            prop_assert!(class.verdict() == Verdict::Busy || pool.free >= requirement.gpus);
            for name in class.nodes.iter() {
                // And the node's own label says so: nothing but it does.
                let node = &labels[name];
                let key = format!("{}.memory", pool.resource.trim_end_matches(".shared"));
                let mib: u64 = node.labels[&key].parse().expect("a label that is believed is a number");
                prop_assert!(mib * MIB >= requirement.per_gpu.0);
                prop_assert!(node.ready);
            }
        }
        prop_assert_eq!(decision.verdict() == Verdict::Fits, decision.slots > 0);
    }

    #[test]
    fn no_node_is_picked_that_has_less_than_is_requested(
        snapshot in any_snapshot(), policy in any_policy(), gpus in 0_u64..3
    ) {
        let owner = Owner { namespace: "team-a", name: "m" };
        let request = Request { requirement: needs(1, gpus), policy: &policy, owner: Some(owner) };
        let left = left(&snapshot, owner);
        let nodes = snapshot.nodes.clone();
        let decision = decide(&request, &Inventory::new(snapshot, &Sources::default()), &[]);
        let mut most = 0_u64;
        for class in &decision.classes {
            for name in class.nodes.iter() {
                let requested = policy.requests.host.0.into_iter().zip(left[name]).zip(nodes[name].host.0);
                for ((requested, left), has) in requested {
                    let is_free = left.is_none_or(|left| left >= u128::from(requested));
                    let is_there = has.is_none_or(|has| has >= requested);
                    prop_assert!(class.verdict() != Verdict::Fits || is_free, "{name} has {left:?} of {requested}");
                    prop_assert!(class.verdict() != Verdict::Busy || is_there, "{name} has {has:?} of {requested}");
                }
                if class.verdict() == Verdict::Fits {
                    let fit = policy.requests.host.0.into_iter().zip(left[name]).filter_map(|(requested, left)| {
                        left?.checked_div(u128::from(requested))
                    });
                    let fit = fit.min().unwrap_or(u128::MAX);
                    most = most.saturating_add(u64::try_from(fit).unwrap_or(u64::MAX));
                }
            }
        }
        prop_assert!(decision.slots <= most, "{} of {most}", decision.slots);
    }

    #[test]
    fn adding_a_node_never_makes_a_fitting_object_unfit(
        snapshot in any_snapshot(), policy in any_policy(), requirement in any_requirement(), more in any_node("x[0-9]")
    ) {
        let request = Request { requirement, policy: &policy, owner: None };
        let before = decide(&request, &Inventory::new(snapshot.clone(), &Sources::default()), &[]);
        let mut larger = snapshot;
        larger.nodes.insert(more.name.clone(), Arc::new(more));
        let after = decide(&request, &Inventory::new(larger, &Sources::default()), &[]);
        prop_assert!(after.verdict() <= before.verdict(), "{:?} became {:?}", before.verdict(), after.verdict());
        prop_assert!(after.slots >= before.slots);
    }

    #[test]
    fn a_class_answers_as_each_of_its_nodes_would(
        snapshot in any_snapshot(), policy in any_policy(), requirement in any_requirement()
    ) {
        let owner = Some(Owner { namespace: "team-a", name: "m" });
        let request = Request { requirement, policy: &policy, owner };
        let all = decide(&request, &Inventory::new(snapshot.clone(), &Sources::default()), &[]);
        let names: BTreeSet<&str> = all.classes.iter().flat_map(|class| class.nodes.iter()).collect();
        prop_assert_eq!(names, snapshot.nodes.keys().map(String::as_str).collect::<BTreeSet<_>>());
        prop_assert_eq!(all.classes.iter().map(|class| class.nodes.len()).sum::<usize>(), snapshot.nodes.len());
        for class in &all.classes {
            for name in class.nodes.iter() {
                let alone = Snapshot {
                    nodes: BTreeMap::from([(name.to_owned(), snapshot.nodes[name].clone())]),
                    ..snapshot.clone()
                };
                let single = decide(&request, &Inventory::new(alone, &Sources::default()), &[]).classes.remove(0);
                prop_assert_eq!(&single.pool, &class.pool);
                prop_assert!(is_alike(&single.finding, &class.finding), "{:?} {:?}", single.finding, class.finding);
            }
        }
    }

    #[test]
    fn what_is_decided_follows_from_what_was_found_and_its_numbers_are_true(
        snapshot in any_snapshot(), policy in any_policy(), requirement in any_requirement()
    ) {
        let request = Request { requirement, policy: &policy, owner: None };
        let decision = decide(&request, &Inventory::new(snapshot, &Sources::default()), &[]);
        let best = decision.classes.iter().map(ClassVerdict::verdict).min();
        match &decision.finding {
            Finding::NeverFits { needed, largest } => {
                prop_assert!(needed > largest && best.is_none_or(|best| best > Verdict::Busy));
            },
            Finding::NoGpuNodes => prop_assert!(decision.classes.iter().all(|class| class.reason() == Reason::NoGpus)),
            finding => {
                prop_assert_eq!(Some(finding), decision.classes.first().map(|class| &class.finding));
                prop_assert_eq!(Some(decision.verdict()), best);
            }
        }
        for class in &decision.classes {
            match &class.finding {
                Finding::FitsNow { needed, has } => prop_assert!(needed <= has),
                Finding::GpuMemoryTooSmall { needed, has } => prop_assert!(needed > has),
                Finding::GpusBusy { needed, free, allocatable } => {
                    prop_assert!(free < &(*needed).max(1) && (*needed).max(1) <= *allocatable);
                }
                Finding::ResourcesBusy { needed, free, allocatable, .. } => {
                    prop_assert!(free < needed && needed <= allocatable);
                }
                Finding::ResourcesTooSmall { needed, allocatable, .. } => prop_assert!(allocatable < needed),
                Finding::TooFewGpus { needed, allocatable } => prop_assert!(allocatable < &(*needed).max(1)),
                Finding::NeverFits { .. } | Finding::NoGpuNodes => prop_assert!(false, "it is of a cluster"),
                _ => prop_assert!(class.verdict() > Verdict::Busy),
            }
        }
    }

    #[test]
    fn a_node_that_goes_makes_no_other_unfit(
        snapshot in any_snapshot(), policy in any_policy(), requirement in any_requirement(), which in any::<proptest::sample::Index>()
    ) {
        if snapshot.nodes.is_empty() {
            return Ok(());
        }
        let owner = Some(Owner { namespace: "team-a", name: "m" });
        let request = Request { requirement, policy: &policy, owner };
        let gone = snapshot.nodes.keys().nth(which.index(snapshot.nodes.len())).cloned().unwrap();
        let before = by_node(&decide(&request, &Inventory::new(snapshot.clone(), &Sources::default()), &[]));
        let mut smaller = snapshot;
        smaller.nodes.remove(&gone);
        let after = by_node(&decide(&request, &Inventory::new(smaller, &Sources::default()), &[]));
        for (node, answer) in after {
            prop_assert_eq!(Some(&answer), before.get(&node), "{}", node);
        }
    }

    #[test]
    fn the_order_of_what_is_read_changes_nothing(
        snapshot in any_snapshot(), policy in any_policy(), requirement in any_requirement()
    ) {
        let owner = Some(Owner { namespace: "team-a", name: "m" });
        let request = Request { requirement, policy: &policy, owner };
        let alternatives = alternatives(requirement);
        let mut turned = snapshot.clone();
        turned.pods.reverse();
        for node in turned.nodes.values_mut() {
            Arc::make_mut(node).taints.reverse();
        }
        let (one, other) = (Inventory::new(snapshot, &Sources::default()), Inventory::new(turned, &Sources::default()));
        let (mut one, mut other) = (decide(&request, &one, &alternatives), decide(&request, &other, &alternatives));
        prop_assert!(one.digest(3) != other.digest(3) || shows_the_same(&one, &other));
        for class in one.classes.iter_mut().chain(&mut other.classes) {
            // Of several taints the one that the node lists first is named.
            if let Finding::TaintNotTolerated(taint) = &mut class.finding {
                *taint = any_taint();
            }
        }
        prop_assert_eq!(one.classes, other.classes);
        prop_assert_eq!((one.slots, one.suggestions), (other.slots, other.suggestions));
    }

    #[test]
    fn a_suggestion_counts_the_nodes_that_a_decision_would(
        snapshot in any_snapshot(), policy in any_policy(), requirement in any_requirement()
    ) {
        let owner = Some(Owner { namespace: "team-a", name: "m" });
        let inventory = Inventory::new(snapshot, &Sources::default());
        let ask = |requirement| decide(&Request { requirement, policy: &policy, owner }, &inventory, &[]);
        let request = Request { requirement, policy: &policy, owner };
        let decision = decide(&request, &inventory, &alternatives(requirement));
        for suggestion in &decision.suggestions {
            let then = ask(suggestion.requirement);
            let suits = |class: &&ClassVerdict| match class.verdict() {
                Verdict::Fits => true,
                Verdict::Busy => decision.verdict() != Verdict::Busy,
                _ => false,
            };
            prop_assert_eq!(suggestion.nodes, then.classes.iter().filter(suits).map(ClassVerdict::count).sum::<u64>());
        }
        let room = Room::new(&policy, owner, &inventory);
        prop_assert_eq!(room.holds(requirement), decision.verdict() <= Verdict::Busy);
    }

    #[test]
    fn a_digest_is_the_same_only_where_the_same_is_shown(
        snapshot in any_snapshot(), policy in any_policy(), requirement in any_requirement(), more in any_node("n[0-9]")
    ) {
        let request = Request { requirement, policy: &policy, owner: None };
        let alternatives = alternatives(requirement);
        let before = decide(&request, &Inventory::new(snapshot.clone(), &Sources::default()), &alternatives);
        let mut changed = snapshot;
        changed.nodes.insert(more.name.clone(), Arc::new(more));
        let after = decide(&request, &Inventory::new(changed, &Sources::default()), &alternatives);
        if before.digest(3) == after.digest(3) {
            prop_assert!(shows_the_same(&before, &after), "{:?}\n{:?}", before, after);
        }
    }

    #[test]
    fn what_own_pods_hold_is_counted_apart(
        snapshot in any_snapshot(), policy in any_policy(), requirement in any_requirement()
    ) {
        let inventory = Inventory::new(snapshot, &Sources::default());
        let ask = |owner| decide(&Request { requirement, policy: &policy, owner }, &inventory, &[]);
        let own = ask(Some(Owner { namespace: "team-a", name: "m" }));
        for class in &own.classes {
            prop_assert!(class.free_without_own() <= class.free());
        }
        prop_assert!(ask(None).classes.iter().all(|class| class.free() == class.free_without_own()));
    }
}

/// Less of everything, in steps.
fn alternatives(requirement: Requirement) -> Vec<Alternative> {
    let less = |divisor: u64| needs(requirement.per_gpu.0 / divisor, requirement.gpus);
    let fewer = Requirement { gpus: 1, ..requirement };
    vec![
        Alternative { change: Change::Context(1), requirement: less(2) },
        Alternative { change: Change::Context(2), requirement: less(4) },
        Alternative { change: Change::Tensor(1), requirement: fewer },
        Alternative { change: Change::Sequences(1), requirement: needs(less(8).per_gpu.0, 1) },
    ]
}

fn by_node(decision: &Decision) -> BTreeMap<String, Finding> {
    let classes = decision.classes.iter();
    classes
        .flat_map(|class| class.nodes.iter().map(|node| (node.to_owned(), class.finding.clone())))
        .collect()
}

fn any_taint() -> Taint {
    Taint { key: String::new(), value: String::new(), effect: String::new() }
}

/// Whether a status says the same of both, in other than the words of the messages.
fn shows_the_same(one: &Decision, other: &Decision) -> bool {
    let listed = |decision: &Decision| -> Vec<_> {
        decision.shown().map(|(class, name)| (name.to_owned(), class.finding.clone())).collect()
    };
    let counts = |decision: &Decision| {
        let mut counts = BTreeMap::new();
        for class in &decision.classes {
            *counts.entry(class.reason()).or_insert(0) += class.count();
        }
        counts
    };
    let rest = |decision: &Decision| {
        (
            decision.finding.clone(),
            decision.slots.min(3),
            decision.suggestions.clone(),
            decision.resource().to_owned(),
        )
    };
    listed(one) == listed(other) && counts(one) == counts(other) && rest(one) == rest(other)
}
