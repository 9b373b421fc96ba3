//! One class of nodes against one requirement: the first check that fails is the reason.

use super::{Detail, Policy, Reason, Requirement, Verdict, toleration};
use crate::api::v1alpha1::Strategy;
use crate::inventory::{GpuPool, GpuSharing, Group, Memory, Node};

/// The checks in the order in which they are made. A node's reason is the first that fails, so a later one comes nearer.
pub(super) const CHECKS: [Reason; 13] = [
    Reason::NoGpus,
    Reason::VendorMismatch,
    Reason::SelectorMismatch,
    Reason::LabelMissing,
    Reason::LabelUntrusted,
    Reason::GpuMemoryTooSmall,
    Reason::TooFewGpus,
    Reason::SharedGpu,
    Reason::NodeCordoned,
    Reason::NodeNotReady,
    Reason::TaintNotTolerated,
    Reason::GpusBusy,
    Reason::FitsNow,
];

/// How many checks were passed before this reason.
pub(super) fn passed(reason: Reason) -> usize {
    CHECKS.iter().position(|check| *check == reason).unwrap_or(0)
}

/// What was found of one class of nodes.
pub(super) struct Judgement {
    pub(super) verdict: Verdict,
    pub(super) reason: Reason,
    pub(super) detail: Detail,
    pub(super) pool: Option<GpuPool>,
    /// Replicas that each node has room for now.
    pub(super) slots: u64,
}

/// Judges one class of nodes.
pub(super) fn judge(group: &Group<'_>, requirement: &Requirement, policy: &Policy) -> Judgement {
    let Some(first) = group.pools.first() else {
        return judgement(Reason::NoGpus, Detail::None, None);
    };
    let allowed: Vec<&GpuPool> = group
        .pools
        .iter()
        .filter(|pool| policy.vendors.is_empty() || policy.vendors.contains(&pool.vendor))
        .collect();
    if allowed.is_empty() {
        return judgement(Reason::VendorMismatch, Detail::Vendor(first.vendor), Some(first));
    }
    let largest = allowed.iter().copied().max_by_key(|pool| pool.usable_memory());
    for (key, wanted) in &policy.node_selector {
        let has = group.node.labels.get(key);
        if has != Some(wanted) {
            let detail = Detail::Selector { key: key.clone(), wanted: wanted.clone(), has: has.cloned() };
            return judgement(Reason::SelectorMismatch, detail, largest);
        }
    }
    let mut best: Option<Judgement> = None;
    let mut slots = 0_u64;
    // One pool, one kind of GPU: a replica is never spread over two.
    for pool in allowed {
        let judged = judge_pool(group.node, pool, requirement, policy);
        if judged.verdict == Verdict::Fits {
            slots = slots.saturating_add(pool.free / requirement.gpus.max(1));
        }
        if best.as_ref().is_none_or(|best| is_better(&judged, best, policy.strategy)) {
            best = Some(judged);
        }
    }
    let mut best = best.unwrap_or_else(|| judgement(Reason::NoGpus, Detail::None, None));
    best.slots = slots;
    best
}

/// One pool of a node whose vendor and labels are as wanted.
fn judge_pool(node: &Node, pool: &GpuPool, requirement: &Requirement, policy: &Policy) -> Judgement {
    let (reason, detail) = pool_fault(pool, requirement, policy)
        .or_else(|| node_fault(node, pool, policy))
        .unwrap_or_else(|| {
            if pool.free < requirement.gpus.max(1) {
                (Reason::GpusBusy, gpus(pool, requirement))
            } else {
                (Reason::FitsNow, memory(pool, requirement))
            }
        });
    judgement(reason, detail, Some(pool))
}

/// Why the GPUs themselves will not do.
fn pool_fault(pool: &GpuPool, requirement: &Requirement, policy: &Policy) -> Option<(Reason, Detail)> {
    match &pool.memory {
        // A node that hands out nothing has no GPU of which to know the memory.
        Memory::Missing { .. } if pool.allocatable == 0 => {
            return Some((Reason::TooFewGpus, gpus(pool, requirement)));
        }
        Memory::Missing { label } => {
            return Some((Reason::LabelMissing, Detail::LabelMissing { label: label.clone() }));
        }
        Memory::Untrusted { label, value, fault } => {
            let detail = Detail::LabelUntrusted { label: label.clone(), value: value.clone(), fault: *fault };
            return Some((Reason::LabelUntrusted, detail));
        }
        Memory::Known { .. } => {}
    }
    if pool.usable_memory().is_none_or(|memory| memory < requirement.per_gpu) {
        return Some((Reason::GpuMemoryTooSmall, memory(pool, requirement)));
    }
    if pool.allocatable < requirement.gpus.max(1) {
        return Some((Reason::TooFewGpus, gpus(pool, requirement)));
    }
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
    shared.then_some((Reason::SharedGpu, Detail::Sharing(pool.sharing)))
}

/// Why the node will not do, though its GPUs would.
fn node_fault(node: &Node, pool: &GpuPool, policy: &Policy) -> Option<(Reason, Detail)> {
    let tolerated = |key: &str, effect: &str| {
        let taint =
            crate::inventory::Taint { key: key.to_owned(), value: String::new(), effect: effect.to_owned() };
        toleration::tolerated(&policy.tolerations, &taint)
    };
    let in_the_way = |taint: &&crate::inventory::Taint| {
        toleration::keeps_off(taint) && !toleration::tolerated(&policy.tolerations, taint)
    };
    let mut untolerated = node.taints.iter().filter(in_the_way);
    let has =
        |keys: &[&str]| node.taints.iter().filter(in_the_way).any(|taint| keys.contains(&taint.key.as_str()));
    if (node.unschedulable && !tolerated(toleration::UNSCHEDULABLE, "NoSchedule"))
        || has(&[toleration::UNSCHEDULABLE])
    {
        return Some((Reason::NodeCordoned, Detail::None));
    }
    // A node that is not ready runs nothing, tolerated or not.
    if !node.ready || has(&toleration::NOT_READY) {
        return Some((Reason::NodeNotReady, Detail::None));
    }
    let taint = untolerated.find(|taint| !toleration::is_gpu_taint(taint, pool))?;
    Some((Reason::TaintNotTolerated, Detail::Taint(taint.clone())))
}

/// Whether a pool answers for its node rather than another: a better verdict, more checks passed, free GPUs, and then
/// the memory that is preferred: of those that fit as the strategy says, of the others the largest.
fn is_better(a: &Judgement, b: &Judgement, strategy: Strategy) -> bool {
    let key = |judgement: &Judgement| (judgement.verdict, std::cmp::Reverse(passed(judgement.reason)));
    let memory = |judgement: &Judgement| judgement.pool.as_ref().and_then(GpuPool::usable_memory);
    match key(a).cmp(&key(b)) {
        std::cmp::Ordering::Less => true,
        std::cmp::Ordering::Greater => false,
        std::cmp::Ordering::Equal => {
            let smallest =
                matches!(a.verdict, Verdict::Fits | Verdict::Busy) && strategy == Strategy::SmallestFit;
            if smallest { memory(a) < memory(b) } else { memory(a) > memory(b) }
        }
    }
}

fn memory(pool: &GpuPool, requirement: &Requirement) -> Detail {
    Detail::Memory { needed: requirement.per_gpu, has: pool.usable_memory().unwrap_or_default() }
}

fn gpus(pool: &GpuPool, requirement: &Requirement) -> Detail {
    Detail::Gpus { needed: requirement.gpus, free: pool.free, allocatable: pool.allocatable }
}

fn judgement(reason: Reason, detail: Detail, pool: Option<&GpuPool>) -> Judgement {
    let verdict = match reason {
        Reason::FitsNow => Verdict::Fits,
        Reason::GpusBusy => Verdict::Busy,
        Reason::LabelMissing | Reason::LabelUntrusted => Verdict::Unknown,
        _ => Verdict::Rejected,
    };
    Judgement { verdict, reason, detail, pool: pool.cloned(), slots: 0 }
}
