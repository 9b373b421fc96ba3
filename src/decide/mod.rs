//! The only place where yes or no is made: `decide(request, nodes) -> Decision`.
//!
//! Invariants: nothing selected is smaller than the requirement; adding a node never makes a fitting model unfit;
//! decisions are made per class of identical nodes.

mod change;
mod digest;
mod finding;
mod node;
mod promise;
mod rank;
mod suggest;
#[cfg(test)]
mod tests;
mod toleration;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::api::v1alpha1::Strategy;
use crate::inventory::{GpuPool, Inventory, NodeNames, Owner, Requests, Term, Vendor};
use crate::precision::{UnknownName, named};
use crate::units::{Bytes, GIB, shorten};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

pub use change::Change;
pub use digest::Digest;
pub use finding::Finding;
pub use promise::Wanted;
pub use suggest::Room;

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
    /// The resource that the pods request, where it is not for a decision to choose; `None` allows all.
    pub resource: Option<String>,
    /// Whether GPUs that are handed out more than once will do.
    pub allow_shared: bool,
    /// Labels that a node must have.
    pub node_selector: BTreeMap<String, String>,
    /// Node selector terms of the object's own, of which a node must match one; none demands nothing.
    pub affinity: Vec<Term>,
    /// The terms of pods that run and stay as they were written: what these were let onto, whatever would be written now.
    pub written: Vec<Term>,
    /// Taints that are tolerated.
    pub tolerations: Vec<Toleration>,
    /// Which of the nodes that fit come first.
    pub strategy: Strategy,
    /// What a pod requests of the node besides GPUs.
    pub requests: Requests,
}

impl Policy {
    /// The labels that it looks at, in order.
    fn labels(&self) -> Vec<&str> {
        let terms = self.affinity.iter().chain(&self.written).flat_map(Term::keys);
        let labels: BTreeSet<&str> = self.node_selector.keys().map(String::as_str).chain(terms).collect();
        labels.into_iter().collect()
    }
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
        /// The GPUs have the memory and are free, and other objects, whose pods are still to come, are promised them.
        PromisedToAnother = "PromisedToAnother",
        /// The GPUs would do, and other pods hold the CPU, memory or other resources that the template requests.
        ResourcesBusy = "ResourcesBusy",
        /// The GPUs would do, and the node has less CPU, memory or other resources than the template requests.
        ResourcesTooSmall = "ResourcesTooSmall",
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
        /// The node gives its GPUs to resource claims alone, and the pods request an extended resource.
        ClaimNeeded = "ClaimNeeded",
        /// The estimate is being made.
        EstimatePending = "EstimatePending",
        /// The model could not be resolved to a shape.
        ModelNotResolved = "ModelNotResolved",
        /// The specification contradicts itself or the model.
        InvalidSpec = "InvalidSpec",
        /// The specification asks for what this version does not do.
        NotSupported = "NotSupported",
        /// The specification asks for what the settings of this cluster rule out.
        NotAllowed = "NotAllowed",
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

/// The answer for one class of identical nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassVerdict {
    /// The nodes, by name, sorted; shared with the inventory.
    pub nodes: NodeNames,
    /// What was found of each: the verdict and the reason follow from it.
    pub finding: Finding,
    /// The pool that the answer is about: the one picked, or the one that comes nearest; none on a node without GPUs.
    pub pool: Option<Arc<GpuPool>>,
    /// GPUs of that pool that the object's own pods hold, over all the nodes: `free` counts them as free.
    pub held_by_own: u64,
}

impl ClassVerdict {
    /// The answer.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        self.finding.verdict()
    }

    /// The one reason.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.finding.reason()
    }

    /// How many nodes there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        u64::try_from(self.nodes.len()).unwrap_or(u64::MAX)
    }

    /// GPUs of the pool that are free to the object, over all the nodes: its own pods do not count against it.
    #[must_use]
    pub fn free(&self) -> u64 {
        self.pool.as_ref().map_or(0, |pool| pool.free.saturating_mul(self.count()))
    }

    /// GPUs of the pool that nobody holds, over all the nodes, the object's own pods included.
    #[must_use]
    pub fn free_without_own(&self) -> u64 {
        self.free().saturating_sub(self.held_by_own)
    }
}

/// A change, with what it would need, before it is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alternative {
    /// The change.
    pub change: Change,
    /// What the object would then need.
    pub requirement: Requirement,
}

/// A change that was checked to fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    /// What stands for the object: the verdict and the reason follow from it.
    pub finding: Finding,
    /// What was asked for.
    pub requirement: Requirement,
    /// The answer per class: fits first, smallest GPU first; then busy, unknown, rejected.
    pub classes: Vec<ClassVerdict>,
    /// Replicas that would find room now.
    pub slots: u64,
    /// Changes that would make it fit; empty when it fits.
    pub suggestions: Vec<Suggestion>,
}

/// Nodes that a status lists; `loadline plan` lists all.
pub const SHOWN_NODES: usize = 10;

impl Decision {
    /// The answer for the object as a whole: the cluster's, unless what it asks for `runs` nowhere.
    #[must_use]
    pub const fn answer(&self, runs: bool) -> (Verdict, Reason) {
        if runs { self.finding.answer() } else { (Verdict::Rejected, Reason::CannotRun) }
    }

    /// The answer for the object.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        self.finding.verdict()
    }

    /// The reason that stands for it.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.finding.reason()
    }

    /// The resource that the pods are to request: that of whole GPUs where any node fits or is busy with those, or where
    /// none fits; else that of the pool that comes first, such as `nvidia.com/mig-3g.40gb`.
    #[must_use]
    pub fn resource(&self) -> &str {
        let suited = |class: &&ClassVerdict| matches!(class.verdict(), Verdict::Fits | Verdict::Busy);
        let pools = || self.classes.iter().filter(suited).filter_map(|class| class.pool.as_ref());
        let whole = pools().find(|pool| pool.resource == pool.vendor.resource());
        whole.or_else(|| pools().next()).map_or(Vendor::Nvidia.resource(), |pool| &pool.resource)
    }

    /// The nodes that a status lists: the first of every class, then the second of every class, and so on.
    pub fn shown(&self) -> impl Iterator<Item = (&ClassVerdict, &str)> {
        let longest = self.classes.iter().map(|class| class.nodes.len()).max().unwrap_or(0).min(SHOWN_NODES);
        let turn = |turn| self.classes.iter().filter_map(move |class| Some((class, class.nodes.get(turn)?)));
        (0..longest).flat_map(turn).take(SHOWN_NODES)
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
/// The object fits if any node fits; else it is busy if any is, else unknown if any is, else rejected. What stands for it
/// is then what was found of the class that comes nearest: the one that passes most of the checks, in the order of
/// [`finding::CHECKS`], and of several the one with the largest GPU.
#[must_use]
pub fn decide(request: &Request<'_>, inventory: &Inventory, alternatives: &[Alternative]) -> Decision {
    decide_lazily(request, inventory, || alternatives)
}

/// The same, with alternatives that are made only where they are tried.
pub(crate) fn decide_lazily<'a>(
    request: &Request<'_>,
    inventory: &Inventory,
    alternatives: impl FnOnce() -> &'a [Alternative],
) -> Decision {
    let Request { requirement, policy, owner } = *request;
    let groups = inventory.groups(owner, &policy.labels(), &policy.requests);
    let mut slots = 0_u64;
    let mut classes: Vec<ClassVerdict> = groups
        .iter()
        .map(|group| {
            let node::Judgement { mut finding, pool, slots: found } = node::judge(group, requirement, policy);
            slots = slots.saturating_add(found);
            if let (Finding::PromisedToAnother { to, .. }, Some(owner)) = (&mut finding, owner) {
                *to = inventory.promised_to(&group.names, owner).map(str::to_owned);
            }
            let held_by_own = pool.map_or(0, |pool| group.held_by_own(&pool.resource));
            ClassVerdict { nodes: group.names.clone(), finding, pool: pool.map(Arc::clone), held_by_own }
        })
        .collect();
    rank::sort(&mut classes, policy.strategy);
    let finding = nearest(&classes, requirement, inventory);
    let suggestions = match finding.verdict() {
        Verdict::Fits => Vec::new(),
        verdict => suggest::suggestions(verdict, policy, &groups, alternatives()),
    };
    Decision { finding, requirement, classes, slots, suggestions }
}

/// What stands for the object, of its classes in order.
fn nearest(classes: &[ClassVerdict], requirement: Requirement, inventory: &Inventory) -> Finding {
    let largest = inventory.largest_gpu().map_or(LARGEST_GPU_MADE, |known| known.max(LARGEST_GPU_MADE));
    if requirement.per_gpu > largest {
        // Not even a GPU whose memory is not known can have it.
        return Finding::NeverFits { needed: requirement.per_gpu, largest };
    }
    match classes.first() {
        Some(nearest) if inventory.has_gpus() => nearest.finding.clone(),
        _ => Finding::NoGpuNodes,
    }
}
