//! NVIDIA's own labels, written by GPU Feature Discovery and the GPU operator.
//!
//! `nvidia.com/gpu.memory` is MiB per GPU as a plain integer: NVML's total divided by 2^20. Labels of MIG slices are
//! named as their resource is. Where some cards of a node are cut into slices and others are whole, the labels of
//! `nvidia.com/gpu` are those of the whole cards, and only where all are cut does `nvidia.com/gpu.replicas` say 0
//! (NVIDIA/k8s-device-plugin v0.17, `internal/lm/resource.go`, `internal/lm/mig-strategy.go` and
//! `docs/gpu-feature-discovery/README.md`).

use super::{Meaning, NVIDIA_GFD, Source, Wish, mebibytes, never, reported};
use crate::inventory::cards::{self, Card};
use crate::inventory::term::integer;
use crate::inventory::{Expression, GpuPool, GpuSharing, LabelFault, Memory, Node, Term, Trust, Vendor};
use crate::units::{Bytes, Overflow};

/// The resource of whole GPUs, of single-strategy MIG slices and of time-sliced GPUs that keep the name.
pub(super) const GPU: &str = "nvidia.com/gpu";
/// What the device plugin adds to the name of a resource that is shared, if it is told to rename it.
pub(super) const SHARED_SUFFIX: &str = ".shared";
const MIG_PREFIX: &str = "nvidia.com/mig-";
const PRODUCT: &str = "nvidia.com/gpu.product";
/// There only where `nvidia.com/gpu` is a MIG slice, as the strategy `single` has it.
pub(super) const SLICES: &str = "nvidia.com/gpu.slices.gi";
/// `success`, or what MIG is being changed from (GPU operator).
const MIG_STATE: &str = "nvidia.com/mig.config.state";
/// States of a layout that is being changed: the labels may be of the old one.
const NOT_SETTLED: [&str; 3] = ["pending", "rebooting", "failed"];

const MEMORY: &str = "nvidia.com/gpu.memory";
pub(super) const REPLICAS: &str = "nvidia.com/gpu.replicas";
pub(super) const SHARING: &str = "nvidia.com/gpu.sharing-strategy";
const COUNT: &str = "nvidia.com/gpu.count";

/// Labels that only a node with NVIDIA GPUs has, even while its device plugin hands out none.
const GPU_LABELS: [&str; 3] = [MEMORY, PRODUCT, COUNT];

/// No node has more cards: a term that lists numbers of cards need not go on.
const MOST_CARDS: u64 = 64;

/// GPU Feature Discovery and the GPU operator.
#[derive(Clone, Copy, Debug)]
pub(super) struct GpuFeatureDiscovery;

impl Source for GpuFeatureDiscovery {
    fn name(&self) -> &'static str {
        NVIDIA_GFD
    }

    fn domains(&self) -> Vec<&str> {
        vec!["nvidia.com/"]
    }

    fn is_resource(&self, resource: &str) -> bool {
        let base = base(resource);
        base == GPU || base.starts_with(MIG_PREFIX)
    }

    fn meaning(&self, key: &str) -> Meaning {
        let is_own = ["nvidia.com/gpu.", MIG_PREFIX].iter().any(|prefix| key.starts_with(prefix));
        match key.rsplit_once('.') {
            Some((_, "memory")) if is_own => Meaning::Memory,
            Some((_, "product")) if is_own => Meaning::Product,
            _ => Meaning::Other,
        }
    }

    fn taints(&self) -> Vec<&str> {
        vec![GPU]
    }

    /// A resource of which there are none makes no pool, unless it is all that the node has.
    fn pools(&self, node: &Node) -> Vec<GpuPool> {
        let mut pools: Vec<GpuPool> = node
            .allocatable
            .iter()
            .filter(|(resource, count)| **count > 0 && self.is_resource(resource))
            .map(|(resource, count)| Labels::of(node, resource).pool(*count))
            .collect();
        let has_labels = GPU_LABELS.iter().any(|label| node.labels.contains_key(*label))
            || node.labels.get("nvidia.com/gpu.present").is_some_and(|value| value == "true");
        if pools.is_empty() && has_labels {
            pools.push(Labels::of(node, GPU).pool(0));
        }
        pools
    }

    fn terms(&self, wish: &Wish<'_>) -> Result<Vec<Term>, Overflow> {
        if !self.is_resource(wish.resource) {
            return Ok(Vec::new());
        }
        if !wish.is_shared() {
            return Ok(own(wish, &at_least(wish, wish.per_gpu)));
        }
        let mut terms = vec![shared(wish, at_least(wish, wish.per_gpu))];
        // MPS divides a card's memory evenly, and the label does not say so: one term for each number of clients.
        for clients in 2..=GpuSharing::MOST_MPS_CLIENTS {
            let mut term = at_least(wish, wish.per_gpu.times(clients)?);
            term.push(Expression::is_in(&key(wish.resource, "sharing-strategy"), ["mps"]));
            term.push(Expression::is_in(&key(wish.resource, "replicas"), [clients.to_string()]));
            terms.push(term.into_iter().collect());
        }
        Ok(terms)
    }

    fn silence(&self, resource: &str) -> Vec<Expression> {
        vec![Expression::absent(&key(resource, "memory")), Expression::not_in(MIG_STATE, NOT_SETTLED)]
    }

    /// Of whole cards, where none is cut: those that are, are counted with them.
    fn counted(&self, node: &Node, pool: &GpuPool) -> Option<(String, u64)> {
        let is_cut = node.allocatable.iter().any(|(name, count)| *count > 0 && name.starts_with(MIG_PREFIX));
        let labels = Labels::of(node, &pool.resource);
        (base(&pool.resource) == GPU && !is_cut).then(|| Some((labels.key("count"), labels.cards()?)))?
    }

    fn memory_label(&self, resource: &str) -> Option<String> {
        self.is_resource(resource).then(|| format!("{}.memory", base(resource)))
    }
}

/// What GPU Feature Discovery says of nodes whose memory label it leaves out, as it does where a GPU has the machine's own
/// memory, or that somebody has labelled by hand: the name of the card. Behind all that states memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Product;

impl Source for Product {
    fn name(&self) -> &'static str {
        NVIDIA_GFD
    }

    fn domains(&self) -> Vec<&str> {
        Vec::new()
    }

    fn is_resource(&self, resource: &str) -> bool {
        base(resource) == GPU
    }

    fn meaning(&self, _: &str) -> Meaning {
        Meaning::Other
    }

    fn taints(&self) -> Vec<&str> {
        Vec::new()
    }

    fn pools(&self, node: &Node) -> Vec<GpuPool> {
        let pools =
            GpuFeatureDiscovery.pools(node).into_iter().filter(|pool| self.is_resource(&pool.resource));
        pools
            .filter_map(|pool| {
                let labels = Labels::of(node, &pool.resource);
                let is_whole = !labels.is_mps() && labels.replicas() != Replicas::Sliced;
                let card = labels.card().filter(|_| is_whole && !node.labels.contains_key(SLICES))?;
                let bytes = Bytes::from_mib(card.mib)?;
                let (label, source) = (PRODUCT.to_owned(), NVIDIA_GFD.into());
                Some(GpuPool { memory: Memory::Known { bytes, label, source, trust: Trust::ByName }, ..pool })
            })
            .collect()
    }

    fn terms(&self, wish: &Wish<'_>) -> Result<Vec<Term>, Overflow> {
        let least = wish.per_gpu.mib_ceil();
        let names = products(wish, |card| card.mib >= least);
        if names.is_empty() || !self.is_resource(wish.resource) {
            return Ok(Vec::new());
        }
        let also = vec![Expression::is_in(PRODUCT, names), Expression::absent(SLICES)];
        Ok(if wish.is_shared() { vec![shared(wish, also)] } else { own(wish, &also) })
    }
}

/// What GPU Feature Discovery calls these cards, also where they are shared.
fn products(wish: &Wish<'_>, is: impl Fn(&Card) -> bool) -> Vec<String> {
    let names = cards::products_of(is);
    if wish.is_shared() {
        names.flat_map(|name| [name.to_owned(), format!("{name}-SHARED")]).collect()
    } else {
        names.map(str::to_owned).collect()
    }
}

/// The terms of a GPU that is the pod's own, with what else must hold.
fn own(wish: &Wish<'_>, also: &[Expression]) -> Vec<Term> {
    let (sharing, replicas) = (key(wish.resource, "sharing-strategy"), key(wish.resource, "replicas"));
    let is_slice = base(wish.resource) != GPU;
    if wish.resource.ends_with(SHARED_SUFFIX) || (is_slice && wish.gpus > 1) {
        // What is handed out more than once is nobody's own, and a process sees one slice of those that it is given.
        return vec![never(&replicas)];
    }
    let mut all = also.to_vec();
    if wish.gpus > 1 {
        all.push(Expression::absent(SLICES));
        // Where more is handed out than there are cards, several are not several cards.
        let fewer = 1..wish.gpus.min(MOST_CARDS);
        all.push(Expression::not_in(&key(wish.resource, "count"), fewer.map(|count| count.to_string())));
    }
    let term = |more: Vec<Expression>| all.iter().cloned().chain(more).collect();
    // Releases before the sharing strategy had a label say only how often a GPU is shared, and those before sharing
    // nothing. `Lt` does not match a node without the label: hence a term for each, the one that an autoscaler's template
    // of a node can meet last.
    vec![
        term(vec![
            Expression::not_in(&sharing, ["time-slicing", "mps"]),
            Expression::above(&replicas, 0),
            Expression::below(&replicas, 2),
        ]),
        term(vec![Expression::is_in(&sharing, ["none", ""]), Expression::absent(&replicas)]),
        term(vec![Expression::absent(&sharing), Expression::absent(&replicas)]),
    ]
}

/// The term of a GPU that others may use too, each with the whole of its memory.
fn shared(wish: &Wish<'_>, mut all: Vec<Expression>) -> Term {
    all.push(Expression::not_in(&key(wish.resource, "sharing-strategy"), ["mps"]));
    all.push(Expression::not_in(&key(wish.resource, "replicas"), ["0"]));
    all.into_iter().collect()
}

/// The terms of a GPU whose memory another label states, with what must hold of that.
pub(super) fn with_memory(wish: &Wish<'_>, mut also: Vec<Expression>) -> Vec<Term> {
    also.extend(no_smaller_card(wish, wish.per_gpu.mib_ceil()));
    if base(wish.resource) == GPU {
        also.push(Expression::absent(SLICES));
    }
    if wish.is_shared() { vec![shared(wish, also)] } else { own(wish, &also) }
}

/// No card that has less, whatever its label says.
fn no_smaller_card(wish: &Wish<'_>, mib: u64) -> Option<Expression> {
    let smaller =
        if base(wish.resource) == GPU { products(wish, |card| card.most_mib() < mib) } else { Vec::new() };
    (!smaller.is_empty()).then(|| Expression::not_in(PRODUCT, smaller))
}

/// At least so much, in a unit that can be believed, of no card that has less, and no MIG layout that is being changed.
fn at_least(wish: &Wish<'_>, least: Bytes) -> Vec<Expression> {
    let memory = key(wish.resource, "memory");
    let mib = least.mib_ceil();
    let mut all = vec![
        // `Gt` is strict, and whole numbers are all it takes: at least N is more than N - 1.
        Expression::above(&memory, mib.saturating_sub(1)),
        Expression::below(&memory, super::TOO_LARGE_MIB),
        Expression::not_in(MIG_STATE, NOT_SETTLED),
    ];
    all.extend(no_smaller_card(wish, mib));
    all
}

/// A label of a resource.
fn key(resource: &str, name: &str) -> String {
    format!("{}.{name}", base(resource))
}

/// The resource whose name begins the keys of the labels.
pub(super) fn base(resource: &str) -> &str {
    resource.strip_suffix(SHARED_SUFFIX).unwrap_or(resource)
}

/// What a node's labels say of one resource.
pub(super) struct Labels<'a> {
    node: &'a Node,
    resource: &'a str,
}

/// How often one GPU is handed out, as `replicas` says it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Replicas {
    /// No label: a release from before there was sharing.
    Unsaid,
    /// Once.
    One,
    /// So often.
    Many(u64),
    /// 0: every card is cut into MIG slices, and none of this resource is handed out.
    Sliced,
    /// No number that it can be.
    Garbled,
}

impl<'a> Labels<'a> {
    pub(super) const fn of(node: &'a Node, resource: &'a str) -> Self {
        Self { node, resource }
    }

    fn key(&self, name: &str) -> String {
        key(self.resource, name)
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.node.labels.get(&self.key(name)).map(String::as_str)
    }

    /// The card that the product's label names, if it is a whole one of one size.
    pub(super) fn card(&self) -> Option<&'static Card> {
        let product = self.product().filter(|_| base(self.resource) == GPU)?;
        cards::by_product(product.strip_suffix("-SHARED").unwrap_or(product))
    }

    fn product(&self) -> Option<&'a str> {
        self.get("product").filter(|product| !product.is_empty())
    }

    pub(super) fn replicas(&self) -> Replicas {
        match self.get("replicas") {
            None => Replicas::Unsaid,
            Some("0") => Replicas::Sliced,
            Some(text) => match integer(text).and_then(|number| u64::try_from(number).ok()) {
                Some(1) => Replicas::One,
                Some(many) if many > 1 => Replicas::Many(many),
                _ => Replicas::Garbled,
            },
        }
    }

    fn pool(&self, allocatable: u64) -> GpuPool {
        GpuPool {
            vendor: Vendor::Nvidia,
            product: self.product().map(str::to_owned),
            memory: self.memory(allocatable),
            resource: self.resource.to_owned(),
            allocatable,
            free: allocatable,
            promised: 0,
            sharing: self.sharing(allocatable),
        }
    }

    /// The memory of one GPU or slice, or why its label says nothing.
    fn memory(&self, allocatable: u64) -> Memory {
        let key = self.key("memory");
        let untrusted = |label: &str, value: &str, fault| Memory::Untrusted {
            label: label.to_owned(),
            value: value.to_owned(),
            fault,
        };
        let node = self.node;
        // While the operator repartitions the GPUs every gpu.* label may be of the old layout.
        if let Some(state) = node.labels.get(MIG_STATE).filter(|state| NOT_SETTLED.contains(&state.as_str()))
        {
            return untrusted(MIG_STATE, state, LabelFault::MigPending);
        }
        let Some(value) = node.labels.get(&key) else {
            return Memory::Missing { label: key, annotated: None };
        };
        // That of the strategy `single`, whose slices are `nvidia.com/gpu`: a profile's own resource has labels of its own.
        let is_invalid = |product: &&String| base(self.resource) == GPU && product.ends_with("-MIG-INVALID");
        if let Some(product) = node.labels.get(PRODUCT).filter(is_invalid) {
            return untrusted(PRODUCT, product, LabelFault::MigInvalid);
        }
        let replicas = self.replicas();
        match mebibytes(value) {
            Err(fault) => untrusted(&key, value, fault),
            // The label is of a card that is cut: whatever this resource counts, it is not that.
            Ok(_) if replicas == Replicas::Sliced => untrusted(&key, value, LabelFault::MigMixed),
            Ok(_) if self.is_mps() && !matches!(replicas, Replicas::Many(_)) => untrusted(
                &self.key("replicas"),
                self.get("replicas").unwrap_or_default(),
                LabelFault::Clients,
            ),
            Ok(_) if self.cards().is_some_and(|most| most < allocatable) => untrusted(
                &self.key("count"),
                self.get("count").unwrap_or_default(),
                LabelFault::MoreThanCards { handed_out: allocatable },
            ),
            Ok(bytes) => match self.card() {
                Some(card) if card.is_far(bytes) => {
                    untrusted(&key, value, LabelFault::NotTheCard { mib: card.mib })
                }
                // No card has more than its kind ever reports, whatever its label says.
                Some(card) => {
                    let most = Bytes::from_mib(card.most_mib()).unwrap_or(bytes);
                    reported(bytes.min(most), &key, NVIDIA_GFD)
                }
                None => reported(bytes, &key, NVIDIA_GFD),
            },
        }
    }

    /// How many of the resource the cards that are counted come to, as they are shared; `None` if no label counts them.
    fn cards(&self) -> Option<u64> {
        let cards = integer(self.get("count")?).and_then(|count| u64::try_from(count).ok())?;
        let times = if let Replicas::Many(times) = self.replicas() { times } else { 1 };
        (cards > 0).then(|| cards.saturating_mul(times))
    }

    /// Whether `nvidia.com/gpu` is a MIG slice, as the strategy `single` has it.
    pub(super) fn is_slice_of_gpu(&self) -> bool {
        base(self.resource) == GPU && self.node.labels.contains_key(SLICES)
    }

    pub(super) fn is_mps(&self) -> bool {
        self.get("sharing-strategy") == Some("mps")
    }

    /// How one GPU is handed out. What is not understood counts as time-slicing, which promises least.
    fn sharing(&self, allocatable: u64) -> GpuSharing {
        let replicas = self.replicas();
        // Where the label does not say, no GPU can have more clients than the node hands out in all.
        let clients = if let Replicas::Many(clients) = replicas { clients } else { allocatable.max(2) };
        let is_shared = match self.get("sharing-strategy") {
            Some("mps") => return GpuSharing::Mps(clients),
            Some("time-slicing") => true,
            Some("none" | "") | None => !matches!(replicas, Replicas::Unsaid | Replicas::One),
            // Whatever it is called, what is handed out once is not shared.
            Some(_) => replicas != Replicas::One,
        };
        let product = self.product();
        if is_shared
            || self.resource.ends_with(SHARED_SUFFIX)
            || product.is_some_and(|product| product.ends_with("-SHARED"))
        {
            return GpuSharing::TimeSliced(clients);
        }
        let is_slice = base(self.resource) != GPU
            || self.node.labels.contains_key(SLICES)
            || product.is_some_and(|product| product.contains("-MIG-"));
        if is_slice { GpuSharing::Mig } else { GpuSharing::Exclusive }
    }
}
