//! Where labels come from, one file per source. Each says both how the GPUs of a node are read from its labels and which
//! node selector terms demand a GPU that is large enough, so that what is accepted and what can be bound are one thing.

mod nvidia;
mod sizes;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use super::{GpuPool, Memory, Node, Term};
use crate::units::{Bytes, Overflow};

pub use sizes::{Preference, Preferred};

/// What pods ask of the nodes that they may be bound to, as far as labels can say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish<'a> {
    /// The resource that the pods request, such as `nvidia.com/gpu`.
    pub resource: &'a str,
    /// Memory that each GPU must have.
    pub per_gpu: Bytes,
    /// GPUs that one pod takes.
    pub gpus: u64,
    /// Whether GPUs that are handed out more than once will do.
    pub shared: bool,
}

/// A source of labels about GPUs.
///
/// Invariant, held by a property test over all sources: a node whose pool of the wished resource is accepted as regards its
/// labels matches one of the terms, and a node that matches one is accepted.
pub trait Source: fmt::Debug + Send + Sync {
    /// What it is called, such as `nvidia-gfd`.
    fn name(&self) -> &str;

    /// How the keys of its labels, resources and taints begin. They say what GPUs are, never whose they are.
    fn domains(&self) -> Vec<&str>;

    /// Whether a resource is one whose units are GPUs or parts of GPUs that it describes.
    fn is_resource(&self, resource: &str) -> bool;

    /// What a label of its own says.
    fn meaning(&self, key: &str) -> Meaning;

    /// The taints, by key, that keep pods without GPUs away from the nodes that it describes.
    fn taints(&self) -> Vec<&str>;

    /// The GPUs of a node, by resource; all of them free, for usage is not the labels' affair.
    fn pools(&self, node: &Node) -> Vec<GpuPool>;

    /// The terms of which a node must match one; none where it says nothing of the resource.
    ///
    /// # Errors
    /// A requirement that cannot be multiplied by a number of clients without an overflow.
    fn terms(&self, wish: &Wish<'_>) -> Result<Vec<Term>, Overflow>;

    /// The label whose value is the MiB of one GPU or slice of a resource, if it has one: what nodes are preferred by.
    fn memory_label(&self, resource: &str) -> Option<String>;
}

/// What a label is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Memory of a GPU.
    Memory,
    /// What GPUs they are.
    Product,
    /// Anything else.
    Other,
}

/// The sources that nodes are read from, the most trusted first: of one resource, the first that says anything of its
/// memory is taken.
#[derive(Clone, Debug)]
pub struct Sources(Vec<Arc<dyn Source>>);

/// All that Loadline knows.
impl Default for Sources {
    fn default() -> Self {
        Self(vec![Arc::new(nvidia::GpuFeatureDiscovery)])
    }
}

impl Sources {
    /// These sources after the ones that are there, such as a site's own label.
    #[must_use]
    pub fn with(mut self, more: impl IntoIterator<Item = Arc<dyn Source>>) -> Self {
        self.0.extend(more);
        self
    }

    /// The sources, the most trusted first.
    pub fn iter(&self) -> impl Iterator<Item = &dyn Source> {
        self.0.iter().map(AsRef::as_ref)
    }

    /// The GPUs of a node, by resource.
    #[must_use]
    pub fn pools(&self, node: &Node) -> Vec<GpuPool> {
        let mut pools: Vec<GpuPool> = Vec::new();
        for found in self.iter().flat_map(|source| source.pools(node)) {
            match pools.iter_mut().find(|known| known.resource == found.resource) {
                None => pools.push(found),
                Some(known) if matches!(known.memory, Memory::Missing { .. }) => known.memory = found.memory,
                Some(_) => {}
            }
        }
        pools
    }

    /// The terms of which a node must match one for pods with this wish to be bound to it.
    ///
    /// # Errors
    /// See [`Source::terms`].
    pub fn required(&self, wish: &Wish<'_>) -> Result<Vec<Term>, Overflow> {
        let terms: Vec<Vec<Term>> = self.iter().map(|source| source.terms(wish)).collect::<Result<_, _>>()?;
        Ok(terms.into_iter().flatten().collect())
    }

    /// The terms by which the smallest GPUs that hold the wish are preferred, or the largest there are.
    #[must_use]
    pub fn preferred(&self, wish: &Wish<'_>, preference: Preference) -> Vec<Preferred> {
        let label = self.iter().find_map(|source| source.memory_label(wish.resource));
        label.map_or_else(Vec::new, |label| sizes::preferred(&label, wish.per_gpu, preference))
    }

    /// Whether the key of a label, resource or taint is of GPUs.
    #[must_use]
    pub fn is_about_gpus(&self, key: &str) -> bool {
        self.iter().any(|source| source.domains().iter().any(|domain| key.starts_with(domain)))
    }

    /// Whether a resource is one whose units are GPUs or parts of GPUs.
    #[must_use]
    pub fn is_resource(&self, resource: &str) -> bool {
        self.iter().any(|source| source.is_resource(resource))
    }

    /// What a label says of GPUs.
    #[must_use]
    pub fn meaning(&self, key: &str) -> Meaning {
        let meanings = self.iter().map(|source| source.meaning(key));
        meanings.into_iter().find(|meaning| *meaning != Meaning::Other).unwrap_or(Meaning::Other)
    }
}

/// An expression that no node matches, and one that says so: for what can never be had.
fn never(key: &str) -> Term {
    [super::Expression::exists(key), super::Expression::absent(key)].into_iter().collect()
}
