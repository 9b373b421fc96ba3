//! From an object and its model's shape to a plan and a workload. Pure.

use k8s_openapi::api::apps::v1::Deployment;

use crate::api::ModelDeployment;
use crate::decide::Reason;
use crate::inventory::Inventory;
use crate::model::ModelShape;
use crate::plan::{self, Plan};
use crate::render::Found;

use super::build::{self, Built};

/// A model's shape, and what else is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// The shape.
    pub shape: ModelShape,
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
}

/// Plans an object, and builds its workload unless it can never fit. `present` is its Deployment, if it has one.
#[must_use]
pub fn resolve(
    object: &ModelDeployment,
    model: &Model,
    inventory: &Inventory,
    present: Option<&Deployment>,
) -> Resolved {
    let planned = match plan(object, &model.shape, inventory) {
        Ok(planned) => planned,
        Err(error) => return Resolved { found: Found::Refused(error), built: None },
    };
    if planned.decision.reason == Reason::NeverFits {
        return Resolved { found: Found::Planned(Box::new(planned)), built: None };
    }
    let metadata = &object.metadata;
    let is_any_ready = present
        .and_then(|deployment| deployment.status.as_ref()?.ready_replicas)
        .is_some_and(|ready| ready > 0);
    let subject = build::Subject {
        namespace: metadata.namespace.as_deref().unwrap_or_default(),
        name: metadata.name.as_deref().unwrap_or_default(),
        uid: metadata.uid.as_deref().unwrap_or_default(),
        spec: &object.spec,
        shape: &model.shape,
        catalog_repository: model.catalog_repository.as_deref(),
        resource: build::resource(&planned.decision, present.and_then(build::requested), is_any_ready),
    };
    match build::build(subject, &planned) {
        Ok(built) => Resolved { found: Found::Planned(Box::new(planned)), built: Some(built) },
        Err(error) => Resolved { found: Found::Refused(error), built: None },
    }
}

/// The plan alone.
///
/// # Errors
/// See [`plan::PlanError`].
pub fn plan(
    object: &ModelDeployment,
    shape: &ModelShape,
    inventory: &Inventory,
) -> Result<Plan, plan::PlanError> {
    let subject = plan::Subject {
        namespace: object.metadata.namespace.as_deref().unwrap_or_default(),
        name: object.metadata.name.as_deref().unwrap_or_default(),
        spec: &object.spec,
    };
    plan::plan(subject, shape, inventory)
}
