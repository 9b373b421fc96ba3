//! From a spec to the workload that is estimated.

use super::check;
use crate::api::ModelDeploymentSpec;
use crate::api::limits::{MOST_RANKS, MOST_SEQUENCES, MOST_TOKENS};
use crate::api::v1alpha1::{TensorParallel, TrainingSpec};
use crate::engine::{self, Said};
use crate::estimate::{AttentionKernel, Checkpointing, Optimizer, Options, Sharding, Training, Workload};
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
    // A cap reserves nothing: what is held is for the spec to say.
    options.sequence_cap = told
        .sequence_cap
        .map(|cap| cap.covers(sequences, "sequences", "context.sequences"))
        .transpose()?
        .filter(|cap| *cap > sequences);
    if let (Some(cap), Some(length)) = (told.cache_tokens, length) {
        cap.covers(length.saturating_mul(sequences), "tokens", "context.length and context.sequences")?;
    }
    let stored = shape
        .and_then(|shape| shape.quantization.as_ref().map(|own| own.precision).or(shape.stored_precision));
    let workload = Workload {
        precision: precision(spec, shape, told.precision)?,
        context: length,
        sequences,
        cache_precision: either("context.cachePrecision", asked_cache, told.cache_precision)?
            .unwrap_or(CachePrecision::Auto),
        tensor: either("parallelism.tensor", tensor, told.tensor)?.unwrap_or(1),
        pipeline: either("parallelism.pipeline", pipeline, told.pipeline)?.unwrap_or(1),
        engine: spec.engine.as_ref().map_or(Engine::Vllm, |engine| engine.name),
        batched_tokens: told.batched_tokens,
        options,
        training: None,
    };
    engine::check(spec, &workload, stored)?;
    Ok(Asked { workload, tensor_auto })
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
    Ok(Workload {
        precision: spec.precision,
        context: Some(number("sequenceLength", training.sequence_length, "tokens", MOST_TOKENS, sequence)?),
        sequences: number("microBatch", training.micro_batch, "sequences", MOST_SEQUENCES, 1)?,
        cache_precision: CachePrecision::Auto,
        tensor: 1,
        pipeline: 1,
        engine: Engine::None,
        batched_tokens: None,
        options: Options::default(),
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
