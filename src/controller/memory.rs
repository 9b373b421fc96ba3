//! What the controller remembers of what it wrote, object by object. All of it can be lost: a restart costs one reconcile
//! of every object, and writes nothing that is there already.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::status::Difference;
use crate::api::{ModelDeploymentSpec, ModelDeploymentStatus};
use crate::world::Key;

/// A status that was written, and the resource version that the object has with it.
///
/// It is looked at by the next reconcile, which may be half an hour away: as text it takes a fifth of what its types do.
#[derive(Clone, Debug)]
struct Written {
    uid: Option<String>,
    resource_version: u64,
    json: Box<[u8]>,
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
    written: HashMap<Key, Written>,
    failures: HashMap<Key, u32>,
    attempts: HashMap<Key, Attempt>,
    written_at: HashMap<Key, Instant>,
    /// The generation that a status was found to be about, and a digest of the spec but for its replicas.
    judged: HashMap<Key, (Option<i64>, u64)>,
    /// Since when a generation waits for an answer; no time once it has one.
    awaits: HashMap<Key, (Option<i64>, Option<Instant>)>,
}

/// What is remembered of all objects.
#[derive(Debug, Default)]
pub struct Records(Mutex<Inner>);

/// The first wait after a failure; every further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Statuses that differ in words only are written no more often than this: one pod that comes or goes changes the numbers
/// in the messages of all.
const WORDS: Duration = Duration::from_secs(30);
/// The same for how many and which nodes: every pod that is bound changes them for every object.
const PLACEMENT: Duration = Duration::from_secs(5);
/// The longest wait after failures: the API server may be back at any time.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

impl Records {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Every change is one assignment: a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a status that was written.
    pub fn wrote(
        &self,
        key: &Key,
        uid: Option<&str>,
        resource_version: Option<&str>,
        status: &ModelDeploymentStatus,
    ) {
        self.inner().written_at.insert(key.clone(), Instant::now());
        let version = resource_version.and_then(|version| version.parse().ok());
        let (Some(resource_version), Ok(json)) = (version, serde_json::to_vec(status)) else { return };
        let written = Written { uid: uid.map(str::to_owned), resource_version, json: json.into() };
        self.inner().written.insert(key.clone(), written);
    }

    /// A generation of an object's spec waits for an answer.
    pub fn awaits(&self, key: &Key, generation: Option<i64>) {
        let mut inner = self.inner();
        let is_known = inner.awaits.get(key).is_some_and(|(known, _)| *known == generation);
        if !is_known {
            inner.awaits.insert(key.clone(), (generation, Some(Instant::now())));
        }
    }

    /// The answer is written: how long it was waited for, if it was.
    pub fn decided(&self, key: &Key) -> Option<Duration> {
        self.inner().awaits.get_mut(key)?.1.take().map(|since| since.elapsed())
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
            if is_ahead && let Ok(status) = serde_json::from_slice(&written.json) {
                return Some(status);
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

    /// Whether what a status says is still about the model that a spec names: its spec is that of the status, or differs
    /// from it in the replicas alone.
    #[must_use]
    pub fn is_about(
        &self,
        key: &Key,
        generation: Option<i64>,
        spec: &ModelDeploymentSpec,
        status: &ModelDeploymentStatus,
    ) -> bool {
        let digest = digest_but_replicas(spec);
        let mut inner = self.inner();
        if generation.is_some() && status.observed_generation == generation {
            inner.judged.insert(key.clone(), (generation, digest));
            return true;
        }
        inner.judged.get(key).is_some_and(|judged| *judged == (status.observed_generation, digest))
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, key: &Key) {
        let mut inner = self.inner();
        inner.written.remove(key);
        inner.failures.remove(key);
        inner.attempts.remove(key);
        inner.written_at.remove(key);
        inner.judged.remove(key);
        inner.awaits.remove(key);
    }
}

/// A digest of a spec, the same for one that differs in its replicas alone.
fn digest_but_replicas(spec: &ModelDeploymentSpec) -> u64 {
    let mut hasher = DefaultHasher::new();
    if let Ok(mut value) = serde_json::to_value(spec) {
        if let Some(fields) = value.as_object_mut() {
            fields.remove("replicas");
        }
        value.to_string().hash(&mut hasher);
    }
    hasher.finish()
}

fn wait_after(failures: u32) -> Duration {
    FIRST_WAIT.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        ("team-a".to_owned(), "llama".to_owned())
    }

    fn status(generation: i64) -> ModelDeploymentStatus {
        ModelDeploymentStatus { observed_generation: Some(generation), ..ModelDeploymentStatus::default() }
    }

    #[test]
    fn waits_double_up_to_a_minute() {
        let waits: Vec<u128> = (1..=9).map(|failures| wait_after(failures).as_millis()).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000]);
        assert_eq!(wait_after(u32::MAX), LONGEST_WAIT);
    }

    #[test]
    fn an_answer_is_waited_for_once_for_each_generation() {
        let memory = Records::default();
        assert_eq!(memory.decided(&key()), None);
        memory.awaits(&key(), Some(1));
        memory.awaits(&key(), Some(1));
        assert!(memory.decided(&key()).is_some());
        memory.awaits(&key(), Some(1));
        assert_eq!(memory.decided(&key()), None, "it has its answer");
        memory.awaits(&key(), Some(2));
        assert!(memory.decided(&key()).is_some());
        memory.awaits(&key(), Some(3));
        memory.forget(&key());
        assert_eq!(memory.decided(&key()), None);
    }

    #[test]
    fn a_success_starts_the_waits_anew() {
        let memory = Records::default();
        memory.failed(&key());
        assert_eq!(memory.failed(&key()), FIRST_WAIT * 2);
        memory.succeeded(&key());
        assert_eq!(memory.failed(&key()), FIRST_WAIT);
    }

    #[test]
    fn a_status_is_about_a_spec_that_differs_in_its_replicas_alone() {
        let records = Records::default();
        let mut spec = ModelDeploymentSpec::default();
        let is_about = |generation, spec: &ModelDeploymentSpec| {
            records.is_about(&key(), Some(generation), spec, &status(3))
        };
        assert!(!is_about(4, &spec), "nothing is known of the spec that the status is about");
        assert!(is_about(3, &spec));
        spec.replicas = 5;
        assert!(is_about(4, &spec));
        spec.model.catalog = Some("llama-3.1-8b".to_owned());
        assert!(!is_about(5, &spec));
    }

    #[test]
    fn a_written_status_counts_until_the_watch_has_caught_up() {
        let memory = Records::default();
        memory.wrote(&key(), Some("uid"), Some("20"), &status(2));
        let at = |uid, version| memory.status(&key(), Some(uid), Some(version), Some(status(1)));
        assert_eq!(at("uid", "19"), Some(status(2)));
        assert_eq!(at("uid", "20"), Some(status(1)), "the watch is there");
        assert_eq!(at("uid", "19"), Some(status(1)), "and what was written is forgotten");
    }

    #[test]
    fn a_written_status_is_not_that_of_a_successor() {
        let memory = Records::default();
        memory.wrote(&key(), Some("uid"), Some("20"), &status(2));
        assert_eq!(memory.status(&key(), Some("other"), Some("10"), None), None);
    }
}
