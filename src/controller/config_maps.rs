//! Models that ConfigMaps describe.
//!
//! A ConfigMap is looked at when the object's spec is another, and else every few minutes: by its metadata alone, which the
//! API server answers from its cache; its content is read when its resource version is another. A watch would show a change
//! at once, and would need the right to list every ConfigMap of a namespace, which is more than one needs who is told a
//! name; and a watch for each name costs the API server more than a look every few minutes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::GetParams;
use kube::{Api, Client};

use super::error::{Error, within};
use crate::api::v1alpha1::KeyRef;
use crate::model::ModelShape;
use crate::source::{SourceError, SourceRef, Sources};
use crate::units::shorten;
use crate::world::Key;

/// How often a ConfigMap is looked at.
pub const REREAD: Duration = Duration::from_mins(5);
/// How soon one that is not there, or does not say, is looked for again.
pub const MISSING: Duration = Duration::from_secs(30);

/// What was found of a ConfigMap: a shape, or what is wrong, beginning with the field.
pub type Described = Result<Arc<ModelShape>, String>;

/// What was last found for each object.
#[derive(Debug, Default)]
pub struct ConfigMaps(Mutex<HashMap<Key, Seen>>);

#[derive(Clone, Debug)]
struct Seen {
    reference: KeyRef,
    /// The object's generation.
    generation: Option<i64>,
    /// The ConfigMap's resource version; `None` if it is not there or may not be read.
    version: Option<String>,
    at: Instant,
    found: Described,
}

impl ConfigMaps {
    /// The model that a ConfigMap describes, and when to look again.
    ///
    /// # Errors
    /// The API server does not answer, or not as it should. A ConfigMap that is not there is no error but an answer.
    pub async fn model(
        &self,
        client: &Client,
        sources: &Sources,
        key: &Key,
        generation: Option<i64>,
        reference: &KeyRef,
    ) -> Result<(Described, Duration), Error> {
        let seen = self.seen(key).filter(|seen| seen.reference == *reference);
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &key.0);
        if let Some(seen) = seen {
            let is_same_spec = seen.generation == generation;
            let left = wait(&seen.found).saturating_sub(seen.at.elapsed());
            if is_same_spec && !left.is_zero() {
                return Ok((seen.found, left));
            }
            // Whoever has changed the spec may have changed the ConfigMap a moment ago: a cache might not show it yet.
            let look = if is_same_spec { GetParams::any() } else { GetParams::default() };
            if seen.version.is_some() {
                let metadata = within("ConfigMap", maps.get_metadata_opt_with(&reference.name, &look)).await;
                let version = metadata.ok().flatten().and_then(|map| map.metadata.resource_version);
                if version == seen.version {
                    let seen = Seen { generation, at: Instant::now(), ..seen };
                    self.remember(key, seen.clone());
                    return Ok((seen.found.clone(), wait(&seen.found)));
                }
            }
        }
        let (found, version) = read(&maps, sources, key, reference).await?;
        let again = wait(&found);
        let (reference, at) = (reference.clone(), Instant::now());
        self.remember(key, Seen { reference, generation, version, at, found: found.clone() });
        Ok((found, again))
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, key: &Key) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    fn seen(&self, key: &Key) -> Option<Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn remember(&self, key: &Key, seen: Seen) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), seen);
    }
}

const fn wait(found: &Described) -> Duration {
    if found.is_ok() { REREAD } else { MISSING }
}

/// Reads a ConfigMap; what it describes, and its resource version.
async fn read(
    maps: &Api<ConfigMap>,
    sources: &Sources,
    owner: &Key,
    reference: &KeyRef,
) -> Result<(Described, Option<String>), Error> {
    let field = "spec.model.configMapRef";
    let (name, key) = (shorten(&reference.name), shorten(&reference.key));
    let map = match within("ConfigMap", maps.get_opt(&reference.name)).await {
        Err(error) if error.is_forbidden() => {
            let problem = format!(
                "{field}: the controller may not read ConfigMap {name}; grant it `get` on that ConfigMap in this namespace"
            );
            return Ok((Err(problem), None));
        }
        map => map?,
    };
    let Some(map) = map else {
        return Ok((Err(format!("{field}: there is no ConfigMap {name} in this namespace")), None));
    };
    let version = map.metadata.resource_version;
    let text = map.data.as_ref().and_then(|data| data.get(&reference.key)).map(String::as_bytes);
    let bytes = text.or_else(|| {
        map.binary_data.as_ref().and_then(|data| data.get(&reference.key)).map(|bytes| bytes.0.as_slice())
    });
    let Some(bytes) = bytes else {
        return Ok((Err(format!("{field}: ConfigMap {name} has no key {key}")), version));
    };
    let source = SourceRef::ConfigMap { bytes: bytes.to_vec(), name: format!("{name}/{key}") };
    let found = sources.read(&owner.0, &source).map_err(|error| {
        let problem = match error {
            SourceError::Parse { error, .. } => error.to_string(),
            other => other.to_string(),
        };
        format!("{field}: ConfigMap {name}, key {key}: {problem}")
    });
    Ok((found, version))
}
