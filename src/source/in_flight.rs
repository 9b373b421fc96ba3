//! A bound on the bytes that are held while models are read: most reads take little, and those that take much take turns.
//!
//! Invariant: a read holds at most its allowance, or, with one of a few places that a namespace has only one of, at most
//! [`LARGE`]. So the bound is the number of reads times the allowance, plus the places times [`LARGE`].

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::error::SourceError;

/// What any read may hold.
pub(super) const ALLOWANCE: u64 = 4 << 20;
/// What a large read may hold: the headers of the largest models are some 20 MiB, and what is made of them some 100.
pub(super) const LARGE: u64 = 160 << 20;
/// Large reads at the same time.
const PLACES: usize = 2;

/// Who holds the places.
#[derive(Default)]
pub(super) struct InFlight {
    /// The namespaces of the large reads under way.
    large: Mutex<Vec<String>>,
    freed: Condvar,
}

/// What one read holds.
pub(super) struct Meter<'a> {
    of: &'a InFlight,
    namespace: &'a str,
    deadline: Instant,
    state: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    bytes: u64,
    is_large: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while one is held; were it so, what is in it would still be whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl InFlight {
    /// A read of a namespace begins. It must be over by the deadline.
    pub(super) fn meter<'a>(&'a self, namespace: &'a str, deadline: Instant) -> Meter<'a> {
        Meter { of: self, namespace, deadline, state: Mutex::default() }
    }

    /// Waits for a place; false if there is none in time.
    fn enter(&self, namespace: &str, deadline: Instant) -> bool {
        let mut large = lock(&self.large);
        loop {
            if large.len() < PLACES && !large.iter().any(|other| other == namespace) {
                large.push(namespace.to_owned());
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return false;
            }
            large = self.freed.wait_timeout(large, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn leave(&self, namespace: &str) {
        let mut large = lock(&self.large);
        if let Some(at) = large.iter().position(|other| other == namespace) {
            large.swap_remove(at);
        }
        drop(large);
        self.freed.notify_all();
    }
}

impl Meter<'_> {
    /// Counts bytes that are about to be held, by any thread of the read; waits if they are many and others hold many.
    ///
    /// # Errors
    /// If they are more than any model takes, or if it does not come to its turn in time.
    pub(super) fn take(&self, of: &str, bytes: u64) -> Result<(), SourceError> {
        let mut state = lock(&self.state);
        state.bytes = state.bytes.saturating_add(bytes);
        if state.bytes > LARGE {
            return Err(SourceError::TooLarge {
                of: of.to_owned(),
                what: "what describes its weights".to_owned(),
                limit: LARGE,
            });
        }
        if state.bytes > ALLOWANCE && !state.is_large {
            if !self.of.enter(self.namespace, self.deadline) {
                return Err(SourceError::Busy { of: of.to_owned() });
            }
            state.is_large = true;
        }
        Ok(())
    }
}

impl Drop for Meter<'_> {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if state.is_large {
            self.of.leave(self.namespace);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(20)
    }

    #[test]
    fn large_reads_take_turns_and_small_ones_do_not_wait() {
        let all = InFlight::default();
        let first = all.meter("a", soon());
        first.take("m", ALLOWANCE + 1).expect("a place");
        let second = all.meter("a", soon());
        second.take("m", ALLOWANCE).expect("it is small");
        assert_eq!(second.take("m", 1), Err(SourceError::Busy { of: "m".to_owned() }), "one of a namespace");
        let other = all.meter("b", soon());
        other.take("m", LARGE).expect("the other place");
        assert!(matches!(other.take("m", 1), Err(SourceError::TooLarge { .. })));
        let third = all.meter("c", soon());
        assert!(third.take("m", LARGE).is_err(), "no place is left");
        drop(first);
        all.meter("c", soon()).take("m", LARGE).expect("a place is free");
    }

    #[test]
    fn who_waits_is_let_in_when_another_leaves() {
        let all = InFlight::default();
        let first = all.meter("a", soon());
        first.take("m", LARGE).expect("a place");
        std::thread::scope(|scope| {
            let second =
                scope.spawn(|| all.meter("a", Instant::now() + Duration::from_mins(1)).take("m", LARGE));
            drop(first);
            assert_eq!(second.join().expect("no panic"), Ok(()));
        });
    }
}
