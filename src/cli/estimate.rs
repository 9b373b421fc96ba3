//! `loadline estimate`: what a model needs, with no cluster.

use clap::Args;

use crate::api::ModelDeploymentSpec;
use crate::api::v1alpha1::{ContextSpec, EngineSpec, ParallelismSpec, TensorParallel, TrainingSpec};
use crate::estimate::inverse::Room;
use crate::estimate::{
    AttentionKernel, Checkpointing, Estimate, EstimateError, Method, Offload, Optimizer, Sharding, estimate,
};
use crate::model::{ModelShape, catalog};
use crate::plan::{PlanError, workload};
use crate::precision::{CachePrecision, Engine, Precision};
use crate::render::json::{self, FitDocument};
use crate::render::table;
use crate::units::{Margin, shorten};

use super::failure::{ExitStatus, Failure};
use super::gpu::Gpu;
use super::hub::HubArguments;
use super::output::Format;
use super::printer::Printer;
use super::shape::ModelArguments;
use super::values::{MOST_SEQUENCES, MOST_TOKENS, gpus, one_of, sequences, tokens};

#[derive(Debug, Args)]
pub(super) struct EstimateArguments {
    /// The factor by which a GPU must be larger than the estimate, from 1.0 to 10.0
    #[arg(long, value_name = "FACTOR", default_value_t = Margin::DEFAULT, allow_negative_numbers = true)]
    margin: Margin,
    /// Say what of it fits one GPU: its memory in MiB, or a name such as L4. Exit code 3 if it does not fit
    #[arg(long, value_name = "GPU", allow_negative_numbers = true)]
    fit: Option<Gpu>,
    /// Print the arithmetic, term by term
    #[arg(long)]
    explain: bool,
    /// List the built-in catalog and end; `-o wide` says how large each model is published to be, and where
    #[arg(long)]
    list_models: bool,
    /// The format of the output
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    serving: ServingArguments,
    #[command(flatten)]
    training: TrainingArguments,
    #[command(flatten)]
    hub: HubArguments,
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

impl TrainingArguments {
    /// What is given for adapters must not be ignored where there are none.
    fn check(&self) -> Result<(), Failure> {
        if self.training != Some(Method::Full) {
            return Ok(());
        }
        let flag = match (self.lora_rank, self.lora_targets.as_slice()) {
            (Some(rank), _) => format!("--lora-rank {rank}"),
            (None, [first, ..]) => format!("--lora-targets {}", shorten(first)),
            (None, []) => return Ok(()),
        };
        Err(Failure::usage(format!("{flag}: --training full has no LoRA matrices"))
            .hint("leave it out, or write --training lora or qlora"))
    }
}

pub(super) fn run(arguments: &EstimateArguments, printer: Printer) -> anyhow::Result<ExitStatus> {
    if arguments.list_models {
        return list_models(arguments.output, printer);
    }
    arguments.training.check()?;
    let shape = arguments.model.shape(&arguments.hub)?;
    let workload = workload(&spec(arguments), &shape).map_err(explained)?;
    let estimate = estimate(&shape, &workload).map_err(|error| explained(error.into()))?;
    let mut document = json::estimate(&shape, &estimate, arguments.margin);
    document.fit = arguments.fit.as_ref().map(|gpu| fit(gpu, &shape, &estimate, arguments.margin));
    let fits = document.fit.as_ref().is_none_or(|fit| fit.fits);
    let status = if fits { ExitStatus::Fine } else { ExitStatus::DoesNotFit };
    if let Some(text) = arguments.output.document(&document)? {
        printer.data(&text)?;
        return Ok(status);
    }
    let mut text = table::estimate(&document, &estimate, arguments.output.style(printer));
    if arguments.explain {
        text.push('\n');
        text.push_str(&table::explain(&estimate));
    }
    if let Some(fit) = &document.fit {
        text.push('\n');
        text.push_str(&table::fit(fit, document.required_per_gpu));
    }
    printer.data(&text)?;
    for note in &document.notes {
        printer.note(&crate::render::text::printable(note));
    }
    Ok(status)
}

/// More ranks than any node has GPUs.
const MOST_RANKS: u64 = 64;

fn fit(gpu: &Gpu, shape: &ModelShape, estimate: &Estimate, margin: Margin) -> FitDocument {
    let room = Room { per_gpu: gpu.memory, margin };
    let workload = &estimate.workload;
    let serving = workload.training.is_none();
    FitDocument {
        gpu: gpu.name.map(str::to_owned),
        memory: gpu.memory,
        fits: room.fits(shape, workload),
        longest_context: room.longest_context(shape, workload, shape.max_context.unwrap_or(MOST_TOKENS)),
        most_sequences: room.most_sequences(shape, workload, MOST_SEQUENCES),
        fewest_ranks: serving
            .then(|| room.fewest_ranks(shape, workload, MOST_RANKS).ok().flatten())
            .flatten(),
        finest_precision: room.finest_precision(shape, workload),
    }
}

/// The flags as the spec of a custom resource, so that what they leave out means the same in both.
fn spec(arguments: &EstimateArguments) -> ModelDeploymentSpec {
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let serving = &arguments.serving;
    let spec = ModelDeploymentSpec { precision: serving.precision, ..ModelDeploymentSpec::default() };
    let Some(method) = arguments.training.training else {
        return ModelDeploymentSpec {
            context: Some(ContextSpec {
                length: serving.context.map(number),
                sequences: Some(number(serving.sequences)),
                cache_precision: Some(serving.cache_precision),
            }),
            parallelism: Some(ParallelismSpec {
                tensor: Some(TensorParallel::Ranks(number(serving.tensor))),
                pipeline: Some(number(serving.pipeline)),
            }),
            engine: Some(EngineSpec { name: serving.engine, image: None, args: None }),
            ..spec
        };
    };
    let training = &arguments.training;
    let several = |values: &[String]| (!values.is_empty()).then(|| values.to_vec());
    ModelDeploymentSpec {
        training: Some(TrainingSpec {
            method,
            optimizer: training.optimizer,
            micro_batch: Some(number(serving.sequences)),
            sequence_length: serving.context.map(number),
            lora_rank: training.lora_rank.map(number),
            lora_targets: several(&training.lora_targets),
            gradient_checkpointing: training.gradient_checkpointing,
            attention: training.attention,
            sharding: training.sharding,
            gpus: training.gpus.map(number),
            offload: (!training.offload.is_empty()).then(|| training.offload.clone()),
        }),
        ..spec
    }
}

/// An error in the words of the command line: the flag instead of the field.
pub(super) fn explained(error: PlanError) -> Failure {
    let named = |field: &str, problem: &str, remedy: &str| {
        let flag = flag(field).map_or_else(|| field.to_owned(), |flag| format!("--{flag}"));
        Failure::error(format!("{flag}: {problem}")).hint(remedy)
    };
    match error {
        PlanError::Invalid { field, problem, remedy } => named(&field, &problem, &remedy),
        PlanError::NotSupported { field, remedy } => named(&field, "not supported yet", &remedy),
        PlanError::Estimate(EstimateError::Invalid { field, problem, remedy }) => {
            named(field, &problem, &remedy)
        }
        PlanError::Estimate(EstimateError::Overflow(overflow)) => Failure::error(overflow.to_string()),
    }
}

/// The flag that sets a field of the custom resource.
fn flag(field: &str) -> Option<&'static str> {
    Some(match field {
        "model.parameters" => "parameters",
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
    let models: Vec<_> =
        catalog::entries().iter().filter_map(|entry| Some((entry, entry.shape()?))).collect();
    let text = match output.document(&json::models(&models))? {
        Some(text) => text,
        None => table::models(&models, output.style(printer)),
    };
    printer.data(&text)?;
    Ok(ExitStatus::Fine)
}
