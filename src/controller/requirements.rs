//! Writes what pods must demand to where the API server's policies read it: one object for each namespace.
//!
//! Invariant: what becomes another requirement is written before the Deployment that makes its pods. What is new is written
//! with whatever else is new: before it is, nothing is required, and many objects that come at once are few writes.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::core::DynamicObject;
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tracing::{info, warn};

use super::error::{Error, within};
use crate::api::ModelRequirements;
use crate::launch::deployment::FIELD_MANAGER;
use crate::launch::guard::{REQUIREMENTS, Required, Shared, from_data, to_data};
use crate::world::Key;

/// How long what is new is collected before it is written.
const COLLECT: Duration = Duration::from_millis(250);
/// How often a write that fails is tried again; the next reconcile of an object tries anew.
const ATTEMPTS: u32 = 5;

/// What is written of every namespace.
#[derive(Clone)]
pub struct Requirements(Arc<Inner>);

struct Inner {
    client: Client,
    /// Whether the API server knows the kind: it may be older than this version.
    is_known: bool,
    namespaces: Mutex<HashMap<String, Arc<Namespace>>>,
    shared: Mutex<Shared>,
}

/// One namespace.
#[derive(Default)]
struct Namespace {
    wanted: Mutex<BTreeMap<String, Required>>,
    /// One write at a time, which takes in all that is wanted by then.
    turn: tokio::sync::Mutex<()>,
    /// Whether what is wanted is not written.
    is_dirty: AtomicBool,
    /// Whether somebody waits for that, or has waited in vain.
    is_owed: AtomicBool,
    /// Whether a task is on its way that writes what is new.
    is_due: AtomicBool,
}

fn locked<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is one insertion or removal: a panic elsewhere leaves nothing half done.
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Requirements {
    fn new(client: Client, is_known: bool) -> Self {
        Self(Arc::new(Inner { client, is_known, namespaces: Mutex::default(), shared: Mutex::default() }))
    }

    /// Keeps none: the API server does not know the kind.
    #[must_use]
    pub fn none(client: Client) -> Self {
        Self::new(client, false)
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
        let requirements = Self::new(client, true);
        for one in list.into_iter().filter(|one| one.name_any() == REQUIREMENTS) {
            let namespace = Namespace::default();
            let mut wanted = from_data(&one.spec);
            for required in wanted.values_mut() {
                locked(&requirements.0.shared).share(required);
            }
            *locked(&namespace.wanted) = wanted;
            locked(&requirements.0.namespaces)
                .insert(one.metadata.namespace.clone().unwrap_or_default(), Arc::new(namespace));
        }
        Ok(requirements)
    }

    /// Requires this of the pods of an object, or no longer anything; returns when it is written, or soon will be.
    ///
    /// # Errors
    /// The API server does not answer, or refuses.
    pub async fn require(
        &self,
        key: &Key,
        required: Option<Required>,
        is_rolled_out: bool,
    ) -> Result<(), Error> {
        if !self.0.is_known {
            return Ok(());
        }
        let namespace = {
            let mut namespaces = locked(&self.0.namespaces);
            if required.is_none() && !namespaces.contains_key(&key.0) {
                return Ok(());
            }
            Arc::clone(namespaces.entry(key.0.clone()).or_default())
        };
        let (is_new, is_changed) = {
            let mut wanted = locked(&namespace.wanted);
            let before = wanted.get(&key.1);
            let is_new = before.is_none();
            let is_changed = match required {
                Some(required) => {
                    let mut required = required.after(before, is_rolled_out);
                    let is_changed = before != Some(&required);
                    if is_changed {
                        locked(&self.0.shared).share(&mut required);
                        wanted.insert(key.1.clone(), required);
                    }
                    is_changed
                }
                None => wanted.remove(&key.1).is_some(),
            };
            if is_changed {
                namespace.is_dirty.store(true, Ordering::Release);
            }
            (is_new, is_changed)
        };
        if is_new && is_changed {
            self.flush_soon(key.0.clone(), namespace);
            return Ok(());
        }
        if is_changed || namespace.is_owed.load(Ordering::Acquire) {
            namespace.is_owed.store(true, Ordering::Release);
            return self.flush(&key.0, &namespace).await;
        }
        Ok(())
    }

    /// Writes what is wanted of a namespace, unless it is written.
    async fn flush(&self, name: &str, namespace: &Namespace) -> Result<(), Error> {
        let _turn = namespace.turn.lock().await;
        // Whoever wrote meanwhile has taken this in.
        if !namespace.is_dirty.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        namespace.is_owed.store(false, Ordering::Release);
        let wanted = locked(&namespace.wanted).clone();
        let result = self.write(name, &wanted).await;
        if result.is_err() {
            namespace.is_dirty.store(true, Ordering::Release);
            namespace.is_owed.store(true, Ordering::Release);
        }
        result
    }

    /// Writes what is wanted a moment later, with what else comes until then.
    fn flush_soon(&self, name: String, namespace: Arc<Namespace>) {
        if namespace.is_due.swap(true, Ordering::AcqRel) {
            return;
        }
        let this = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(COLLECT).await;
            namespace.is_due.store(false, Ordering::Release);
            for attempt in 0..ATTEMPTS {
                match this.flush(&name, &namespace).await {
                    Ok(()) => return,
                    Err(error) => warn!(%error, namespace = name, "cannot write what pods must demand"),
                }
                tokio::time::sleep(COLLECT * 4_u32.pow(attempt)).await;
            }
        });
    }

    /// Forgets the objects that are no longer there: they may have gone while nobody saw it.
    ///
    /// # Errors
    /// The API server does not answer, or refuses.
    pub async fn keep_only(&self, is_there: impl Fn(&Key) -> bool) -> Result<(), Error> {
        let all: Vec<(String, Arc<Namespace>)> =
            locked(&self.0.namespaces).iter().map(|(name, all)| (name.clone(), Arc::clone(all))).collect();
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
        let objects: Api<DynamicObject> = Api::namespaced_with(self.0.client.clone(), namespace, &resource);
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
