//! Writes workloads and statuses, by server-side apply and only where something differs.

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::DynamicObject;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tracing::info;

use super::build::{self, Built, FIELD_MANAGER};
use super::error::{Error, within};
use super::status::{Child, Workload};
use crate::api::{ModelDeployment, ModelDeploymentStatus};
use crate::telemetry::Metrics;

/// Brings the Deployment of an object to what was built. `seen` is the Deployment as the watch last saw it.
///
/// # Errors
/// The API server does not answer, or refuses for a reason that may pass.
pub async fn workload(
    client: &Client,
    metrics: &Metrics,
    object: &ModelDeployment,
    built: Option<&Built>,
    seen: Option<&Deployment>,
) -> Result<Workload, Error> {
    let namespace = object.namespace().unwrap_or_default();
    let name = object.name_any();
    let own = seen.filter(|seen| is_owned(seen, object));
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &namespace);
    let wanted = match built {
        None => return Ok(Workload::LeftAlone(own.map(Child::of))),
        Some(Built::Nothing(nothing)) => {
            if let Some(own) = own {
                remove(&deployments, own).await?;
                metrics.workload_written();
                info!(%namespace, %name, "removed the Deployment: nothing is to run");
            }
            return Ok(Workload::Nothing(nothing.clone()));
        }
        Some(Built::Deployment(wanted)) => wanted,
    };
    // The watch sees only Deployments that Loadline manages: one of another's is asked for by name.
    let fetched = match seen {
        Some(_) => None,
        None => within("Deployment", deployments.get_opt(&name)).await?,
    };
    if let Some(live) = seen.or(fetched.as_ref()) {
        if !is_owned(live, object) {
            return Ok(Workload::NameTaken);
        }
        let value =
            serde_json::to_value(live).map_err(|source| Error::Json { what: "Deployment", source })?;
        if !build::differs(wanted, &value) {
            return Ok(Workload::Written(Child::of(live)));
        }
    }
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    let applied = within("Deployment", deployments.patch(&name, &parameters, &Patch::Apply(wanted))).await;
    match applied {
        Ok(applied) => {
            metrics.workload_written();
            info!(%namespace, %name, "applied the Deployment");
            Ok(Workload::Written(Child::of(&applied)))
        }
        Err(Error::Api { source, .. }) if refusal(&source).is_some() => {
            Ok(Workload::Rejected(refusal(&source).unwrap_or_default()))
        }
        Err(error) => Err(error),
    }
}

/// Why the server refuses a Deployment whatever the time: it is invalid. A quota, a missing permission or an admission
/// webhook may say otherwise later.
fn refusal(error: &kube::Error) -> Option<String> {
    let kube::Error::Api(status) = error else { return None };
    let unknown_field = status.message.contains("field not declared in schema");
    let is_final = status.is_invalid() || status.code == 400 || unknown_field;
    is_final.then(|| status.message.clone())
}

/// Whether an object is the controller of a Deployment.
fn is_owned(deployment: &Deployment, object: &ModelDeployment) -> bool {
    let uid = object.metadata.uid.as_deref();
    deployment
        .owner_references()
        .iter()
        .any(|owner| owner.controller == Some(true) && Some(owner.uid.as_str()) == uid)
}

async fn remove(deployments: &Api<Deployment>, own: &Deployment) -> Result<(), Error> {
    let parameters = DeleteParams {
        preconditions: Some(Preconditions { uid: own.metadata.uid.clone(), resource_version: None }),
        ..DeleteParams::background()
    };
    match within("Deployment", deployments.delete(&own.name_any(), &parameters)).await {
        Err(Error::Api { source, .. }) if is_gone(&source) => Ok(()),
        other => other.map(|_| ()),
    }
}

/// Not there, or another by now.
fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_not_found() || status.is_conflict())
}

/// Writes a status; the resource version it has then, or `None` if the object is gone.
///
/// # Errors
/// The API server does not answer, or refuses.
pub async fn status(
    client: &Client,
    namespace: &str,
    name: &str,
    uid: Option<&str>,
    status: &ModelDeploymentStatus,
) -> Result<Option<String>, Error> {
    let resource = kube::core::ApiResource::erase::<ModelDeployment>(&());
    let objects: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let patch = status_patch(namespace, name, uid, status)?;
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    // A dynamic object: one that is malformed has a status too.
    match within("status", objects.patch_status(name, &parameters, &Patch::Apply(&patch))).await {
        Ok(written) => Ok(written.metadata.resource_version),
        Err(Error::Api { source, .. }) if is_gone(&source) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The uid keeps the status of an object that was deleted from one of the same name that came after.
fn status_patch(
    namespace: &str,
    name: &str,
    uid: Option<&str>,
    status: &ModelDeploymentStatus,
) -> Result<Value, Error> {
    let status = serde_json::to_value(status).map_err(|source| Error::Json { what: "status", source })?;
    Ok(json!({
        "apiVersion": "loadline.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"namespace": namespace, "name": name, "uid": uid},
        "status": status,
    }))
}

#[cfg(test)]
mod tests;
