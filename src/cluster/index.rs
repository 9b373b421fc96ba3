//! Nodes and pods, kept from watch events. Pure.
//!
//! Invariants: a list that is being read again replaces the old one only when it is complete, so that the cluster is
//! never seen empty, or half; nothing is published before both lists have been read once; an event that changes nothing
//! Loadline looks at changes nothing here.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use kube::runtime::watcher::Event;

use super::relisted::Relisted;
use crate::inventory::{Node, Pod, Snapshot};

/// Namespace and name of a pod.
pub(super) type PodKey = (String, String);

/// What is known of the cluster.
#[derive(Debug, Default)]
pub struct Index {
    nodes: Relisted<String, Node>,
    /// Pods that request extended resources and are not finished: bound, or waiting for a node.
    pods: Relisted<PodKey, Pod>,
}

impl Index {
    /// Takes in a node event; whether anything changed that matters.
    pub fn node(&mut self, event: Event<core::Node>) -> bool {
        let reduce = |node: core::Node| Some(Node::from_object(&node));
        !self.nodes.take(event, reduce, |node| node.metadata.name.clone().unwrap_or_default()).is_nothing()
    }

    /// Takes in a pod event; whether anything changed that matters. A pod without extended resources never does.
    pub fn pod(&mut self, event: Event<core::Pod>) -> bool {
        let reduce = |pod: core::Pod| {
            let pod = Pod::from_object(&pod);
            (!pod.requests.is_empty() && !pod.finished).then_some(pod)
        };
        !self.pods.take(event, reduce, key_of).is_nothing()
    }

    /// Whether both lists have been read once.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.nodes.is_complete() && self.pods.is_complete()
    }

    /// The nodes and pods, those that wait for a node among them; `None` until both lists have been read once.
    #[must_use]
    pub fn snapshot(&self) -> Option<Snapshot> {
        let nodes: BTreeMap<String, Node> =
            self.nodes.iter().map(|(name, node)| (name.clone(), node.clone())).collect();
        // In order, so that the same cluster always gives the same snapshot.
        let mut pods: Vec<(&PodKey, &Pod)> = self.pods.iter().collect();
        pods.sort_unstable_by_key(|(key, _)| *key);
        let pods = pods.into_iter().map(|(_, pod)| pod.clone()).collect();
        self.is_complete().then_some(Snapshot { nodes, pods })
    }
}

/// Namespace and name of a pod.
pub(super) fn key_of(pod: &core::Pod) -> PodKey {
    (pod.metadata.namespace.clone().unwrap_or_default(), pod.metadata.name.clone().unwrap_or_default())
}

#[cfg(test)]
mod tests;
