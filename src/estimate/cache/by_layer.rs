//! Keys, values and recurrent state: what each layer keeps per sequence, as the engine sizes it.

use super::element::{Element, element_of};
use crate::estimate::bytes_of;
use crate::estimate::parallelism::Stage;
use crate::estimate::run::Run;
use crate::estimate::version::{self, VllmRules};
use crate::model::{Attention, CacheKind, Layer, ModelShape, Span, State, StateKind};
use crate::precision::{CachePrecision, Engine};
use crate::units::{Bytes, Overflow};

/// What decides the size of the cache, with every default filled in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cache {
    /// The engine, whose allocator counts.
    pub engine: Engine,
    /// The element type, never `Auto`.
    pub precision: CachePrecision,
    /// The element type of values, which llama.cpp may hold otherwise.
    pub values: CachePrecision,
    /// Slots that share one cache of the context's length; 1 where each sequence has its own.
    pub slots: u64,
    /// Bytes of an element of the model's own type, for states.
    pub model_element: u64,
    /// Tokens per sequence.
    pub context: u64,
    /// Sequences held at once.
    pub sequences: u64,
    /// Sequences that may run at once.
    pub running: u64,
    /// Tokens in one forward pass.
    pub batched_tokens: u64,
    /// Ranks that share a layer.
    pub tensor: u64,
    /// Tokens of a block.
    pub block: u64,
    /// Tokens that are guessed per step.
    pub guessed: u64,
    /// llama.cpp: earlier states that are kept beside the last, to go back to where guesses were wrong (`n_rs_seq`, as many as
    /// are guessed, for drafts that read the model's own states).
    pub kept_states: u64,
    /// What of vLLM's sizing depends on its release.
    pub vllm: VllmRules,
}

impl Cache {
    pub(crate) fn new(run: &Run<'_>) -> Self {
        let Run { shape, workload, profile, loading, layout } = *run;
        Self {
            engine: workload.engine,
            precision: workload.cache_precision,
            values: workload
                .options
                .value_cache_precision
                .filter(|_| workload.engine == Engine::LlamaCpp)
                .filter(|values| *values != CachePrecision::Auto)
                .unwrap_or(workload.cache_precision),
            slots: workload.options.slots(workload.engine),
            model_element: loading.element_bytes(),
            context: workload.context.unwrap_or(1),
            sequences: workload.sequences,
            running: workload.running(),
            batched_tokens: workload.batched_tokens.unwrap_or(profile.batched_tokens),
            tensor: layout.tensor,
            block: profile.block,
            guessed: workload.options.step().saturating_sub(1),
            kept_states: workload.options.kept_states(workload.engine),
            vllm: VllmRules::of(version::of(shape, workload), workload),
        }
    }

    /// Growth per token of context and sequence, summed over GPUs: of the layers that keep every token. A window as long as the
    /// context, or as the model's longest, bounds nothing; where every layer has a shorter one, all of them count, as they grow
    /// up to it.
    pub(crate) fn growth(&self, shape: &ModelShape) -> Result<Bytes, Overflow> {
        let longest = shape.max_context.unwrap_or(u64::MAX).min(self.context);
        let unbounded = |span| match span {
            Span::Full => true,
            Span::Sliding(window) | Span::Chunked(window) => window >= longest,
        };
        let mut attentions = shape.layers.iter().filter_map(|layer| layer.attention);
        let bounded = !attentions.any(|attention| unbounded(attention.span));
        let mut total: u128 = 0;
        // Compressed caches grow by an entry every `ratio` tokens: added up by ratio first, so that rounding counts once.
        let mut compressed: Vec<(u64, u128)> = Vec::new();
        for attention in shape.layers.iter().filter_map(|layer| layer.attention) {
            if !bounded && !unbounded(attention.span) {
                continue;
            }
            match attention.cache {
                CacheKind::Compressed { ratio: 0, .. } => {}
                CacheKind::Compressed { head_dim, ratio, index_dim, .. } => {
                    let entry = self.compressed_entry(head_dim, index_dim);
                    if let Some(sum) = compressed.iter_mut().find(|sum| sum.0 == ratio) {
                        sum.1 = sum.1.checked_add(entry).ok_or(Overflow)?;
                    } else {
                        compressed.push((ratio, entry));
                    }
                }
                cache => total = total.checked_add(self.tokens(shape, cache, 1)?).ok_or(Overflow)?,
            }
        }
        for (ratio, bytes) in compressed {
            total = total.checked_add(bytes.div_ceil(u128::from(ratio))).ok_or(Overflow)?;
        }
        bytes_of(total.checked_mul(u128::from(self.tensor)).ok_or(Overflow)?)
    }

    /// The arithmetic in words: what the layers of a stage keep.
    pub(crate) fn formula(&self, shape: &ModelShape, stage: &Stage) -> String {
        let (mut full, mut windows, mut states) = (0_u64, 0_u64, 0_u64);
        let mut bytes: u128 = 0;
        for layer in stage.caches(&shape.layers) {
            match layer.attention.map(|attention| (attention.cache, attention.span)) {
                Some((CacheKind::Shared, _)) | None => {}
                Some((cache, Span::Full)) => {
                    full += 1;
                    bytes = bytes.saturating_add(self.tokens(shape, cache, 1).unwrap_or(u128::MAX));
                }
                Some((_, Span::Sliding(_) | Span::Chunked(_))) => windows += 1,
            }
            states += u64::from(layer.state.is_some());
        }
        if full + windows + states == 0 {
            return "nothing is kept between passes".to_owned();
        }
        let sequences = if self.sequences == 1 {
            "1 sequence".to_owned()
        } else {
            format!("{} sequences", self.sequences)
        };
        let mut parts = Vec::new();
        if full > 0 && bytes > 0 {
            parts.push(format!("{} tokens x {bytes} bytes in {full} layers", self.context));
        } else if full > 0 {
            parts.push(format!("{} tokens compressed in {full} layers", self.context));
        }
        if windows > 0 {
            parts.push(format!("{windows} layers with a window"));
        }
        if states > 0 {
            parts.push(format!("{states} layers with a state"));
        }
        if shape.encoder_tokens.is_some() {
            parts.push("the encoder's output in each".to_owned());
        }
        format!("{sequences} x ({}), as {}", parts.join(" + "), self.precision)
    }

    /// Bytes of so many tokens of one layer's cache on one rank; a compressed cache is counted by its own rule.
    pub(crate) fn tokens(
        &self,
        shape: &ModelShape,
        cache: CacheKind,
        tokens: u128,
    ) -> Result<u128, Overflow> {
        let element = element_of(self.precision);
        let per_token = match cache {
            CacheKind::Heads { kv_heads, key_dim, value_dim } => {
                // A rank holds at least one head: where there are fewer heads than ranks they are replicated.
                let held = u128::from(kv_heads.div_ceil(self.tensor.max(1)));
                let keys = element.of(held.checked_mul(u128::from(key_dim)).ok_or(Overflow)?)?;
                let values =
                    element_of(self.values).of(held.checked_mul(u128::from(value_dim)).ok_or(Overflow)?)?;
                // vLLM's int8 cache has a 32-bit scale per token and head, for keys and for values.
                let scales = if self.precision == CachePrecision::Int8 && self.engine == Engine::Vllm {
                    held.checked_mul(8).ok_or(Overflow)?
                } else {
                    0
                };
                keys.checked_add(values).and_then(|sum| sum.checked_add(scales)).ok_or(Overflow)?
            }
            CacheKind::Latent { rank, rope_dim, index_dim } => {
                if self.engine == Engine::Transformers {
                    // The latent vector is expanded before it is cached: keys and values of every head.
                    let width = u128::from(shape.heads) * u128::from(shape.head_dim);
                    return element
                        .of(width.checked_mul(2).ok_or(Overflow)?)?
                        .checked_mul(tokens)
                        .ok_or(Overflow);
                }
                let sparse = index_dim > 0;
                let latent = if sparse && self.precision == CachePrecision::Fp8 {
                    // `fp8_ds_mla`: 8-bit latents with a 32-bit scale per 128, the rotary part at 16 bits.
                    u128::from(rank) + u128::from(rank.div_ceil(128)) * 4 + u128::from(rope_dim) * 2
                } else {
                    element.of(u128::from(rank) + u128::from(rope_dim))?
                };
                // llama.cpp holds the indexer's keys as it holds the others (`llama_kv_cache_dsa`).
                let index = if self.engine == Engine::LlamaCpp {
                    element.of(u128::from(index_dim))?
                } else {
                    indexer(index_dim)
                };
                latent.checked_add(index).ok_or(Overflow)?
            }
            CacheKind::Compressed { .. } | CacheKind::Shared => 0,
        };
        per_token.checked_mul(tokens).ok_or(Overflow)
    }

    /// One entry of a compressed cache: DeepSeek-V4's 8-bit layout (head, 64 rotary elements at 16 bits, padded scales) is 584
    /// bytes for a head of 512.
    pub(crate) fn compressed_entry(&self, head_dim: u64, index_dim: u64) -> u128 {
        let entry = if self.precision == CachePrecision::Fp8 {
            u128::from(head_dim) + 72
        } else {
            u128::from(head_dim) * 2
        };
        entry + indexer(index_dim)
    }

    /// DeepSeek-V4's cache of one sequence on one layer: the window, the compressed entries, and the compressor's state.
    fn compressed(&self, cache: CacheKind, window_tokens: u64) -> Result<u128, Overflow> {
        let CacheKind::Compressed { head_dim, ratio, index_dim, .. } = cache else { return Ok(0) };
        let window = element_of(self.precision)
            .of(u128::from(head_dim).checked_mul(u128::from(window_tokens)).ok_or(Overflow)?)?;
        if ratio == 0 {
            return Ok(window);
        }
        let entries = u128::from(self.context.div_ceil(ratio));
        let compressed = self.compressed_entry(head_dim, index_dim).checked_mul(entries).ok_or(Overflow)?;
        // Two 32-bit vectors per token of the ratio; both halves overlap where the ratio is 4.
        let overlap: u128 = if ratio == 4 { 2 } else { 1 };
        let state =
            (u128::from(head_dim) * 8 * overlap * overlap).checked_mul(u128::from(ratio)).ok_or(Overflow)?;
        window.checked_add(compressed).and_then(|sum| sum.checked_add(state)).ok_or(Overflow)
    }

    /// llama.cpp's cache of DeepSeek-V4, of one slot on one layer: keys alone, values being read from them; a window and the
    /// batch in flight, the compressed entries and the indexer's in multiples of 256 cells, and the compressors' states in 32
    /// bits, keys beside scores. No slot shares its cells with another, unified or not (`llama_kv_cache_dsv4`, ggml-org/llama.cpp
    /// `src/llama-kv-cache-dsv4.cpp`).
    fn compressed_by_stream(&self, cache: CacheKind) -> Result<u128, Overflow> {
        let CacheKind::Compressed { head_dim, ratio, window, index_dim } = cache else { return Ok(0) };
        let element = element_of(self.precision);
        let (head_dim, index_dim) = (u128::from(head_dim), u128::from(index_dim));
        let cells = |tokens: u128, width: u128| {
            let padded = tokens.div_ceil(256).checked_mul(256).ok_or(Overflow)?;
            element.of(padded.checked_mul(width).ok_or(Overflow)?)
        };
        let context = u128::from(self.context);
        let flight = u128::from(window).saturating_add(u128::from(self.batched_tokens));
        let window = cells(context.min(flight), head_dim)?;
        if ratio == 0 {
            return Ok(window);
        }
        let ratio = u128::from(ratio);
        let entries = context.div_ceil(ratio).max(1);
        // Both halves overlap where the ratio is 4, and only there entries are looked up.
        let overlap: u128 = if ratio == 4 { 2 } else { 1 };
        let index_dim = if ratio == 4 { index_dim } else { 0 };
        let state = (head_dim + index_dim)
            .checked_mul(8 * overlap * overlap * ratio)
            .and_then(|state| state.checked_mul(1 + u128::from(self.kept_states)))
            .ok_or(Overflow)?;
        [window, cells(entries, head_dim)?, cells(entries, index_dim)?, state]
            .into_iter()
            .try_fold(0_u128, u128::checked_add)
            .ok_or(Overflow)
    }

    /// Layer by layer: every engine but vLLM.
    pub(crate) fn by_layer(&self, shape: &ModelShape, layers: &[&Layer]) -> Result<u128, Overflow> {
        let mut total: u128 = 0;
        for layer in layers {
            if let Some(attention) = layer.attention {
                let bytes = match attention.cache {
                    CacheKind::Compressed { .. } if self.engine == Engine::LlamaCpp => self
                        .compressed_by_stream(attention.cache)?
                        .checked_mul(u128::from(self.sequences) * u128::from(self.slots))
                        .ok_or(Overflow)?,
                    CacheKind::Compressed { window, .. } => self
                        .compressed(attention.cache, window.min(self.context))?
                        .checked_mul(u128::from(self.sequences))
                        .ok_or(Overflow)?,
                    cache => self.tokens(shape, cache, self.cells(attention)?)?,
                };
                total = total.checked_add(bytes).ok_or(Overflow)?;
            }
            if let Some(state) = layer.state {
                let each = if self.engine == Engine::Sglang { 3 } else { u128::from(self.slots) };
                let each = each.checked_mul(1 + u128::from(self.kept_states)).ok_or(Overflow)?;
                let slots = u128::from(self.sequences).checked_mul(each).ok_or(Overflow)?;
                let bytes = self.state(shape, state)?.checked_mul(slots).ok_or(Overflow)?;
                total = total.checked_add(bytes).ok_or(Overflow)?;
            }
        }
        Ok(total)
    }

    /// Tokens that a layer has room for, over all sequences.
    fn cells(&self, attention: Attention) -> Result<u128, Overflow> {
        let context = u128::from(self.context);
        let window = match attention.span {
            Span::Full => None,
            Span::Sliding(tokens) | Span::Chunked(tokens) => Some(u128::from(tokens)),
        };
        let pad = |tokens: u128, multiple: u128| tokens.div_ceil(multiple).saturating_mul(multiple);
        let per_sequence = match (self.engine, window) {
            // llama.cpp: cells in multiples of 256; a windowed cache holds a window of every slot that shares it, and the batch
            // in flight (`llama_kv_cache_iswa`).
            (Engine::LlamaCpp, None) => pad(context, 256),
            (Engine::LlamaCpp, Some(window)) => {
                let windows = window.saturating_mul(u128::from(self.slots));
                pad(context, 256).min(pad(windows.saturating_add(u128::from(self.batched_tokens)), 256))
            }
            // SGLang: the windowed pool is 0.8 of the full one (`swa_full_tokens_ratio`).
            (Engine::Sglang, Some(window)) => context.min(window.max(context.saturating_mul(4).div_ceil(5))),
            // Text-generation-inference keeps every token, in blocks.
            (Engine::Tgi, _) => pad(context, u128::from(self.block.max(1))),
            (_, None) => context,
            (_, Some(window)) => context.min(window),
        };
        per_sequence.checked_mul(u128::from(self.sequences)).ok_or(Overflow)
    }

    /// Recurrent state of one sequence on one rank.
    pub(crate) fn state(&self, shape: &ModelShape, state: State) -> Result<u128, Overflow> {
        let model = Element { bytes: self.model_element, per: 1 };
        let full = Element { bytes: 4, per: 1 };
        let (convolution, matrix) = if self.engine == Engine::LlamaCpp {
            (full, full)
        } else {
            let told = shape.state_precision.filter(|precision| *precision != CachePrecision::Auto);
            let matrix = match (told, state.kind) {
                (Some(precision), _) => element_of(precision),
                (None, StateKind::KimiDelta) => full,
                (None, _) => model,
            };
            (model, matrix)
        };
        let ranks = self.tensor.max(1);
        // vLLM keeps a column more for each guessed token (`mamba_utils`, `conv_kernel - 1 + num_spec`).
        let guessed = if self.engine == Engine::Vllm && state.conv_kernel > 0 { self.guessed } else { 0 };
        let taps = u128::from(state.conv_kernel.saturating_sub(1).saturating_add(guessed));
        let held = u128::from(state.conv_width.div_ceil(ranks)).checked_mul(taps).ok_or(Overflow)?;
        convolution
            .of(held)?
            .checked_add(matrix.of(u128::from(state.matrix.div_ceil(ranks)))?)
            .ok_or(Overflow)
    }

    /// Keys and values of an encoder's output, which every decoder layer keeps beside its own.
    pub(crate) fn cross_attention(&self, shape: &ModelShape, layers: &[&Layer]) -> Result<u128, Overflow> {
        // A text is read as long as it is written, at most; a picture or a recording has a length of its own.
        let tokens = match shape.encoder_tokens {
            None => return Ok(0),
            Some(tokens) if shape.multimodal => tokens,
            Some(tokens) => tokens.max(self.context),
        };
        let mut total: u128 = 0;
        for attention in layers.iter().filter_map(|layer| layer.attention) {
            let held = u128::from(tokens).checked_mul(u128::from(self.sequences)).ok_or(Overflow)?;
            total = total.checked_add(self.tokens(shape, attention.cache, held)?).ok_or(Overflow)?;
        }
        Ok(total)
    }
}

/// The indexer of sparse attention: 8-bit keys and a 32-bit scale per 128 (DeepSeek-V3.2).
fn indexer(dimension: u64) -> u128 {
    u128::from(dimension) + u128::from(dimension.div_ceil(128)) * 4
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
