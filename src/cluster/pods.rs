//! How the pods of each ModelDeployment fare, kept from watch events of the pods that carry its label.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use k8s_openapi::api::core::v1 as core;
use kube::runtime::watcher::Event;

use super::index::{PodKey, key_of};
use super::relisted::{Change, Relisted};
use crate::inventory::PodFacts;

/// Namespace and name of a ModelDeployment.
type Owner = (String, String);

/// The pods of each ModelDeployment, for whoever asks.
#[derive(Clone, Debug, Default)]
pub struct PodsByOwner(Arc<RwLock<HashMap<Owner, Arc<[PodFacts]>>>>);

impl PodsByOwner {
    /// The pods that carry the label of a ModelDeployment, by name.
    #[must_use]
    pub fn of(&self, owner: &Owner) -> Arc<[PodFacts]> {
        // Every change is one insertion or removal: a panic elsewhere leaves nothing half done.
        let pods = self.0.read().unwrap_or_else(PoisonError::into_inner);
        pods.get(owner).cloned().unwrap_or_default()
    }

    fn set(&self, owner: &Owner, facts: Arc<[PodFacts]>) {
        let mut pods = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if facts.is_empty() {
            pods.remove(owner);
        } else {
            pods.insert(owner.clone(), facts);
        }
    }
}

/// What is known of a pod: whose it is, and how it fares.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Owned {
    owner: Owner,
    facts: PodFacts,
}

/// Keeps [`PodsByOwner`] from events.
#[derive(Debug, Default)]
pub struct PodFactsIndex {
    pods: Relisted<PodKey, Owned>,
    /// The names of each owner's pods; they are in the owner's namespace.
    names: HashMap<Owner, BTreeSet<String>>,
    published: PodsByOwner,
}

impl PodFactsIndex {
    /// What it keeps.
    #[must_use]
    pub fn published(&self) -> PodsByOwner {
        self.published.clone()
    }

    /// Whether the list has been read once.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.pods.is_complete()
    }

    /// Takes in an event; the ModelDeployments of whose pods there is something new, in order.
    pub fn take(&mut self, event: Event<core::Pod>) -> Vec<Owner> {
        let reduce = |pod: core::Pod| {
            PodFacts::owner_of(&pod).map(|owner| Owned { owner, facts: PodFacts::from_object(&pod) })
        };
        let concerned: BTreeSet<Owner> = match self.pods.take(event, reduce, key_of) {
            Change::Nothing => return Vec::new(),
            Change::One(pod, before) => {
                let now = self.pods.get(&pod).map(|owned| owned.owner.clone());
                let before = before.map(|owned| owned.owner);
                if before != now {
                    if let Some(names) = before.as_ref().and_then(|owner| self.names.get_mut(owner)) {
                        names.remove(&pod.1);
                    }
                    if let Some(owner) = &now {
                        self.names.entry(owner.clone()).or_default().insert(pod.1);
                    }
                }
                before.into_iter().chain(now).collect()
            }
            Change::All(before) => self.reread(&before),
        };
        for owner in &concerned {
            self.publish(owner);
        }
        concerned.into_iter().collect()
    }

    /// Sorts a list that was read anew; the owners for which it is another.
    fn reread(&mut self, before: &HashMap<PodKey, Owned>) -> BTreeSet<Owner> {
        self.names.clear();
        let mut now: BTreeMap<&PodKey, &Owned> = BTreeMap::new();
        for (pod, owned) in self.pods.iter() {
            self.names.entry(owned.owner.clone()).or_default().insert(pod.1.clone());
            now.insert(pod, owned);
        }
        let gone =
            before.iter().filter(|(pod, _)| !now.contains_key(pod)).map(|(_, owned)| owned.owner.clone());
        let changed = now.iter().filter(|(pod, owned)| before.get(**pod) != Some(**owned));
        let moved = changed.flat_map(|(pod, owned)| {
            let before = before.get(*pod).map(|owned| owned.owner.clone());
            before.into_iter().chain([owned.owner.clone()])
        });
        gone.chain(moved).collect()
    }

    fn publish(&mut self, owner: &Owner) {
        let names = self.names.get(owner).into_iter().flatten();
        let facts: Arc<[PodFacts]> = names
            .filter_map(|name| self.pods.get(&(owner.0.clone(), name.clone())))
            .map(|owned| owned.facts.clone())
            .collect();
        if facts.is_empty() {
            self.names.remove(owner);
        }
        self.published.set(owner, facts);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, owner: Option<&str>, phase: &str) -> core::Pod {
        let labels = owner.map_or(json!({}), |owner| json!({"loadline.dev/model-deployment": owner}));
        serde_json::from_value(json!({
            "metadata": {"namespace": "team-a", "name": name, "labels": labels, "resourceVersion": "1"},
            "status": {"phase": phase},
        }))
        .unwrap()
    }

    fn owner(name: &str) -> Owner {
        ("team-a".to_owned(), name.to_owned())
    }

    fn read(pods: &[core::Pod]) -> (PodFactsIndex, Vec<Owner>) {
        let mut index = PodFactsIndex::default();
        index.take(Event::Init);
        for pod in pods {
            assert!(index.take(Event::InitApply(pod.clone())).is_empty());
        }
        let woken = index.take(Event::InitDone);
        (index, woken)
    }

    fn names(index: &PodFactsIndex, of: &str) -> Vec<String> {
        index.published().of(&owner(of)).iter().map(|pod| pod.name.clone()).collect()
    }

    #[test]
    fn pods_are_found_by_their_owner_and_wake_it_alone() {
        let (mut index, woken) = read(&[
            pod("m-2", Some("m"), "Pending"),
            pod("m-1", Some("m"), "Running"),
            pod("x", Some("x"), "Pending"),
        ]);
        assert!(index.is_complete());
        assert_eq!(woken, [owner("m"), owner("x")]);
        assert_eq!(
            (names(&index, "m"), names(&index, "x")),
            (vec!["m-1".into(), "m-2".into()], vec!["x".into()])
        );
        let mut same = pod("m-1", Some("m"), "Running");
        same.metadata.resource_version = Some("2".to_owned());
        assert_eq!(index.take(Event::Apply(same)), [], "nothing new");
        assert_eq!(index.take(Event::Apply(pod("m-2", Some("m"), "Running"))), [owner("m")]);
        assert_eq!(index.published().of(&owner("m"))[1].phase, "Running");
        assert_eq!(index.take(Event::Delete(pod("m-1", Some("m"), "Running"))), [owner("m")]);
        assert_eq!(names(&index, "m"), ["m-2"]);
        assert_eq!(index.take(Event::Delete(pod("m-1", Some("m"), "Running"))), []);
    }

    #[test]
    fn a_pod_whose_label_changes_concerns_both() {
        let (mut index, _) = read(&[pod("p", Some("a"), "Running")]);
        assert_eq!(index.take(Event::Apply(pod("p", Some("b"), "Running"))), [owner("a"), owner("b")]);
        assert_eq!((names(&index, "a").len(), names(&index, "b")), (0, vec!["p".into()]));
        assert_eq!(index.take(Event::Apply(pod("p", None, "Running"))), [owner("b")]);
        assert!(names(&index, "b").is_empty());
    }

    #[test]
    fn a_list_read_anew_wakes_whom_it_shows_another() {
        let (mut index, _) = read(&[
            pod("a", Some("a"), "Running"),
            pod("b", Some("b"), "Running"),
            pod("c", Some("c"), "Running"),
        ]);
        index.take(Event::Init);
        index.take(Event::InitApply(pod("a", Some("a"), "Running")));
        index.take(Event::InitApply(pod("b", Some("b"), "Failed")));
        assert_eq!(names(&index, "c"), ["c"], "the old list stands until the new one is complete");
        assert_eq!(index.take(Event::InitDone), [owner("b"), owner("c")]);
        assert_eq!((names(&index, "a").len(), names(&index, "c").len()), (1, 0));
    }
}
