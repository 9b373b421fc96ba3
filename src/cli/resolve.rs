//! From the spec of an object to its model's shape.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;

use crate::api::ModelDeploymentSpec;
use crate::api::v1alpha1::KeyRef;
use crate::model::ModelShape;
use crate::plan::resolve_pure;
use crate::render::Found;
use crate::source::{SourceError, SourceRef, Sources};

use super::hub::HubArguments;

/// What the objects of one run may take their models from, besides their own specs.
pub(super) struct Resolver {
    /// The Hub and what it has said.
    pub(super) sources: Sources,
    /// The ConfigMaps of the files, or of the cluster.
    pub(super) config_maps: Vec<ConfigMap>,
    /// The namespace of ConfigMaps that state none.
    pub(super) namespace: String,
}

impl Resolver {
    /// The shape of an object's model, or what is to be said of the object.
    pub(super) fn resolve(
        &self,
        namespace: &str,
        spec: &ModelDeploymentSpec,
    ) -> Result<Arc<ModelShape>, Found> {
        match resolve_pure(spec) {
            Some(Ok(shape)) => return Ok(Arc::new(shape)),
            Some(Err(error)) => return Err(error.into()),
            None => {}
        }
        let content = spec.model.config_map_ref.as_ref().and_then(|key| self.config_map(namespace, key));
        // A token in a Secret is the cluster's; here it is the user's own.
        let shape = SourceRef::of(&spec.model, "config", HubArguments::token(), content)
            .and_then(|source| self.sources.resolve(&source));
        shape.map_err(|error| match error {
            // What was read and is no model will not become one by being read from elsewhere.
            SourceError::Parse { .. } if spec.model.config_map_ref.is_some() => {
                Found::Malformed(vec![format!("spec.{error}")])
            }
            error @ SourceError::Unauthorized { .. } => Found::Unresolved(format!(
                "the model is not known: {error}; this command takes the token from HF_TOKEN instead"
            )),
            error => Found::Unresolved(format!("the model is not known: {error}")),
        })
    }

    fn config_map(&self, namespace: &str, key: &KeyRef) -> Option<Vec<u8>> {
        let map = self.config_maps.iter().find(|map| {
            let of = map.metadata.namespace.as_deref().unwrap_or(&self.namespace);
            of == namespace && map.metadata.name.as_deref() == Some(&key.name)
        })?;
        let text =
            map.data.as_ref().and_then(|data| data.get(&key.key)).map(|text| text.clone().into_bytes());
        text.or_else(|| map.binary_data.as_ref()?.get(&key.key).map(|bytes| bytes.0.clone()))
    }
}
