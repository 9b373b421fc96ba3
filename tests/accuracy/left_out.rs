//! Rows that are not scored, by their id, and why.

use super::score::Quantity;

/// Why a figure of a row is not scored, if it is not.
pub(crate) fn reason(id: &str, quantity: Quantity) -> Option<&'static str> {
    LEFT_OUT
        .iter()
        .find(|(row, quantities, _)| *row == id && (quantities.is_empty() || quantities.contains(&quantity)))
        .map(|(_, _, why)| *why)
}

/// Row, figures (empty: all), reason.
const LEFT_OUT: &[(&str, &[Quantity], &str)] = &[
    (
        "llmdplan-v019-meta-llama-llama-3-1-8b--tp1pp2dp1--8192",
        &[Quantity::CachePerToken],
        "with pipeline stages the tokens are those of the stage with least room, the GiB those of another",
    ),
    (
        "llmdplan-v019-meta-llama-llama-3-1-8b--tp1pp4dp1--8192",
        &[Quantity::CachePerToken],
        "with pipeline stages the tokens are those of the stage with least room, the GiB those of another",
    ),
    (
        "vllm-21348-qwen3-235b-fp8",
        &[Quantity::CachePerToken],
        "the tokens are those of the rank with least room, the GiB those of another",
    ),
    (
        "idx-nemotron3-nano-4b-fp8",
        &[Quantity::CachePerToken],
        "this version counts the tokens of one cache group only",
    ),
    (
        "llmdplan-v019-meta-llama-llama-3-1-8b--tp1pp2dp1--8192",
        &[Quantity::AllButCache],
        "logged by the first stage; Loadline gives the last, which samples and needs more",
    ),
    (
        "llmdplan-v019-meta-llama-llama-3-1-8b--tp1pp4dp1--8192",
        &[Quantity::AllButCache],
        "logged by the first stage; Loadline gives the last, which samples and needs more",
    ),
    (
        "mixtral-8x7b-instruct-q5-k-m-apple-m3-max-1",
        &[Quantity::Weights],
        "made by an early quantiser, which favoured other layers of a mixture of experts",
    ),
    (
        "qwen3-8-27b-ud-q5-k-m-24gb-2",
        &[Quantity::Cache],
        "speculative decoding: three copies of every state and a draft's cache",
    ),
    (
        "qwen3-8-27b-ud-q5-k-m-24gb-3",
        &[Quantity::Cache],
        "speculative decoding: three copies of every state and a draft's cache",
    ),
    (
        "idx-dscoderv2lite-a100-tp8",
        &[Quantity::Weights],
        "an early vLLM, which absorbs whole projections of latent attention (0.25 GiB of copies)",
    ),
    ("gemma-3-1b-it-q8-0-vulkan-1", &[Quantity::Cache], "a build from before windowed caches"),
    ("gemma-3-1b-it-q4-k-m-cuda-1", &[Quantity::Cache], "a build from before windowed caches"),
    ("mistral-7b-v0-1-q2-k-cpu-1", &[Quantity::Cache], "a build that did not pad to 256 cells"),
    (
        "mistral-7b-instruct-q4-0-rtx-a4000-1",
        &[Quantity::Compute],
        "does not say that it had no flash attention, as it must have had",
    ),
    ("qwen3-30b-a3b-f16-rtx-4090-1", &[], "the experts are in host memory, and the context is not stated"),
    (
        "h-qwen25-05b-bnb",
        &[Quantity::Weights],
        "leaves modules of its own choice at 16 bits, and its list of them is not among the fixtures",
    ),
    (
        "h-gemma4-e2b-w4a16",
        &[Quantity::Weights],
        "leaves modules of its own choice at 16 bits, and its list of them is not among the fixtures",
    ),
    (
        "h-qwen35-35b-bf16",
        &[Quantity::Weights],
        "the text model alone was loaded: the tower, which Loadline counts, is 0.83 GiB",
    ),
    ("h-qwen35-9b-262k-q8", &[Quantity::Weights], "Ollama's own quantiser, which favours other tensors"),
];
