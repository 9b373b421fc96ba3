//! `loadline estimate`: what a model needs, with no cluster.

use clap::Args;

use crate::api::ModelDeploymentSpec;
use crate::api::v1alpha1::{ContextSpec, EngineSpec, ParallelismSpec, TensorParallel, TrainingSpec};
use crate::engine;
use crate::estimate::{
    AttentionKernel, Checkpointing, Loss, Method, Offload, Optimizer, Sharding, Workload, estimate,
};
use crate::model::catalog;
use crate::plan::{judge, workload};
use crate::precision::{CachePrecision, Engine, Precision};
use crate::render::json::{self, CardDocument};
use crate::render::{hints as words, table};
use crate::units::{Margin, shorten};

use super::compare::Comparison;
use super::failure::{ExitStatus, Failure};
use super::fit::{self, Sizing};
use super::gpu::{CARDS, Gpu};
use super::hub::HubArguments;
use super::output::Format;
use super::printer::Printer;
use super::shape::ModelArguments;
use super::values::{gpus, one_of, sequences, tokens};
use super::words::explained;

#[derive(Debug, Args)]
pub(super) struct EstimateArguments {
    /// The factor by which a GPU must be larger than the estimate, from 1.0 to 10.0
    #[arg(long, value_name = "FACTOR", default_value_t = Margin::DEFAULT, allow_negative_numbers = true)]
    margin: Margin,
    /// Say whether it fits a GPU, and what of it does: a name such as L4 (see --list-gpus), or its memory in MiB. Exit code 3 if
    /// it does not fit
    #[arg(long, value_name = "GPU", allow_negative_numbers = true)]
    fit: Option<Gpu>,
    /// Show the model side by side at every usual value of one thing
    #[arg(long, value_name = "WHAT", value_enum, ignore_case = true)]
    compare: Option<Comparison>,
    /// Print the arithmetic, component by component, and what each kind of layer keeps
    #[arg(long)]
    explain: bool,
    /// List the built-in catalog and end; `-o wide` says how large each model is published to be, and where
    #[arg(long)]
    list_models: bool,
    /// List the GPUs that have a name here, with their memory, and end
    #[arg(long, conflicts_with = "list_models")]
    list_gpus: bool,
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
    /// Sequences held at once; in training, the micro batch [default: 1]
    #[arg(long, value_name = "N", value_parser = sequences, allow_negative_numbers = true)]
    sequences: Option<u64>,
    /// How the KV cache is held
    #[arg(long, value_name = "PRECISION", value_parser = one_of::<CachePrecision>(), ignore_case = true, default_value = "auto", conflicts_with = "training")]
    cache_precision: CachePrecision,
    /// GPUs that share each layer [default: 1]
    #[arg(long, value_name = "N", value_parser = gpus, allow_negative_numbers = true, conflicts_with = "training")]
    tensor: Option<u64>,
    /// Stages that the layers are divided into [default: 1]
    #[arg(long, value_name = "N", value_parser = gpus, allow_negative_numbers = true, conflicts_with = "training")]
    pipeline: Option<u64>,
    /// Groups of GPUs that each serve a share of the sequences, with vLLM or SGLang [default: 1]
    #[arg(long, value_name = "N", value_parser = gpus, allow_negative_numbers = true, conflicts_with = "training")]
    data: Option<u64>,
    /// The engine, whose allocator and kernels decide activations and overhead
    #[arg(long, value_name = "ENGINE", value_parser = one_of::<Engine>(), ignore_case = true, default_value = "vllm", conflicts_with = "training")]
    engine: Engine,
    /// The engine's version: a release such as 0.19.0; of llama.cpp a build such as b10481, or its date such as 2026-11-01
    /// [default: that of the image that is run by default]
    #[arg(long, value_name = "VERSION", conflicts_with = "training")]
    engine_version: Option<String>,
    /// The engine's own arguments, as its command line has them, such as `-- --enable-lora --max-lora-rank 64`: what changes
    /// memory is counted
    #[arg(
        last = true,
        value_name = "ENGINE-ARGUMENTS",
        allow_hyphen_values = true,
        conflicts_with = "training"
    )]
    arguments: Vec<String>,
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
    /// How the loss is computed: fused is Liger's and cut cross entropy's way [default: plain]
    #[arg(long, value_name = "LOSS", value_parser = one_of::<Loss>(), ignore_case = true, requires = "training")]
    loss: Option<Loss>,
    /// Samples are packed to one length
    #[arg(long, requires = "training")]
    packing: bool,
    /// GPUs that share each sequence [default: 1]
    #[arg(long, value_name = "N", value_parser = gpus, allow_negative_numbers = true, requires = "training")]
    sequence_parallel: Option<u64>,
    /// With qlora: leave what is not quantised as it is, as litgpt, torchtune and Unsloth do; PEFT casts it to 32 bits
    #[arg(long, requires = "training")]
    no_cast_base: bool,
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
    if arguments.list_gpus {
        return list_gpus(arguments.output, printer);
    }
    arguments.training.check()?;
    if let Some(comparison) = arguments.compare {
        comparison.check(arguments.training.training, arguments.training.gpus)?;
    }
    let shape = arguments.model.shape(&arguments.hub)?;
    let spec = spec(arguments);
    let workload = workload(&spec, &shape).map_err(explained)?;
    let estimate = estimate(&shape, &workload).map_err(|error| explained(error.into()))?;
    judge(&spec, &estimate, arguments.margin).map_err(explained)?;
    let sizing = Sizing { shape: &shape, asked: &workload, estimate: &estimate, margin: arguments.margin };
    let mut document = json::estimate(&shape, &estimate, arguments.margin);
    document.cards = Some(fit::cards(&sizing));
    document.fit = arguments.fit.as_ref().map(|gpu| fit::fit(gpu, &sizing));
    document.comparison =
        arguments.compare.map(|comparison| comparison.rows(&sizing, arguments.fit.as_ref()));
    document.notes.extend(hints(&sizing));
    let uncounted = engine::uncounted(arguments.serving.engine, &arguments.serving.arguments);
    if !uncounted.is_empty() {
        document.notes.push(format!(
            "Not counted, as nothing is known of it that changes memory: {}.",
            uncounted.join(", ")
        ));
    }
    document.notes.extend(engine::remarks(arguments.serving.engine, &arguments.serving.arguments));
    let fits = document.fit.as_ref().is_none_or(|fit| fit.fits);
    let status = if fits { ExitStatus::Fine } else { ExitStatus::DoesNotFit };
    if let Some(text) = arguments.output.document(&document)? {
        printer.data(&text)?;
        return Ok(status);
    }
    let style = arguments.output.style(printer);
    let mut text = table::estimate(&document, &estimate, style);
    if arguments.explain {
        text.push('\n');
        text.push_str(&table::explain(&shape, &estimate, style));
    }
    if let Some(fit) = &document.fit {
        text.push('\n');
        text.push_str(&table::fit(fit, &document));
    }
    printer.data(&text)?;
    for note in &document.notes {
        printer.note(&crate::render::text::printable(note));
    }
    Ok(status)
}

/// What a newcomer should know of what was left out.
fn hints(sizing: &Sizing<'_>) -> Vec<String> {
    let mut hints = Vec::new();
    let parameters = sizing.shape.parameters;
    if parameters < SMALLEST_MODEL && sizing.shape.tensors.is_empty() {
        hints.push(words::so_few_parameters(parameters));
    }
    let estimate = sizing.estimate;
    let method = sizing.asked.training.as_ref().map(|training| training.method);
    if let (Some(Method::Qlora), Some(asked), Some(held)) =
        (method, sizing.asked.precision, estimate.workload.precision)
        && asked.is_wide()
    {
        hints.push(words::quantised_base(asked, held));
    }
    let dominates = estimate.per_gpu.kv_cache.0 >= estimate.total_per_gpu.0 / 4;
    if sizing.asked.context.is_none()
        && let Some(longest) = estimate.workload.context.filter(|longest| *longest > USUAL_CONTEXT)
        && dominates
    {
        let usual = Workload { context: Some(USUAL_CONTEXT), ..sizing.asked.clone() };
        let required = crate::estimate::estimate(sizing.shape, &usual)
            .ok()
            .and_then(|usual| sizing.margin.apply(usual.total_per_gpu).ok());
        hints.extend(required.map(|required| words::longest_context(longest, USUAL_CONTEXT, required)));
    }
    hints
}

/// A model of fewer parameters is none that is served: a size of which the unit was forgotten.
const SMALLEST_MODEL: u64 = 100_000;
/// A context that most requests keep to.
const USUAL_CONTEXT: u64 = 8192;

/// The flags as the spec of a custom resource, so that what they leave out means the same in both.
fn spec(arguments: &EstimateArguments) -> ModelDeploymentSpec {
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let serving = &arguments.serving;
    let spec = ModelDeploymentSpec {
        precision: serving.precision,
        safety_margin: Some(arguments.margin.to_string()),
        ..ModelDeploymentSpec::default()
    };
    let Some(method) = arguments.training.training else {
        return ModelDeploymentSpec {
            context: Some(ContextSpec {
                length: serving.context.map(number),
                sequences: serving.sequences.map(number),
                cache_precision: Some(serving.cache_precision),
            }),
            parallelism: Some(ParallelismSpec {
                tensor: serving.tensor.map(|ranks| TensorParallel::Ranks(number(ranks))),
                pipeline: serving.pipeline.map(number),
                data: serving.data.map(number),
            }),
            engine: Some(EngineSpec {
                name: serving.engine,
                image: None,
                version: serving.engine_version.clone(),
                args: (!serving.arguments.is_empty()).then(|| serving.arguments.clone()),
            }),
            ..spec
        };
    };
    let training = &arguments.training;
    let several = |values: &[String]| (!values.is_empty()).then(|| values.to_vec());
    ModelDeploymentSpec {
        training: Some(TrainingSpec {
            method,
            optimizer: training.optimizer,
            micro_batch: serving.sequences.map(number),
            sequence_length: serving.context.map(number),
            lora_rank: training.lora_rank.map(number),
            lora_targets: several(&training.lora_targets),
            gradient_checkpointing: training.gradient_checkpointing,
            attention: training.attention,
            sharding: training.sharding,
            gpus: training.gpus.map(number),
            offload: (!training.offload.is_empty()).then(|| training.offload.clone()),
            loss: training.loss,
            packing: training.packing.then_some(true),
            sequence_parallel: training.sequence_parallel.map(number),
            cast_base: training.no_cast_base.then_some(false),
        }),
        ..spec
    }
}

fn list_gpus(output: Format, printer: Printer) -> anyhow::Result<ExitStatus> {
    let cards: Vec<CardDocument> =
        CARDS.iter().map(|card| CardDocument { name: card.name, memory: card.memory() }).collect();
    let text = match output.document(&cards)? {
        Some(text) => text,
        None => table::cards(&cards),
    };
    printer.data(&text)?;
    Ok(ExitStatus::Fine)
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
