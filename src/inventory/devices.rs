//! The GPUs that drivers of Dynamic Resource Allocation offer, by node: from ResourceSlices, and from the claims that hold them.
//!
//! As kube-scheduler has it (Kubernetes 1.34, `resource.k8s.io/v1` and k8s.io/dynamic-resource-allocation
//! `structured/internal`): of a pool only the slices of the highest generation count, and only where all of them are there; no
//! name is twice in a pool; a device with a taint of effect NoSchedule or NoExecute is given to no claim that does not tolerate it;
//! devices that take of the same counters are forms of one card, and exclude each other. Devices of no one node are left out.
//!
//! What the drivers write: `type`, `productName` and `memory` in bytes (kubernetes-sigs/dra-driver-nvidia-gpu 9593204
//! `cmd/gpu-kubelet-plugin/deviceinfo.go`; ROCm/k8s-gpu-dra-driver 2622427 `cmd/gpu-kubeletplugin/deviceinfo.go`), `model` and
//! `memory` in MiB (intel/intel-resource-drivers-for-kubernetes 1da939f `cmd/kubelet-gpu-plugin/node_state.go`).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::cards::by_product;
use super::quantity::{Rounding, read};
use super::slice::{Counters, Device, DeviceId, Slice};
use super::source::TOO_LARGE_MIB;
use super::{GpuPool, GpuSharing, LabelFault, Memory, Trust, Vendor};
use crate::units::{Bytes, GIB, MIB};

/// What the source is called.
const NAME: &str = "dra";
/// What AMD's driver writes of a card, and of a partition, whose memory it cannot read (`cmd/gpu-kubeletplugin/discovery.go`).
const AMD_UNREAD: [(&str, u64); 2] = [("amdgpu", 80 * GIB), ("amdgpu-partition", 20 * GIB)];

/// A pool of devices, as far as it is on one node.
#[derive(Debug)]
struct Part<'a> {
    driver: &'a str,
    pool: &'a str,
    vendor: Vendor,
    /// Whether all its slices are there, and each name once.
    whole: Option<Whole<'a>>,
    /// How many slices are there, of how many.
    slices: (usize, i64),
}

#[derive(Debug)]
struct Whole<'a> {
    devices: Vec<&'a Device>,
    counters: BTreeMap<&'a str, Counters>,
}

/// The GPUs that drivers offer, by node.
#[derive(Debug, Default)]
pub(super) struct Offered<'a> {
    by_node: HashMap<&'a str, Vec<Part<'a>>>,
    held: HashSet<&'a DeviceId>,
}

impl<'a> Offered<'a> {
    /// Those of these slices, of which these are held.
    pub(super) fn new(
        slices: impl Iterator<Item = &'a Slice>,
        held: impl Iterator<Item = &'a BTreeSet<DeviceId>>,
    ) -> Self {
        let mut pools: BTreeMap<(&str, &str), Vec<&Slice>> = BTreeMap::new();
        for slice in slices {
            pools.entry((&slice.driver, &slice.pool)).or_default().push(slice);
        }
        let mut offered = Self { held: held.flatten().collect(), ..Self::default() };
        for ((driver, pool), mut slices) in pools {
            let Some(vendor) = Vendor::of_driver(driver) else { continue };
            let newest = slices.iter().map(|slice| slice.generation).max();
            slices.retain(|slice| Some(slice.generation) == newest);
            offered.add(driver, pool, vendor, &slices);
        }
        offered
    }

    fn add(&mut self, driver: &'a str, pool: &'a str, vendor: Vendor, slices: &[&'a Slice]) {
        let wanted = slices.iter().map(|slice| slice.slices).max().unwrap_or(0);
        let there = slices.len();
        let mut names = HashSet::new();
        let devices = || slices.iter().flat_map(|slice| &slice.devices);
        let is_whole =
            i64::try_from(there) == Ok(wanted) && devices().all(|device| names.insert(&device.name));
        let counters: BTreeMap<&str, Counters> = slices
            .iter()
            .flat_map(|slice| &slice.counters)
            .map(|(name, counters)| (name.as_str(), counters.clone()))
            .collect();
        let mut of_node: BTreeMap<&str, Vec<&Device>> = BTreeMap::new();
        for device in devices() {
            if let Some(node) = &device.node {
                of_node.entry(node).or_default().push(device);
            }
        }
        for (node, devices) in of_node {
            let whole = is_whole.then(|| Whole { devices, counters: counters.clone() });
            let part = Part { driver, pool, vendor, whole, slices: (there, wanted) };
            self.by_node.entry(node).or_default().push(part);
        }
    }

    /// A node's GPUs, by what its labels and its device plugins say, and by what drivers offer. Where a vendor's device plugin
    /// hands out none and its driver offers some, labels that are there are left over from before.
    pub(super) fn complete(&self, node: &str, mut pools: Vec<GpuPool>) -> Vec<GpuPool> {
        let Some(parts) = self.by_node.get(node) else { return pools };
        for vendor in [Vendor::Nvidia, Vendor::Amd, Vendor::Intel] {
            let hands_out = |pool: &GpuPool| pool.vendor == vendor && pool.allocatable > 0;
            let mut parts = parts.iter().filter(|part| part.vendor == vendor).peekable();
            if parts.peek().is_none() || pools.iter().any(hands_out) {
                continue;
            }
            pools.retain(|pool| pool.vendor != vendor);
            let mut found: BTreeMap<Kind, (u64, u64)> = BTreeMap::new();
            for part in parts {
                for (kind, allocatable, free) in self.kinds(part) {
                    let sum = found.entry(kind).or_default();
                    *sum = (sum.0.saturating_add(allocatable), sum.1.saturating_add(free));
                }
            }
            pools.extend(found.into_iter().map(|(kind, (allocatable, free))| kind.pool(allocatable, free)));
        }
        pools
    }

    /// The kinds of GPU of a part of a pool, with how many there are and how many are free.
    fn kinds(&self, part: &Part<'_>) -> Vec<(Kind, u64, u64)> {
        let kind = |device: &Device| Kind::of(part.vendor, part.driver, device);
        let Some(Whole { devices, counters }) = &part.whole else {
            let (there, wanted) = part.slices;
            let value = format!("{there} of {wanted} slices");
            let memory =
                Memory::Untrusted { label: label(part.driver), value, fault: LabelFault::NotComplete };
            let (vendor, sharing) = (part.vendor, GpuSharing::Exclusive);
            let unknown = Kind { vendor, product: None, memory, resource: part.driver.to_owned(), sharing };
            return vec![(unknown, 0, 0)];
        };
        let is_held = |device: &Device| {
            let id = (part.driver.to_owned(), part.pool.to_owned(), device.name.clone());
            self.held.contains(&id)
        };
        let (held, mut rest): (Vec<&Device>, Vec<&Device>) =
            devices.iter().copied().partition(|device| is_held(device));
        // The largest first: a whole card stands for all that it could be cut into, as long as none of that is held.
        let size = |device: &Device| device.memory.as_deref().and_then(|text| read(text, 0, Rounding::Down));
        rest.sort_by_key(|device| (Reverse(size(device)), &device.name));
        let mut left = counters.clone();
        for device in &held {
            take(&mut left, &device.consumes);
        }
        let mut found: Vec<(Kind, u64, u64)> = held.iter().map(|device| (kind(device), 1, 0)).collect();
        for device in rest {
            let (is_open, is_there) = (!is_tainted(device), fits(&left, &device.consumes));
            if is_open && is_there {
                take(&mut left, &device.consumes);
            }
            // A kind of which there is none now is there all the same, so that the node is not taken to have no GPU; but not what
            // a card could be cut into.
            match (is_there, is_open) {
                (true, true) => found.push((kind(device), 1, 1)),
                (true, false) => found.push((kind(device), 0, 0)),
                (false, _) => {}
            }
        }
        found
    }
}

fn label(driver: &str) -> String {
    format!("ResourceSlice {driver}")
}

fn is_tainted(device: &Device) -> bool {
    device.taints.iter().any(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"))
}

/// Whether so much is left. Of what no slice says there is none.
fn fits(left: &BTreeMap<&str, Counters>, consumed: &BTreeMap<String, Counters>) -> bool {
    consumed.iter().all(|(set, amounts)| {
        let Some(left) = left.get(set.as_str()) else { return false };
        amounts.iter().all(|(name, amount)| left.get(name).is_some_and(|left| left >= amount))
    })
}

fn take(left: &mut BTreeMap<&str, Counters>, consumed: &BTreeMap<String, Counters>) {
    for (set, amounts) in consumed {
        let Some(left) = left.get_mut(set.as_str()) else { continue };
        for (name, amount) in amounts {
            if let Some(left) = left.get_mut(name) {
                *left = left.saturating_sub(*amount);
            }
        }
    }
}

/// GPUs that are alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    vendor: Vendor,
    product: Option<String>,
    memory: Memory,
    resource: String,
    sharing: GpuSharing,
}

impl Kind {
    fn of(vendor: Vendor, driver: &str, device: &Device) -> Self {
        Self {
            vendor,
            // As labels have it.
            product: device.product.as_ref().map(|product| product.replace(' ', "-")),
            memory: memory(vendor, driver, device),
            resource: driver.to_owned(),
            sharing: if device.kind.contains("mig") { GpuSharing::Mig } else { GpuSharing::Exclusive },
        }
    }

    fn pool(self, allocatable: u64, free: u64) -> GpuPool {
        let Self { vendor, product, memory, resource, sharing } = self;
        GpuPool { vendor, product, memory, resource, allocatable, free, promised: 0, sharing }
    }
}

fn memory(vendor: Vendor, driver: &str, device: &Device) -> Memory {
    let text = device.memory.as_deref().unwrap_or_default();
    let fault = |fault| Memory::Untrusted { label: label(driver), value: text.to_owned(), fault };
    if text.is_empty() {
        return fault(LabelFault::Empty);
    }
    let Some(bytes) = read(text, 0, Rounding::Down) else { return fault(LabelFault::NotANumber) };
    let known =
        |bytes| Memory::Known { bytes, label: label(driver), source: NAME.into(), trust: Trust::Reported };
    match bytes {
        0 => fault(LabelFault::Zero),
        bytes if bytes >= TOO_LARGE_MIB * MIB => fault(LabelFault::TooLarge),
        bytes if vendor == Vendor::Amd && AMD_UNREAD.contains(&(device.kind.as_str(), bytes)) => {
            fault(LabelFault::Unread)
        }
        bytes => {
            let product = device.product.as_ref().filter(|_| device.kind == "gpu");
            match product.and_then(|product| by_product(&product.replace(' ', "-"))) {
                Some(card) if card.is_far(Bytes(bytes)) => fault(LabelFault::NotTheCard { mib: card.mib }),
                Some(card) => known(Bytes(bytes.min(card.most_mib().saturating_mul(MIB)))),
                None => known(Bytes(bytes)),
            }
        }
    }
}
