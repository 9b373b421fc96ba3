//! NVIDIA's own labels, written by GPU Feature Discovery and the GPU operator.
//!
//! `nvidia.com/gpu.memory` is MiB per GPU as a plain integer: NVML's total divided by 2^20
//! (NVIDIA/k8s-device-plugin, `internal/lm/resource.go` and `docs/gpu-feature-discovery/README.md`).

use super::{GpuPool, GpuSharing, LabelFault, Memory, Node, Vendor};
use crate::units::Bytes;

/// The resource of whole GPUs, of single-strategy MIG slices and of time-sliced GPUs that keep the name.
pub(super) const GPU: &str = "nvidia.com/gpu";
/// MiB per GPU.
pub(super) const MEMORY: &str = "nvidia.com/gpu.memory";

const SHARED_SUFFIX: &str = ".shared";
const MIG_PREFIX: &str = "nvidia.com/mig-";
const PRODUCT: &str = "nvidia.com/gpu.product";
const REPLICAS: &str = "nvidia.com/gpu.replicas";
const MIG_STATE: &str = "nvidia.com/mig.config.state";
const MIG_STRATEGY: &str = "nvidia.com/mig.strategy";

/// Labels that only a node with NVIDIA GPUs has, even while its device plugin hands out none.
const GPU_LABELS: [&str; 3] = [MEMORY, PRODUCT, "nvidia.com/gpu.count"];

/// A value from here on, taken as MiB, is a TiB on one card: bytes, as old releases wrote, or a mistake.
const TOO_LARGE_MIB: u64 = 1 << 20;

/// The NVIDIA GPUs of a node, by resource; `free` is all of them, for usage is not the labels' affair.
///
/// A resource of which there are none makes no pool, unless it is all that the node has.
pub(super) fn pools(node: &Node) -> Vec<GpuPool> {
    let mut pools: Vec<GpuPool> = node
        .allocatable
        .iter()
        .filter(|(resource, count)| **count > 0 && is_gpu_resource(resource))
        .map(|(resource, count)| pool(node, resource, *count))
        .collect();
    let has_labels = GPU_LABELS.iter().any(|label| node.labels.contains_key(*label))
        || node.labels.get("nvidia.com/gpu.present").is_some_and(|value| value == "true");
    if pools.is_empty() && has_labels {
        pools.push(pool(node, GPU, 0));
    }
    pools
}

fn is_gpu_resource(resource: &str) -> bool {
    let base = resource.strip_suffix(SHARED_SUFFIX).unwrap_or(resource);
    base == GPU || base.starts_with(MIG_PREFIX)
}

fn pool(node: &Node, resource: &str, allocatable: u64) -> GpuPool {
    let base = resource.strip_suffix(SHARED_SUFFIX).unwrap_or(resource);
    let is_slice = base != GPU;
    let label = |name: &str| node.labels.get(&format!("{base}.{name}")).map(String::as_str);
    let product = label("product").filter(|product| !product.is_empty());
    GpuPool {
        vendor: Vendor::Nvidia,
        product: product.map(str::to_owned),
        memory: memory(node, base, is_slice),
        resource: resource.to_owned(),
        allocatable,
        free: allocatable,
        sharing: sharing(
            &label,
            product,
            resource.ends_with(SHARED_SUFFIX),
            allocatable,
            is_slice || product.is_some_and(|product| product.contains("-MIG-")),
        ),
    }
}

/// The memory of one GPU or slice, or why its label says nothing.
fn memory(node: &Node, base: &str, is_slice: bool) -> Memory {
    let key = format!("{base}.memory");
    let value = node.labels.get(&key);
    let untrusted = |label: &str, value: &str, fault| Memory::Untrusted {
        label: label.to_owned(),
        value: value.to_owned(),
        fault,
    };
    // While the operator repartitions the GPUs every gpu.* label may be of the old layout.
    if let Some(state) = node.labels.get(MIG_STATE).filter(|state| *state != "success") {
        return untrusted(MIG_STATE, state, LabelFault::MigPending);
    }
    if let Some(product) = node.labels.get(PRODUCT).filter(|product| product.ends_with("-MIG-INVALID")) {
        return untrusted(PRODUCT, product, LabelFault::MigInvalid);
    }
    let Some(value) = value else { return Memory::Missing { label: key } };
    match mebibytes(value) {
        Err(fault) => untrusted(&key, value, fault),
        Ok(_) if !is_slice && hands_out_slices(node) => untrusted(&key, value, LabelFault::MigMixed),
        Ok(bytes) => Memory::Known { bytes, label: key },
    }
}

/// Whether the mixed MIG strategy is at work: then `gpu.memory` is of the whole card, whatever `nvidia.com/gpu` counts.
fn hands_out_slices(node: &Node) -> bool {
    let slices_allocatable =
        node.allocatable.iter().any(|(resource, count)| *count > 0 && resource.starts_with(MIG_PREFIX));
    let mixed = node.labels.get(MIG_STRATEGY).is_some_and(|strategy| strategy == "mixed");
    let enabled = node.labels.get(REPLICAS).is_some_and(|replicas| replicas == "0")
        || node.labels.keys().any(|label| label.starts_with(MIG_PREFIX));
    slices_allocatable || (mixed && enabled)
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

/// How one GPU is handed out. What is not understood counts as time-slicing, which promises least.
fn sharing<'a>(
    label: &dyn Fn(&str) -> Option<&'a str>,
    product: Option<&str>,
    renamed: bool,
    allocatable: u64,
    is_slice: bool,
) -> GpuSharing {
    let replicas = label("replicas").and_then(|value| value.parse::<u64>().ok());
    // Where the label does not say, no GPU can have more clients than the node hands out in all.
    let clients = replicas.filter(|replicas| *replicas > 1).unwrap_or(allocatable.max(2));
    match label("sharing-strategy") {
        Some("mps") => GpuSharing::Mps(clients),
        Some("none" | "") | None => {
            let shared = renamed
                || replicas.is_some_and(|replicas| replicas > 1)
                || product.is_some_and(|product| product.ends_with("-SHARED"));
            match (shared, is_slice) {
                (true, _) => GpuSharing::TimeSliced(clients),
                (false, true) => GpuSharing::Mig,
                (false, false) => GpuSharing::Exclusive,
            }
        }
        Some(_) => GpuSharing::TimeSliced(clients),
    }
}
