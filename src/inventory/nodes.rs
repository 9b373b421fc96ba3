//! A snapshot with everything that does not depend on a question worked out: pools, usage, classes of identical nodes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use super::groups::{Group, Grouping, Groupings, NodeGpus, Pools};
use super::usage::{NodeUsage, Usage};
use super::{GpuPool, Node, Owner, Snapshot, Sources, Taint};
use crate::units::Bytes;

/// Nodes where an owner has pods, by what is free to the owner there: each with what these hold.
type Apart<'a> = BTreeMap<Vec<GpuPool>, Vec<(usize, &'a NodeUsage)>>;

/// A snapshot with everything that does not depend on a question worked out: pools, usage, classes of identical nodes.
#[derive(Default)]
pub struct Inventory {
    nodes: Vec<NodeGpus>,
    /// The nodes' names, in the same order.
    names: Vec<Arc<str>>,
    /// Indices into `nodes`: those that no question can tell apart but by the labels that it selects on.
    classes: Vec<Vec<usize>>,
    /// Where the nodes may have their labels from.
    sources: Sources,
    usage: Usage,
    /// Per ModelDeployment, by namespace and name, what its own pods hold: by index into `nodes`.
    own: HashMap<(String, String), BTreeMap<usize, NodeUsage>>,
    groupings: Groupings,
}

impl PartialEq for Inventory {
    fn eq(&self, other: &Self) -> bool {
        // All else follows from these.
        self.nodes == other.nodes && self.usage == other.usage && self.own == other.own
    }
}

impl Eq for Inventory {}

impl fmt::Debug for Inventory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { nodes, classes, usage, own, .. } = self;
        f.debug_struct("Inventory")
            .field("nodes", nodes)
            .field("classes", classes)
            .field("usage", usage)
            .field("own", own)
            .finish_non_exhaustive()
    }
}

impl Inventory {
    /// Reads a snapshot, by what these sources know of labels.
    #[must_use]
    pub fn new(snapshot: Snapshot, sources: &Sources) -> Self {
        let mut usage = Usage::default();
        let mut of_owners: HashMap<(String, String), Usage> = HashMap::new();
        for pod in snapshot.pods.iter().filter(|pod| !pod.finished) {
            let Some(node) = &pod.node else { continue };
            usage.bind(node, pod);
            if let Some(name) = &pod.model_deployment {
                of_owners.entry((pod.namespace.clone(), name.clone())).or_default().bind(node, pod);
            }
        }
        let mut shared = HashMap::new();
        let nodes: Vec<NodeGpus> = snapshot
            .nodes
            .into_values()
            .map(|node| {
                let mut pools = sources.pools(&node);
                set_free(&mut pools, |resource| usage.of(&node.name)?.get(resource).map(super::Held::total));
                let pools = share(pools, &mut shared);
                NodeGpus { node, pools }
            })
            .collect();
        let index: HashMap<&str, usize> =
            nodes.iter().enumerate().map(|(index, entry)| (entry.node.name.as_str(), index)).collect();
        let own = of_owners
            .into_iter()
            .map(|(owner, usage)| {
                let held =
                    usage.into_nodes().filter_map(|(node, held)| Some((*index.get(node.as_str())?, held)));
                (owner, held.collect())
            })
            .collect();
        // Of a network card, or of a node that is not there, no question can see anything.
        let usage = nodes
            .iter()
            .filter_map(|entry| {
                usage.take(&entry.node.name, |name| entry.pools.iter().any(|pool| pool.resource == name))
            })
            .collect();
        let names = nodes.iter().map(|entry| entry.node.name.as_str().into()).collect();
        let present: Vec<&Node> = nodes.iter().map(|entry| &entry.node).collect();
        let sources = sources.of_cluster(&present);
        let classes = classes(&nodes);
        Self { nodes, names, classes, sources, usage, own, groupings: Groupings::default() }
    }

    /// Where the nodes may have their labels from.
    #[must_use]
    pub const fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Every node with its GPUs, by name.
    #[must_use]
    pub fn nodes(&self) -> &[NodeGpus] {
        &self.nodes
    }

    /// What pods hold, by node.
    #[must_use]
    pub const fn usage(&self) -> &Usage {
        &self.usage
    }

    /// How many classes of identical nodes there are.
    #[must_use]
    pub fn class_count(&self) -> usize {
        self.classes.len()
    }

    /// Whether any node has a GPU, or labels that say so.
    #[must_use]
    pub fn has_gpus(&self) -> bool {
        self.pools().next().is_some()
    }

    /// The most GPUs of one kind that a node hands out.
    #[must_use]
    pub fn most_gpus_per_node(&self) -> u64 {
        self.pools().map(|pool| pool.allocatable).max().unwrap_or(0)
    }

    /// The memory of the largest GPU whose memory is known.
    #[must_use]
    pub fn largest_gpu(&self) -> Option<Bytes> {
        self.pools().filter_map(GpuPool::usable_memory).max()
    }

    /// The pools of one node of every class: the others have the same.
    fn pools(&self) -> impl Iterator<Item = &GpuPool> {
        let first = |class: &Vec<usize>| self.nodes.get(*class.first()?);
        self.classes.iter().filter_map(first).flat_map(|entry| entry.pools.iter().map(AsRef::as_ref))
    }

    /// The nodes, grouped so that a question that selects on these labels cannot tell the members of a group apart.
    /// What the owner's pods hold counts as free. The cost follows the groups and the owner's nodes, not all nodes.
    pub(crate) fn groups(&self, owner: Option<Owner<'_>>, labels: &[&str]) -> Vec<Group<'_>> {
        let grouping =
            self.groupings.get(labels, || Grouping::new(&self.nodes, &self.names, &self.classes, labels));
        let own = owner.and_then(|owner| self.own.get(&(owner.namespace.to_owned(), owner.name.to_owned())));
        // The nodes with own pods, by group, and there by what is free to the owner.
        let mut apart: BTreeMap<usize, Apart<'_>> = BTreeMap::new();
        for (index, held) in own.into_iter().flatten() {
            let (Some(entry), Some((group, _))) = (self.nodes.get(*index), grouping.places.get(*index))
            else {
                continue;
            };
            let pools = self.pools_for_owner(entry, held);
            apart.entry(*group).or_default().entry(pools).or_default().push((*index, held));
        }
        let mut groups = Vec::with_capacity(grouping.groups.len());
        for (at, alike) in grouping.groups.iter().enumerate() {
            let Some(entry) = self.nodes.get(alike.node) else { continue };
            let parts = apart.remove(&at).unwrap_or_default();
            let mut left_out: Vec<usize> = parts
                .values()
                .flatten()
                .filter_map(|(index, _)| grouping.places.get(*index).map(|(_, position)| *position))
                .collect();
            left_out.sort_unstable();
            let rest = if left_out.is_empty() { alike.names.clone() } else { alike.names.without(left_out) };
            if !rest.is_empty() {
                let pools = Arc::clone(&entry.pools);
                groups.push(Group { node: &entry.node, pools, names: rest, own: BTreeMap::new() });
            }
            groups.extend(parts.into_iter().map(|(pools, members)| Group {
                node: &entry.node,
                pools: pools.into_iter().map(Arc::new).collect(),
                names:
                    members.iter().filter_map(|(index, _)| self.names.get(*index)).map(Arc::clone).collect(),
                own: sum(members.iter().map(|(_, held)| *held)),
            }));
        }
        groups
    }

    /// A node's pools, with what the owner's pods hold counted as free.
    fn pools_for_owner(&self, entry: &NodeGpus, own: &NodeUsage) -> Vec<GpuPool> {
        let mut pools: Vec<GpuPool> = entry.pools.iter().map(|pool| GpuPool::clone(pool)).collect();
        let all = self.usage.of(&entry.node.name);
        set_free(&mut pools, |resource| {
            let all = all?.get(resource)?;
            Some(own.get(resource).map_or(*all, |own| all.without(own)).total())
        });
        pools
    }
}

/// What is left of each pool, given what is held of a resource; an over-committed one has nothing left.
fn set_free(pools: &mut [GpuPool], held: impl Fn(&str) -> Option<u128>) {
    for pool in pools {
        let taken = held(&pool.resource).unwrap_or(0);
        pool.free = pool.allocatable.saturating_sub(u64::try_from(taken).unwrap_or(u64::MAX));
    }
}

/// What is held in all, by resource.
fn sum<'a>(usages: impl Iterator<Item = &'a NodeUsage>) -> BTreeMap<String, u64> {
    let mut sum: BTreeMap<String, u64> = BTreeMap::new();
    for (resource, held) in usages.flatten() {
        let total = sum.entry(resource.clone()).or_default();
        *total = total.saturating_add(u64::try_from(held.total()).unwrap_or(u64::MAX));
    }
    sum
}

/// The same pools as another node has, where one has.
fn share(pools: Vec<GpuPool>, shared: &mut HashMap<Vec<GpuPool>, Pools>) -> Pools {
    if let Some(known) = shared.get(&pools) {
        return Arc::clone(known);
    }
    let new: Pools = pools.iter().cloned().map(Arc::new).collect();
    shared.insert(pools, Arc::clone(&new));
    new
}

/// What a question can see of a node besides its labels.
type Visible<'a> = (*const Arc<GpuPool>, BTreeSet<&'a Taint>, bool, bool);

fn classes(nodes: &[NodeGpus]) -> Vec<Vec<usize>> {
    let mut classes: HashMap<Visible<'_>, Vec<usize>> = HashMap::new();
    for (index, entry) in nodes.iter().enumerate() {
        let node = &entry.node;
        // Pools that are the same are the same object.
        let key = (entry.pools.as_ptr(), node.taints.iter().collect(), node.ready, node.unschedulable);
        classes.entry(key).or_default().push(index);
    }
    let mut classes: Vec<Vec<usize>> = classes.into_values().collect();
    classes.sort_unstable();
    classes
}
