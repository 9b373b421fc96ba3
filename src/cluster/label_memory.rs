//! Bridges the moment in which the labels of a node's GPUs are gone: GPU Feature Discovery and Node Feature Discovery
//! remove them when they restart, and nothing about the hardware has changed. Pure: the time is passed in.
//!
//! Only absence is bridged, and only while the node still hands out GPUs and none of its products has changed; a label
//! that is there, whatever it says, is taken as it is.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::inventory::{Meaning, Node, Sources};

/// The GPU labels that each node was last seen with. Those of one source come and go together: the one that says that a
/// GPU is shared must not stay away while the one that says its memory is bridged.
#[derive(Debug, Default)]
pub struct LabelMemory {
    sources: Sources,
    seen: HashMap<String, Seen>,
}

#[derive(Debug)]
struct Seen {
    /// The node as it was then: shared with the views of that time.
    node: Arc<Node>,
    /// When a memory label was first found missing; `None` while it is there.
    missing_since: Option<Instant>,
}

impl LabelMemory {
    /// Remembers what these sources say.
    #[must_use]
    pub fn new(sources: Sources) -> Self {
        Self { sources, seen: HashMap::new() }
    }

    /// Puts back labels that vanished less than `grace` ago, and remembers what is there. Returns when the next of the
    /// bridged labels is given up: the caller should ask again then.
    pub fn bridge(
        &mut self,
        nodes: &mut BTreeMap<String, Arc<Node>>,
        now: Instant,
        grace: Duration,
    ) -> Option<Instant> {
        self.seen.retain(|name, _| nodes.contains_key(name));
        let mut next = None::<Instant>;
        for node in nodes.values_mut() {
            if has_memory_label(&self.sources, &node.labels) {
                let seen = Seen { node: Arc::clone(node), missing_since: None };
                match self.seen.get_mut(&node.name) {
                    Some(before) => *before = seen,
                    None => {
                        self.seen.insert(node.name.clone(), seen);
                    }
                }
                continue;
            }
            let Some(seen) = self.seen.get_mut(&node.name) else { continue };
            let given_up = *seen.missing_since.get_or_insert(now) + grace;
            if given_up <= now
                || !hands_out_gpus(&self.sources, node)
                || other_product(&self.sources, &seen.node.labels, &node.labels)
            {
                self.seen.remove(&node.name);
                continue;
            }
            let bridged = Arc::make_mut(node);
            for (key, value) in seen.node.labels.iter().filter(|(key, _)| self.sources.is_about_gpus(key)) {
                bridged.labels.entry(key.clone()).or_insert_with(|| value.clone());
            }
            next = Some(next.map_or(given_up, |earliest| earliest.min(given_up)));
        }
        next
    }
}

fn has_memory_label(sources: &Sources, labels: &BTreeMap<String, String>) -> bool {
    labels.keys().any(|key| sources.meaning(key) == Meaning::Memory)
}

/// Whether a product label is there and names another GPU than it did.
fn other_product(sources: &Sources, seen: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> bool {
    seen.iter()
        .filter(|(key, _)| sources.is_about_gpus(key) && sources.meaning(key) == Meaning::Product)
        .any(|(key, value)| now.get(key).is_some_and(|product| product != value))
}

fn hands_out_gpus(sources: &Sources, node: &Node) -> bool {
    node.allocatable.iter().any(|(resource, count)| *count > 0 && sources.is_resource(resource))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_mins(2);

    fn cluster(labels: &[(&str, &str)], gpus: u64) -> BTreeMap<String, Arc<Node>> {
        let node = Node {
            name: "node-a".to_owned(),
            labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            allocatable: BTreeMap::from([("nvidia.com/gpu".to_owned(), gpus)]),
            ready: true,
            ..Node::default()
        };
        BTreeMap::from([(node.name.clone(), Arc::new(node))])
    }

    /// A second, the labels then, and the GPUs that the node hands out.
    type Step = (u64, &'static [(&'static str, &'static str)], u64);

    /// What `nvidia.com/gpu.memory` is taken to be at each of a row of moments (in seconds) and labels.
    fn check(steps: &[Step], expected: &[Option<&str>]) {
        let start = Instant::now();
        let mut memory = LabelMemory::default();
        let seen: Vec<Option<String>> = steps
            .iter()
            .map(|(second, labels, gpus)| {
                let mut nodes = cluster(labels, *gpus);
                let next = memory.bridge(&mut nodes, start + Duration::from_secs(*second), GRACE);
                let label = nodes["node-a"].labels.get("nvidia.com/gpu.memory").cloned();
                let bridged =
                    label.is_some() && !labels.iter().any(|(key, _)| *key == "nvidia.com/gpu.memory");
                assert_eq!(next.is_some(), bridged, "asks to be called again only while it bridges");
                label
            })
            .collect();
        assert_eq!(seen, expected.iter().map(|label| label.map(str::to_owned)).collect::<Vec<_>>());
    }

    const T4: &[(&str, &str)] = &[("nvidia.com/gpu.memory", "15360"), ("nvidia.com/gpu.product", "Tesla-T4")];
    const L4: &[(&str, &str)] = &[("nvidia.com/gpu.memory", "23034")];

    #[test]
    fn absence_is_bridged_for_the_grace_time() {
        check(
            &[(0, T4, 4), (10, &[], 4), (129, &[], 4), (130, &[], 4), (131, &[], 4)],
            &[Some("15360"), Some("15360"), Some("15360"), None, None],
        );
    }

    #[test]
    fn a_change_is_taken_at_once() {
        check(
            &[(0, T4, 4), (1, L4, 4), (2, &[("nvidia.com/gpu.memory", "")], 4)],
            &[Some("15360"), Some("23034"), Some("")],
        );
    }

    #[test]
    fn a_label_that_comes_back_starts_the_grace_time_anew() {
        check(
            &[(0, T4, 4), (10, &[], 4), (100, T4, 4), (200, &[], 4), (319, &[], 4), (320, &[], 4)],
            &[Some("15360"), Some("15360"), Some("15360"), Some("15360"), Some("15360"), None],
        );
    }

    #[test]
    fn a_node_that_hands_out_no_gpu_is_not_bridged() {
        check(&[(0, T4, 4), (1, &[], 0), (2, &[], 4)], &[Some("15360"), None, None]);
    }

    #[test]
    fn a_node_never_seen_with_the_label_is_not_bridged() {
        check(&[(0, &[("nvidia.com/gpu.product", "Tesla-T4")], 4), (1, &[], 4)], &[None, None]);
    }

    #[test]
    fn without_a_grace_time_nothing_is_bridged() {
        let mut memory = LabelMemory::default();
        let now = Instant::now();
        memory.bridge(&mut cluster(T4, 4), now, Duration::ZERO);
        let mut nodes = cluster(&[], 4);
        assert_eq!(memory.bridge(&mut nodes, now, Duration::ZERO), None);
        assert!(nodes["node-a"].labels.is_empty());
    }

    #[test]
    fn what_is_there_wins_over_what_is_remembered() {
        let mut memory = LabelMemory::default();
        let now = Instant::now();
        memory.bridge(&mut cluster(T4, 4), now, GRACE);
        let mut nodes = cluster(&[("nvidia.com/mig.config.state", "pending")], 4);
        memory.bridge(&mut nodes, now, GRACE);
        let labels = &nodes["node-a"].labels;
        assert_eq!(labels["nvidia.com/mig.config.state"], "pending");
        assert_eq!(labels["nvidia.com/gpu.memory"], "15360");
    }

    #[test]
    fn another_product_is_another_gpu() {
        check(
            &[(0, T4, 4), (1, &[("nvidia.com/gpu.product", "NVIDIA-L4")], 4), (2, &[], 4)],
            &[Some("15360"), None, None],
        );
    }

    #[test]
    fn a_node_that_is_gone_is_forgotten() {
        let mut memory = LabelMemory::default();
        let now = Instant::now();
        memory.bridge(&mut cluster(T4, 4), now, GRACE);
        memory.bridge(&mut BTreeMap::new(), now, GRACE);
        let mut nodes = cluster(&[], 4);
        memory.bridge(&mut nodes, now, GRACE);
        assert!(nodes["node-a"].labels.is_empty());
    }
}
