//! From the flags that name a model to its shape.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use crate::model::content::Content;
use crate::model::{ModelShape, ShapeSource, assumed, catalog, hf_config};
use crate::plan::published_size;
use crate::source::{SourceError, SourceRef, identify};
use crate::units::{Parameters, shorten};

use super::failure::Failure;
use super::hub::HubArguments;
use super::input;
use super::words::explained as refused;

/// Which model.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Model (one of)")]
pub(super) struct ModelArguments {
    /// Its size alone, such as 8B, 1.2B, 500M or 8030261248; its shape is then assumed, and the estimate says so
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, conflicts_with_all = ["gguf", "safetensors", "model", "file"])]
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
    /// A branch, tag or commit of the repository [default: main]
    #[arg(long, value_name = "REVISION", requires = "model")]
    revision: Option<String>,
    /// Any of these files, or the directory of a model; what it is shows
    #[arg(long, value_name = "FILE-OR-DIR")]
    file: Option<PathBuf>,
}

impl ModelArguments {
    /// These; where they name no model, the one that a training config names: a directory, or a name as `--model` has it.
    pub(super) fn or(&self, named: Option<&str>) -> Self {
        let is_told = self.parameters.is_some()
            || self.model.is_some()
            || [&self.config, &self.gguf, &self.safetensors, &self.file].into_iter().any(Option::is_some);
        let mut model = self.clone();
        if let Some(named) = named.filter(|_| !is_told) {
            if Path::new(named).exists() {
                model.file = Some(PathBuf::from(named));
            } else {
                model.model = Some(named.to_owned());
            }
        }
        model
    }

    /// The shape of the model.
    pub(super) fn shape(&self, hub: &HubArguments) -> anyhow::Result<ModelShape> {
        // clap does not ask for what conflicts with another flag that is there.
        if let (Some(revision), None) = (&self.revision, &self.model) {
            return Err(Failure::usage(format!("--revision {}: it is of a repository", shorten(revision)))
                .hint("leave it out, or name the repository with --model organisation/name")
                .into());
        }
        if let Some(path) = &self.config {
            return self
                .parameters
                .map_or_else(|| config(path), |size| Self::with_published_size(path, size));
        }
        if let Some(size) = self.parameters {
            return Ok(assumed::shape(size));
        }
        if let Some(name) = &self.model {
            return named(name, self.revision.as_deref(), hub);
        }
        if let Some(path) = &self.gguf {
            return of_kind(path, &GGUF, hub);
        }
        if let Some(path) = &self.safetensors {
            return of_kind(path, &SAFETENSORS, hub);
        }
        if let Some(path) = &self.file {
            return on_disk(path, hub);
        }
        Err(Failure::usage("no model is given")
            .hint("give one of --parameters 8B, --config config.json, --model llama-3.1-8b, --gguf FILE, --safetensors FILE-OR-DIR; --list-models lists the catalog")
            .into())
    }

    /// A size that accompanies a config is the published one, and is compared as it is in a custom resource.
    fn with_published_size(path: &Path, size: Parameters) -> anyhow::Result<ModelShape> {
        let mut shape = config(path)?;
        match published_size(&shape, size) {
            Ok(note) => {
                shape.notes.push(note);
                Ok(shape)
            }
            // Here the config is a file, not a field.
            Err(error) => Err(refused(error).in_file(&input::name(path)).into()),
        }
    }
}

fn config(path: &Path) -> anyhow::Result<ModelShape> {
    parsed(path, &config_bytes(path)?)
}

/// A config, which is not read to its end if it is a file of another kind: weights are large.
fn config_bytes(path: &Path) -> anyhow::Result<Vec<u8>> {
    if path.is_dir() {
        return Err(CONFIG
            .refusal(path, "a directory")
            .hint(format!(
                "write --config {}, or --file {}",
                path.join("config.json").display(),
                path.display()
            ))
            .into());
    }
    if path.is_file() {
        let content = identify(path).map_err(|error| Failure::error(error.to_string()))?;
        CONFIG.check(path, content)?;
    }
    input::bytes(path)
}

/// A flag that wants files of one kind.
struct Wanted {
    flag: &'static str,
    wants: &'static str,
    contents: &'static [Content],
    /// What is made of them.
    source: ShapeSource,
}

const GGUF: Wanted =
    Wanted { flag: "--gguf", wants: "a GGUF file", contents: &[Content::Gguf], source: ShapeSource::Gguf };
const SAFETENSORS: Wanted = Wanted {
    flag: "--safetensors",
    wants: "a safetensors file, an index of some, or a directory with them",
    contents: &[Content::Safetensors, Content::Index],
    source: ShapeSource::Safetensors,
};
const CONFIG: Wanted = Wanted {
    flag: "--config",
    wants: "a config.json",
    // The parser says what is missing of JSON that does not look like one.
    contents: &[Content::Config, Content::Json],
    source: ShapeSource::Config,
};

impl Wanted {
    /// Refuses what is of another kind, with the flag that is right for it.
    fn check(&self, path: &Path, content: Content) -> Result<(), Failure> {
        if self.contents.contains(&content) {
            return Ok(());
        }
        Err(self.refusal(path, &content.describe()).hint(match (content, content.remedy()) {
            (_, Some(remedy)) => remedy.to_owned(),
            (Content::Gguf, _) => right(&GGUF, path),
            (Content::Safetensors | Content::Index, _) => right(&SAFETENSORS, path),
            (Content::Config | Content::Json, _) => right(&CONFIG, path),
            (Content::SafetensorsJson, _) => format!("give it with --file {}", input::name(path)),
            _ => format!("{} takes {}", self.flag, self.wants),
        }))
    }

    fn refusal(&self, path: &Path, found: &str) -> Failure {
        let Self { flag, wants, .. } = self;
        Failure::error(format!("{flag} {}: it is {found}, and {flag} takes {wants}", input::name(path)))
    }
}

fn right(wanted: &Wanted, path: &Path) -> String {
    format!("write {} {}", wanted.flag, path.display())
}

/// A model on disk, of the kind that the flag wants.
fn of_kind(path: &Path, wanted: &Wanted, hub: &HubArguments) -> anyhow::Result<ModelShape> {
    if path.is_file() {
        let content = identify(path).map_err(|error| Failure::error(error.to_string()))?;
        wanted.check(path, content)?;
    }
    let shape = on_disk(path, hub)?;
    if shape.source == wanted.source {
        return Ok(shape);
    }
    // A directory, which is read by what is in it.
    let other = match shape.source {
        ShapeSource::Gguf => &GGUF,
        ShapeSource::Safetensors => &SAFETENSORS,
        _ => &Wanted { flag: "--file", ..CONFIG },
    };
    let failure = wanted.refusal(path, &format!("a directory with {}", other.wants));
    Err(failure.hint(right(other, path)).into())
}

fn parsed(path: &Path, bytes: &[u8]) -> anyhow::Result<ModelShape> {
    CONFIG.check(path, Content::of("", bytes))?;
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

fn named(name: &str, revision: Option<&str>, hub: &HubArguments) -> anyhow::Result<ModelShape> {
    if revision.is_none()
        && let Some(shape) = catalog::shape(name)
    {
        return Ok(shape);
    }
    if name.split('/').filter(|part| !part.is_empty()).count() == 2 && name.matches('/').count() == 1 {
        let source = SourceRef::HuggingFace {
            repository: name.to_owned(),
            revision: revision.map(str::to_owned),
            file: None,
            token: HubArguments::token(),
        };
        let sources = hub.sources().map_err(|error| Failure::error(error.to_string()))?;
        return Ok(sources.resolve(&source).map(Arc::unwrap_or_clone).map_err(explained)?);
    }
    if let (Some(revision), Some(_)) = (revision, catalog::shape(name)) {
        return Err(Failure::error(format!(
            "--revision {}: {} is of the built-in catalog, which has no revisions",
            shorten(revision),
            shorten(name)
        ))
        .hint("leave it out, or name a repository of the Hugging Face Hub: organisation/name")
        .into());
    }
    Err(Failure::error(format!("model \"{}\" is not in the catalog", shorten(name)))
        .hint(format!("{}; a repository of the Hugging Face Hub is organisation/name", catalog::remedy(name)))
        .into())
}

/// An error of the Hub in the words of the command line: what is in a variable or a flag here is a field elsewhere.
fn explained(error: SourceError) -> Failure {
    const DOWNLOAD: &str = "download its config.json and give it with --config";
    match error {
        SourceError::Offline { of } => Failure::error(format!(
            "{of}: offline mode is on (--offline, or HF_HUB_OFFLINE), and it is not in the catalog"
        ))
        .hint(format!("{DOWNLOAD}, or give its size with --parameters")),
        SourceError::Unauthorized { of, endpoint, status, with_token } => {
            let problem = if with_token {
                "the token in HF_TOKEN has no access to it"
            } else {
                "it is gated, private or misspelt, and there is no access token in HF_TOKEN"
            };
            Failure::error(format!("{of}: {endpoint} answered {status}: {problem}")).hint(format!(
                "accept its terms at https://{endpoint}/{of}, and set HF_TOKEN to a token of that account that may read it"
            ))
        }
        SourceError::NotFound { of, endpoint, missing, .. } => {
            Failure::error(format!("{of}: {endpoint} has no {missing}"))
                .hint("check the name, and --revision; a private repository needs a token in HF_TOKEN")
        }
        error => Failure::error(error.to_string()).hint(format!("with no network, {DOWNLOAD}")),
    }
}

fn on_disk(path: &Path, hub: &HubArguments) -> anyhow::Result<ModelShape> {
    let failure = |error: Failure| {
        error.hint("give a model as it is on the Hugging Face Hub: its directory, config.json, *.safetensors, model.safetensors.index.json or *.gguf")
    };
    read(hub, &SourceRef::Path(path.to_owned())).map_err(|error| failure(error).into())
}

fn read(hub: &HubArguments, source: &SourceRef) -> Result<ModelShape, Failure> {
    let sources = hub.sources().map_err(|error| Failure::error(error.to_string()))?;
    sources.resolve(source).map(Arc::unwrap_or_clone).map_err(|error| Failure::error(error.to_string()))
}
