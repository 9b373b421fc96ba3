//! Finds the shape of an object's model: from the spec alone where that is possible, from a ConfigMap, or from afar.

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};

use super::error::{Error, within};
use super::resolve::Model;
use crate::api::v1alpha1::{KeyRef, ModelSource};
use crate::model::{ModelShape, assumed, catalog, hf_config};
use crate::units::{Parameters, shorten};

/// How often what a ConfigMap says is read again: ConfigMaps are not watched.
pub const REREAD: Duration = Duration::from_secs(300);
/// How soon a ConfigMap that is not there is looked for again.
const MISSING: Duration = Duration::from_secs(30);

/// What came of the search.
#[derive(Clone, Debug, PartialEq)]
pub enum Gathered {
    /// The model.
    Model(Box<Model>),
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
pub async fn gather(client: &Client, namespace: &str, source: &ModelSource) -> Result<Gathered, Error> {
    if let Some(found) = from_spec(source) {
        return Ok(match found {
            Ok(model) => Gathered::Model(Box::new(model)),
            Err(message) => Gathered::Unresolved(Unresolved { message, again: None }),
        });
    }
    if let Some(reference) = &source.config_map_ref {
        return from_config_map(client, namespace, reference).await;
    }
    let field = if source.gguf.is_some() { "gguf" } else { "huggingFace" };
    Ok(Gathered::Unresolved(Unresolved {
        message: format!(
            "spec.model.{field}: this version reads no model from the network; write the model's config.json in spec.model.config, or name it in spec.model.catalog"
        ),
        again: None,
    }))
}

/// What the spec itself says: a size, a config, a catalog entry. `None` for a source that is elsewhere.
fn from_spec(source: &ModelSource) -> Option<Result<Model, String>> {
    let shape = if let Some(config) = &source.config {
        hf_config::parse(config.to_string().as_bytes(), "config")
            .map(|shape| (shape, None))
            .map_err(|error| format!("spec.model.config: {error}"))
    } else if let Some(name) = &source.catalog {
        catalog::shape(name)
            .map(|shape| (shape, None))
            .ok_or_else(|| format!("spec.model.catalog: \"{}\" is not in the catalog", shorten(name)))
    } else if let Some(parameters) = &source.parameters {
        parameters
            .parse::<Parameters>()
            .map(|parameters| (assumed::shape(parameters), None))
            .map_err(|error| format!("spec.model.parameters: {error}"))
    } else {
        return None;
    };
    Some(shape.map(|(shape, catalog_repository)| Model { shape, catalog_repository }))
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
