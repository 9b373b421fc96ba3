//! Pods that somebody else wrote: they are planned as they are, with the GPUs that they ask for and the part of them that their
//! engine is told to use.

use super::{check, workload};
use crate::api::ModelDeploymentSpec;
use crate::decide::Requirement;
use crate::engine;
use crate::estimate::{Estimate, estimate};
use crate::model::ModelShape;
use crate::refusal::Refusal;
use crate::workloads::Taken;

/// What the nodes must have for each pod.
///
/// # Errors
/// More ranks than the pod has GPUs, where no other pod has the rest.
pub(super) fn requirement(of_all: Requirement, taken: &Taken) -> Result<Requirement, Refusal> {
    let Taken { gpus, resource, is_group } = taken;
    if !is_group && of_all.gpus > *gpus {
        return Err(Refusal::invalid(
            "parallelism",
            format!(
                "the engine divides the model among {} GPUs, and its pod asks for {gpus} ({resource})",
                of_all.gpus
            ),
            format!("request {resource}: {}, or tell the engine of {gpus}", of_all.gpus),
        ));
    }
    Ok(Requirement { gpus: *gpus, ..of_all })
}

/// What the nodes must have for each pod once something is changed; `before` are the GPUs of all ranks as they are. `None` where
/// it would be for the author of a group to say which pod has how many.
pub(super) fn changed(of_all: Requirement, before: u64, taken: &Taken) -> Option<Requirement> {
    if of_all.gpus == before {
        return Some(Requirement { gpus: taken.gpus, ..of_all });
    }
    (!taken.is_group).then_some(of_all)
}

/// A spec with the margin that the engine's own part of a GPU asks for: what is told to use half of a card needs one that is twice
/// as large.
///
/// # Errors
/// See [`Refusal`].
pub(super) fn widened(
    spec: &ModelDeploymentSpec,
    shape: &ModelShape,
) -> Result<ModelDeploymentSpec, Refusal> {
    let spec = widened_by_itself(spec)?;
    let asked = workload::read(&spec, Some(shape))?.workload;
    widen(spec, Some(&estimate(shape, &asked)?))
}

/// The same, as far as it can be told without the model.
///
/// # Errors
/// A margin that is none.
pub(super) fn widened_by_itself(spec: &ModelDeploymentSpec) -> Result<ModelDeploymentSpec, Refusal> {
    widen(spec.clone(), None)
}

fn widen(mut spec: ModelDeploymentSpec, found: Option<&Estimate>) -> Result<ModelDeploymentSpec, Refusal> {
    let Some(own) = &spec.engine else { return Ok(spec) };
    let arguments = own.args.as_deref().unwrap_or_default();
    let margin = check::margin(&spec)?;
    if let Some(wider) = engine::least_margin(own.name, arguments, found).filter(|least| *least > margin) {
        spec.safety_margin = Some(wider.to_string());
    }
    Ok(spec)
}
