//! From an object and its model's shape to a plan, and to what is to become of its workload. Pure.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use serde_json::Value;

use crate::api::ModelDeployment;
use crate::api::conditions::{self, READY, WorkloadReason};
use crate::api::v1alpha1::RolloutMode;
use crate::decide::{Reason, Verdict};
use crate::inventory::{Inventory, PodFacts};
use crate::launch::deployment::{Identity, Replacement, deployment};
use crate::launch::images::Images;
use crate::launch::{Launch, Record, Running};
use crate::model::ModelShape;
use crate::plan::{self, Decided, Plan, Prepared, Subject};
use crate::render::Found;
use crate::world::Tracked;

/// What was found of an object, and what is to become of its workload.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The plan, or why there is none.
    pub found: Found,
    /// What is to become of the workload.
    pub desired: Desired,
    /// What a change of the cluster would decide anew.
    pub tracked: Option<Tracked>,
}

impl Resolved {
    /// How new pods take the place of old ones.
    #[must_use]
    pub fn replacement(&self) -> Replacement {
        match &self.desired {
            Desired::Deployment(wanted) => Replacement::read(wanted).unwrap_or(Replacement::Surge),
            Desired::None | Desired::AsItIs => Replacement::Surge,
        }
    }
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

/// What is known of an object's workload.
#[derive(Clone, Copy, Debug, Default)]
pub struct Present<'a> {
    /// Its Deployment, if it has one.
    pub deployment: Option<&'a Deployment>,
    /// Its pods.
    pub pods: &'a [PodFacts],
    /// Where the engines' images are kept, if not where their makers keep them.
    pub images: Option<&'a Images>,
}

/// Plans an object, and works out its workload. `decided` is what a change of the cluster has led to already.
#[must_use]
pub fn resolve(
    object: &ModelDeployment,
    shape: &Arc<ModelShape>,
    inventory: &Inventory,
    present: Present<'_>,
    decided: impl FnOnce(Option<&Running>) -> Option<(Arc<Prepared>, Decided)>,
) -> Resolved {
    let running = present.deployment.map(|deployment| running(object, deployment));
    let running = running.as_ref();
    let subject = Subject::of(object, running);
    let decided = decided(running).map_or_else(
        || {
            let prepared = plan::prepare(subject, shape)?;
            let decided = prepared.decide(subject, shape, inventory)?;
            Ok((Arc::new(prepared), decided))
        },
        Ok,
    );
    let (prepared, decided) = match decided {
        Ok(decided) => decided,
        Err(error) => return held(Found::Refused(error), object, running, present, None),
    };
    let tracked = Tracked::new(object, running, Arc::clone(shape), Arc::clone(&prepared), &decided.decision);
    let mut planned = match prepared.plan(subject, shape, decided, inventory.sources()) {
        Ok(planned) => planned,
        // It may be the cluster that makes the workload impossible.
        Err(error) => return held(Found::Refused(error), object, running, present, Some(tracked)),
    };
    if let (Launch::Run(made), Some(images), None) = (&mut planned.launch, present.images, planned.kept) {
        images.relocate(&object.spec, made);
    }
    let made = match &planned.launch {
        Launch::Nothing(nothing) if nothing.is_by_choice() => {
            let found = Found::Planned(Box::new(planned));
            return Resolved { found, desired: Desired::None, tracked: Some(tracked) };
        }
        Launch::Run(made) if planned.decision.reason() != Reason::NeverFits => made,
        // What runs by an earlier spec serves on.
        Launch::Nothing(_) | Launch::Run(_) => {
            return held(Found::Planned(Box::new(planned)), object, running, present, Some(tracked));
        }
    };
    let record = Record::new(&object.spec, subject.roll, made);
    let is_new = running.and_then(|running| running.record.as_ref()) != Some(&record);
    let waits = present.pods.iter().any(|pod| pod.waits_for(&made.demand.resource));
    let step = Step { is_new, waits };
    let replacement = replacement(object, &planned, inventory, present.deployment, step);
    let wanted = deployment(identity(object), made, &record, object.spec.replicas, replacement);
    let desired = Desired::Deployment(Box::new(wanted));
    Resolved { found: Found::Planned(Box::new(planned)), desired, tracked: Some(tracked) }
}

/// What stays of an object's workload while nothing new can be made of its spec: the pods as they were written, as many
/// as the spec now asks for.
#[must_use]
pub fn unresolved(found: Found, object: &ModelDeployment, present: Option<&Deployment>) -> Resolved {
    let running = present.map(|present| running(object, present));
    held(found, object, running.as_ref(), Present { deployment: present, ..Present::default() }, None)
}

fn held(
    found: Found,
    object: &ModelDeployment,
    running: Option<&Running>,
    present: Present<'_>,
    tracked: Option<Tracked>,
) -> Resolved {
    let record = running.and_then(|running| running.record.as_ref());
    let desired = record.map_or(Desired::AsItIs, |record| {
        let replacement = present.deployment.and_then(Replacement::of).unwrap_or(Replacement::Surge);
        let pods = record.pods();
        Desired::Deployment(Box::new(deployment(
            identity(object),
            &pods,
            record,
            object.spec.replicas,
            replacement,
        )))
    });
    Resolved { found, desired, tracked }
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
        Reason::NotAllowed.as_str(),
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
    // No old pod goes for new ones that no node can take.
    if present.is_some() && plan.decision.slots == 0 && plan.decision.verdict() != Verdict::Busy {
        return Replacement::Surge;
    }
    match object.spec.rollout.unwrap_or_default() {
        RolloutMode::Surge => return Replacement::Surge,
        RolloutMode::InPlace => {
            return present.map_or(Replacement::InPlace(1), |present| in_place(object, plan, present, step));
        }
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
        in_place(object, plan, present, step)
    } else {
        Replacement::Surge
    }
}

/// In place, with one replica missing where all can run. Where fewer run than are wanted, or will, those are missing besides:
/// else the Deployment would wait for replicas that find no room before it lets an old pod go.
fn in_place(object: &ModelDeployment, plan: &Plan, present: &Deployment, step: Step) -> Replacement {
    let replicas = object.spec.replicas;
    let chosen = match Replacement::of(present) {
        Some(Replacement::InPlace(missing)) if !step.is_new => Some(missing),
        _ => None,
    };
    if let Some(missing) = chosen.filter(|_| !step.waits) {
        return Replacement::InPlace(missing);
    }
    let room = i32::try_from(plan.decision.slots).unwrap_or(i32::MAX).max(1);
    let ready = present.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0);
    // What was chosen lasts: as old pods go, fewer are ready, and no more have to go for that.
    let run = if chosen.is_some() { room } else { room.min(ready) };
    let missing = replicas.saturating_sub(run).saturating_add(1).clamp(1, replicas.max(1));
    Replacement::InPlace(missing.max(chosen.unwrap_or(1)))
}

#[cfg(test)]
mod tests;
