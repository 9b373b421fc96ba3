//! Finds the shape of an object's model: from the spec alone where that is possible, from a ConfigMap, or from afar.

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};

use super::error::{Error, within};
use super::resolve::Model;
use crate::api::ModelDeploymentSpec;
use crate::api::v1alpha1::KeyRef;
use crate::model::{ModelShape, catalog, hf_config};
use crate::plan::{self, PlanError, ResolveError};
use crate::units::shorten;

/// How often what a ConfigMap says is read again: ConfigMaps are not watched.
pub const REREAD: Duration = Duration::from_secs(300);
/// How soon a ConfigMap that is not there is looked for again.
const MISSING: Duration = Duration::from_secs(30);

/// What came of the search.
#[derive(Clone, Debug, PartialEq)]
pub enum Gathered {
    /// The model.
    Model(Box<Model>),
    /// The spec cannot be right.
    Refused(PlanError),
    /// It could not be had.
    Unresolved(Unresolved),
}

/// Why a model's shape could not be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unresolved {
    /// What is wrong, and what would be right.
    pub message: String,
    /// When to try again; `None` if nothing changes it but a change of the spec.
    pub again: Option<Duration>,
}

/// Finds the shape.
///
/// # Errors
/// The API server does not answer, or not as it should. A ConfigMap that is not there is no error but an answer.
pub async fn gather(client: &Client, namespace: &str, spec: &ModelDeploymentSpec) -> Result<Gathered, Error> {
    if let Some(resolved) = plan::resolve_pure(spec) {
        return Ok(match resolved {
            Ok(shape) => {
                let catalog_repository = spec.model.catalog.as_deref().and_then(repository);
                Gathered::Model(Box::new(Model { shape, catalog_repository }))
            }
            Err(ResolveError::Spec(error)) => Gathered::Refused(error),
            Err(error @ ResolveError::Config(_)) => {
                Gathered::Unresolved(Unresolved { message: error.to_string(), again: None })
            }
        });
    }
    if let Some(reference) = &spec.model.config_map_ref {
        return from_config_map(client, namespace, reference).await;
    }
    let field = if spec.model.gguf.is_some() { "gguf" } else { "huggingFace" };
    Ok(Gathered::Unresolved(Unresolved {
        message: format!(
            "spec.model.{field}: this version reads no model from the network; write the model's config.json in spec.model.config, or name it in spec.model.catalog"
        ),
        again: None,
    }))
}

/// The repository to serve a catalog entry from: the one it was called by, or the entry's own.
fn repository(name: &str) -> Option<String> {
    let entry = catalog::find(name)?;
    Some(if name.contains('/') { name.trim().to_owned() } else { entry.repository.clone() })
}

async fn from_config_map(client: &Client, namespace: &str, reference: &KeyRef) -> Result<Gathered, Error> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let map = within("ConfigMap", maps.get_opt(&reference.name)).await?;
    let (name, key) = (shorten(&reference.name), shorten(&reference.key));
    let missing = |message: String| Gathered::Unresolved(Unresolved { message, again: Some(MISSING) });
    let Some(map) = map else {
        return Ok(missing(format!(
            "spec.model.configMapRef: there is no ConfigMap {name} in this namespace"
        )));
    };
    let text = map.data.as_ref().and_then(|data| data.get(&reference.key)).map(String::as_bytes);
    let bytes = text.or_else(|| {
        map.binary_data.as_ref().and_then(|data| data.get(&reference.key)).map(|bytes| bytes.0.as_slice())
    });
    let Some(bytes) = bytes else {
        return Ok(missing(format!("spec.model.configMapRef: ConfigMap {name} has no key {key}")));
    };
    Ok(match shape_of(bytes, &format!("{name}/{key}")) {
        Ok(shape) => Gathered::Model(Box::new(Model { shape, catalog_repository: None })),
        Err(problem) => {
            let message = format!("spec.model.configMapRef: ConfigMap {name}, key {key}: {problem}");
            Gathered::Unresolved(Unresolved { message, again: Some(REREAD) })
        }
    })
}

/// The shape that a ConfigMap's value describes.
fn shape_of(bytes: &[u8], name: &str) -> Result<ModelShape, String> {
    hf_config::parse(bytes, name).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
