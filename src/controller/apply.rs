//! Writes workloads and statuses, by server-side apply and only where something differs.

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::DynamicObject;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tracing::{info, warn};

use super::error::{Error, within};
use super::memory::{Attempt, Records};
use super::resolve::Desired;
use crate::api::{ModelDeployment, ModelDeploymentStatus, conditions};
use crate::inventory::MODEL_DEPLOYMENT_LABEL;
use crate::launch::deployment::{self, FIELD_MANAGER, MANAGED_BY, MANAGED_BY_LABEL};
use crate::launch::rollout::{Child, Rollout};
use crate::telemetry::Metrics;

/// How long a Deployment that the server refuses is not offered again, unless it is another by then.
pub const REFUSED: Duration = Duration::from_mins(10);
/// How soon a Deployment that is denied is offered again: nothing tells when a quota or a policy is another.
pub const DENIED: Duration = Duration::from_secs(30);

/// Who writes, and what is known of the last time.
#[derive(Clone, Copy)]
pub struct Writer<'a> {
    /// The API server.
    pub client: &'a Client,
    /// What is counted.
    pub metrics: &'a Metrics,
    /// What is remembered.
    pub memory: &'a Records,
}

/// Brings the Deployment of an object to what is desired. `seen` is the Deployment as the watch last saw it.
///
/// # Errors
/// The API server does not answer, or refuses for a reason that may pass.
pub async fn workload(
    writer: Writer<'_>,
    object: &ModelDeployment,
    desired: &Desired,
    seen: Option<&Deployment>,
) -> Result<Rollout, Error> {
    let Writer { client, metrics, memory } = writer;
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let key = (namespace.clone(), name.clone());
    let own = seen.filter(|seen| is_owned(seen, object) || is_orphan(seen, &name));
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &namespace);
    let wanted = match desired {
        Desired::AsItIs => return Ok(Rollout::AsItIs(own.map(Child::of))),
        Desired::None => {
            if let Some(own) = own {
                remove(&deployments, own).await?;
                metrics.workload_written();
                info!(%namespace, %name, "removed the Deployment: an estimate only is asked for");
            }
            return Ok(Rollout::None);
        }
        Desired::Deployment(wanted) => wanted,
    };
    let last = memory.attempt(&key);
    if let Some(why) = last.as_ref().and_then(|last| still_refused(last, wanted)) {
        return Ok(Rollout::Rejected { why: why.to_owned(), child: own.map(Child::of) });
    }
    // The watch sees only Deployments that Loadline manages: one of another's is asked for by name.
    let fetched = match seen {
        Some(_) => None,
        None => within("Deployment", deployments.get_opt(&name)).await?,
    };
    if let Some(live) = seen.or(fetched.as_ref()) {
        if !is_owned(live, object) && !is_orphan(live, &name) {
            return Ok(if is_of_predecessor(live, &name) {
                Rollout::Predecessor
            } else {
                Rollout::NameTaken
            });
        }
        if !is_to_be_applied(wanted, live, last.as_ref())? {
            return Ok(Rollout::Written(Child::of(live)));
        }
    }
    if let Some(removal) = seen.or(fetched.as_ref()).and_then(|live| deployment::removal(wanted, live)) {
        let parameters =
            PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        within("Deployment", deployments.patch(&name, &parameters, &Patch::Merge(&removal))).await?;
        metrics.workload_written();
    }
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    let applied = within("Deployment", deployments.patch(&name, &parameters, &Patch::Apply(wanted))).await;
    let digest = deployment::digest_of(wanted).unwrap_or_default().to_owned();
    match applied {
        Ok(applied) => {
            memory.attempted(&key, Attempt::Applied { digest, generation: applied.metadata.generation });
            metrics.workload_written();
            info!(%namespace, %name, "applied the Deployment");
            Ok(Rollout::Written(Child::of(&applied)))
        }
        Err(Error::Api { what, source }) => {
            let child = seen.or(fetched.as_ref()).map(Child::of);
            if let Some(why) = refusal(&source) {
                memory.attempted(&key, Attempt::Refused { digest, why: why.clone(), at: Instant::now() });
                return Ok(Rollout::Rejected { why, child });
            }
            match denial(&source) {
                Some(why) => {
                    warn!(%namespace, %name, %why, "the Deployment is denied: it is offered again");
                    Ok(Rollout::Denied { why, child })
                }
                None => Err(Error::Api { what, source }),
            }
        }
        Err(error) => Err(error),
    }
}

/// Why the server refuses what is to be applied, if it said so a short while ago.
fn still_refused<'a>(last: &'a Attempt, wanted: &Value) -> Option<&'a str> {
    match last {
        Attempt::Refused { digest, why, at } if Some(digest.as_str()) == deployment::digest_of(wanted) => {
            (at.elapsed() < REFUSED).then_some(why.as_str())
        }
        _ => None,
    }
}

/// Whether a live Deployment is to be brought to what is wanted.
///
/// The server writes some values in another way than they were given (`1000m` for `1`). A generation that has not moved
/// since the same was applied says that nobody has touched the spec; the metadata are compared all the same.
fn is_to_be_applied(wanted: &Value, live: &Deployment, last: Option<&Attempt>) -> Result<bool, Error> {
    let value = serde_json::to_value(live).map_err(|source| Error::Json { what: "Deployment", source })?;
    let is_untouched = match last {
        Some(Attempt::Applied { digest, generation }) => {
            Some(digest.as_str()) == deployment::digest_of(wanted) && *generation == live.metadata.generation
        }
        _ => false,
    };
    Ok(if is_untouched {
        let metadata = |value: &Value| value.get("metadata").cloned().unwrap_or_default();
        deployment::differs(&metadata(wanted), &metadata(&value))
    } else {
        deployment::differs(wanted, &value)
    })
}

/// Why the server refuses a Deployment: it is invalid. See [`denial`] for what may say otherwise the next moment.
///
/// The faults of a template with unknown fields come a line each, in no order: the message must not change by itself.
fn refusal(error: &kube::Error) -> Option<String> {
    let kube::Error::Api(status) = error else { return None };
    // Of a patch that does not fit the schema the server says that it failed itself.
    let ill_typed = ["field not declared in schema", "duplicate entries for key"];
    let is_ill_typed = ill_typed.iter().any(|words| status.message.contains(words));
    let is_final = (matches!(status.code, 400 | 422) && !is_of_policy(&status.message)) || is_ill_typed;
    is_final.then(|| {
        let mut lines = status.message.lines().map(str::trim).filter(|line| !line.is_empty());
        let first = lines.next().unwrap_or("no reason is given").to_owned();
        let mut rest: Vec<&str> = lines.collect();
        rest.sort_unstable();
        std::iter::once(first.as_str()).chain(rest).collect::<Vec<_>>().join(" ")
    })
}

/// Why a quota, an admission policy or webhook, or a missing permission is in the way of a Deployment. Whoever wrote the
/// object can neither see the controller's log nor guess: it is told in the status.
fn denial(error: &kube::Error) -> Option<String> {
    let kube::Error::Api(status) = error else { return None };
    let is_denied = status.code == 403 || is_of_policy(&status.message);
    is_denied.then(|| status.message.clone())
}

/// Whether a webhook or an admission policy says so: it may say otherwise the next moment, whatever its code.
fn is_of_policy(message: &str) -> bool {
    ["webhook", "ValidatingAdmissionPolicy"].iter().any(|word| message.contains(word))
}

/// Whether a Deployment is that of a ModelDeployment of the same name that is gone: the garbage collector is about to
/// delete it.
fn is_of_predecessor(deployment: &Deployment, name: &str) -> bool {
    deployment.owner_references().iter().any(|owner| {
        owner.controller == Some(true)
            && owner.kind == "ModelDeployment"
            && owner.api_version.starts_with("loadline.dev/")
            && owner.name == name
    })
}

/// Whether an object is the controller of a Deployment.
pub(super) fn is_owned(deployment: &Deployment, object: &ModelDeployment) -> bool {
    let uid = object.metadata.uid.as_deref();
    deployment
        .owner_references()
        .iter()
        .any(|owner| owner.controller == Some(true) && Some(owner.uid.as_str()) == uid)
}

/// Whether a Deployment was made for an object of this name and belongs to nobody now: its object was deleted with
/// `--cascade=orphan`. Whoever has the name next takes it on.
fn is_orphan(deployment: &Deployment, name: &str) -> bool {
    let labels = deployment.labels();
    let says = |key: &str, value: &str| labels.get(key).is_some_and(|found| found == value);
    deployment.owner_references().iter().all(|owner| owner.controller != Some(true))
        && says(MANAGED_BY_LABEL, MANAGED_BY)
        && says(MODEL_DEPLOYMENT_LABEL, name)
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
    matches!(error, kube::Error::Api(status) if matches!(status.code, 404 | 409))
}

/// Whether another write came in between: the same one is to be tried again.
fn was_overtaken(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409 && status.message.contains("has been modified"))
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
        Err(Error::Api { source, .. }) if is_gone(&source) && !was_overtaken(&source) => Ok(None),
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
    let mut status = status.clone();
    // A condition that another has set stays that other's: to apply it would hold it to what it was.
    status.conditions.retain(|condition| conditions::OURS.contains(&condition.type_.as_str()));
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
