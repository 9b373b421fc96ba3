//! What was found of a class of nodes, or of a cluster, with its numbers. The verdict and the reason follow from it, by one
//! table.

use super::{Reason, Verdict};
use crate::inventory::{GpuSharing, LabelFault, Taint, Vendor};
use crate::units::Bytes;

/// What was found of a class of nodes, or of a cluster, and its numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Finding {
    /// Enough free GPUs with enough memory.
    FitsNow {
        /// What is needed per GPU.
        needed: Bytes,
        /// What a GPU has: the headroom is the difference.
        has: Bytes,
    },
    /// The GPUs have the memory, and other pods hold them.
    GpusBusy {
        /// GPUs that one replica takes.
        needed: u64,
        /// What is free.
        free: u64,
        /// What the node hands out.
        allocatable: u64,
    },
    /// The GPUs have the memory and are free, and others are promised them.
    PromisedToAnother {
        /// GPUs that one replica takes.
        needed: u64,
        /// What is free and promised to nobody else.
        free: u64,
        /// What is free and promised.
        promised: u64,
        /// What the node hands out.
        allocatable: u64,
        /// One whom they are promised to, of the asker's own namespace.
        to: Option<String>,
    },
    /// The node has what is requested besides GPUs, and other pods hold it.
    ResourcesBusy {
        /// Of which resource.
        resource: String,
        /// What a pod requests: CPU in thousandths, memory and storage in bytes, others by number.
        needed: u64,
        /// The most that is free on any node of the class.
        free: u64,
        /// The most that any has.
        allocatable: u64,
    },
    /// The node has less than is requested besides GPUs.
    ResourcesTooSmall {
        /// Of which resource.
        resource: String,
        /// What a pod requests: CPU in thousandths, memory and storage in bytes, others by number.
        needed: u64,
        /// The most that any node of the class has.
        allocatable: u64,
    },
    /// Every GPU is smaller than the requirement.
    GpuMemoryTooSmall {
        /// What is needed per GPU.
        needed: Bytes,
        /// What the largest GPU has.
        has: Bytes,
    },
    /// The node hands out fewer GPUs than one replica takes.
    TooFewGpus {
        /// GPUs that one replica takes.
        needed: u64,
        /// What the node hands out.
        allocatable: u64,
    },
    /// The node has no GPU.
    NoGpus,
    /// No node of the cluster has a GPU.
    NoGpuNodes,
    /// The node has GPUs, and no label says their memory.
    LabelMissing {
        /// The label's key.
        label: String,
        /// What an annotation says that each has, which no pod can demand.
        annotated: Option<Bytes>,
    },
    /// The memory label cannot be believed.
    LabelUntrusted {
        /// The label's key.
        label: String,
        /// Its value.
        value: String,
        /// Why not.
        fault: LabelFault,
    },
    /// A taint is not tolerated.
    TaintNotTolerated(Taint),
    /// The node is not ready.
    NodeNotReady,
    /// The node is cordoned.
    NodeCordoned,
    /// The node selector does not match.
    SelectorMismatch {
        /// The label's key.
        key: String,
        /// What is wanted.
        wanted: String,
        /// What the node has.
        has: Option<String>,
    },
    /// The node affinity of the object's own template does not match.
    AffinityMismatch,
    /// The node affinity that the running pods were written with does not match.
    WrittenMismatch,
    /// The GPUs are of a vendor that the object does not allow.
    VendorMismatch {
        /// Whose they are.
        vendor: Vendor,
    },
    /// The GPUs are handed out more than once, or are slices, and the object wants whole ones of its own.
    SharedGpu {
        /// How they are shared.
        sharing: GpuSharing,
    },
    /// The node gives its GPUs to resource claims alone.
    ClaimNeeded {
        /// The driver that offers them, such as `gpu.nvidia.com`.
        driver: String,
        /// How many are free.
        free: u64,
        /// How many there are.
        offered: u64,
    },
    /// No GPU that is made, and none of the cluster, has the memory.
    NeverFits {
        /// What is needed per GPU.
        needed: Bytes,
        /// The most that any has.
        largest: Bytes,
    },
}

/// The checks of a node in the order in which they are made. A node's reason is the first that fails, so a later one comes
/// nearer.
pub(super) const CHECKS: [Reason; 17] = [
    Reason::NoGpus,
    Reason::VendorMismatch,
    Reason::SelectorMismatch,
    Reason::LabelMissing,
    Reason::LabelUntrusted,
    Reason::GpuMemoryTooSmall,
    Reason::TooFewGpus,
    Reason::SharedGpu,
    Reason::ClaimNeeded,
    Reason::NodeCordoned,
    Reason::NodeNotReady,
    Reason::TaintNotTolerated,
    Reason::ResourcesTooSmall,
    Reason::GpusBusy,
    Reason::PromisedToAnother,
    Reason::ResourcesBusy,
    Reason::FitsNow,
];

impl Finding {
    /// The verdict and the reason: the one table.
    #[must_use]
    pub const fn answer(&self) -> (Verdict, Reason) {
        match self {
            Self::FitsNow { .. } => (Verdict::Fits, Reason::FitsNow),
            Self::GpusBusy { .. } => (Verdict::Busy, Reason::GpusBusy),
            Self::PromisedToAnother { .. } => (Verdict::Busy, Reason::PromisedToAnother),
            Self::ResourcesBusy { .. } => (Verdict::Busy, Reason::ResourcesBusy),
            Self::ResourcesTooSmall { .. } => (Verdict::Rejected, Reason::ResourcesTooSmall),
            Self::LabelMissing { .. } => (Verdict::Unknown, Reason::LabelMissing),
            Self::LabelUntrusted { .. } => (Verdict::Unknown, Reason::LabelUntrusted),
            Self::GpuMemoryTooSmall { .. } => (Verdict::Rejected, Reason::GpuMemoryTooSmall),
            Self::TooFewGpus { .. } => (Verdict::Rejected, Reason::TooFewGpus),
            Self::NoGpus => (Verdict::Rejected, Reason::NoGpus),
            Self::NoGpuNodes => (Verdict::Rejected, Reason::NoGpuNodes),
            Self::TaintNotTolerated(_) => (Verdict::Rejected, Reason::TaintNotTolerated),
            Self::NodeNotReady => (Verdict::Rejected, Reason::NodeNotReady),
            Self::NodeCordoned => (Verdict::Rejected, Reason::NodeCordoned),
            Self::SelectorMismatch { .. } | Self::AffinityMismatch | Self::WrittenMismatch => {
                (Verdict::Rejected, Reason::SelectorMismatch)
            }
            Self::VendorMismatch { .. } => (Verdict::Rejected, Reason::VendorMismatch),
            Self::SharedGpu { .. } => (Verdict::Rejected, Reason::SharedGpu),
            Self::ClaimNeeded { .. } => (Verdict::Rejected, Reason::ClaimNeeded),
            Self::NeverFits { .. } => (Verdict::Rejected, Reason::NeverFits),
        }
    }

    /// Yes, no, not now or not known.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        self.answer().0
    }

    /// The reason, in a word.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.answer().1
    }

    /// How many checks were passed before this was found.
    pub(super) fn passed(&self) -> usize {
        let reason = self.reason();
        CHECKS.iter().position(|check| *check == reason).unwrap_or(0)
    }
}
