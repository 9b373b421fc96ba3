//! What an engine can be told that changes its memory, besides the workload itself.

use serde::Serialize;

/// An engine's options. The default is what an engine does untold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Options {
    /// How many sequences the engine may run at once, where that is more than are held: none has its cache reserved, but graphs
    /// and samplers are made for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence_cap: Option<u64>,
    /// Room for LoRA adapters beside the weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapters: Option<Adapters>,
    /// Further tokens are guessed, and verified together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speculation: Option<Speculation>,
    /// Whole experts are given to the tensor-parallel ranks, instead of a slice of each.
    #[serde(skip_serializing_if = "is_false")]
    pub expert_parallel: bool,
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
}

/// Room for LoRA adapters: as many slots of the largest rank, whether they are used or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Adapters {
    /// Adapters on the GPU at once.
    pub count: u64,
    /// The largest rank.
    pub rank: u64,
}

/// Speculative decoding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Speculation {
    /// Tokens that are guessed per step.
    pub tokens: u64,
    /// Who guesses.
    pub draft: Draft,
}

/// Who guesses the next tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
