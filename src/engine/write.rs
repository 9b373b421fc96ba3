//! The arguments that hold an engine to what was estimated, written by its table.

use super::combine::{Managed, combine};
use super::loading::Loading;
use super::named::named_by;
use super::table::{Entry, Place, Says, Table};
use super::tables;
use crate::api::ModelDeploymentSpec;
use crate::estimate::Workload;
use crate::precision::{CachePrecision, Engine, Precision};
use crate::refusal::Refusal;
use crate::units::Overflow;

/// Where the weights are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Weights<'a> {
    /// A Hugging Face repository, at a revision, and the file if it is a GGUF.
    Repository { repository: &'a str, revision: Option<&'a str>, file: Option<&'a str> },
    /// A GGUF file.
    Url(&'a str),
    /// Not known to Loadline: the image or the arguments know.
    Unsaid,
}

impl<'a> Weights<'a> {
    /// What a spec says; `repository` is that of a catalog entry.
    pub(super) fn of(spec: &'a ModelDeploymentSpec, repository: Option<&'a str>) -> Self {
        let gguf = spec.model.gguf.as_ref();
        let reference =
            spec.model.hugging_face.as_ref().or_else(|| gguf.and_then(|gguf| gguf.hugging_face.as_ref()));
        if let Some(reference) = reference {
            return Self::Repository {
                repository: &reference.repository,
                revision: reference.revision.as_deref(),
                file: reference.file.as_deref(),
            };
        }
        match (gguf.and_then(|gguf| gguf.url.as_deref()), repository) {
            (Some(url), _) => Self::Url(url),
            (None, Some(repository)) => Self::Repository { repository, revision: None, file: None },
            (None, None) => Self::Unsaid,
        }
    }
}

/// Refuses what contradicts the spec, or what the engine does not do, as far as it can be told before the estimate. `stored` is
/// the model's own format, where it is known.
pub(crate) fn check(
    spec: &ModelDeploymentSpec,
    workload: &Workload,
    stored: Option<Precision>,
) -> Result<(), Refusal> {
    let table = tables::of(workload.engine);
    check_cache(table, spec, workload, stored)?;
    let arguments = spec.engine.as_ref().and_then(|engine| engine.args.as_deref()).unwrap_or_default();
    let named = named_by(table, arguments).is_any();
    let weights = if named { Weights::Unsaid } else { Weights::of(spec, None) };
    let own = own(workload, &weights, Loading::AsStored)?;
    combine(own, arguments, held(table, workload)).map(|_| ())
}

/// Refuses a cache that the spec asks for and the engine cannot hold. One of the model's own type needs no asking for.
pub(super) fn check_cache(
    table: &Table,
    spec: &ModelDeploymentSpec,
    workload: &Workload,
    stored: Option<Precision>,
) -> Result<(), Refusal> {
    let asked = spec.context.as_ref().and_then(|context| context.cache_precision);
    let Some(asked) = asked.filter(|asked| *asked != CachePrecision::Auto) else { return Ok(()) };
    let precision = workload.precision.or(stored);
    let is_own =
        asked == CachePrecision::Fp32 && precision.is_none_or(|precision| precision == Precision::Fp32);
    if is_own || holds(table, asked) {
        return Ok(());
    }
    Err(no_such_cache(table, workload.engine, asked))
}

/// Loadline's own arguments for a workload.
pub(super) fn own(
    workload: &Workload,
    weights: &Weights<'_>,
    loading: Loading,
) -> Result<Vec<Managed>, Refusal> {
    let table = tables::of(workload.engine);
    if workload.pipeline > 1 && !table.stages {
        return Err(Refusal::invalid(
            "parallelism.pipeline",
            format!("{} with engine {}, which has no pipeline stages", workload.pipeline, workload.engine),
            "set parallelism.pipeline: 1 and parallelism.tensor, or another engine",
        ));
    }
    if workload.data > 1 && table.cap_of_group.is_none() {
        return Err(Refusal::invalid(
            "parallelism.data",
            format!("{} with engine {}, which has no data parallelism", workload.data, workload.engine),
            "set parallelism.data: 1 and replicas for more copies, or engine vllm or sglang",
        ));
    }
    let mut own = Vec::new();
    let mut capped = false;
    for entry in table.flags {
        // Of two caps of the same the first is written.
        let is_sequences = matches!(entry.says, Says::Sequences);
        if !(is_sequences && capped) {
            own.extend(
                value(table, entry, workload, weights, loading)?
                    .map(|(value, field)| Managed::of(entry, value, field)),
            );
        }
        capped |= is_sequences;
    }
    Ok(own)
}

/// What a flag is given, and the field that it follows from.
fn value(
    table: &Table,
    entry: &Entry,
    workload: &Workload,
    weights: &Weights<'_>,
    loading: Loading,
) -> Result<Option<(String, &'static str)>, Refusal> {
    let of_all = || match workload.context {
        None => Ok(None),
        Some(length) => match length.checked_mul(workload.sequences) {
            Some(all) => Ok(Some((all.to_string(), "context"))),
            None => Err(Refusal::Estimate(Overflow.into())),
        },
    };
    Ok(match entry.says {
        Says::Model(place) => model(place, weights).map(|model| (model.to_owned(), "model")),
        Says::Revision => match weights {
            Weights::Repository { revision, .. } => revision.map(|revision| (revision.to_owned(), "model")),
            Weights::Url(_) | Weights::Unsaid => None,
        },
        Says::Fixed(value) => Some((value.to_owned(), "engine")),
        Says::Context => workload.context.map(|length| (length.to_string(), "context.length")),
        Says::Prompt => {
            workload.context.map(|length| (length.saturating_sub(1).max(1).to_string(), "context.length"))
        }
        Says::ContextOfAll | Says::TokensOfAll => of_all()?,
        Says::Sequences => Some((sequences(table, workload).to_string(), "context.sequences")),
        Says::BatchedTokens { written: true, .. } => {
            workload.batched_tokens.map(|tokens| (tokens.to_string(), "engine.args"))
        }
        Says::Tensor => Some((workload.tensor.to_string(), "parallelism.tensor")),
        Says::Pipeline => Some((workload.pipeline.to_string(), "parallelism.pipeline")),
        Says::Data => (workload.data > 1).then(|| (workload.data.to_string(), "parallelism.data")),
        Says::Cache => cache(table, entry, workload.cache_precision),
        Says::ValueCache => {
            let own = workload.options.value_cache_precision;
            cache(table, entry, own.unwrap_or(workload.cache_precision))
        }
        Says::Dtype => match loading {
            Loading::Cast(dtype) => entry.dtype_name(dtype).map(|name| (name.to_owned(), "precision")),
            _ => None,
        },
        Says::Quantization => match loading {
            Loading::Quantize(method) => Some((method.to_owned(), "precision")),
            _ => None,
        },
        Says::Written(_, value, field) => value(workload).map(|value| (value, field)),
        Says::BatchedTokens { written: false, .. }
        | Says::CacheTokens
        | Says::DataHere
        | Says::MemoryFraction(_)
        | Says::Copies
        | Says::Choice(_)
        | Says::Refused { .. }
        | Says::Uncounted(_) => None,
    })
}

/// What a flag for a cache is given; nothing for one that is held untold.
fn cache(table: &Table, entry: &Entry, cache: CachePrecision) -> Option<(String, &'static str)> {
    let told = !table.untold_caches.contains(&cache);
    let name = told.then(|| entry.cache_name(cache)).flatten()?;
    Some((name.to_owned(), "context.cachePrecision"))
}

/// Whether a cap on sequences is that of each data-parallel group.
pub(crate) fn caps_each_group(workload: &Workload) -> bool {
    tables::of(workload.engine).cap_of_group.is_some_and(|of_group| of_group(workload))
}

/// The sequences that a cap must let run: of each group, where the engine counts so.
pub(super) fn held(table: &Table, workload: &Workload) -> u64 {
    let options = crate::estimate::Options { sequence_cap: None, ..workload.options.clone() };
    sequences(table, &Workload { options, ..workload.clone() })
}

/// What a flag for the sequences is given: of each group, where the engine counts so; of llama.cpp its slots.
pub(super) fn sequences(table: &Table, workload: &Workload) -> u64 {
    let all = workload.options.unified_slots.unwrap_or_else(|| workload.running());
    match table.cap_of_group {
        Some(of_group) if of_group(workload) => all.div_ceil(workload.data.max(1)),
        _ => all,
    }
}

/// What a flag for the weights is given.
fn model<'a>(place: Place, weights: &Weights<'a>) -> Option<&'a str> {
    match (place, *weights) {
        (Place::Any | Place::Repository, Weights::Repository { repository, .. }) => Some(repository),
        (Place::File, Weights::Repository { file, .. }) => file,
        (Place::Any | Place::Url, Weights::Url(url)) => Some(url),
        _ => None,
    }
}

/// Whether the engine can be asked for a cache.
fn holds(table: &Table, cache: CachePrecision) -> bool {
    table.untold_caches.contains(&cache)
        || table.cache_flag().is_some_and(|flag| flag.cache_name(cache).is_some())
}

fn no_such_cache(table: &Table, engine: Engine, cache: CachePrecision) -> Refusal {
    let names: Vec<&str> = CachePrecision::ALL
        .iter()
        .filter(|cache| holds(table, **cache))
        .map(|cache| cache.as_str())
        .collect();
    let names = match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => names.concat(),
    };
    Refusal::invalid(
        "context.cachePrecision",
        format!("{cache} is not a cache that {engine} can hold"),
        format!("set one of {names}, or another engine"),
    )
}
