//! The only place where yes or no is made: `decide(request, nodes) -> Decision`.
//!
//! Invariants: nothing selected is smaller than the requirement; adding a node never makes a fitting model unfit;
//! decisions are made per class of identical nodes.

mod node;
mod rank;
mod suggest;
#[cfg(test)]
mod tests;
mod toleration;

use std::collections::BTreeMap;

use crate::api::v1alpha1::Strategy;
use crate::inventory::{GpuPool, GpuSharing, Group, Inventory, LabelFault, Owner, Taint, Vendor};
use crate::precision::{UnknownName, named};
use crate::units::{Bytes, GIB, shorten};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What a model needs of the node that it runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    /// The estimate times the safety margin, on the GPU that needs most.
    pub per_gpu: Bytes,
    /// GPUs that one replica takes, all on one node.
    pub gpus: u64,
}

/// Where an object may run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Vendors allowed; empty allows all.
    pub vendors: Vec<Vendor>,
    /// Whether GPUs that are handed out more than once will do.
    pub allow_shared: bool,
    /// Labels that a node must have.
    pub node_selector: BTreeMap<String, String>,
    /// Taints that are tolerated.
    pub tolerations: Vec<Toleration>,
    /// Which of the nodes that fit come first.
    pub strategy: Strategy,
}

/// The largest GPU that is made: AMD's MI355X with 288 GiB (`amd.com/gpu.vram: 288G`); NVIDIA's B300 has 275040 MiB.
pub const LARGEST_GPU_MADE: Bytes = Bytes(288 * GIB);

/// A toleration, as Kubernetes means it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Toleration {
    /// The taint's key; empty with `exists` tolerates all.
    pub key: String,
    /// Whether the value matters not (`operator: Exists`).
    pub exists: bool,
    /// The taint's value.
    pub value: String,
    /// The taint's effect; empty for all.
    pub effect: String,
}

named! {
    /// Why a node, or a cluster, was picked or not: few, stable, documented in docs/reasons.md.
    Reason ("reason") {
        /// Enough free GPUs with enough memory.
        FitsNow = "FitsNow",
        /// The GPUs have the memory, and other pods hold them.
        GpusBusy = "GpusBusy",
        /// Every GPU is smaller than the requirement.
        GpuMemoryTooSmall = "GpuMemoryTooSmall",
        /// The node hands out fewer GPUs than one replica takes.
        TooFewGpus = "TooFewGpus",
        /// The node has no GPU.
        NoGpus = "NoGpus",
        /// No node of the cluster has a GPU.
        NoGpuNodes = "NoGpuNodes",
        /// The node has GPUs, and no label says their memory.
        LabelMissing = "LabelMissing",
        /// The memory label cannot be believed.
        LabelUntrusted = "LabelUntrusted",
        /// A taint is not tolerated.
        TaintNotTolerated = "TaintNotTolerated",
        /// The node is not ready.
        NodeNotReady = "NodeNotReady",
        /// The node is cordoned.
        NodeCordoned = "NodeCordoned",
        /// The node selector does not match.
        SelectorMismatch = "SelectorMismatch",
        /// The GPUs are of a vendor that the object does not allow.
        VendorMismatch = "VendorMismatch",
        /// The GPUs are handed out more than once, and the object wants its own.
        SharedGpu = "SharedGpu",
        /// The estimate is being made.
        EstimatePending = "EstimatePending",
        /// The model could not be resolved to a shape.
        ModelNotResolved = "ModelNotResolved",
        /// The specification contradicts itself or the model.
        InvalidSpec = "InvalidSpec",
        /// The specification asks for what this version does not do.
        NotSupported = "NotSupported",
        /// What was asked for cannot be run: the engine cannot load it, or nothing says where the weights are.
        CannotRun = "CannotRun",
        /// No GPU that is made has the memory.
        NeverFits = "NeverFits",
    }
}

/// The answer for a node or an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It fits now.
    Fits,
    /// It would fit, and the GPUs are in use.
    Busy,
    /// It cannot be said: a label is missing or not believed.
    Unknown,
    /// It does not fit.
    Rejected,
}

/// The answer for one class of identical nodes, with the numbers behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassVerdict {
    /// The nodes, by name, sorted.
    pub nodes: Vec<String>,
    /// The answer.
    pub verdict: Verdict,
    /// The one reason.
    pub reason: Reason,
    /// The numbers of the reason.
    pub detail: Detail,
    /// The pool that the answer is about: the one picked, or the one that comes nearest; none on a node without GPUs.
    pub pool: Option<GpuPool>,
}

/// The numbers behind a reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Needed and had, per GPU: for a fit (the headroom is the difference) or a GPU that is too small.
    Memory {
        /// What is needed.
        needed: Bytes,
        /// What a GPU has.
        has: Bytes,
    },
    /// GPUs needed and there (free, or allocatable).
    Gpus {
        /// What one replica takes.
        needed: u64,
        /// What is free.
        free: u64,
        /// What the node hands out.
        allocatable: u64,
    },
    /// A label that is missing.
    LabelMissing {
        /// Its key.
        label: String,
    },
    /// A label that cannot be believed.
    LabelUntrusted {
        /// Its key.
        label: String,
        /// Its value.
        value: String,
        /// Why not.
        fault: LabelFault,
    },
    /// The taint that is not tolerated.
    Taint(Taint),
    /// The selector's label and what the node has for it.
    Selector {
        /// The label's key.
        key: String,
        /// What is wanted.
        wanted: String,
        /// What the node has.
        has: Option<String>,
    },
    /// How the GPUs are shared.
    Sharing(GpuSharing),
    /// The vendor of the GPUs.
    Vendor(Vendor),
    /// The reason says it all.
    None,
}

/// A change to the object that would make it fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The fields, such as `precision`, and the value each would take.
    pub fields: Vec<(&'static str, String)>,
}

/// A change, with what it would need, before it is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alternative {
    /// The change.
    pub change: Change,
    /// What the object would then need.
    pub requirement: Requirement,
}

/// A change that was checked to fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    /// The change.
    pub change: Change,
    /// What the object would then need.
    pub requirement: Requirement,
    /// How many nodes it would then fit (free or busy).
    pub nodes: u64,
}

/// All verdicts, the chosen pools and what could be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The answer for the object.
    pub verdict: Verdict,
    /// The reason that stands for it.
    pub reason: Reason,
    /// What was asked for.
    pub requirement: Requirement,
    /// The answer per class: fits first, smallest GPU first; then busy, unknown, rejected.
    pub classes: Vec<ClassVerdict>,
    /// Replicas that would find room now.
    pub slots: u64,
    /// Changes that would make it fit; empty when it fits.
    pub suggestions: Vec<Suggestion>,
}

impl Decision {
    /// The answer for the object as a whole: the cluster's, unless what it asks for `runs` nowhere.
    #[must_use]
    pub const fn answer(&self, runs: bool) -> (Verdict, Reason) {
        if runs { (self.verdict, self.reason) } else { (Verdict::Rejected, Reason::CannotRun) }
    }

    /// The resource that the pods are to request: that of whole GPUs where any node fits or is busy with those, or where
    /// none fits; else that of the pool that comes first, such as `nvidia.com/mig-3g.40gb`.
    #[must_use]
    pub fn resource(&self) -> &str {
        let suited = |class: &&ClassVerdict| matches!(class.verdict, Verdict::Fits | Verdict::Busy);
        let pools = || self.classes.iter().filter(suited).filter_map(|class| class.pool.as_ref());
        let whole = pools().find(|pool| pool.resource == pool.vendor.resource());
        whole.or_else(|| pools().next()).map_or(Vendor::Nvidia.resource(), |pool| &pool.resource)
    }
}

/// A question about a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// What is needed.
    pub requirement: Requirement,
    /// Where it may run.
    pub policy: &'a Policy,
    /// Whose own pods do not count against it.
    pub owner: Option<Owner<'a>>,
}

/// Decides: which nodes fit, and for every other why not. `alternatives`, the cheapest first, are tried where it does not
/// fit now.
///
/// The object fits if any node fits; else it is busy if any is, else unknown if any is, else rejected. Its reason is
/// then that of the class that comes nearest: the one that passes most of the checks, in the order of [`node::CHECKS`],
/// and of several the one with the largest GPU.
#[must_use]
pub fn decide(request: &Request<'_>, inventory: &Inventory, alternatives: &[Alternative]) -> Decision {
    let groups = inventory.groups(request.owner, &request.policy.node_selector);
    let judged: Vec<node::Judgement> =
        groups.iter().map(|group| node::judge(group, &request.requirement, request.policy)).collect();
    let slots = groups.iter().zip(&judged).fold(0_u64, |sum, (group, judgement)| {
        sum.saturating_add(judgement.slots.saturating_mul(count(group)))
    });
    let mut classes: Vec<ClassVerdict> = groups
        .iter()
        .zip(judged)
        .map(|(group, judgement)| ClassVerdict {
            nodes: group.names.iter().map(|name| (*name).to_owned()).collect(),
            verdict: judgement.verdict,
            reason: judgement.reason,
            detail: judgement.detail,
            pool: judgement.pool,
        })
        .collect();
    rank::sort(&mut classes, request.policy.strategy);
    let (verdict, reason) = answer(&classes, &request.requirement, inventory);
    let suggestions = suggest::suggestions(verdict, request.policy, &groups, alternatives);
    Decision { verdict, reason, requirement: request.requirement, classes, slots, suggestions }
}

/// The object's verdict and reason, of its classes in order.
fn answer(classes: &[ClassVerdict], requirement: &Requirement, inventory: &Inventory) -> (Verdict, Reason) {
    let largest = inventory.largest_gpu().map_or(LARGEST_GPU_MADE, |known| known.max(LARGEST_GPU_MADE));
    if requirement.per_gpu > largest {
        // Not even a GPU whose memory is not known can have it.
        return (Verdict::Rejected, Reason::NeverFits);
    }
    match classes.first() {
        Some(_) if !inventory.has_gpus() => (Verdict::Rejected, Reason::NoGpuNodes),
        Some(nearest) => (nearest.verdict, nearest.reason),
        None => (Verdict::Rejected, Reason::NoGpuNodes),
    }
}

fn count(group: &Group<'_>) -> u64 {
    u64::try_from(group.names.len()).unwrap_or(u64::MAX)
}
