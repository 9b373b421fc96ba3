//! What runs a model: the image, the command, and arguments that hold the engine to what was estimated.

use super::combine::combine;
use super::fraction;
use super::loading::{Loading, Source, Stored, loadable, loads, made_by};
use super::named::{self, Named};
use super::write::{Weights, check_cache, held, own};
use super::{tables, version};
use crate::api::ModelDeploymentSpec;
use crate::estimate::{Estimate, Workload};
use crate::model::ModelShape;
use crate::model::catalog::{self, Checkpoint};
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
    /// Whether the object brings an image that is no engine's own, or a command.
    pub(crate) brought: bool,
    /// Whether it has an image at all, or a command.
    pub(crate) has_image: bool,
    /// What its arguments and its environment say of where the weights are.
    pub(crate) named: Named<'a>,
    /// Whether its template has arguments, which replace those that would be written.
    pub(crate) replaced: bool,
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
        /// Whether the engine loads such checkpoints at all.
        loads: bool,
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
        if !brought && !named.is_any() {
            // An engine's own image runs no model by itself.
            let nothing = if question.has_image { Nothing::NoModel } else { Nothing::NoEngine };
            return Ok(Launch::Nothing(nothing));
        }
        let arguments = (!extra.is_empty()).then(|| extra.to_vec());
        return Ok(Launch::Run(Start { application, image, command: Vec::new(), arguments, endpoint: None }));
    }

    check_cache(table, spec, workload, None)?;
    fraction::check(engine, extra, margin, Some(estimate))?;
    check_place(question)?;
    let (weights, loading) = match placed(question, workload) {
        Ok(found) => found,
        Err(nothing) => return Ok(Launch::Nothing(nothing)),
    };
    if matches!(weights, Weights::Unsaid) && !named.is_any() && !brought {
        return Ok(Launch::Nothing(Nothing::NoModel));
    }
    if table.image.is_none() && !brought {
        return Ok(Launch::Nothing(Nothing::NoImage(engine)));
    }
    check_method(&question, extra)?;
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

/// The repository of the model that was estimated, if it has one.
fn own_repository<'a>(question: &Question<'a>) -> Option<&'a str> {
    let reference = question.spec.model.hugging_face.as_ref();
    reference.map(|reference| reference.repository.as_str()).or(question.catalog_repository)
}

/// Refuses a place that is none, that of another model, and arguments that leave out the model.
fn check_place(question: Question<'_>) -> Result<(), Refusal> {
    /// Models whose sizes are nearer than this may be called the same: one part in so many.
    const NEAR: u64 = 5;
    let Question { spec, shape, named, brought, replaced, .. } = question;
    let given =
        spec.engine.as_ref().and_then(|engine| engine.args.as_ref()).is_some_and(|args| !args.is_empty());
    let field = if given { "engine.args" } else { "template.spec.containers" };
    let place = match named {
        Named::At(place) => place,
        Named::No if replaced && !brought => {
            return Err(Refusal::invalid(
                field,
                "the serving container's arguments replace those that name the model and hold the engine to the estimate",
                "write them in engine.args, where they are added to those, or name the model among them",
            ));
        }
        Named::No | Named::Unread => return Ok(()),
    };
    if place.trim().is_empty() {
        return Err(Refusal::invalid(
            field,
            "the model's name is empty",
            "write a repository, a path or an address",
        ));
    }
    let Some(known) = catalog::of_repository(place) else { return Ok(()) };
    let far = known.parameters.abs_diff(shape.parameters) > known.parameters.max(shape.parameters) / NEAR;
    if far && shape.parameters > 0 {
        return Err(Refusal::invalid(
            field,
            format!(
                "{} has {} parameters, and the model that was estimated has {}",
                shorten(place),
                billions(known.parameters),
                billions(shape.parameters)
            ),
            format!("set model.catalog: {}, or name the weights of the model that spec.model is", known.name),
        ));
    }
    Ok(())
}

/// Refuses a method of quantising that needs a checkpoint which the model's own repository is not.
fn check_method(question: &Question<'_>, arguments: &[String]) -> Result<(), Refusal> {
    let engine = question.estimate.workload.engine;
    let Some(method) = named::method(tables::of(engine), arguments) else { return Ok(()) };
    let Some(own) = own_repository(question) else { return Ok(()) };
    let is_own = match question.named {
        Named::No => !question.brought,
        Named::At(place) => named::same(own, place),
        Named::Unread => false,
    };
    let is_wide = question.shape.quantization.is_none()
        && question.shape.stored_precision.is_some_and(Precision::is_wide);
    if is_own && is_wide && made_by(engine, method).is_none() {
        return Err(Refusal::invalid(
            "engine.args",
            format!(
                "{engine} loads with method {} only what is stored so, and {own} is not",
                shorten(method)
            ),
            "remove it, or name a repository that is (model.huggingFace)",
        ));
    }
    Ok(())
}

/// A number of parameters, as people write it.
fn billions(parameters: u64) -> String {
    format!("{}.{}B", parameters / 1_000_000_000, parameters / 100_000_000 % 10)
}

/// Where the weights are, and how they become those that were estimated; or why they cannot be loaded.
fn placed<'a>(question: Question<'a>, workload: &Workload) -> Result<(Weights<'a>, Loading), Nothing> {
    let Question { spec, shape, catalog_repository, brought, named, .. } = question;
    let engine = workload.engine;
    let stored = Stored::of(shape);
    // Who names the model's own repository says nothing new.
    let elsewhere = match named {
        Named::At(place) => own_repository(&question).is_none_or(|own| !named::same(own, place)),
        Named::Unread => true,
        Named::No => false,
    };
    let weights = if named.is_any() { Weights::Unsaid } else { Weights::of(spec, catalog_repository) };
    let source = if elsewhere { Source::Unsaid } else { Source::of(spec, shape, catalog_repository) };
    let loading = match (workload.precision, named) {
        (None, _) => Loading::AsStored,
        (Some(wanted), Named::At(place)) if elsewhere => named::from_elsewhere(engine, place, stored, wanted),
        (Some(wanted), _) => loadable(engine, source, stored, wanted),
    };
    if loading != Loading::Impossible {
        return Ok((weights, loading));
    }
    let place = match (named, weights) {
        (Named::At(place), _) => place,
        (_, Weights::Repository { repository, .. }) => repository,
        (_, Weights::Url(url)) => url,
        (_, Weights::Unsaid) => return Ok((weights, loading)),
    };
    // An image that was brought may hold weights that Loadline does not know.
    if brought && !named.is_any() {
        return Ok((Weights::Unsaid, loading));
    }
    let gguf = source == Source::Gguf;
    let place = place.to_owned();
    let wants_gguf = engine == Engine::LlamaCpp;
    Err(match workload.precision {
        Some(precision) if gguf == wants_gguf || elsewhere => {
            let loads = loads(engine, precision);
            let of = own_repository(&question).unwrap_or(&place);
            let elsewhere = catalog::checkpoint(of, precision).filter(|_| loads);
            Nothing::NoCheckpoint { repository: place, precision, engine, loads, elsewhere }
        }
        _ => Nothing::WrongFiles { place, gguf, engine },
    })
}

/// The engine whose own image this is, at whatever tag and from whatever registry: what it does is known, and it holds no
/// weights.
pub(crate) fn stock_of(image: &str) -> Option<Engine> {
    let image = image.split('@').next().unwrap_or(image);
    let last = image.rsplit('/').next().unwrap_or(image);
    let name = last.split(':').next().unwrap_or(last);
    Engine::ALL.iter().copied().find(|engine| tables::of(*engine).stock.contains(&name))
}

/// Whether an image is an engine's own, from its own registry, at whatever tag: whose it is, nobody else can say.
pub(crate) fn is_own_image(engine: Engine, image: &str) -> bool {
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
