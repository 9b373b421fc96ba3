//! From a spec to the workload that is estimated.

use super::check;
use crate::api::ModelDeploymentSpec;
use crate::api::limits::{MOST_RANKS, MOST_SEQUENCES, MOST_TOKENS};
use crate::api::v1alpha1::{TensorParallel, TrainingSpec};
use crate::engine::{self, Said};
use crate::estimate::{
    AttentionKernel, Checkpointing, Loss, Method, Optimizer, Options, Sharding, Techniques, Training,
    Workload,
};
use crate::model::{ModelShape, ShapeSource};
use crate::precision::{CachePrecision, Engine, Precision};
use crate::refusal::{Refusal, whole};
use crate::units::shorten;

/// Tokens that are assumed where the model does not say how many it was made for.
pub(super) const ASSUMED_CONTEXT: u64 = 8192;
/// Tokens per training sequence where nothing is said.
const TRAINING_SEQUENCE: u64 = 2048;
/// Rank of the LoRA matrices where nothing is said: PEFT's examples use 16.
const LORA_RANK: u64 = 16;

/// A workload, but for the tensor parallelism where that is to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) workload: Workload,
    /// `parallelism.tensor` is `auto`.
    pub(super) tensor_auto: bool,
}

/// The workload of a spec; its model's shape, where it is known, fills in the context.
pub(super) fn read(spec: &ModelDeploymentSpec, shape: Option<&ModelShape>) -> Result<Asked, Refusal> {
    if let Some(training) = &spec.training {
        return Ok(Asked { workload: training_workload(spec, training, shape)?, tensor_auto: false });
    }
    let told = spec.engine.as_ref().map(engine::read).transpose()?.unwrap_or_default();
    if let Some(engine) = &spec.engine {
        let arguments = engine.args.as_deref().unwrap_or_default();
        engine::check_fraction(engine.name, arguments, check::margin(spec)?, None)?;
    }
    let context = spec.context.clone().unwrap_or_default();
    let length =
        context.length.map(|length| whole("context.length", length, "tokens", MOST_TOKENS)).transpose()?;
    let sequences = context
        .sequences
        .map(|count| whole("context.sequences", count, "sequences", MOST_SEQUENCES))
        .transpose()?;
    let parallelism = spec.parallelism.clone().unwrap_or_default();
    let (tensor, tensor_auto) = match &parallelism.tensor {
        None => (None, false),
        Some(TensorParallel::Ranks(ranks)) => {
            (Some(whole("parallelism.tensor", *ranks, "ranks", MOST_RANKS)?), false)
        }
        Some(TensorParallel::Word(word)) if word == "auto" => (Some(1), true),
        Some(TensorParallel::Word(word)) => match word.parse::<i64>() {
            // A number in quotes is one to the definition too.
            Ok(ranks) if ranks.to_string() == *word => {
                (Some(whole("parallelism.tensor", ranks, "ranks", MOST_RANKS)?), false)
            }
            _ => {
                return Err(Refusal::invalid(
                    "parallelism.tensor",
                    format!("\"{}\" is not a number of ranks", shorten(word)),
                    format!("write a whole number from 1 to {MOST_RANKS}, or auto"),
                ));
            }
        },
    };
    let pipeline = parallelism
        .pipeline
        .map(|stages| whole("parallelism.pipeline", stages, "stages", MOST_RANKS))
        .transpose()?;
    let data =
        parallelism.data.map(|groups| whole("parallelism.data", groups, "groups", MOST_RANKS)).transpose()?;
    if let Some(told) = told.tensor.as_ref().filter(|_| tensor_auto) {
        return Err(Refusal::invalid(
            "engine.args",
            format!(
                "{} contradicts parallelism.tensor: auto, which picks the smallest that fits",
                told.words()
            ),
            "remove one of the two",
        ));
    }
    // `auto` leaves it to the engine, and so to its arguments.
    let asked_cache = context.cache_precision.filter(|cache| *cache != CachePrecision::Auto);
    let length = either("context.length", length, told.context)?.or_else(|| assumed_context(shape));
    let sequences = either("context.sequences", sequences, told.sequences)?.unwrap_or(1);
    let mut options = told.options;
    options.engine_version = spec.engine.as_ref().map(engine::version).transpose()?.flatten();
    if options.unified_slots.is_some() && sequences > 1 {
        return Err(Refusal::invalid(
            "context.sequences",
            format!("{sequences} with --kv-unified, whose slots share one cache of context.length"),
            "write 1, and say how many slots share it with --parallel; or remove --kv-unified",
        ));
    }
    if let (Some(cap), Some(length)) = (told.cache_tokens, length) {
        cap.covers(length.saturating_mul(sequences), "tokens", "context.length and context.sequences")?;
    }
    let stored = shape
        .and_then(|shape| shape.quantization.as_ref().map(|own| own.precision).or(shape.stored_precision));
    let cache_precision = either("context.cachePrecision", asked_cache, told.cache_precision.clone())?;
    options.value_cache_precision =
        values(spec, asked_cache, told.cache_precision.as_ref(), told.value_cache)?;
    let mut workload = Workload {
        precision: precision(spec, shape, told.precision)?,
        context: length,
        sequences,
        cache_precision: cache_precision.unwrap_or(CachePrecision::Auto),
        tensor: either("parallelism.tensor", tensor, told.tensor)?.unwrap_or(1),
        pipeline: either("parallelism.pipeline", pipeline, told.pipeline)?.unwrap_or(1),
        data: either("parallelism.data", data, told.data)?.unwrap_or(1),
        engine: spec.engine.as_ref().map_or(Engine::Vllm, |engine| engine.name),
        batched_tokens: told.batched_tokens,
        options,
        training: None,
    };
    // A cap reserves nothing: what is held is for the spec to say. It may be that of each group.
    if let Some(cap) = told.sequence_cap {
        let groups = if engine::caps_each_group(&workload) { workload.data } else { 1 };
        let fields =
            if groups > 1 { "context.sequences, among parallelism.data groups" } else { "context.sequences" };
        let all = cap.covers(sequences.div_ceil(groups), "sequences", fields)?.saturating_mul(groups);
        workload.options.sequence_cap = Some(all).filter(|all| *all > sequences);
    }
    engine::check(spec, &workload, stored)?;
    Ok(Asked { workload, tensor_auto })
}

/// How llama.cpp holds values, where that is another type than the keys': of what the arguments leave out it takes f16.
fn values(
    spec: &ModelDeploymentSpec,
    asked: Option<CachePrecision>,
    keys: Option<&Said<CachePrecision>>,
    values: Option<Said<CachePrecision>>,
) -> Result<Option<CachePrecision>, Refusal> {
    let own = keys.map_or(CachePrecision::Fp16, |keys| keys.value);
    match (asked, values) {
        // The spec's word is for both.
        (Some(_), values) => either("context.cachePrecision", asked, values).map(|_| None),
        (None, Some(values)) => Ok(Some(values.value).filter(|values| *values != own)),
        (None, None) => {
            let is_apart = spec.engine.as_ref().is_some_and(|engine| engine.name == Engine::LlamaCpp);
            Ok((is_apart && own != CachePrecision::Fp16).then_some(CachePrecision::Fp16))
        }
    }
}

/// The precision of the weights: the spec's, else what the engine is told to make of weights that are not quantised yet. Of a
/// checkpoint that is, and of one that nobody has read yet, the arguments say no more than it says itself.
fn precision(
    spec: &ModelDeploymentSpec,
    shape: Option<&ModelShape>,
    told: Option<Said<Precision>>,
) -> Result<Option<Precision>, Refusal> {
    let Some(told) = told.filter(|_| shape.is_some_and(|shape| shape.quantization.is_none())) else {
        return Ok(spec.precision);
    };
    match spec.precision {
        // Formats that need a checkpoint are computed in a 16-bit type.
        Some(asked) if told.value.is_wide() && !asked.is_wide() => Ok(Some(asked)),
        Some(asked) => told.agree("precision", Some(asked)).map(Some),
        None => Ok(Some(told.value)),
    }
}

/// What the spec says, else what the engine's arguments say; both may only say the same.
fn either<T: PartialEq + std::fmt::Display>(
    field: &str,
    spec: Option<T>,
    told: Option<Said<T>>,
) -> Result<Option<T>, Refusal> {
    match told {
        Some(told) => told.agree(field, spec).map(Some),
        None => Ok(spec),
    }
}

/// The context where the spec names none: the model's own, which is left to the estimate, but of a size alone nobody
/// knows it.
fn assumed_context(shape: Option<&ModelShape>) -> Option<u64> {
    shape
        .filter(|shape| shape.source == ShapeSource::Parameters || shape.max_context.is_none())
        .map(|_| ASSUMED_CONTEXT)
}

fn training_workload(
    spec: &ModelDeploymentSpec,
    training: &TrainingSpec,
    shape: Option<&ModelShape>,
) -> Result<Workload, Refusal> {
    let number = |field: &str, value: Option<i64>, what: &str, largest: u64, default: u64| {
        value.map_or(Ok(default), |value| whole(&format!("training.{field}"), value, what, largest))
    };
    let longest = shape.and_then(|shape| shape.max_context).filter(|longest| *longest > 0);
    let sequence = longest.map_or(TRAINING_SEQUENCE, |longest| longest.min(TRAINING_SEQUENCE));
    let gpus = number("gpus", training.gpus, "GPUs", MOST_RANKS, 1)?;
    let shared = training
        .sequence_parallel
        .map(|gpus| whole("training.sequenceParallel", gpus, "GPUs", MOST_RANKS))
        .transpose()?;
    if training.cast_base.is_some() && training.method != Method::Qlora {
        return Err(Refusal::invalid(
            "training.castBase",
            format!("method {} has no quantised base", training.method),
            "leave it out, or set method: qlora",
        ));
    }
    let techniques = Techniques {
        loss: training.loss.filter(|loss| *loss != Loss::Plain),
        packed: training.packing.unwrap_or(false),
        sequence_parallel: shared.filter(|gpus| *gpus > 1),
        unprepared: training.cast_base == Some(false),
    };
    Ok(Workload {
        precision: spec.precision,
        context: Some(number("sequenceLength", training.sequence_length, "tokens", MOST_TOKENS, sequence)?),
        sequences: number("microBatch", training.micro_batch, "sequences", MOST_SEQUENCES, 1)?,
        cache_precision: CachePrecision::Auto,
        tensor: 1,
        pipeline: 1,
        data: 1,
        engine: Engine::None,
        batched_tokens: None,
        options: Options { training: techniques, ..Options::default() },
        training: Some(Training {
            method: training.method,
            optimizer: training.optimizer.unwrap_or(Optimizer::Adamw),
            lora_rank: number("loraRank", training.lora_rank, "dimensions", MOST_SEQUENCES, LORA_RANK)?,
            lora_targets: training.lora_targets.clone().unwrap_or_else(|| vec!["all-linear".to_owned()]),
            gradient_checkpointing: training.gradient_checkpointing.unwrap_or(Checkpointing::Full),
            attention: training.attention.unwrap_or(AttentionKernel::Sdpa),
            sharding: training.sharding.unwrap_or(if gpus > 1 { Sharding::Ddp } else { Sharding::None }),
            gpus,
            offload: training.offload.clone().unwrap_or_default(),
        }),
    })
}
