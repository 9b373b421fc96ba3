//! What runs a model: the image, the command, and arguments that hold the engine to what was estimated.

use super::combine::combine;
use super::fraction;
use super::loading::{Loading, Source, Stored, loadable, loads};
use super::read::names_model;
use super::write::{Weights, check_cache, held, own};
use super::{tables, version};
use crate::api::ModelDeploymentSpec;
use crate::estimate::{Estimate, Workload};
use crate::model::ModelShape;
use crate::model::catalog::{self, Checkpoint};
use crate::precision::{Engine, Precision};
use crate::refusal::Refusal;
use crate::units::Margin;

/// What is to be served.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    /// The object's spec.
    pub(crate) spec: &'a ModelDeploymentSpec,
    /// The model's shape.
    pub(crate) shape: &'a ModelShape,
    /// The repository that a catalog entry stands for.
    pub(crate) catalog_repository: Option<&'a str>,
    /// Whether the object brings an image that is not the engine's own, or a command.
    pub(crate) brought: bool,
    /// Whether the container's environment names the model.
    pub(crate) named: bool,
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
        /// A repository that holds the same model so, and that the engine loads, where one is known.
        elsewhere: Option<&'static Checkpoint>,
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
    let Question { spec, estimate, margin, brought, named, .. } = question;
    let workload = &estimate.workload;
    let engine = workload.engine;
    let table = tables::of(engine);
    let image = spec.engine.as_ref().and_then(|engine| engine.image.clone());
    let extra = spec.engine.as_ref().and_then(|engine| engine.args.as_deref()).unwrap_or_default();
    let application = if engine == Engine::None { "model" } else { engine.as_str() };

    if engine == Engine::None {
        if !brought {
            return Ok(Launch::Nothing(Nothing::NoEngine));
        }
        let arguments = (!extra.is_empty()).then(|| extra.to_vec());
        return Ok(Launch::Run(Start { application, image, command: Vec::new(), arguments, endpoint: None }));
    }

    check_cache(table, spec, workload, None)?;
    fraction::check(engine, extra, margin, Some(estimate))?;
    let is_named = named || names_model(table, extra);
    let (weights, loading) = match placed(question, workload, is_named) {
        Ok(found) => found,
        Err(nothing) => return Ok(Launch::Nothing(nothing)),
    };
    if matches!(weights, Weights::Unsaid) && !is_named && !brought {
        return Ok(Launch::Nothing(Nothing::NoModel));
    }
    if table.image.is_none() && !brought {
        return Ok(Launch::Nothing(Nothing::NoImage(engine)));
    }
    let own_image = match image {
        None if !brought => version::image(spec.engine.as_ref(), engine)?,
        image => image.or_else(|| table.image.map(str::to_owned)),
    };
    let mut own = own(workload, &weights, loading)?;
    own.extend(fraction::told(table, extra, margin, &estimate.per_gpu, estimate.total_per_gpu));
    let arguments = combine(own, extra, held(table, workload))?;
    Ok(Launch::Run(Start {
        application,
        image: own_image,
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
) -> Result<(Weights<'a>, Loading), Nothing> {
    let Question { spec, shape, catalog_repository, brought, .. } = question;
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
    if brought {
        return Ok((Weights::Unsaid, loading));
    }
    let gguf = source == Source::Gguf;
    let place = place.to_owned();
    let wants_gguf = engine == Engine::LlamaCpp;
    Err(match workload.precision {
        Some(precision) if gguf == wants_gguf => {
            let elsewhere = catalog::checkpoint(&place, precision).filter(|_| loads(engine, precision));
            Nothing::NoCheckpoint { repository: place, precision, engine, elsewhere }
        }
        _ => Nothing::WrongFiles { place, gguf, engine },
    })
}

/// Whether an image is the engine's own, at whatever tag. What it does is known, and it holds no weights.
pub(crate) fn is_stock(engine: Engine, image: &str) -> bool {
    let name = |image: &str| {
        let image = image.split('@').next().unwrap_or(image);
        let path = image.rsplit_once('/').map_or("", |(path, _)| path);
        let last = image.rsplit('/').next().unwrap_or(image);
        let last = last.split(':').next().unwrap_or(last);
        let path = path.strip_prefix("docker.io").map_or(path, |path| path.trim_start_matches('/'));
        format!("{path}/{last}")
    };
    tables::of(engine).image.is_some_and(|own| name(own) == name(image))
}

/// Environment variables that tell an engine's image the model.
pub(crate) const fn model_variables(engine: Engine) -> &'static [&'static str] {
    tables::of(engine).model_variables
}

#[cfg(test)]
#[path = "start_tests.rs"]
mod tests;
