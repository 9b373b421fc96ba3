//! Memory over context.

use crate::estimate::{Workload, estimate};
use crate::render::json::{CurveDocument, CurvePoint};

use super::fit::Sizing;

/// The shortest context of a curve.
const SHORTEST: u64 = 512;
/// Where the model does not say how long its contexts are.
const LONGEST: u64 = 131_072;
/// Points of a curve, which is straight between most of them: each costs an estimate whenever a slider moves.
const STEPS: u64 = 16;

/// What the model needs at contexts from short to its longest, or to the one that was asked for, in even steps.
pub(crate) fn curve(sizing: &Sizing<'_>) -> CurveDocument {
    let asked = sizing.estimate.workload.context.unwrap_or(SHORTEST);
    let longest = sizing.shape.max_context.unwrap_or(LONGEST).max(asked).max(SHORTEST);
    let mut contexts: Vec<u64> = (1..=STEPS).map(|step| longest / STEPS * step).collect();
    contexts.extend([SHORTEST, longest, asked]);
    contexts.retain(|context| *context > 0);
    contexts.sort_unstable();
    contexts.dedup();
    let point = |context| {
        let workload = Workload { context: Some(context), ..sizing.asked.clone() };
        let estimate = estimate(sizing.shape, &workload).ok()?;
        let required_per_gpu = sizing.margin.apply(estimate.total_per_gpu).ok()?;
        Some(CurvePoint { context, total_per_gpu: estimate.total_per_gpu, required_per_gpu })
    };
    CurveDocument { points: contexts.into_iter().filter_map(point).collect() }
}
