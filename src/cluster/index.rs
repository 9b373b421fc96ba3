//! Nodes and pods, kept from watch events. Pure.
//!
//! Invariants: a list that is being read again replaces the old one only when it is complete, so that the cluster is
//! never seen empty, or half; nothing is published before both lists have been read once; an event that changes nothing
//! Loadline looks at changes nothing here.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use k8s_openapi::api::core::v1 as core;
use kube::runtime::watcher::Event;

use crate::inventory::{Node, Pod, Snapshot};

/// Namespace and name of a pod.
type PodKey = (String, String);

/// What is known of the cluster.
#[derive(Debug, Default)]
pub struct Index {
    nodes: Relisted<String, Node>,
    pods: Relisted<PodKey, Pod>,
}

impl Index {
    /// Takes in a node event; whether anything changed that matters.
    pub fn node(&mut self, event: Event<core::Node>) -> bool {
        self.nodes.take(
            event,
            |node| Some(Node::from_object(&node)),
            |node| node.metadata.name.clone().unwrap_or_default(),
        )
    }

    /// Takes in a pod event; whether anything changed that matters. A pod without extended resources never does.
    pub fn pod(&mut self, event: Event<core::Pod>) -> bool {
        let reduce = |pod: core::Pod| {
            let pod = Pod::from_object(&pod);
            (!pod.requests.is_empty() && pod.node.is_some() && !pod.finished).then_some(pod)
        };
        self.pods.take(event, reduce, |pod| {
            (
                pod.metadata.namespace.clone().unwrap_or_default(),
                pod.metadata.name.clone().unwrap_or_default(),
            )
        })
    }

    /// Whether both lists have been read once.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.nodes.complete && self.pods.complete
    }

    /// The nodes and pods; `None` until both lists have been read once.
    #[must_use]
    pub fn snapshot(&self) -> Option<Snapshot> {
        let nodes: BTreeMap<String, Node> =
            self.nodes.now.iter().map(|(name, node)| (name.clone(), node.clone())).collect();
        // In order, so that the same cluster always gives the same snapshot.
        let mut pods: Vec<(&PodKey, &Pod)> = self.pods.now.iter().collect();
        pods.sort_unstable_by_key(|(key, _)| *key);
        let pods = pods.into_iter().map(|(_, pod)| pod.clone()).collect();
        self.is_complete().then_some(Snapshot { nodes, pods })
    }
}

/// Objects of one kind, with a second list that is being read.
#[derive(Debug)]
struct Relisted<Key, Value> {
    now: HashMap<Key, Value>,
    next: HashMap<Key, Value>,
    complete: bool,
}

impl<Key, Value> Default for Relisted<Key, Value> {
    fn default() -> Self {
        Self { now: HashMap::new(), next: HashMap::new(), complete: false }
    }
}

impl<Key: Eq + Hash, Value: PartialEq> Relisted<Key, Value> {
    fn take<Object>(
        &mut self,
        event: Event<Object>,
        reduce: impl Fn(Object) -> Option<Value>,
        key: impl Fn(&Object) -> Key,
    ) -> bool {
        match event {
            Event::Init => {
                self.next.clear();
                false
            }
            Event::InitApply(object) => {
                let key = key(&object);
                if let Some(value) = reduce(object) {
                    self.next.insert(key, value);
                }
                false
            }
            Event::InitDone => {
                let next = std::mem::take(&mut self.next);
                let changed = !self.complete || next != self.now;
                self.now = next;
                self.complete = true;
                changed
            }
            Event::Apply(object) => {
                let key = key(&object);
                match reduce(object) {
                    Some(value) if self.now.get(&key) == Some(&value) => false,
                    Some(value) => {
                        self.now.insert(key, value);
                        true
                    }
                    None => self.now.remove(&key).is_some(),
                }
            }
            Event::Delete(object) => self.now.remove(&key(&object)).is_some(),
        }
    }
}

#[cfg(test)]
mod tests;
