//! llama.cpp's compute buffer: what its graph allocator reserves for one physical batch.
//!
//! Calibrated on the logs of tests/fixtures/measured/llamacpp.csv (builds 5192 to 8946). The buffer is the larger of two
//! moments: a layer, while the attention mask of every cell is live; and the output head, when the logits of the whole batch
//! are.

use super::activations::Figure;
use super::parallelism::Stage;
use super::{EstimateError, Workload, bytes_of};
use crate::model::ModelShape;
use crate::units::{MIB, Overflow};

/// The compute buffer of one GPU.
pub(super) fn compute_buffer(
    shape: &ModelShape,
    workload: &Workload,
    stage: &Stage,
) -> Result<Figure, EstimateError> {
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
    use super::every_score;

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
