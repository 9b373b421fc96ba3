//! The questions turned round: what is the most that fits so much memory?
//!
//! Each is a search over the estimate itself, which grows with what is searched: what is answered here fits there too.

use super::divisibility::divides;
use super::{EstimateError, Workload, estimate};
use crate::model::ModelShape;
use crate::precision::Precision;
use crate::units::{Bytes, Margin};

/// The precisions that are offered in place of a larger one, from the most bits to the fewest: those that engines quantise
/// to at load, or that most models are published in.
pub const OFFERED: [Precision; 5] =
    [Precision::Fp32, Precision::Bf16, Precision::Fp8, Precision::Int8, Precision::Int4];

/// The memory that is there, and the margin to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Memory of each GPU.
    pub per_gpu: Bytes,
    /// The factor by which it must exceed the estimate.
    pub margin: Margin,
}

impl Room {
    /// Whether a workload fits. One that is impossible, or larger than any memory, does not.
    #[must_use]
    pub fn fits(self, shape: &ModelShape, workload: &Workload) -> bool {
        estimate(shape, workload)
            .ok()
            .and_then(|estimate| self.margin.apply(estimate.total_per_gpu).ok())
            .is_some_and(|required| required <= self.per_gpu)
    }

    /// The longest context that fits, up to `longest` tokens; `None` if not even one token does.
    #[must_use]
    pub fn longest_context(self, shape: &ModelShape, workload: &Workload, longest: u64) -> Option<u64> {
        most(longest, |context| self.fits(shape, &Workload { context: Some(context), ..workload.clone() }))
    }

    /// The most sequences that fit at once, up to `limit`; `None` if not even one does.
    #[must_use]
    pub fn most_sequences(self, shape: &ModelShape, workload: &Workload, limit: u64) -> Option<u64> {
        most(limit, |sequences| self.fits(shape, &Workload { sequences, ..workload.clone() }))
    }

    /// The fewest tensor-parallel ranks that fit, up to `limit`: those that the model can be shared among are tried in turn.
    ///
    /// # Errors
    /// What is wrong with the workload whatever its parallelism.
    pub fn fewest_ranks(
        self,
        shape: &ModelShape,
        workload: &Workload,
        limit: u64,
    ) -> Result<Option<u64>, EstimateError> {
        estimate(shape, &Workload { tensor: 1, ..workload.clone() })?;
        Ok((1..=limit)
            .filter(|&tensor| divides(shape, workload, tensor))
            .find(|&tensor| self.fits(shape, &Workload { tensor, ..workload.clone() })))
    }

    /// The precision of most bits that fits and has fewer than the workload's own.
    #[must_use]
    pub fn finest_precision(self, shape: &ModelShape, workload: &Workload) -> Option<Precision> {
        let own = estimate(shape, workload).ok()?;
        OFFERED.into_iter().find(|&precision| {
            let coarser = Workload { precision: Some(precision), ..workload.clone() };
            estimate(shape, &coarser)
                .is_ok_and(|estimate| estimate.components.weights < own.components.weights)
                && self.fits(shape, &coarser)
        })
    }
}

/// The largest number from 1 to `limit` for which `fits` holds, given that it holds for every smaller one.
fn most(limit: u64, fits: impl Fn(u64) -> bool) -> Option<u64> {
    if limit == 0 || !fits(1) {
        return None;
    }
    let (mut fitting, mut beyond) = (1, limit.saturating_add(1));
    while beyond - fitting > 1 {
        let middle = fitting + (beyond - fitting) / 2;
        if fits(middle) { fitting = middle } else { beyond = middle }
    }
    Some(fitting)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimate::tests::{sized, workload};
    use crate::units::{GIB, MIB};

    fn room(mib: u64) -> Room {
        Room { per_gpu: Bytes(mib * MIB), margin: Margin::DEFAULT }
    }

    fn bf16() -> Workload {
        Workload { precision: Some(Precision::Bf16), ..workload() }
    }

    #[test]
    fn what_is_answered_fits_and_one_more_does_not() {
        let shape = sized(8_000_000_000);
        for mib in [22_528, 23_034, 24_564, 40_960, 81_920] {
            let room = room(mib);
            let context = room.longest_context(&shape, &bf16(), 10_000_000).expect("some context");
            let at = |context| Workload { context: Some(context), ..bf16() };
            assert!(room.fits(&shape, &at(context)), "{mib} MiB, {context} tokens");
            assert!(!room.fits(&shape, &at(context + 1)), "{mib} MiB, {context} tokens");
            let sequences = room.most_sequences(&shape, &bf16(), 1000).expect("one sequence");
            let at = |sequences| Workload { sequences, ..bf16() };
            assert!(room.fits(&shape, &at(sequences)), "{mib} MiB, {sequences} sequences");
            assert!(!room.fits(&shape, &at(sequences + 1)), "{mib} MiB, {sequences} sequences");
        }
    }

    #[test]
    fn limits_hold() {
        let shape = sized(8_000_000_000);
        let huge = Room { per_gpu: Bytes(u64::MAX), margin: Margin::DEFAULT };
        assert_eq!(huge.longest_context(&shape, &bf16(), 131_072), Some(131_072));
        assert_eq!(huge.most_sequences(&shape, &bf16(), 0), None);
        assert_eq!(room(1024).longest_context(&shape, &bf16(), 131_072), None);
    }

    #[test]
    fn more_ranks_or_fewer_bits_are_found() {
        let shape = sized(70_000_000_000);
        assert_eq!(room(81_920).fewest_ranks(&shape, &bf16(), 8), Ok(Some(4)));
        assert_eq!(room(15_360).fewest_ranks(&shape, &bf16(), 8), Ok(None));
        let small = sized(8_000_000_000);
        assert_eq!(room(15_360).finest_precision(&small, &bf16()), Some(Precision::Fp8));
        assert_eq!(room(8188).finest_precision(&small, &bf16()), Some(Precision::Int4));
        assert_eq!(room(2048).finest_precision(&small, &bf16()), None);
        let three = Workload { tensor: 3, sequences: 0, ..bf16() };
        assert!(room(GIB).fewest_ranks(&small, &three, 8).is_err());
    }
}
