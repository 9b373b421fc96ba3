//! The questions turned round: what is the most that fits so much memory?
//!
//! Each is a search over the estimate itself, which grows with what is searched: what is answered here fits there too.

use super::divisibility::divides;
use super::{EstimateError, Sharding, Training, Workload, estimate};
use crate::model::ModelShape;
use crate::units::{Bytes, Margin};

/// The ways to share a training run among GPUs, from the one that divides least to the one that divides most.
const LIGHTEST_FIRST: [Sharding; 4] = [Sharding::Ddp, Sharding::Zero1, Sharding::Zero2, Sharding::Zero3];

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
            .is_some_and(|required| self.holds(required))
    }

    /// Whether it has what is required, the margin included.
    #[must_use]
    pub fn holds(self, required: Bytes) -> bool {
        required <= self.per_gpu
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
        let fewest = workload.fewest_tensor();
        estimate(shape, &Workload { tensor: fewest, ..workload.clone() })?;
        Ok((fewest..=limit)
            .filter(|&tensor| divides(shape, workload, tensor))
            .find(|&tensor| self.fits(shape, &Workload { tensor, ..workload.clone() })))
    }

    /// The fewest GPUs, of 1, 2, 4 and so on up to `limit`, that a training run fits on when they share all of its state
    /// (ZeRO stage 3); on one GPU there is nothing to share. `None` if it is no training run.
    #[must_use]
    pub fn fewest_training_gpus(self, shape: &ModelShape, workload: &Workload, limit: u64) -> Option<u64> {
        powers_of_two(limit).find(|&gpus| {
            shared(workload, gpus, Sharding::Zero3).is_some_and(|workload| self.fits(shape, &workload))
        })
    }

    /// The sharding that divides least and fits on the GPUs that a training run has.
    #[must_use]
    pub fn lightest_sharding(self, shape: &ModelShape, workload: &Workload) -> Option<Sharding> {
        let gpus = workload.training.as_ref().map(|training| training.gpus).filter(|&gpus| gpus > 1)?;
        LIGHTEST_FIRST.into_iter().find(|&sharding| {
            shared(workload, gpus, sharding).is_some_and(|workload| self.fits(shape, &workload))
        })
    }
}

/// The largest margin that an estimate leaves room for on a GPU; `None` where even the estimate itself has none.
#[must_use]
pub fn largest_margin(per_gpu: Bytes, estimate: Bytes) -> Option<Margin> {
    const MOST: u128 = 10_000;
    // A requirement is rounded up, and so is within the memory just where the product is.
    let thousandths = (u128::from(per_gpu.0) * 1000 / u128::from(estimate.0.max(1))).min(MOST);
    Margin::from_thousandths(u32::try_from(thousandths).ok()?)
}

/// 1, 2, 4 and so on, up to a limit.
fn powers_of_two(limit: u64) -> impl Iterator<Item = u64> {
    std::iter::successors(Some(1_u64), |number| number.checked_mul(2))
        .take_while(move |number| *number <= limit)
}

/// A training run on so many GPUs. On one there is nothing to share: it is as it was asked for, without sharding.
#[must_use]
pub fn shared(workload: &Workload, gpus: u64, sharding: Sharding) -> Option<Workload> {
    let training = workload.training.as_ref()?;
    let sharding = if gpus == 1 { Sharding::None } else { sharding };
    let training = Training { sharding, gpus, ..training.clone() };
    Some(Workload { training: Some(training), ..workload.clone() })
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
    use crate::estimate::{AttentionKernel, Checkpointing, Method, Optimizer};
    use crate::precision::Precision;
    use crate::units::{GIB, MIB};
    use proptest::prelude::*;

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
    fn more_ranks_are_found() {
        let shape = sized(70_000_000_000);
        assert_eq!(room(81_920).fewest_ranks(&shape, &bf16(), 8), Ok(Some(4)));
        assert_eq!(room(15_360).fewest_ranks(&shape, &bf16(), 8), Ok(None));
        let small = sized(8_000_000_000);
        let three = Workload { tensor: 3, sequences: 0, ..bf16() };
        assert!(room(GIB).fewest_ranks(&small, &three, 8).is_err());
    }

    fn training(method: Method, gpus: u64) -> Workload {
        let training = Training {
            method,
            optimizer: Optimizer::Adamw,
            lora_rank: 16,
            lora_targets: Vec::new(),
            gradient_checkpointing: Checkpointing::Full,
            attention: AttentionKernel::Sdpa,
            sharding: Sharding::None,
            gpus,
            offload: Vec::new(),
        };
        Workload { context: Some(2048), training: Some(training), ..bf16() }
    }

    #[test]
    fn a_training_run_is_turned_round_too() {
        let shape = sized(8_000_000_000);
        let qlora = training(Method::Qlora, 1);
        let room_of_24 = room(24_564);
        let length = room_of_24.longest_context(&shape, &qlora, 1_000_000).expect("some length");
        let at = |context| Workload { context: Some(context), ..qlora.clone() };
        assert!(
            room_of_24.fits(&shape, &at(length)) && !room_of_24.fits(&shape, &at(length + 1)),
            "{length}"
        );
        let batch = room_of_24.most_sequences(&shape, &qlora, 1000).expect("some batch");
        let at = |sequences| Workload { sequences, ..qlora.clone() };
        assert!(room_of_24.fits(&shape, &at(batch)) && !room_of_24.fits(&shape, &at(batch + 1)), "{batch}");

        let full = training(Method::Full, 1);
        let gpus = room(40_960).fewest_training_gpus(&shape, &full, 64).expect("some GPUs");
        assert!(gpus > 1);
        let on = |gpus| shared(&full, gpus, Sharding::Zero3).expect("a training run");
        assert!(room(40_960).fits(&shape, &on(gpus)) && !room(40_960).fits(&shape, &on(gpus / 2)), "{gpus}");
        assert_eq!(room(4096).fewest_training_gpus(&shape, &full, 64), None);
        assert_eq!(room(40_960).fewest_training_gpus(&shape, &bf16(), 64), None);
    }

    #[test]
    fn the_sharding_is_no_heavier_than_it_must_be() {
        let shape = sized(8_000_000_000);
        let eight = training(Method::Full, 8);
        let mut found = Vec::new();
        for mib in [20_480, 40_960, 65_536, 81_920, 143_771] {
            let sharding = room(mib).lightest_sharding(&shape, &eight);
            for &lighter in LIGHTEST_FIRST.iter().take_while(|&&one| Some(one) != sharding) {
                let workload = shared(&eight, 8, lighter).expect("a training run");
                assert!(!room(mib).fits(&shape, &workload), "{mib} MiB: {lighter}");
            }
            found.push(sharding);
        }
        assert_eq!(found.first(), Some(&None));
        assert_eq!(found.last(), Some(&Some(Sharding::Ddp)));
        assert!(found.contains(&Some(Sharding::Zero3)), "{found:?}");
        assert_eq!(room(81_920).lightest_sharding(&shape, &training(Method::Full, 1)), None);
    }

    /// A workload of any kind: served or trained, on one GPU or several.
    fn workloads() -> impl Strategy<Value = Workload> {
        let served =
            (0_u32..4, 1_u64..32, 1_u64..20_000, prop::sample::select(vec![None, Some(Precision::Int4)]))
                .prop_map(|(power, sequences, context, precision)| Workload {
                    precision: precision.or(Some(Precision::Bf16)),
                    context: Some(context),
                    sequences,
                    tensor: 1 << power,
                    ..workload()
                });
        let trained = (prop::sample::select(Method::ALL.to_vec()), 0_u32..5, 1_u64..8, 16_u64..8192)
            .prop_map(|(method, power, sequences, context)| Workload {
                context: Some(context),
                sequences,
                precision: None,
                ..training(method, 1 << power)
            });
        prop_oneof![served, trained]
    }

    proptest! {
        #![proptest_config(ProptestConfig::default())]

        #[test]
        fn the_largest_margin_fits_and_a_thousandth_more_does_not(memory in 1_u64..(1 << 50), estimate in 1_u64..(1 << 50)) {
            let fits = |margin: Margin| margin.apply(Bytes(estimate)).is_ok_and(|required| required.0 <= memory);
            let thousandths = |more: u64| u32::try_from(999 + more).ok().and_then(Margin::from_thousandths);
            let largest = most(9001, |more| thousandths(more).is_some_and(fits)).and_then(thousandths);
            prop_assert_eq!(largest_margin(Bytes(memory), Bytes(estimate)), largest);
        }

        #[test]
        fn every_answer_fits_and_the_next_does_not(
            parameters in 100_000_000_u64..200_000_000_000,
            mib in 4096_u64..300_000,
            workload in workloads(),
        ) {
            let shape = sized(parameters);
            let room = room(mib);
            let longest = 131_072;
            let at = |context| Workload { context: Some(context), ..workload.clone() };
            match room.longest_context(&shape, &workload, longest) {
                Some(context) => {
                    prop_assert!(room.fits(&shape, &at(context)));
                    prop_assert!(context == longest || !room.fits(&shape, &at(context + 1)), "{context}");
                }
                None => prop_assert!(!room.fits(&shape, &at(1))),
            }
            let at = |sequences| Workload { sequences, ..workload.clone() };
            match room.most_sequences(&shape, &workload, 1024) {
                Some(sequences) => {
                    prop_assert!(room.fits(&shape, &at(sequences)));
                    prop_assert!(sequences == 1024 || !room.fits(&shape, &at(sequences + 1)), "{sequences}");
                }
                None => prop_assert!(!room.fits(&shape, &at(1))),
            }
            if workload.training.is_some() {
                let on = |gpus| shared(&workload, gpus, Sharding::Zero3).expect("a training run");
                if let Some(gpus) = room.fewest_training_gpus(&shape, &workload, 64) {
                    prop_assert!(room.fits(&shape, &on(gpus)));
                    prop_assert!(gpus == 1 || !room.fits(&shape, &on(gpus / 2)), "{gpus}");
                }
            } else if let Ok(Some(tensor)) = room.fewest_ranks(&shape, &workload, 16) {
                let on = |tensor| Workload { tensor, ..workload.clone() };
                prop_assert!(room.fits(&shape, &on(tensor)));
                prop_assert!((1..tensor).all(|fewer| !room.fits(&shape, &on(fewer))), "{tensor}");
            }
        }
    }
}
