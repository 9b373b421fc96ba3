//! The message of an object: what it needs, where it stands, and what would help.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::decide::{
    ClassVerdict, Decision, Finding, LARGEST_GPU_MADE, Reason, Requirement, Suggestion, Verdict,
};
use crate::estimate::{Components, Estimate};
use crate::inventory::GpuPool;
use crate::plan::Plan;
use crate::refusal::Refusal;
use crate::units::{Bytes, Margin};

use super::change::change;
use super::node::{node_message, product};
use super::text::{adding_up, clip, compared, counted, printable};

/// The components with the names that people read, in the order in which they are printed. Gradients and optimizer
/// state are there only when training.
#[must_use]
pub fn components(components: &Components, training: bool) -> Vec<(&'static str, Bytes)> {
    let mut named = vec![
        ("weights", components.weights),
        ("KV cache", components.kv_cache),
        ("activations", components.activations),
        ("overhead", components.overhead),
    ];
    if training {
        named.insert(1, ("gradients", components.gradients));
        named.insert(2, ("optimizer", components.optimizer));
        named.retain(|(name, bytes)| *name != "KV cache" || bytes.0 > 0);
    }
    named
}

/// The message of a plan: a condition's, an event's, and the command line's.
#[must_use]
pub fn message(plan: &Plan) -> String {
    let decision = &plan.decision;
    let needs = needs(&plan.estimate, plan.margin, &plan.requirement);
    let text = match decision.verdict() {
        Verdict::Fits => format!("{}{}; {needs}", fits(decision), room_for_some(plan)),
        Verdict::Busy if matches!(decision.reason(), Reason::GpusBusy | Reason::PromisedToAnother) => {
            format!("{needs}; {}{}", busy(decision), would_fit(&decision.suggestions))
        }
        Verdict::Busy | Verdict::Unknown | Verdict::Rejected => {
            format!("{needs}; {}{}", why_not(decision, &plan.requirement), would_fit(&decision.suggestions))
        }
    };
    clip(text)
}

/// The message of a spec that is refused.
#[must_use]
pub fn plan_error(error: &Refusal) -> String {
    clip(printable(&error.to_string()))
}

/// `needs 21.4 GiB per GPU (weights 15.0 + KV cache 1.0 + activations 1.1 + overhead 0.8 = 17.8, x1.2)`.
#[must_use]
pub fn needs(estimate: &Estimate, margin: Margin, requirement: &Requirement) -> String {
    let parts: Vec<(&str, Bytes)> = components(&estimate.per_gpu, estimate.workload.training.is_some())
        .into_iter()
        .filter(|(_, bytes)| bytes.0 > 0)
        .collect();
    let amounts: Vec<Bytes> = parts.iter().map(|(_, bytes)| *bytes).collect();
    let sum: Vec<String> = parts
        .iter()
        .zip(adding_up(&amounts, estimate.total_per_gpu))
        .map(|((name, _), shown)| format!("{name} {shown}"))
        .collect();
    format!(
        "needs {}{} ({} = {}, x{margin})",
        requirement.per_gpu,
        per_gpu(requirement),
        sum.join(" + "),
        estimate.total_per_gpu.gib()
    )
}

fn per_gpu(requirement: &Requirement) -> String {
    if requirement.gpus > 1 {
        format!(" per GPU on {} GPUs of one node", requirement.gpus)
    } else {
        " per GPU".to_owned()
    }
}

fn fits(decision: &Decision) -> String {
    let fitting: Vec<&ClassVerdict> =
        decision.classes.iter().filter(|class| class.verdict() == Verdict::Fits).collect();
    let nodes = nodes_of(&fitting);
    let best = fitting.first().and_then(|class| {
        let pool = class.pool.as_deref()?;
        let memory = pool.usable_memory()?;
        Some(format!(", best {} {memory} on {}", product(pool), printable(class.nodes.first()?)))
    });
    format!("fits {}{}", counted(nodes, "node"), best.unwrap_or_default())
}

/// How many of the replicas find room, where that is not all.
fn room_for_some(plan: &Plan) -> String {
    let slots = plan.decision.slots;
    if slots >= plan.replicas || plan.wanted().is_none() {
        return String::new();
    }
    format!("; {slots} of {} replicas find room", plan.replicas)
}

fn nodes_of(classes: &[&ClassVerdict]) -> u64 {
    classes.iter().map(|class| class.count()).fold(0, u64::saturating_add)
}

/// What there is of the GPUs of one kind.
#[derive(Default)]
struct Use {
    free: u64,
    promised: u64,
    allocatable: u64,
    nodes: u64,
}

/// Which GPUs are in use or promised: per kind, how many are free of how many.
fn busy(decision: &Decision) -> String {
    let mut kinds: BTreeMap<(Option<Bytes>, String), Use> = BTreeMap::new();
    let mut to = None;
    for class in &decision.classes {
        if let Finding::PromisedToAnother { to: whom, .. } = &class.finding {
            to = to.or(whom.as_deref());
        } else if class.reason() != Reason::GpusBusy {
            continue;
        }
        let Some(pool) = &class.pool else { continue };
        let nodes = class.count();
        let used = kinds.entry((pool.usable_memory(), product(pool))).or_default();
        used.free = used.free.saturating_add(class.free());
        used.promised = used.promised.saturating_add(pool.promised.saturating_mul(nodes));
        used.allocatable = used.allocatable.saturating_add(pool.allocatable.saturating_mul(nodes));
        used.nodes = used.nodes.saturating_add(nodes);
    }
    let shown: Vec<String> = kinds
        .iter()
        .take(3)
        .map(|((memory, product), Use { free, promised, allocatable, nodes })| {
            let memory = memory.map_or_else(String::new, |memory| format!(" {memory}"));
            let promised = if *promised > 0 { format!(" ({promised} more promised)") } else { String::new() };
            format!(
                "{product}{memory} has {free} of {} free on {}{promised}",
                counted(*allocatable, "GPU"),
                counted(*nodes, "node")
            )
        })
        .collect();
    let takes = counted(decision.requirement.gpus, "GPU");
    let promised = match to {
        Some(name) => format!(" or promised to ModelDeployment {}", printable(name)),
        None if kinds.values().any(|used| used.promised > 0) => " or promised to other objects".to_owned(),
        None => String::new(),
    };
    format!(
        "GPUs that are large enough are in use{promised}: {}; a replica takes {takes} of one node",
        shown.join(", ")
    )
}

fn why_not(decision: &Decision, requirement: &Requirement) -> String {
    match &decision.finding {
        Finding::NoGpuNodes => return "no node of the cluster has a GPU".to_owned(),
        Finding::NeverFits { .. } => {
            let here = largest(decision, requirement).map(|here| format!("; {here}")).unwrap_or_default();
            return format!("no GPU that is made has so much (at most {LARGEST_GPU_MADE}){here}");
        }
        _ => {}
    }
    let nearest: Vec<&ClassVerdict> =
        decision.classes.iter().filter(|class| class.reason() == decision.reason()).collect();
    let first = match &decision.finding {
        Finding::GpuMemoryTooSmall { .. } => largest(decision, requirement),
        // The nearest class of a reason comes first.
        _ => nearest.first().map(|class| {
            let name = class.nodes.first().map_or_else(String::new, printable);
            let others = nodes_of(&nearest).saturating_sub(1);
            let others = if others == 0 { String::new() } else { format!(" and {others} more") };
            format!("{name}{others}: {}", node_message(class, requirement))
        }),
    };
    let mut text = first.unwrap_or_else(|| "no node fits".to_owned());
    text.push_str(&others(decision));
    text
}

/// `largest GPU is Tesla-T4 15.0 GiB on 3 nodes`: among those that were judged by their memory.
fn largest(decision: &Decision, requirement: &Requirement) -> Option<String> {
    let judged = |class: &&ClassVerdict| matches!(class.finding, Finding::GpuMemoryTooSmall { .. });
    let memory_of = |class: &ClassVerdict| class.pool.as_deref().and_then(GpuPool::usable_memory);
    let largest = decision.classes.iter().filter(judged).filter_map(memory_of).max()?;
    let same: Vec<&ClassVerdict> =
        decision.classes.iter().filter(judged).filter(|class| memory_of(class) == Some(largest)).collect();
    let pool = same.first()?.pool.as_deref()?;
    let (needed, has) = compared(requirement.per_gpu, largest);
    // A requirement that prints as the GPU's own memory does is shown in the finer unit too.
    let exact = if needed == requirement.per_gpu.to_string() {
        String::new()
    } else {
        format!(" where {needed} needed")
    };
    Some(format!("largest GPU is {} {has}{exact} on {}", product(pool), counted(nodes_of(&same), "node")))
}

/// The nodes that have another reason, counted, without those that have no GPU at all.
fn others(decision: &Decision) -> String {
    let mut counts: BTreeMap<Reason, u64> = BTreeMap::new();
    for class in &decision.classes {
        if class.reason() != decision.reason() && class.reason() != Reason::NoGpus {
            let count = counts.entry(class.reason()).or_default();
            *count = count.saturating_add(class.count());
        }
    }
    let mut counts: Vec<(Reason, u64)> = counts.into_iter().collect();
    counts.sort_by_key(|(reason, nodes)| (Reverse(*nodes), *reason));
    let shown: Vec<String> = counts
        .iter()
        .take(4)
        .map(|(reason, nodes)| format!("{} {reason}", counted(*nodes, "node")))
        .collect();
    if shown.is_empty() { String::new() } else { format!("; also {}", shown.join(", ")) }
}

fn would_fit(suggestions: &[Suggestion]) -> String {
    let shown: Vec<String> = suggestions
        .iter()
        .take(3)
        .map(|suggestion| {
            let gpus = suggestion.requirement.gpus;
            let each = if gpus > 1 { format!(" on each of {gpus} GPUs") } else { String::new() };
            format!("{} ({}{each})", change(&suggestion.change), suggestion.requirement.per_gpu)
        })
        .collect();
    if shown.is_empty() { String::new() } else { format!(". Would fit: {}", shown.join(", or ")) }
}
