//! Finds the shape of an object's model: from the spec alone where that is possible, from a ConfigMap, or from afar.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use tracing::debug;

use super::config_maps::ConfigMaps;
use super::error::{Error, within};
use crate::api::ModelDeploymentSpec;
use crate::api::v1alpha1::KeyRef;
use crate::model::ModelShape;
use crate::plan::{self, Permits, ResolveError};
use crate::refusal::Refusal;
use crate::source::{self, SourceError, SourceRef, Sources, Token};
use crate::units::shorten;
use crate::world::Key;
use crate::world::models::{Models, Tokens, Unread, Wanted};

/// What came of the search.
#[derive(Clone, Debug, PartialEq)]
pub enum Gathered {
    /// The model, and when to look at it again, if it may come to be another.
    Model(Arc<ModelShape>, Option<Duration>),
    /// It is being read.
    Pending,
    /// The spec cannot be right.
    Refused(Refusal),
    /// The spec describes what is no model.
    Malformed(String),
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
    /// Whether it may pass by itself: then it says nothing against what was known before.
    pub is_transient: bool,
}

/// Where models are looked for.
#[derive(Clone, Copy)]
pub struct Places<'a> {
    /// The API server.
    pub client: &'a Client,
    /// Models that are read from afar, and the store.
    pub models: &'a Models,
    /// ConfigMaps that have been read.
    pub config_maps: &'a ConfigMaps,
    /// What specs may ask for.
    pub permits: &'a Permits,
}

/// Finds the shape. `generation` is that of the spec.
///
/// # Errors
/// The API server does not answer, or not as it should. A ConfigMap that is not there is no error but an answer.
pub async fn gather(
    places: Places<'_>,
    key: &Key,
    generation: Option<i64>,
    spec: &ModelDeploymentSpec,
) -> Result<Gathered, Error> {
    // What was read for another source would be kept for nobody.
    if spec.model.config_map_ref.is_none() {
        places.config_maps.forget(key);
    }
    // What is wrong with the spec itself is told whether or not its model can be had.
    if let Err(refusal) = plan::check(spec).and_then(|()| plan::permitted(spec, places.permits)) {
        return Ok(Gathered::Refused(refusal));
    }
    if let Some(gathered) = from_spec(places.models.sources(), key, spec) {
        places.models.forget(key);
        return Ok(gathered);
    }
    if let Some(reference) = &spec.model.config_map_ref {
        places.models.forget(key);
        let sources = places.models.sources();
        let found = places.config_maps.model(places.client, sources, key, generation, reference).await?;
        return Ok(match found {
            (Ok(shape), again) => Gathered::Model(shape, Some(again)),
            (Err(message), again) => {
                Gathered::Unresolved(Unresolved { message, again: Some(again), is_transient: false })
            }
        });
    }
    Ok(from_afar(places.models, key, spec))
}

/// Why a spec that describes its model by itself has no shape.
enum Undescribed {
    Resolve(ResolveError),
    Store(SourceError),
}

impl From<SourceError> for Undescribed {
    fn from(error: SourceError) -> Self {
        Self::Store(error)
    }
}

/// What the spec says by itself; `None` if its model is to be read from elsewhere.
fn from_spec(sources: &Sources, key: &Key, spec: &ModelDeploymentSpec) -> Option<Gathered> {
    // What is wrong by itself is told before anything is read, as `loadline plan` does.
    if let Err(error) = plan::check(spec) {
        return Some(Gathered::Refused(error));
    }
    match plan::spec_source(spec) {
        Err(error) => return Some(Gathered::Refused(error)),
        Ok(
            plan::SpecSource::HuggingFace(_)
            | plan::SpecSource::HuggingFaceGguf(_)
            | plan::SpecSource::GgufUrl(_)
            | plan::SpecSource::ConfigMap(_),
        ) => return None,
        Ok(plan::SpecSource::Parameters(_) | plan::SpecSource::Config(_) | plan::SpecSource::Catalog(_)) => {}
    }
    let text = serde_json::to_vec(&spec.model).unwrap_or_default();
    let shape = sources.described(&key.0, "spec.model", &text, || {
        // It is one of those that are described, as was asked above.
        let missing = || Err(Refusal::invalid("model", "it describes no model", "write one").into());
        plan::resolve_pure(spec).unwrap_or_else(missing).map_err(Undescribed::Resolve)
    });
    Some(match shape {
        Ok(shape) => Gathered::Model(shape, None),
        Err(Undescribed::Resolve(ResolveError::Spec(error))) => Gathered::Refused(error),
        Err(Undescribed::Resolve(error @ ResolveError::Config(_))) => Gathered::Malformed(error.to_string()),
        Err(Undescribed::Store(error)) => {
            let (message, again) = (of_the_spec(&error), source::again(&error, true, 1));
            Gathered::Unresolved(Unresolved { message, again, is_transient: error.is_transient() })
        }
    })
}

/// What the Hub says, or an address.
fn from_afar(models: &Models, key: &Key, spec: &ModelDeploymentSpec) -> Gathered {
    let source = match SourceRef::of(&spec.model, &key.1, None, None) {
        Ok(source) => source,
        Err(error) => {
            let message = of_the_spec(&error);
            return Gathered::Unresolved(Unresolved { message, again: None, is_transient: false });
        }
    };
    let wanted = Wanted { source, secret: source::token_secret(&spec.model).cloned() };
    match models.model(key, &wanted) {
        Some(known) => match known.found {
            Ok(shape) => Gathered::Model(shape, known.again),
            Err(error) => Gathered::Unresolved(Unresolved {
                message: match &error {
                    Unread::Source(error) => of_the_spec(error),
                    other => other.to_string(),
                },
                again: known.again,
                is_transient: error.is_transient(),
            }),
        },
        None => Gathered::Pending,
    }
}

/// The message of an error, beginning with the field.
fn of_the_spec(error: &SourceError) -> String {
    match error {
        SourceError::Invalid { .. } => format!("spec.{error}"),
        _ => format!("spec.model: {error}"),
    }
}

/// Says of a Secret that its token is for the Hub. No other leaves the cluster.
const HUB_TOKEN_LABEL: &str = "loadline.dev/hub-token";

/// Access tokens, from the Secrets of the API server.
pub struct Secrets(pub Client);

impl Tokens for Secrets {
    fn token(&self, namespace: &str, reference: &KeyRef) -> BoxFuture<'static, Result<Token, Unread>> {
        token(Api::namespaced(self.0.clone(), namespace), reference.clone()).boxed()
    }
}

/// An access token, or why there is none.
async fn token(secrets: Api<Secret>, reference: KeyRef) -> Result<Token, Unread> {
    let (name, key) = (shorten(&reference.name), shorten(&reference.key));
    let field = "spec.model.huggingFace.tokenSecretRef";
    // The same words whatever it is: others than the author read a status, and need not learn which Secrets there are.
    let none = |why: &str| {
        debug!(secret = name, key, why, "no access token");
        Err(Unread::Secret(format!(
            "{field}: no access token is to be had from Secret {name}, key {key}; it has to be in this namespace, with the label {HUB_TOKEN_LABEL}: \"true\" and the token under that key, and the controller has to be let `get` it"
        )))
    };
    let secret = match within("Secret", secrets.get_opt(&reference.name)).await {
        Ok(Some(secret)) => secret,
        Ok(None) => return none("it is not there"),
        Err(error) if error.is_forbidden() => return none("it may not be read"),
        Err(error) => return Err(Unread::Unreachable(format!("{field}: {error}"))),
    };
    let label = secret.metadata.labels.as_ref().and_then(|labels| labels.get(HUB_TOKEN_LABEL));
    if label.is_none_or(|value| value != "true") {
        return none("it has not the label");
    }
    let bytes = secret.data.as_ref().and_then(|data| data.get(&reference.key));
    let token = bytes.and_then(|bytes| std::str::from_utf8(&bytes.0).ok()).and_then(Token::new);
    token.map_or_else(|| none("the key holds no token"), Ok)
}

#[cfg(test)]
mod tests;
