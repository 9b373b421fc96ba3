//! What the controller remembers of each object between reconciles. All of it can be lost: a restart costs one reconcile
//! of every object, and writes nothing that is there already.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::api::v1alpha1::TensorParallel;
use crate::api::{ModelDeployment, ModelDeploymentStatus};
use crate::decide::{Decision, Digest, Reason};
use crate::inventory::{Inventory, Owner};
use crate::model::ModelShape;
use crate::plan::{self, Decided, Plan, Prepared, Subject};
use crate::refusal::Refusal;

use super::status::Difference;

/// Namespace and name.
pub type Key = (String, String);

/// What is needed to decide again when the cluster has changed, and a digest of what was decided.
#[derive(Clone, Debug)]
pub struct Tracked {
    uid: Option<String>,
    generation: Option<i64>,
    key: Key,
    replicas: u64,
    shape: Arc<ModelShape>,
    prepared: Prepared,
    digest: Digest,
}

impl Tracked {
    /// Of an object as it was planned, with what was decided of it. `None` for one whose spec is refused, which no cluster
    /// changes.
    #[must_use]
    pub fn new(object: &ModelDeployment, shape: Arc<ModelShape>, decision: &Decision) -> Option<Self> {
        let metadata = &object.metadata;
        let key: Key =
            (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default());
        let subject = Subject { namespace: &key.0, name: &key.1, spec: &object.spec };
        let prepared = plan::prepare(subject, &shape).ok()?;
        let replicas = u64::try_from(object.spec.replicas).unwrap_or(0);
        Some(Self {
            uid: metadata.uid.clone(),
            generation: metadata.generation,
            digest: decision.digest(replicas),
            key,
            replicas,
            shape,
            prepared,
        })
    }

    /// What a cluster leads to, if that is not what was decided.
    fn changed_by(&self, inventory: &Inventory) -> Option<Result<Decided, Refusal>> {
        let owner = Owner { namespace: &self.key.0, name: &self.key.1 };
        let decided = self.prepared.decide(&self.shape, owner, inventory);
        let is_same = |decided: &Decided| decided.decision.digest(self.replicas) == self.digest;
        (!decided.as_ref().is_ok_and(is_same)).then_some(decided)
    }

    /// Whether an object is the one that was planned, with the model that it was planned with.
    fn is_of(&self, object: &ModelDeployment, shape: &ModelShape) -> bool {
        let metadata = &object.metadata;
        let parallelism = object.spec.parallelism.as_ref();
        // It may have been planned with the ranks that run.
        let is_auto = parallelism.is_some_and(|of| matches!(of.tensor, Some(TensorParallel::Word(_))));
        let is_same = (&self.uid, self.generation) == (&metadata.uid, metadata.generation);
        is_same && !is_auto && *self.shape == *shape
    }
}

/// What a change of the cluster led to, for the reconcile that it woke.
#[derive(Clone, Debug)]
struct HandedOn {
    /// The view that it was decided on.
    version: u64,
    tracked: Arc<Tracked>,
    decided: Decided,
}

/// A status that was written, and the resource version that the object has with it.
#[derive(Clone, Debug)]
struct Written {
    uid: Option<String>,
    resource_version: u64,
    status: ModelDeploymentStatus,
}

/// What came of the last attempt to apply a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It was applied, and the Deployment has this generation with it.
    Applied {
        /// What was applied.
        digest: String,
        /// The Deployment's generation.
        generation: Option<i64>,
    },
    /// The server refused it, and said why.
    Refused {
        /// What was to be applied.
        digest: String,
        /// Why not.
        why: String,
        /// When.
        at: Instant,
    },
}

#[derive(Debug, Default)]
struct Inner {
    tracked: HashMap<Key, Arc<Tracked>>,
    handed_on: HashMap<Key, HandedOn>,
    written: HashMap<Key, Written>,
    failures: HashMap<Key, u32>,
    reasons: HashMap<Key, Reason>,
    attempts: HashMap<Key, Attempt>,
    written_at: HashMap<Key, Instant>,
}

/// What is remembered of all objects.
#[derive(Debug, Default)]
pub struct Memory(Mutex<Inner>);

/// The first wait after a failure; every further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Statuses that differ in words only are written no more often than this: one pod that comes or goes changes the numbers
/// in the messages of all.
const WORDS: Duration = Duration::from_secs(30);
/// The same for how many and which nodes: every pod that is bound changes them for every object.
const PLACEMENT: Duration = Duration::from_secs(5);
/// The longest wait after failures: the API server may be back at any time.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

impl Memory {
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

    /// The objects that a view of the cluster leads to another plan for, in order. What it leads to is kept for the
    /// reconcile that follows.
    #[must_use]
    pub fn changed_by(&self, inventory: &Inventory, version: u64) -> Vec<Key> {
        // Deciding takes longer than a lock should be held.
        let all: Vec<(Key, Arc<Tracked>)> = {
            let mut inner = self.inner();
            // Nobody will ask for what an earlier view led to.
            inner.handed_on.clear();
            inner.tracked.iter().map(|(key, tracked)| (key.clone(), Arc::clone(tracked))).collect()
        };
        let mut changed = Vec::new();
        for (key, tracked) in all {
            let Some(decided) = tracked.changed_by(inventory) else { continue };
            if let Ok(decided) = decided {
                self.inner().handed_on.insert(key.clone(), HandedOn { version, tracked, decided });
            }
            changed.push(key);
        }
        changed.sort_unstable();
        changed
    }

    /// The plan that was made of an object when a view of the cluster woke it, to be used once.
    #[must_use]
    pub fn handed_on(
        &self,
        key: &Key,
        object: &ModelDeployment,
        shape: &ModelShape,
        version: u64,
    ) -> Option<Plan> {
        let HandedOn { version: of, tracked, decided } = self.inner().handed_on.remove(key)?;
        let is_wanted = of == version && tracked.is_of(object, shape);
        is_wanted.then(|| tracked.prepared.plan(shape, decided))
    }

    /// The reason that an object had, now that it has another.
    pub fn decided(&self, key: &Key, reason: Option<Reason>) -> Option<Reason> {
        let mut inner = self.inner();
        match reason {
            Some(reason) => inner.reasons.insert(key.clone(), reason),
            None => inner.reasons.remove(key),
        }
    }

    /// Remembers a status that was written.
    pub fn wrote(
        &self,
        key: &Key,
        uid: Option<&str>,
        resource_version: Option<&str>,
        status: ModelDeploymentStatus,
    ) {
        self.inner().written_at.insert(key.clone(), Instant::now());
        let Some(resource_version) = resource_version.and_then(|version| version.parse().ok()) else {
            return;
        };
        let written = Written { uid: uid.map(str::to_owned), resource_version, status };
        self.inner().written.insert(key.clone(), written);
    }

    /// How long a status that says nothing new of the object itself is still to wait before it is written.
    #[must_use]
    pub fn wait_to_write(&self, key: &Key, difference: Difference) -> Option<Duration> {
        let pause = match difference {
            Difference::Words => WORDS,
            Difference::Placement => PLACEMENT,
            Difference::Substance => return None,
        };
        let written_at = self.inner().written_at.get(key).copied()?;
        pause.checked_sub(written_at.elapsed()).filter(|wait| !wait.is_zero())
    }

    /// The status of an object: the one that was written last, as long as the watch has not caught up with it.
    ///
    /// Without this a reconcile that runs before the watch event of the last one's write would write it again, with
    /// another time, and tell of the transition again.
    #[must_use]
    pub fn status(
        &self,
        key: &Key,
        uid: Option<&str>,
        resource_version: Option<&str>,
        seen: Option<ModelDeploymentStatus>,
    ) -> Option<ModelDeploymentStatus> {
        let mut inner = self.inner();
        let seen_version = resource_version.and_then(|version| version.parse::<u64>().ok());
        if let Some(written) = inner.written.get(key) {
            let is_ahead = written.uid.as_deref() == uid
                && seen_version.is_some_and(|version| version < written.resource_version);
            if is_ahead {
                return Some(written.status.clone());
            }
            inner.written.remove(key);
        }
        seen
    }

    /// What came of the last attempt to apply an object's workload.
    #[must_use]
    pub fn attempt(&self, key: &Key) -> Option<Attempt> {
        self.inner().attempts.get(key).cloned()
    }

    /// Remembers what came of an attempt.
    pub fn attempted(&self, key: &Key, attempt: Attempt) {
        self.inner().attempts.insert(key.clone(), attempt);
    }

    /// Counts a failure; how long to wait before the next attempt.
    pub fn failed(&self, key: &Key) -> Duration {
        let mut inner = self.inner();
        let failures = inner.failures.entry(key.clone()).or_default();
        *failures = failures.saturating_add(1);
        wait_after(*failures)
    }

    /// Forgets the failures of an object.
    pub fn succeeded(&self, key: &Key) {
        self.inner().failures.remove(key);
    }

    /// Forgets an object that is gone; the reason that it had.
    pub fn forget(&self, key: &Key) -> Option<Reason> {
        let mut inner = self.inner();
        inner.tracked.remove(key);
        inner.handed_on.remove(key);
        inner.written.remove(key);
        inner.failures.remove(key);
        inner.attempts.remove(key);
        inner.written_at.remove(key);
        inner.reasons.remove(key)
    }
}

fn wait_after(failures: u32) -> Duration {
    FIRST_WAIT.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::controller::{resolve, testing};
    use crate::inventory::testing::golden;

    fn key() -> Key {
        ("team-a".to_owned(), "llama".to_owned())
    }

    fn status(generation: i64) -> ModelDeploymentStatus {
        ModelDeploymentStatus { observed_generation: Some(generation), ..ModelDeploymentStatus::default() }
    }

    #[test]
    fn what_a_change_led_to_is_handed_on_once_and_for_that_view_alone() {
        let object = testing::object(&json!({"model": {"parameters": "8B"}, "context": {"length": 4096}}));
        let key = crate::controller::reconcile::key_of(&object);
        let (before, after) = (testing::cluster(golden(), vec![]), testing::cluster(vec![], vec![]));
        let plan = |inventory| resolve::plan(&object, &testing::shape(), inventory).unwrap();
        let memory = Memory::default();
        let track = || {
            let tracked = Tracked::new(&object, Arc::new(testing::shape()), &plan(&before).decision);
            memory.track(&key, tracked);
        };
        let handed_on =
            |object: &ModelDeployment, version| memory.handed_on(&key, object, &testing::shape(), version);
        track();
        assert_eq!(memory.changed_by(&before, 1), []);
        assert_eq!(handed_on(&object, 1), None, "nothing has changed");
        assert_eq!(memory.changed_by(&after, 2), std::slice::from_ref(&key));
        assert_eq!(handed_on(&object, 2), Some(plan(&after)));
        assert_eq!(handed_on(&object, 2), None, "it was taken");
        let mut edited = object.clone();
        edited.metadata.generation = Some(4);
        for (object, version) in [(&object, 3), (&edited, 2)] {
            assert_eq!(memory.changed_by(&after, 2), std::slice::from_ref(&key));
            assert_eq!(handed_on(object, version), None);
        }
    }

    #[test]
    fn waits_double_up_to_a_minute() {
        let waits: Vec<u128> = (1..=9).map(|failures| wait_after(failures).as_millis()).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000]);
        assert_eq!(wait_after(u32::MAX), LONGEST_WAIT);
    }

    #[test]
    fn a_success_starts_the_waits_anew() {
        let memory = Memory::default();
        memory.failed(&key());
        assert_eq!(memory.failed(&key()), FIRST_WAIT * 2);
        memory.succeeded(&key());
        assert_eq!(memory.failed(&key()), FIRST_WAIT);
    }

    #[test]
    fn a_written_status_counts_until_the_watch_has_caught_up() {
        let memory = Memory::default();
        memory.wrote(&key(), Some("uid"), Some("20"), status(2));
        let at = |uid, version| memory.status(&key(), Some(uid), Some(version), Some(status(1)));
        assert_eq!(at("uid", "19"), Some(status(2)));
        assert_eq!(at("uid", "20"), Some(status(1)), "the watch is there");
        assert_eq!(at("uid", "19"), Some(status(1)), "and what was written is forgotten");
    }

    #[test]
    fn a_written_status_is_not_that_of_a_successor() {
        let memory = Memory::default();
        memory.wrote(&key(), Some("uid"), Some("20"), status(2));
        assert_eq!(memory.status(&key(), Some("other"), Some("10"), None), None);
    }
}
