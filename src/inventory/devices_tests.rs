use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::testing::{any_slices, node};
use super::{
    Device, DeviceId, GpuPool, GpuSharing, Inventory, LabelFault, Memory, Slice, Snapshot, Sources, Taint,
    Vendor,
};
use crate::decide::{Policy, Reason, Request, Requirement, decide};
use crate::units::{Bytes, GIB, MIB};

const NVIDIA: &str = "gpu.nvidia.com";

fn gpu(name: &str, product: &str, memory: &str) -> Device {
    Device {
        name: name.to_owned(),
        node: Some("n".to_owned()),
        kind: "gpu".to_owned(),
        product: Some(product.to_owned()),
        memory: Some(memory.to_owned()),
        ..Device::default()
    }
}

fn l4(name: &str) -> Device {
    gpu(name, "NVIDIA L4", "23034Mi")
}

fn slice(name: &str, generation: i64, slices: i64, devices: Vec<Device>) -> Slice {
    let (name, driver, pool) = (name.to_owned(), NVIDIA.to_owned(), "n".to_owned());
    Slice { name, driver, pool, generation, slices, devices, ..Slice::default() }
}

fn holding(devices: &[&str]) -> BTreeSet<DeviceId> {
    devices.iter().map(|name| (NVIDIA.to_owned(), "n".to_owned(), (*name).to_owned())).collect()
}

/// A node with the labels of an H100 that GPU Feature Discovery left behind.
const STALE: [(&str, &str); 3] = [
    ("nvidia.com/gpu.memory", "81559"),
    ("nvidia.com/gpu.product", "NVIDIA-H100-80GB-HBM3"),
    ("nvidia.com/gpu.count", "8"),
];

fn inventory(slices: Vec<Slice>, held: &[&str], handed_out: u64) -> Inventory {
    let snapshot = Snapshot {
        slices: slices.into_iter().map(|slice| (slice.name.clone(), Arc::new(slice))).collect(),
        claims: BTreeMap::from([(("team-a".to_owned(), "claim".to_owned()), holding(held))]),
        ..Snapshot::new([node("n", &STALE, &[("nvidia.com/gpu", handed_out)])], [])
    };
    Inventory::new(snapshot, &Sources::default())
}

fn pools(slices: Vec<Slice>, held: &[&str]) -> Vec<GpuPool> {
    inventory(slices, held, 0).nodes()[0].pools.iter().map(|pool| GpuPool::clone(pool)).collect()
}

/// MiB, how many and how many of them free, by kind.
fn counted(pools: &[GpuPool]) -> Vec<(Option<u64>, u64, u64)> {
    let mib = |pool: &GpuPool| pool.usable_memory().map(|memory| memory.0 / MIB);
    pools.iter().map(|pool| (mib(pool), pool.allocatable, pool.free)).collect()
}

#[test]
fn a_node_without_a_device_plugin_is_read_from_its_slices_and_no_label_is_believed() {
    let found = pools(vec![slice("a", 1, 1, vec![l4("gpu-0"), l4("gpu-1")])], &["gpu-1"]);
    assert_eq!(counted(&found), [(Some(23034), 2, 1)]);
    assert_eq!((found[0].product.as_deref(), found[0].resource.as_str()), (Some("NVIDIA-L4"), NVIDIA));
    assert!(found[0].is_claimed());
    // With a device plugin that hands out GPUs the labels are of now, and the slices are of the same cards.
    let handed_out = inventory(vec![slice("a", 1, 1, vec![l4("gpu-0")])], &[], 8);
    let pool = &handed_out.nodes()[0].pools[0];
    assert_eq!((handed_out.nodes()[0].pools.len(), pool.allocatable, pool.is_claimed()), (1, 8, false));
    assert_eq!(pool.usable_memory(), Some(Bytes(81559 * MIB)));
}

#[test]
fn pods_that_request_an_extended_resource_never_fit_there() {
    let request = |per_gpu, gpus| Requirement { per_gpu: Bytes(per_gpu), gpus };
    let inventory = inventory(vec![slice("a", 1, 1, vec![l4("gpu-0"), l4("gpu-1")])], &["gpu-1"], 0);
    let policy = Policy::default();
    for (requirement, expected) in [
        (request(20 * GIB, 1), Reason::ClaimNeeded),
        // The labels say 80 GiB.
        (request(40 * GIB, 1), Reason::GpuMemoryTooSmall),
        (request(20 * GIB, 4), Reason::TooFewGpus),
    ] {
        let decision = decide(&Request { requirement, policy: &policy, owner: None }, &inventory, &[]);
        assert_eq!((decision.reason(), decision.slots), (expected, 0));
    }
}

#[test]
fn only_the_newest_and_whole_generation_of_a_pool_counts() {
    let old =
        slice("old", 1, 1, vec![gpu("gpu-0", "Tesla T4", "15360Mi"), gpu("gpu-9", "Tesla T4", "15360Mi")]);
    let (first, second) = (slice("a", 2, 2, vec![l4("gpu-0")]), slice("b", 2, 2, vec![l4("gpu-1")]));
    assert_eq!(counted(&pools(vec![old.clone(), first.clone(), second], &[])), [(Some(23034), 2, 2)]);
    let twice = slice("b", 2, 2, vec![l4("gpu-0")]);
    for (slices, said) in [
        (vec![old, first.clone()], "1 of 2 slices"),
        (vec![first, twice], "2 of 2 slices"),
        (vec![slice("a", 2, 0, vec![l4("gpu-0")])], "1 of 0 slices"),
    ] {
        let found = pools(slices, &[]);
        let fault = LabelFault::NotComplete;
        let (label, value) = (format!("ResourceSlice {NVIDIA}"), said.to_owned());
        assert_eq!(found[0].memory, Memory::Untrusted { label, value, fault });
        assert_eq!((found.len(), found[0].allocatable), (1, 0));
    }
}

#[test]
fn tainted_devices_are_given_to_nobody() {
    let tainted = |name: &str, effect: &str| {
        let (key, value) = ("gpu.nvidia.com/xid".to_owned(), "79".to_owned());
        Device { taints: vec![Taint { key, value, effect: effect.to_owned() }], ..l4(name) }
    };
    let some = vec![
        l4("gpu-0"),
        tainted("gpu-1", "NoSchedule"),
        tainted("gpu-2", "NoExecute"),
        tainted("gpu-3", "None"),
    ];
    assert_eq!(counted(&pools(vec![slice("a", 1, 1, some)], &[])), [(Some(23034), 2, 2)]);
    let all = vec![tainted("gpu-0", "NoSchedule")];
    assert_eq!(counted(&pools(vec![slice("a", 1, 1, all)], &[])), [(Some(23034), 0, 0)]);
}

/// One A100 that can be had whole or cut: two profiles of 3g.20gb and one of 1g.5gb are listed beside it.
#[test]
fn a_card_that_can_be_cut_is_counted_once() {
    let takes = |device: Device, memory: u64| Device {
        consumes: BTreeMap::from([("card-0".to_owned(), BTreeMap::from([("memory".to_owned(), memory)]))]),
        ..device
    };
    let mig = |name: &str, memory: &str, slices| {
        takes(Device { kind: "mig".to_owned(), ..gpu(name, "NVIDIA A100-SXM4-40GB", memory) }, slices)
    };
    let devices = vec![
        mig("gpu-0-mig-3g-0", "20096Mi", 4),
        mig("gpu-0-mig-3g-4", "20096Mi", 4),
        mig("gpu-0-mig-1g-0", "4864Mi", 1),
        takes(gpu("gpu-0", "NVIDIA A100-SXM4-40GB", "40960Mi"), 8),
    ];
    let counters = BTreeMap::from([("card-0".to_owned(), BTreeMap::from([("memory".to_owned(), 8)]))]);
    let card = Slice { counters, ..slice("a", 1, 1, devices) };
    assert_eq!(counted(&pools(vec![card.clone()], &[])), [(Some(40960), 1, 1)]);
    assert_eq!(counted(&pools(vec![card.clone()], &["gpu-0"])), [(Some(40960), 1, 0)]);
    // Once a part of it is held, it is what is left that can be had.
    let cut = pools(vec![card.clone()], &["gpu-0-mig-3g-0"]);
    assert_eq!(counted(&cut), [(Some(20096), 2, 1)]);
    assert_eq!(cut[0].sharing, GpuSharing::Mig);
    // What takes of a set that no slice has cannot be had.
    assert_eq!(counted(&pools(vec![Slice { counters: BTreeMap::new(), ..card }], &[])), []);
}

#[test]
fn memory_is_what_the_driver_says_unless_that_cannot_be() {
    let read = |driver: &str, device: Device| {
        let slice = Slice { driver: driver.to_owned(), ..slice("a", 1, 1, vec![device]) };
        let snapshot = Snapshot {
            slices: [("a".to_owned(), Arc::new(slice))].into(),
            ..Snapshot::new([node("n", &[], &[])], [])
        };
        match &Inventory::new(snapshot, &Sources::default()).nodes()[0].pools[0].memory {
            Memory::Known { bytes, .. } => Ok(bytes.0),
            Memory::Untrusted { fault, .. } => Err(*fault),
            Memory::Missing { label, .. } => panic!("{label}"),
        }
    };
    let amd = |kind: &str, product: &str, memory: &str| Device {
        kind: kind.to_owned(),
        ..gpu("gpu-1-128", product, memory)
    };
    let intel =
        |memory: &str| Device { kind: String::new(), ..gpu("0000-03-00-0-0x56c0", "Flex 170", memory) };
    for (driver, device, expected) in [
        (NVIDIA, gpu("g", "NVIDIA H100 80GB HBM3", "85520809984"), Ok(81559 * MIB)),
        (NVIDIA, gpu("g", "NVIDIA H100 80GB HBM3", "80Gi"), Ok(81559 * MIB)),
        (NVIDIA, gpu("g", "NVIDIA L4", "80Gi"), Err(LabelFault::NotTheCard { mib: 23034 })),
        (NVIDIA, gpu("g", "NVIDIA Next Year", "500Gi"), Ok(500 * GIB)),
        (NVIDIA, Device { memory: None, ..l4("g") }, Err(LabelFault::Empty)),
        (NVIDIA, gpu("g", "NVIDIA L4", ""), Err(LabelFault::Empty)),
        (NVIDIA, gpu("g", "NVIDIA L4", "0"), Err(LabelFault::Zero)),
        (NVIDIA, gpu("g", "NVIDIA L4", "-1"), Err(LabelFault::NotANumber)),
        (NVIDIA, gpu("g", "NVIDIA L4", "23034MIB"), Err(LabelFault::NotANumber)),
        (NVIDIA, gpu("g", "NVIDIA L4", "1Ti"), Err(LabelFault::TooLarge)),
        ("gpu.amd.com", amd("amdgpu", "AMD Instinct MI300X OAM", "192Gi"), Ok(192 * GIB)),
        ("gpu.amd.com", amd("amdgpu", "AMD Instinct MI210", "80Gi"), Err(LabelFault::Unread)),
        ("gpu.amd.com", amd("amdgpu", "AMD Instinct MI210", "85899345920"), Err(LabelFault::Unread)),
        ("gpu.amd.com", amd("amdgpu-partition", "AMD Instinct MI300X OAM", "20Gi"), Err(LabelFault::Unread)),
        ("gpu.amd.com", amd("amdgpu-partition", "AMD Instinct MI300X OAM", "24Gi"), Ok(24 * GIB)),
        ("gpu.intel.com", intel("15360Mi"), Ok(15360 * MIB)),
        ("gpu.intel.com", intel("0Mi"), Err(LabelFault::Zero)),
    ] {
        assert_eq!(read(driver, device.clone()), expected, "{device:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::default())]

    /// No device is there twice, or free while it is held, whatever the slices say; and a pod that requests an extended resource
    /// fits on no device that must be claimed.
    #[test]
    fn devices_are_counted_once((slices, claims) in any_slices(), turned in any::<bool>()) {
        let nodes = || (0..10).map(|at| node(&format!("n{at}"), &STALE, &[]));
        let snapshot = Snapshot { slices: slices.clone(), claims: claims.clone(), ..Snapshot::new(nodes(), []) };
        let inventory = Inventory::new(snapshot.clone(), &Sources::default());
        let held: BTreeSet<&DeviceId> = claims.values().flatten().collect();
        for entry in inventory.nodes() {
            for driver in [NVIDIA, "gpu.amd.com", "gpu.intel.com"] {
                let of_driver = slices.values().filter(|slice| slice.driver == driver);
                let here = |device: &&Device| device.node.as_ref() == Some(&entry.node.name);
                let ids: BTreeSet<DeviceId> = of_driver
                    .flat_map(|slice| slice.devices.iter().filter(here).map(|device| (driver.to_owned(), slice.pool.clone(), device.name.clone())))
                    .collect();
                let pools = || entry.pools.iter().filter(|pool| pool.resource == driver);
                let (there, free): (u64, u64) = (pools().map(|pool| pool.allocatable).sum(), pools().map(|pool| pool.free).sum());
                prop_assert!(free <= there && there <= ids.len() as u64, "{:?}", entry.pools);
                prop_assert!(free <= ids.iter().filter(|id| !held.contains(id)).count() as u64, "{:?}", entry.pools);
                let vendor = Vendor::of_driver(driver);
                prop_assert!(pools().count() == 0 || entry.pools.iter().all(|pool| Some(pool.vendor) != vendor || pool.is_claimed()));
            }
        }
        let requirement = Requirement { per_gpu: Bytes(1), gpus: 1 };
        let policy = Policy { allow_shared: true, ..Policy::default() };
        let decision = decide(&Request { requirement, policy: &policy, owner: None }, &inventory, &[]);
        prop_assert_eq!(decision.slots, 0);
        // Who holds less leaves no less.
        if turned {
            let fewer = Snapshot { claims: BTreeMap::new(), ..snapshot };
            let free = |inventory: &Inventory| inventory.nodes().iter().map(|entry| entry.pools.iter().map(|pool| pool.free).sum::<u64>()).collect::<Vec<_>>();
            let with = inventory.nodes().iter().map(|entry| entry.pools.iter().any(|pool| pool.free > 0)).collect::<Vec<_>>();
            for (had, has) in with.into_iter().zip(free(&Inventory::new(fewer, &Sources::default()))) {
                prop_assert!(!had || has > 0);
            }
        }
    }
}
