//! What an engine takes besides weights and caches: its constants, each with its source and version.

use crate::precision::Engine;
use crate::units::MIB;

/// The constants of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Profile {
    /// Rows of the embedding matrix are padded to a multiple of this.
    pub vocabulary_multiple: u64,
    /// Tokens of one block of the paged cache; 1 for a cache that is not paged.
    pub block: u64,
    /// Tokens in one forward pass, by default.
    pub batched_tokens: u64,
    /// The CUDA context, and what a process holds before the first tensor.
    pub context: u64,
    /// Kernels, cuBLAS workspaces and the like, outside the framework's allocator, on one GPU.
    pub libraries: u64,
    /// The same, where GPUs share layers: with the communicator's buffers.
    pub libraries_shared: u64,
    /// Where that is from.
    pub source: &'static str,
}

/// The profile of an engine.
pub(super) const fn of(engine: Engine) -> Profile {
    match engine {
        // Context 0.51 GiB, non-torch 0.25 GiB on one GPU and 2.07 to 2.21 on two to four: 33 complete logs of vLLM 0.19 on
        // H100 (tests/fixtures/measured/serving.csv). 8192 batched tokens: its server's default on GPUs of 70 GiB and more.
        Engine::Vllm => Profile {
            vocabulary_multiple: 64,
            block: 16,
            batched_tokens: 8192,
            context: 522 * MIB,
            libraries: 256 * MIB,
            libraries_shared: 2150 * MIB,
            source: "vLLM 0.19 on H100",
        },
        // Chunked prefill of 8192 tokens from 60 GiB up, and a reserve of 512 MiB (SGLang 0.5).
        Engine::Sglang => Profile {
            vocabulary_multiple: 64,
            block: 1,
            batched_tokens: 8192,
            context: 522 * MIB,
            libraries: 512 * MIB,
            libraries_shared: 2150 * MIB,
            source: "SGLang 0.5",
        },
        // A physical batch of 512 tokens; the rest of the context is the CUDA runtime's and cuBLAS' (llama.cpp b9000).
        Engine::LlamaCpp => Profile {
            vocabulary_multiple: 1,
            block: 256,
            batched_tokens: 512,
            context: 450 * MIB,
            libraries: 0,
            libraries_shared: 0,
            source: "llama.cpp",
        },
        // A prefill of 4096 tokens by default (text-generation-inference 3).
        Engine::Tgi => Profile {
            vocabulary_multiple: 1,
            block: 16,
            batched_tokens: 4096,
            context: 522 * MIB,
            libraries: 512 * MIB,
            libraries_shared: 1536 * MIB,
            source: "text-generation-inference 3",
        },
        // Not chunked: the whole prompt at once, so no constant here bounds it.
        Engine::Transformers => Profile {
            vocabulary_multiple: 1,
            block: 1,
            batched_tokens: u64::MAX,
            context: 522 * MIB,
            libraries: 256 * MIB,
            libraries_shared: 256 * MIB,
            source: "transformers with PyTorch 2",
        },
        // The middle of the 0.5 to 1 GB that CUDA context, kernels and framework take.
        Engine::None => Profile {
            vocabulary_multiple: 1,
            block: 1,
            batched_tokens: 2048,
            context: 522 * MIB,
            libraries: 256 * MIB,
            libraries_shared: 512 * MIB,
            source: "a generic engine",
        },
    }
}
