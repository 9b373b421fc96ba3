//! Requests for one model at the same moment are one request: a hundred objects of one model are read from the Hub once.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::error::SourceError;
use super::store::Key;
use crate::model::ModelShape;

type Outcome = Result<Arc<ModelShape>, SourceError>;

/// What is being read.
#[derive(Default)]
pub(super) struct Flights {
    under_way: Mutex<HashMap<Key, Arc<Flight>>>,
}

/// One reading, which others may wait for.
#[derive(Default)]
struct Flight {
    state: Mutex<State>,
    landed: Condvar,
}

#[derive(Default)]
enum State {
    #[default]
    UnderWay,
    Landed(Outcome),
    /// Whoever read it is gone without an outcome.
    Lost,
}

impl Flights {
    /// Does the work, unless somebody does it already: then their outcome is waited for. What it finds out must be in the
    /// store when it returns, where who comes later looks first.
    pub(super) fn once(&self, key: &Key, work: impl Fn() -> Outcome) -> Outcome {
        loop {
            let (flight, leads) = {
                let mut under_way = lock(&self.under_way);
                let there = under_way.get(key).map(Arc::clone);
                let leads = there.is_none();
                (there.unwrap_or_else(|| Arc::clone(under_way.entry(key.clone()).or_default())), leads)
            };
            if leads {
                let mut landing = Landing { flights: self, key, flight, outcome: None };
                let outcome = work();
                landing.outcome = Some(outcome.clone());
                return outcome;
            }
            if let Some(outcome) = flight.wait() {
                return outcome;
            }
        }
    }
}

impl Flight {
    fn wait(&self) -> Option<Outcome> {
        let mut state = lock(&self.state);
        loop {
            match &*state {
                State::Landed(outcome) => return Some(outcome.clone()),
                State::Lost => return None,
                State::UnderWay => {
                    state = self.landed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

/// Tells who waits when the work is done, or has panicked.
struct Landing<'f> {
    flights: &'f Flights,
    key: &'f Key,
    flight: Arc<Flight>,
    outcome: Option<Outcome>,
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        lock(&self.flights.under_way).remove(self.key);
        *lock(&self.flight.state) = self.outcome.take().map_or(State::Lost, State::Landed);
        self.flight.landed.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while one is held; were it so, what is in it would still be whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn key(of: &str) -> Key {
        Key { of: of.to_owned(), revision: "main".to_owned(), file: String::new(), token: 0 }
    }

    fn failure(of: &str) -> Outcome {
        Err(SourceError::Offline { of: of.to_owned() })
    }

    #[test]
    fn one_works_and_the_others_get_its_outcome() {
        let flights = Flights::default();
        let works = AtomicU32::new(0);
        let (begun, go) = (Barrier::new(2), Barrier::new(2));
        std::thread::scope(|scope| {
            let leader = scope.spawn(|| {
                flights.once(&key("a"), || {
                    works.fetch_add(1, Ordering::Relaxed);
                    begun.wait();
                    go.wait();
                    failure("the first")
                })
            });
            begun.wait();
            let others: Vec<_> =
                (0..8).map(|_| scope.spawn(|| flights.once(&key("a"), || failure("another")))).collect();
            // Another model does not wait.
            assert_eq!(flights.once(&key("b"), || failure("b")), failure("b"));
            // All of them hold the flight: the map, the leader, and the eight.
            while lock(&flights.under_way).get(&key("a")).map(Arc::strong_count) != Some(10) {
                std::thread::yield_now();
            }
            go.wait();
            assert_eq!(leader.join().expect("fine"), failure("the first"));
            for other in others {
                assert_eq!(other.join().expect("fine"), failure("the first"));
            }
        });
        assert_eq!(works.load(Ordering::Relaxed), 1);
        assert!(lock(&flights.under_way).is_empty());
        assert_eq!(flights.once(&key("a"), || failure("anew")), failure("anew"));
    }

    #[test]
    fn who_waits_for_one_that_panics_does_it_alone() {
        let flights = Flights::default();
        let begun = Barrier::new(2);
        std::thread::scope(|scope| {
            let leader = scope.spawn(|| {
                catch_unwind(AssertUnwindSafe(|| {
                    flights.once(&key("a"), || {
                        begun.wait();
                        while lock(&flights.under_way).get(&key("a")).map(Arc::strong_count) != Some(3) {
                            std::thread::yield_now();
                        }
                        std::panic::resume_unwind(Box::new("gone"))
                    })
                }))
            });
            begun.wait();
            assert_eq!(flights.once(&key("a"), || failure("by myself")), failure("by myself"));
            assert!(leader.join().expect("caught").is_err());
        });
    }
}
