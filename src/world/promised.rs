//! What is promised to objects whose pods are still to come, so that no two of them are told that they fit on the same GPU.
//!
//! The older object comes first; of two of one second, the one whose namespace and name come first. A promise ends with the
//! binding of the pods, with the object, or with its time. All of it follows from the objects and the cluster: a restart
//! comes to the same promises, whose time begins anew.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::Key;
use crate::decide::Wanted;
use crate::inventory::{Inventory, Owner, Promises};

/// How long GPUs are kept for pods that are not bound to them, for whatever reason that is not the GPUs.
pub const LONGEST: Duration = Duration::from_mins(10);

/// The place in the order: seconds since 1970 at which the object was created, then its key.
type Place = (i64, Key);

/// An object whose pods are still to come.
#[derive(Debug)]
struct Waiting {
    wanted: Wanted,
    /// How many of its pods are still to come.
    missing: u64,
    /// Since when it has waited for them.
    since: Instant,
    promised: Promises,
}

impl Waiting {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= LONGEST
    }
}

#[derive(Debug, Default)]
struct Inner {
    waiting: BTreeMap<Place, Waiting>,
    places: HashMap<Key, Place>,
    current: Arc<Promises>,
}

/// What is promised to all objects.
#[derive(Debug)]
pub struct Promised {
    inner: Mutex<Inner>,
    changed: watch::Sender<()>,
}

impl Default for Promised {
    fn default() -> Self {
        Self { inner: Mutex::default(), changed: watch::Sender::new(()) }
    }
}

impl Promised {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        // What a panic would leave half done is made anew with the next view.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is promised now.
    #[must_use]
    pub fn current(&self) -> Arc<Promises> {
        Arc::clone(&self.inner().current)
    }

    /// Tells when an object has changed what is promised.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Takes in what an object wants now, if anything is to run, and promises it what those before it leave. Those after it
    /// are seen to by [`Self::anew`].
    pub fn wants(
        &self,
        key: &Key,
        created: i64,
        wanted: Option<Wanted>,
        inventory: &Inventory,
        now: Instant,
    ) {
        let owner = Owner { namespace: &key.0, name: &key.1 };
        let missing = wanted.as_ref().map_or(0, |wanted| wanted.missing(owner, inventory));
        let mut inner = self.inner();
        let place = (created, key.clone());
        let before = inner.places.remove(key).and_then(|place| inner.waiting.remove(&place));
        if let Some(wanted) = wanted.filter(|_| missing > 0) {
            let since = before.as_ref().filter(|before| before.wanted == wanted && before.missing <= missing);
            let since = since.map_or(now, |before| before.since);
            let mut waiting = Waiting { wanted, missing, since, promised: Promises::default() };
            if !waiting.is_over(now) {
                let mut earlier = Promises::default();
                for (_, other) in inner.waiting.range(..&place) {
                    earlier.extend(&other.promised);
                }
                waiting.promised = waiting.wanted.promises(owner, &inventory.promising(Arc::new(earlier)));
            }
            inner.places.insert(key.clone(), place.clone());
            inner.waiting.insert(place, waiting);
        } else if before.is_none() {
            return;
        }
        if inner.sum() {
            drop(inner);
            self.changed.send_replace(());
        }
    }

    /// Forgets an object that is gone, or of which nothing is to run.
    pub fn forget(&self, key: &Key) {
        let mut inner = self.inner();
        let Some(place) = inner.places.remove(key) else { return };
        inner.waiting.remove(&place);
        if inner.sum() {
            drop(inner);
            self.changed.send_replace(());
        }
    }

    /// Promises anew, in order, by a view of the cluster. Returns when the next promise ends by its time.
    pub fn anew(&self, inventory: &Inventory, now: Instant) -> Option<Instant> {
        let mut inner = self.inner();
        let mut made = Arc::new(Promises::default());
        let mut ends: Option<Instant> = None;
        let mut bound = Vec::new();
        for ((_, key), waiting) in &mut inner.waiting {
            let owner = Owner { namespace: &key.0, name: &key.1 };
            let missing = waiting.wanted.missing(owner, inventory);
            if missing < waiting.missing {
                // Some were bound: it goes on.
                waiting.since = now;
            }
            waiting.missing = missing;
            waiting.promised = Promises::default();
            if missing == 0 {
                bound.push(key.clone());
                continue;
            }
            if waiting.is_over(now) {
                continue;
            }
            waiting.promised = waiting.wanted.promises(owner, &inventory.promising(Arc::clone(&made)));
            if !waiting.promised.is_empty() {
                Arc::make_mut(&mut made).extend(&waiting.promised);
                let end = waiting.since + LONGEST;
                ends = Some(ends.map_or(end, |earliest| earliest.min(end)));
            }
        }
        for key in bound {
            if let Some(place) = inner.places.remove(&key) {
                inner.waiting.remove(&place);
            }
        }
        if *inner.current != *made {
            inner.current = made;
        }
        ends
    }
}

impl Inner {
    /// Puts all promises together; whether they are others than before.
    fn sum(&mut self) -> bool {
        let mut all = Promises::default();
        for waiting in self.waiting.values() {
            all.extend(&waiting.promised);
        }
        let is_new = *self.current != all;
        if is_new {
            self.current = Arc::new(all);
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::controller::testing;
    use crate::inventory::{Node, Pod};
    use crate::plan::{Subject, plan};

    fn key(name: &str) -> Key {
        ("team-a".to_owned(), name.to_owned())
    }

    /// An 8B model, which takes an L4.
    fn wanted(replicas: i32) -> Wanted {
        let object = testing::object(&json!({
            "model": {"catalog": "llama-3.1-8b"}, "context": {"length": 4096}, "replicas": replicas,
        }));
        let shape = crate::plan::resolve_pure(&object.spec).unwrap().unwrap();
        plan(Subject::of(&object, None), &shape, &cluster(1, vec![])).unwrap().wanted().unwrap()
    }

    /// Nodes of four L4 each.
    fn cluster(nodes: usize, pods: Vec<Pod>) -> Inventory {
        let node = |at: usize| Node {
            name: format!("l4-{at}"),
            labels: [("nvidia.com/gpu.memory", "23034"), ("nvidia.com/gpu.product", "NVIDIA-L4")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            allocatable: [("nvidia.com/gpu".to_owned(), 4)].into(),
            ready: true,
            ..Node::default()
        };
        testing::cluster((0..nodes).map(node).collect(), pods)
    }

    fn pod(of: &str, node: &str) -> Pod {
        Pod {
            namespace: "team-a".to_owned(),
            name: format!("{of}-0"),
            node: Some(node.to_owned()),
            model_deployment: Some(of.to_owned()),
            requests: [("nvidia.com/gpu".to_owned(), 1)].into(),
            ..Pod::default()
        }
    }

    /// What each is promised.
    fn shares(promised: &Promised) -> BTreeMap<String, u64> {
        let mut shares = BTreeMap::new();
        for promise in promised.current().nodes().flat_map(|(_, promises)| promises) {
            *shares.entry(promise.name.clone()).or_default() += promise.gpus;
        }
        shares
    }

    fn of(shares: &[(&str, u64)]) -> BTreeMap<String, u64> {
        shares.iter().map(|(name, gpus)| ((*name).to_owned(), *gpus)).collect()
    }

    #[test]
    fn the_older_comes_first_whoever_asks_first() {
        let (promised, cluster, now) = (Promised::default(), cluster(1, vec![]), Instant::now());
        promised.wants(&key("young"), 20, Some(wanted(3)), &cluster, now);
        assert_eq!(shares(&promised), of(&[("young", 3)]));
        promised.wants(&key("old"), 10, Some(wanted(2)), &cluster, now);
        promised.anew(&cluster, now);
        assert_eq!(shares(&promised), of(&[("old", 2), ("young", 2)]));
        // A third gets what nobody is promised: nothing.
        promised.wants(&key("last"), 30, Some(wanted(1)), &cluster, now);
        assert_eq!(shares(&promised), of(&[("old", 2), ("young", 2)]));
        promised.forget(&key("old"));
        promised.anew(&cluster, now);
        assert_eq!(shares(&promised), of(&[("last", 1), ("young", 3)]));
    }

    #[test]
    fn a_promise_ends_with_the_binding() {
        let (promised, empty, now) = (Promised::default(), cluster(1, vec![]), Instant::now());
        promised.wants(&key("a"), 1, Some(wanted(2)), &empty, now);
        promised.anew(&cluster(1, vec![pod("a", "l4-0")]), now);
        assert_eq!(shares(&promised), of(&[("a", 1)]));
        promised.wants(&key("b"), 2, Some(wanted(4)), &cluster(1, vec![pod("a", "l4-0")]), now);
        assert_eq!(shares(&promised), of(&[("a", 1), ("b", 2)]));
        let all = vec![pod("a", "l4-0"), Pod { name: "a-1".to_owned(), ..pod("a", "l4-0") }];
        assert!(promised.anew(&cluster(1, all), now).is_some());
        assert_eq!(shares(&promised), of(&[("b", 2)]));
    }

    #[test]
    fn a_promise_ends_with_its_time_and_begins_anew_with_another_spec() {
        let (promised, cluster, now) = (Promised::default(), cluster(1, vec![]), Instant::now());
        promised.wants(&key("a"), 1, Some(wanted(4)), &cluster, now);
        promised.wants(&key("b"), 2, Some(wanted(1)), &cluster, now + LONGEST / 2);
        assert_eq!(promised.anew(&cluster, now + LONGEST / 2), Some(now + LONGEST));
        assert_eq!(shares(&promised), of(&[("a", 4)]));
        promised.anew(&cluster, now + LONGEST);
        assert_eq!(shares(&promised), of(&[("b", 1)]));
        // To ask again for the same is no new beginning.
        promised.wants(&key("a"), 1, Some(wanted(4)), &cluster, now + LONGEST);
        assert_eq!(shares(&promised), of(&[("b", 1)]));
        promised.wants(&key("a"), 1, Some(wanted(2)), &cluster, now + LONGEST);
        promised.anew(&cluster, now + LONGEST);
        assert_eq!(shares(&promised), of(&[("a", 2), ("b", 1)]));
    }
}
