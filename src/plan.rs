//! From a ModelDeployment's spec and its model's shape to a decision: what the controller and the command line both
//! call, so that they cannot disagree. Pure.

mod alternatives;
mod check;
mod placement;
mod source;
mod tensor;
#[cfg(test)]
mod tests;
mod workload;

use crate::api::ModelDeploymentSpec;
use crate::decide::{Decision, Policy, Request, Requirement, Verdict, decide};
use crate::estimate::{Estimate, EstimateError, Workload, estimate};
use crate::inventory::{Inventory, Owner};
use crate::model::{ModelShape, ShapeSource};
use crate::refusal::Refusal;
use crate::units::Margin;

pub use alternatives::alternatives;
pub use source::{ResolveError, SpecSource, published_size, resolve_pure, spec_source};

/// The object that is planned.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its spec.
    pub spec: &'a ModelDeploymentSpec,
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
    /// The answer.
    pub decision: Decision,
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
    placement::policy(spec)?;
    workload::read(spec, None)?;
    check::margin(spec).map(|_| ())
}

/// Plans one object against a cluster.
///
/// # Errors
/// See [`Refusal`].
pub fn plan(subject: Subject<'_>, shape: &ModelShape, inventory: &Inventory) -> Result<Plan, Refusal> {
    let spec = subject.spec;
    check(spec)?;
    let margin = check::margin(spec)?;
    let policy = placement::policy(spec)?;
    let owner = Some(Owner { namespace: subject.namespace, name: subject.name });
    let asked = workload::read(spec, Some(shape))?;
    let workload = if asked.tensor_auto {
        let question = tensor::Question { shape, margin, policy: &policy, owner, inventory };
        tensor::smallest(&asked.workload, &question)
    } else {
        asked.workload
    };

    let estimate = estimate(shape, &workload)?;
    let requirement = required(&estimate, margin)?;
    let request = Request { requirement, policy: &policy, owner };
    let mut decision = decide(&request, inventory, &[]);
    if decision.verdict != Verdict::Fits {
        let alternatives = alternatives(shape, &workload, &estimate, margin);
        decision = decide(&request, inventory, &alternatives);
    }
    Ok(Plan {
        model: shape.name.clone(),
        source: source_name(shape.source).to_owned(),
        architecture: shape.architecture.clone(),
        parameters: shape.parameters,
        estimate,
        margin,
        requirement,
        policy,
        decision,
    })
}

/// The workload that a spec asks for, with what the model's shape fills in. `tensor: auto` is 1: only a cluster can tell.
///
/// # Errors
/// [`Refusal::Invalid`] for a number that cannot be right.
pub fn workload(spec: &ModelDeploymentSpec, shape: &ModelShape) -> Result<Workload, Refusal> {
    Ok(workload::read(spec, Some(shape))?.workload)
}

/// What the nodes must have for an estimate.
fn required(estimate: &Estimate, margin: Margin) -> Result<Requirement, Refusal> {
    let per_gpu = margin.apply(estimate.total_per_gpu).map_err(EstimateError::Overflow)?;
    Ok(Requirement { per_gpu, gpus: estimate.gpus })
}

/// The same for a workload that may be impossible.
fn requirement_of(shape: &ModelShape, workload: &Workload, margin: Margin) -> Option<Requirement> {
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
