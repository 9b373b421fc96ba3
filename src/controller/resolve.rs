//! From an object and its model's shape to a plan and a workload. Pure.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;

use crate::api::ModelDeployment;
use crate::api::v1alpha1::TensorParallel;
use crate::decide::{Reason, Verdict};
use crate::inventory::Inventory;
use crate::launch::{self, Built};
use crate::model::ModelShape;
use crate::plan::{self, Plan};
use crate::refusal::Refusal;
use crate::render::Found;

/// A model's shape, and what else is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// The shape.
    pub shape: Arc<ModelShape>,
    /// The repository that a catalog entry stands for.
    pub catalog_repository: Option<String>,
}

/// What was found of an object, and the workload that it comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The plan, or why there is none.
    pub found: Found,
    /// The workload; `None` where none is to be written and one that is there is to be left alone.
    pub built: Option<Built>,
    /// The ranks that `parallelism.tensor: auto` stays at, where it does.
    pub kept: Option<i64>,
}

impl Resolved {
    /// What was found, where nothing is built of it.
    #[must_use]
    pub const fn without_workload(found: Found) -> Self {
        Self { found, built: None, kept: None }
    }
}

/// Plans an object, and builds its workload unless it can never fit. `present` is its Deployment, if it has one.
///
/// `parallelism.tensor: auto` stays at what runs: a node that comes or goes is no reason to roll pods that serve.
#[must_use]
pub fn resolve(
    object: &ModelDeployment,
    model: &Model,
    inventory: &Inventory,
    present: Option<&Deployment>,
) -> Resolved {
    let anew = resolve_as_is(object, model, inventory, present);
    let kept = present.and_then(|present| kept(object, model, inventory, present, &anew));
    kept.unwrap_or(anew)
}

/// The object with the ranks that its Deployment has, if it is to stay at them: they come of the present spec, and either
/// serve, or may, or no other number would.
fn kept(
    object: &ModelDeployment,
    model: &Model,
    inventory: &Inventory,
    present: &Deployment,
    anew: &Resolved,
) -> Option<Resolved> {
    let parallelism = object.spec.parallelism.as_ref()?;
    if !matches!(parallelism.tensor, Some(TensorParallel::Word(_))) {
        return None;
    }
    let stages = parallelism.pipeline.unwrap_or(1);
    let gpus = launch::requested_count(present)?;
    let ranks = gpus.checked_div(stages).filter(|ranks| ranks.checked_mul(stages) == Some(gpus))?;
    let resolved = resolve_as_is(&with_ranks(object, ranks), model, inventory, Some(present));
    let Some(Built::Deployment(wanted)) = &resolved.built else { return None };
    let live = serde_json::to_value(present).ok()?;
    // What the estimate comes to is in the affinity and in the arguments.
    let is_of_spec = !launch::differs(wanted.pointer("/spec/template")?, live.pointer("/spec/template")?);
    let stays = is_any_ready(Some(present)) || may_fit(&resolved) || !may_fit(anew);
    (is_of_spec && stays).then_some(Resolved { kept: Some(ranks), ..resolved })
}

/// Whether some node has room for it, in use or not.
fn may_fit(resolved: &Resolved) -> bool {
    matches!(&resolved.found, Found::Planned(plan) if matches!(plan.decision.verdict, Verdict::Fits | Verdict::Busy))
}

fn is_any_ready(present: Option<&Deployment>) -> bool {
    present.and_then(|deployment| deployment.status.as_ref()?.ready_replicas).is_some_and(|ready| ready > 0)
}

/// The object with a number of ranks in the place of `auto`.
#[must_use]
pub fn with_ranks(object: &ModelDeployment, ranks: i64) -> ModelDeployment {
    let mut object = object.clone();
    object.spec.parallelism.get_or_insert_default().tensor = Some(TensorParallel::Ranks(ranks));
    object
}

fn resolve_as_is(
    object: &ModelDeployment,
    model: &Model,
    inventory: &Inventory,
    present: Option<&Deployment>,
) -> Resolved {
    let planned = match plan(object, &model.shape, inventory) {
        Ok(planned) => planned,
        Err(error) => return Resolved::without_workload(Found::Refused(error)),
    };
    if planned.decision.reason == Reason::NeverFits {
        return Resolved::without_workload(Found::Planned(Box::new(planned)));
    }
    let metadata = &object.metadata;
    let subject = launch::Subject {
        namespace: metadata.namespace.as_deref().unwrap_or_default(),
        name: metadata.name.as_deref().unwrap_or_default(),
        uid: metadata.uid.as_deref().unwrap_or_default(),
        spec: &object.spec,
        shape: &model.shape,
        catalog_repository: model.catalog_repository.as_deref(),
        resource: launch::resource(
            &planned.decision,
            present.and_then(launch::requested),
            is_any_ready(present),
        ),
        estimate: &planned.estimate,
        margin: planned.margin,
        requirement: planned.requirement,
    };
    match launch::build(subject) {
        Ok(built) => Resolved { found: Found::Planned(Box::new(planned)), built: Some(built), kept: None },
        Err(error) => Resolved::without_workload(Found::Refused(error)),
    }
}

/// The plan alone.
///
/// # Errors
/// See [`Refusal`].
pub fn plan(object: &ModelDeployment, shape: &ModelShape, inventory: &Inventory) -> Result<Plan, Refusal> {
    let subject = plan::Subject {
        namespace: object.metadata.namespace.as_deref().unwrap_or_default(),
        name: object.metadata.name.as_deref().unwrap_or_default(),
        spec: &object.spec,
    };
    plan::plan(subject, shape, inventory)
}

#[cfg(test)]
mod tests;
