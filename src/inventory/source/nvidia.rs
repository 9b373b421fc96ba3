//! NVIDIA's own labels, written by GPU Feature Discovery and the GPU operator.
//!
//! `nvidia.com/gpu.memory` is MiB per GPU as a plain integer: NVML's total divided by 2^20. Labels of MIG slices are
//! named as their resource is. Where some cards of a node are cut into slices and others are whole, the labels of
//! `nvidia.com/gpu` are those of the whole cards, and only where all are cut does `nvidia.com/gpu.replicas` say 0
//! (NVIDIA/k8s-device-plugin v0.17, `internal/lm/resource.go`, `internal/lm/mig-strategy.go` and
//! `docs/gpu-feature-discovery/README.md`).

use super::{Meaning, Source, Wish, never};
use crate::inventory::term::integer;
use crate::inventory::{Expression, GpuPool, GpuSharing, LabelFault, Memory, Node, Term, Vendor};
use crate::units::{Bytes, Overflow};

/// The resource of whole GPUs, of single-strategy MIG slices and of time-sliced GPUs that keep the name.
const GPU: &str = "nvidia.com/gpu";
/// What the device plugin adds to the name of a resource that is shared, if it is told to rename it.
const SHARED_SUFFIX: &str = ".shared";
const MIG_PREFIX: &str = "nvidia.com/mig-";
const PRODUCT: &str = "nvidia.com/gpu.product";
/// There only where `nvidia.com/gpu` is a MIG slice, as the strategy `single` has it.
const SLICES: &str = "nvidia.com/gpu.slices.gi";
/// `success`, or what MIG is being changed from (GPU operator).
const MIG_STATE: &str = "nvidia.com/mig.config.state";
/// States of a layout that is being changed: the labels may be of the old one.
const NOT_SETTLED: [&str; 3] = ["pending", "rebooting", "failed"];

/// Labels that only a node with NVIDIA GPUs has, even while its device plugin hands out none.
const GPU_LABELS: [&str; 3] = ["nvidia.com/gpu.memory", PRODUCT, "nvidia.com/gpu.count"];

/// A value from here on, taken as MiB, is a TiB on one card: bytes, as old releases wrote, or a mistake.
const TOO_LARGE_MIB: u64 = 1 << 20;

/// GPU Feature Discovery and the GPU operator.
#[derive(Clone, Copy, Debug)]
pub(super) struct GpuFeatureDiscovery;

impl Source for GpuFeatureDiscovery {
    fn name(&self) -> &'static str {
        "nvidia-gfd"
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
        let key = |name: &str| format!("{}.{name}", base(wish.resource));
        let (sharing, replicas) = (key("sharing-strategy"), key("replicas"));
        if wish.shared && wish.gpus <= 1 {
            return shared(wish, &sharing, &replicas);
        }
        let is_slice = base(wish.resource) != GPU;
        if wish.resource.ends_with(SHARED_SUFFIX) || (is_slice && wish.gpus > 1) {
            // What is handed out more than once is nobody's own, and a process sees one slice of those that it is given.
            return Ok(vec![never(&replicas)]);
        }
        let mut own = at_least(wish, wish.per_gpu);
        if wish.gpus > 1 {
            own.push(Expression::absent(SLICES));
        }
        let term = |more: Vec<Expression>| own.iter().cloned().chain(more).collect();
        // Releases before the sharing strategy had a label say only how often a GPU is shared, and those before sharing
        // nothing. `Lt` does not match a node without the label: hence a term for each, the one that an autoscaler's
        // template of a node can meet last.
        Ok(vec![
            term(vec![
                Expression::not_in(&sharing, ["time-slicing", "mps"]),
                Expression::above(&replicas, 0),
                Expression::below(&replicas, 2),
            ]),
            term(vec![Expression::is_in(&sharing, ["none", ""]), Expression::absent(&replicas)]),
            term(vec![Expression::absent(&sharing), Expression::absent(&replicas)]),
        ])
    }

    fn memory_label(&self, resource: &str) -> Option<String> {
        self.is_resource(resource).then(|| format!("{}.memory", base(resource)))
    }
}

/// Terms that admit a GPU which others use too. MPS divides its memory evenly, and the label does not say so: one term
/// for each number of clients.
fn shared(wish: &Wish<'_>, sharing: &str, replicas: &str) -> Result<Vec<Term>, Overflow> {
    let mut whole = at_least(wish, wish.per_gpu);
    whole.push(Expression::not_in(sharing, ["mps"]));
    whole.push(Expression::not_in(replicas, ["0"]));
    let mut terms = vec![whole.into_iter().collect()];
    for clients in 2..=GpuSharing::MOST_MPS_CLIENTS {
        let mut term = at_least(wish, wish.per_gpu.times(clients)?);
        term.push(Expression::is_in(sharing, ["mps"]));
        term.push(Expression::is_in(replicas, [clients.to_string()]));
        terms.push(term.into_iter().collect());
    }
    Ok(terms)
}

/// At least so much, in a unit that can be believed, and no MIG layout that is being changed.
fn at_least(wish: &Wish<'_>, least: Bytes) -> Vec<Expression> {
    let key = format!("{}.memory", base(wish.resource));
    vec![
        // `Gt` is strict, and whole numbers are all it takes: at least N is more than N - 1.
        Expression::above(&key, least.mib_ceil().saturating_sub(1)),
        Expression::below(&key, TOO_LARGE_MIB),
        Expression::not_in(MIG_STATE, NOT_SETTLED),
    ]
}

/// The resource whose name begins the keys of the labels.
fn base(resource: &str) -> &str {
    resource.strip_suffix(SHARED_SUFFIX).unwrap_or(resource)
}

/// What a node's labels say of one resource.
struct Labels<'a> {
    node: &'a Node,
    resource: &'a str,
}

/// How often one GPU is handed out, as `replicas` says it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Replicas {
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
    const fn of(node: &'a Node, resource: &'a str) -> Self {
        Self { node, resource }
    }

    fn key(&self, name: &str) -> String {
        format!("{}.{name}", base(self.resource))
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.node.labels.get(&self.key(name)).map(String::as_str)
    }

    fn product(&self) -> Option<&'a str> {
        self.get("product").filter(|product| !product.is_empty())
    }

    fn replicas(&self) -> Replicas {
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
            memory: self.memory(),
            resource: self.resource.to_owned(),
            allocatable,
            free: allocatable,
            sharing: self.sharing(allocatable),
        }
    }

    /// The memory of one GPU or slice, or why its label says nothing.
    fn memory(&self) -> Memory {
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
        if let Some(product) = node.labels.get(PRODUCT).filter(|product| product.ends_with("-MIG-INVALID")) {
            return untrusted(PRODUCT, product, LabelFault::MigInvalid);
        }
        let Some(value) = node.labels.get(&key) else { return Memory::Missing { label: key } };
        let replicas = self.replicas();
        match mebibytes(value) {
            Err(fault) => untrusted(&key, value, fault),
            // The label is of a card that is cut: whatever this resource counts, it is not that.
            Ok(_) if replicas == Replicas::Sliced => untrusted(&key, value, LabelFault::MigMixed),
            Ok(_) if self.is_mps() && !matches!(replicas, Replicas::Many(_)) => match self.get("replicas") {
                Some(value) => untrusted(&self.key("replicas"), value, LabelFault::Clients),
                None => Memory::Missing { label: self.key("replicas") },
            },
            Ok(bytes) => Memory::Known { bytes, label: key },
        }
    }

    fn is_mps(&self) -> bool {
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

/// A label's value as memory: decimal digits alone.
fn mebibytes(value: &str) -> Result<Bytes, LabelFault> {
    if value.is_empty() {
        return Err(LabelFault::Empty);
    }
    if !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(LabelFault::NotANumber);
    }
    match value.parse::<u64>() {
        Ok(0) => Err(LabelFault::Zero),
        Ok(mib) if mib < TOO_LARGE_MIB => Bytes::from_mib(mib).ok_or(LabelFault::TooLarge),
        _ => Err(LabelFault::TooLarge),
    }
}
