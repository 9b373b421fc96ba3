//! What was decided of each object, and whom a change of the cluster leads to another decision for.

use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Key;
use crate::api::ModelDeployment;
use crate::decide::Reason;
use crate::inventory::Inventory;
use crate::launch::Running;
use crate::launch::record::ROLL_ANNOTATION;
use crate::model::ModelShape;
use crate::plan::{self, Plan};
use crate::refusal::Refusal;

/// So many objects are planned by one thread; more by several.
const FEW: usize = 32;
/// The most threads that plan when the cluster has changed.
const MAX_WORKERS: usize = 4;

/// What is needed to decide again when the cluster has changed, and what was decided.
#[derive(Clone, Debug)]
pub struct Tracked {
    /// The object, as it was planned.
    pub object: Arc<ModelDeployment>,
    /// Its model.
    pub shape: Arc<ModelShape>,
    /// What runs for it.
    pub running: Option<Running>,
    /// What came of it.
    pub plan: Result<Box<Plan>, Refusal>,
}

impl Tracked {
    /// Whether a cluster leads to another plan than the one at hand.
    #[must_use]
    pub fn is_changed_by(&self, inventory: &Inventory) -> bool {
        let metadata = &self.object.metadata;
        let subject = plan::Subject {
            namespace: metadata.namespace.as_deref().unwrap_or_default(),
            name: metadata.name.as_deref().unwrap_or_default(),
            spec: &self.object.spec,
            roll: metadata.annotations.as_ref().and_then(|all| all.get(ROLL_ANNOTATION)).map(String::as_str),
            running: self.running.as_ref(),
        };
        match (plan::plan(subject, &self.shape, inventory), &self.plan) {
            (Ok(new), Ok(old)) => new != **old,
            (Err(new), Err(old)) => new != *old,
            _ => true,
        }
    }
}

#[derive(Debug, Default)]
struct Inner {
    tracked: HashMap<Key, Arc<Tracked>>,
    reasons: HashMap<Key, Reason>,
}

/// What was decided of all objects.
#[derive(Debug, Default)]
pub struct Decisions(Mutex<Inner>);

impl Decisions {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Every change is one assignment: a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers what was planned; `None` if nothing can be.
    pub fn track(&self, key: &Key, tracked: Option<Tracked>) {
        let mut inner = self.inner();
        match tracked {
            Some(tracked) => {
                inner.tracked.insert(key.clone(), Arc::new(tracked));
            }
            None => {
                inner.tracked.remove(key);
            }
        }
    }

    /// What was decided of an object, if it has a plan or was refused one.
    #[must_use]
    pub fn of(&self, key: &Key) -> Option<Arc<Tracked>> {
        self.inner().tracked.get(key).cloned()
    }

    /// Plans every object anew, and tells at once of each that a cluster leads to another decision for. It takes its time:
    /// not for a thread that serves others. Returns those whose planning panicked, with what the panic said: they
    /// concern nobody else.
    pub fn tell_changed(&self, inventory: &Inventory, changed: impl Fn(&Key) + Sync) -> Vec<(Key, String)> {
        // Deciding takes longer than a lock should be held.
        let mut all: Vec<(Key, Arc<Tracked>)> = {
            let inner = self.inner();
            inner.tracked.iter().map(|(key, tracked)| (key.clone(), Arc::clone(tracked))).collect()
        };
        all.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        judge_each(&all, |tracked| tracked.is_changed_by(inventory), changed)
    }

    /// The reason that an object had, now that it has another.
    pub fn decided(&self, key: &Key, reason: Option<Reason>) -> Option<Reason> {
        let mut inner = self.inner();
        match reason {
            Some(reason) => inner.reasons.insert(key.clone(), reason),
            None => inner.reasons.remove(key),
        }
    }

    /// Forgets an object that is gone; the reason that it had.
    pub fn forget(&self, key: &Key) -> Option<Reason> {
        let mut inner = self.inner();
        inner.tracked.remove(key);
        inner.reasons.remove(key)
    }
}

/// Judges each of many, on several threads where they are many: one that takes long holds up no other, and one that panics
/// breaks off nothing.
fn judge_each<T: Sync>(
    all: &[(Key, T)],
    judge: impl Fn(&T) -> bool + Sync,
    changed: impl Fn(&Key) + Sync,
) -> Vec<(Key, String)> {
    let next = AtomicUsize::new(0);
    let broken = Mutex::new(Vec::new());
    let work = || {
        while let Some((key, item)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            match catch_unwind(AssertUnwindSafe(|| judge(item))) {
                Ok(true) => changed(key),
                Ok(false) => {}
                Err(panic) => broken
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push((key.clone(), panic_text(panic.as_ref()))),
            }
        }
    };
    let workers = match all.len() {
        0..=FEW => 1,
        _ => std::thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS),
    };
    std::thread::scope(|scope| {
        for _ in 1..workers {
            scope.spawn(work);
        }
        work();
    });
    broken.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(count: usize) -> Vec<(Key, usize)> {
        (0..count).map(|at| (("team".to_owned(), format!("m{at:03}")), at)).collect()
    }

    #[test]
    fn one_that_panics_is_named_and_the_others_are_judged() {
        for count in [FEW, 10 * FEW] {
            let told = Mutex::new(Vec::new());
            let judge = |at: &usize| {
                assert!(*at != 7, "a defect in {at}");
                at.is_multiple_of(2)
            };
            let broken =
                judge_each(&keys(count), judge, |key| told.lock().expect("no panic").push(key.clone()));
            assert_eq!(broken, [(("team".to_owned(), "m007".to_owned()), "a defect in 7".to_owned())]);
            let mut told = told.into_inner().expect("no panic");
            told.sort_unstable();
            let expected: Vec<Key> =
                keys(count).into_iter().filter(|(_, at)| at.is_multiple_of(2)).map(|(key, _)| key).collect();
            assert_eq!(told, expected);
        }
    }
}
