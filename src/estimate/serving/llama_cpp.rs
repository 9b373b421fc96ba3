//! llama.cpp's compute buffer: what its graph allocator reserves for one physical batch.
//!
//! Until June 2026 the buffer was the larger of two moments: a layer, while the attention mask of every cell is live; and the
//! output head, when the logits of the whole batch are. Calibrated on the logs of tests/fixtures/measured/llamacpp.csv (builds 5192
//! to 8946). Since then the mask of flash attention has 16 bits (ggml-org/llama.cpp#23764) and the server reserves logits for one
//! token of each slot (#23861), so that a layer decides: see [`layer`].

use crate::estimate::figure::Figure;
use crate::estimate::parallelism::Stage;
use crate::estimate::{EngineVersion, EstimateError, Workload, bytes_of, version};
use crate::model::{CacheKind, ModelShape, Span};
use crate::units::{MIB, Overflow};

/// The first build that reserves logits for as many tokens as there are slots.
const FEW_OUTPUTS: u32 = 9450;

/// The compute buffer of one GPU.
pub(crate) fn compute_buffer(
    shape: &ModelShape,
    workload: &Workload,
    stage: &Stage,
) -> Result<Figure, EstimateError> {
    match version::of(shape, workload) {
        EngineVersion::Build(build) if build < FEW_OUTPUTS => before(shape, workload, stage),
        _ => current(shape, workload, stage),
    }
}

/// Widths of a model, in elements.
#[derive(Clone, Copy, Debug, Default)]
struct Widths {
    hidden: u128,
    heads: u128,
    /// Queries of all heads; what attention hands on.
    queries: u128,
    /// Keys and values of all heads.
    keys_and_values: u128,
    /// The hidden layer of the dense MLP, or of the routed experts of a token together.
    inner: u128,
    /// The routed experts' outputs of a token, before they are added up.
    routed: u128,
    /// Latent attention: rank and rotary part.
    latent: Option<(u128, u128)>,
    /// Whether some layers are recurrent, whose attention is not the widest.
    recurrent: bool,
    vocabulary: u128,
    /// Cells of the layers that keep every token, and of those with a window; 0 for none.
    cells: [u128; 2],
}

impl Widths {
    fn of(shape: &ModelShape, workload: &Workload) -> Self {
        let wide = |number: u64| u128::from(number);
        let mut widths = Self {
            hidden: wide(shape.hidden_size),
            heads: wide(shape.heads),
            queries: wide(shape.heads).saturating_mul(wide(shape.head_dim)),
            inner: wide(shape.intermediate_size),
            recurrent: shape.layers.iter().any(|layer| layer.state.is_some()),
            vocabulary: wide(shape.vocabulary),
            ..Self::default()
        };
        if let Some(experts) = shape.experts {
            let per_token = wide(experts.per_token);
            widths.inner = widths.inner.max(per_token.saturating_mul(wide(experts.intermediate_size)));
            widths.routed = per_token.saturating_mul(widths.hidden);
        }
        let pad = |cells: u128| cells.div_ceil(256).saturating_mul(256);
        let context = pad(wide(workload.context.unwrap_or(1)));
        let tokens = wide(workload.batched_tokens.unwrap_or(1));
        let slots = wide(workload.options.slots(workload.engine));
        for attention in shape.layers.iter().filter_map(|layer| layer.attention) {
            match attention.cache {
                CacheKind::Heads { kv_heads, key_dim, value_dim } => {
                    let both = wide(key_dim).saturating_add(wide(value_dim));
                    widths.keys_and_values = widths.keys_and_values.max(wide(kv_heads).saturating_mul(both));
                }
                CacheKind::Latent { rank, rope_dim, .. } => {
                    widths.latent = Some((wide(rank), wide(rope_dim)));
                }
                CacheKind::Compressed { .. } | CacheKind::Shared => {}
            }
            match attention.span {
                Span::Full => widths.cells[0] = context,
                Span::Sliding(window) | Span::Chunked(window) => {
                    let windows = wide(window).saturating_mul(slots).saturating_add(tokens);
                    widths.cells[1] = widths.cells[1].max(context.min(pad(windows)));
                }
            }
        }
        widths
    }

    fn all_cells(&self) -> u128 {
        self.cells.iter().copied().fold(0, u128::saturating_add)
    }
}

/// The buffer of current builds.
fn current(shape: &ModelShape, workload: &Workload, stage: &Stage) -> Result<Figure, EstimateError> {
    let widths = Widths::of(shape, workload);
    let tokens = u128::from(workload.batched_tokens.unwrap_or(1));
    let floats = |elements: u128| {
        elements.checked_mul(tokens).and_then(|elements| elements.checked_mul(4)).ok_or(Overflow)
    };
    // What is handed to a GPU for a batch is held four times where several GPUs work on several batches at once.
    let copies: u128 = if stage.of > 1 { 4 } else { 1 };
    let masks = |bytes: u128| {
        let mask = widths.all_cells().checked_mul(tokens).and_then(|cells| cells.checked_mul(bytes));
        mask.and_then(|mask| mask.checked_mul(copies)).ok_or(Overflow)
    };
    let inputs = floats(widths.hidden.saturating_mul(copies - 1))?;
    let flash = add(&[masks(2)?, floats(layer(&widths))?, inputs])?;
    // Without flash attention the scores of every head, a mask of 32 bits, and what they are made of.
    let scores = floats(widths.heads.saturating_mul(widths.cells[0].max(widths.cells[1])))?;
    let attention = attention(&widths).max(add(&[
        widths.hidden.saturating_mul(3),
        widths.queries.saturating_mul(2),
        widths.keys_and_values,
    ])?);
    let plain = add(&[scores, masks(4)?, floats(attention)?, inputs])?.max(flash);
    // Logits of one token for each slot or sequence, and of those that are guessed.
    let outputs = u128::from(workload.sequences)
        .checked_mul(u128::from(workload.options.slots(workload.engine)))
        .and_then(|rows| rows.checked_mul(u128::from(workload.options.step())))
        .ok_or(Overflow)?
        .min(tokens);
    let head = if stage.last() && !shape.layers.is_empty() {
        let row = widths.vocabulary.saturating_add(widths.hidden.saturating_mul(2));
        outputs.checked_mul(row).and_then(|row| row.checked_mul(4)).ok_or(Overflow)?
    } else {
        0
    };
    let without = workload.options.without_flash_attention;
    let chosen = if without { plain } else { flash };
    let bytes = bytes_of(chosen.max(head).max(u128::from(MIB)))?;
    let formula = if head > chosen {
        format!("{outputs} tokens x {} logits x 4 bytes", widths.vocabulary)
    } else if without {
        format!(
            "{tokens} tokens x {} cells x {} heads x 4 bytes of scores, and a layer",
            widths.cells[0], widths.heads
        )
    } else {
        format!(
            "{tokens} tokens x ({} elements of a layer x 4 bytes + {} cells of attention mask x 2 bytes)",
            layer(&widths),
            widths.all_cells()
        )
    };
    let plain = bytes_of(plain)?;
    let formula =
        if plain > bytes { format!("{formula} ({plain} without flash attention)") } else { formula };
    Ok(Figure { bytes, high: bytes.scaled(5, 4)?.max(plain), formula })
}

/// Elements of a layer that are live at once for each token, of the widest moment.
///
/// Read off what llama.cpp (0c1e570 of October 2026) itself reserves for 24 shapes of twelve architectures: the MLP keeps gate, up and their
/// product, three copies of the residual stream and what attention handed on; a mixture of experts the outputs of a token's experts
/// twice. Within 8 % of each, most to the element.
fn layer(widths: &Widths) -> u128 {
    let streams = widths.hidden.saturating_mul(3);
    let mlp = widths.inner.saturating_mul(3).saturating_add(streams);
    let experts = widths.routed.saturating_mul(2);
    if widths.recurrent {
        // The recurrent layers, which are most, hand on less.
        let experts = if experts > 0 { experts.saturating_add(widths.hidden.saturating_mul(2)) } else { 0 };
        return mlp.max(experts).max(attention(widths));
    }
    let mlp = mlp.saturating_add(widths.queries);
    let experts = if experts > 0 {
        experts.saturating_add(streams).saturating_add(widths.hidden).saturating_add(widths.queries)
    } else {
        0
    };
    mlp.max(experts).max(attention(widths))
}

/// Elements that latent attention keeps for each token: queries, their absorbed form, and the same beside its rotary part.
fn attention(widths: &Widths) -> u128 {
    let Some((rank, rope)) = widths.latent else { return 0 };
    let of_head = rank.saturating_mul(2).saturating_add(rope.saturating_mul(3));
    let heads = widths.heads.saturating_mul(of_head);
    heads.saturating_add(widths.queries).saturating_add(widths.hidden.saturating_mul(4))
}

/// The buffer of builds before June 2026.
fn before(shape: &ModelShape, workload: &Workload, stage: &Stage) -> Result<Figure, EstimateError> {
    let tokens = u128::from(workload.batched_tokens.unwrap_or(1));
    let hidden = u128::from(shape.hidden_size);
    let cells = u128::from(workload.context.unwrap_or(1).div_ceil(256)).checked_mul(256).ok_or(Overflow)?;
    let routed = shape.experts.map_or(0, |experts| {
        u128::from(experts.per_token).saturating_mul(u128::from(experts.intermediate_size))
    });
    let inner = u128::from(shape.intermediate_size).max(routed);
    let floats = |elements: u128| {
        elements.checked_mul(tokens).and_then(|elements| elements.checked_mul(4)).ok_or(Overflow)
    };
    // The mask as it is handed over (32 bits) and as the kernel reads it (16 bits).
    let mask = cells.checked_mul(tokens).and_then(|mask| mask.checked_mul(6)).ok_or(Overflow)?;
    let wide = floats(inner.checked_mul(2).ok_or(Overflow)?)?;
    let stream = floats(hidden)?;
    // Several GPUs work on several batches at once: four copies of every input.
    let copies = if stage.of > 1 { mask.checked_mul(2).ok_or(Overflow)? } else { 0 };
    let streams = stream.checked_mul(4).ok_or(Overflow)?;
    let layer = if workload.options.without_flash_attention {
        every_score(u128::from(shape.heads), cells, tokens, stream)?.checked_add(copies).ok_or(Overflow)?
    } else {
        add(&[mask, copies, streams])?.max(add(&[wide, stream])?)
    };
    let head = if stage.last() {
        // Freed memory is reused as well as its pieces allow: about half of what a layer needs lies in the way.
        let in_the_way = (mask / 2).min(wide);
        add(&[floats(u128::from(shape.vocabulary))?, stream, in_the_way, copies / 2])?
    } else {
        0
    };
    let formula = if head > layer {
        format!("{tokens} tokens x {} logits x 4 bytes, and what lies in the way", shape.vocabulary)
    } else if workload.options.without_flash_attention {
        format!("{tokens} tokens x {cells} cells x {} heads x 4 bytes of scores, and a layer", shape.heads)
    } else {
        format!("{tokens} tokens x {cells} cells of attention mask x 6 bytes, and a layer")
    };
    let bytes = bytes_of(layer.max(head).max(u128::from(MIB)))?;
    let plain = bytes_of(every_score(u128::from(shape.heads), cells, tokens, stream)?)?;
    let high = bytes.scaled(5, 4)?.max(plain);
    let formula =
        if plain > bytes { format!("{formula} ({plain} without flash attention)") } else { formula };
    Ok(Figure { bytes, high, formula })
}

/// The buffer without flash attention, which keeps the score of every head for every cell, the mask at 32 bits, and four copies of the
/// residual stream. Eight logs of Llama, Mistral and Phi-3 have that to the MiB, or up to 4 % more
/// (tests/fixtures/measured/llamacpp.csv and holdout-llamacpp.csv).
fn every_score(heads: u128, cells: u128, tokens: u128, stream: u128) -> Result<u128, Overflow> {
    let mask = cells.checked_mul(tokens).and_then(|scores| scores.checked_mul(4)).ok_or(Overflow)?;
    let scores = mask.checked_mul(heads).ok_or(Overflow)?;
    add(&[scores, mask, stream.checked_mul(4).ok_or(Overflow)?])
}

fn add(parts: &[u128]) -> Result<u128, Overflow> {
    parts.iter().try_fold(0_u128, |sum, part| sum.checked_add(*part)).ok_or(Overflow)
}

#[cfg(test)]
mod tests {
    use super::{every_score, layer};
    use crate::estimate::serving::llama_cpp::Widths;

    /// Elements for each token that llama.cpp of October 2026 reserves beside the mask, with flash attention.
    #[test]
    fn a_layer_is_what_llama_cpp_reserves() {
        let dense = |hidden, queries, inner| Widths { hidden, queries, inner, ..Widths::default() };
        let mixture = |hidden, queries, inner, per_token| Widths {
            routed: per_token * hidden,
            ..dense(hidden, queries, inner)
        };
        let latent = Widths { heads: 128, latent: Some((512, 64)), ..mixture(7168, 128 * 192, 18_432, 8) };
        for (name, widths, reserved) in [
            ("Llama-3.1-8B", dense(4096, 4096, 14_336), 59_392),
            ("Llama-3.2-1B", dense(2048, 2048, 8192), 32_768),
            ("Llama-3.1-70B", dense(8192, 8192, 28_672), 118_784),
            ("Mistral-Nemo", dense(5120, 4096, 14_336), 62_464),
            ("Qwen2.5-7B", dense(3584, 3584, 18_944), 71_168),
            ("Qwen3-8B", dense(4096, 4096, 12_288), 53_248),
            ("Qwen3-32B", dense(5120, 8192, 25_600), 100_352),
            ("Qwen3-0.6B", dense(1024, 2048, 3072), 13_312),
            ("Gemma-3-12B", dense(3840, 4096, 15_360), 61_696),
            ("Gemma-3-27B", dense(5376, 4096, 21_504), 84_736),
            ("Gemma-2-9B", dense(3584, 4096, 14_336), 57_856),
            ("Phi-4", dense(5120, 5120, 17_920), 74_240),
            ("Mixtral-8x7B", mixture(4096, 4096, 2 * 14_336, 2), 102_400),
            ("Qwen3-30B-A3B", mixture(2048, 4096, 8 * 768, 8), 45_056),
            ("Qwen3-235B-A22B", mixture(4096, 8192, 8 * 1536, 8), 90_112),
            ("gpt-oss-20b", mixture(2880, 4096, 4 * 2880, 4), 47_304),
            ("Qwen3.5-27B", Widths { recurrent: true, ..dense(5120, 6144, 17_408) }, 67_584),
            ("Qwen3.5-9B", Widths { recurrent: true, ..dense(4096, 4096, 12_288) }, 49_152),
            ("Qwen3.5-35B-A3B", Widths { recurrent: true, ..mixture(2048, 4096, 8 * 512, 8) }, 36_864),
            ("DeepSeek-V3", latent, 208_896),
        ] {
            let counted = layer(&widths);
            assert!(counted.abs_diff(reserved) * 100 <= reserved * 8, "{name}: {counted} of {reserved}");
        }
    }

    #[test]
    fn without_flash_attention_every_score_is_kept() {
        // Heads, hidden size, cells, tokens of a batch, and the MiB that were logged.
        for (heads, hidden, cells, tokens, logged) in [
            (32, 4096, 8192, 512, 560),
            (32, 4096, 131_072, 512, 8480),
            (32, 4096, 4096, 512, 296),
            (32, 4096, 2048, 512, 164),
            (32, 2048, 4096, 512, 280),
            (32, 3072, 4096, 512, 288),
            (32, 3072, 4096, 256, 150),
            (64, 8192, 4096, 512, 588),
        ] {
            let bytes = every_score(heads, cells, tokens, hidden * tokens * 4).expect("small");
            let counted = bytes.div_ceil(1 << 20);
            assert!(counted <= logged && counted * 105 >= logged * 100, "{counted} of {logged}");
        }
    }
}
