//! AMD's node labeller: `amd.com/gpu.vram` is the memory of one GPU or partition in GiB, rounded, with a `G` (`192G`). The key
//! once began with `beta.`. Where GPUs of several sizes are in one node there is a label for each, `amd.com/gpu.vram.64G` with
//! their number, and none without the size (ROCm/k8s-device-plugin, `cmd/k8s-node-labeller/main.go`, August 2026). Partitions
//! keep the resource or have one of their own, such as `amd.com/cpx_nps4`; their label is of the partition
//! (ROCm/gpu-operator#555).

use super::{Meaning, Source, Wish, digits, reported, untrusted};
use crate::inventory::{Expression, GpuPool, GpuSharing, LabelFault, Memory, Node, Term, Vendor};
use crate::units::{Bytes, GIB, Overflow};

const NAME: &str = "amd-node-labeller";
const GPU: &str = "amd.com/gpu";
/// The newer key and the older, which counts only where the newer is not.
const VRAM: [&str; 2] = ["amd.com/gpu.vram", "beta.amd.com/gpu.vram"];
const PRODUCT: [&str; 2] = ["amd.com/gpu.product-name", "beta.amd.com/gpu.product-name"];
/// How the keys begin that only a node with AMD GPUs has.
const OWN: [&str; 2] = ["amd.com/gpu.", "beta.amd.com/gpu."];
/// How the resources of partitions begin.
const PARTITIONS: [&str; 4] = ["amd.com/spx_nps", "amd.com/dpx_nps", "amd.com/qpx_nps", "amd.com/cpx_nps"];

/// Sizes that AMD's GPUs and their partitions have, in GiB: `Gt` cannot compare a value with a unit, so that a term lists
/// those that are enough. Of the MI300X a half, a quarter and an eighth, of the MI325X and MI355X likewise.
const SIZES: &[u64] = &[8, 12, 16, 20, 24, 28, 32, 36, 48, 64, 72, 96, 128, 144, 192, 256, 288];

/// The node labeller of AMD's device plugin and GPU operator.
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeLabeller;

fn memory(node: &Node) -> Memory {
    let Some((key, value)) = VRAM.iter().find_map(|key| Some((*key, node.labels.get(*key)?))) else {
        let is_size = |key: &str| {
            VRAM.iter().any(|vram| key.strip_prefix(vram).is_some_and(|size| size.starts_with('.')))
        };
        let mut sizes = node.labels.iter().filter(|(key, _)| is_size(key));
        return match (sizes.next(), sizes.next()) {
            (Some((key, value)), Some(_)) => untrusted(key, value, LabelFault::SeveralKinds),
            _ => Memory::Missing { label: VRAM[0].to_owned(), annotated: None },
        };
    };
    let fault = match value.strip_suffix('G').map(digits) {
        _ if value.is_empty() => LabelFault::Empty,
        None => LabelFault::NotANumber,
        Some(Err(fault)) => fault,
        Some(Ok(0)) => LabelFault::Zero,
        Some(Ok(gib)) if SIZES.contains(&gib) && *value == format!("{gib}G") => {
            return reported(Bytes(gib * GIB), key, NAME);
        }
        Some(Ok(_)) => LabelFault::NotKnown,
    };
    untrusted(key, value, fault)
}

impl Source for NodeLabeller {
    fn name(&self) -> &'static str {
        NAME
    }

    fn domains(&self) -> Vec<&str> {
        vec!["amd.com/", "beta.amd.com/"]
    }

    fn is_resource(&self, resource: &str) -> bool {
        resource == GPU || PARTITIONS.iter().any(|mode| resource.starts_with(mode))
    }

    fn meaning(&self, key: &str) -> Meaning {
        if VRAM.contains(&key) {
            Meaning::Memory
        } else if PRODUCT.contains(&key) {
            Meaning::Product
        } else {
            Meaning::Other
        }
    }

    fn taints(&self) -> Vec<&str> {
        vec![GPU]
    }

    fn pools(&self, node: &Node) -> Vec<GpuPool> {
        let pool = |resource: &str, allocatable| GpuPool {
            vendor: Vendor::Amd,
            product: PRODUCT.iter().find_map(|key| node.labels.get(*key)).cloned(),
            memory: memory(node),
            resource: resource.to_owned(),
            allocatable,
            free: allocatable,
            promised: 0,
            sharing: GpuSharing::Exclusive,
        };
        let resources = node.allocatable.iter().filter(|(name, count)| **count > 0 && self.is_resource(name));
        let mut pools: Vec<GpuPool> = resources.map(|(name, count)| pool(name, *count)).collect();
        let is_own = |key: &String| OWN.iter().any(|own| key.starts_with(own));
        if pools.is_empty() && node.labels.keys().any(is_own) {
            pools.push(pool(GPU, 0));
        }
        pools
    }

    fn terms(&self, wish: &Wish<'_>) -> Result<Vec<Term>, Overflow> {
        let large: Vec<String> =
            SIZES.iter().filter(|gib| **gib * GIB >= wish.per_gpu.0).map(|gib| format!("{gib}G")).collect();
        let [newer, older] = VRAM;
        if large.is_empty() {
            return Ok(vec![super::never(newer)]);
        }
        Ok(vec![
            [Expression::absent(newer), Expression::is_in(older, large.clone())].into_iter().collect(),
            [Expression::is_in(newer, large)].into_iter().collect(),
        ])
    }
}
