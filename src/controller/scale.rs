//! Brings the replicas of a Deployment to what is wanted while nothing else of it can be: `kubectl scale` and autoscalers
//! must work also while a model cannot be read.

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tracing::info;

use super::error::{Error, within};
use crate::launch::FIELD_MANAGER;

/// Brings the replicas of a Deployment to so many; whether it had others.
///
/// A merge patch of the one field: a server-side apply that left out the rest would take it away. The uid keeps it from
/// one of the same name that came after.
///
/// # Errors
/// The API server does not answer, or refuses.
pub(super) async fn replicas(client: &Client, own: &Deployment, wanted: i32) -> Result<bool, Error> {
    if own.metadata.deletion_timestamp.is_some()
        || own.spec.as_ref().and_then(|spec| spec.replicas) == Some(wanted)
    {
        return Ok(false);
    }
    let (namespace, name) = (own.namespace().unwrap_or_default(), own.name_any());
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &namespace);
    let patch = json!({"metadata": {"uid": own.metadata.uid}, "spec": {"replicas": wanted}});
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    within("Deployment", deployments.patch(&name, &parameters, &Patch::Merge(&patch))).await?;
    info!(%namespace, %name, replicas = wanted, "scaled the Deployment; its model cannot be read now");
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::testing::Recorded;

    fn deployment(replicas: i32, deleted: bool) -> Deployment {
        let mut deployment = json!({
            "metadata": {"namespace": "team-a", "name": "llama", "uid": "1b"},
            "spec": {"replicas": replicas, "selector": {}, "template": {}},
        });
        if deleted {
            deployment["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        serde_json::from_value(deployment).unwrap()
    }

    #[tokio::test]
    async fn the_replicas_alone_are_patched_and_only_where_they_differ() {
        for (deployment, expected) in
            [(deployment(1, false), true), (deployment(3, false), false), (deployment(1, true), false)]
        {
            let server = Recorded::default();
            let client = server.client(|_: &str, body: &serde_json::Value| (200, body.clone()));
            assert_eq!(replicas(&client, &deployment, 3).await.unwrap(), expected);
            let patch = (
                "PATCH /apis/apps/v1/namespaces/team-a/deployments/llama?&fieldManager=loadline-controller"
                    .to_owned(),
                json!({"metadata": {"uid": "1b"}, "spec": {"replicas": 3}}),
            );
            assert_eq!(server.requests(), if expected { vec![patch] } else { Vec::new() });
        }
    }
}
