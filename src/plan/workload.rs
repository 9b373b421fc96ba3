//! From a spec to the workload that is estimated.

use super::PlanError;
use super::check::whole;
use crate::api::ModelDeploymentSpec;
use crate::api::v1alpha1::{EngineSpec, TensorParallel, TrainingSpec};
use crate::estimate::{AttentionKernel, Checkpointing, Optimizer, Sharding, Training, Workload};
use crate::model::{ModelShape, ShapeSource};
use crate::precision::{CachePrecision, Engine};
use crate::units::shorten;

/// Tokens that are assumed where the model does not say how many it was made for.
pub(super) const ASSUMED_CONTEXT: u64 = 8192;
/// Tokens per training sequence where nothing is said.
const TRAINING_SEQUENCE: u64 = 2048;
/// Rank of the LoRA matrices where nothing is said: PEFT's examples use 16.
const LORA_RANK: u64 = 16;

const MOST_TOKENS: u64 = 100_000_000;
const MOST_SEQUENCES: u64 = 65_536;
const MOST_RANKS: u64 = 1024;

/// A workload, but for the tensor parallelism where that is to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) workload: Workload,
    /// `parallelism.tensor` is `auto`.
    pub(super) tensor_auto: bool,
}

/// The workload of a spec; its model's shape, where it is known, fills in the context.
pub(super) fn read(spec: &ModelDeploymentSpec, shape: Option<&ModelShape>) -> Result<Asked, PlanError> {
    if let Some(training) = &spec.training {
        return Ok(Asked { workload: training_workload(spec, training, shape)?, tensor_auto: false });
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
        None => (1, false),
        Some(TensorParallel::Ranks(ranks)) => {
            (whole("parallelism.tensor", *ranks, "ranks", MOST_RANKS)?, false)
        }
        Some(TensorParallel::Word(word)) if word == "auto" => (1, true),
        Some(TensorParallel::Word(word)) => {
            return Err(PlanError::invalid(
                "parallelism.tensor",
                format!("\"{}\" is not a number of ranks", shorten(word)),
                "write a whole number from 1 to 1024, or auto",
            ));
        }
    };
    let pipeline = parallelism
        .pipeline
        .map(|stages| whole("parallelism.pipeline", stages, "stages", MOST_RANKS))
        .transpose()?;
    let workload = Workload {
        precision: spec.precision,
        context: length.or_else(|| assumed_context(shape)),
        sequences: sequences.unwrap_or(1),
        cache_precision: context.cache_precision.unwrap_or(CachePrecision::Auto),
        tensor,
        pipeline: pipeline.unwrap_or(1),
        engine: spec.engine.as_ref().map_or(Engine::Vllm, |engine| engine.name),
        batched_tokens: spec.engine.as_ref().map(batched_tokens).transpose()?.flatten(),
        training: None,
    };
    Ok(Asked { workload, tensor_auto })
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
) -> Result<Workload, PlanError> {
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

/// Tokens of one forward pass, where the engine's own arguments say.
fn batched_tokens(engine: &EngineSpec) -> Result<Option<u64>, PlanError> {
    let flags: &[&str] = match engine.name {
        Engine::Vllm => &["--max-num-batched-tokens", "--max_num_batched_tokens"],
        Engine::Sglang => &["--chunked-prefill-size"],
        Engine::LlamaCpp => &["-ub", "--ubatch-size"],
        Engine::Tgi => &["--max-batch-prefill-tokens"],
        Engine::Transformers | Engine::None => &[],
    };
    let args = engine.args.as_deref().unwrap_or_default();
    let mut tokens = None;
    for (index, arg) in args.iter().enumerate() {
        let (flag, inline) =
            arg.split_once('=').map_or((arg.as_str(), None), |(flag, value)| (flag, Some(value)));
        if !flags.contains(&flag) {
            continue;
        }
        let value = inline.or_else(|| args.get(index + 1).map(String::as_str)).unwrap_or_default();
        // The last one counts, as it does for the engines. SGLang's -1 is "no chunks": its default is as good a guess.
        tokens = match value.parse::<i64>() {
            Ok(-1) if engine.name == Engine::Sglang => None,
            Ok(count) => Some(whole(&format!("engine.args[{index}]"), count, "tokens", MOST_TOKENS)?),
            Err(_) => {
                return Err(PlanError::invalid(
                    format!("engine.args[{index}]"),
                    format!("{flag} has \"{}\", which is not a number of tokens", shorten(value)),
                    "write a whole number such as 8192",
                ));
            }
        };
    }
    Ok(tokens)
}
