//! `parallelism.tensor: auto`: the numbers of ranks that are tried.

use crate::model::ModelShape;

/// More GPUs than this are in no node that is sold as one.
pub(super) const MOST_GPUS: u64 = 16;

/// Powers of two, as GPUs come; for a model whose heads no power of two divides, the divisors of its heads.
pub(super) fn candidates(shape: &ModelShape) -> impl Iterator<Item = u64> {
    let heads = shape.heads;
    (1..=MOST_GPUS).filter(move |tensor| {
        tensor.is_power_of_two() || (heads > 0 && heads % 2 == 1 && heads.is_multiple_of(*tensor))
    })
}
