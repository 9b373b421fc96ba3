//! From a ModelDeployment's spec and its model's shape to a decision: what the controller and the command line both
//! call, so that they cannot disagree. Pure.

mod alternatives;
mod apply;
mod check;
mod permits;
mod placement;
mod pods;
mod prepared;
mod source;
mod tensor;
#[cfg(test)]
mod tests;
mod workload;

use crate::api::{ModelDeployment, ModelDeploymentSpec};
use crate::decide::{Decision, Policy, Reason, Request, Requirement, Verdict, Wanted, decide};
use crate::engine;
use crate::estimate::{Estimate, EstimateError, Workload, estimate};
use crate::inventory::{Inventory, Owner};
use crate::launch::record::ROLL_ANNOTATION;
use crate::launch::{Launch, Running, Template};
use crate::model::{ModelShape, ShapeSource};
use crate::refusal::Refusal;
use crate::units::Margin;
use crate::workloads::Taken;

pub use alternatives::alternatives;
pub use apply::apply;
pub use permits::{Part, Permits, permitted};
pub use prepared::{Decided, Prepared, prepare};
pub use source::{ResolveError, SpecSource, published_size, repository, resolve_pure, spec_source};

/// The object that is planned.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its spec.
    pub spec: &'a ModelDeploymentSpec,
    /// The value of its annotation that asks for a roll.
    pub roll: Option<&'a str>,
    /// What runs for it already, where that is known.
    pub running: Option<&'a Running>,
}

impl<'a> Subject<'a> {
    /// An object of a cluster, and what runs for it.
    #[must_use]
    pub fn of(object: &'a ModelDeployment, running: Option<&'a Running>) -> Self {
        let metadata = &object.metadata;
        let annotations = metadata.annotations.as_ref();
        Self {
            namespace: metadata.namespace.as_deref().unwrap_or_default(),
            name: metadata.name.as_deref().unwrap_or_default(),
            spec: &object.spec,
            roll: annotations.and_then(|all| all.get(ROLL_ANNOTATION)).map(String::as_str),
            running,
        }
    }

    /// Whose pods do not count against it.
    #[must_use]
    pub const fn owner(&self) -> Owner<'a> {
        Owner { namespace: self.namespace, name: self.name }
    }
}

/// What was found for one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The model's name, for output.
    pub model: String,
    /// Where the shape came from, for output, such as `catalog` or `config`.
    pub source: String,
    /// The shape's architecture.
    pub architecture: String,
    /// The shape's parameters.
    pub parameters: u64,
    /// What it needs.
    pub estimate: Estimate,
    /// The safety margin.
    pub margin: Margin,
    /// What the nodes must have.
    pub requirement: Requirement,
    /// Where it may run.
    pub policy: Policy,
    /// The answer. Where pods run that stay as they were written, it is about what these demand.
    pub decision: Decision,
    /// How many replicas there are to be.
    pub replicas: u64,
    /// What runs, or why nothing does.
    pub launch: Launch,
    /// What the pods that run were given, where they stay as they were written.
    pub kept: Option<Requirement>,
}

impl Plan {
    /// The answer for the object: the cluster's, unless what is asked for can never be run as it is.
    #[must_use]
    pub fn answer(&self) -> (Verdict, Reason) {
        self.decision.answer(self.launch.impossibility().is_none())
    }

    /// What the pods want of the cluster; `None` where nothing is to run.
    #[must_use]
    pub fn wanted(&self) -> Option<Wanted> {
        let runs = matches!(self.launch, Launch::Run(_)) && self.decision.reason() != Reason::NeverFits;
        let Self { decision, policy, replicas, .. } = self;
        let requirement = decision.requirement;
        runs.then(|| Wanted { requirement, policy: policy.clone(), replicas: *replicas })
    }

    /// Whether the pods that run were given less than is needed by now.
    #[must_use]
    pub fn is_outgrown(&self) -> bool {
        let needs = self.requirement;
        self.kept.is_some_and(|given| needs.per_gpu > given.per_gpu || needs.gpus > given.gpus)
    }
}

/// Checks what a spec says by itself, without its model: all that the CRD's schema and rules refuse is refused here too,
/// and what this version does not do.
///
/// # Errors
/// See [`Refusal`].
pub fn check(spec: &ModelDeploymentSpec) -> Result<(), Refusal> {
    spec_source(spec)?;
    check::unsupported(spec)?;
    check::fields(spec)?;
    placement::policy(spec, Template::read(spec)?.as_ref())?;
    workload::read(spec, None)?;
    check::margin(spec).map(|_| ())
}

/// Plans one object against a cluster: what every front end calls.
///
/// What was written for a spec stays as it was written, whatever the estimate comes to by now, until the spec changes or a
/// roll is asked for.
///
/// # Errors
/// See [`Refusal`].
pub fn plan(subject: Subject<'_>, shape: &ModelShape, inventory: &Inventory) -> Result<Plan, Refusal> {
    let prepared = prepare(subject, shape)?;
    let decided = prepared.decide(subject, shape, inventory)?;
    prepared.plan(subject, shape, decided, inventory.sources())
}

/// Checks what the spec of somebody else's workload says by itself, as [`check`] does.
///
/// # Errors
/// See [`Refusal`].
pub fn check_pods(spec: &ModelDeploymentSpec) -> Result<(), Refusal> {
    check(&pods::widened_by_itself(spec)?)
}

/// Plans the pods of a workload that somebody else wrote, as they are: the same as [`plan`], with the GPUs that they ask for.
///
/// # Errors
/// See [`Refusal`].
pub fn plan_pods(
    subject: Subject<'_>,
    shape: &ModelShape,
    inventory: &Inventory,
    taken: &Taken,
) -> Result<Plan, Refusal> {
    let spec = pods::widened(subject.spec, shape)?;
    let subject = Subject { spec: &spec, ..subject };
    let prepared = prepared::prepare_for(subject, shape, Some(taken))?;
    let decided = prepared.decide(subject, shape, inventory)?;
    prepared.plan(subject, shape, decided, inventory.sources())
}

/// Replicas that would find room beside the object's own pods, which count as the others' do.
#[must_use]
pub fn slots_beside_its_own(plan: &Plan, inventory: &Inventory) -> u64 {
    let request = Request { requirement: plan.decision.requirement, policy: &plan.policy, owner: None };
    decide(&request, inventory, &[]).slots
}

/// The workload that a spec asks for, with what the model's shape fills in. `tensor: auto` is 1: only a cluster can tell.
///
/// # Errors
/// [`Refusal::Invalid`] for a number that cannot be right.
pub fn workload(spec: &ModelDeploymentSpec, shape: &ModelShape) -> Result<Workload, Refusal> {
    Ok(workload::read(spec, Some(shape))?.workload)
}

/// Refuses what the engine's arguments say of the GPU's memory, where it is less than the estimate needs.
///
/// # Errors
/// [`Refusal::Invalid`] with the number that would be right.
pub fn judge(spec: &ModelDeploymentSpec, estimate: &Estimate, margin: Margin) -> Result<(), Refusal> {
    let Some(engine) = &spec.engine else { return Ok(()) };
    let arguments = engine.args.as_deref().unwrap_or_default();
    engine::check_fraction(engine.name, arguments, margin, Some(estimate))
}

/// The safety margin that a spec asks for.
///
/// # Errors
/// [`Refusal::Invalid`] for what is no margin.
pub fn margin(spec: &ModelDeploymentSpec) -> Result<Margin, Refusal> {
    check::margin(spec)
}

/// What the nodes must have for an estimate.
fn required(estimate: &Estimate, margin: Margin) -> Result<Requirement, Refusal> {
    let per_gpu = margin.apply(estimate.total_per_gpu).map_err(EstimateError::Overflow)?;
    Ok(Requirement { per_gpu, gpus: estimate.gpus })
}

/// What the nodes must have for a workload; `None` for one that is impossible.
#[must_use]
pub fn requirement_of(shape: &ModelShape, workload: &Workload, margin: Margin) -> Option<Requirement> {
    required(&estimate(shape, workload).ok()?, margin).ok()
}

/// Where a shape came from, as the output spells it.
const fn source_name(source: ShapeSource) -> &'static str {
    match source {
        ShapeSource::Parameters => "parameters",
        ShapeSource::Config => "config",
        ShapeSource::Safetensors => "safetensors",
        ShapeSource::Gguf => "gguf",
        ShapeSource::Catalog => "catalog",
    }
}
