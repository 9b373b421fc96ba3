//! HAMi's device plugin: the annotation `hami.io/node-nvidia-register` lists the cards of a node, each with MiB (`devmem`), how
//! often it is handed out (`count`), its name and whether it is healthy (Project-HAMi/HAMi v2.10.0,
//! `pkg/device-plugin/nvidiadevice/nvinternal/plugin/register.go` and `pkg/device/devices.go`). The resource stays
//! `nvidia.com/gpu`, of which there are `count` to a card.
//!
//! Node affinity sees labels alone: of an annotation no term can be made, so that it never lets a pod onto a node. It says what
//! is to be labelled, and that the cards are shared. Nor is the figure all the driver's: `deviceMemoryScaling` multiplies it.

use serde::{Deserialize, Serialize};

use super::nvidia::{GPU, SHARED_SUFFIX};
use super::{Meaning, Source, TOO_LARGE_MIB, Wish, untrusted};
use crate::inventory::cards::{self, Card};
use crate::inventory::{GpuPool, GpuSharing, LabelFault, Memory, Node, Term, Vendor};
use crate::units::{Bytes, Overflow, shorten};

const NAME: &str = "hami";
/// The annotation.
pub(in crate::inventory) const REGISTER: &str = "hami.io/node-nvidia-register";
/// What a label has to say for a pod to be let onto the node.
const LABEL: &str = "nvidia.com/gpu.memory";

/// HAMi.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hami;

/// A card of the list. What is not read of it, such as its UUID, is left out of snapshots.
#[derive(Debug, Serialize, Deserialize)]
struct Registered {
    #[serde(default)]
    count: i64,
    #[serde(default)]
    devmem: i64,
    #[serde(default, rename = "type")]
    name: String,
    #[serde(default = "yes")]
    health: bool,
}

const fn yes() -> bool {
    true
}

/// What is kept of the annotation: what is read of it, or the beginning of what cannot be read. What was kept stays as it is.
pub(in crate::inventory) fn kept(text: &str) -> String {
    let cards = parsed(text).and_then(|cards| serde_json::to_string(&cards).ok());
    cards.unwrap_or_else(|| shorten(text))
}

fn parsed(text: &str) -> Option<Vec<Registered>> {
    serde_json::from_str(text).ok()
}

/// The healthy cards of a node, if it has the annotation and that can be read.
fn cards(node: &Node) -> Option<Vec<Registered>> {
    let mut cards = parsed(node.annotations.get(REGISTER)?)?;
    cards.retain(|card| card.health);
    Some(cards)
}

/// Who makes the names puts `NVIDIA-` before those that do not begin so.
fn card(name: &str) -> Option<&'static Card> {
    let product = name.replace(' ', "-");
    let bare = product.strip_prefix("NVIDIA-").unwrap_or_default();
    cards::by_product(&product).or_else(|| cards::by_product(bare))
}

fn memory(node: &Node, text: &str) -> Memory {
    let fault = |fault| untrusted(REGISTER, text, fault);
    let Some(cards) = cards(node) else { return fault(LabelFault::NotRegistered) };
    let Some(first) = cards.first() else { return fault(LabelFault::NotRegistered) };
    if cards.iter().any(|card| (card.devmem, &card.name) != (first.devmem, &first.name)) {
        return fault(LabelFault::SeveralKinds);
    }
    let bytes = u64::try_from(first.devmem).ok().filter(|mib| (1..TOO_LARGE_MIB).contains(mib));
    match (bytes.and_then(Bytes::from_mib), card(&first.name)) {
        (None, _) => fault(LabelFault::NotRegistered),
        (Some(bytes), Some(card)) if card.is_far(bytes) => fault(LabelFault::NotTheCard { mib: card.mib }),
        (Some(bytes), _) => Memory::Missing { label: LABEL.to_owned(), annotated: Some(bytes) },
    }
}

impl Source for Hami {
    fn name(&self) -> &'static str {
        NAME
    }

    fn domains(&self) -> Vec<&str> {
        vec!["hami.io/"]
    }

    fn is_resource(&self, resource: &str) -> bool {
        resource.strip_suffix(SHARED_SUFFIX).unwrap_or(resource) == GPU
    }

    fn meaning(&self, _: &str) -> Meaning {
        Meaning::Other
    }

    fn taints(&self) -> Vec<&str> {
        Vec::new()
    }

    fn pools(&self, node: &Node) -> Vec<GpuPool> {
        let Some(text) = node.annotations.get(REGISTER) else { return Vec::new() };
        let product = cards(node).and_then(|cards| Some(cards.first()?.name.replace(' ', "-")));
        let product = product.filter(|product| !product.is_empty());
        let resources = node.allocatable.iter().filter(|(name, count)| **count > 0 && self.is_resource(name));
        let pool = |(resource, count): (&String, &u64)| GpuPool {
            vendor: Vendor::Nvidia,
            product: product.clone(),
            memory: memory(node, text),
            resource: resource.clone(),
            allocatable: *count,
            free: *count,
            promised: 0,
            sharing: GpuSharing::Exclusive,
        };
        resources.map(pool).collect()
    }

    fn terms(&self, _: &Wish<'_>) -> Result<Vec<Term>, Overflow> {
        Ok(Vec::new())
    }

    /// A list that is left over from before HAMi was removed shares nothing: then no more is handed out than there are cards.
    fn amend(&self, node: &Node, pool: &mut GpuPool) {
        let Some(cards) = cards(node).filter(|_| self.is_resource(&pool.resource)) else { return };
        let times = cards.iter().filter_map(|card| u64::try_from(card.count).ok()).max().unwrap_or(0);
        let is_shared = usize::try_from(pool.allocatable).map_or(true, |handed_out| handed_out > cards.len());
        if pool.sharing == GpuSharing::Exclusive && times > 1 && is_shared {
            pool.sharing = GpuSharing::TimeSliced(times);
        }
    }
}
