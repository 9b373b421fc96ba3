//! Finds the shape of an object's model: from the spec alone where that is possible, from a ConfigMap, or from afar.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};

use super::error::{Error, within};
use super::hub::Hub;
use super::memory::Key;
use crate::api::ModelDeploymentSpec;
use crate::api::v1alpha1::KeyRef;
use crate::model::ModelShape;
use crate::plan::{self, ResolveError};
use crate::refusal::Refusal;
use crate::source::{self, SourceError, SourceRef, Token};
use crate::units::shorten;

/// How often what a ConfigMap says is read again: ConfigMaps are not watched.
pub const REREAD: Duration = Duration::from_mins(5);
/// How soon a ConfigMap that is not there is looked for again.
const MISSING: Duration = Duration::from_secs(30);

/// How soon a source that is out of order is tried again.
const OUTAGE: Duration = Duration::from_mins(1);

/// A model that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// Its shape.
    pub shape: ModelShape,
}

/// What came of the search.
#[derive(Clone, Debug, PartialEq)]
pub enum Gathered {
    /// The model.
    Model(Box<Model>),
    /// It is being read.
    Pending,
    /// The spec cannot be right.
    Refused(Refusal),
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

/// Where models are looked for.
#[derive(Clone, Copy)]
pub struct Places<'a> {
    /// The API server: ConfigMaps, and Secrets with access tokens.
    pub client: &'a Client,
    /// The Hugging Face Hub.
    pub hub: &'a Hub,
}

/// Finds the shape.
///
/// # Errors
/// The API server does not answer, or not as it should. A ConfigMap that is not there is no error but an answer.
pub async fn gather(places: Places<'_>, key: &Key, spec: &ModelDeploymentSpec) -> Result<Gathered, Error> {
    if let Some(resolved) = plan::resolve_pure(spec) {
        return Ok(match resolved {
            Ok(shape) => Gathered::Model(Box::new(Model { shape })),
            Err(ResolveError::Spec(error)) => Gathered::Refused(error),
            Err(error @ ResolveError::Config(_)) => {
                Gathered::Unresolved(Unresolved { message: error.to_string(), again: None })
            }
        });
    }
    if let Some(reference) = &spec.model.config_map_ref {
        return from_config_map(places, &key.0, reference).await;
    }
    from_afar(places, key, spec).await
}

/// What the Hub says, or an address.
async fn from_afar(places: Places<'_>, key: &Key, spec: &ModelDeploymentSpec) -> Result<Gathered, Error> {
    let token = match source::token_secret(&spec.model) {
        Some(reference) => match token(places.client, &key.0, reference).await? {
            Ok(token) => Some(token),
            Err(message) => {
                return Ok(Gathered::Unresolved(Unresolved { message, again: Some(MISSING) }));
            }
        },
        None => None,
    };
    let reference = match SourceRef::of(&spec.model, &key.1, token, None) {
        Ok(reference) => reference,
        Err(error) => {
            return Ok(Gathered::Unresolved(Unresolved { message: of_the_spec(&error), again: None }));
        }
    };
    Ok(match places.hub.model(key, &reference) {
        Some(Ok(shape)) => Gathered::Model(Box::new(Model { shape: ModelShape::clone(&shape) })),
        Some(Err(error)) => {
            let again = match &error {
                SourceError::Invalid { .. } => None,
                error if error.is_transient() => Some(OUTAGE),
                _ => Some(REREAD),
            };
            Gathered::Unresolved(Unresolved { message: of_the_spec(&error), again })
        }
        None => Gathered::Pending,
    })
}

/// The message of an error, beginning with the field.
fn of_the_spec(error: &SourceError) -> String {
    match error {
        SourceError::Invalid { .. } => format!("spec.{error}"),
        _ => format!("spec.model: {error}"),
    }
}

/// An access token, or why there is none.
async fn token(client: &Client, namespace: &str, reference: &KeyRef) -> Result<Result<Token, String>, Error> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let (name, key) = (shorten(&reference.name), shorten(&reference.key));
    let field = "spec.model.huggingFace.tokenSecretRef";
    let secret = match within("Secret", secrets.get_opt(&reference.name)).await {
        Ok(Some(secret)) => secret,
        Ok(None) => return Ok(Err(format!("{field}: there is no Secret {name} in this namespace"))),
        Err(error) if error.is_forbidden() => {
            return Ok(Err(format!(
                "{field}: the controller may not read Secret {name}; grant it `get` on that Secret in this namespace"
            )));
        }
        Err(error) => return Err(error),
    };
    let bytes = secret.data.as_ref().and_then(|data| data.get(&reference.key));
    let token = bytes.and_then(|bytes| std::str::from_utf8(&bytes.0).ok()).and_then(Token::new);
    Ok(token.ok_or_else(|| format!("{field}: Secret {name} has no key {key} that holds an access token")))
}

async fn from_config_map(places: Places<'_>, namespace: &str, reference: &KeyRef) -> Result<Gathered, Error> {
    let maps: Api<ConfigMap> = Api::namespaced(places.client.clone(), namespace);
    let (name, key) = (shorten(&reference.name), shorten(&reference.key));
    let missing = |message: String| Gathered::Unresolved(Unresolved { message, again: Some(MISSING) });
    let map = match within("ConfigMap", maps.get_opt(&reference.name)).await {
        Err(error) if error.is_forbidden() => {
            return Ok(missing(format!(
                "spec.model.configMapRef: the controller may not read ConfigMap {name}; grant it `get` on that ConfigMap in this namespace"
            )));
        }
        map => map?,
    };
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
    Ok(match shape_of(places.hub, bytes, &format!("{name}/{key}")) {
        Ok(shape) => Gathered::Model(Box::new(Model { shape })),
        Err(problem) => {
            let message = format!("spec.model.configMapRef: ConfigMap {name}, key {key}: {problem}");
            Gathered::Unresolved(Unresolved { message, again: Some(REREAD) })
        }
    })
}

/// The shape that a ConfigMap's value describes.
fn shape_of(hub: &Hub, bytes: &[u8], name: &str) -> Result<ModelShape, String> {
    hub.sources()
        .resolve(&SourceRef::ConfigMap { bytes: bytes.to_vec(), name: name.to_owned() })
        .map(|shape| ModelShape::clone(&shape))
        .map_err(|error| match error {
            SourceError::Parse { error, .. } => error.to_string(),
            other => other.to_string(),
        })
}

#[cfg(test)]
mod tests;
