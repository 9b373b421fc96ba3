//! A snapshot with everything that does not depend on a question worked out: pools, usage, classes of identical nodes.

use std::collections::{BTreeMap, BTreeSet};

use super::{GpuPool, Node, Owner, Snapshot, Sources, Taint};
use crate::units::Bytes;

/// A node and its GPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeGpus {
    /// The node.
    pub node: Node,
    /// Its GPUs, by kind; what is free takes every pod into account.
    pub pools: Vec<GpuPool>,
}

/// A snapshot with everything that does not depend on a question worked out: pools, usage, classes of identical nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    nodes: Vec<NodeGpus>,
    /// Indices into `nodes`: those that no question can tell apart but by the labels that it selects on.
    classes: Vec<Vec<usize>>,
    /// Per ModelDeployment, by namespace and name: on the nodes where it has pods, what all others hold.
    held_by_others: BTreeMap<(String, String), Usage>,
}

/// Resources held, by node and resource. Wider than a request, so that a sum cannot overflow.
type Usage = BTreeMap<String, BTreeMap<String, u128>>;

/// Nodes that are the same to one question.
pub(crate) struct Group<'a> {
    /// One of them.
    pub(crate) node: &'a Node,
    /// The GPUs of each.
    pub(crate) pools: Vec<GpuPool>,
    /// Their names, sorted.
    pub(crate) names: Vec<&'a str>,
}

impl Inventory {
    /// Reads a snapshot, by what these sources know of labels.
    #[must_use]
    pub fn new(snapshot: Snapshot, sources: &Sources) -> Self {
        let mut used = Usage::new();
        let mut held: BTreeMap<(String, String), Usage> = BTreeMap::new();
        for pod in snapshot.pods.iter().filter(|pod| !pod.finished) {
            let Some(node) = &pod.node else { continue };
            count(&mut used, node, &pod.requests);
            if let Some(name) = &pod.model_deployment {
                let own = held.entry((pod.namespace.clone(), name.clone())).or_default();
                count(own, node, &pod.requests);
            }
        }
        let nodes: Vec<NodeGpus> = snapshot
            .nodes
            .into_values()
            .map(|node| {
                let mut pools = sources.pools(&node);
                set_free(&mut pools, used.get(&node.name));
                NodeGpus { node, pools }
            })
            .collect();
        let classes = classes(&nodes);
        let held_by_others = held
            .into_iter()
            .map(|(owner, own)| {
                let others = own.into_iter().map(|(node, own)| {
                    let rest = without(used.get(&node), &own);
                    (node, rest)
                });
                (owner, others.collect())
            })
            .collect();
        Self { nodes, classes, held_by_others }
    }

    /// Every node with its GPUs, by name.
    #[must_use]
    pub fn nodes(&self) -> &[NodeGpus] {
        &self.nodes
    }

    /// How many classes of identical nodes there are.
    #[must_use]
    pub fn class_count(&self) -> usize {
        self.classes.len()
    }

    /// Whether any node has a GPU, or labels that say so.
    #[must_use]
    pub fn has_gpus(&self) -> bool {
        self.nodes.iter().any(|node| !node.pools.is_empty())
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

    fn pools(&self) -> impl Iterator<Item = &GpuPool> {
        self.nodes.iter().flat_map(|node| &node.pools)
    }

    /// The nodes, grouped so that a question that selects on these labels cannot tell the members of a group apart.
    /// What the owner's pods hold counts as free.
    pub(crate) fn groups(
        &self,
        owner: Option<Owner<'_>>,
        selected: &BTreeMap<String, String>,
    ) -> Vec<Group<'_>> {
        let own = owner
            .and_then(|owner| self.held_by_others.get(&(owner.namespace.to_owned(), owner.name.to_owned())));
        let mut groups = Vec::with_capacity(self.classes.len());
        for class in &self.classes {
            let mut parts: BTreeMap<Distinct<'_>, Vec<&NodeGpus>> = BTreeMap::new();
            for member in class.iter().filter_map(|index| self.nodes.get(*index)) {
                let values =
                    selected.keys().map(|key| member.node.labels.get(key).map(String::as_str)).collect();
                let adjusted = own.and_then(|own| own.get(&member.node.name)).map(|others| {
                    let mut pools = member.pools.clone();
                    set_free(&mut pools, Some(others));
                    pools
                });
                parts.entry((values, adjusted)).or_default().push(member);
            }
            for ((_, adjusted), members) in parts {
                let Some(first) = members.first() else { continue };
                groups.push(Group {
                    node: &first.node,
                    pools: adjusted.unwrap_or_else(|| first.pools.clone()),
                    names: members.iter().map(|member| member.node.name.as_str()).collect(),
                });
            }
        }
        groups
    }
}

fn count(usage: &mut Usage, node: &str, requests: &BTreeMap<String, u64>) {
    let node = usage.entry(node.to_owned()).or_default();
    for (resource, amount) in requests {
        let sum = node.entry(resource.clone()).or_default();
        *sum = sum.saturating_add(u128::from(*amount));
    }
}

fn without(all: Option<&BTreeMap<String, u128>>, own: &BTreeMap<String, u128>) -> BTreeMap<String, u128> {
    let all = all.into_iter().flatten();
    all.map(|(resource, amount)| {
        let own = own.get(resource).copied().unwrap_or(0);
        (resource.clone(), amount.saturating_sub(own))
    })
    .collect()
}

/// What is left of each pool; an over-committed one has nothing left.
fn set_free(pools: &mut [GpuPool], used: Option<&BTreeMap<String, u128>>) {
    for pool in pools {
        let taken = used.and_then(|used| used.get(&pool.resource)).copied().unwrap_or(0);
        pool.free = pool.allocatable.saturating_sub(u64::try_from(taken).unwrap_or(u64::MAX));
    }
}

/// What tells members of a class apart: the values of the labels selected on, and the pools where the owner has pods.
type Distinct<'a> = (Vec<Option<&'a str>>, Option<Vec<GpuPool>>);

/// What a question can see of a node besides its labels.
type Visible<'a> = (&'a [GpuPool], BTreeSet<&'a Taint>, bool, bool);

fn classes(nodes: &[NodeGpus]) -> Vec<Vec<usize>> {
    let mut classes: BTreeMap<Visible<'_>, Vec<usize>> = BTreeMap::new();
    for (index, member) in nodes.iter().enumerate() {
        let node = &member.node;
        let key = (member.pools.as_slice(), node.taints.iter().collect(), node.ready, node.unschedulable);
        classes.entry(key).or_default().push(index);
    }
    classes.into_values().collect()
}
