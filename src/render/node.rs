//! Why a node was picked or not: one line with the numbers and the remedy.

use crate::decide::{ClassVerdict, Finding, Requirement};
use crate::inventory::{Doubt, GpuPool, GpuSharing, LabelFault, Memory, Node, Sources, Trust, Vendor};
use crate::units::Bytes;

use super::text::{clip, compared, counted, printable, quoted};

/// The line for a class of identical nodes.
#[must_use]
pub fn node_message(class: &ClassVerdict, requirement: &Requirement) -> String {
    let pool = class.pool.as_deref();
    let product = pool.map_or_else(|| "GPU".to_owned(), product);
    clip(match &class.finding {
        Finding::FitsNow { needed, has } => {
            let (needs, holds) = compared(*needed, *has);
            let free = pool.map_or_else(String::new, |pool| free(class, pool));
            let spare = Bytes(has.0.saturating_sub(needed.0));
            format!("{product} has {holds} per GPU, {needs} needed, {spare} to spare{free}")
        }
        Finding::GpusBusy { needed, free, allocatable } => format!(
            "{product} is large enough, and {free} of {} free where {needed} needed; other pods hold the rest",
            counted(*allocatable, "GPU")
        ),
        Finding::PromisedToAnother { needed, free, promised, allocatable, to } => {
            let of = counted(*allocatable, "GPU");
            format!(
                "{product} is large enough, and {free} of {of} free where {needed} needed: {}",
                whose(*promised, to.as_deref())
            )
        }
        Finding::ResourcesBusy { resource, needed, free, allocatable } => {
            let (of, noun) = (amount(resource, *allocatable), noun(resource));
            let (needs, free) = differing(resource, *needed, *free);
            format!(
                "{product} is large enough, and {}{free} of {of} {noun} free where {needs} requested; other pods hold the rest",
                at_most(class)
            )
        }
        Finding::ResourcesTooSmall { resource, needed, allocatable } => {
            let noun = noun(resource);
            let (needs, has) = differing(resource, *needed, *allocatable);
            format!(
                "{product} is large enough, and the node has {}{has} {noun} where {needs} requested; lower what spec.template requests, or use nodes with more",
                at_most(class)
            )
        }
        Finding::GpuMemoryTooSmall { needed, has } => {
            let (needs, holds) = compared(*needed, *has);
            let short = Bytes(needed.0.saturating_sub(has.0));
            format!("{product} has {holds} per GPU, {needs} needed, {short} short")
        }
        Finding::TooFewGpus { needed, allocatable } => {
            too_few(&product, *needed, *allocatable, pool.is_some_and(GpuPool::is_claimed))
        }
        Finding::NoGpus => "hands out no GPU".to_owned(),
        Finding::NoGpuNodes => "no node of the cluster has a GPU".to_owned(),
        Finding::LabelMissing { label, annotated } => {
            missing(pool.map_or(0, |pool| pool.allocatable), label, *annotated)
        }
        Finding::LabelUntrusted { label, value, fault } => untrusted(label, value, *fault),
        Finding::TaintNotTolerated(taint) => {
            let value =
                if taint.value.is_empty() { String::new() } else { format!("={}", quoted(&taint.value)) };
            format!(
                "taint {}{value}:{} is not tolerated; add it to spec.placement.tolerations if the model may run there",
                quoted(&taint.key),
                quoted(&taint.effect)
            )
        }
        Finding::NodeNotReady => "not ready; it counts again when its Ready condition is True".to_owned(),
        Finding::NodeCordoned => "cordoned; `kubectl uncordon` lets pods in again".to_owned(),
        Finding::AffinityMismatch => {
            "the required node affinity of spec.template does not match its labels; change it, or label the node".to_owned()
        }
        Finding::WrittenMismatch => {
            "the pods that run were written with a node affinity that does not match its labels; the annotation loadline.dev/roll makes them anew".to_owned()
        }
        Finding::SelectorMismatch { key, wanted, has } => {
            let has =
                has.as_ref().map_or_else(|| "not set".to_owned(), |value| format!("\"{}\"", quoted(value)));
            format!(
                "label {} is {has}, and spec.placement.nodeSelector wants \"{}\"",
                quoted(key),
                quoted(wanted)
            )
        }
        Finding::VendorMismatch { vendor } => {
            format!("the GPUs are {}'s, which spec.placement.vendors does not allow", vendor_name(*vendor))
        }
        Finding::SharedGpu { sharing } => format!(
            "{product} is {}; {}",
            shared(*sharing),
            if requirement.gpus > 1 {
                "a model on several GPUs needs whole ones of its own"
            } else {
                "set spec.placement.sharing: Shared if the model may share a GPU"
            }
        ),
        Finding::ClaimNeeded { driver, free, offered } => format!(
            "{product} is large enough, and the node gives its {} ({free} free) to resource claims of {} alone, which the pods do not make; run the vendor's device plugin there, or use other nodes",
            counted(*offered, "GPU"),
            quoted(driver)
        ),
        Finding::NeverFits { needed, largest } => {
            let (needs, holds) = compared(*needed, *largest);
            format!("{needs} per GPU needed; no GPU that is made has so much (at most {holds})")
        }
    })
}

fn too_few(product: &str, needed: u64, allocatable: u64, is_claimed: bool) -> String {
    match allocatable {
        0 if is_claimed => format!(
            "{product} is there, and every one is tainted where one replica takes {needed}; see the taints of the node's ResourceSlices"
        ),
        0 => format!(
            "{product} is there, and the node hands out no GPU where one replica takes {needed}; see whether its device plugin runs"
        ),
        _ => format!(
            "hands out {} of {product} where one replica takes {needed}; lower spec.parallelism, or use nodes with more",
            counted(allocatable, "GPU")
        ),
    }
}

/// How many GPUs are free to the object. What its own pods hold is free to it, and to nobody else.
fn free(class: &ClassVerdict, pool: &GpuPool) -> String {
    let own = match class.held_by_own {
        0 => String::new(),
        held if class.count() == 1 => format!(", of which its own pods hold {held}"),
        held => format!(" (its own pods hold {held} on {} such nodes)", class.count()),
    };
    format!("; {} of {} free{own}", pool.free, counted(pool.allocatable, "GPU"))
}

/// To whom GPUs are promised.
fn whose(promised: u64, to: Option<&str>) -> String {
    let whom = match to {
        Some(name) => format!("ModelDeployment {}", printable(name)),
        None => "other ModelDeployments, whose pods are still to come".to_owned(),
    };
    format!("{promised} more {} promised to {whom}", if promised == 1 { "is" } else { "are" })
}

/// The numbers of a class are the most that any of its nodes has.
fn at_most(class: &ClassVerdict) -> &'static str {
    if class.nodes.len() > 1 { "at most " } else { "" }
}

/// What a resource is called after an amount of it.
fn noun(resource: &str) -> String {
    match resource {
        "cpu" => "CPU".to_owned(),
        "memory" => "of memory".to_owned(),
        "ephemeral-storage" => "of ephemeral storage".to_owned(),
        "pods" => "places for pods".to_owned(),
        other => quoted(other),
    }
}

/// An amount of a resource, as people write it.
fn amount(resource: &str, amount: u64) -> String {
    match resource {
        "cpu" if amount.is_multiple_of(1000) => (amount / 1000).to_string(),
        "cpu" => format!("{}.{:03}", amount / 1000, amount % 1000).trim_end_matches('0').to_owned(),
        "memory" | "ephemeral-storage" => Bytes(amount).to_string(),
        pages if pages.starts_with("hugepages-") => Bytes(amount).to_string(),
        _ => amount.to_string(),
    }
}

/// What is needed, and less than that, such that they look different.
fn differing(resource: &str, needed: u64, has: u64) -> (String, String) {
    let (needs, holds) = (amount(resource, needed), amount(resource, has));
    if needs == holds { compared(Bytes(needed), Bytes(has)) } else { (needs, holds) }
}

fn untrusted(label: &str, value: &str, fault: LabelFault) -> String {
    let (problem, remedy) = fault_words(fault);
    // What is right depends on whose label it is.
    let remedy = match fault {
        LabelFault::Empty | LabelFault::NotANumber | LabelFault::TooLarge | LabelFault::Zero => {
            right(label).map_or(remedy, |(_, right)| right)
        }
        _ => remedy,
    };
    let numbers = match fault {
        LabelFault::NotTheCard { mib } => format!(" ({mib} MiB)"),
        LabelFault::MoreThanCards { handed_out } => format!(" ({} handed out)", counted(handed_out, "GPU")),
        _ => String::new(),
    };
    let problem = format!("{problem}{numbers}");
    let kind = match label {
        hami if hami.starts_with("hami.io/") => "annotation",
        slice if slice.starts_with("ResourceSlice ") => "memory in",
        _ => "label",
    };
    format!("{kind} {}=\"{}\" cannot be believed: {problem}; {remedy}", quoted(label), quoted(value))
}

/// The label by which a card is known whose memory no label says.
const NVIDIA_PRODUCT: &str = "nvidia.com/gpu.product";

/// Who writes a label, and what it must be, of those that are not NVIDIA's.
const RIGHT: [(&str, &str, &str); 5] = [
    (
        "ResourceSlice ",
        "the driver",
        "it must be the memory of one GPU, such as 23034Mi; see the driver's log",
    ),
    ("amd.com/gpu.vram", "AMD's node labeller", "it must be the GiB of one GPU and a G, such as 192G"),
    ("gpu.nvidia.com/", "CoreWeave's labeller", "it must be thousands of MiB of one GPU, such as 81"),
    (
        "gpu.intel.com/",
        "Intel's GPU plugin",
        "it must be the bytes of all GPUs of the node together, a whole number",
    ),
    ("instance-gpu-memory", "Karpenter", "it must be the MiB of one GPU, a whole number such as 22888"),
];

fn right(label: &str) -> Option<(&'static str, &'static str)> {
    let (_, who, right) = RIGHT.iter().find(|(part, ..)| label.contains(part))?;
    Some((who, right))
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
        LabelFault::NotTheCard { .. } => (
            "it is more than 8 % off what such a card has",
            "see whether the product or the memory is wrong, and correct it",
        ),
        LabelFault::MoreThanCards { .. } => (
            "more is handed out than there are such cards, so that some are shared or of another kind",
            "put GPUs of one kind into a node, and let GPU Feature Discovery count them",
        ),
        LabelFault::NotKnown => (
            "it is of no card or size whose memory Loadline knows",
            "run the vendor's own labeller, such as GPU Feature Discovery, which says the memory",
        ),
        LabelFault::SeveralKinds => (
            "the node has GPUs of several sizes, and which of them a pod gets nothing says",
            "put GPUs of one kind into a node",
        ),
        LabelFault::PartOfACard => (
            "it is a slice of a card, and the slice's name does not say its memory",
            "run GPU Feature Discovery, which does",
        ),
        LabelFault::Divided => (
            "MPS divides the card's memory among clients, and no term can ask for a share",
            "use time-sharing or whole GPUs, or NVIDIA's device plugin for MPS",
        ),
        LabelFault::NotRegistered => (
            "it is not the list of cards with their MiB that HAMi's device plugin writes",
            "see what that logs, or run GPU Feature Discovery",
        ),
        LabelFault::NotComplete => (
            "the pool's slices are not all there, or name a device twice, and kube-scheduler uses none of it",
            "wait until the driver has written them, or see its log",
        ),
        LabelFault::Unread => (
            "it is what AMD's driver writes where it cannot read the memory",
            "see the driver's log; amd.com/gpu.vram of the node labeller is believed where the device plugin runs",
        ),
        LabelFault::SumOfUnknownMany => (
            "the memory is a sum over all GPUs of the node, and this does not say how many they are",
            "it must be a thousand for each GPU, such as 2000",
        ),
    }
}

/// Why the memory of a pool's GPUs is not known, and what to do about it; none where it is.
#[must_use]
pub fn memory_problem(pool: &GpuPool) -> Option<String> {
    match &pool.memory {
        // GPU Feature Discovery names the card and leaves out its memory: it is to be mended, and can be done without.
        Memory::Known { bytes, label, trust: Trust::ByName, .. } if label == NVIDIA_PRODUCT => Some(format!(
            "no label says its memory, and it is taken to have the {} MiB of such a card; run GPU Feature Discovery, or set nvidia.com/gpu.memory to the MiB of one GPU",
            bytes.mib_ceil()
        )),
        Memory::Known { .. } => None,
        Memory::Missing { label, annotated } => Some(missing(pool.allocatable, label, *annotated)),
        Memory::Untrusted { label, value, fault } => Some(untrusted(label, value, *fault)),
    }
}

/// All that is to be mended of what a node says of GPUs of one kind; none where there is nothing.
#[must_use]
pub fn problem(node: &Node, pool: &GpuPool, sources: &Sources) -> Option<String> {
    let doubts = sources.doubts(node, pool);
    let all: Vec<String> = memory_problem(pool).into_iter().chain(doubts.iter().map(doubt_words)).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

fn doubt_words(doubt: &Doubt) -> String {
    match doubt {
        Doubt::LeftOver { label, value, driver } => format!(
            "label {}=\"{}\" is left over and not believed, since {} offers the GPUs to resource claims, and its word is taken; remove the label",
            quoted(label),
            quoted(value),
            quoted(driver)
        ),
        Doubt::Fewer { label, counted: all, handed_out } => format!(
            "label {} comes to {}, and {handed_out} handed out, which is what counts; see whether the others are healthy, and the log of the device plugin",
            quoted(label),
            counted(*all, "GPU"),
        ),
        Doubt::Disagree { label, bytes, other, other_bytes } => format!(
            "label {} says {} MiB, which is taken, and {} says {} MiB; see which is right, and correct the other",
            quoted(label),
            bytes.mib_ceil(),
            quoted(other),
            other_bytes.mib_ceil()
        ),
    }
}

fn missing(gpus: u64, label: &str, annotated: Option<Bytes>) -> String {
    if let Some(bytes) = annotated {
        let (gpus, mib, label) = (counted(gpus, "GPU"), bytes.mib_ceil(), quoted(label));
        return format!(
            "hands out {gpus} and has no label {label} that says their memory; HAMi's annotation says {mib} MiB, which no pod can demand: set the label to {mib}, or run GPU Feature Discovery"
        );
    }
    if let Some((who, _)) = right(label) {
        return format!(
            "hands out {} and has no label {} that says their memory; run {who}",
            counted(gpus, "GPU"),
            quoted(label)
        );
    }
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
