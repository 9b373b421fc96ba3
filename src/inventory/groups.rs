//! Nodes that are the same to a question, found once for all questions that select on the same labels.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use super::host::{Amounts, Capacity};
use super::names::NodeNames;
use super::room::Room;
use super::term::NAME_FIELD;
use super::{GpuPool, Node};

/// GPUs of a node, by kind: shared by all nodes that have the same.
pub type Pools = Arc<[Arc<GpuPool>]>;

/// A node and its GPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeGpus {
    /// The node.
    pub node: Arc<Node>,
    /// Its GPUs, by kind; what is free takes every pod into account.
    pub pools: Pools,
}

/// Nodes that are the same to one question.
pub(crate) struct Group<'a> {
    /// One of them.
    pub(crate) node: &'a Node,
    /// The GPUs of each; what the asker's own pods hold counts as free.
    pub(crate) pools: Pools,
    /// Their names, sorted.
    pub(crate) names: NodeNames,
    /// What the asker's own pods hold of them all, by resource.
    pub(crate) own: BTreeMap<String, u64>,
    /// Whether they have what a pod of the asker's requests besides GPUs.
    pub(crate) room: Room,
}

impl Group<'_> {
    /// How many nodes there are.
    pub(crate) fn count(&self) -> u64 {
        u64::try_from(self.names.len()).unwrap_or(u64::MAX)
    }

    /// What the asker's own pods hold of a resource.
    pub(crate) fn held_by_own(&self, resource: &str) -> u64 {
        self.own.get(resource).copied().unwrap_or(0)
    }
}

/// Nodes that questions which select on the same labels cannot tell apart.
#[derive(Debug)]
pub(super) struct Alike {
    /// Where one of them is among the nodes.
    pub(super) node: usize,
    pub(super) names: NodeNames,
    /// Where each of them is, in the order of the names.
    pub(super) members: Vec<usize>,
    /// How many GPUs each hands out.
    pub(super) gpus: u64,
    /// The least that any of them has free of what every node has; `None` where none says what it has.
    pub(super) least: Capacity,
}

impl Alike {
    /// Whether all of them have room for so many pods that each request so much, whoever asks.
    pub(super) fn have_room(&self, pods: u64, requested: Amounts) -> bool {
        let mut each = self.least.0.iter().zip(requested.0);
        each.all(|(least, requested)| least.is_none_or(|least| requested.saturating_mul(pods) <= least))
    }
}

/// All nodes by groups, for some set of labels.
#[derive(Debug)]
pub(super) struct Grouping {
    pub(super) groups: Vec<Alike>,
    /// Of each node its group, and where it is in there.
    pub(super) places: Vec<(usize, usize)>,
}

impl Grouping {
    /// Divides classes of identical nodes by the values of these labels, and by their names where these are asked for.
    pub(super) fn new(
        nodes: &[NodeGpus],
        names: &[Arc<str>],
        classes: &[Vec<usize>],
        free: &[Capacity],
        labels: &[&str],
    ) -> Self {
        let mut members: Vec<Vec<usize>> = Vec::with_capacity(classes.len());
        for class in classes {
            let mut parts: HashMap<Vec<Option<&str>>, Vec<usize>> = HashMap::new();
            for index in class {
                let of = |label: &&str| {
                    let node = &nodes.get(*index)?.node;
                    if *label == NAME_FIELD {
                        Some(node.name.as_str())
                    } else {
                        node.labels.get(*label).map(String::as_str)
                    }
                };
                parts.entry(labels.iter().map(of).collect()).or_default().push(*index);
            }
            members.extend(parts.into_values());
        }
        // In an order of their own, so that nothing depends on that of a map.
        members.sort_unstable();
        let mut places = vec![(0, 0); nodes.len()];
        for (group, members) in members.iter().enumerate() {
            for (position, index) in members.iter().enumerate() {
                if let Some(place) = places.get_mut(*index) {
                    *place = (group, position);
                }
            }
        }
        let groups = members.into_iter().map(|members| Alike {
            node: members.first().copied().unwrap_or_default(),
            names: members.iter().filter_map(|index| names.get(*index)).map(Arc::clone).collect(),
            gpus: members.first().and_then(|index| nodes.get(*index)).map_or(0, |entry| {
                entry.pools.iter().fold(0_u64, |sum, pool| sum.saturating_add(pool.allocatable))
            }),
            least: members
                .iter()
                .filter_map(|index| free.get(*index))
                .fold(Capacity::default(), |least, free| least.least(*free)),
            members,
        });
        Self { groups: groups.collect(), places }
    }
}

/// Groupings that have been asked for. They follow from the nodes, so they are no part of what an inventory is.
#[derive(Default)]
pub(super) struct Groupings(Mutex<HashMap<Vec<String>, Arc<Grouping>>>);

/// Sets of labels whose grouping is kept: users choose the labels, and each costs a few bytes for every node.
const MOST_KEPT: usize = 32;

impl Groupings {
    /// The grouping for these labels, made if it has not been asked for before.
    pub(super) fn get(&self, labels: &[&str], make: impl FnOnce() -> Grouping) -> Arc<Grouping> {
        let key: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        let kept =
            |this: &Self| this.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key).map(Arc::clone);
        if let Some(grouping) = kept(self) {
            return grouping;
        }
        // Not under the lock: two who ask at once make the same.
        let grouping = Arc::new(make());
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < MOST_KEPT {
            all.insert(key, Arc::clone(&grouping));
        }
        grouping
    }
}
