//! What is promised, one object after another.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};

use super::super::*;
use super::properties::{any_policy, any_requirement};
use crate::inventory::testing::any_snapshot;
use crate::inventory::{Promises, Sources};

proptest! {
    #![proptest_config(ProptestConfig::default())]

    #[test]
    fn no_gpu_is_promised_twice_and_none_that_is_held(
        snapshot in any_snapshot(),
        wanted in proptest::collection::vec((any_policy(), any_requirement(), 0_u64..6), 1..5),
    ) {
        let inventory = Inventory::new(snapshot, &Sources::default());
        let mut promised = Arc::new(Promises::default());
        for (at, (policy, requirement, replicas)) in wanted.into_iter().enumerate() {
            let name = format!("m{at}");
            let owner = Owner { namespace: "team-a", name: &name };
            let here = inventory.promising(Arc::clone(&promised));
            let wanted = Wanted { requirement, policy, replicas };
            let own = wanted.promises(owner, &here);
            // Whole replicas, and no more than are missing.
            let gpus = requirement.gpus.max(1);
            prop_assert!(own.gpus() <= wanted.missing(owner, &here).saturating_mul(gpus));
            prop_assert!(own.nodes().all(|(_, promises)| promises.iter().all(|promise| promise.gpus % gpus == 0)));
            // Who is promised something is told that it fits, and who finds none left is not.
            let request = Request { requirement, policy: &wanted.policy, owner: Some(owner) };
            let told = decide(&request, &here, &[]);
            if !own.is_empty() {
                prop_assert_eq!(told.verdict(), Verdict::Fits);
            }
            Arc::make_mut(&mut promised).extend(&own);
            // What it is promised itself does not count against it.
            let after = decide(&request, &inventory.promising(Arc::clone(&promised)), &[]);
            prop_assert_eq!(after.verdict(), told.verdict());
        }
        // The free GPUs of each node, by resource.
        for entry in inventory.nodes() {
            let mut given: BTreeMap<&str, u64> = BTreeMap::new();
            for promise in promised.of(&entry.node.name) {
                *given.entry(&promise.resource).or_default() += promise.gpus;
            }
            for (resource, gpus) in given {
                let free = entry.pools.iter().filter(|pool| pool.resource == resource).map(|pool| pool.free).max();
                prop_assert!(Some(gpus) <= free, "{} of {}: {} of {:?}", resource, entry.node.name, gpus, free);
            }
        }
    }
}
