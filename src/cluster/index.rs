//! Nodes and pods, kept from watch events. Pure.
//!
//! Invariants: a list that is being read again replaces the old one only when it is complete, so that the cluster is
//! never seen empty, or half; nothing is published before both lists have been read once; an event that changes nothing
//! Loadline looks at changes nothing here.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::resource::v1 as resource;
use kube::runtime::watcher::Event;

use super::relisted::{Change, Relisted};
use crate::inventory::{Amounts, DeviceId, Node, Pod, Slice, Snapshot, held};

/// Namespace and name of a pod.
pub(super) type PodKey = (String, String);

/// What is known of the cluster.
#[derive(Debug, Default)]
pub struct Index {
    /// Shared with every view that is made of them.
    nodes: Relisted<String, Arc<Node>>,
    /// Unfinished pods, by a number for namespace and name.
    pods: Relisted<u64, Kept>,
    /// Of drivers of GPUs, where the API server has the kind.
    slices: Relisted<String, Arc<Slice>>,
    /// The GPUs that claims hold, by the claims' namespaces and names.
    claims: Relisted<PodKey, BTreeSet<DeviceId>>,
    /// Whether slices and claims are read.
    with_devices: bool,
    /// Makes those numbers. Who does not know its keys can make no two names meet.
    numbers: RandomState,
}

/// What is kept of an unfinished pod.
#[derive(Debug, PartialEq, Eq)]
enum Kept {
    /// One that requests extended resources or serves a ModelDeployment: bound, or waiting for a node.
    Whole(Box<Pod>),
    /// Any other that is bound: a large cluster has a hundred thousand of them. That it is one pod is no request.
    Other {
        /// The number of its node's name.
        node: u64,
        cpu: u64,
        memory: u64,
        storage: u64,
    },
}

impl Index {
    /// One that waits for slices and claims too, or that knows of none.
    #[must_use]
    pub fn new(with_devices: bool) -> Self {
        Self { with_devices, ..Self::default() }
    }

    /// Takes in an event of a slice; whether anything changed that matters.
    pub fn slice(&mut self, event: Event<resource::ResourceSlice>) -> bool {
        let reduce = |slice: resource::ResourceSlice| Slice::from_object(&slice).map(Arc::new);
        let key = |slice: &resource::ResourceSlice| slice.metadata.name.clone().unwrap_or_default();
        !self.slices.take(event, reduce, key).is_nothing()
    }

    /// Takes in an event of a claim; whether anything changed that matters.
    pub fn claim(&mut self, event: Event<resource::ResourceClaim>) -> bool {
        let reduce = |claim: resource::ResourceClaim| Some(held(&claim)).filter(|held| !held.is_empty());
        let key = |claim: &resource::ResourceClaim| {
            let metadata = &claim.metadata;
            (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
        };
        !self.claims.take(event, reduce, key).is_nothing()
    }

    /// Takes in a node event; whether anything changed that matters.
    pub fn node(&mut self, event: Event<core::Node>) -> bool {
        let reduce = |node: core::Node| Some(Arc::new(Node::from_object(&node)));
        !self.nodes.take(event, reduce, |node| node.metadata.name.clone().unwrap_or_default()).is_nothing()
    }

    /// Takes in a pod event; whether anything changed that matters. A pod without extended resources matters only where it takes
    /// of a node that has some.
    pub fn pod(&mut self, event: Event<core::Pod>) -> bool {
        let numbers = &self.numbers;
        let reduce = |pod: core::Pod| {
            let pod = Pod::from_object(&pod);
            if pod.finished {
                return None;
            }
            if !pod.is_other() {
                return Some(Kept::Whole(Box::new(pod)));
            }
            let [cpu, memory, storage, _] = pod.host.0;
            Some(Kept::Other { node: numbers.hash_one(pod.node?), cpu, memory, storage })
        };
        match self.pods.take(event, reduce, |pod| numbers.hash_one(key_of(pod))) {
            Change::Nothing => false,
            Change::All(_) => true,
            Change::One(key, before) => before.iter().chain(self.pods.get(&key)).any(|pod| self.is_seen(pod)),
        }
    }

    /// Whether a pod makes a difference to anything.
    fn is_seen(&self, pod: &Kept) -> bool {
        match pod {
            Kept::Whole(_) => true,
            Kept::Other { node, .. } => {
                let mut with_devices = self.nodes.iter().filter(|(_, node)| !node.allocatable.is_empty());
                with_devices.any(|(name, _)| self.numbers.hash_one(name) == *node)
            }
        }
    }

    /// Whether all lists have been read once.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        let devices = !self.with_devices || (self.slices.is_complete() && self.claims.is_complete());
        self.nodes.is_complete() && self.pods.is_complete() && devices
    }

    /// The nodes and pods, those that wait for a node among them; `None` until all lists have been read once.
    #[must_use]
    pub fn snapshot(&self) -> Option<Snapshot> {
        let nodes: BTreeMap<String, Arc<Node>> =
            self.nodes.iter().map(|(name, node)| (name.clone(), Arc::clone(node))).collect();
        let mut pods: Vec<Pod> = Vec::new();
        let mut sums: HashMap<u64, Amounts> = HashMap::new();
        for (_, pod) in self.pods.iter() {
            match pod {
                Kept::Whole(pod) => pods.push(Pod::clone(pod)),
                Kept::Other { node, cpu, memory, storage } => {
                    let sum = sums.entry(*node).or_default();
                    *sum = sum.plus(Amounts([*cpu, *memory, *storage, 1]));
                }
            }
        }
        // In order, so that the same cluster always gives the same snapshot.
        pods.sort_unstable_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        let sum_of = |name: &String| Some((name.clone(), *sums.get(&self.numbers.hash_one(name))?));
        let others = nodes.keys().filter_map(sum_of).collect();
        let slices = self.slices.iter().map(|(name, slice)| (name.clone(), Arc::clone(slice))).collect();
        let claims = self.claims.iter().map(|(key, held)| (key.clone(), held.clone())).collect();
        self.is_complete().then_some(Snapshot { nodes, pods, others, slices, claims })
    }
}

/// Namespace and name of a pod.
pub(super) fn key_of(pod: &core::Pod) -> PodKey {
    (pod.metadata.namespace.clone().unwrap_or_default(), pod.metadata.name.clone().unwrap_or_default())
}

#[cfg(test)]
mod tests;
