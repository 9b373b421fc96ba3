//! The `apps/v1` Deployment that carries an object's pods, as it is to be applied.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStrategy};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use super::Pods;
use super::record::{RECORD_ANNOTATION, Record};
use crate::digest::fnv1a;
use crate::inventory::MODEL_DEPLOYMENT_LABEL;

/// Who writes the workload, in `metadata.managedFields`.
pub const FIELD_MANAGER: &str = "loadline-controller";
/// A digest of what was applied: a field that is no longer wanted shows in it, and in nothing else.
pub const APPLIED_ANNOTATION: &str = "loadline.dev/applied";
/// Says who manages an object.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY_LABEL`].
pub const MANAGED_BY: &str = "loadline";
/// Weights of hundreds of gigabytes take longer to be pulled and loaded than the ten minutes that a Deployment gives by default.
const PROGRESS_DEADLINE_SECONDS: i32 = 3600;

/// Whose Deployment it is.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// The object's namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its uid, for the owner reference.
    pub uid: &'a str,
}

/// How new pods take the place of old ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replacement {
    /// A new pod is started first, beside the old ones: a GPU is free for it.
    Surge,
    /// Old pods go first, and new ones take their GPUs: none is free. So many of the replicas may be missing meanwhile.
    InPlace(i32),
    /// All old pods go first.
    Recreate,
}

impl Replacement {
    fn strategy(self) -> Value {
        match self {
            Self::Surge => {
                json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}})
            }
            Self::InPlace(missing) => {
                json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": missing}})
            }
            Self::Recreate => json!({"type": "Recreate"}),
        }
    }

    /// How a Deployment that is to be applied replaces its pods.
    #[must_use]
    pub fn read(deployment: &Value) -> Option<Self> {
        let strategy = deployment.pointer("/spec/strategy")?.clone();
        Self::of_strategy(&serde_json::from_value(strategy).ok()?)
    }

    /// How a Deployment replaces its pods now.
    #[must_use]
    pub fn of(deployment: &Deployment) -> Option<Self> {
        Self::of_strategy(deployment.spec.as_ref()?.strategy.as_ref()?)
    }

    fn of_strategy(strategy: &DeploymentStrategy) -> Option<Self> {
        if strategy.type_.as_deref() == Some("Recreate") {
            return Some(Self::Recreate);
        }
        let rolling = strategy.rolling_update.as_ref()?;
        let is_none = match rolling.max_surge.as_ref()? {
            IntOrString::Int(count) => *count == 0,
            IntOrString::String(share) => share == "0%",
        };
        let missing = match rolling.max_unavailable {
            Some(IntOrString::Int(count)) => count,
            _ => 1,
        };
        Some(if is_none { Self::InPlace(missing) } else { Self::Surge })
    }
}

/// What must be taken away from a live Deployment before the wanted one is applied: the server's own default of the
/// strategy, which nobody owns and which is no part of `Recreate`. Server-side apply leaves it, and the server then refuses the
/// whole; a merge takes it away by name.
#[must_use]
pub fn removal(wanted: &Value, live: &Deployment) -> Option<Value> {
    let has_default = live.spec.as_ref()?.strategy.as_ref()?.rolling_update.is_some();
    (has_default && Replacement::read(wanted) == Some(Replacement::Recreate)).then(|| {
        json!({
            "metadata": {"uid": live.metadata.uid},
            "spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}},
        })
    })
}

/// The labels that select an object's pods.
#[must_use]
pub fn selector(name: &str) -> String {
    format!("{MANAGED_BY_LABEL}={MANAGED_BY},{MODEL_DEPLOYMENT_LABEL}={name}")
}

/// The Deployment of these pods.
#[must_use]
pub fn deployment(
    identity: Identity<'_>,
    pods: &Pods,
    record: &Record,
    replicas: i32,
    replacement: Replacement,
) -> Value {
    let application = pods.template.pointer("/metadata/labels/app.kubernetes.io~1name");
    let mut deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": identity.name,
            "namespace": identity.namespace,
            "labels": {
                "app.kubernetes.io/name": application.cloned().unwrap_or_else(|| json!("model")),
                "app.kubernetes.io/instance": identity.name,
                "app.kubernetes.io/component": "model-server",
                MANAGED_BY_LABEL: MANAGED_BY,
                MODEL_DEPLOYMENT_LABEL: identity.name,
            },
            "ownerReferences": [{
                "apiVersion": "loadline.dev/v1alpha1",
                "kind": "ModelDeployment",
                "name": identity.name,
                "uid": identity.uid,
                "controller": true,
                "blockOwnerDeletion": true,
            }],
        },
        "spec": {
            "replicas": replicas,
            "progressDeadlineSeconds": PROGRESS_DEADLINE_SECONDS,
            "strategy": replacement.strategy(),
            "selector": {"matchLabels": {
                MANAGED_BY_LABEL: MANAGED_BY,
                MODEL_DEPLOYMENT_LABEL: identity.name,
            }},
            "template": pods.template,
        },
    });
    let digest = format!("{:016x}", fnv1a(deployment.to_string().as_bytes()));
    if let Some(metadata) = deployment.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert(
            "annotations".to_owned(),
            json!({APPLIED_ANNOTATION: digest, RECORD_ANNOTATION: record.to_text()}),
        );
    }
    deployment
}

/// The digest that a built Deployment carries.
#[must_use]
pub fn digest_of(deployment: &Value) -> Option<&str> {
    deployment.get("metadata")?.get("annotations")?.get(APPLIED_ANNOTATION)?.as_str()
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
