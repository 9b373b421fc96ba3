//! Whether nodes have what a pod requests besides GPUs, which differs from node to node: nodes are told apart by the answer, not
//! by how much each has.

use std::collections::BTreeMap;

use super::Node;
use super::host::{Capacity, HOST_RESOURCES, Requests};
use super::usage::{NodeUsage, Own, left_of};

/// Whether nodes have what a pod requests besides GPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// For as many pods as there are GPUs.
    Ample,
    /// For so many pods each, by how many of the nodes.
    Pods(BTreeMap<u64, u64>),
    /// Too little of something: each lacks the same.
    Short(Shortage),
}

/// What nodes have too little of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shortage {
    /// Of which resource.
    pub(crate) resource: String,
    /// What a pod requests.
    pub(crate) needed: u64,
    /// The most that any of them has free.
    pub(crate) free: u64,
    /// The most that any of them has.
    pub(crate) allocatable: u64,
}

/// Nodes that give the same answer.
pub(super) struct Part<'a> {
    pub(super) room: Room,
    /// Where they are among all nodes, and what the asker's pods hold there.
    pub(super) members: Vec<(usize, Option<&'a Own>)>,
}

/// What a node answers: by this they are told apart. Of what it lacks it says about how much it has, by powers of two: nodes of
/// one kind differ by a few KiB, and those of two kinds are not to be mixed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Answer<'a> {
    Enough,
    Busy(&'a str, Option<u32>),
    TooSmall(&'a str, Option<u32>),
}

/// What is known of one node.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) node: &'a Node,
    /// What others leave of what every node has.
    pub(super) free: Capacity,
    /// What pods hold of the rest.
    pub(super) usage: Option<&'a NodeUsage>,
}

/// Divides nodes by their answers. `most` is how many pods find GPUs on each.
pub(super) fn divide<'a>(
    requests: &Requests,
    most: u64,
    nodes: impl Iterator<Item = (usize, Option<&'a Own>, Seen<'a>)>,
) -> Vec<Part<'a>> {
    let mut parts: BTreeMap<Answer<'_>, Part<'a>> = BTreeMap::new();
    for (index, own, seen) in nodes {
        let (answer, found) = answer(requests, most, own, seen);
        let part = parts.entry(answer).or_insert_with(|| Part { room: found.clone(), members: Vec::new() });
        if !part.members.is_empty() {
            part.room.take(found);
        }
        part.members.push((index, own));
    }
    parts.into_values().collect()
}

impl Room {
    /// Takes in what was found of another node that gives the same answer.
    fn take(&mut self, other: Self) {
        match (self, other) {
            (Self::Pods(counts), Self::Pods(others)) => {
                for (pods, nodes) in others {
                    let count = counts.entry(pods).or_default();
                    *count = count.saturating_add(nodes);
                }
            }
            (Self::Short(most), Self::Short(other)) => {
                most.free = most.free.max(other.free);
                most.allocatable = most.allocatable.max(other.allocatable);
            }
            _ => {}
        }
    }
}

/// One node's answer: what it is too small for goes before what is in use.
fn answer<'r>(requests: &'r Requests, most: u64, own: Option<&Own>, seen: Seen<'_>) -> (Answer<'r>, Room) {
    let host =
        HOST_RESOURCES.into_iter().zip(requests.host.0).zip(seen.node.host.0.into_iter().zip(seen.free.0));
    let host = host.filter_map(|((resource, needed), (has, free))| Some((resource, needed, has?, free?)));
    let extended = requests.extended.iter().filter_map(|(resource, needed)| {
        let has = seen.node.allocatable.get(resource).copied();
        // A node that does not name a device has none; of huge pages it may say nothing.
        let has = has.or_else(|| resource.contains('/').then_some(0))?;
        let all = seen.usage.and_then(|usage| usage.get(resource)).copied().unwrap_or_default();
        let held = own.and_then(|own| own.usage.get(resource)).map_or(all, |own| all.without(own));
        Some((resource.as_str(), *needed, has, left_of(has, held.total())))
    });
    let mut busy = None;
    let mut pods = most;
    for (resource, needed, allocatable, free) in host.chain(extended) {
        let short = || Room::Short(Shortage { resource: resource.to_owned(), needed, free, allocatable });
        if allocatable < needed {
            return (Answer::TooSmall(resource, allocatable.checked_ilog2()), short());
        }
        if free < needed && busy.is_none() {
            busy = Some((Answer::Busy(resource, allocatable.checked_ilog2()), short()));
        }
        pods = pods.min(free.checked_div(needed).unwrap_or(u64::MAX));
    }
    busy.unwrap_or_else(|| (Answer::Enough, Room::Pods(BTreeMap::from([(pods, 1)]))))
}
