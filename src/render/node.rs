//! Why a node was picked or not: one line with the numbers and the remedy.

use crate::decide::{ClassVerdict, Detail, Reason, Requirement};
use crate::inventory::{GpuPool, GpuSharing, LabelFault, Memory, Vendor};
use crate::units::Bytes;

use super::text::{clip, compared, counted, quoted};

/// The line for a class of identical nodes.
#[must_use]
pub fn node_message(class: &ClassVerdict, requirement: &Requirement) -> String {
    let pool = class.pool.as_ref();
    let product = pool.map_or_else(|| "GPU".to_owned(), product);
    let message = match &class.detail {
        Detail::Memory { needed, has } => memory(class.reason, &product, *needed, *has, pool),
        Detail::Gpus { needed, free, allocatable } => {
            gpus(class.reason, &product, *needed, *free, *allocatable)
        }
        Detail::LabelMissing { label } => missing(pool.map_or(0, |pool| pool.allocatable), label),
        Detail::LabelUntrusted { label, value, fault } => untrusted(label, value, *fault),
        Detail::Taint(taint) => {
            let value =
                if taint.value.is_empty() { String::new() } else { format!("={}", quoted(&taint.value)) };
            format!(
                "taint {}{value}:{} is not tolerated; add it to spec.placement.tolerations if the model may run there",
                quoted(&taint.key),
                quoted(&taint.effect)
            )
        }
        Detail::Selector { key, wanted, has } => {
            let has =
                has.as_ref().map_or_else(|| "not set".to_owned(), |value| format!("\"{}\"", quoted(value)));
            format!(
                "label {} is {has}, and spec.placement.nodeSelector wants \"{}\"",
                quoted(key),
                quoted(wanted)
            )
        }
        Detail::Sharing(sharing) => format!(
            "{product} is {}; {}",
            shared(*sharing),
            if requirement.gpus > 1 {
                "a model on several GPUs needs whole ones of its own"
            } else {
                "set spec.placement.sharing: Shared if the model may share a GPU"
            }
        ),
        Detail::Vendor(vendor) => {
            format!("the GPUs are {}'s, which spec.placement.vendors does not allow", vendor_name(*vendor))
        }
        Detail::None => plain(class.reason).to_owned(),
    };
    clip(message)
}

fn memory(reason: Reason, product: &str, needed: Bytes, has: Bytes, pool: Option<&GpuPool>) -> String {
    let (needs, holds) = compared(needed, has);
    if has >= needed {
        let free = pool.map_or_else(String::new, |pool| {
            format!("; {} of {} free", pool.free, counted(pool.allocatable, "GPU"))
        });
        let spare = Bytes(has.0.saturating_sub(needed.0));
        return format!("{product} has {holds} per GPU, {needs} needed, {spare} to spare{free}");
    }
    let short = Bytes(needed.0.saturating_sub(has.0));
    let never = if reason == Reason::NeverFits { "; no GPU that is made has so much" } else { "" };
    format!("{product} has {holds} per GPU, {needs} needed, {short} short{never}")
}

fn gpus(reason: Reason, product: &str, needed: u64, free: u64, allocatable: u64) -> String {
    match reason {
        Reason::GpusBusy => format!(
            "{product} is large enough, and {free} of {} free where {needed} needed; other pods hold the rest",
            counted(allocatable, "GPU")
        ),
        Reason::FitsNow => format!("{product} fits; {free} of {} free", counted(allocatable, "GPU")),
        _ if allocatable == 0 => format!(
            "{product} is there, and the node hands out no GPU where one replica takes {needed}; see whether its device plugin runs"
        ),
        _ => format!(
            "hands out {} of {product} where one replica takes {needed}; lower spec.parallelism, or use nodes with more",
            counted(allocatable, "GPU")
        ),
    }
}

fn untrusted(label: &str, value: &str, fault: LabelFault) -> String {
    let (problem, remedy) = fault_words(fault);
    format!("label {}=\"{}\" cannot be believed: {problem}; {remedy}", quoted(label), quoted(value))
}

/// Why a label cannot be believed, and what to do about it.
#[must_use]
pub const fn fault_words(fault: LabelFault) -> (&'static str, &'static str) {
    const SET: &str = "it must be the MiB of one GPU, a whole number such as 23034";
    match fault {
        LabelFault::Empty => ("it is empty", SET),
        LabelFault::NotANumber => ("it is not a whole number", SET),
        LabelFault::Zero => (
            "it is zero, which GPU Feature Discovery writes for an invalid MIG layout",
            "see the node's MIG layout, or set the label to the MiB of one GPU",
        ),
        LabelFault::TooLarge => ("it is more MiB than any GPU has, so it must be in bytes or a mistake", SET),
        LabelFault::MigInvalid => (
            "the product's name says that the MIG layout is invalid",
            "set a MIG layout that suits the strategy",
        ),
        LabelFault::MigPending => {
            ("MIG is being reconfigured", "wait until nvidia.com/mig.config.state is success")
        }
        LabelFault::MigMixed => (
            "it is of a card that is cut into MIG slices, and no whole one is left",
            "use the slices' own resource, which has its own memory label",
        ),
        LabelFault::Clients => (
            "it does not say among how many clients MPS divides a GPU",
            "it must be how often one GPU is handed out, a whole number such as 4",
        ),
    }
}

/// Why the memory of a pool's GPUs is not known, and what to do about it; none where it is.
#[must_use]
pub fn memory_problem(pool: &GpuPool) -> Option<String> {
    match &pool.memory {
        Memory::Known { .. } => None,
        Memory::Missing { label } => Some(missing(pool.allocatable, label)),
        Memory::Untrusted { label, value, fault } => Some(untrusted(label, value, *fault)),
    }
}

fn missing(gpus: u64, label: &str) -> String {
    format!(
        "hands out {} and has no label {} that says their memory; run GPU Feature Discovery, or set the label to the MiB of one GPU",
        counted(gpus, "GPU"),
        quoted(label)
    )
}

/// How a GPU is shared, as a predicate.
fn shared(sharing: GpuSharing) -> String {
    match sharing {
        GpuSharing::Exclusive => "not shared".to_owned(),
        GpuSharing::TimeSliced(ways) => {
            format!("time-sliced {ways} ways, and nothing keeps the others from its memory")
        }
        GpuSharing::Mps(ways) => format!("divided among {ways} MPS clients"),
        GpuSharing::Mig => "a slice of a GPU (MIG), of which a process sees only one".to_owned(),
    }
}

/// A vendor's name as it writes it.
#[must_use]
pub const fn vendor_name(vendor: Vendor) -> &'static str {
    match vendor {
        Vendor::Nvidia => "NVIDIA",
        Vendor::Amd => "AMD",
        Vendor::Intel => "Intel",
    }
}

/// What the GPUs of a pool are called.
#[must_use]
pub fn product(pool: &GpuPool) -> String {
    pool.product.as_deref().map_or_else(|| format!("{} GPU", vendor_name(pool.vendor)), quoted)
}

/// How the GPUs of a pool are shared, in a word or two; empty if they are not.
#[must_use]
pub fn sharing_word(sharing: GpuSharing) -> String {
    match sharing {
        GpuSharing::Exclusive => String::new(),
        GpuSharing::TimeSliced(ways) => format!("time-sliced x{ways}"),
        GpuSharing::Mps(ways) => format!("MPS x{ways}"),
        GpuSharing::Mig => "MIG".to_owned(),
    }
}

const fn plain(reason: Reason) -> &'static str {
    match reason {
        Reason::FitsNow => "fits",
        Reason::GpusBusy => "the GPUs are large enough, and other pods hold them",
        Reason::GpuMemoryTooSmall => "every GPU is smaller than what is needed",
        Reason::TooFewGpus => "hands out fewer GPUs than one replica takes",
        Reason::NoGpus => "hands out no GPU",
        Reason::NoGpuNodes => "no node of the cluster has a GPU",
        Reason::LabelMissing => "has GPUs and no label that says their memory; run GPU Feature Discovery",
        Reason::LabelUntrusted => "its memory label cannot be believed; it must be the MiB of one GPU",
        Reason::TaintNotTolerated => "a taint is not tolerated; add it to spec.placement.tolerations",
        Reason::NodeNotReady => "not ready; it counts again when its Ready condition is True",
        Reason::NodeCordoned => "cordoned; `kubectl uncordon` lets pods in again",
        Reason::SelectorMismatch => "spec.placement.nodeSelector does not match its labels",
        Reason::VendorMismatch => "its GPUs are of a vendor that spec.placement.vendors does not allow",
        Reason::SharedGpu => {
            "its GPUs are handed out more than once; set spec.placement.sharing: Shared to use them"
        }
        Reason::EstimatePending => "the estimate is being made",
        Reason::ModelNotResolved => "the model could not be resolved",
        Reason::InvalidSpec => "the spec contradicts itself or the model",
        Reason::NotSupported => "the spec asks for what this version does not do",
        Reason::CannotRun => "what was asked for cannot be run",
        Reason::NeverFits => "no GPU that is made has so much memory",
    }
}
