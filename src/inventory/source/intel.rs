//! Intel's labels. The labeller that came with the device plugin up to 0.31 wrote `gpu.intel.com/memory.max`: bytes, summed over
//! all GPUs of the node, and `gpu.intel.com/millicores`, a thousand for each
//! (intel/intel-device-plugins-for-kubernetes v0.31, `cmd/internal/labeler/labeler.go`). The rules for Node Feature Discovery
//! that took its place write `gpu.intel.com/product` and no memory (`cmd/gpu_plugin/labels.md`, June 2026).

use super::{Meaning, Source, Wish, digits, reported, untrusted};
use crate::inventory::{Expression, GpuPool, GpuSharing, LabelFault, Memory, Node, Term, Trust, Vendor};
use crate::units::{Bytes, MIB, Overflow};

const NAME: &str = "intel-gpu-plugin";
const RESOURCES: [&str; 2] = ["gpu.intel.com/xe", "gpu.intel.com/i915"];
const MEMORY: &str = "gpu.intel.com/memory.max";
const MILLICORES: &str = "gpu.intel.com/millicores";
const PRODUCT: &str = "gpu.intel.com/product";

/// A sum is only comparable for a known number of GPUs: a term for each up to this.
const MOST_GPUS: u64 = 8;
/// From here on, divided among the GPUs, it is more than any has.
const TOO_LARGE: u64 = super::TOO_LARGE_MIB * MIB;

/// MiB by the product that the rules name. The driver of the Flex series keeps a sixteenth for error correction.
const PRODUCTS: &[(&str, u64)] =
    &[("Flex_140", 5760), ("Flex_170", 15_360), ("Max_1100", 49_152), ("Max_1550", 131_072)];

/// Intel's GPU plugin, its labeller and its rules for Node Feature Discovery.
#[derive(Clone, Copy, Debug)]
pub(super) struct GpuPlugin;

fn memory(node: &Node) -> Memory {
    let label = |key: &str| node.labels.get(key).map(String::as_str);
    if let Some(sum) = label(MEMORY) {
        let millicores = label(MILLICORES);
        let gpus = (1..=MOST_GPUS).find(|gpus| millicores == Some(thousands(*gpus).as_str()));
        return match (digits(sum), gpus) {
            (Err(fault), _) => untrusted(MEMORY, sum, fault),
            (Ok(0), _) => untrusted(MEMORY, sum, LabelFault::Zero),
            (Ok(_), None) => {
                untrusted(MILLICORES, millicores.unwrap_or_default(), LabelFault::SumOfUnknownMany)
            }
            (Ok(sum), Some(gpus)) if sum < TOO_LARGE * gpus => reported(Bytes(sum / gpus), MEMORY, NAME),
            (Ok(_), Some(_)) => untrusted(MEMORY, sum, LabelFault::TooLarge),
        };
    }
    match label(PRODUCT) {
        None => Memory::Missing { label: PRODUCT.to_owned(), annotated: None },
        Some(product) => match PRODUCTS.iter().find(|(name, _)| *name == product) {
            Some((_, mib)) => Memory::Known {
                bytes: Bytes(mib * MIB),
                label: PRODUCT.to_owned(),
                source: NAME.into(),
                trust: Trust::ByName,
            },
            None => untrusted(PRODUCT, product, LabelFault::NotKnown),
        },
    }
}

fn thousands(gpus: u64) -> String {
    format!("{gpus}000")
}

impl Source for GpuPlugin {
    fn name(&self) -> &'static str {
        NAME
    }

    fn domains(&self) -> Vec<&str> {
        vec!["gpu.intel.com/"]
    }

    fn is_resource(&self, resource: &str) -> bool {
        RESOURCES.contains(&resource)
    }

    fn meaning(&self, key: &str) -> Meaning {
        match key {
            MEMORY => Meaning::Memory,
            PRODUCT => Meaning::Product,
            _ => Meaning::Other,
        }
    }

    fn taints(&self) -> Vec<&str> {
        RESOURCES.to_vec()
    }

    fn pools(&self, node: &Node) -> Vec<GpuPool> {
        let pool = |resource: &str, allocatable| GpuPool {
            vendor: Vendor::Intel,
            product: node.labels.get(PRODUCT).cloned(),
            memory: memory(node),
            resource: resource.to_owned(),
            allocatable,
            free: allocatable,
            promised: 0,
            sharing: GpuSharing::Exclusive,
        };
        let resources = node.allocatable.iter().filter(|(name, count)| **count > 0 && self.is_resource(name));
        let mut pools: Vec<GpuPool> = resources.map(|(name, count)| pool(name, *count)).collect();
        if pools.is_empty() && [MEMORY, PRODUCT].iter().any(|key| node.labels.contains_key(*key)) {
            pools.push(pool(RESOURCES[0], 0));
        }
        pools
    }

    fn terms(&self, wish: &Wish<'_>) -> Result<Vec<Term>, Overflow> {
        let mut terms = Vec::new();
        for gpus in 1..=MOST_GPUS {
            let sum = wish.per_gpu.times(gpus)?;
            let term = [
                Expression::is_in(MILLICORES, [thousands(gpus)]),
                Expression::above(MEMORY, sum.0.saturating_sub(1)),
                Expression::below(MEMORY, TOO_LARGE * gpus),
            ];
            terms.push(term.into_iter().collect());
        }
        let large = PRODUCTS.iter().filter(|(_, mib)| mib * MIB >= wish.per_gpu.0);
        let large: Vec<&str> = large.map(|(name, _)| *name).collect();
        if !large.is_empty() {
            terms.push([Expression::absent(MEMORY), Expression::is_in(PRODUCT, large)].into_iter().collect());
        }
        Ok(terms)
    }
}
