//! What a forward pass needs besides weights and caches.

use super::parallelism::Stage;
use super::{EstimateError, Workload, bytes_of};
use crate::model::ModelShape;
use crate::precision::Engine;
use crate::units::{Bytes, Overflow};

/// A figure and its arithmetic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Figure {
    pub bytes: Bytes,
    pub formula: String,
}

/// The peak of a forward pass on one GPU of a stage.
///
/// # Errors
/// An overflow.
pub(super) fn stage(
    shape: &ModelShape,
    workload: &Workload,
    element: u64,
    tensor: u64,
    stage: &Stage,
) -> Result<Figure, EstimateError> {
    let tokens = u128::from(workload.batched_tokens.unwrap_or(1));
    let element = u128::from(element);
    let hidden = u128::from(shape.hidden_size);
    let inner = u128::from(shape.intermediate_size.div_ceil(tensor.max(1)));
    let per_token = [hidden.checked_mul(2), inner.checked_mul(3)]
        .into_iter()
        .try_fold(0_u128, |sum, part| part.and_then(|part| sum.checked_add(part)))
        .and_then(|elements| elements.checked_mul(element))
        .ok_or(Overflow)?;
    let prefill = per_token.checked_mul(tokens).ok_or(Overflow)?;
    let logits_rows = match workload.engine {
        Engine::LlamaCpp => tokens,
        _ => u128::from(workload.sequences),
    };
    let sampler = if stage.last() {
        logits_rows
            .checked_mul(u128::from(shape.vocabulary))
            .and_then(|logits| logits.checked_mul(14))
            .ok_or(Overflow)?
    } else {
        0
    };
    Ok(Figure {
        bytes: bytes_of(prefill.max(sampler))?,
        formula: format!("{tokens} tokens x {per_token} bytes"),
    })
}
