//! Which source a spec takes its model from, and the shapes that need nothing but the spec.

use serde_json::Value;

use crate::api::ModelDeploymentSpec;
use crate::api::limits::is_repository;
use crate::api::v1alpha1::{HuggingFaceRef, KeyRef, ModelSource};
use crate::model::{ModelShape, ParseError, assumed, catalog, hf_config};
use crate::refusal::Refusal;
use crate::units::{Parameters, shorten};

/// Where a model's shape is to be learned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SpecSource<'a> {
    /// A size alone: the typical shape of that size.
    Parameters(Parameters),
    /// A Hugging Face repository: its config and the headers of its weight files.
    HuggingFace(&'a HuggingFaceRef),
    /// A GGUF file of a Hugging Face repository; its `file` is set.
    HuggingFaceGguf(&'a HuggingFaceRef),
    /// A GGUF file at an https address.
    GgufUrl(&'a str),
    /// An inline config.json.
    Config(&'a Value),
    /// A key of a ConfigMap of the object's namespace.
    ConfigMap(&'a KeyRef),
    /// The built-in catalog.
    Catalog(&'a str),
}

/// Why a spec's model has no shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The spec names no model, or one that cannot be right.
    #[error(transparent)]
    Spec(#[from] Refusal),
    /// The inline config is not one that is understood.
    #[error("spec.model.config: {0}")]
    Config(ParseError),
}

/// What a model source may be, for the errors.
const SOURCES: &str = "parameters, huggingFace, gguf, config, configMapRef, catalog";

/// Which of the model sources a spec sets: exactly one, but that `parameters` may accompany `config`.
///
/// # Errors
/// [`Refusal::Invalid`] if it sets none or several, or one that cannot be right.
pub fn spec_source(spec: &ModelDeploymentSpec) -> Result<SpecSource<'_>, Refusal> {
    let model = &spec.model;
    let set: Vec<&str> = [
        ("parameters", model.parameters.is_some() && model.config.is_none()),
        ("huggingFace", model.hugging_face.is_some()),
        ("gguf", model.gguf.is_some()),
        ("config", model.config.is_some()),
        ("configMapRef", model.config_map_ref.is_some()),
        ("catalog", model.catalog.is_some()),
    ]
    .into_iter()
    .filter_map(|(name, is_set)| is_set.then_some(name))
    .collect();
    match set.as_slice() {
        [] => Err(Refusal::invalid("model", "no source is set", format!("set one of {SOURCES}"))),
        [_] => one_source(model),
        several => Err(Refusal::invalid(
            "model",
            format!("{} are set together", several.join(" and ")),
            format!("set exactly one of {SOURCES}; parameters may also accompany config"),
        )),
    }
}

fn one_source(model: &ModelSource) -> Result<SpecSource<'_>, Refusal> {
    let ModelSource { parameters, hugging_face, gguf, config, config_map_ref, catalog } = model;
    // Read even beside a config, where it is the published size.
    let size = parameters.as_deref().map(parse_parameters).transpose()?;
    if let Some(config) = config {
        return if config.is_object() {
            Ok(SpecSource::Config(config))
        } else {
            Err(Refusal::invalid("model.config", "it is not an object", "write the content of a config.json"))
        };
    }
    if let Some(hub) = hugging_face {
        check_repository(hub, "model.huggingFace")?;
        let is_gguf = hub.file.is_some();
        return Ok(if is_gguf { SpecSource::HuggingFaceGguf(hub) } else { SpecSource::HuggingFace(hub) });
    }
    if let Some(gguf) = gguf {
        return match (&gguf.url, &gguf.hugging_face) {
            (Some(url), None) if url.starts_with("https://") => Ok(SpecSource::GgufUrl(url)),
            (Some(url), None) => Err(Refusal::invalid(
                "model.gguf.url",
                format!("\"{}\" is not an https address", shorten(url)),
                "begin it with https://",
            )),
            (None, Some(hub)) => {
                check_repository(hub, "model.gguf.huggingFace")?;
                if hub.file.is_none() {
                    return Err(Refusal::invalid(
                        "model.gguf.huggingFace.file",
                        "it is not set",
                        "name the file in the repository, such as model-Q4_K_M.gguf",
                    ));
                }
                Ok(SpecSource::HuggingFaceGguf(hub))
            }
            _ => Err(Refusal::invalid(
                "model.gguf",
                "it must have exactly one of url and huggingFace",
                "set one of them",
            )),
        };
    }
    if let Some(key) = config_map_ref {
        return Ok(SpecSource::ConfigMap(key));
    }
    if let Some(name) = catalog {
        return Ok(SpecSource::Catalog(name));
    }
    let size =
        size.ok_or_else(|| Refusal::invalid("model", "no source is set", format!("set one of {SOURCES}")))?;
    Ok(SpecSource::Parameters(size))
}

fn parse_parameters(text: &str) -> Result<Parameters, Refusal> {
    // The CRD's rule has no room for blanks.
    text.parse().ok().filter(|_| text.trim() == text).ok_or_else(|| {
        Refusal::invalid(
            "model.parameters",
            format!("\"{}\" is not a parameter count", shorten(text)),
            "write a number of 1 to 1000T with an optional suffix K, M, B or T, such as \"8B\", \"1.2B\", \"500M\" or \"8030261248\"",
        )
    })
}

fn check_repository(hub: &HuggingFaceRef, field: &str) -> Result<(), Refusal> {
    if is_repository(&hub.repository) {
        return Ok(());
    }
    Err(Refusal::invalid(
        format!("{field}.repository"),
        format!("\"{}\" is not a repository", shorten(&hub.repository)),
        "write organisation/name, such as meta-llama/Llama-3.1-8B-Instruct",
    ))
}

/// The shape of a model that the spec describes by itself: a size, an inline config or a name of the catalog. `None` for
/// a source that must be read from elsewhere.
///
/// Where `parameters` accompanies `config`, a note of the shape says how the two compare.
#[must_use]
pub fn resolve_pure(spec: &ModelDeploymentSpec) -> Option<Result<ModelShape, ResolveError>> {
    match spec_source(spec) {
        Err(error) => Some(Err(error.into())),
        Ok(SpecSource::Parameters(parameters)) => Some(Ok(assumed::shape(parameters))),
        Ok(SpecSource::Config(config)) => Some(from_config(spec, config)),
        Ok(SpecSource::Catalog(name)) => Some(catalog::shape(name).ok_or_else(|| {
            ResolveError::Spec(Refusal::invalid(
                "model.catalog",
                format!("\"{}\" is not in the catalog", shorten(name)),
                format!(
                    "{}; for any other model set huggingFace, config or parameters",
                    catalog::remedy(name)
                ),
            ))
        })),
        Ok(
            SpecSource::HuggingFace(_)
            | SpecSource::HuggingFaceGguf(_)
            | SpecSource::GgufUrl(_)
            | SpecSource::ConfigMap(_),
        ) => None,
    }
}

/// The repository to serve a spec's catalog entry from: the one it was called by, or the entry's own.
#[must_use]
pub fn repository(spec: &ModelDeploymentSpec) -> Option<String> {
    let name = spec.model.catalog.as_deref()?;
    let entry = catalog::find(name)?;
    Some(if name.contains('/') { name.trim().to_owned() } else { entry.repository.clone() })
}

fn from_config(spec: &ModelDeploymentSpec, config: &Value) -> Result<ModelShape, ResolveError> {
    // Whoever trained the model may have left a path of their own machine here: that is no name.
    let is_name =
        |name: &&str| name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.matches('/').count() < 2;
    let name = config.get("_name_or_path").and_then(Value::as_str).filter(is_name);
    let name = name.map_or_else(|| "config".to_owned(), shorten);
    let mut shape = hf_config::parse(config.to_string().as_bytes(), &name).map_err(ResolveError::Config)?;
    if let Some(published) = spec.model.parameters.as_deref() {
        let published = parse_parameters(published)?;
        shape.notes.push(published_size(&shape, published)?);
    }
    Ok(shape)
}

/// How the size that was published compares with the one counted. One name is given to many sizes (the active parameters
/// of a mixture, embeddings left out), but a dense model whose config has twice as many is another model.
///
/// # Errors
/// If it is: the error names both sizes.
pub fn published_size(shape: &ModelShape, published: Parameters) -> Result<String, Refusal> {
    let counted = Parameters(shape.parameters);
    let (small, large) = if counted < published { (counted, published) } else { (published, counted) };
    let differs = u128::from(large.0) * 2 > u128::from(small.0) * 3;
    if differs && shape.experts.is_none() {
        return Err(Refusal::invalid(
            "model.parameters",
            format!(
                "{published} is not the size of the model that the config describes, which has {counted}"
            ),
            format!("write \"{counted}\", leave parameters out, or correct the config"),
        ));
    }
    Ok(format!("The config comes to {counted} parameters; the published size is {published}."))
}
