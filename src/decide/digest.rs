//! What wakes an object: a digest of what can be seen of its decision, instead of a copy of it.

use std::hash::{Hash, Hasher};

use super::{ClassVerdict, Decision, Reason, Verdict};

/// Stands for all that can be seen of a decision: two that differ in it differ in a number, a node or a reason that a status
/// shows, or in what is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(u64);

impl Decision {
    /// The digest, for so many replicas: how much room there is beyond them is shown nowhere.
    #[must_use]
    pub fn digest(&self, replicas: u64) -> Digest {
        let mut hasher = Fnv::default();
        self.finding.hash(&mut hasher);
        self.requirement.hash(&mut hasher);
        self.slots.min(replicas).hash(&mut hasher);
        self.suggestions.hash(&mut hasher);
        self.resource().hash(&mut hasher);
        let mut counts = [0_u64; Reason::ALL.len()];
        for class in &self.classes {
            if let Some(count) = counts.get_mut(class.reason() as usize) {
                *count = count.saturating_add(class.count());
            }
        }
        counts.hash(&mut hasher);
        if self.verdict() != Verdict::Fits {
            self.sums(&mut hasher);
        }
        for (class, name) in self.shown() {
            name.hash(&mut hasher);
            seen(class, &mut hasher);
        }
        Digest(hasher.finish())
    }

    /// What a message sums up of classes that are not listed: what is free of the kinds that are busy, and on how many nodes
    /// each kind is that is too small.
    fn sums(&self, hasher: &mut Fnv) {
        let mut last = None;
        let mut sums = (0_u64, 0_u64, 0_u64);
        for class in &self.classes {
            let is_busy = matches!(class.reason(), Reason::GpusBusy | Reason::PromisedToAnother);
            if !is_busy && class.reason() != Reason::GpuMemoryTooSmall {
                continue;
            }
            let kind =
                class.pool.as_ref().map(|pool| (&pool.product, pool.usable_memory(), pool.allocatable));
            if last != Some(kind) {
                (last, sums).hash(hasher);
                (last, sums) = (Some(kind), (0, 0, 0));
            }
            let free = if is_busy { class.free() } else { 0 };
            let promised = class.pool.as_ref().map_or(0, |pool| pool.promised.saturating_mul(class.count()));
            let promised = if is_busy { promised } else { 0 };
            sums = (
                sums.0.saturating_add(class.count()),
                sums.1.saturating_add(free),
                sums.2.saturating_add(promised),
            );
        }
        (last, sums).hash(hasher);
    }
}

/// What a node's line says.
fn seen(class: &ClassVerdict, hasher: &mut Fnv) {
    class.finding.hash(hasher);
    let Some(pool) = &class.pool else { return };
    (pool.vendor, &pool.product, pool.allocatable).hash(hasher);
    if class.verdict() == Verdict::Fits {
        (pool.free, class.held_by_own, &pool.memory).hash(hasher);
    }
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo): short, and the same with every compiler, which the standard library does not promise
/// of its own.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        self.0 = bytes.iter().fold(self.0, step);
    }
}
