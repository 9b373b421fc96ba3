//! From the flags that name a model to its shape.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::api::ModelDeploymentSpec;
use crate::api::v1alpha1::ModelSource;
use crate::model::{ModelShape, assumed, catalog, hf_config};
use crate::plan::{ResolveError, resolve_pure};
use crate::units::{Parameters, shorten};

use super::failure::Failure;
use super::input;

/// Which model.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model (one of)")]
pub(super) struct ModelArguments {
    /// Its size alone, such as 8B, 1.2B, 500M or 8030261248; its shape is then assumed, and the estimate says so
    #[arg(long, value_name = "SIZE", conflicts_with_all = ["gguf", "safetensors", "model", "file"])]
    parameters: Option<Parameters>,
    /// A Hugging Face config.json (`-` for standard input)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["gguf", "safetensors", "model", "file"])]
    config: Option<PathBuf>,
    /// A GGUF file; only its header is read
    #[arg(long, value_name = "FILE", conflicts_with_all = ["safetensors", "model", "file"])]
    gguf: Option<PathBuf>,
    /// A safetensors file, or a directory of them; only their headers are read
    #[arg(long, value_name = "FILE-OR-DIR", conflicts_with_all = ["model", "file"])]
    safetensors: Option<PathBuf>,
    /// A model of the built-in catalog (see --list-models), or a repository of the Hugging Face Hub
    #[arg(long, value_name = "CATALOG-OR-REPOSITORY", conflicts_with = "file")]
    model: Option<String>,
    /// Any of these files, or a directory with a config.json; what it is shows
    #[arg(long, value_name = "FILE-OR-DIR")]
    file: Option<PathBuf>,
}

impl ModelArguments {
    /// The shape of the model.
    pub(super) fn shape(&self) -> anyhow::Result<ModelShape> {
        if let Some(path) = &self.config {
            return self
                .parameters
                .map_or_else(|| config(path), |size| Self::with_published_size(path, size));
        }
        if let Some(size) = self.parameters {
            return Ok(assumed::shape(size));
        }
        if let Some(name) = &self.model {
            return named(name);
        }
        if let Some(path) = &self.gguf {
            return gguf(path);
        }
        if let Some(path) = &self.safetensors {
            return safetensors(path);
        }
        if let Some(path) = &self.file {
            return detected(path);
        }
        Err(Failure::usage("no model is given")
            .hint("give one of --parameters 8B, --config config.json, --model llama-3.1-8b, --gguf FILE, --safetensors FILE-OR-DIR; --list-models lists the catalog")
            .into())
    }

    /// A size that accompanies a config is the published one, and is compared as it is in a custom resource.
    fn with_published_size(path: &Path, size: Parameters) -> anyhow::Result<ModelShape> {
        let bytes = input::bytes(path)?;
        let shape = parsed(path, &bytes)?;
        let model = ModelSource {
            config: Some(serde_json::from_slice(&bytes)?),
            parameters: Some(size.0.to_string()),
            ..ModelSource::default()
        };
        match resolve_pure(&ModelDeploymentSpec { model, ..ModelDeploymentSpec::default() }) {
            Some(Ok(compared)) => Ok(ModelShape { notes: compared.notes, ..shape }),
            Some(Err(ResolveError::Spec(error))) => Err(super::estimate::explained(error).into()),
            Some(Err(ResolveError::Config(_))) | None => Ok(shape),
        }
    }
}

fn config(path: &Path) -> anyhow::Result<ModelShape> {
    parsed(path, &input::bytes(path)?)
}

fn parsed(path: &Path, bytes: &[u8]) -> anyhow::Result<ModelShape> {
    hf_config::parse(bytes, &model_name(path)).map_err(|error| {
        let failure = Failure::error(format!("{}: {error}", input::name(path)));
        failure.hint("it must be the config.json of the model's repository, whole and as it is there").into()
    })
}

/// What to call a model that is read from a file: a file that every model has is named by its directory.
fn model_name(path: &Path) -> String {
    let generic = path.file_name().is_some_and(|name| name == "config.json");
    let directory = path.parent().and_then(Path::file_name);
    let name = if generic { directory.or(path.file_name()) } else { path.file_stem() };
    name.map_or_else(|| input::name(path), |name| name.to_string_lossy().into_owned())
}

fn named(name: &str) -> anyhow::Result<ModelShape> {
    if let Some(shape) = catalog::shape(name) {
        return Ok(shape);
    }
    let failure = if name.contains('/') {
        Failure::error(format!(
            "model \"{}\" is not in the catalog, and this command does not read the Hugging Face Hub",
            shorten(name)
        ))
        .hint("download the repository's config.json and give it with --config")
    } else {
        let near = super::manifest::nearest(name, catalog::names());
        let near = near.map_or_else(String::new, |near| format!("did you mean {near}? "));
        Failure::error(format!("model \"{}\" is not in the catalog", shorten(name)))
            .hint(format!("{near}`loadline estimate --list-models` lists the catalog; --config reads any model's config.json"))
    };
    Err(failure.into())
}

fn gguf(path: &Path) -> anyhow::Result<ModelShape> {
    Err(Failure::error(format!("{}: GGUF files are not read yet", input::name(path)))
        .hint("give the model's config.json with --config and its mix with --precision, such as q4_k_m")
        .into())
}

fn safetensors(path: &Path) -> anyhow::Result<ModelShape> {
    Err(Failure::error(format!("{}: safetensors files are not read yet", input::name(path)))
        .hint("give the config.json beside them with --config")
        .into())
}

/// What a file is, by its name and by what lies in the directory.
fn detected(path: &Path) -> anyhow::Result<ModelShape> {
    if path.is_dir() {
        let config_json = path.join("config.json");
        if config_json.is_file() {
            return config(&config_json);
        }
        return Err(Failure::error(format!("{} has no config.json", path.display()))
            .hint("give the directory of a model as it is on the Hugging Face Hub, or a file")
            .into());
    }
    match path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase()).as_deref() {
        Some("gguf") => gguf(path),
        Some("safetensors") => safetensors(path),
        Some("json") => config(path),
        _ => Err(Failure::error(format!("{}: what it is cannot be told from its name", input::name(path)))
            .hint("say what it is with --config, --gguf or --safetensors")
            .into()),
    }
}
