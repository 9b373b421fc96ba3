//! A snapshot with everything that does not depend on a question worked out: pools, usage, classes of identical nodes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use super::devices::Offered;
use super::groups::{Alike, Group, Grouping, Groupings, NodeGpus, Pools};
use super::host::{Capacity, Requests};
use super::room::{self, Part, Room, Seen};
use super::usage::{self, HostUsage, NodeUsage, Own, Usage, left_of};
use super::{GpuPool, Node, NodeNames, Owner, Promise, Promises, Snapshot, Sources, Taint};
use crate::units::Bytes;

/// Nodes of which to an owner something else is free than to others, by what is: each with what the owner's pods hold.
type Apart<'a> = BTreeMap<Vec<GpuPool>, Vec<(usize, Option<&'a Own>)>>;

/// A snapshot with everything that does not depend on a question worked out (pools, usage, classes of identical nodes), and
/// what of it is promised. A copy costs nothing.
#[derive(Clone, Default)]
pub struct Inventory {
    known: Arc<Known>,
    promises: Arc<Promises>,
}

/// What the snapshot alone comes to.
#[derive(Default)]
struct Known {
    nodes: Vec<NodeGpus>,
    /// The nodes' names, in the same order.
    names: Vec<Arc<str>>,
    /// Indices into `nodes`: those that no question can tell apart but by the labels that it selects on.
    classes: Vec<Vec<usize>>,
    /// Where the nodes may have their labels from.
    sources: Sources,
    usage: Usage,
    /// What pods hold of the nodes' CPU and memory, in the order of the nodes.
    host: Vec<HostUsage>,
    /// What they leave of it.
    free: Vec<Capacity>,
    /// Per ModelDeployment, by namespace and name, what its own pods hold: by index into `nodes`.
    own: HashMap<(String, String), BTreeMap<usize, Own>>,
    groupings: Groupings,
}

impl PartialEq for Inventory {
    fn eq(&self, other: &Self) -> bool {
        // All else follows from these.
        let (ours, theirs) = (&self.known, &other.known);
        ours.nodes == theirs.nodes
            && ours.usage == theirs.usage
            && ours.host == theirs.host
            && ours.own == theirs.own
            && self.promises == other.promises
    }
}

impl Eq for Inventory {}

impl fmt::Debug for Inventory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Known { nodes, classes, usage, host, own, .. } = self.known.as_ref();
        f.debug_struct("Inventory")
            .field("nodes", nodes)
            .field("classes", classes)
            .field("usage", usage)
            .field("host", host)
            .field("own", own)
            .field("promises", &self.promises)
            .finish_non_exhaustive()
    }
}

impl Inventory {
    /// Reads a snapshot, by what these sources know of labels.
    #[must_use]
    pub fn new(snapshot: Snapshot, sources: &Sources) -> Self {
        let mut usage = Usage::default();
        for pod in snapshot.pods.iter().filter(|pod| !pod.finished) {
            if let Some(node) = pod.holds() {
                usage.count(node, pod);
            }
        }
        let mut shared = HashMap::new();
        let offered = Offered::new(snapshot.slices.values().map(AsRef::as_ref), snapshot.claims.values());
        let nodes: Vec<NodeGpus> = snapshot
            .nodes
            .into_values()
            .map(|node| {
                let mut pools = sources.pools(&node);
                set_free(&mut pools, |resource| usage.of(&node.name)?.get(resource).map(super::Held::total));
                let pools = share(offered.complete(&node.name, pools), &mut shared);
                NodeGpus { node, pools }
            })
            .collect();
        let index: HashMap<&str, usize> =
            nodes.iter().enumerate().map(|(index, entry)| (entry.node.name.as_str(), index)).collect();
        let mut host = vec![HostUsage::default(); nodes.len()];
        let mut own: HashMap<(String, String), BTreeMap<usize, Own>> = HashMap::new();
        for pod in snapshot.pods.iter().filter(|pod| !pod.finished) {
            let Some(at) = pod.holds().and_then(|node| index.get(node)) else { continue };
            if let Some(host) = host.get_mut(*at) {
                host.add(pod.host);
            }
            if let Some(name) = &pod.model_deployment {
                let owner = own.entry((pod.namespace.clone(), name.clone())).or_default();
                let own = owner.entry(*at).or_default();
                own.host.add(pod.host);
                own.pods = own.pods.saturating_add(u64::from(pod.node.is_some()));
                usage::add(&mut own.usage, pod);
            }
        }
        for (node, requested) in &snapshot.others {
            if let Some(host) = index.get(node.as_str()).and_then(|at| host.get_mut(*at)) {
                host.add(*requested);
            }
        }
        // What no question can see makes no difference: anything on a node without GPUs, and what a node does not hand out.
        for (entry, host) in nodes.iter().zip(&mut host) {
            if entry.pools.is_empty() {
                *host = HostUsage::default();
            }
        }
        let free = nodes.iter().zip(&host).map(|(entry, host)| host.left_of(entry.node.host)).collect();
        let usage = nodes
            .iter()
            .filter(|entry| !entry.pools.is_empty())
            .filter_map(|entry| {
                let hands_out = |name: &str| entry.node.allocatable.contains_key(name);
                let is_pool = |name: &str| entry.pools.iter().any(|pool| pool.resource == name);
                usage.take(&entry.node.name, |name| is_pool(name) || hands_out(name))
            })
            .collect();
        let names = nodes.iter().map(|entry| entry.node.name.as_str().into()).collect();
        let present: Vec<&Node> = nodes.iter().map(|entry| entry.node.as_ref()).collect();
        let sources = sources.of_cluster(&present);
        let classes = classes(&nodes);
        let groupings = Groupings::default();
        let known = Known { nodes, names, classes, sources, usage, host, free, own, groupings };
        Self { known: Arc::new(known), promises: Arc::default() }
    }

    /// The same nodes, where this is promised, and nothing else.
    #[must_use]
    pub fn promising(&self, promises: Arc<Promises>) -> Self {
        Self { known: Arc::clone(&self.known), promises }
    }

    /// Bound, unfinished pods of an object.
    #[must_use]
    pub fn bound_pods(&self, owner: Owner<'_>) -> u64 {
        let own = self.known.own.get(&(owner.namespace.to_owned(), owner.name.to_owned()));
        own.into_iter().flatten().fold(0, |sum, (_, own)| sum.saturating_add(own.pods))
    }

    /// Where the nodes may have their labels from.
    #[must_use]
    pub fn sources(&self) -> &Sources {
        &self.known.sources
    }

    /// Every node with its GPUs, by name.
    #[must_use]
    pub fn nodes(&self) -> &[NodeGpus] {
        &self.known.nodes
    }

    /// What pods hold, by node.
    #[must_use]
    pub fn usage(&self) -> &Usage {
        &self.known.usage
    }

    /// How many classes of identical nodes there are.
    #[must_use]
    pub fn class_count(&self) -> usize {
        self.known.classes.len()
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
        let first = |class: &Vec<usize>| self.known.nodes.get(*class.first()?);
        self.known.classes.iter().filter_map(first).flat_map(|entry| entry.pools.iter().map(AsRef::as_ref))
    }

    /// The nodes, grouped so that a question that selects on these labels cannot tell the members of a group apart, and all of
    /// a group have what a pod requests besides GPUs, or none has. What the owner's pods hold counts as free. The cost follows
    /// the groups and the owner's nodes, not all nodes, but where what is requested may be short.
    pub(crate) fn groups(
        &self,
        owner: Option<Owner<'_>>,
        labels: &[&str],
        requests: &Requests,
    ) -> Vec<Group<'_>> {
        let Known { nodes, names, classes, free, .. } = self.known.as_ref();
        let grouping =
            self.known.groupings.get(labels, || Grouping::new(nodes, names, classes, free, labels));
        // By group, and there by what is free to the owner.
        let mut apart: BTreeMap<usize, Apart<'_>> = BTreeMap::new();
        for (index, Special { own, promised }) in self.special(owner) {
            let (Some(entry), Some((group, _))) = (nodes.get(index), grouping.places.get(index)) else {
                continue;
            };
            let pools = self.pools_for_owner(entry, own, &promised);
            apart.entry(*group).or_default().entry(pools).or_default().push((index, own));
        }
        let mut groups = Vec::with_capacity(grouping.groups.len());
        for (at, alike) in grouping.groups.iter().enumerate() {
            let Some(entry) = self.known.nodes.get(alike.node) else { continue };
            let parts = apart.remove(&at).unwrap_or_default();
            let mut left_out: Vec<usize> = parts
                .values()
                .flatten()
                .filter_map(|(index, _)| grouping.places.get(*index).map(|(_, position)| *position))
                .collect();
            left_out.sort_unstable();
            if is_ample(alike, requests) {
                let rest =
                    if left_out.is_empty() { alike.names.clone() } else { alike.names.without(left_out) };
                if !rest.is_empty() {
                    let pools = Arc::clone(&entry.pools);
                    let own = BTreeMap::new();
                    groups.push(Group { node: &entry.node, pools, names: rest, own, room: Room::Ample });
                }
            } else {
                let is_left_out = |position: &usize| left_out.binary_search(position).is_ok();
                let rest = alike.members.iter().enumerate().filter(|(position, _)| !is_left_out(position));
                let rest = rest.map(|(_, index)| (*index, None));
                groups.extend(self.divided(entry, &entry.pools, requests, rest));
            }
            for (pools, members) in parts {
                let pools: Pools = pools.into_iter().map(Arc::new).collect();
                if is_ample(alike, requests) {
                    groups.push(self.group(entry, &pools, Part { room: Room::Ample, members }));
                } else {
                    groups.extend(self.divided(entry, &pools, requests, members.into_iter()));
                }
            }
        }
        groups
    }

    /// The nodes of which to this owner something else is free than to others: those with pods of its own, and those that are
    /// promised to others.
    fn special<'a>(&'a self, owner: Option<Owner<'_>>) -> BTreeMap<usize, Special<'a>> {
        let of_owner =
            |owner: Owner<'_>| self.known.own.get(&(owner.namespace.to_owned(), owner.name.to_owned()));
        let own = owner.and_then(of_owner).into_iter().flatten();
        let mut special: BTreeMap<usize, Special<'_>> =
            own.map(|(index, own)| (*index, Special { own: Some(own), promised: Vec::new() })).collect();
        for (node, promised) in self.promises.to_others(owner) {
            // The nodes are in the order of their names.
            if let Ok(index) = self.known.names.binary_search_by(|name| name.as_ref().cmp(node)) {
                special.entry(index).or_default().promised = promised;
            }
        }
        special
    }

    /// To whom something of these nodes is promised, of the asker's own namespace: the names of others' objects are not for
    /// everyone to read.
    pub(crate) fn promised_to<'a>(&'a self, nodes: &'a NodeNames, asker: Owner<'a>) -> Option<&'a str> {
        let neighbours = nodes
            .iter()
            .flat_map(|node| self.promises.of(node))
            .filter(|promise| promise.namespace == asker.namespace && promise.name != asker.name);
        neighbours.map(|promise| promise.name.as_str()).min()
    }

    /// Nodes with the same pools, divided by whether they have what is requested.
    fn divided<'a>(
        &'a self,
        entry: &'a NodeGpus,
        pools: &Pools,
        requests: &Requests,
        members: impl Iterator<Item = (usize, Option<&'a Own>)>,
    ) -> Vec<Group<'a>> {
        let most = pools.iter().fold(0_u64, |sum, pool| sum.saturating_add(pool.free));
        let seen = members.filter_map(|(index, own)| {
            let node = &self.known.nodes.get(index)?.node;
            let free = match own {
                None => *self.known.free.get(index)?,
                Some(own) => self.known.host.get(index)?.without(&own.host).left_of(node.host),
            };
            Some((index, own, Seen { node, free, usage: self.known.usage.of(&node.name) }))
        });
        let parts = room::divide(requests, most, seen);
        parts.into_iter().map(|part| self.group(entry, pools, part)).collect()
    }

    fn group<'a>(&'a self, entry: &'a NodeGpus, pools: &Pools, part: Part<'_>) -> Group<'a> {
        let Part { room, members } = part;
        Group {
            node: &entry.node,
            pools: Arc::clone(pools),
            names: members
                .iter()
                .filter_map(|(index, _)| self.known.names.get(*index))
                .map(Arc::clone)
                .collect(),
            own: sum(members.iter().filter_map(|(_, own)| Some(&(*own)?.usage))),
            room,
        }
    }

    /// A node's pools, with what the owner's pods hold counted as free, and what is promised to others as held.
    fn pools_for_owner(&self, entry: &NodeGpus, own: Option<&Own>, promised: &[&Promise]) -> Vec<GpuPool> {
        let mut pools: Vec<GpuPool> = entry.pools.iter().map(|pool| GpuPool::clone(pool)).collect();
        let all = self.known.usage.of(&entry.node.name);
        set_free(&mut pools, |resource| {
            let all = all?.get(resource)?;
            let own = own.and_then(|own| own.usage.get(resource));
            Some(own.map_or(*all, |own| all.without(own)).total())
        });
        for pool in &mut pools {
            let of_pool = promised.iter().filter(|promise| promise.resource == pool.resource);
            let wanted = of_pool.fold(0_u64, |sum, promise| sum.saturating_add(promise.gpus));
            pool.promised = wanted.min(pool.free);
            pool.free -= pool.promised;
        }
        pools
    }
}

/// What makes a node another to one owner than to others.
#[derive(Default)]
struct Special<'a> {
    own: Option<&'a Own>,
    promised: Vec<&'a Promise>,
}

/// What is left of each pool, given what is held of a resource; an over-committed one has nothing left.
fn set_free(pools: &mut [GpuPool], held: impl Fn(&str) -> Option<u128>) {
    // Who holds what is claimed, the claims say.
    for pool in pools.iter_mut().filter(|pool| !pool.is_claimed()) {
        let taken = held(&pool.resource).unwrap_or(0);
        pool.free = left_of(pool.allocatable, taken);
    }
}

/// Whether all nodes of a group have what is requested for as many pods as they have GPUs, so that none needs to be looked at;
/// those without GPUs never do.
fn is_ample(alike: &Alike, requests: &Requests) -> bool {
    alike.gpus == 0 || (requests.extended.is_empty() && alike.have_room(alike.gpus, requests.host))
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
