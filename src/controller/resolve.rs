//! From an object and its model's shape to a plan, and to what is to become of its workload. Pure.

use k8s_openapi::api::apps::v1::Deployment;
use serde_json::Value;

use crate::api::ModelDeployment;
use crate::api::conditions::{self, READY, WorkloadReason};
use crate::api::v1alpha1::RolloutMode;
use crate::decide::Reason;
use crate::inventory::{Inventory, PodFacts};
use crate::launch::deployment::{Identity, Replacement, deployment};
use crate::launch::record::ROLL_ANNOTATION;
use crate::launch::{Launch, Record, Running};
use crate::model::ModelShape;
use crate::plan::{self, Plan};
use crate::refusal::Refusal;
use crate::render::Found;

/// What was found of an object, and what is to become of its workload.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The plan, or why there is none.
    pub found: Found,
    /// What is to become of the workload.
    pub desired: Desired,
}

/// What is to become of an object's workload.
#[derive(Clone, Debug, PartialEq)]
pub enum Desired {
    /// This Deployment is to be there.
    Deployment(Box<Value>),
    /// None is to be there: the spec asks for an estimate only.
    None,
    /// Nothing can be said: what is there stays.
    AsItIs,
}

/// Plans an object, and works out its workload. `present` is its Deployment, if it has one, and `pods` what is known of
/// the pods.
#[must_use]
pub fn resolve(
    object: &ModelDeployment,
    shape: &ModelShape,
    inventory: &Inventory,
    present: Option<&Deployment>,
    pods: &[PodFacts],
) -> Resolved {
    let running = present.map(|present| running(object, present));
    let planned = match plan(object, shape, inventory, running.as_ref()) {
        Ok(planned) => planned,
        Err(error) => return held(Found::Refused(error), object, running.as_ref(), present),
    };
    let made = match &planned.launch {
        Launch::Nothing(nothing) if nothing.is_by_choice() => {
            return Resolved { found: Found::Planned(Box::new(planned)), desired: Desired::None };
        }
        Launch::Run(made) if planned.decision.reason != Reason::NeverFits => made,
        // What runs by an earlier spec serves on.
        Launch::Nothing(_) | Launch::Run(_) => {
            return held(Found::Planned(Box::new(planned)), object, running.as_ref(), present);
        }
    };
    let record = Record::new(&object.spec, roll(object), made);
    let is_new = running.as_ref().and_then(|running| running.record.as_ref()) != Some(&record);
    let waits = pods.iter().any(PodFacts::waits_for_a_node);
    let replacement = replacement(object, &planned, inventory, present, Step { is_new, waits });
    let wanted = deployment(identity(object), made, &record, object.spec.replicas, replacement);
    Resolved { found: Found::Planned(Box::new(planned)), desired: Desired::Deployment(Box::new(wanted)) }
}

/// What stays of an object's workload while nothing new can be made of its spec: the pods as they were written, as many
/// as the spec now asks for.
#[must_use]
pub fn unresolved(found: Found, object: &ModelDeployment, present: Option<&Deployment>) -> Resolved {
    let running = present.map(|present| running(object, present));
    held(found, object, running.as_ref(), present)
}

fn held(
    found: Found,
    object: &ModelDeployment,
    running: Option<&Running>,
    present: Option<&Deployment>,
) -> Resolved {
    let record = running.and_then(|running| running.record.as_ref());
    let desired = record.map_or(Desired::AsItIs, |record| {
        let replacement = present.and_then(Replacement::of).unwrap_or(Replacement::Surge);
        let pods = record.pods();
        Desired::Deployment(Box::new(deployment(
            identity(object),
            &pods,
            record,
            object.spec.replicas,
            replacement,
        )))
    });
    Resolved { found, desired }
}

/// What runs for an object, by its Deployment.
#[must_use]
pub fn running(object: &ModelDeployment, present: &Deployment) -> Running {
    Running::of(present, is_written_for(object).then_some(&object.spec))
}

/// Whether the workload of an object is known to be of its present spec, by the status that was written after it: reasons
/// of Ready that came with no write say nothing.
fn is_written_for(object: &ModelDeployment) -> bool {
    let Some(status) = &object.status else { return false };
    let unwritten = [
        Reason::InvalidSpec.as_str(),
        Reason::NotSupported.as_str(),
        Reason::ModelNotResolved.as_str(),
        Reason::EstimatePending.as_str(),
        Reason::NeverFits.as_str(),
        Reason::CannotRun.as_str(),
        WorkloadReason::NameTaken.as_str(),
        WorkloadReason::WorkloadRejected.as_str(),
        WorkloadReason::WorkloadDenied.as_str(),
    ];
    status.observed_generation.is_some()
        && status.observed_generation == object.metadata.generation
        && conditions::find(&status.conditions, READY)
            .is_some_and(|ready| !unwritten.contains(&ready.reason.as_str()))
}

fn identity(object: &ModelDeployment) -> Identity<'_> {
    let metadata = &object.metadata;
    Identity {
        namespace: metadata.namespace.as_deref().unwrap_or_default(),
        name: metadata.name.as_deref().unwrap_or_default(),
        uid: metadata.uid.as_deref().unwrap_or_default(),
    }
}

/// The value of the annotation that asks for a roll.
fn roll(object: &ModelDeployment) -> Option<&str> {
    object.metadata.annotations.as_ref()?.get(ROLL_ANNOTATION).map(String::as_str)
}

/// Where the replacement of an object's pods stands.
#[derive(Clone, Copy)]
struct Step {
    /// The pods are to be made anew.
    is_new: bool,
    /// One of them finds no node.
    waits: bool,
}

/// How new pods are to take the place of old ones: beside them where a GPU is free, else in their place. What was chosen
/// stays while pods are being replaced, unless one of the new waits for a GPU; where it would wait in either way, the
/// old ones serve on.
fn replacement(
    object: &ModelDeployment,
    plan: &Plan,
    inventory: &Inventory,
    present: Option<&Deployment>,
    step: Step,
) -> Replacement {
    let Step { is_new, waits } = step;
    match object.spec.rollout.unwrap_or_default() {
        RolloutMode::Surge => return Replacement::Surge,
        RolloutMode::InPlace => return Replacement::InPlace,
        RolloutMode::Recreate => return Replacement::Recreate,
        RolloutMode::Auto => {}
    }
    // Where there are no old pods none has to go.
    let Some(present) = present else { return Replacement::Surge };
    let now = Replacement::of(present).unwrap_or(Replacement::Surge);
    if !is_new && !waits {
        return now;
    }
    if plan::slots_beside_its_own(plan, inventory) > 0 {
        if is_new { Replacement::Surge } else { now }
    } else if plan.decision.slots > 0 {
        Replacement::InPlace
    } else {
        Replacement::Surge
    }
}

/// The plan alone.
///
/// # Errors
/// See [`Refusal`].
pub fn plan(
    object: &ModelDeployment,
    shape: &ModelShape,
    inventory: &Inventory,
    running: Option<&Running>,
) -> Result<Plan, Refusal> {
    let subject = plan::Subject {
        namespace: object.metadata.namespace.as_deref().unwrap_or_default(),
        name: object.metadata.name.as_deref().unwrap_or_default(),
        spec: &object.spec,
        roll: roll(object),
        running,
    };
    plan::plan(subject, shape, inventory)
}

#[cfg(test)]
mod tests;
