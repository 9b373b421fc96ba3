//! The workload that a plan comes to: an `apps/v1` Deployment, as it is to be applied. Pure.
//!
//! Invariants: the pod template depends on the spec alone, never on the cluster, so that nothing but a change of the
//! spec rolls the pods; a pod that the template makes can be bound only to nodes that [`decide`](crate::decide) accepts
//! by their labels.

pub mod affinity;
mod template;

use k8s_openapi::api::apps::v1::Deployment;
use serde_json::{Value, json};

use crate::api::ModelDeploymentSpec;
use crate::decide::{Decision, Requirement, Verdict};
use crate::engine;
use crate::estimate::Estimate;
use crate::inventory::MODEL_DEPLOYMENT_LABEL;
use crate::model::ModelShape;
use crate::refusal::Refusal;
use crate::units::Margin;

/// Who writes the workload, in `metadata.managedFields`.
pub const FIELD_MANAGER: &str = "loadline-controller";
/// A digest of what was applied: a field that is no longer wanted shows in it, and in nothing else.
pub const APPLIED_ANNOTATION: &str = "loadline.dev/applied";
/// Says who manages an object.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY_LABEL`].
pub const MANAGED_BY: &str = "loadline";
/// A label value is at most so long, and the object's name is one.
const LONGEST_NAME: usize = 63;
/// Weights of hundreds of gigabytes take longer to be pulled and loaded than the ten minutes that a Deployment gives by default.
const PROGRESS_DEADLINE_SECONDS: i32 = 3600;

/// What is built of an object.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its identity, for the owner reference.
    pub uid: &'a str,
    /// Its spec.
    pub spec: &'a ModelDeploymentSpec,
    /// The model's shape.
    pub shape: &'a ModelShape,
    /// The repository that a catalog entry stands for.
    pub catalog_repository: Option<&'a str>,
    /// The resource that the pods request, such as `nvidia.com/gpu`.
    pub resource: &'a str,
    /// What it needs.
    pub estimate: &'a Estimate,
    /// The safety margin.
    pub margin: Margin,
    /// What the nodes must have.
    pub requirement: Requirement,
}

/// The resource that the pods are to request: the one they request already, unless it is of no use; else the decision's.
///
/// Nothing but a change of the spec should roll the pods. A cluster that has come to have whole GPUs beside its MIG
/// slices, or the other way round, is no reason; that none of the pods is ready and only the others would fit is one.
#[must_use]
pub fn resource<'a>(decision: &'a Decision, present: Option<&'a str>, is_any_ready: bool) -> &'a str {
    let suited = |resource: Option<&str>| {
        decision
            .classes
            .iter()
            .filter(|class| matches!(class.verdict(), Verdict::Fits | Verdict::Busy))
            .filter_map(|class| class.pool.as_deref())
            .any(|pool| resource.is_none_or(|resource| pool.resource == resource))
    };
    match present {
        Some(present) if is_any_ready || suited(Some(present)) || !suited(None) => present,
        _ => decision.resource(),
    }
}

/// The GPU resource that a Deployment's pods request.
#[must_use]
pub fn requested(deployment: &Deployment) -> Option<&str> {
    requested_gpus(deployment).map(|(resource, _)| resource)
}

/// How many GPUs each of a Deployment's pods requests.
#[must_use]
pub fn requested_count(deployment: &Deployment) -> Option<i64> {
    requested_gpus(deployment)?.1.parse().ok()
}

fn requested_gpus(deployment: &Deployment) -> Option<(&str, &str)> {
    let pods = deployment.spec.as_ref()?.template.spec.as_ref()?;
    pods.containers
        .iter()
        .filter_map(|container| container.resources.as_ref()?.limits.as_ref())
        .flat_map(|limits| limits.iter())
        .map(|(resource, count)| (resource.as_str(), count.0.as_str()))
        .find(|(resource, _)| resource.starts_with("nvidia.com/"))
}

pub use crate::engine::Nothing;

/// What a plan comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Built {
    /// Nothing is to run.
    Nothing(Nothing),
    /// The Deployment, as it is to be applied.
    Deployment(Box<Value>),
}

/// The labels that select an object's pods.
#[must_use]
pub fn selector(name: &str) -> String {
    format!("{MANAGED_BY_LABEL}={MANAGED_BY},{MODEL_DEPLOYMENT_LABEL}={name}")
}

/// Builds the Deployment of an object, if anything is to run.
///
/// # Errors
/// A template or engine argument that is malformed or contradicts the estimate.
pub fn build(subject: Subject<'_>) -> Result<Built, Refusal> {
    let spec = subject.spec;
    if spec.training.is_some() {
        return Ok(Built::Nothing(Nothing::Training));
    }
    let launch = match engine::start(engine::Question {
        spec,
        shape: subject.shape,
        catalog_repository: subject.catalog_repository,
        estimate: subject.estimate,
        margin: subject.margin,
    })? {
        engine::Launch::Nothing(nothing) => return Ok(Built::Nothing(nothing)),
        engine::Launch::Run(launch) => launch,
    };
    if subject.name.len() > LONGEST_NAME {
        return Err(Refusal::Invalid {
            field: "model".to_owned(),
            problem: format!(
                "metadata.name \"{}\" has {} characters, and its pods carry it as a label",
                crate::units::shorten(subject.name),
                subject.name.len()
            ),
            remedy: format!("choose a name of at most {LONGEST_NAME} characters"),
        });
    }
    let labels = json!({
        "app.kubernetes.io/name": launch.application,
        "app.kubernetes.io/instance": subject.name,
        "app.kubernetes.io/component": "model-server",
        MANAGED_BY_LABEL: MANAGED_BY,
        MODEL_DEPLOYMENT_LABEL: subject.name,
    });
    let pods = template::pods(subject, &launch, &labels)?;
    let mut deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": subject.name,
            "namespace": subject.namespace,
            "labels": labels,
            "ownerReferences": [{
                "apiVersion": "loadline.dev/v1alpha1",
                "kind": "ModelDeployment",
                "name": subject.name,
                "uid": subject.uid,
                "controller": true,
                "blockOwnerDeletion": true,
            }],
        },
        "spec": {
            "replicas": spec.replicas,
            "progressDeadlineSeconds": PROGRESS_DEADLINE_SECONDS,
            "selector": {"matchLabels": {
                MANAGED_BY_LABEL: MANAGED_BY,
                MODEL_DEPLOYMENT_LABEL: subject.name,
            }},
            "template": pods,
        },
    });
    let digest = format!("{:016x}", fnv1a(deployment.to_string().as_bytes()));
    if let Some(metadata) = deployment.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("annotations".to_owned(), json!({APPLIED_ANNOTATION: digest}));
    }
    Ok(Built::Deployment(Box::new(deployment)))
}

/// The digest that a built Deployment carries.
#[must_use]
pub fn digest_of(deployment: &Value) -> Option<&str> {
    deployment.get("metadata")?.get("annotations")?.get(APPLIED_ANNOTATION)?.as_str()
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo): the standard library promises no stable hash, and a digest that changed with the
/// compiler would write every Deployment anew.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Whether the live object differs from what is to be applied in any field that is to be applied. Fields that others
/// have set, and that the server has defaulted, do not count; a field that is no longer wanted shows in the digest.
#[must_use]
pub fn differs(wanted: &Value, live: &Value) -> bool {
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => wanted
            .iter()
            .any(|(key, value)| !is_empty(value) && live.get(key).is_none_or(|live| differs(value, live))),
        (Value::Array(wanted), Value::Array(live)) => {
            wanted.len() != live.len() || wanted.iter().zip(live).any(|(wanted, live)| differs(wanted, live))
        }
        _ => !is_same(wanted, live),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// Quantities may be read back as strings where numbers were written.
fn is_same(wanted: &Value, live: &Value) -> bool {
    match (wanted, live) {
        (Value::Number(number), Value::String(text)) | (Value::String(text), Value::Number(number)) => {
            number.to_string() == *text
        }
        _ => wanted == live,
    }
}

#[cfg(test)]
mod tests;
