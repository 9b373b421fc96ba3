//! What runs a model: the image, the command, and arguments that hold the engine to what was estimated.

use super::combine::combine;
use super::fraction;
use super::loading::{Loading, Source, Stored, loadable};
use super::read::names_model;
use super::table::{self, Table};
use super::write::{Weights, check_cache, own};
use crate::api::ModelDeploymentSpec;
use crate::estimate::{Estimate, Workload};
use crate::model::ModelShape;
use crate::precision::{Engine, Precision};
use crate::refusal::Refusal;
use crate::units::{Margin, shorten};

/// What is to be served.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    /// The object's spec.
    pub(crate) spec: &'a ModelDeploymentSpec,
    /// The model's shape.
    pub(crate) shape: &'a ModelShape,
    /// The repository that a catalog entry stands for.
    pub(crate) catalog_repository: Option<&'a str>,
    /// What it was estimated to take.
    pub(crate) estimate: &'a Estimate,
    /// The safety margin.
    pub(crate) margin: Margin,
}

/// How the container that serves the model is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// The value of `app.kubernetes.io/name`.
    pub(crate) application: &'static str,
    /// The image, unless the template has one.
    pub(crate) image: Option<String>,
    /// The command, where the image's own will not do.
    pub(crate) command: Vec<String>,
    /// Loadline's arguments and the user's; `None` leaves the image's own.
    pub(crate) arguments: Option<Vec<String>>,
    /// Where it answers, and the path that says that the model is loaded.
    pub(crate) endpoint: Option<(u16, &'static str)>,
}

/// Why nothing is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nothing {
    /// Training is estimated only.
    Training,
    /// `engine.name: none` and no template.
    NoEngine,
    /// Nothing says where the weights are.
    NoModel,
    /// The engine has no image of its own.
    NoImage(Engine),
    /// The repository's weights cannot be loaded at the precision that was estimated.
    NoCheckpoint {
        /// The repository.
        repository: String,
        /// The precision.
        precision: Precision,
        /// The engine.
        engine: Engine,
    },
    /// The weights are in files that the engine does not read.
    WrongFiles {
        /// The repository or the address.
        place: String,
        /// Whether they are GGUF files.
        gguf: bool,
        /// The engine.
        engine: Engine,
    },
}

impl Nothing {
    /// Whether the user asked for no more than an estimate. Otherwise something was to run, and cannot.
    #[must_use]
    pub const fn is_by_choice(&self) -> bool {
        match self {
            Self::Training | Self::NoEngine => true,
            Self::NoModel | Self::NoImage(_) | Self::NoCheckpoint { .. } | Self::WrongFiles { .. } => false,
        }
    }
}

impl std::fmt::Display for Nothing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_by_choice() { "estimate only: " } else { "not run: " })?;
        match self {
            Self::Training => f.write_str("no workload is made of training"),
            Self::NoEngine => f.write_str("engine.name is none and there is no template"),
            Self::NoModel => f.write_str(
                "nothing says where the weights are; set model.huggingFace, name them in engine.args, or bring an image or a template that knows, or set engine.name: none",
            ),
            Self::NoImage(engine) => {
                write!(f, "{engine} has no default image; set engine.image or template to run it")
            }
            Self::NoCheckpoint { repository, precision, engine } => write!(
                f,
                "{engine} cannot load {} as {precision}; name a repository that holds {precision}, or set another precision, or bring an image that knows how",
                shorten(repository)
            ),
            Self::WrongFiles { place, gguf: true, engine } => write!(
                f,
                "{engine} does not load the GGUF file of {}; set engine.name: llama-cpp, or name a repository with safetensors",
                shorten(place)
            ),
            Self::WrongFiles { place, gguf: false, engine } => write!(
                f,
                "{engine} loads GGUF files, and {} has safetensors; name a file with model.gguf, or set engine.name: vllm",
                shorten(place)
            ),
        }
    }
}

/// Whether anything is to run.
#[derive(Debug)]
pub(crate) enum Launch {
    /// Nothing, and why.
    Nothing(Nothing),
    /// This.
    Run(Start),
}

/// What is to run for an object, if anything.
pub(crate) fn start(question: Question<'_>) -> Result<Launch, Refusal> {
    let Question { spec, estimate, margin, .. } = question;
    let workload = &estimate.workload;
    let engine = workload.engine;
    let table = table::of(engine);
    let image = spec.engine.as_ref().and_then(|engine| engine.image.clone());
    let extra = spec.engine.as_ref().and_then(|engine| engine.args.as_deref()).unwrap_or_default();
    let application = if engine == Engine::None { "model" } else { engine.as_str() };
    let container = Container::of(spec);
    let is_supplied = image.is_some() || spec.template.is_some();

    if engine == Engine::None {
        if !is_supplied {
            return Ok(Launch::Nothing(Nothing::NoEngine));
        }
        let arguments = (!extra.is_empty()).then(|| extra.to_vec());
        return Ok(Launch::Run(Start { application, image, command: Vec::new(), arguments, endpoint: None }));
    }

    check_cache(table, spec, workload, None)?;
    fraction::check(engine, extra, margin, Some(estimate))?;
    let is_named = names_model(table, extra) || container.names_model(table);
    // What the engine's own image does is known, and it holds no weights.
    let is_brought = container.speaks_for_itself
        || [image.as_deref(), container.image].into_iter().flatten().any(|image| !is_stock(table, image));
    let (weights, loading) = match placed(question, workload, is_named, is_brought) {
        Ok(found) => found,
        Err(nothing) => return Ok(Launch::Nothing(nothing)),
    };
    if matches!(weights, Weights::Unsaid) && !is_named && !is_brought {
        return Ok(Launch::Nothing(Nothing::NoModel));
    }
    if table.image.is_none() && !is_supplied {
        return Ok(Launch::Nothing(Nothing::NoImage(engine)));
    }
    let mut own = own(workload, &weights, loading)?;
    own.extend(fraction::told(table, extra, margin, &estimate.per_gpu, estimate.total_per_gpu));
    let arguments = combine(own, extra, workload.sequences)?;
    Ok(Launch::Run(Start {
        application,
        image: image.or_else(|| table.image.map(str::to_owned)),
        command: table.command.iter().map(|word| (*word).to_owned()).collect(),
        arguments: (!arguments.is_empty()).then_some(arguments),
        endpoint: table.endpoint,
    }))
}

/// Where the weights are, and how they become those that were estimated; or why they cannot be loaded.
fn placed<'a>(
    question: Question<'a>,
    workload: &Workload,
    is_named: bool,
    is_brought: bool,
) -> Result<(Weights<'a>, Loading), Nothing> {
    let Question { spec, shape, catalog_repository, .. } = question;
    let engine = workload.engine;
    let weights = if is_named { Weights::Unsaid } else { Weights::of(spec, catalog_repository) };
    let source = if is_named { Source::Unsaid } else { Source::of(spec, shape, catalog_repository) };
    let loading = workload
        .precision
        .map_or(Loading::AsStored, |wanted| loadable(engine, source, Stored::of(shape), wanted));
    if loading != Loading::Impossible {
        return Ok((weights, loading));
    }
    let place = match weights {
        Weights::Repository { repository, .. } => repository,
        Weights::Url(url) => url,
        Weights::Unsaid => return Ok((weights, loading)),
    };
    // An image that was brought may hold weights that Loadline does not know.
    if is_brought {
        return Ok((Weights::Unsaid, loading));
    }
    let gguf = source == Source::Gguf;
    let place = place.to_owned();
    let wants_gguf = engine == Engine::LlamaCpp;
    Err(match workload.precision {
        Some(precision) if gguf == wants_gguf => {
            Nothing::NoCheckpoint { repository: place, precision, engine }
        }
        _ => Nothing::WrongFiles { place, gguf, engine },
    })
}

/// Whether an image is the engine's own, at whatever tag.
fn is_stock(table: &Table, image: &str) -> bool {
    let name = |image: &str| {
        let image = image.split('@').next().unwrap_or(image);
        let path = image.rsplit_once('/').map_or("", |(path, _)| path);
        let last = image.rsplit('/').next().unwrap_or(image);
        let last = last.split(':').next().unwrap_or(last);
        let path = path.strip_prefix("docker.io").map_or(path, |path| path.trim_start_matches('/'));
        format!("{path}/{last}")
    };
    table.image.is_some_and(|own| name(own) == name(image))
}

/// What the template says of the container that serves the model.
struct Container<'a> {
    image: Option<&'a str>,
    /// It has a command or arguments of its own.
    speaks_for_itself: bool,
    environment: Vec<&'a str>,
}

impl<'a> Container<'a> {
    fn of(spec: &'a ModelDeploymentSpec) -> Self {
        let named = spec.template.as_ref().and_then(|template| template.pointer("/spec/containers"));
        let containers = named.and_then(serde_json::Value::as_array);
        let is_serving = |container: &&'a serde_json::Value| {
            container.get("name").and_then(serde_json::Value::as_str) == Some("model")
        };
        let container = containers
            .and_then(|containers| containers.iter().find(is_serving).or_else(|| containers.first()));
        let of = |key: &str| container.and_then(|container| container.get(key));
        // What is no container is refused where the template is read.
        let is_malformed = named.is_some_and(|named| !named.is_array() && !named.is_null())
            || of("image").is_some_and(|image| !image.is_string() && !image.is_null());
        let list = |key: &str| of(key).and_then(serde_json::Value::as_array);
        Self {
            image: of("image").and_then(serde_json::Value::as_str),
            speaks_for_itself: ["command", "args"]
                .iter()
                .any(|key| list(key).is_some_and(|words| !words.is_empty()))
                || is_malformed,
            environment: list("env")
                .into_iter()
                .flatten()
                .filter_map(|variable| variable.get("name")?.as_str())
                .collect(),
        }
    }

    /// Whether an environment variable of the container names the model.
    fn names_model(&self, table: &Table) -> bool {
        table.model_variables.iter().any(|name| self.environment.contains(name))
    }
}

#[cfg(test)]
#[path = "start_tests.rs"]
mod tests;
