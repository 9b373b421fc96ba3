//! `loadline estimate`: what a model needs, with no cluster.

use std::path::PathBuf;

use clap::Args;

use crate::api::ModelDeploymentSpec;
use crate::api::v1alpha1::{ContextSpec, EngineSpec, ParallelismSpec, TensorParallel, TrainingSpec};
use crate::estimate::{AttentionKernel, Checkpointing, Loss, Method, Offload, Optimizer, Sharding};
use crate::model::catalog;
use crate::precision::{CachePrecision, Engine, Precision};
use crate::render::json::{self, CardDocument};
use crate::render::table;
use crate::sizing::{Answer, CARDS, Comparison, Gpu, Question};
use crate::units::{Margin, shorten};

use super::failure::{ExitStatus, Failure};
use super::hub::HubArguments;
use super::output::Format;
use super::printer::Printer;
use super::shape::ModelArguments;
use super::training_config::{self, TrainingConfig};
use super::values::{gpus, one_of, sequences, tokens};
use super::words::{incomparable, refused};

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
    #[arg(long, value_name = "PRECISION", value_parser = one_of::<CachePrecision>(), ignore_case = true, default_value = "auto", conflicts_with = "trains")]
    cache_precision: CachePrecision,
    /// GPUs that share each layer [default: 1]
    #[arg(long, value_name = "N", value_parser = gpus, allow_negative_numbers = true, conflicts_with = "trains")]
    tensor: Option<u64>,
    /// Stages that the layers are divided into [default: 1]
    #[arg(long, value_name = "N", value_parser = gpus, allow_negative_numbers = true, conflicts_with = "trains")]
    pipeline: Option<u64>,
    /// Groups of GPUs that each serve a share of the sequences, with vLLM or SGLang [default: 1]
    #[arg(long, value_name = "N", value_parser = gpus, allow_negative_numbers = true, conflicts_with = "trains")]
    data: Option<u64>,
    /// The engine, whose allocator and kernels decide activations and overhead
    #[arg(long, value_name = "ENGINE", value_parser = one_of::<Engine>(), ignore_case = true, default_value = "vllm", conflicts_with = "trains")]
    engine: Engine,
    /// The engine's version: a release such as 0.19.0; of llama.cpp a build such as b10481, or its date such as 2026-11-01
    /// [default: that of the image that is run by default]
    #[arg(long, value_name = "VERSION", conflicts_with = "trains")]
    engine_version: Option<String>,
    /// The engine's own arguments, as its command line has them, such as `-- --enable-lora --max-lora-rank 64`: what changes
    /// memory is counted
    #[arg(
        last = true,
        value_name = "ENGINE-ARGUMENTS",
        allow_hyphen_values = true,
        conflicts_with = "trains"
    )]
    arguments: Vec<String>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Training")]
struct TrainingArguments {
    /// Train instead of serving
    #[arg(long, value_name = "METHOD", value_parser = one_of::<Method>(), ignore_case = true, group = "trains")]
    training: Option<Method>,
    /// Train as this config says: the YAML of axolotl, LLaMA-Factory, torchtune or TRL. Other flags count before it; it names the
    /// model too, where no flag does
    #[arg(long, value_name = "FILE", group = "trains")]
    training_config: Option<PathBuf>,
    /// The optimizer [default: adamw]
    #[arg(long, value_name = "OPTIMIZER", value_parser = one_of::<Optimizer>(), ignore_case = true, requires = "trains")]
    optimizer: Option<Optimizer>,
    /// Rank of the LoRA matrices [default: 16]
    #[arg(long, value_name = "N", value_parser = sequences, allow_negative_numbers = true, requires = "trains")]
    lora_rank: Option<u64>,
    /// Layers that get LoRA matrices: attention, all-linear, or names such as q_proj,v_proj [default: all-linear]
    #[arg(long, value_name = "NAMES", value_delimiter = ',', requires = "trains")]
    lora_targets: Vec<String>,
    /// Whether activations are recomputed [default: full]
    #[arg(long, value_name = "MODE", value_parser = one_of::<Checkpointing>(), ignore_case = true, requires = "trains")]
    gradient_checkpointing: Option<Checkpointing>,
    /// The attention kernel [default: sdpa]
    #[arg(long, value_name = "KERNEL", value_parser = one_of::<AttentionKernel>(), ignore_case = true, requires = "trains")]
    attention: Option<AttentionKernel>,
    /// How state is sharded over GPUs [default: none on one GPU, ddp on more]
    #[arg(long, value_name = "SHARDING", value_parser = one_of::<Sharding>(), ignore_case = true, requires = "trains")]
    sharding: Option<Sharding>,
    /// GPUs that train together [default: 1]
    #[arg(long, value_name = "N", value_parser = gpus, allow_negative_numbers = true, requires = "trains")]
    gpus: Option<u64>,
    /// What is kept in host memory
    #[arg(long, value_name = "WHAT", value_parser = one_of::<Offload>(), ignore_case = true, value_delimiter = ',', requires = "trains")]
    offload: Vec<Offload>,
    /// How the loss is computed: fused is Liger's and cut cross entropy's way [default: plain]
    #[arg(long, value_name = "LOSS", value_parser = one_of::<Loss>(), ignore_case = true, requires = "trains")]
    loss: Option<Loss>,
    /// Samples are packed to one length
    #[arg(long, requires = "trains")]
    packing: bool,
    /// GPUs that share each sequence [default: 1]
    #[arg(long, value_name = "N", value_parser = gpus, allow_negative_numbers = true, requires = "trains")]
    sequence_parallel: Option<u64>,
    /// With qlora: leave what is not quantised as it is, as litgpt, torchtune and Unsloth do; PEFT casts it to 32 bits
    #[arg(long, requires = "trains")]
    no_cast_base: bool,
}

impl TrainingArguments {
    /// What is given for adapters must not be ignored where there are none.
    fn check(&self, method: Option<Method>) -> Result<(), Failure> {
        if method != Some(Method::Full) {
            return Ok(());
        }
        let flag = match (self.lora_rank, self.lora_targets.as_slice()) {
            (Some(rank), _) => format!("--lora-rank {rank}"),
            (None, [first, ..]) => format!("--lora-targets {}", shorten(first)),
            (None, []) => return Ok(()),
        };
        Err(Failure::usage(format!("{flag}: training in full has no LoRA matrices"))
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
    let config = arguments.training.training_config.as_deref().map(training_config::read).transpose()?;
    let method = arguments.training.training.or(config.as_ref().map(|config| config.training.method));
    arguments.training.check(method)?;
    if let Some(comparison) = arguments.compare {
        comparison.check(method, arguments.training.gpus).map_err(incomparable)?;
    }
    let named = config.as_ref().and_then(|config| config.model.as_deref());
    let shape = arguments.model.or(named).shape(&arguments.hub)?;
    let spec = spec(arguments, config.as_ref());
    let question = Question {
        fit: arguments.fit.as_ref(),
        compare: arguments.compare,
        ..Question::new(&shape, &spec, arguments.margin)
    };
    let Answer { estimate, mut document } = question.answer().map_err(refused)?;
    document.notes.extend(config.into_iter().flat_map(|config| config.notes));
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

/// A list, where there is anything in it.
fn several<T: Clone>(values: &[T]) -> Option<Vec<T>> {
    (!values.is_empty()).then(|| values.to_vec())
}

/// The flags as the spec of a custom resource, so that what they leave out means the same in both.
fn spec(arguments: &EstimateArguments, config: Option<&TrainingConfig>) -> ModelDeploymentSpec {
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let serving = &arguments.serving;
    let spec = ModelDeploymentSpec {
        precision: serving.precision.or(config.and_then(|config| config.precision)),
        safety_margin: Some(arguments.margin.to_string()),
        ..ModelDeploymentSpec::default()
    };
    let told = config.map(|config| &config.training);
    let Some(method) = arguments.training.training.or(told.map(|told| told.method)) else {
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
    // What the file says, but for what the flags say.
    let base = told.cloned().unwrap_or_else(|| TrainingSpec::new(method));
    ModelDeploymentSpec {
        training: Some(TrainingSpec {
            method,
            optimizer: training.optimizer.or(base.optimizer),
            micro_batch: serving.sequences.map(number).or(base.micro_batch),
            sequence_length: serving.context.map(number).or(base.sequence_length),
            lora_rank: training.lora_rank.map(number).or(base.lora_rank),
            lora_targets: several(&training.lora_targets).or(base.lora_targets),
            gradient_checkpointing: training.gradient_checkpointing.or(base.gradient_checkpointing),
            attention: training.attention.or(base.attention),
            sharding: training.sharding.or(base.sharding),
            gpus: training.gpus.map(number).or(base.gpus),
            offload: several(&training.offload).or(base.offload),
            loss: training.loss.or(base.loss),
            packing: training.packing.then_some(true).or(base.packing),
            sequence_parallel: training.sequence_parallel.map(number).or(base.sequence_parallel),
            cast_base: training.no_cast_base.then_some(false).or(base.cast_base),
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
