//! What a newcomer should know of what was left out.

use crate::estimate::{Method, Workload, estimate};
use crate::render::hints as words;

use super::fit::Sizing;

/// A model of fewer parameters is none that is served: a size of which the unit was forgotten.
const SMALLEST_MODEL: u64 = 100_000;
/// A context that most requests keep to.
const USUAL_CONTEXT: u64 = 8192;

/// What a newcomer should know of what was left out.
pub(super) fn hints(sizing: &Sizing<'_>) -> Vec<String> {
    let mut hints = Vec::new();
    let parameters = sizing.shape.parameters;
    if parameters < SMALLEST_MODEL && sizing.shape.tensors.is_empty() {
        hints.push(words::so_few_parameters(parameters));
    }
    let own = sizing.estimate;
    let method = sizing.asked.training.as_ref().map(|training| training.method);
    if let (Some(Method::Qlora), Some(asked), Some(held)) =
        (method, sizing.asked.precision, own.workload.precision)
        && asked.is_wide()
    {
        hints.push(words::quantised_base(asked, held));
    }
    let dominates = own.per_gpu.kv_cache.0 >= own.total_per_gpu.0 / 4;
    if sizing.asked.context.is_none()
        && let Some(longest) = own.workload.context.filter(|longest| *longest > USUAL_CONTEXT)
        && dominates
    {
        let usual = Workload { context: Some(USUAL_CONTEXT), ..sizing.asked.clone() };
        let required = estimate(sizing.shape, &usual)
            .ok()
            .and_then(|usual| sizing.margin.apply(usual.total_per_gpu).ok());
        hints.extend(required.map(|required| words::longest_context(longest, USUAL_CONTEXT, required)));
    }
    hints
}
