//! One class of nodes against one requirement: the first check that fails is the reason.

use std::cmp::{Ordering, Reverse};
use std::sync::Arc;

use super::{Finding, Policy, Requirement, Verdict, toleration};
use crate::api::v1alpha1::Strategy;
use crate::inventory::{GpuPool, GpuSharing, Group, Memory, Node, Room, Shortage, Taint, Term};

/// What was found of one class of nodes.
pub(super) struct Judgement<'a> {
    pub(super) finding: Finding,
    pub(super) pool: Option<&'a Arc<GpuPool>>,
    /// Replicas that the nodes have room for now, together.
    pub(super) slots: u64,
}

/// Judges one class of nodes.
pub(super) fn judge<'a>(group: &'a Group<'_>, requirement: Requirement, policy: &Policy) -> Judgement<'a> {
    let found = |finding, pool| Judgement { finding, pool, slots: 0 };
    let Some(first) = group.pools.iter().find(|pool| is_of(pool, policy)) else {
        // Of other GPUs the pods get none.
        return match (&policy.resource, group.pools.is_empty()) {
            (Some(resource), false) => {
                let (resource, needed) = (resource.clone(), requirement.gpus);
                found(Finding::ResourcesTooSmall { resource, needed, allocatable: 0 }, None)
            }
            _ => found(Finding::NoGpus, None),
        };
    };
    let mut allowed = group.pools.iter().filter(|pool| is_allowed(pool, policy)).peekable();
    if allowed.peek().is_none() {
        return found(Finding::VendorMismatch { vendor: first.vendor }, Some(first));
    }
    if let Some(finding) = selector_fault(group.node, policy) {
        return found(finding, allowed.max_by_key(|pool| pool.usable_memory()));
    }
    let mut best: Option<(Finding, &Arc<GpuPool>)> = None;
    let mut slots = 0_u64;
    // One pool, one kind of GPU: a replica is never spread over two.
    for pool in allowed {
        let finding = judge_pool(group, pool, requirement, policy);
        if finding.verdict() == Verdict::Fits {
            slots = slots.saturating_add(pool.free / requirement.gpus.max(1));
        }
        let is_better =
            |(best, of): &(Finding, &Arc<GpuPool>)| is_better((&finding, pool), (best, of), policy.strategy);
        if best.as_ref().is_none_or(is_better) {
            best = Some((finding, pool));
        }
    }
    match best {
        Some((finding, pool)) => Judgement { finding, pool: Some(pool), slots: in_all(group, slots) },
        None => found(Finding::NoGpus, None),
    }
}

/// Replicas that all nodes of a group have room for, of which each has GPUs for so many.
fn in_all(group: &Group<'_>, each: u64) -> u64 {
    match &group.room {
        Room::Ample => each.saturating_mul(group.count()),
        Room::Pods(nodes) => {
            let slots = nodes.iter().map(|(pods, nodes)| each.min(*pods).saturating_mul(*nodes));
            slots.fold(0, u64::saturating_add)
        }
        Room::Short(_) => 0,
    }
}

/// What the nodes of a group lack besides GPUs.
fn shortage(group: &Group<'_>) -> Option<Finding> {
    let Room::Short(Shortage { resource, needed, free, allocatable }) = &group.room else { return None };
    let (resource, needed, free, allocatable) = (resource.clone(), *needed, *free, *allocatable);
    Some(if allocatable < needed {
        Finding::ResourcesTooSmall { resource, needed, allocatable }
    } else {
        Finding::ResourcesBusy { resource, needed, free, allocatable }
    })
}

/// What a pool offers to an object whose policy lets it onto the node at all. Whether it is enough is arithmetic: many
/// requirements can be tried on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offer {
    memory: crate::units::Bytes,
    allocatable: u64,
    free: u64,
    /// Whether one replica may take several.
    several: bool,
    /// Whether other pods hold what is requested besides GPUs.
    busy: bool,
}

impl Offer {
    /// Fits or busy, or neither.
    pub(super) fn verdict(&self, requirement: Requirement) -> Option<Verdict> {
        let gpus = requirement.gpus.max(1);
        let enough = self.memory >= requirement.per_gpu
            && self.allocatable >= gpus
            && (self.several || requirement.gpus <= 1);
        enough.then_some(if self.busy || self.free < gpus { Verdict::Busy } else { Verdict::Fits })
    }
}

/// The pools of a node that are open to a policy: those that [`judge`] finds to fit, or busy, for some requirement. What pods
/// were written with does not count: whatever is changed is written anew.
pub(super) fn offers(group: &Group<'_>, policy: &Policy) -> Vec<Offer> {
    if selector_fault(group.node, policy).is_some() {
        return Vec::new();
    }
    let shortage = shortage(group);
    if shortage.as_ref().is_some_and(|shortage| shortage.verdict() == Verdict::Rejected) {
        return Vec::new();
    }
    let busy = shortage.is_some();
    let one = Requirement { per_gpu: crate::units::Bytes::ZERO, gpus: 1 };
    let several = Requirement { gpus: 2, ..one };
    let open = |pool: &&Arc<GpuPool>| {
        is_allowed(pool, policy)
            && claim_fault(pool).is_none()
            && sharing_fault(pool, one, policy).is_none()
            && node_fault(group.node, pool, policy).is_none()
    };
    let offer = |pool: &Arc<GpuPool>| {
        let GpuPool { allocatable, free, .. } = **pool;
        let several = sharing_fault(pool, several, policy).is_none();
        Some(Offer { memory: pool.usable_memory()?, allocatable, free, several, busy })
    };
    group.pools.iter().filter(open).filter_map(offer).collect()
}

fn is_allowed(pool: &GpuPool, policy: &Policy) -> bool {
    is_of(pool, policy) && (policy.vendors.is_empty() || policy.vendors.contains(&pool.vendor))
}

/// Whether the pods request GPUs of this pool, rather than others of the same node.
fn is_of(pool: &GpuPool, policy: &Policy) -> bool {
    policy.resource.as_ref().is_none_or(|resource| *resource == pool.resource)
}

fn selector_fault(node: &Node, policy: &Policy) -> Option<Finding> {
    let labels = policy.node_selector.iter().find_map(|(key, wanted)| {
        let has = node.labels.get(key);
        (has != Some(wanted)).then(|| Finding::SelectorMismatch {
            key: key.clone(),
            wanted: wanted.clone(),
            has: has.cloned(),
        })
    });
    labels.or_else(|| (!matches(&policy.affinity, node)).then_some(Finding::AffinityMismatch))
}

/// Whether a node matches one of the terms, or there are none.
fn matches(terms: &[Term], node: &Node) -> bool {
    terms.is_empty() || terms.iter().any(|term| term.matches(&node.name, &node.labels))
}

/// One pool of a node whose vendor and labels are as wanted.
fn judge_pool(group: &Group<'_>, pool: &GpuPool, requirement: Requirement, policy: &Policy) -> Finding {
    let written = || (!matches(&policy.written, group.node)).then_some(Finding::WrittenMismatch);
    let fault = pool_fault(pool, requirement, policy)
        .or_else(|| node_fault(group.node, pool, policy))
        .or_else(written);
    if let Some(fault) = fault {
        return fault;
    }
    // What can never be goes before what is in use now.
    let shortage = match shortage(group) {
        Some(never) if never.verdict() == Verdict::Rejected => return never,
        shortage => shortage,
    };
    let GpuPool { free, promised, allocatable, .. } = *pool;
    let needed = requirement.gpus;
    if free.saturating_add(promised) < needed.max(1) {
        return Finding::GpusBusy { needed, free, allocatable };
    }
    if free < needed.max(1) {
        return Finding::PromisedToAnother { needed, free, promised, allocatable, to: None };
    }
    shortage.unwrap_or_else(|| Finding::FitsNow {
        needed: requirement.per_gpu,
        has: pool.usable_memory().unwrap_or_default(),
    })
}

/// Why the GPUs themselves will not do.
fn pool_fault(pool: &GpuPool, requirement: Requirement, policy: &Policy) -> Option<Finding> {
    let too_few = || Finding::TooFewGpus { needed: requirement.gpus, allocatable: pool.allocatable };
    match &pool.memory {
        // A node that hands out nothing has no GPU of which to know the memory.
        Memory::Missing { .. } if pool.allocatable == 0 => return Some(too_few()),
        Memory::Missing { label, annotated } => {
            return Some(Finding::LabelMissing { label: label.clone(), annotated: *annotated });
        }
        Memory::Untrusted { label, value, fault } => {
            let (label, value) = (label.clone(), value.clone());
            return Some(Finding::LabelUntrusted { label, value, fault: *fault });
        }
        Memory::Known { .. } => {}
    }
    let has = pool.usable_memory().unwrap_or_default();
    if has < requirement.per_gpu {
        return Some(Finding::GpuMemoryTooSmall { needed: requirement.per_gpu, has });
    }
    if pool.allocatable < requirement.gpus.max(1) {
        return Some(too_few());
    }
    sharing_fault(pool, requirement, policy).or_else(|| claim_fault(pool))
}

/// What pods request are extended resources.
fn claim_fault(pool: &GpuPool) -> Option<Finding> {
    let GpuPool { free, allocatable, .. } = *pool;
    pool.is_claimed().then(|| Finding::ClaimNeeded {
        driver: pool.resource.clone(),
        free,
        offered: allocatable,
    })
}

fn sharing_fault(pool: &GpuPool, requirement: Requirement, policy: &Policy) -> Option<Finding> {
    let shared = match pool.sharing {
        GpuSharing::Exclusive => false,
        // Two shares may be of one GPU, and MPS refuses more than one.
        GpuSharing::TimeSliced(_) => !policy.allow_shared || requirement.gpus > 1,
        GpuSharing::Mps(clients) => {
            !policy.allow_shared || requirement.gpus > 1 || clients > GpuSharing::MOST_MPS_CLIENTS
        }
        // A process sees one slice only.
        GpuSharing::Mig => requirement.gpus > 1,
    };
    shared.then_some(Finding::SharedGpu { sharing: pool.sharing })
}

/// Why the node will not do, though its GPUs would.
fn node_fault(node: &Node, pool: &GpuPool, policy: &Policy) -> Option<Finding> {
    let in_the_way =
        |taint: &&Taint| toleration::keeps_off(taint) && !toleration::tolerated(&policy.tolerations, taint);
    let mut untolerated = node.taints.iter().filter(in_the_way);
    let has =
        |keys: &[&str]| node.taints.iter().filter(in_the_way).any(|taint| keys.contains(&taint.key.as_str()));
    let cordon_tolerated = || {
        let (key, effect) = (toleration::UNSCHEDULABLE.to_owned(), "NoSchedule".to_owned());
        toleration::tolerated(&policy.tolerations, &Taint { key, value: String::new(), effect })
    };
    if (node.unschedulable && !cordon_tolerated()) || has(&[toleration::UNSCHEDULABLE]) {
        return Some(Finding::NodeCordoned);
    }
    // A node that is not ready runs nothing, tolerated or not.
    if !node.ready || has(&toleration::NOT_READY) {
        return Some(Finding::NodeNotReady);
    }
    let taint = untolerated.find(|taint| !toleration::is_gpu_taint(taint, pool))?;
    Some(Finding::TaintNotTolerated(taint.clone()))
}

/// Whether a pool answers for its node rather than another: a better verdict, more checks passed, and then the memory
/// that is preferred: of those that fit as the strategy says, of the others the largest.
fn is_better(a: (&Finding, &GpuPool), b: (&Finding, &GpuPool), strategy: Strategy) -> bool {
    let key = |finding: &Finding| (finding.verdict(), Reverse(finding.passed()));
    let (ours, theirs) = (a.1.usable_memory(), b.1.usable_memory());
    match key(a.0).cmp(&key(b.0)) {
        Ordering::Less => true,
        Ordering::Greater => false,
        Ordering::Equal => {
            let smallest =
                matches!(a.0.verdict(), Verdict::Fits | Verdict::Busy) && strategy == Strategy::SmallestFit;
            if smallest { ours < theirs } else { ours > theirs }
        }
    }
}
