//! What was decided of each object, and whom a change of the cluster leads to another decision for.

use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Key;
use crate::api::ModelDeployment;
use crate::decide::{Decision, Digest};
use crate::inventory::Inventory;
use crate::launch::Running;
use crate::model::ModelShape;
use crate::plan::{Decided, Prepared, Subject};
use crate::refusal::Refusal;

/// So many objects are planned by one thread; more by several.
const FEW: usize = 32;
/// The most threads that plan when the cluster has changed.
const MAX_WORKERS: usize = 4;

/// What is needed to decide again when the cluster has changed, and a digest of what was decided.
#[derive(Clone, Debug)]
pub struct Tracked {
    object: Arc<ModelDeployment>,
    running: Option<Running>,
    shape: Arc<ModelShape>,
    prepared: Arc<Prepared>,
    digest: Digest,
}

impl Tracked {
    /// Of an object as it was planned, with what runs for it, and what was decided.
    #[must_use]
    pub fn new(
        object: &ModelDeployment,
        running: Option<&Running>,
        shape: Arc<ModelShape>,
        prepared: Arc<Prepared>,
        decision: &Decision,
    ) -> Self {
        let mut metadata = object.metadata.clone();
        metadata.managed_fields = None;
        let object = ModelDeployment { metadata, spec: object.spec.clone(), status: None };
        let digest = decision.digest(replicas(&object));
        let running = running.map(Running::without_template);
        Self { object: Arc::new(object), running, shape, prepared, digest }
    }

    /// What a cluster leads to, if that is not what was decided.
    fn changed_by(&self, inventory: &Inventory) -> Option<Result<Decided, Refusal>> {
        let subject = Subject::of(&self.object, self.running.as_ref());
        let decided = self.prepared.decide(subject, &self.shape, inventory);
        let wanted = replicas(&self.object);
        let is_same = |decided: &Decided| decided.decision.digest(wanted) == self.digest;
        (!decided.as_ref().is_ok_and(is_same)).then_some(decided)
    }

    /// Whether a cluster leads to another decision than the one that was made.
    #[must_use]
    pub fn is_changed_by(&self, inventory: &Inventory) -> bool {
        self.changed_by(inventory).is_some()
    }

    /// Whether an object is the one that was planned, with the model and the workload that it was planned with.
    fn is_of(&self, object: &ModelDeployment, running: Option<&Running>, shape: &ModelShape) -> bool {
        let (own, metadata) = (&self.object.metadata, &object.metadata);
        (&own.uid, own.generation, &own.annotations)
            == (&metadata.uid, metadata.generation, &metadata.annotations)
            && self.running == running.map(Running::without_template)
            && *self.shape == *shape
    }
}

fn replicas(object: &ModelDeployment) -> u64 {
    u64::try_from(object.spec.replicas).unwrap_or(0)
}

/// What a change of the cluster led to, for the reconcile that it woke.
#[derive(Clone, Debug)]
struct HandedOn {
    /// The view that it was decided on.
    version: u64,
    tracked: Arc<Tracked>,
    decided: Decided,
}

#[derive(Debug, Default)]
struct Inner {
    tracked: HashMap<Key, Arc<Tracked>>,
    handed_on: HashMap<Key, HandedOn>,
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

    /// Plans every object anew, and tells at once of each that a view of the cluster leads to another decision for. It takes
    /// its time: not for a thread that serves others. What it leads to is kept for the reconcile that follows. Returns those
    /// whose planning panicked, with what the panic said: they concern nobody else.
    pub fn tell_changed(
        &self,
        inventory: &Inventory,
        version: u64,
        changed: impl Fn(&Key) + Sync,
    ) -> Vec<(Key, String)> {
        // Deciding takes longer than a lock should be held.
        let mut all: Vec<(Key, Arc<Tracked>)> = {
            let mut inner = self.inner();
            // Nobody will ask for what an earlier view led to.
            inner.handed_on.clear();
            inner.tracked.iter().map(|(key, tracked)| (key.clone(), Arc::clone(tracked))).collect()
        };
        all.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let judge = |key: &Key, tracked: &Arc<Tracked>| {
            let Some(decided) = tracked.changed_by(inventory) else { return false };
            if let Ok(decided) = decided {
                let tracked = Arc::clone(tracked);
                self.inner().handed_on.insert(key.clone(), HandedOn { version, tracked, decided });
            }
            true
        };
        judge_each(&all, judge, changed)
    }

    /// What was decided of an object when a view of the cluster woke it, to be used once.
    #[must_use]
    pub fn handed_on(
        &self,
        key: &Key,
        object: &ModelDeployment,
        running: Option<&Running>,
        shape: &ModelShape,
        version: u64,
    ) -> Option<(Arc<Prepared>, Decided)> {
        let HandedOn { version: of, tracked, decided } = self.inner().handed_on.remove(key)?;
        let is_wanted = of == version && tracked.is_of(object, running, shape);
        is_wanted.then(|| (Arc::clone(&tracked.prepared), decided))
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, key: &Key) {
        let mut inner = self.inner();
        inner.tracked.remove(key);
        inner.handed_on.remove(key);
    }

    /// The objects of which something is remembered.
    #[must_use]
    pub fn keys(&self) -> Vec<Key> {
        self.inner().tracked.keys().cloned().collect()
    }

    /// Forgets all objects; which they were.
    pub fn forget_all(&self) -> Vec<Key> {
        std::mem::take(&mut *self.inner()).tracked.into_keys().collect()
    }
}

/// Judges each of many, on several threads where they are many: one that takes long holds up no other, and one that panics
/// breaks off nothing.
fn judge_each<T: Sync>(
    all: &[(Key, T)],
    judge: impl Fn(&Key, &T) -> bool + Sync,
    changed: impl Fn(&Key) + Sync,
) -> Vec<(Key, String)> {
    let next = AtomicUsize::new(0);
    let broken = Mutex::new(Vec::new());
    let work = || {
        while let Some((key, item)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            match catch_unwind(AssertUnwindSafe(|| judge(key, item))) {
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
    use serde_json::json;

    use super::*;
    use crate::controller::testing;
    use crate::inventory::testing::golden;
    use crate::plan::{Plan, plan, prepare};

    #[test]
    fn what_a_change_led_to_is_handed_on_once_and_for_that_view_alone() {
        let object = testing::object(&json!({"model": {"parameters": "8B"}, "context": {"length": 4096}}));
        let (key, shape) = (("team-a".to_owned(), "llama".to_owned()), Arc::new(testing::shape()));
        let (before, after) = (testing::cluster(golden(), vec![]), testing::cluster(vec![], vec![]));
        let decisions = Decisions::default();
        let subject = Subject::of(&object, None);
        let track = || {
            let prepared = Arc::new(prepare(subject, &shape).unwrap());
            let decided = prepared.decide(subject, &shape, &before).unwrap();
            let tracked = Tracked::new(&object, None, Arc::clone(&shape), prepared, &decided.decision);
            decisions.track(&key, Some(tracked));
        };
        let changed = |inventory: &Inventory, version| {
            let told = Mutex::new(Vec::new());
            let broken =
                decisions.tell_changed(inventory, version, |key| told.lock().unwrap().push(key.clone()));
            assert_eq!(broken, []);
            told.into_inner().unwrap()
        };
        let handed_on = |object: &ModelDeployment, version| -> Option<Plan> {
            let (prepared, decided) = decisions.handed_on(&key, object, None, &shape, version)?;
            Some(prepared.plan(Subject::of(object, None), &shape, decided, after.sources()).unwrap())
        };
        track();
        assert_eq!(changed(&before, 1), []);
        assert_eq!(handed_on(&object, 1), None, "nothing has changed");
        assert_eq!(changed(&after, 2), std::slice::from_ref(&key));
        assert_eq!(handed_on(&object, 2), Some(plan(subject, &shape, &after).unwrap()));
        assert_eq!(handed_on(&object, 2), None, "it was taken");
        let mut edited = object.clone();
        edited.metadata.generation = Some(4);
        for (object, version) in [(&object, 3), (&edited, 2)] {
            assert_eq!(changed(&after, 2), std::slice::from_ref(&key));
            assert_eq!(handed_on(object, version), None);
        }
    }

    fn keys(count: usize) -> Vec<(Key, usize)> {
        (0..count).map(|at| (("team".to_owned(), format!("m{at:03}")), at)).collect()
    }

    #[test]
    fn one_that_panics_is_named_and_the_others_are_judged() {
        for count in [FEW, 10 * FEW] {
            let told = Mutex::new(Vec::new());
            let judge = |_: &Key, at: &usize| {
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
