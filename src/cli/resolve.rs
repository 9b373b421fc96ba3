//! From the spec of an object to its model's shape, with no network.

use crate::api::ModelDeploymentSpec;
use crate::model::ModelShape;
use crate::plan::{ResolveError, SourceRef, resolve_pure, spec_source};
use crate::render::Found;
use crate::units::shorten;

/// The shape of a model that its spec describes by itself; for any other what is to be said of the object.
pub(super) fn resolve(spec: &ModelDeploymentSpec) -> Result<ModelShape, Found> {
    match resolve_pure(spec) {
        Some(Ok(shape)) => Ok(shape),
        Some(Err(ResolveError::Spec(error))) => Err(Found::Refused(error)),
        Some(Err(error @ ResolveError::Config(_))) => Err(Found::Malformed(vec![error.to_string()])),
        None => Err(Found::Unresolved(elsewhere(spec))),
    }
}

fn elsewhere(spec: &ModelDeploymentSpec) -> String {
    let (field, what) = match spec_source(spec) {
        Ok(SourceRef::HuggingFace(hub) | SourceRef::HuggingFaceGguf(hub)) => {
            ("huggingFace", format!("repository {}", shorten(&hub.repository)))
        }
        Ok(SourceRef::ConfigMap(key)) => ("configMapRef", format!("ConfigMap {}", shorten(&key.name))),
        Ok(SourceRef::GgufUrl(url)) => ("gguf", shorten(url)),
        // The others need nothing but the spec.
        _ => ("", "it".to_owned()),
    };
    format!(
        "spec.model.{field}: {what} is not read by this command, so what it needs is not known; give the model as catalog, config or parameters to plan it here"
    )
}
