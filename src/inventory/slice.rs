//! ResourceSlices and ResourceClaims (`resource.k8s.io/v1`), pruned to what says which GPUs a node has and who holds them: the
//! one path for both a live cluster and a file.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::resource::v1 as resource;

use super::quantity::{Rounding, read};
use super::{Taint, Vendor};

/// Amounts that devices of one card share, by name.
pub type Counters = BTreeMap<String, u64>;

/// A device, by driver, pool and name: what allocations name.
pub type DeviceId = (String, String, String);

/// The GPUs that ResourceClaims hold, by the claims' namespaces and names.
pub type Claims = BTreeMap<(String, String), BTreeSet<DeviceId>>;

/// The ResourceSlices of drivers of GPUs, by name; shared with whatever is made of them.
pub type Slices = BTreeMap<String, Arc<Slice>>;

/// A ResourceSlice of a driver of GPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// Its name.
    pub name: String,
    /// The driver, such as `gpu.nvidia.com`.
    pub driver: String,
    /// The pool that it is a part of.
    pub pool: String,
    /// The pool's generation that it is of: slices of older ones no longer count.
    pub generation: i64,
    /// How many slices the pool has in that generation.
    pub slices: i64,
    /// What devices of one card share, by the name of the set.
    pub counters: BTreeMap<String, Counters>,
    /// Its devices that are GPUs or parts of them.
    pub devices: Vec<Device>,
}

/// A device of a slice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Its name, of which there is one in a pool.
    pub name: String,
    /// The node whose pods can have it; none where it is not one node's.
    pub node: Option<String>,
    /// What its driver says it is, such as `gpu`, `mig` or `amdgpu-partition`.
    pub kind: String,
    /// What card it is, or is a part of.
    pub product: Option<String>,
    /// Its memory, as its driver writes it; none where it says nothing.
    pub memory: Option<String>,
    /// Its taints.
    pub taints: Vec<Taint>,
    /// What it takes of its card, by the name of the set.
    pub consumes: BTreeMap<String, Counters>,
}

impl Vendor {
    /// Whose GPUs a driver's devices are; `None` for a driver of anything else.
    #[must_use]
    pub fn of_driver(driver: &str) -> Option<Self> {
        match driver {
            "gpu.nvidia.com" => Some(Self::Nvidia),
            "gpu.amd.com" => Some(Self::Amd),
            "gpu.intel.com" => Some(Self::Intel),
            _ => None,
        }
    }
}

impl Slice {
    /// What Loadline uses of a slice; `None` of a driver of anything but GPUs.
    #[must_use]
    pub fn from_object(object: &resource::ResourceSlice) -> Option<Self> {
        let spec = &object.spec;
        Vendor::of_driver(&spec.driver)?;
        let by_device = spec.per_device_node_selection.unwrap_or(false);
        let node = |device: &resource::Device| {
            let node = if by_device { &device.node_name } else { &spec.node_name };
            node.clone().filter(|node| !node.is_empty())
        };
        let devices = spec.devices.iter().flatten();
        let counters = spec.shared_counters.iter().flatten();
        Some(Self {
            name: object.metadata.name.clone().unwrap_or_default(),
            driver: spec.driver.clone(),
            pool: spec.pool.name.clone(),
            generation: spec.pool.generation,
            slices: spec.pool.resource_slice_count,
            counters: counters
                .map(|set| (set.name.clone(), amounts(&set.counters, Rounding::Down)))
                .collect(),
            devices: devices
                .map(|device| Device { node: node(device), ..self::device(&spec.driver, device) })
                // A card handed to a virtual machine: another form of one that stands there too.
                .filter(|device| device.kind != "vfio")
                .collect(),
        })
    }
}

fn device(driver: &str, device: &resource::Device) -> Device {
    // A name without a domain is the driver's own.
    let attribute = |name: &str| {
        let all = device.attributes.as_ref()?;
        let found = all.get(name).or_else(|| all.get(&format!("{driver}/{name}")))?;
        found.string.clone().filter(|text| !text.is_empty())
    };
    let capacity = device.capacity.as_ref();
    let memory = capacity.and_then(|all| all.get("memory").or_else(|| all.get(&format!("{driver}/memory"))));
    let taints = device.taints.iter().flatten();
    let consumed = device.consumes_counters.iter().flatten();
    Device {
        name: device.name.clone(),
        node: None,
        kind: attribute("type").unwrap_or_default(),
        product: attribute("productName").or_else(|| attribute("model")),
        memory: memory.map(|memory| memory.value.0.clone()),
        taints: taints
            .map(|taint| Taint {
                key: taint.key.clone(),
                value: taint.value.clone().unwrap_or_default(),
                effect: taint.effect.clone(),
            })
            .collect(),
        consumes: consumed
            .map(|taken| (taken.counter_set.clone(), amounts(&taken.counters, Rounding::Up)))
            .collect(),
    }
}

/// Amounts by name. One that cannot be read is none of what there is, and all of what is taken.
fn amounts(counters: &BTreeMap<String, resource::Counter>, rounding: Rounding) -> Counters {
    let unreadable = if rounding == Rounding::Up { u64::MAX } else { 0 };
    let read = |counter: &resource::Counter| read(&counter.value.0, 0, rounding).unwrap_or(unreadable);
    counters.iter().map(|(name, counter)| (name.clone(), read(counter))).collect()
}

/// The GPUs that a claim holds: those allocated to it but for an administrator's look at them.
#[must_use]
pub fn held(claim: &resource::ResourceClaim) -> BTreeSet<DeviceId> {
    let allocation = claim.status.as_ref().and_then(|status| status.allocation.as_ref());
    let devices = allocation.and_then(|allocation| allocation.devices.as_ref());
    let results = devices.and_then(|devices| devices.results.as_deref()).unwrap_or_default();
    results
        .iter()
        .filter(|result| result.admin_access != Some(true) && Vendor::of_driver(&result.driver).is_some())
        .map(|result| (result.driver.clone(), result.pool.clone(), result.device.clone()))
        .collect()
}
