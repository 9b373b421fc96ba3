//! `loadline estimate`: what a model needs, with no cluster.

use clap::Args;

use crate::estimate::{
    AttentionKernel, Checkpointing, EstimateError, Method, Offload, Optimizer, Sharding, Training, Workload,
    estimate,
};
use crate::model::catalog;
use crate::precision::{CachePrecision, Engine, Precision};
use crate::render::{json, table};
use crate::units::Margin;

use super::failure::{ExitStatus, Failure};
use super::output::Format;
use super::printer::Printer;
use super::shape::ModelArguments;
use super::values::{gpus, one_of, sequences, tokens};

#[derive(Debug, Args)]
pub(super) struct EstimateArguments {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    serving: ServingArguments,
    #[command(flatten)]
    training: TrainingArguments,
    /// The factor by which a GPU must be larger than the estimate, from 1.0 to 10.0
    #[arg(long, value_name = "FACTOR", default_value_t = Margin::DEFAULT, allow_negative_numbers = true)]
    margin: Margin,
    /// Print the arithmetic, term by term
    #[arg(long)]
    explain: bool,
    /// List the built-in catalog and end
    #[arg(long)]
    list_models: bool,
    /// The format of the output
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "How it is run")]
struct ServingArguments {
    /// How the weights are held, such as bf16, int4 or q4_k_m [default: the model's own]
    #[arg(long, value_name = "PRECISION", value_parser = one_of::<Precision>(), ignore_case = true, hide_possible_values = true)]
    precision: Option<Precision>,
    /// Tokens per sequence [default: the model's own maximum, 8192 where it is not known]
    #[arg(long, value_name = "TOKENS", value_parser = tokens, allow_negative_numbers = true)]
    context: Option<u64>,
    /// Sequences held at once; in training, the micro batch
    #[arg(long, value_name = "N", value_parser = sequences, default_value = "1", allow_negative_numbers = true)]
    sequences: u64,
    /// How the KV cache is held
    #[arg(long, value_name = "PRECISION", value_parser = one_of::<CachePrecision>(), ignore_case = true, default_value = "auto", conflicts_with = "training")]
    cache_precision: CachePrecision,
    /// GPUs that share each layer
    #[arg(long, value_name = "N", value_parser = gpus, default_value = "1", allow_negative_numbers = true, conflicts_with = "training")]
    tensor: u64,
    /// Stages that the layers are divided into
    #[arg(long, value_name = "N", value_parser = gpus, default_value = "1", allow_negative_numbers = true, conflicts_with = "training")]
    pipeline: u64,
    /// The engine, whose allocator and kernels decide activations and overhead
    #[arg(long, value_name = "ENGINE", value_parser = one_of::<Engine>(), ignore_case = true, default_value = "vllm", conflicts_with = "training")]
    engine: Engine,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Training")]
struct TrainingArguments {
    /// Train instead of serving
    #[arg(long, value_name = "METHOD", value_parser = one_of::<Method>(), ignore_case = true)]
    training: Option<Method>,
    /// The optimizer [default: adamw]
    #[arg(long, value_name = "OPTIMIZER", value_parser = one_of::<Optimizer>(), ignore_case = true, requires = "training")]
    optimizer: Option<Optimizer>,
    /// Rank of the LoRA matrices [default: 16]
    #[arg(long, value_name = "N", value_parser = sequences, allow_negative_numbers = true, requires = "training")]
    lora_rank: Option<u64>,
    /// Layers that get LoRA matrices: attention, all-linear, or names such as q_proj,v_proj [default: all-linear]
    #[arg(long, value_name = "NAMES", value_delimiter = ',', requires = "training")]
    lora_targets: Vec<String>,
    /// Whether activations are recomputed [default: full]
    #[arg(long, value_name = "MODE", value_parser = one_of::<Checkpointing>(), ignore_case = true, requires = "training")]
    gradient_checkpointing: Option<Checkpointing>,
    /// The attention kernel [default: sdpa]
    #[arg(long, value_name = "KERNEL", value_parser = one_of::<AttentionKernel>(), ignore_case = true, requires = "training")]
    attention: Option<AttentionKernel>,
    /// How state is sharded over GPUs [default: none on one GPU, ddp on more]
    #[arg(long, value_name = "SHARDING", value_parser = one_of::<Sharding>(), ignore_case = true, requires = "training")]
    sharding: Option<Sharding>,
    /// GPUs that train together [default: 1]
    #[arg(long, value_name = "N", value_parser = gpus, allow_negative_numbers = true, requires = "training")]
    gpus: Option<u64>,
    /// What is kept in host memory
    #[arg(long, value_name = "WHAT", value_parser = one_of::<Offload>(), ignore_case = true, value_delimiter = ',', requires = "training")]
    offload: Vec<Offload>,
}

pub(super) fn run(arguments: &EstimateArguments, printer: Printer) -> anyhow::Result<ExitStatus> {
    if arguments.list_models {
        return list_models(arguments.output, printer);
    }
    let shape = arguments.model.shape()?;
    let workload = workload(arguments);
    let estimate = estimate(&shape, &workload).map_err(explained)?;
    let document = json::estimate(&shape, &estimate, arguments.margin);
    if let Some(text) = arguments.output.document(&document)? {
        printer.data(&text)?;
        return Ok(ExitStatus::Fine);
    }
    let mut text = table::estimate(&document, &estimate, arguments.output.style(printer));
    if arguments.explain {
        text.push('\n');
        text.push_str(&table::explain(&estimate));
    }
    printer.data(&text)?;
    for note in &document.notes {
        printer.note(&crate::render::text::printable(note));
    }
    Ok(ExitStatus::Fine)
}

fn workload(arguments: &EstimateArguments) -> Workload {
    let serving = &arguments.serving;
    Workload {
        precision: serving.precision,
        context: serving.context,
        sequences: serving.sequences,
        cache_precision: serving.cache_precision,
        tensor: serving.tensor,
        pipeline: serving.pipeline,
        engine: serving.engine,
        batched_tokens: None,
        training: arguments.training.training.map(|method| training(method, &arguments.training)),
    }
}

/// The defaults are those of the custom resource.
fn training(method: Method, arguments: &TrainingArguments) -> Training {
    let gpus = arguments.gpus.unwrap_or(1);
    let targets = &arguments.lora_targets;
    Training {
        method,
        optimizer: arguments.optimizer.unwrap_or(Optimizer::Adamw),
        lora_rank: arguments.lora_rank.unwrap_or(16),
        lora_targets: if targets.is_empty() { vec!["all-linear".to_owned()] } else { targets.clone() },
        gradient_checkpointing: arguments.gradient_checkpointing.unwrap_or(Checkpointing::Full),
        attention: arguments.attention.unwrap_or(AttentionKernel::Sdpa),
        sharding: arguments.sharding.unwrap_or(if gpus > 1 { Sharding::Ddp } else { Sharding::None }),
        gpus,
        offload: arguments.offload.clone(),
    }
}

/// An error of the estimator in the words of the command line: the flag instead of the field.
fn explained(error: EstimateError) -> Failure {
    match error {
        EstimateError::Invalid { field, problem, remedy } => {
            let flag = flag(field).map_or_else(|| field.to_owned(), |flag| format!("--{flag}"));
            Failure::error(format!("{flag}: {problem}")).hint(remedy)
        }
        EstimateError::Overflow(overflow) => Failure::error(overflow.to_string()),
    }
}

/// The flag that sets a field of the custom resource.
fn flag(field: &str) -> Option<&'static str> {
    Some(match field {
        "precision" => "precision",
        "context.length" | "training.sequenceLength" => "context",
        "context.sequences" | "training.microBatch" => "sequences",
        "context.cachePrecision" => "cache-precision",
        "parallelism.tensor" => "tensor",
        "parallelism.pipeline" => "pipeline",
        "engine" | "engine.name" => "engine",
        "training" | "training.method" => "training",
        "training.optimizer" => "optimizer",
        "training.loraRank" => "lora-rank",
        "training.loraTargets" => "lora-targets",
        "training.gradientCheckpointing" => "gradient-checkpointing",
        "training.attention" => "attention",
        "training.sharding" => "sharding",
        "training.gpus" => "gpus",
        "training.offload" => "offload",
        _ => return None,
    })
}

fn list_models(output: Format, printer: Printer) -> anyhow::Result<ExitStatus> {
    let shapes: Vec<_> =
        catalog::names().into_iter().filter_map(|name| Some((name, catalog::shape(name)?))).collect();
    let text = match output.document(&json::models(&shapes))? {
        Some(text) => text,
        None => table::models(&shapes),
    };
    printer.data(&text)?;
    Ok(ExitStatus::Fine)
}
