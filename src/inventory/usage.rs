//! What pods hold of the nodes' resources.

use std::collections::{BTreeMap, HashMap};

use super::Pod;
use super::host::{Amounts, Capacity, HOST_RESOURCES};

/// How much of one resource is held, by how sure it is that it will be used. Wider than a request, so that a sum cannot
/// overflow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// By pods that are bound to the node.
    pub bound: u128,
    /// By pods that the scheduler has nominated for the node, and that wait for others to be preempted.
    pub nominated: u128,
    /// By pods that are still to come: the node's room is promised to their object.
    pub promised: u128,
}

impl Held {
    /// All that is not free.
    #[must_use]
    pub const fn total(&self) -> u128 {
        self.bound.saturating_add(self.nominated).saturating_add(self.promised)
    }

    /// What others hold, of what all hold.
    #[must_use]
    pub const fn without(&self, own: &Self) -> Self {
        Self {
            bound: self.bound.saturating_sub(own.bound),
            nominated: self.nominated.saturating_sub(own.nominated),
            promised: self.promised.saturating_sub(own.promised),
        }
    }
}

/// What is held of one node's resources, by the resource's name.
pub type NodeUsage = BTreeMap<String, Held>;

/// What is held of a node's CPU, memory, ephemeral storage and places for pods, by bound pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct HostUsage([u128; HOST_RESOURCES.len()]);

impl HostUsage {
    /// Counts in what is requested.
    pub(super) fn add(&mut self, requested: Amounts) {
        for (held, more) in self.0.iter_mut().zip(requested.0) {
            *held = held.saturating_add(u128::from(more));
        }
    }

    /// What others hold, of what all hold.
    pub(super) fn without(mut self, own: &Self) -> Self {
        for (held, own) in self.0.iter_mut().zip(own.0) {
            *held = held.saturating_sub(own);
        }
        self
    }

    /// What is left of what a node has, where it says that.
    pub(super) fn left_of(&self, has: Capacity) -> Capacity {
        let mut left = has;
        for (left, held) in left.0.iter_mut().zip(self.0) {
            *left = left.map(|has| left_of(has, held));
        }
        left
    }
}

/// What is left of an amount; of an over-committed one nothing is.
pub(super) fn left_of(has: u64, held: u128) -> u64 {
    has.saturating_sub(u64::try_from(held).unwrap_or(u64::MAX))
}

/// What the pods of one owner hold of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Own {
    pub(super) usage: NodeUsage,
    pub(super) host: HostUsage,
    /// How many pods they are.
    pub(super) pods: u64,
}

/// What is held, by node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage(HashMap<String, NodeUsage>);

impl Usage {
    /// Counts in a pod that is bound to a node, or nominated for it.
    pub(super) fn count(&mut self, node: &str, pod: &Pod) {
        if !self.0.contains_key(node) {
            self.0.insert(node.to_owned(), NodeUsage::new());
        }
        let Some(usage) = self.0.get_mut(node) else { return };
        add(usage, pod);
    }

    /// Takes out what is held of a node's resources of some names, if anything is.
    pub(super) fn take(
        &mut self,
        node: &str,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Option<(String, NodeUsage)> {
        let (node, mut usage) = self.0.remove_entry(node)?;
        usage.retain(|resource, _| is_wanted(resource));
        (!usage.is_empty()).then_some((node, usage))
    }

    /// What is held of a node, if anything is.
    #[must_use]
    pub fn of(&self, node: &str) -> Option<&NodeUsage> {
        self.0.get(node)
    }
}

/// Counts in what a pod holds of its node: what it is bound to, or what it was nominated for, as kube-scheduler counts it
/// for all pods that are not of a higher priority.
pub(super) fn add(usage: &mut NodeUsage, pod: &Pod) {
    for (resource, amount) in &pod.requests {
        let held = match usage.get_mut(resource) {
            Some(held) => held,
            None => usage.entry(resource.clone()).or_default(),
        };
        let kind = if pod.node.is_some() { &mut held.bound } else { &mut held.nominated };
        *kind = kind.saturating_add(u128::from(*amount));
    }
}

impl FromIterator<(String, NodeUsage)> for Usage {
    fn from_iter<Nodes: IntoIterator<Item = (String, NodeUsage)>>(nodes: Nodes) -> Self {
        Self(nodes.into_iter().collect())
    }
}
