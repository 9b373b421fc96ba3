//! What GPUs a cluster has, by what its nodes say: a [`Snapshot`] of nodes and pods becomes [`GpuPool`]s.
//!
//! Invariants: a figure that cannot be believed is carried as such, never as zero and never as memory; GPUs in use are
//! counted from the requests of bound, unfinished pods, never from a count label.

pub(crate) mod cards;
mod devices;
#[cfg(test)]
mod devices_tests;
mod doubts;
mod export;
mod groups;
mod host;
mod names;
mod nodes;
mod object;
pub mod pod_facts;
mod promises;
mod quantity;
mod redact;
mod room;
mod slice;
mod snapshot;
mod source;
mod term;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod usage;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::units::Bytes;

pub use doubts::Doubt;
pub use nodes::Inventory;
pub use pod_facts::PodFacts;
pub use promises::{Promise, Promises};
pub use slice::{Claims, Counters, Device, DeviceId, Slice, Slices, held};
pub use snapshot::{MAX_SNAPSHOT_BYTES, SnapshotError};
pub use source::{
    Meaning, Preference, Preferred, SITE_LABEL_FORM, SiteLabel, SiteLabelError, Source, Sources, Wish,
};
pub use term::{Expression, NameExpression, Operator, Term, TermError, TermFault};

pub use groups::{NodeGpus, Pools};
pub use host::{Amounts, Capacity, HOST_RESOURCES, Requests};
pub use names::NodeNames;
pub(crate) use term::{is_label_key, is_label_value};
pub use usage::{Held, NodeUsage, Usage};

pub(crate) use groups::Group;
pub(crate) use host::is_quantity;
pub(crate) use room::{Room, Shortage};

/// The label that ties a pod to the ModelDeployment it serves, in the pod's own namespace.
pub const MODEL_DEPLOYMENT_LABEL: &str = "loadline.dev/model-deployment";

/// Nodes, pods, and what drivers of devices offer, at one moment, pruned to what Loadline uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The nodes, by name; shared with whatever is made of them, so that a cluster is in memory once.
    pub nodes: BTreeMap<String, Arc<Node>>,
    /// The pods that hold extended resources or serve a ModelDeployment, in no order.
    pub pods: Vec<Pod>,
    /// What the other bound, unfinished pods request, together, by node.
    pub others: BTreeMap<String, Amounts>,
    /// The ResourceSlices of drivers of GPUs, by name.
    pub slices: Slices,
    /// The GPUs that ResourceClaims hold, by their namespace and name.
    pub claims: Claims,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Those of its annotations that say what GPUs it has, as far as they are read. No node selector sees them.
    pub annotations: BTreeMap<String, String>,
    /// Its taints.
    pub taints: Vec<Taint>,
    /// Allocatable extended resources (names with a `/`) and huge pages, as whole numbers.
    pub allocatable: BTreeMap<String, u64>,
    /// Allocatable CPU, memory, ephemeral storage and pods.
    pub host: Capacity,
    /// Whether its `Ready` condition is true.
    pub ready: bool,
    /// Whether it is cordoned.
    pub unschedulable: bool,
}

/// A taint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Taint {
    /// Its key.
    pub key: String,
    /// Its value; empty if it has none.
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The node it is bound to.
    pub node: Option<String>,
    /// The node that kube-scheduler has named for it, where it waits for others to make room (`status.nominatedNodeName`).
    pub nominated: Option<String>,
    /// Whether it has succeeded or failed, and so holds nothing.
    pub finished: bool,
    /// What it requests of extended resources: the larger of its init containers' and its containers' sum.
    pub requests: BTreeMap<String, u64>,
    /// What it requests of what every node has.
    pub host: Amounts,
    /// The ModelDeployment it serves, by [`MODEL_DEPLOYMENT_LABEL`].
    pub model_deployment: Option<String>,
}

impl Pod {
    /// The node of which it holds what it requests: the one that it is bound to, or else nominated for.
    #[must_use]
    pub fn holds(&self) -> Option<&str> {
        self.node.as_deref().or(self.nominated.as_deref())
    }

    /// Whether nothing of it matters but how much it takes of its node: it holds no extended resource and is nobody's own.
    #[must_use]
    pub fn is_other(&self) -> bool {
        self.requests.is_empty() && self.model_deployment.is_none()
    }
}

/// Who made a GPU.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Vendor {
    /// NVIDIA.
    Nvidia,
    /// AMD.
    Amd,
    /// Intel.
    Intel,
}

impl Vendor {
    /// The resource that stands for a whole GPU of theirs.
    #[must_use]
    pub const fn resource(self) -> &'static str {
        match self {
            Self::Nvidia => "nvidia.com/gpu",
            Self::Amd => "amd.com/gpu",
            Self::Intel => "gpu.intel.com/xe",
        }
    }

    /// Whose GPUs, or slices of them, a resource stands for; `None` for a resource that is no GPU's.
    #[must_use]
    pub fn of_resource(resource: &str) -> Option<Self> {
        let (domain, name) = resource.split_once('/')?;
        match domain {
            "nvidia.com" if name.starts_with("gpu") || name.starts_with("mig-") => Some(Self::Nvidia),
            "amd.com" if name.starts_with("gpu") => Some(Self::Amd),
            "gpu.intel.com" => Some(Self::Intel),
            _ => None,
        }
    }
}

/// The GPUs of one kind on one node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GpuPool {
    /// Who made them.
    pub vendor: Vendor,
    /// What they are, as the node's labels say.
    pub product: Option<String>,
    /// Memory of each, with where the figure comes from.
    pub memory: Memory,
    /// The resource that a pod requests to get one, such as `nvidia.com/gpu`; where a pod must claim it, the driver, such as
    /// `gpu.nvidia.com`.
    pub resource: String,
    /// How many the node can hand out.
    pub allocatable: u64,
    /// How many no bound, unfinished pod has requested, and are promised to no other.
    pub free: u64,
    /// How many are promised to other objects.
    pub promised: u64,
    /// Whether one GPU is handed out more than once.
    pub sharing: GpuSharing,
}

impl GpuPool {
    /// Whether a pod gets one by a ResourceClaim alone: the node hands out no extended resource of them.
    #[must_use]
    pub fn is_claimed(&self) -> bool {
        !self.resource.contains('/')
    }

    /// What one pod gets of each: the memory that the label states, divided among the clients where MPS divides it.
    /// `None` where the memory is not known.
    #[must_use]
    pub fn usable_memory(&self) -> Option<Bytes> {
        match (&self.memory, self.sharing) {
            (Memory::Known { bytes, .. }, GpuSharing::Mps(clients)) => Some(Bytes(bytes.0 / clients.max(1))),
            (Memory::Known { bytes, .. }, _) => Some(*bytes),
            (Memory::Missing { .. } | Memory::Untrusted { .. }, _) => None,
        }
    }
}

/// Memory per GPU, or why it is not known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Memory {
    /// A believable figure.
    Known {
        /// Memory per GPU.
        bytes: Bytes,
        /// The label it comes from.
        label: String,
        /// Who writes that label.
        source: SourceName,
        /// How far it is to be trusted.
        trust: Trust,
    },
    /// The node has GPUs and no label that says their memory.
    Missing {
        /// The label that was looked for.
        label: String,
        /// What an annotation says that each has: nothing that a pod could demand.
        annotated: Option<Bytes>,
    },
    /// There is a label, and it cannot be believed.
    Untrusted {
        /// The label.
        label: String,
        /// Its value.
        value: String,
        /// Why not.
        fault: LabelFault,
    },
}

/// Who writes a label, such as `nvidia-gfd`.
pub type SourceName = std::borrow::Cow<'static, str>;

/// How far a figure is to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Trust {
    /// Software on the node has asked the card's driver, or somebody has set what that would say.
    Reported,
    /// A label says what card it is, and the table of cards what such a card has.
    ByName,
}

/// Why a memory label cannot be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LabelFault {
    /// The value is empty.
    Empty,
    /// Not a whole number of MiB: a unit, a sign, a fraction or an exponent.
    NotANumber,
    /// Zero: GPU Feature Discovery writes it for an invalid MIG layout.
    Zero,
    /// So large that it must be bytes (old releases) or a mistake.
    TooLarge,
    /// The product's name says that the MIG layout is invalid.
    MigInvalid,
    /// MIG is being reconfigured (`nvidia.com/mig.config.state` is not `success`).
    MigPending,
    /// The label is of a card that is cut into MIG slices, and no whole one is left.
    MigMixed,
    /// It does not say among how many clients MPS divides the GPU.
    Clients,
    /// It is more than 8 % off what the card has that the product's label names.
    NotTheCard {
        /// What such a card has.
        mib: u64,
    },
    /// The node hands out more than the cards that the label counts: some are shared, or they are of several kinds.
    MoreThanCards {
        /// How many it hands out.
        handed_out: u64,
    },
    /// It names a card, or a size, of which Loadline does not know the memory.
    NotKnown,
    /// Labels of several kinds of GPU stand side by side, and which of them a pod gets nothing says.
    SeveralKinds,
    /// A slice of a card, whose name does not say its memory.
    PartOfACard,
    /// MPS divides the card, and this source has no terms for the shares.
    Divided,
    /// An annotation that is not the list of cards with their MiB that its writer makes.
    NotRegistered,
    /// Not all ResourceSlices of the newest generation of a pool are there, or a device is there twice.
    NotComplete,
    /// What a driver writes of a GPU whose memory it cannot read.
    Unread,
    /// A sum over all GPUs of the node, and no label says how many they are.
    SumOfUnknownMany,
}

/// Whether and how one GPU is handed out more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GpuSharing {
    /// Each GPU goes to one pod.
    Exclusive,
    /// Each GPU is handed out so many times, with no isolation of memory.
    TimeSliced(u64),
    /// Each GPU is divided evenly among so many clients.
    Mps(u64),
    /// Each is an isolated slice of a GPU (MIG). A process sees only one of them, so several do not add up.
    Mig,
}

impl GpuSharing {
    /// GPUs that MPS divides among more are not used: node affinity needs a term for each number of clients.
    pub const MOST_MPS_CLIENTS: u64 = 8;
}

/// A ModelDeployment, whose own pods do not count against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
}
