//! How much GPU memory a model needs: `estimate(shape, workload) -> Estimate`.
//!
//! Invariants: monotone in parameters, context, sequences and bytes per element; splitting over GPUs conserves what it
//! splits; memory is integer bytes with checked arithmetic; what is assumed is marked assumed.

mod cache;
mod divisibility;
mod figure;
pub mod inverse;
mod options;
mod parallelism;
mod profile;
mod ranks;
mod run;
mod serving;
pub mod training;
mod version;
mod weights;

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{Confidence, ModelShape};
use crate::precision::{CachePrecision, Engine, Precision, UnknownName, named};
use crate::units::{Bytes, Overflow, shorten};

pub use options::{Adapters, AttentionGroups, Draft, Options, Speculation, Techniques};
pub use version::{EngineVersion, UnknownVersion, default_of as default_version};

/// How a model is to be run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// How the weights are held; `None` is the model's own.
    pub precision: Option<Precision>,
    /// Tokens per sequence; `None` is the model's own maximum. In training, the sequence length.
    pub context: Option<u64>,
    /// Sequences held at once. In training, the micro batch.
    pub sequences: u64,
    /// How the KV cache is held.
    pub cache_precision: CachePrecision,
    /// Ranks that share each layer.
    pub tensor: u64,
    /// Stages that share the layers.
    pub pipeline: u64,
    /// Groups of ranks that each hold a share of the sequences (data parallelism); 1 where all are held together.
    pub data: u64,
    /// The engine whose profile counts.
    pub engine: Engine,
    /// Tokens in one forward pass, where the engine is told; `None` is its default.
    pub batched_tokens: Option<u64>,
    /// What else the engine is told that changes its memory.
    #[serde(skip_serializing_if = "Options::are_defaults")]
    pub options: Options,
    /// Training instead of serving.
    pub training: Option<Training>,
}

/// How a model is to be trained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Training {
    /// What is trained.
    pub method: Method,
    /// The optimizer.
    pub optimizer: Optimizer,
    /// Rank of the LoRA matrices.
    pub lora_rank: u64,
    /// Which linear layers get LoRA matrices: `attention`, `all-linear` or names such as `q_proj`.
    pub lora_targets: Vec<String>,
    /// Whether activations are recomputed.
    pub gradient_checkpointing: Checkpointing,
    /// The attention kernel.
    pub attention: AttentionKernel,
    /// How state is sharded over GPUs.
    pub sharding: Sharding,
    /// GPUs that train together (data parallel).
    pub gpus: u64,
    /// What is kept in host memory.
    pub offload: Vec<Offload>,
}

named! {
    /// What is trained.
    Method ("training method") {
        /// Every weight.
        Full = "full",
        /// Low-rank adapters on a frozen 16-bit base.
        Lora = "lora",
        /// Low-rank adapters on a frozen 4-bit base.
        Qlora = "qlora",
    }
}

named! {
    /// The optimizer, which decides the state kept per trained parameter.
    Optimizer ("optimizer") {
        /// AdamW, two 32-bit moments.
        Adamw = "adamw" | "adamw-torch" | "adamw-torch-fused" | "adamw-hf",
        /// AdamW with 8-bit moments.
        Adamw8bit = "adamw-8bit" | "adamw-bnb-8bit" | "adamw8bit",
        /// The same, in pages that may be moved to the host.
        PagedAdamw8bit = "paged-adamw-8bit",
        /// Stochastic gradient descent with momentum.
        Sgd = "sgd",
        /// Adafactor: row and column statistics.
        Adafactor = "adafactor",
        /// Lion: one moment.
        Lion = "lion",
        /// Muon: one moment, AdamW for embeddings.
        Muon = "muon",
        /// GaLore: low-rank moments.
        Galore = "galore",
    }
}

named! {
    /// Whether activations are kept for the backward pass or recomputed.
    Checkpointing ("gradient checkpointing") {
        /// All are kept.
        None = "none",
        /// Only the layers' inputs are kept.
        Full = "full",
    }
}

named! {
    /// The attention kernel of a training run.
    AttentionKernel ("attention kernel") {
        /// The whole score matrix is kept.
        Eager = "eager",
        /// PyTorch's scaled dot product attention.
        Sdpa = "sdpa",
        /// Flash attention.
        Flash = "flash" | "flash-attention-2" | "flash-attn",
    }
}

named! {
    /// How training state is sharded over data-parallel GPUs.
    Sharding ("sharding") {
        /// One GPU, or no sharding.
        None = "none",
        /// Distributed data parallel: a whole copy each, and gradient buckets.
        Ddp = "ddp",
        /// ZeRO stage 1: optimizer state.
        Zero1 = "zero1",
        /// ZeRO stage 2: and gradients.
        Zero2 = "zero2",
        /// ZeRO stage 3: and parameters.
        Zero3 = "zero3",
        /// PyTorch's fully sharded data parallel.
        Fsdp = "fsdp" | "fsdp2",
    }
}

named! {
    /// What a training run keeps in host memory.
    Offload ("offload") {
        /// The optimizer state.
        Optimizer = "optimizer",
        /// The parameters.
        Parameters = "parameters",
    }
}

named! {
    /// How the loss of a training run is computed, which decides what the logits take.
    Loss ("loss kernel") {
        /// PyTorch's cross entropy over all logits in 32 bits.
        Plain = "plain",
        /// A kernel that writes no log probabilities (Unsloth's and fms-acceleration's fast cross entropy).
        InPlace = "in-place",
        /// Over the tokens in chunks, all logits held in 16 bits (torchtune's `CEWithChunkedOutputLoss`).
        Chunked = "chunked",
        /// Output head and cross entropy in one: no logits are held (Liger's fused linear cross entropy, Apple's cut cross
        /// entropy as in axolotl, TRL's `chunked_nll`, Unsloth's fused loss).
        Fused = "fused" | "liger" | "cut-cross-entropy" | "cce" | "chunked-nll",
    }
}

/// Memory by what it is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Components {
    /// The weights.
    pub weights: Bytes,
    /// Keys, values and recurrent state.
    pub kv_cache: Bytes,
    /// What a forward (and backward) pass needs besides.
    pub activations: Bytes,
    /// CUDA context, kernels, graphs, communication buffers, framework.
    pub overhead: Bytes,
    /// Gradients, when training.
    pub gradients: Bytes,
    /// Optimizer state, when training.
    pub optimizer: Bytes,
}

/// One component's arithmetic, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// Which component: a key of the JSON output, such as `kvCache`.
    pub component: &'static str,
    /// The formula with the numbers put in.
    pub formula: String,
    /// What it comes to on the GPU that needs most.
    pub bytes: Bytes,
    /// How sure it is.
    pub confidence: Confidence,
    /// The least it is likely to be.
    pub low: Bytes,
    /// The most it is likely to be.
    pub high: Bytes,
}

/// The figures that vLLM logs at its start, on the GPU that needs most: other heads than the components', so that both can be
/// held against each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logged {
    /// `Model loading took`: the weights, what is made of them, adapters and draft.
    pub model: Bytes,
    /// The peak of the profiling pass.
    pub activations: Bytes,
    /// What is outside the framework's allocator, but for the CUDA context and the communicator, which it counts to nobody.
    pub non_torch: Bytes,
    /// `Graph capturing finished`.
    pub graphs: Bytes,
}

/// What a model needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// Summed over GPUs.
    pub components: Components,
    /// On the GPU that needs most.
    pub per_gpu: Components,
    /// GPUs: data x tensor x pipeline (where the groups are within the tensor-parallel ranks, tensor x pipeline), or the training
    /// run's.
    pub gpus: u64,
    /// Sum of `components`.
    pub total: Bytes,
    /// Sum of `per_gpu`.
    pub total_per_gpu: Bytes,
    /// Growth of the KV cache per token of context and sequence, summed over GPUs: of the layers that keep every token, not of
    /// those whose window bounds what they keep, unless all layers have one.
    pub kv_cache_bytes_per_token: Bytes,
    /// The workload with every default filled in.
    pub workload: Workload,
    /// What the engine itself says at its start, where it does.
    pub logged: Option<Logged>,
    /// The least sure of the components that matter.
    pub confidence: Confidence,
    /// The arithmetic, one entry or more per component.
    pub terms: Vec<Term>,
    /// What the user should know: one sentence each.
    pub notes: Vec<String>,
}

/// Why no estimate can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EstimateError {
    /// A field that contradicts the model or another field.
    #[error("{field}: {problem}; {remedy}")]
    Invalid {
        /// The field, as the CR spells it, such as `parallelism.tensor`.
        field: &'static str,
        /// What is wrong, with the numbers.
        problem: String,
        /// What would be right.
        remedy: String,
    },
    /// A result that is larger than any memory.
    #[error(transparent)]
    Overflow(#[from] crate::units::Overflow),
}

/// What a model needs when it is run so.
///
/// # Errors
/// A workload that contradicts the model (a tensor parallelism that does not divide its heads) or itself.
pub fn estimate(shape: &ModelShape, workload: &Workload) -> Result<Estimate, EstimateError> {
    match &workload.training {
        Some(training) => training::estimate(shape, workload, training),
        None => serving::estimate(shape, workload),
    }
}

impl Workload {
    /// Sequences that may run at once: those that are held, or as many as the engine is let to.
    #[must_use]
    pub fn running(&self) -> u64 {
        self.options.sequence_cap.map_or(self.sequences, |cap| cap.max(self.sequences))
    }

    /// Whether the groups of ranks that hold sequences of their own are made of the tensor-parallel ranks (SGLang's
    /// `--enable-dp-attention`).
    #[must_use]
    pub fn is_grouped_within(&self) -> bool {
        self.engine == Engine::Sglang && self.options.attention_groups.is_some()
    }

    /// The fewest tensor-parallel ranks that can be asked for.
    #[must_use]
    pub fn fewest_tensor(&self) -> u64 {
        if self.is_grouped_within() { self.data.max(1) } else { 1 }
    }
}

impl Components {
    /// The sum.
    ///
    /// # Errors
    /// An overflow.
    pub fn total(&self) -> Result<Bytes, Overflow> {
        [self.weights, self.kv_cache, self.activations, self.overhead, self.gradients, self.optimizer]
            .into_iter()
            .try_fold(Bytes::ZERO, Bytes::plus)
    }

    /// Each component of both together.
    ///
    /// # Errors
    /// An overflow.
    pub fn plus(&self, other: &Self) -> Result<Self, Overflow> {
        Ok(Self {
            weights: self.weights.plus(other.weights)?,
            kv_cache: self.kv_cache.plus(other.kv_cache)?,
            activations: self.activations.plus(other.activations)?,
            overhead: self.overhead.plus(other.overhead)?,
            gradients: self.gradients.plus(other.gradients)?,
            optimizer: self.optimizer.plus(other.optimizer)?,
        })
    }

    /// Each component so many times.
    ///
    /// # Errors
    /// An overflow.
    pub fn times(&self, factor: u64) -> Result<Self, Overflow> {
        Ok(Self {
            weights: self.weights.times(factor)?,
            kv_cache: self.kv_cache.times(factor)?,
            activations: self.activations.times(factor)?,
            overhead: self.overhead.times(factor)?,
            gradients: self.gradients.times(factor)?,
            optimizer: self.optimizer.times(factor)?,
        })
    }
}

/// A wide intermediate result as memory.
fn bytes_of(wide: u128) -> Result<Bytes, Overflow> {
    u64::try_from(wide).map(Bytes).map_err(|_| Overflow)
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
