//! What an object's status is to say. Pure: the time is passed in, and moves nothing but `lastTransitionTime`.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::api::ModelDeploymentStatus;
use crate::api::conditions::{
    self, ConditionFinding, ESTIMATED, PLACEABLE, READY, RECONCILING, STALLED, Truth, UP_TO_DATE,
    WorkloadReason,
};
use crate::api::v1alpha1::{
    BestNode, EstimateStatus, NodeStatus, PlacementStatus, RejectedNodes, SuggestionStatus, SummaryStatus,
};
use crate::decide::{ClassVerdict, Decision, Reason, Requirement, Verdict};
use crate::inventory::{Memory, PodFacts};
use crate::launch;
use crate::launch::deployment::Replacement;
use crate::launch::rollout::Rollout;
use crate::launch::standing::{Standing, Wanted};
use crate::plan::Plan;
use crate::render::text::{clause, clip};
use crate::render::{self, Found, Origin, Outcome};
use crate::units::Bytes;

/// What the status follows from.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The object's name.
    pub name: &'a str,
    /// The generation of the spec.
    pub generation: Option<i64>,
    /// Replicas that are wanted.
    pub wanted: i32,
    /// What was found.
    pub found: &'a Found,
    /// Whether an unresolved model will stay so until the spec is changed.
    pub hopeless: bool,
    /// What has come of the workload.
    pub rollout: &'a Rollout,
    /// What is known of the pods.
    pub pods: &'a [PodFacts],
    /// How new pods take the place of old ones.
    pub replacement: Replacement,
}

impl Facts<'_> {
    fn wants(&self) -> Wanted {
        Wanted { replicas: self.wanted, replacement: self.replacement }
    }
}

/// The status, given the one before.
#[must_use]
pub fn status(
    facts: Facts<'_>,
    previous: Option<&ModelDeploymentStatus>,
    now: jiff::Timestamp,
) -> ModelDeploymentStatus {
    let before = previous.map(|status| status.conditions.as_slice()).unwrap_or_default();
    let findings = findings(facts);
    let plan = if let Found::Planned(plan) = facts.found { Some(plan.as_ref()) } else { None };
    let child = facts.rollout.child();
    let ready = findings.iter().find(|finding| finding.kind == READY);
    ModelDeploymentStatus {
        observed_generation: facts.generation,
        estimate: plan.map(estimate),
        placement: plan.map(|plan| placement(&plan.decision, &plan.requirement)),
        reason: ready.map_or_else(String::new, |ready| ready.reason.clone()),
        message: ready.map_or_else(String::new, |ready| clause(&ready.message)),
        summary: plan.map(summary),
        replicas: child.map_or(0, |child| child.replicas),
        ready_replicas: child.map_or(0, |child| child.ready),
        selector: Some(launch::selector(facts.name)),
        conditions: conditions::merge(before, &findings, facts.generation, now),
    }
}

/// How much two different statuses differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// In words alone: the numbers of free GPUs in a message change with every pod that comes or goes, and concern every
    /// object.
    Words,
    /// And in how many nodes it fits, and which.
    Placement,
    /// In a condition, the estimate, the replicas, the generation.
    Substance,
}

/// How much a status differs from the one before it.
#[must_use]
pub fn difference(before: &ModelDeploymentStatus, after: &ModelDeploymentStatus) -> Difference {
    let (mut before, mut after) = (without_words(before), without_words(after));
    if before == after {
        return Difference::Words;
    }
    if before.placement.is_some() == after.placement.is_some() {
        (before.placement, after.placement) = (None, None);
    }
    if before == after { Difference::Placement } else { Difference::Substance }
}

fn without_words(status: &ModelDeploymentStatus) -> ModelDeploymentStatus {
    let mut status = status.clone();
    status.message.clear();
    status.conditions.iter_mut().for_each(|condition| condition.message.clear());
    if let Some(placement) = &mut status.placement {
        placement.nodes.iter_mut().for_each(|node| node.message.clear());
    }
    status
}

/// What the Ready condition says, and whether there is hope.
struct Ready {
    holds: bool,
    reason: &'static str,
    message: String,
    hopeless: bool,
}

fn findings(facts: Facts<'_>) -> Vec<ConditionFinding> {
    let outcome = Outcome {
        namespace: String::new(),
        name: facts.name.to_owned(),
        origin: Origin::default(),
        workload: None,
        found: facts.found.clone(),
    };
    let ready = ready(facts, &outcome);
    let waits = !ready.holds && !ready.hopeless;
    let finding = |kind, status, reason: &str, message: &str| ConditionFinding {
        kind,
        status,
        reason: reason.to_owned(),
        message: message.to_owned(),
    };
    let (reason, message) = (outcome.reason().as_str(), outcome.message());
    let mut up_to_date = None;
    let (estimated, placeable) = if let Found::Planned(plan) = facts.found {
        let needs = clip(render::needs(&plan.estimate, plan.margin, &plan.requirement));
        if plan.launch.pods().is_some() && facts.rollout.child().is_some() {
            let reason =
                if plan.is_outgrown() { WorkloadReason::EstimateGrown } else { WorkloadReason::AsEstimated };
            let message = render::up_to_date(plan, facts.name);
            up_to_date = Some(finding(UP_TO_DATE, Truth::of(!plan.is_outgrown()), reason.as_str(), &message));
        }
        // Room is one thing, and whether anything runs another, which Ready says.
        let (reason, message) = (plan.decision.reason().as_str(), render::message(plan));
        (
            finding(ESTIMATED, Truth::True, WorkloadReason::Estimated.as_str(), &needs),
            finding(PLACEABLE, truth(plan.decision.verdict()), reason, &message),
        )
    } else {
        let pending = outcome.reason() == Reason::EstimatePending;
        let estimated = if pending { Truth::Unknown } else { Truth::False };
        (
            finding(ESTIMATED, estimated, reason, &message),
            finding(PLACEABLE, Truth::Unknown, reason, &message),
        )
    };
    let told = |holds: bool| if holds { ready.message.as_str() } else { "" };
    let stands = [finding(READY, Truth::of(ready.holds), ready.reason, &ready.message), estimated, placeable];
    let kstatus = [
        finding(RECONCILING, Truth::of(waits), ready.reason, told(waits)),
        finding(STALLED, Truth::of(ready.hopeless), ready.reason, told(ready.hopeless)),
    ];
    stands.into_iter().chain(up_to_date).chain(kstatus).collect()
}

/// Whether a node fits now.
const fn truth(verdict: Verdict) -> Truth {
    match verdict {
        Verdict::Fits => Truth::True,
        Verdict::Busy | Verdict::Rejected => Truth::False,
        Verdict::Unknown => Truth::Unknown,
    }
}

fn ready(facts: Facts<'_>, outcome: &Outcome) -> Ready {
    let Found::Planned(plan) = facts.found else {
        return Ready {
            holds: false,
            reason: outcome.reason().as_str(),
            message: clip(format!(
                "{}{}",
                outcome.message(),
                render::serves_on(facts.rollout.child().map_or(0, |child| child.ready))
            )),
            hopeless: outcome.is_malformed() || facts.hopeless,
        };
    };
    let standing = Standing::of(&plan.launch, &plan.decision, facts.rollout, facts.pods, facts.wants());
    Ready {
        holds: standing.is_ready(),
        reason: standing.reason(&plan.decision),
        message: render::standing(&standing, plan, facts.name, facts.wants(), facts.rollout),
        hopeless: standing.is_stalled(),
    }
}

fn estimate(plan: &Plan) -> EstimateStatus {
    let estimate = &plan.estimate;
    let of = &estimate.components;
    let training = estimate.workload.training.is_some();
    EstimateStatus {
        weights: bytes(of.weights),
        kv_cache: bytes(of.kv_cache),
        activations: bytes(of.activations),
        overhead: bytes(of.overhead),
        gradients: training.then(|| bytes(of.gradients)),
        optimizer: training.then(|| bytes(of.optimizer)),
        total: bytes(estimate.total),
        required: plan.margin.apply(estimate.total).map_or(i64::MAX, bytes),
        required_per_gpu: bytes(plan.requirement.per_gpu),
        gpus: count(plan.requirement.gpus),
        safety_margin: plan.margin.to_string(),
        confidence: estimate.confidence,
        source: plan.source.clone(),
        notes: estimate.notes.iter().map(|note| clip(note.clone())).collect(),
    }
}

fn summary(plan: &Plan) -> SummaryStatus {
    let of = &plan.estimate.components;
    let precision = plan.estimate.workload.precision;
    SummaryStatus {
        model: plan.model.clone(),
        precision: precision.map_or_else(String::new, |precision| precision.to_string()),
        needs_per_gpu: plan.requirement.per_gpu.to_string(),
        weights: of.weights.to_string(),
        kv_cache: of.kv_cache.to_string(),
    }
}

fn placement(decision: &Decision, requirement: &Requirement) -> PlacementStatus {
    let nodes = |verdict: Verdict| {
        let of = decision.classes.iter().filter(|class| class.verdict() == verdict);
        of.map(|class| count_of(class.nodes.len())).fold(0, i64::saturating_add)
    };
    let mut rejected: BTreeMap<Reason, i64> = BTreeMap::new();
    for class in decision.classes.iter().filter(|class| class.verdict() == Verdict::Rejected) {
        let sum = rejected.entry(class.reason()).or_default();
        *sum = sum.saturating_add(count_of(class.nodes.len()));
    }
    let mut rejected: Vec<(Reason, i64)> = rejected.into_iter().collect();
    rejected.sort_by_key(|(reason, nodes)| (Reverse(*nodes), *reason));
    PlacementStatus {
        fits: nodes(Verdict::Fits),
        busy: nodes(Verdict::Busy),
        unknown: nodes(Verdict::Unknown),
        rejected: rejected
            .into_iter()
            .map(|(reason, nodes)| RejectedNodes { reason: reason.to_string(), nodes })
            .collect(),
        best: decision.classes.iter().find(|class| class.verdict() == Verdict::Fits).and_then(best),
        nodes: listed(decision, requirement),
        suggestions: decision
            .suggestions
            .iter()
            .map(|suggestion| SuggestionStatus {
                change: clip(render::change(&suggestion.change)),
                required_per_gpu: bytes(suggestion.requirement.per_gpu),
                nodes: count(suggestion.nodes),
            })
            .collect(),
    }
}

fn best(class: &ClassVerdict) -> Option<BestNode> {
    let pool = class.pool.as_deref()?;
    let Memory::Known { bytes: memory, .. } = &pool.memory else { return None };
    Some(BestNode {
        product: pool.product.clone(),
        memory: bytes(*memory),
        node: class.nodes.first()?.to_owned(),
    })
}

fn listed(decision: &Decision, requirement: &Requirement) -> Vec<NodeStatus> {
    decision
        .shown()
        .map(|(class, name)| NodeStatus {
            name: name.to_owned(),
            verdict: render::verdict_word(class.verdict()).to_owned(),
            reason: class.reason().to_string(),
            message: render::node_message(class, requirement),
        })
        .collect()
}

fn bytes(amount: Bytes) -> i64 {
    count(amount.0)
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn count_of(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
