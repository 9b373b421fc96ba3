//! The order of the classes: the one to pick first, and of those that do not fit the one that comes nearest.

use std::cmp::{Ordering, Reverse};

use super::node::passed;
use super::{ClassVerdict, Verdict};
use crate::api::v1alpha1::Strategy;
use crate::inventory::GpuPool;
use crate::units::Bytes;

/// Sorts: fits, busy, unknown, rejected. Those that fit or are busy by memory as the strategy says, then the fewest free
/// GPUs, so that gaps are filled; the others by how many checks they pass, then the largest GPU; at last by name.
pub(super) fn sort(classes: &mut [ClassVerdict], strategy: Strategy) {
    classes.sort_by(|a, b| {
        a.verdict
            .cmp(&b.verdict)
            .then_with(|| match (a.verdict, strategy) {
                (Verdict::Fits | Verdict::Busy, Strategy::SmallestFit) => memory(a).cmp(&memory(b)),
                (Verdict::Fits | Verdict::Busy, Strategy::LargestFit) => memory(b).cmp(&memory(a)),
                (Verdict::Unknown | Verdict::Rejected, _) => nearness(b).cmp(&nearness(a)),
            })
            .then_with(|| free(a, b))
            .then_with(|| a.nodes.cmp(&b.nodes))
    });
}

fn memory(class: &ClassVerdict) -> Option<Bytes> {
    class.pool.as_ref().and_then(GpuPool::usable_memory)
}

fn nearness(class: &ClassVerdict) -> (usize, Option<Bytes>) {
    (passed(class.reason), memory(class))
}

fn free(a: &ClassVerdict, b: &ClassVerdict) -> Ordering {
    let free = |class: &ClassVerdict| class.pool.as_ref().map(|pool| pool.free);
    match a.verdict {
        Verdict::Fits => free(a).cmp(&free(b)),
        // Of busy nodes the one with most free GPUs is ready first.
        _ => Reverse(free(a)).cmp(&Reverse(free(b))),
    }
}
