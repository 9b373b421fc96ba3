//! What the estimator needs to know of a model, and the parsers that learn it from real artefacts.
//!
//! Invariant: nothing here reads a file or the network; a parser takes bytes and returns a [`ModelShape`] or says why not.

pub mod assumed;
pub mod catalog;
pub mod content;
mod error;
pub mod gguf;
pub mod hf_config;
pub(crate) mod pattern;
pub mod published;
pub mod safetensors;
mod size;
// Writers of test files, which the integration tests share.
#[cfg(test)]
#[allow(dead_code)]
#[path = "../../tests/it/weights.rs"]
mod weights;

use crate::precision::{CachePrecision, Precision};

pub use error::ParseError;

/// How sure a figure is. Ordered: the larger is the less sure, so that the worst of several is their `max`.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// Counted from the tensors themselves, or from a full config of a known architecture.
    #[default]
    Exact,
    /// Computed by a formula whose constants were calibrated on measurements.
    Derived,
    /// Taken from a table of typical values, because the input does not say.
    Assumed,
}

/// Where a shape was learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShapeSource {
    /// A parameter count alone.
    Parameters,
    /// A Hugging Face `config.json`.
    Config,
    /// Safetensors headers.
    Safetensors,
    /// A GGUF header.
    Gguf,
    /// The built-in catalog.
    Catalog,
}

/// A model as the estimator sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelShape {
    /// What to call it in output: a repository, a catalog name, a size.
    pub name: String,
    /// Where the shape was learned.
    pub source: ShapeSource,
    /// The architecture's name: `model_type` of the config, `general.architecture` of a GGUF, or `assumed`.
    pub architecture: String,
    /// Parameters in the checkpoint's text (and vision) model, tied matrices counted once; draft layers are not counted.
    pub parameters: u64,
    /// Every weight. Empty when only a size is known: then `parameters` is all there is.
    pub tensors: Vec<Tensor>,
    /// What each decoder layer keeps per sequence, in order. Empty for a model that keeps nothing (an encoder).
    pub layers: Vec<Layer>,
    /// Layers of a multi-token-prediction or draft head that is in the file but loaded only for speculation.
    pub draft_layers: Vec<Layer>,
    /// Width of the residual stream.
    pub hidden_size: u64,
    /// The widest dense MLP or shared-expert hidden layer; 0 if there is none.
    pub intermediate_size: u64,
    /// Query heads of the widest attention layer; 0 if there is no attention.
    pub heads: u64,
    /// Width of a query head in that layer.
    pub head_dim: u64,
    /// Mixture of experts, if it is one.
    pub experts: Option<Experts>,
    /// Rows of the embedding matrix.
    pub vocabulary: u64,
    /// The longest context the model was made for, in tokens.
    pub max_context: Option<u64>,
    /// Whether the output head is the embedding matrix.
    pub tied_embeddings: bool,
    /// How the checkpoint stores the weights that are not quantised, when it says.
    pub stored_precision: Option<Precision>,
    /// The quantisation of the checkpoint, if it is quantised.
    pub quantization: Option<Quantization>,
    /// The element type of recurrent state, where the config fixes it (`mamba_ssm_cache_dtype` and the like).
    pub state_precision: Option<CachePrecision>,
    /// Elements of the rotary tables that an engine makes when it loads the model, over all kinds of attention; `None` where
    /// nothing but the longest context is known.
    pub rotary_elements: Option<u64>,
    /// An encoder whose output every decoder layer attends to: tokens per sequence.
    pub encoder_tokens: Option<u64>,
    /// Has it a vision or audio tower, and with it an encoder cache.
    pub multimodal: bool,
    /// How sure the tensors are.
    pub weights_confidence: Confidence,
    /// How sure the layers are. An upper bound for an architecture that is not understood is `Assumed`, with a note.
    pub cache_confidence: Confidence,
    /// What the user should know of how this was read: one sentence each.
    pub notes: Vec<String>,
}

impl ModelShape {
    /// The language model alone, without vision and audio towers and what joins them to it.
    #[must_use]
    pub fn text_only(&self) -> Self {
        let is_tower = |tensor: &Tensor| matches!(tensor.role, Role::Vision | Role::Projector);
        let roots: std::collections::BTreeSet<&str> =
            self.tensors.iter().filter(|tensor| is_tower(tensor)).map(|tensor| root(&tensor.name)).collect();
        // A tower's norms and biases have the role of all norms: they are known by where they are.
        let of_tower = |tensor: &Tensor| {
            is_tower(tensor)
                || (tensor.role == Role::Norm && tensor.layer.is_none() && roots.contains(root(&tensor.name)))
        };
        let (towers, tensors): (Vec<Tensor>, Vec<Tensor>) = self.tensors.iter().cloned().partition(of_tower);
        let parameters = towers.iter().fold(0_u64, |sum, tower| {
            sum.saturating_add(tower.count.saturating_mul(tower.rows).saturating_mul(tower.columns))
        });
        Self {
            parameters: self.parameters.saturating_sub(parameters),
            tensors,
            multimodal: false,
            ..self.clone()
        }
    }
}

/// The module that a tensor is in, below the wrappers of the whole model.
fn root(name: &str) -> &str {
    const WRAPPERS: [&str; 5] = ["model", "language_model", "thinker", "llm", "text_model"];
    name.split('.').find(|part| !WRAPPERS.contains(part)).unwrap_or(name)
}

/// A mixture of experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Experts {
    /// Routed experts per layer.
    pub count: u64,
    /// Experts that see each token.
    pub per_token: u64,
    /// Hidden width of one expert.
    pub intermediate_size: u64,
}

/// One weight matrix, or `count` identical ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// The checkpoint's name for it, or what its role would be called there (`model.layers.3.mlp.down_proj.weight`).
    /// Of routed experts, which are one tensor with a count, a star stands for the number
    /// (`model.layers.3.mlp.experts.*.up_proj.weight`).
    pub name: String,
    /// The decoder layer it belongs to, for pipeline stages; `None` for what is outside the layers.
    pub layer: Option<u32>,
    /// What it is for.
    pub role: Role,
    /// How many identical ones there are (experts).
    pub count: u64,
    /// Output features (1 for a vector).
    pub rows: u64,
    /// Input features: the dimension that quantisation groups run along.
    pub columns: u64,
    /// How tensor parallelism divides it.
    pub split: Split,
    /// Whether weight quantisation applies to it: a linear layer inside the blocks, not a norm, router or embedding.
    pub quantizable: bool,
    /// Bytes in the file for all `count`, where a header says; else the precision decides.
    pub stored_bytes: Option<u64>,
}

/// What a tensor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Token, position or type embedding.
    Embedding,
    /// The output projection onto the vocabulary.
    OutputHead,
    /// Query, key, value and output projections.
    Attention,
    /// A dense MLP.
    Mlp,
    /// A routed expert.
    Expert,
    /// An expert that every token passes.
    SharedExpert,
    /// The routing matrix of a mixture of experts.
    Router,
    /// A norm, bias or scalar.
    Norm,
    /// A convolution, state matrix or gate of a recurrent layer that stays in 16 bits.
    State,
    /// A vision or audio tower.
    Vision,
    /// From a tower's features to the residual stream.
    Projector,
    /// A draft or multi-token-prediction head: in the file, loaded only for speculation.
    Draft,
}

/// How tensor parallelism divides a matrix among ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// A whole copy on every rank.
    Replicated,
    /// By output features.
    Rows,
    /// By input features.
    Columns,
    /// By key-value heads: replicated where there are fewer heads than ranks.
    KeyValueHeads(u64),
    /// By vocabulary, padded as the engine does.
    Vocabulary,
}

/// What one decoder layer keeps per sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Layer {
    /// Keys and values, if it attends.
    pub attention: Option<Attention>,
    /// Recurrent state, if it has any. A layer may have both (Falcon-H1).
    pub state: Option<State>,
}

/// The cache of an attention layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attention {
    /// What is cached per token.
    pub cache: CacheKind,
    /// Which tokens are kept.
    pub span: Span,
}

/// What an attention layer caches per token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CacheKind {
    /// Keys and values per head: multi-head, grouped-query and multi-query attention.
    Heads {
        /// Key-value heads.
        kv_heads: u64,
        /// Elements of a key.
        key_dim: u64,
        /// Elements of a value.
        value_dim: u64,
    },
    /// One latent vector and one rotary key for all heads (MLA), the same on every tensor-parallel rank.
    Latent {
        /// `kv_lora_rank`.
        rank: u64,
        /// `qk_rope_head_dim`.
        rope_dim: u64,
        /// `index_head_dim` of a sparse-attention indexer (DSA), 0 for none.
        index_dim: u64,
    },
    /// DeepSeek-V4: a compressed latent cache, with a window beside it.
    Compressed {
        /// Elements of the shared key-value head.
        head_dim: u64,
        /// Tokens per compressed entry; 0 keeps the window alone.
        ratio: u64,
        /// Tokens of the uncompressed window.
        window: u64,
        /// `index_head_dim` of the indexer on layers that have one, 0 for none.
        index_dim: u64,
    },
    /// Another layer's cache is read; nothing is kept (Gemma 3n and 4, `num_kv_shared_layers`).
    Shared,
}

/// Which tokens an attention layer keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Span {
    /// All of them.
    Full,
    /// The last so many.
    Sliding(u64),
    /// Those since the last multiple of so many (Llama 4).
    Chunked(u64),
}

/// Recurrent state of a layer: a constant per sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// What kind, for the engine's choice of element type.
    pub kind: StateKind,
    /// Width of the convolution input; 0 for none.
    pub conv_width: u64,
    /// Taps of the convolution, `d_conv`: the state keeps one less.
    pub conv_kernel: u64,
    /// Elements of the recurrent matrix over all heads.
    pub matrix: u64,
    /// Heads that tensor parallelism divides by; 0 if it divides by width.
    pub heads: u64,
}

/// Kinds of recurrent layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StateKind {
    /// Mamba-1 selective state space.
    Mamba1,
    /// Mamba-2 (SSD).
    Mamba2,
    /// Gated delta net (Qwen3-Next, Qwen3.5).
    GatedDelta,
    /// Kimi delta attention: the state is 32-bit unless told otherwise.
    KimiDelta,
    /// Lightning or linear attention (MiniMax-Text-01).
    Linear,
    /// A short convolution (LFM2).
    ShortConvolution,
    /// RWKV.
    Rwkv,
}

/// The quantisation of a checkpoint, from its `quantization_config`.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantization {
    /// The format of the quantised tensors.
    pub precision: Precision,
    /// Weights per scale along the input dimension; 0 for one per row or tensor, `None` for the format's default.
    pub group_size: Option<u64>,
    /// Whether zero points are stored.
    pub zero_points: bool,
    /// GPTQ's activation order: a 32-bit index per input channel.
    pub activation_order: bool,
    /// bitsandbytes' second quantisation of the scales.
    pub double_quantized: bool,
    /// Modules left as they were: names, prefixes or `re:` patterns, as the config writes them.
    pub ignored: Vec<String>,
    /// The cache type that the checkpoint asks for.
    pub cache_precision: Option<CachePrecision>,
    /// Where modules have formats of their own (compressed-tensors' `config_groups`): which, and the format. The first group
    /// that names a module counts; what none names is left as it was. Empty where all have the format above.
    pub groups: Vec<QuantizationGroup>,
}

/// Modules of one format.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizationGroup {
    /// Their names, `re:` patterns, or a class such as `Linear`, as the config writes them.
    pub targets: Vec<String>,
    /// Their format; its own groups and list of modules left alone are empty.
    pub format: Quantization,
}
