//! What is said of a ModelDeployment that is to be created or changed: nothing, a warning, or no. Pure.
//!
//! Invariants: what is refused is what `plan` refuses, and what was accepted once can still be changed elsewhere; a delete,
//! a status and a change of metadata alone are never refused; what is not known is never a reason to refuse.

use std::sync::Arc;

use serde_json::Value;

use super::wire::{Operation, Request};
use crate::api::ModelDeployment;
use crate::api::v1alpha1::AdmissionMode;
use crate::decide::Verdict;
use crate::inventory::Inventory;
use crate::model::ModelShape;
use crate::plan::{Permits, Plan, Subject, check, permitted};
use crate::render::{Answer, Found, Origin, Outcome};

/// What is known when a question comes.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// What is done where nothing fits and the object does not say.
    pub mode: AdmissionMode,
    /// The cluster, if it has been read.
    pub inventory: Option<&'a Inventory>,
    /// What specs may ask for.
    pub permits: &'a Permits,
}

/// Says what is to be said. `shape` finds the shape of an object's model, from what is in memory.
pub fn review(
    request: &Request,
    known: Known<'_>,
    shape: impl Fn(&ModelDeployment) -> Result<Arc<ModelShape>, Found>,
) -> Answer {
    if !matches!(request.operation, Operation::Create | Operation::Update) || !request.sub_resource.is_empty()
    {
        return Answer::Passed;
    }
    let Some(object) = &request.object else { return Answer::Passed };
    let old = request.old_object.as_ref().filter(|_| request.operation == Operation::Update);
    let is_going = object.pointer("/metadata/deletionTimestamp").is_some_and(|time| !time.is_null());
    if is_going || old.is_some_and(|old| old.get("spec") == object.get("spec")) {
        return Answer::Passed;
    }
    let (found, read) = look(request, object, known, &shape);
    let mode = read.and_then(|read| read.spec.admission).unwrap_or(known.mode);
    let judged = judge(found, mode);
    let Answer::Denied { found, .. } = &judged else { return judged };
    // What is as wrong as it was is no reason to hold up what else is changed.
    let Some(old) = old else { return judged };
    let (before, _) = look(request, old, known, &shape);
    if is_no_worse(found, object, before.as_ref(), old) {
        return Answer::Warned { found: found.clone() };
    }
    judged
}

/// What is found of one version of the object.
fn look(
    request: &Request,
    object: &Value,
    known: Known<'_>,
    shape: &impl Fn(&ModelDeployment) -> Result<Arc<ModelShape>, Found>,
) -> (Option<Found>, Option<ModelDeployment>) {
    let mut read: ModelDeployment = match serde_path_to_error::deserialize(object) {
        Ok(read) => read,
        Err(error) => {
            let fault = format!("{}: {}", error.path(), error.inner());
            return (Some(Found::Malformed(vec![fault])), None);
        }
    };
    read.metadata.namespace = Some(request.namespace.clone());
    let Known { inventory, permits, .. } = known;
    let found = if let Some(inventory) = inventory {
        Some(Found::of(Subject::of(&read, None), permits, inventory, || shape(&read)))
    } else {
        // What is wrong by itself is wrong in any cluster.
        let checked = check(&read.spec).and_then(|()| permitted(&read.spec, permits));
        checked.err().map(Found::Refused)
    };
    (found, Some(read))
}

fn judge(found: Option<Found>, mode: AdmissionMode) -> Answer {
    let Some(found) = found else { return Answer::ClusterUnread };
    match &found {
        Found::Refused(_) | Found::Malformed(_) => Answer::Denied { found, is_invalid: true },
        Found::Pending | Found::Unresolved(_) | Found::Unread { .. } => match mode {
            AdmissionMode::Ignore => Answer::ModelUnknown { is_silent: true },
            AdmissionMode::Deny | AdmissionMode::Warn => Answer::ModelUnknown { is_silent: false },
        },
        Found::Planned(_) => {
            let verdict = Outcome {
                namespace: String::new(),
                name: String::new(),
                origin: Origin::default(),
                workload: None,
                found: found.clone(),
            }
            .verdict();
            match (verdict, mode) {
                (Verdict::Fits, _) | (_, AdmissionMode::Ignore) => Answer::Passed,
                // Of nodes that do not say what they have nothing is known.
                (Verdict::Unknown, _) | (_, AdmissionMode::Warn) => Answer::Warned { found },
                (Verdict::Busy | Verdict::Rejected, AdmissionMode::Deny) => {
                    Answer::Denied { found, is_invalid: false }
                }
            }
        }
    }
}

/// Whether what is wrong with an object was wrong with it before, and has not become more.
fn is_no_worse(found: &Found, object: &Value, before: Option<&Found>, old: &Value) -> bool {
    match (found, before) {
        (Found::Malformed(faults), Some(Found::Malformed(known))) => {
            faults.iter().all(|fault| known.contains(fault))
        }
        (Found::Refused(refusal), Some(Found::Refused(known))) => {
            let is_untouched = refusal.field().is_some_and(|field| {
                let pointer = pointer(field);
                let (now, then) = (object.pointer(&pointer), old.pointer(&pointer));
                now.is_some() && now == then
            });
            refusal == known || is_untouched
        }
        (Found::Planned(now), Some(Found::Planned(then))) => {
            let (now, then) = (now.as_ref(), then.as_ref());
            let is_unfit = |plan: &Plan| matches!(plan.answer().0, Verdict::Busy | Verdict::Rejected);
            let (needs, needed) = (now.requirement, then.requirement);
            is_unfit(then) && needs.per_gpu <= needed.per_gpu && needs.gpus <= needed.gpus
        }
        _ => false,
    }
}

/// `engine.args[2]` below `spec`, as a JSON pointer.
fn pointer(field: &str) -> String {
    let mut pointer = "/spec".to_owned();
    for part in field.split('.') {
        let (name, index) = part.split_once('[').unwrap_or((part, ""));
        pointer.push('/');
        pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
        if let Some(index) = index.strip_suffix(']') {
            pointer.push('/');
            pointer.push_str(index);
        }
    }
    pointer
}

#[cfg(test)]
mod tests;
