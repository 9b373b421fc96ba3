//! Where labels come from, one file per source. Each says both how the GPUs of a node are read from its labels and which
//! node selector terms demand a GPU that is large enough, so that what is accepted and what can be bound are one thing.

mod alibaba;
mod amd;
mod aws;
mod azure;
mod cloud;
mod coreweave;
mod gke;
pub(super) mod hami;
mod intel;
mod nvidia;
mod site;
mod sizes;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::{Expression, GpuPool, LabelFault, Memory, Node, Term, Trust};
use crate::units::{Bytes, Overflow};

pub use site::{SITE_LABEL_FORM, SiteLabel, SiteLabelError};
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

/// What GPU Feature Discovery is called.
const NVIDIA_GFD: &str = "nvidia-gfd";

/// A value from here on, taken as MiB, is a TiB on one card: bytes, as old releases wrote, or a mistake.
pub(super) const TOO_LARGE_MIB: u64 = 1 << 20;

impl Wish<'_> {
    /// Whether GPUs that others use too will do: several of those are not several cards.
    const fn is_shared(&self) -> bool {
        self.shared && self.gpus <= 1
    }
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

    /// What holds exactly where it says nothing of the memory of a resource: the terms of less trusted sources demand it.
    fn silence(&self, _resource: &str) -> Vec<Expression> {
        Vec::new()
    }

    /// What must hold of a node whichever source says its memory.
    fn conditions(&self, _wish: &Wish<'_>) -> Vec<Expression> {
        Vec::new()
    }

    /// Changes a pool as the conditions demand it, whichever source says its memory.
    fn amend(&self, _node: &Node, _pool: &mut GpuPool) {}

    /// Whether a cluster that has a node with these labels may come to have nodes with its own.
    fn may_come_with(&self, _labels: &BTreeMap<String, String>) -> bool {
        true
    }

    /// Whether an autoscaler writes the labels, and can tell before there is a node whether it would match. Karpenter drops
    /// the first of the required terms that it cannot meet and goes on, so that those that it can meet must come last
    /// (karpenter v1, `pkg/controllers/provisioning/scheduling/preferences.go`).
    fn is_autoscaler(&self) -> bool {
        false
    }

    /// What it says of the memory of a card of this resource, and by which label, whether or not that is what is taken.
    fn figure(&self, node: &Node, resource: &str) -> Option<(String, Bytes)> {
        let pool = self.pools(node).into_iter().find(|pool| pool.resource == resource)?;
        match pool.memory {
            Memory::Known { bytes, label, .. } => Some((label, bytes)),
            Memory::Missing { .. } | Memory::Untrusted { .. } => None,
        }
    }

    /// How many of these GPUs there should be, and which label says so.
    fn counted(&self, _node: &Node, _pool: &GpuPool) -> Option<(String, u64)> {
        None
    }

    /// Whether all that it says is the name of a card, of which a table has the memory: what states memory goes before it.
    fn is_by_name(&self) -> bool {
        false
    }

    /// The label whose value is the MiB of one GPU or slice of a resource, if it has one: what nodes are preferred by.
    fn memory_label(&self, _resource: &str) -> Option<String> {
        None
    }
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

impl PartialEq for Sources {
    fn eq(&self, other: &Self) -> bool {
        self.iter().map(Source::name).eq(other.iter().map(Source::name))
    }
}

impl Eq for Sources {}

/// All that Loadline knows.
impl Default for Sources {
    fn default() -> Self {
        Self(vec![
            Arc::new(nvidia::GpuFeatureDiscovery),
            Arc::new(coreweave::COREWEAVE),
            Arc::new(alibaba::ACK),
            Arc::new(gke::Gke),
            Arc::new(azure::KARPENTER),
            Arc::new(aws::EKS_AUTO_MODE),
            Arc::new(aws::KARPENTER),
            Arc::new(nvidia::Product),
            Arc::new(hami::Hami),
            Arc::new(amd::NodeLabeller),
            Arc::new(intel::GpuPlugin),
        ])
    }
}

impl Sources {
    /// These sources too, such as a site's own label: after those that software on the nodes writes for NVIDIA's GPUs, before
    /// what goes by a name alone.
    #[must_use]
    pub fn with(mut self, more: impl IntoIterator<Item = Arc<dyn Source>>) -> Self {
        let at = self.0.iter().position(|source| source.is_by_name()).unwrap_or(self.0.len());
        self.0.splice(at..at, more);
        self
    }

    /// These labels of a site's own too.
    #[must_use]
    pub fn with_labels(self, labels: &[SiteLabel]) -> Self {
        self.with(labels.iter().map(|label| Arc::new(label.clone()) as Arc<dyn Source>))
    }

    /// Those that a cluster with these nodes may come to have labels of: no node of another cloud's. All, while there is no
    /// node to tell by.
    #[must_use]
    pub fn of_cluster(&self, nodes: &[&Node]) -> Self {
        let may_come = |source: &&Arc<dyn Source>| {
            nodes.is_empty() || nodes.iter().any(|node| source.may_come_with(&node.labels))
        };
        Self(self.0.iter().filter(may_come).cloned().collect())
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
                Some(known) => {
                    let says_more = !matches!(found.memory, Memory::Missing { annotated: None, .. });
                    if matches!(known.memory, Memory::Missing { .. }) && says_more {
                        known.memory = found.memory;
                    }
                    known.product = known.product.take().or(found.product);
                }
            }
        }
        for pool in &mut pools {
            self.iter().for_each(|source| source.amend(node, pool));
        }
        pools
    }

    /// The terms of which a node must match one for pods with this wish to be bound to it.
    ///
    /// # Errors
    /// See [`Source::terms`].
    pub fn required(&self, wish: &Wish<'_>) -> Result<Vec<Term>, Overflow> {
        let conditions: Vec<Expression> = self.iter().flat_map(|source| source.conditions(wish)).collect();
        let mut silence: Vec<Expression> = Vec::new();
        let (mut terms, mut last) = (Vec::new(), Vec::new());
        for source in self.iter().filter(|source| source.is_resource(wish.resource)) {
            let found = source.terms(wish)?.into_iter().map(|mut term| {
                // Twice the same says no more than once.
                let more = silence.iter().chain(&conditions);
                let more: Vec<_> = more.filter(|more| !term.expressions.contains(more)).cloned().collect();
                term.expressions.extend(more);
                term
            });
            let into = if source.is_autoscaler() { &mut last } else { &mut terms };
            into.extend(found);
            silence.extend(source.silence(wish.resource));
        }
        terms.extend(last);
        Ok(terms)
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

/// A figure that software on the node reports.
fn reported(bytes: Bytes, label: &str, source: &'static str) -> Memory {
    Memory::Known { bytes, label: label.to_owned(), source: source.into(), trust: Trust::Reported }
}

/// A label that cannot be believed.
fn untrusted(label: &str, value: &str, fault: LabelFault) -> Memory {
    Memory::Untrusted { label: label.to_owned(), value: value.to_owned(), fault }
}

/// A label's value as memory: decimal digits alone.
fn mebibytes(value: &str) -> Result<Bytes, LabelFault> {
    match digits(value)? {
        0 => Err(LabelFault::Zero),
        mib if mib < TOO_LARGE_MIB => Bytes::from_mib(mib).ok_or(LabelFault::TooLarge),
        _ => Err(LabelFault::TooLarge),
    }
}

/// A label's value as a number: decimal digits alone.
fn digits(value: &str) -> Result<u64, LabelFault> {
    if value.is_empty() {
        return Err(LabelFault::Empty);
    }
    if !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(LabelFault::NotANumber);
    }
    value.parse().map_err(|_| LabelFault::TooLarge)
}

/// An expression that no node matches, and one that says so: for what can never be had.
fn never(key: &str) -> Term {
    [Expression::exists(key), Expression::absent(key)].into_iter().collect()
}
