//! The same model at every usual value of one thing, side by side.

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::estimate::inverse::Room;
use crate::estimate::{Estimate, EstimateError, Method, Optimizer, Sharding, Training, Workload, estimate};
use crate::model::ModelShape;
use crate::precision::{Engine, Precision};
use crate::render::json::{ComparisonDocument, FittedCardDocument, LeftOutDocument, VariantDocument};
use crate::units::Margin;

use super::fit::{MOST_OF_A_NODE, Sizing, smallest};
use super::gpu::{Gpu, ladder};

/// What cannot be compared of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub(crate) struct Incomparable {
    /// What was to differ.
    pub(crate) by: &'static str,
    /// Why it cannot.
    pub(crate) problem: &'static str,
    /// What to write instead.
    pub(crate) remedy: &'static str,
}

/// What differs from row to row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Comparison {
    /// Every usual precision; with --engine llama-cpp those of GGUF files
    Precision,
    /// Contexts up to the model's longest
    Context,
    /// Numbers of GPUs that share each layer
    Tensor,
    /// The common GPUs: whether it fits, how many are needed, the longest context
    Gpu,
    /// Training in full, with LoRA and with QLoRA
    Method,
    /// The optimizers of a training run
    Optimizer,
    /// The ways to share a training run among its GPUs
    Sharding,
}

impl Comparison {
    const fn name(self) -> &'static str {
        match self {
            Self::Precision => "precision",
            Self::Context => "context",
            Self::Tensor => "tensor",
            Self::Gpu => "gpu",
            Self::Method => "method",
            Self::Optimizer => "optimizer",
            Self::Sharding => "sharding",
        }
    }

    /// Refuses what cannot be compared of such a workload.
    pub(crate) fn check(self, training: Option<Method>, gpus: Option<u64>) -> Result<(), Incomparable> {
        let refused = |problem, remedy| Err(Incomparable { by: self.name(), problem, remedy });
        match (self, training) {
            (Self::Tensor, Some(_)) => refused(
                "training is estimated for data parallelism",
                "write --compare sharding, and how many GPUs with --gpus 8",
            ),
            (Self::Method | Self::Optimizer | Self::Sharding, None) => {
                refused("it is for training", "add --training full, lora or qlora")
            }
            (Self::Sharding, Some(_)) if gpus.unwrap_or(1) == 1 => {
                refused("one GPU has nothing to share", "say how many there are, such as --gpus 8")
            }
            _ => Ok(()),
        }
    }

    /// The rows.
    pub(crate) fn rows(self, sizing: &Sizing<'_>, fit: Option<&Gpu>) -> ComparisonDocument {
        let mut document = ComparisonDocument {
            by: self.name(),
            variants: Vec::new(),
            gpus: Vec::new(),
            left_out: Vec::new(),
        };
        if self == Self::Gpu {
            document.gpus =
                ladder().into_iter().map(|card| on(&Gpu::from(card), card.name, sizing)).collect();
            return document;
        }
        let (asked, shape) = (sizing.asked, sizing.shape);
        let own = &sizing.estimate.workload;
        for (value, workload) in self.variants(shape, asked, own) {
            match estimate(shape, &workload) {
                Ok(estimate) => {
                    let as_asked = estimate.workload == *own;
                    // Two names of what the checkpoint holds: fp8, and fp8-block.
                    if as_asked && document.variants.iter().any(|row| row.as_asked) {
                        continue;
                    }
                    document.variants.push(row(value, as_asked, &estimate, sizing.margin, fit));
                }
                Err(error) => document.left_out.push(LeftOutDocument { value, problem: problem(error) }),
            }
        }
        document
    }

    /// The workloads to compare, by the value that makes them. `own` is the one that was asked for, its defaults filled in.
    fn variants(self, shape: &ModelShape, asked: &Workload, own: &Workload) -> Vec<(String, Workload)> {
        let with = |training: &dyn Fn(&Training) -> Training| Workload {
            training: asked.training.as_ref().map(training),
            ..asked.clone()
        };
        let ordered = |mut values: Vec<u64>| {
            values.sort_unstable();
            values.dedup();
            values
        };
        match self {
            Self::Gpu => Vec::new(),
            Self::Precision => precisions(own)
                .into_iter()
                .map(|precision| {
                    (precision.to_string(), Workload { precision: Some(precision), ..asked.clone() })
                })
                .collect(),
            Self::Context => ordered(contexts(shape, own))
                .into_iter()
                .map(|context| (context.to_string(), Workload { context: Some(context), ..asked.clone() }))
                .collect(),
            Self::Tensor => ordered(vec![1, 2, 4, 8, 16, own.tensor])
                .into_iter()
                .map(|tensor| (tensor.to_string(), Workload { tensor, ..asked.clone() }))
                .collect(),
            Self::Method => Method::ALL
                .iter()
                .map(|&method| (method.to_string(), with(&|of| Training { method, ..of.clone() })))
                .collect(),
            Self::Optimizer => Optimizer::ALL
                .iter()
                .map(|&optimizer| (optimizer.to_string(), with(&|of| Training { optimizer, ..of.clone() })))
                .collect(),
            Self::Sharding => Sharding::ALL
                .iter()
                .filter(|&&sharding| sharding != Sharding::None)
                .map(|&sharding| (sharding.to_string(), with(&|of| Training { sharding, ..of.clone() })))
                .collect(),
        }
    }
}

fn row(
    value: String,
    as_asked: bool,
    estimate: &Estimate,
    margin: Margin,
    fit: Option<&Gpu>,
) -> VariantDocument {
    let row = VariantDocument::new(value, as_asked, estimate, margin);
    VariantDocument {
        smallest_gpu: smallest(row.required_per_gpu, margin).map(|card| card.name),
        fits: fit.map(|gpu| Room { per_gpu: gpu.memory, margin }.holds(row.required_per_gpu)),
        ..row
    }
}

/// What the model takes of one kind of GPU.
fn on(gpu: &Gpu, name: &'static str, sizing: &Sizing<'_>) -> FittedCardDocument {
    let room = sizing.room(gpu.memory);
    let fewest = sizing.fewest(room, MOST_OF_A_NODE);
    let needs = fewest.as_ref().and_then(|(workload, _)| estimate(sizing.shape, workload).ok());
    let fewest = fewest.map(|(workload, _)| workload);
    FittedCardDocument {
        gpu: name,
        memory: gpu.memory,
        fits: room.fits(sizing.shape, sizing.asked),
        fewest_gpus: needs.as_ref().map(|estimate| estimate.gpus),
        required_per_gpu: needs.and_then(|estimate| sizing.margin.apply(estimate.total_per_gpu).ok()),
        longest_context: fewest.as_ref().and_then(|workload| sizing.longest_context(room, workload)),
        most_sequences: fewest.as_ref().and_then(|workload| sizing.most_sequences(room, workload)),
    }
}

/// The usual precisions, the model's own among them.
fn precisions(own: &Workload) -> Vec<Precision> {
    use Precision::{
        AwqInt4, Bf16, Fp8, Fp16, Fp32, GptqInt4, Int4, Int8, Mxfp4, Nf4, Nvfp4, Q2K, Q3KM, Q4KM, Q5KM, Q6K,
        Q80,
    };
    let sixteen = if own.precision == Some(Fp16) { Fp16 } else { Bf16 };
    let method = own.training.as_ref().map(|training| training.method);
    let mut precisions = match method {
        None if own.engine == Engine::LlamaCpp => vec![sixteen, Q80, Q6K, Q5KM, Q4KM, Q3KM, Q2K],
        Some(Method::Full) => vec![Fp32, sixteen],
        None | Some(Method::Lora | Method::Qlora) => {
            vec![Fp32, sixteen, Fp8, Int8, Int4, GptqInt4, AwqInt4, Nf4, Mxfp4, Nvfp4]
        }
    };
    if method == Some(Method::Qlora) {
        // Of these it holds none: a wide type is the one that it computes in.
        precisions.retain(|precision| !precision.is_wide());
    }
    if let Some(own) = own.precision.filter(|own| !precisions.contains(own)) {
        precisions.insert(0, own);
    }
    precisions
}

/// Powers of two up to the model's longest context, and the one that was asked for.
fn contexts(shape: &ModelShape, own: &Workload) -> Vec<u64> {
    const SHORTEST: u64 = 2048;
    /// Where the model does not say.
    const LONGEST: u64 = 131_072;
    let longest = shape.max_context.unwrap_or(LONGEST);
    let mut contexts: Vec<u64> = std::iter::successors(Some(SHORTEST), |context| context.checked_mul(2))
        .take_while(|context| *context < longest)
        .collect();
    contexts.push(longest);
    contexts.extend(own.context);
    contexts
}

fn problem(error: EstimateError) -> String {
    match error {
        EstimateError::Invalid { problem, .. } => problem,
        EstimateError::Overflow(overflow) => overflow.to_string(),
    }
}
