//! From the spec of an object to its model's shape, with no network.

use crate::api::ModelDeploymentSpec;
use crate::model::{ModelShape, assumed, catalog, hf_config};
use crate::units::{Parameters, shorten};

use super::manifest::nearest;

/// What came of it.
pub(super) enum Resolved {
    /// The shape.
    Shape(ModelShape),
    /// The spec is wrong, whatever the network.
    Invalid(String),
    /// It is somewhere else.
    Unresolved(String),
}

/// Resolves the sources that need no network.
pub(super) fn resolve(spec: &ModelDeploymentSpec) -> Resolved {
    let model = &spec.model;
    if let Some(config) = &model.config {
        return match hf_config::parse(config.to_string().as_bytes(), "config") {
            Ok(shape) => Resolved::Shape(shape),
            Err(error) => Resolved::Invalid(format!("spec.model.config: {error}")),
        };
    }
    if let Some(size) = &model.parameters {
        return match size.parse::<Parameters>() {
            Ok(size) => Resolved::Shape(assumed::shape(size)),
            Err(error) => Resolved::Invalid(format!("spec.model.parameters: {error}")),
        };
    }
    if let Some(name) = &model.catalog {
        return catalog::shape(name).map_or_else(|| Resolved::Invalid(not_in_catalog(name)), Resolved::Shape);
    }
    let (field, source) = if let Some(repository) = &model.hugging_face {
        ("huggingFace", format!("repository {}", shorten(&repository.repository)))
    } else if let Some(reference) = &model.config_map_ref {
        ("configMapRef", format!("ConfigMap {}", shorten(&reference.name)))
    } else {
        ("gguf", "the GGUF file".to_owned())
    };
    Resolved::Unresolved(format!(
        "spec.model.{field}: {source} is not read by this command, so the estimate is not known; plan it against the controller's status, or give the model as catalog, config or parameters"
    ))
}

fn not_in_catalog(name: &str) -> String {
    let near =
        nearest(name, catalog::names()).map_or_else(String::new, |near| format!("did you mean {near}? "));
    format!(
        "spec.model.catalog: \"{}\" is not in the catalog; {near}`loadline estimate --list-models` lists it",
        shorten(name)
    )
}
