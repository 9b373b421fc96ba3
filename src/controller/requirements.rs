//! Writes what pods must demand to where the API server's policies read it: one object for each namespace.
//!
//! Invariant: what an object's pods are to have is written before the Deployment that makes them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::core::DynamicObject;
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tracing::{info, warn};

use super::error::{Error, within};
use crate::api::ModelRequirements;
use crate::launch::deployment::FIELD_MANAGER;
use crate::launch::guard::{REQUIREMENTS, Required, from_data, to_data};
use crate::world::Key;

/// What is written of every namespace.
pub struct Requirements {
    client: Client,
    /// Whether the API server knows the kind: it may be older than this version.
    is_known: bool,
    namespaces: Mutex<HashMap<String, Arc<Namespace>>>,
}

/// One namespace.
#[derive(Default)]
struct Namespace {
    wanted: Mutex<BTreeMap<String, Required>>,
    /// What is written; one write at a time, which takes in all that was wanted by then.
    written: tokio::sync::Mutex<BTreeMap<String, Required>>,
}

fn locked<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is one insertion or removal: a panic elsewhere leaves nothing half done.
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Requirements {
    /// Keeps none: the API server does not know the kind.
    #[must_use]
    pub fn none(client: Client) -> Self {
        Self { client, is_known: false, namespaces: Mutex::default() }
    }

    /// Reads what is written.
    ///
    /// # Errors
    /// The API server does not answer.
    pub async fn read(client: Client, namespace: Option<&str>) -> Result<Self, Error> {
        let all: Api<ModelRequirements> = match namespace {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        };
        let list = match within("ModelRequirements", all.list(&ListParams::default())).await {
            Ok(list) => list.items,
            Err(error) if error.is_absent() || error.is_forbidden() => {
                warn!(
                    "what pods must demand is not kept for the API server's policies: the definition modelrequirements.loadline.dev is not there, or may not be used"
                );
                return Ok(Self::none(client));
            }
            Err(error) => return Err(error),
        };
        let requirements = Self { client, is_known: true, namespaces: Mutex::default() };
        for one in list.into_iter().filter(|one| one.name_any() == REQUIREMENTS) {
            let namespace = Namespace::default();
            *locked(&namespace.wanted) = from_data(&one.spec);
            *namespace.written.lock().await = from_data(&one.spec);
            locked(&requirements.namespaces)
                .insert(one.metadata.namespace.clone().unwrap_or_default(), Arc::new(namespace));
        }
        Ok(requirements)
    }

    /// Requires this of the pods of an object, or no longer anything; returns when it is written.
    ///
    /// # Errors
    /// The API server does not answer, or refuses.
    pub async fn require(
        &self,
        key: &Key,
        required: Option<Required>,
        is_rolled_out: bool,
    ) -> Result<(), Error> {
        if !self.is_known {
            return Ok(());
        }
        let namespace = {
            let mut namespaces = locked(&self.namespaces);
            if required.is_none() && !namespaces.contains_key(&key.0) {
                return Ok(());
            }
            Arc::clone(namespaces.entry(key.0.clone()).or_default())
        };
        {
            let mut wanted = locked(&namespace.wanted);
            match required {
                Some(required) => {
                    let required = required.after(wanted.get(&key.1), is_rolled_out);
                    if wanted.get(&key.1) != Some(&required) {
                        wanted.insert(key.1.clone(), required);
                    }
                }
                None => drop(wanted.remove(&key.1)),
            }
        }
        let mut written = namespace.written.lock().await;
        // Whoever wrote meanwhile has taken this in.
        let wanted = locked(&namespace.wanted).clone();
        if *written == wanted {
            return Ok(());
        }
        self.write(&key.0, &wanted).await?;
        *written = wanted;
        Ok(())
    }

    /// Forgets the objects that are no longer there: they may have gone while nobody saw it.
    ///
    /// # Errors
    /// The API server does not answer, or refuses.
    pub async fn keep_only(&self, is_there: impl Fn(&Key) -> bool) -> Result<(), Error> {
        let all: Vec<(String, Arc<Namespace>)> =
            locked(&self.namespaces).iter().map(|(name, all)| (name.clone(), Arc::clone(all))).collect();
        for (name, namespace) in all {
            let names: Vec<String> = locked(&namespace.wanted).keys().cloned().collect();
            for gone in names.into_iter().map(|model| (name.clone(), model)).filter(|key| !is_there(key)) {
                self.require(&gone, None, true).await?;
            }
        }
        Ok(())
    }

    async fn write(&self, namespace: &str, wanted: &BTreeMap<String, Required>) -> Result<(), Error> {
        let resource = kube::core::ApiResource::erase::<ModelRequirements>(&());
        let objects: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &resource);
        if wanted.is_empty() {
            return match within("ModelRequirements", objects.delete(REQUIREMENTS, &DeleteParams::default()))
                .await
            {
                Err(error) if !error.is_absent() => Err(error),
                _ => Ok(()),
            };
        }
        let object = json!({
            "apiVersion": "loadline.dev/v1alpha1",
            "kind": "ModelRequirements",
            "metadata": {"name": REQUIREMENTS, "namespace": namespace},
            "spec": to_data(wanted),
        });
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(&object);
        match within("ModelRequirements", objects.patch(REQUIREMENTS, &parameters, &patch)).await {
            Ok(_) => {
                info!(namespace, models = wanted.len(), "wrote what pods must demand");
                Ok(())
            }
            // It is all gone soon.
            Err(error) if error.is_namespace_terminating() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Whether no pod of an earlier template of a Deployment is left.
#[must_use]
pub fn is_rolled_out(deployment: &Deployment) -> bool {
    let Some(status) = &deployment.status else { return false };
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    status.observed_generation >= deployment.metadata.generation
        && status.updated_replicas.unwrap_or(0) >= wanted
        && status.replicas.unwrap_or(0) <= status.updated_replicas.unwrap_or(0)
}
