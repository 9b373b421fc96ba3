//! The order of the classes: the one to pick first, and of those that do not fit the one that comes nearest.

use std::cmp::Reverse;

use super::{ClassVerdict, Verdict};
use crate::api::v1alpha1::Strategy;
use crate::inventory::GpuPool;
use crate::units::Bytes;

/// Sorts: fits, busy, unknown, rejected. Those that fit or are busy by memory as the strategy says, then the fewest free
/// GPUs, so that gaps are filled; the others by how many checks they pass, then the largest GPU; at last by name.
pub(super) fn sort(classes: &mut [ClassVerdict], strategy: Strategy) {
    // No two classes have a node in common, so the first name tells them apart.
    classes.sort_by_cached_key(|class| (rank(class, strategy), class.nodes.shared_first()));
}

/// What goes before the name.
type Rank = (Verdict, Wanted, Gap);

/// The memory: least first, or most first after what passes most checks.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Wanted {
    Least(Option<Bytes>),
    Most(Reverse<(usize, Option<Bytes>)>),
}

/// The free GPUs: fewest first, or most first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Gap {
    Fewest(Option<u64>),
    Most(Reverse<Option<u64>>),
}

fn rank(class: &ClassVerdict, strategy: Strategy) -> Rank {
    let pool = class.pool.as_deref();
    let (memory, free) = (pool.and_then(GpuPool::usable_memory), pool.map(|pool| pool.free));
    let verdict = class.verdict();
    let wanted = match (verdict, strategy) {
        (Verdict::Fits | Verdict::Busy, Strategy::SmallestFit) => Wanted::Least(memory),
        (Verdict::Fits | Verdict::Busy, Strategy::LargestFit) => Wanted::Most(Reverse((0, memory))),
        (Verdict::Unknown | Verdict::Rejected, _) => Wanted::Most(Reverse((class.finding.passed(), memory))),
    };
    let gap = match verdict {
        Verdict::Fits => Gap::Fewest(free),
        // Of busy nodes the one with most free GPUs is ready first.
        _ => Gap::Most(Reverse(free)),
    };
    (verdict, wanted, gap)
}
