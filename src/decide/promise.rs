//! Which GPUs an object is promised whose pods are still to come.

use super::{Policy, Request, Requirement, Verdict, decide};
use crate::inventory::{Inventory, Owner, Promise, Promises};

/// What an object's pods want of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What one replica needs.
    pub requirement: Requirement,
    /// Where it may run.
    pub policy: Policy,
    /// How many replicas there are to be.
    pub replicas: u64,
}

impl Wanted {
    /// Replicas whose pods are still to come.
    #[must_use]
    pub fn missing(&self, owner: Owner<'_>, inventory: &Inventory) -> u64 {
        self.replicas.saturating_sub(inventory.bound_pods(owner))
    }

    /// What is promised to an object: room for as many of the missing replicas as find it, on the nodes in the order of its
    /// decision. What the inventory says is promised is promised to others.
    #[must_use]
    pub fn promises(&self, owner: Owner<'_>, inventory: &Inventory) -> Promises {
        let mut promises = Promises::default();
        let mut left = self.missing(owner, inventory);
        if left == 0 {
            return promises;
        }
        // The object's own pods stay where they are: what they hold is not to be had again.
        let request = Request { requirement: self.requirement, policy: &self.policy, owner: None };
        let decision = decide(&request, inventory, &[]);
        let gpus = self.requirement.gpus.max(1);
        for class in decision.classes.iter().filter(|class| class.verdict() == Verdict::Fits) {
            let Some(pool) = &class.pool else { continue };
            for node in class.nodes.iter() {
                let here = (pool.free / gpus).min(left);
                if here == 0 {
                    return promises;
                }
                let (namespace, name) = (owner.namespace.to_owned(), owner.name.to_owned());
                let (resource, gpus) = (pool.resource.clone(), here.saturating_mul(gpus));
                promises.add(node, Promise { namespace, name, resource, gpus });
                left -= here;
            }
        }
        promises
    }
}
