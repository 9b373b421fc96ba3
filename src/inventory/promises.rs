//! GPUs that are promised to objects whose pods are still to come.
//!
//! Invariant: of one GPU there is one promise. Whoever promises counts what was promised before as held.

use std::collections::BTreeMap;

use super::Owner;

/// What is promised of one node to one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    /// The object's namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The resource, such as `nvidia.com/gpu`.
    pub resource: String,
    /// How many of it.
    pub gpus: u64,
}

impl Promise {
    /// Whether it is made to this object.
    #[must_use]
    pub fn is_to(&self, owner: Owner<'_>) -> bool {
        self.namespace == owner.namespace && self.name == owner.name
    }
}

/// What is promised, by node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Promises(BTreeMap<String, Vec<Promise>>);

impl Promises {
    /// Promises GPUs of a node.
    pub fn add(&mut self, node: &str, promise: Promise) {
        self.0.entry(node.to_owned()).or_default().push(promise);
    }

    /// Adds all of another's.
    pub fn extend(&mut self, other: &Self) {
        for (node, promises) in &other.0 {
            self.0.entry(node.clone()).or_default().extend(promises.iter().cloned());
        }
    }

    /// What is promised of a node.
    #[must_use]
    pub fn of(&self, node: &str) -> &[Promise] {
        self.0.get(node).map_or(&[], Vec::as_slice)
    }

    /// Whether nothing is promised.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// GPUs that are promised in all.
    #[must_use]
    pub fn gpus(&self) -> u64 {
        self.0.values().flatten().fold(0, |sum, promise| sum.saturating_add(promise.gpus))
    }

    /// Every node of which something is promised, in order.
    pub fn nodes(&self) -> impl Iterator<Item = (&str, &[Promise])> {
        self.0.iter().map(|(node, promises)| (node.as_str(), promises.as_slice()))
    }

    /// Every node of which something is promised to others than the asker, with what.
    pub(super) fn to_others<'a, 'b>(
        &'a self,
        owner: Option<Owner<'b>>,
    ) -> impl Iterator<Item = (&'a str, Vec<&'a Promise>)> + use<'a, 'b> {
        let is_other = move |promise: &&Promise| owner.is_none_or(|owner| !promise.is_to(owner));
        self.0.iter().filter_map(move |(node, promises)| {
            let others: Vec<&Promise> = promises.iter().filter(is_other).collect();
            (!others.is_empty()).then_some((node.as_str(), others))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn promise(name: &str, gpus: u64) -> Promise {
        let (namespace, resource) = ("team-a".to_owned(), "nvidia.com/gpu".to_owned());
        Promise { namespace, name: name.to_owned(), resource, gpus }
    }

    #[test]
    fn what_is_promised_to_oneself_does_not_count() {
        let mut promises = Promises::default();
        promises.add("a", promise("one", 2));
        promises.add("a", promise("two", 1));
        promises.add("b", promise("one", 4));
        let others = |name| {
            let owner = Owner { namespace: "team-a", name };
            let of = |(node, promises): (&str, Vec<&Promise>)| {
                (node.to_owned(), promises.iter().map(|promise| promise.gpus).sum::<u64>())
            };
            promises.to_others(Some(owner)).map(of).collect::<Vec<_>>()
        };
        assert_eq!(others("one"), [("a".to_owned(), 1)]);
        assert_eq!(others("two"), [("a".to_owned(), 2), ("b".to_owned(), 4)]);
        assert_eq!(promises.to_others(None).count(), 2);
        assert_eq!(promises.gpus(), 7);
    }
}
