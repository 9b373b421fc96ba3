//! What a forward pass needs besides weights and caches: the widest layer's transients, the logits, and the sampler's copies.

use crate::estimate::figure::Figure;
use crate::estimate::parallelism::Stage;
use crate::estimate::run::Run;
use crate::estimate::{EstimateError, bytes_of};
use crate::model::{ModelShape, Role};
use crate::precision::Engine;
use crate::units::{MIB, Overflow};

/// Widths of the transients, in elements.
struct Widths {
    hidden: u128,
    /// The hidden layer of the widest MLP, on one rank.
    inner: u128,
    /// Queries of the widest attention layer, on one rank.
    queries: u128,
    /// Bytes of an element.
    element: u128,
}

/// The peak of a forward pass on one GPU of a stage.
///
/// # Errors
/// An overflow.
pub(crate) fn stage(run: &Run<'_>, stage: &Stage) -> Result<Figure, EstimateError> {
    let Run { shape, workload, profile, layout, .. } = *run;
    let ranks = layout.ranks.dense.max(1);
    let queries = u128::from(shape.heads) * u128::from(shape.head_dim);
    let widths = Widths {
        hidden: u128::from(shape.hidden_size),
        inner: u128::from(shape.intermediate_size.div_ceil(ranks)),
        queries: queries.div_ceil(u128::from(layout.tensor.max(1))),
        element: u128::from(run.loading.element_bytes()),
    };
    let tokens = u128::from(workload.batched_tokens.unwrap_or(1));
    if workload.engine == Engine::LlamaCpp {
        return super::llama_cpp::compute_buffer(shape, workload, stage);
    }
    let layer = widest_layer(&widths, tokens)?;
    let streams = if stage.of > 1 {
        // What one stage hands to the next: hidden states and residuals.
        product(&[tokens, 2, widths.hidden, widths.element])?
    } else {
        0
    };
    // A rank that holds whole experts works on their whole width.
    let expert_ranks = if workload.options.expert_parallel { 1 } else { layout.ranks.experts.max(1) };
    // The tokens of every group meet where all share the experts.
    let routed = tokens.checked_mul(u128::from(layout.ranks.gathered())).ok_or(Overflow)?;
    let experts = expert_workspace(shape, &widths, routed, expert_ranks)?;
    let (tower, encoded) = if shape.multimodal && stage.first() {
        // The cache of encoded images and sounds: as many tokens as a pass has.
        (encoder_pass(shape, &widths, tokens, ranks)?, product(&[tokens, widths.hidden, widths.element])?)
    } else {
        (0, 0)
    };
    // Guessed tokens are verified together with the next one: a row of logits each.
    let rows =
        u128::from(workload.running()).checked_mul(u128::from(workload.options.step())).ok_or(Overflow)?;
    let vocabulary = u128::from(shape.vocabulary);
    let sampler = if stage.last() {
        // The pass that sizes the pool samples for every sequence while the hidden states of its tokens are still there.
        let logits = product(&[rows, vocabulary, u128::from(profile.sampler_bytes)])?;
        let states = product(&[tokens, 2, widths.hidden, widths.element])?;
        logits.checked_add(states).ok_or(Overflow)?
    } else {
        0
    };
    let peak = [layer.max(sampler).max(tower), streams, experts, encoded, u128::from(32 * MIB)]
        .into_iter()
        .try_fold(0_u128, u128::checked_add)
        .ok_or(Overflow)?;
    let mut formula = if tower > layer.max(sampler) {
        format!("{tokens} tokens of images through the encoder, {} bytes each", tower / tokens.max(1))
    } else if layer >= sampler {
        format!("{tokens} tokens x {} bytes in the widest layer", layer / tokens.max(1))
    } else {
        let guessed = match workload.options.step() {
            1 => String::new(),
            step => format!(" x {step} guessed and next tokens"),
        };
        format!(
            "{} sequences{guessed} x {vocabulary} tokens of vocabulary x {} bytes to sample",
            workload.running(),
            profile.sampler_bytes
        )
    };
    if experts > 0 {
        formula = format!("{formula}, and the experts' workspace of {}", bytes_of(experts)?);
    }
    // Up to its version 0.11 vLLM's sampler took 38 bytes where it now takes 14; other kernels differ by about half.
    let older = product(&[rows, vocabulary, 24])?;
    let high = peak.checked_mul(3).ok_or(Overflow)?.div_ceil(2).checked_add(older).ok_or(Overflow)?;
    Ok(Figure { bytes: bytes_of(peak)?, high: bytes_of(high)?, formula })
}

/// The widest layer of a vision or audio tower over as many tokens as a pass has, four patches to a token.
fn encoder_pass(shape: &ModelShape, widths: &Widths, tokens: u128, ranks: u64) -> Result<u128, Overflow> {
    let (inner, hidden) = tower_widths(shape);
    let inner = u128::from(inner.div_ceil(ranks)).checked_mul(3).ok_or(Overflow)?;
    let width =
        u128::from(hidden).checked_mul(4).and_then(|hidden| hidden.checked_add(inner)).ok_or(Overflow)?;
    product(&[tokens, 4, width, widths.element])
}

/// No layer of a tower is wider: what is, is a table of positions, or a tower that is counted as a whole.
const WIDEST_OF_TOWER: u64 = 32_768;

/// The widest matrix of a tower: its longer side and its shorter one. Of a tower that is counted as a whole, the widths are not
/// known: they are taken for the model's own, with a hidden layer four times as wide.
fn tower_widths(shape: &ModelShape) -> (u64, u64) {
    let towers = || shape.tensors.iter().filter(|tensor| tensor.role == Role::Vision);
    let matrices = towers().map(|tensor| (tensor.rows.max(tensor.columns), tensor.rows.min(tensor.columns)));
    let layers = matrices.filter(|&(inner, hidden)| hidden > 1 && inner <= WIDEST_OF_TOWER);
    let of_own_width = || towers().next().map(|_| (shape.hidden_size.saturating_mul(4), shape.hidden_size));
    layers.max_by_key(|&(inner, hidden)| inner.saturating_add(hidden)).or_else(of_own_width).unwrap_or((0, 0))
}

/// The transients of the widest layer: gate and up projection, their product, and the residual stream in and out; or
/// queries, keys, values and the output of attention, where that is more.
fn widest_layer(widths: &Widths, tokens: u128) -> Result<u128, Overflow> {
    let inner = widths.inner.checked_mul(3).ok_or(Overflow)?;
    let attention = widths.queries.checked_mul(4).ok_or(Overflow)?;
    let stream = widths.hidden.checked_mul(4).ok_or(Overflow)?;
    let width = inner.max(attention).checked_add(stream).ok_or(Overflow)?;
    product(&[tokens, width, widths.element])
}

/// The workspace of fused expert kernels, which stays allocated: two buffers of the tokens as routed, and one as they
/// came (vLLM 0.11 to 0.33).
fn expert_workspace(shape: &ModelShape, widths: &Widths, tokens: u128, ranks: u64) -> Result<u128, Overflow> {
    let Some(experts) = shape.experts else { return Ok(0) };
    let inner = u128::from(experts.intermediate_size.div_ceil(ranks));
    let gate_and_up = inner.checked_mul(2).ok_or(Overflow)?;
    let routed = inner.max(widths.hidden).checked_add(gate_and_up.max(widths.hidden)).ok_or(Overflow)?;
    product(&[tokens, u128::from(experts.per_token), routed, widths.element])?
        .checked_add(product(&[tokens, widths.hidden, widths.element])?)
        .ok_or(Overflow)
}

fn product(factors: &[u128]) -> Result<u128, Overflow> {
    factors.iter().try_fold(1_u128, |product, factor| product.checked_mul(*factor)).ok_or(Overflow)
}

#[cfg(test)]
mod tests {
    use crate::estimate::tests::workload;
    use crate::estimate::{Workload, estimate};
    use crate::model::catalog;

    /// A table of positions and a tower that is counted as a whole are no layers: their sides are millions of elements.
    #[test]
    fn no_tower_takes_more_than_its_layers() {
        let mut towers = 0;
        for name in catalog::names() {
            let shape = catalog::shape(name).expect("a shape");
            if !shape.multimodal {
                continue;
            }
            towers += 1;
            let one = Workload { precision: None, context: Some(4096), ..workload() };
            let needed = estimate(&shape, &one).expect("an estimate").components;
            assert!(needed.activations.0 < 8 << 30, "{name}: {}", needed.activations);
        }
        assert!(towers > 10, "only {towers} models have towers");
    }
}
