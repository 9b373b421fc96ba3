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
    /// That context where the process is one of several: with the communicator's own.
    pub context_shared: u64,
    /// Kernels, cuBLAS workspaces and the like, outside the framework's allocator, on one GPU.
    pub libraries: u64,
    /// Those libraries where GPUs share layers: with the communicator's buffers.
    pub libraries_shared: u64,
    /// Bytes per sequence and token of vocabulary that sampling takes: logits in 16 and 32 bits, their sorted copy, indices.
    pub sampler_bytes: u64,
    /// Whether it has kernels of its own for a paged cache, which keep tables beside the weights.
    pub paged: bool,
    /// Whether graphs are captured for every batch size.
    pub graphs: bool,
    /// Where that is from.
    pub source: &'static str,
}

/// The profile of an engine.
pub(super) const fn of(engine: Engine) -> Profile {
    match engine {
        // Context 0.51 GiB on one GPU and 1.43 to 1.55 on each of several, non-torch 0.25 GiB and with tensor parallelism 2.07 to
        // 2.21, sampler 14 bytes: 34 complete logs of vLLM 0.19 on H100 (tests/fixtures/measured/serving.csv). Before its
        // sampler was rewritten it took 38 bytes (vLLM 0.11). 8192 batched tokens: the server's default from 70 GiB up.
        Engine::Vllm => Profile {
            vocabulary_multiple: 64,
            block: 16,
            batched_tokens: 8192,
            context: 522 * MIB,
            context_shared: 1564 * MIB,
            libraries: 256 * MIB,
            libraries_shared: 2150 * MIB,
            sampler_bytes: 14,
            paged: true,
            graphs: true,
            source: "vLLM 0.19 on H100",
        },
        // Chunked prefill of 8192 tokens from 60 GiB up, and a reserve of 512 MiB (SGLang 0.5).
        Engine::Sglang => Profile {
            vocabulary_multiple: 64,
            block: 1,
            batched_tokens: 8192,
            context: 522 * MIB,
            context_shared: 1024 * MIB,
            libraries: 512 * MIB,
            libraries_shared: 2150 * MIB,
            sampler_bytes: 8,
            paged: true,
            graphs: true,
            source: "SGLang 0.5",
        },
        // A physical batch of 512 tokens; the rest of the context is the CUDA runtime's and cuBLAS' (llama.cpp b9000).
        Engine::LlamaCpp => Profile {
            vocabulary_multiple: 1,
            block: 256,
            batched_tokens: 512,
            context: 450 * MIB,
            context_shared: 450 * MIB,
            libraries: 0,
            libraries_shared: 0,
            sampler_bytes: 0,
            paged: false,
            graphs: false,
            source: "llama.cpp",
        },
        // A prefill of 4096 tokens by default (text-generation-inference 3).
        Engine::Tgi => Profile {
            vocabulary_multiple: 1,
            block: 16,
            batched_tokens: 4096,
            context: 522 * MIB,
            context_shared: 1024 * MIB,
            libraries: 512 * MIB,
            libraries_shared: 1536 * MIB,
            sampler_bytes: 8,
            paged: true,
            graphs: true,
            source: "text-generation-inference 3",
        },
        // Not chunked: the whole prompt at once, so no constant here bounds it.
        Engine::Transformers => Profile {
            vocabulary_multiple: 1,
            block: 1,
            batched_tokens: u64::MAX,
            context: 522 * MIB,
            context_shared: 522 * MIB,
            libraries: 256 * MIB,
            libraries_shared: 256 * MIB,
            sampler_bytes: 8,
            paged: false,
            graphs: false,
            source: "transformers with PyTorch 2",
        },
        // The middle of the 0.5 to 1 GB that CUDA context, kernels and framework take.
        Engine::None => Profile {
            vocabulary_multiple: 1,
            block: 1,
            batched_tokens: 2048,
            context: 522 * MIB,
            context_shared: 1024 * MIB,
            libraries: 256 * MIB,
            libraries_shared: 512 * MIB,
            sampler_bytes: 8,
            paged: false,
            graphs: false,
            source: "a generic engine",
        },
    }
}
