//! What pods must demand, as it is written: for the webhook that gives it to them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use futures::StreamExt;
use kube::core::DeserializeGuard;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use tracing::warn;

use super::relisted::Relisted;
use crate::api::ModelRequirements;
use crate::launch::guard::{REQUIREMENTS, Required, from_data};

type ByNamespace = HashMap<String, Arc<BTreeMap<String, Required>>>;

/// What is required of pods, by namespace and name of the object.
#[derive(Clone, Debug, Default)]
pub struct RequiredOfPods(Arc<RwLock<ByNamespace>>);

impl RequiredOfPods {
    /// What is required of the pods of an object.
    #[must_use]
    pub fn of(&self, namespace: &str, name: &str) -> Option<Required> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(namespace)?.get(name).cloned()
    }
}

/// Watches for ever.
pub async fn run(client: Client, required: RequiredOfPods, failed: impl Fn()) {
    let objects: Api<DeserializeGuard<ModelRequirements>> = Api::all(client);
    let events = watcher(objects, watcher::Config::default()).default_backoff();
    let mut events = std::pin::pin!(events);
    let mut seen: Relisted<String, Arc<BTreeMap<String, Required>>> = Relisted::default();
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                let reduce = |object: DeserializeGuard<ModelRequirements>| {
                    let is_ours = object.name_any() == REQUIREMENTS;
                    object.0.ok().filter(|_| is_ours).map(|read| Arc::new(from_data(&read.spec)))
                };
                let key =
                    |object: &DeserializeGuard<ModelRequirements>| object.namespace().unwrap_or_default();
                if !seen.take(event, reduce, key).is_nothing() {
                    let all = seen.iter().map(|(name, all)| (name.clone(), Arc::clone(all))).collect();
                    *required.0.write().unwrap_or_else(PoisonError::into_inner) = all;
                }
            }
            Err(error) => {
                failed();
                warn!(%error, "cannot watch what pods must demand: trying again");
            }
        }
    }
}
