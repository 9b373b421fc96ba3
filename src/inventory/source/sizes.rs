//! Sizes that GPUs are made in, to prefer the smallest that fits.

use crate::inventory::{Expression, Term};
use crate::units::Bytes;

/// Sizes that GPUs are made in, in MiB, each the upper bound of a class as the labels report it: 8, 12, 16, 24, 32, 40,
/// 48, 64, 80, 96, 141, 192 and 288 GB. Reported figures differ from the round ones by the driver's share and by ECC,
/// which makes two classes of 24 GB (L4 and A10 below RTX 4090) and of 48 GB (L40S below A6000).
const SIZES: &[u64] = &[
    8192, 12288, 16384, 23040, 24576, 32768, 40960, 46080, 49152, 65536, 81920, 98304, 147_456, 196_608,
    294_912,
];
/// The scheduler adds the weights of all terms that match: the smallest class matches every term. More terms would cost
/// an autoscaler a simulation each.
const WEIGHTS: &[i32] = &[100, 50, 25];

/// Which of the GPUs that are large enough are preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preference {
    /// The smallest that fits.
    Smallest,
    /// The largest there is.
    Largest,
}

/// A preferred term and how much it weighs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preferred {
    /// From 1 to 100.
    pub weight: i32,
    /// What is preferred.
    pub term: Term,
}

/// Terms over a label that says MiB per GPU.
pub(super) fn preferred(label: &str, per_gpu: Bytes, preference: Preference) -> Vec<Preferred> {
    let least = per_gpu.mib_ceil();
    let above: Vec<u64> = SIZES.iter().copied().filter(|size| *size >= least).collect();
    let expressions: Vec<Expression> = match preference {
        // One class too few: that the largest class is no larger says nothing.
        Preference::Smallest => above
            .iter()
            .take(above.len().saturating_sub(1))
            .map(|size| Expression::below(label, size + 1))
            .collect(),
        Preference::Largest => {
            above.iter().rev().skip(1).map(|size| Expression::above(label, *size)).collect()
        }
    };
    expressions
        .into_iter()
        .zip(WEIGHTS)
        .map(|(expression, weight)| Preferred { weight: *weight, term: [expression].into_iter().collect() })
        .collect()
}
