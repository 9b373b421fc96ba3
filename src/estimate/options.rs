//! What an engine can be told that changes its memory, besides the workload itself.

use schemars::JsonSchema;
use serde::Serialize;

use super::Loss;
use super::version::EngineVersion;
use crate::precision::{CachePrecision, Engine};

/// An engine's options. The default is what an engine does untold.
#[allow(clippy::struct_excessive_bools)] // each is a flag of an engine
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Options {
    /// How many sequences the engine may run at once, where that is more than are held: none has its cache reserved, but graphs
    /// and samplers are made for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence_cap: Option<u64>,
    /// The engine's version, where it is known: rules for memory differ between versions. `None` is the release whose image the
    /// controller writes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub engine_version: Option<EngineVersion>,
    /// Whether prefixes are kept for later requests (vLLM's `--enable-prefix-caching`), where the engine is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_caching: Option<bool>,
    /// The language model alone: vision and audio towers are not loaded (vLLM's `--language-model-only`, llama.cpp's
    /// `--no-mmproj`).
    #[serde(skip_serializing_if = "is_false")]
    pub text_only: bool,
    /// llama.cpp: how values are held, where that is another type than the keys' (`--cache-type-v`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_cache_precision: Option<CachePrecision>,
    /// llama.cpp: so many slots share one cache of the context's length (`--kv-unified`; four, where the server is told neither
    /// that nor `--parallel`). `None` gives each sequence a context of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unified_slots: Option<u64>,
    /// Room for LoRA adapters beside the weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapters: Option<Adapters>,
    /// Further tokens are guessed, and verified together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speculation: Option<Speculation>,
    /// Whole experts are given to the tensor-parallel ranks, instead of a slice of each.
    #[serde(skip_serializing_if = "is_false")]
    pub expert_parallel: bool,
    /// SGLang: data-parallel groups share attention and its cache among the tensor-parallel ranks (`--enable-dp-attention`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention_groups: Option<AttentionGroups>,
    /// llama.cpp: a tower is loaded from a file of its own (`--mmproj`).
    #[serde(skip_serializing_if = "is_false")]
    pub tower_file: bool,
    /// No CUDA graphs are captured.
    #[serde(skip_serializing_if = "is_false")]
    pub eager: bool,
    /// llama.cpp without flash attention: the scores of every head are written out.
    #[serde(skip_serializing_if = "is_false")]
    pub without_flash_attention: bool,
    /// llama.cpp: how many layers, counted from the last and with the output as one, are on the GPUs; the rest stays in host
    /// memory. `None` is all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_layers: Option<u64>,
    /// llama.cpp: of how many layers, counted from the first, the routed experts stay in host memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_expert_layers: Option<u64>,
    /// What a training run does besides.
    #[serde(skip_serializing_if = "Techniques::are_defaults")]
    pub training: Techniques,
}

/// What a training run does to need less, or more, than by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Techniques {
    /// How the loss is computed; `None` is PyTorch's way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
    /// Samples are packed to one length, so that every batch takes the same blocks.
    #[serde(skip_serializing_if = "is_false")]
    pub packed: bool,
    /// GPUs that share each sequence (sequence or context parallelism).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence_parallel: Option<u64>,
    /// A quantised base is left as it was loaded: without PEFT's `prepare_model_for_kbit_training`, which casts all that is not
    /// quantised to 32 bits (litgpt, torchtune, Unsloth, fms-acceleration leave it out).
    #[serde(skip_serializing_if = "is_false")]
    pub unprepared: bool,
}

impl Techniques {
    fn are_defaults(&self) -> bool {
        *self == Self::default()
    }
}

/// What else a group of ranks holds by itself, where groups share the attention.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttentionGroups {
    /// The output head (`--enable-dp-lm-head`).
    pub head: bool,
    /// Each rank holds the dense MLPs whole (`--moe-dense-tp-size 1`).
    pub whole_mlps: bool,
}

/// Room for LoRA adapters: as many slots of the largest rank, whether they are used or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Adapters {
    /// Adapters on the GPU at once.
    pub count: u64,
    /// The largest rank.
    pub rank: u64,
}

/// Speculative decoding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Speculation {
    /// Tokens that are guessed per step.
    pub tokens: u64,
    /// Who guesses.
    pub draft: Draft,
}

/// Who guesses the next tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Draft {
    /// The model's own heads for further tokens (multi-token prediction).
    OwnHeads,
    /// A head of one layer that reads the model's hidden states (EAGLE).
    Head,
    /// A smaller model, by its name in the catalog.
    Model(String),
    /// The text so far (n-grams): no weights.
    Text,
}

impl Options {
    /// Whether nothing is told.
    pub(super) fn are_defaults(&self) -> bool {
        *self == Self::default()
    }

    /// Slots that share one cache, of the engine that has them.
    pub(super) fn slots(&self, engine: Engine) -> u64 {
        self.unified_slots.filter(|_| engine == Engine::LlamaCpp).unwrap_or(1).max(1)
    }

    /// Earlier states that llama.cpp keeps of recurrent layers, for drafts that read the model's own states and guess anew from
    /// where they were wrong: as many as are guessed (`common_params_speculative::need_n_rs_seq`).
    pub(super) fn kept_states(&self, engine: Engine) -> u64 {
        let speculation = self.speculation.as_ref().filter(|_| engine == Engine::LlamaCpp);
        speculation
            .filter(|speculation| matches!(speculation.draft, Draft::OwnHeads | Draft::Head))
            .map_or(0, |speculation| speculation.tokens)
    }

    /// Tokens of a sequence that one decoding step works on: the next one, and those that are guessed.
    pub(super) fn step(&self) -> u64 {
        self.speculation.as_ref().map_or(1, |speculation| speculation.tokens.saturating_add(1))
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
