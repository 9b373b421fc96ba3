//! What clouds say of NVIDIA GPUs where GPU Feature Discovery does not run: mostly a name, of which the table of cards knows
//! the memory.

use std::collections::BTreeMap;

use super::nvidia::{GPU, REPLICAS, SHARED_SUFFIX, SHARING, SLICES};
use super::{Meaning, Source, Wish, digits, mebibytes, untrusted};
use crate::inventory::cards::{self, Card};
use crate::inventory::{Expression, GpuPool, GpuSharing, LabelFault, Memory, Node, Term, Trust, Vendor};
use crate::units::{Bytes, MIB, Overflow};

/// A cloud's labels on nodes with NVIDIA GPUs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cloud {
    /// What the source is called.
    pub(super) name: &'static str,
    /// How the keys of its labels begin.
    pub(super) domains: &'static [&'static str],
    /// How the keys begin of labels that every node of the cloud has, with GPUs or without.
    pub(super) marks: &'static [&'static str],
    /// The label by which it speaks: where that is there, it says something, if only that it is not understood.
    pub(super) key: &'static str,
    /// What the label says.
    pub(super) says: Says,
    /// Whether an autoscaler writes it.
    pub(super) is_autoscaler: bool,
}

/// The cloud's name of a card, and the table's.
pub(super) type Names = &'static [(&'static str, &'static str)];

/// What a cloud's label says.
#[derive(Clone, Copy, Debug)]
pub(super) enum Says {
    /// The name of a card.
    Name(Names),
    /// The name of a card, beside a label with the MiB that the cloud's catalogue has for it: the smaller counts. The
    /// name may be of cards with several memories, and the catalogue's figure is more than the driver reports.
    NameAndMib {
        /// The names, each of the card with most memory.
        names: Names,
        /// The label with the figure.
        memory: &'static str,
    },
    /// Memory of one GPU in thousands of MiB, rounded down.
    ThousandMib,
    /// What GPU Feature Discovery would call the card.
    Product,
}

/// Labels that only GPU Feature Discovery writes.
const DISCOVERED: [&str; 3] = [SHARING, REPLICAS, SLICES];

/// From here on a figure must be MiB: a thousand thousand MiB is more than any card has.
const MOST_THOUSANDS: u64 = 1000;

impl Cloud {
    /// The memory that a node's labels state; `None` where this source says nothing.
    fn memory(&self, node: &Node) -> Option<Memory> {
        let value = node.labels.get(self.key)?;
        if DISCOVERED.iter().any(|label| node.labels.contains_key(*label)) {
            // GPU Feature Discovery runs there and says nothing of memory: then the card is not what the cloud thinks.
            return Some(untrusted(self.key, value, LabelFault::NotKnown));
        }
        self.stated(node)
    }

    /// The same, whatever else is there.
    fn stated(&self, node: &Node) -> Option<Memory> {
        let value = node.labels.get(self.key)?;
        let fault = |fault| untrusted(self.key, value, fault);
        let known = |bytes, label: &str, trust| Memory::Known {
            bytes,
            label: label.to_owned(),
            source: self.name.into(),
            trust,
        };
        let by_name = |card: Option<&Card>| match card {
            Some(card) => known(Bytes(card.mib * MIB), self.key, Trust::ByName),
            None => fault(LabelFault::NotKnown),
        };
        Some(match self.says {
            Says::Name(names) => by_name(card(names, value)),
            Says::Product => by_name(cards::by_product(value)),
            Says::NameAndMib { names, memory } => {
                let figure = node.labels.get(memory);
                match (card(names, value), figure.map(|figure| (figure, mebibytes(figure)))) {
                    (None, _) => fault(LabelFault::NotKnown),
                    (Some(_), None) => untrusted(memory, "", LabelFault::Empty),
                    (Some(_), Some((figure, Err(fault)))) => untrusted(memory, figure, fault),
                    (Some(card), Some((_, Ok(bytes)))) => {
                        known(bytes.min(Bytes(card.mib * MIB)), memory, Trust::ByName)
                    }
                }
            }
            Says::ThousandMib => match digits(value) {
                Err(problem) => fault(problem),
                Ok(0) => fault(LabelFault::Zero),
                Ok(thousands) if thousands < MOST_THOUSANDS => {
                    known(Bytes(thousands * 1000 * MIB), self.key, Trust::Reported)
                }
                Ok(_) => fault(LabelFault::TooLarge),
            },
        })
    }

    /// What the labels must be for a GPU to have so much; `None` where no card has.
    fn at_least(&self, least: Bytes) -> Option<Vec<Expression>> {
        let mib = least.mib_ceil();
        let one_of = |values: Vec<&str>| (!values.is_empty()).then(|| Expression::is_in(self.key, values));
        let in_table = |names: Names| {
            let large =
                names.iter().filter(|(_, card)| cards::by_name(card).is_some_and(|card| card.mib >= mib));
            one_of(large.map(|(name, _)| *name).collect())
        };
        let mut all = match self.says {
            Says::Name(names) => vec![in_table(names)?],
            Says::Product => vec![one_of(cards::products_of(|card| card.mib >= mib).collect())?],
            Says::NameAndMib { names, memory } => vec![
                in_table(names)?,
                Expression::above(memory, mib.saturating_sub(1)),
                Expression::below(memory, super::TOO_LARGE_MIB),
            ],
            Says::ThousandMib => vec![
                Expression::above(self.key, mib.div_ceil(1000).saturating_sub(1)),
                Expression::below(self.key, MOST_THOUSANDS),
            ],
        };
        all.extend(DISCOVERED.map(Expression::absent));
        Some(all)
    }
}

fn card(names: Names, value: &str) -> Option<&'static Card> {
    let (_, card) = names.iter().find(|(name, _)| *name == value)?;
    cards::by_name(card)
}

impl Source for Cloud {
    fn name(&self) -> &str {
        self.name
    }

    fn domains(&self) -> Vec<&str> {
        self.domains.to_vec()
    }

    fn is_resource(&self, resource: &str) -> bool {
        resource.strip_suffix(SHARED_SUFFIX).unwrap_or(resource) == GPU
    }

    /// A cloud's labels do not come and go as a program on the node starts anew.
    fn meaning(&self, _: &str) -> Meaning {
        Meaning::Other
    }

    fn taints(&self) -> Vec<&str> {
        vec![GPU]
    }

    fn pools(&self, node: &Node) -> Vec<GpuPool> {
        let Some(memory) = self.memory(node) else { return Vec::new() };
        let resources = node.allocatable.iter().filter(|(name, count)| **count > 0 && self.is_resource(name));
        let mut found: Vec<(&str, u64)> = resources.map(|(name, count)| (name.as_str(), *count)).collect();
        if found.is_empty()
            && !node.allocatable.keys().any(|resource| resource.starts_with("nvidia.com/mig-"))
        {
            found.push((GPU, 0));
        }
        let says_product = !matches!(self.says, Says::ThousandMib);
        found
            .into_iter()
            .map(|(resource, allocatable)| GpuPool {
                vendor: Vendor::Nvidia,
                product: node.labels.get(self.key).cloned().filter(|_| says_product),
                memory: memory.clone(),
                resource: resource.to_owned(),
                allocatable,
                free: allocatable,
                promised: 0,
                sharing: GpuSharing::Exclusive,
            })
            .collect()
    }

    fn terms(&self, wish: &Wish<'_>) -> Result<Vec<Term>, Overflow> {
        if wish.resource.ends_with(SHARED_SUFFIX) && !wish.is_shared() {
            return Ok(Vec::new());
        }
        Ok(self.at_least(wish.per_gpu).map(|all| all.into_iter().collect()).into_iter().collect())
    }

    fn silence(&self, _: &str) -> Vec<Expression> {
        vec![Expression::absent(self.key)]
    }

    fn may_come_with(&self, labels: &BTreeMap<String, String>) -> bool {
        labels.keys().any(|key| self.marks.iter().chain(self.domains).any(|mark| key.starts_with(mark)))
    }

    fn is_autoscaler(&self) -> bool {
        self.is_autoscaler
    }

    fn figure(&self, node: &Node, resource: &str) -> Option<(String, Bytes)> {
        match self.stated(node).filter(|_| self.is_resource(resource))? {
            Memory::Known { bytes, label, .. } => Some((label, bytes)),
            Memory::Missing { .. } | Memory::Untrusted { .. } => None,
        }
    }

    fn is_by_name(&self) -> bool {
        !matches!(self.says, Says::ThousandMib)
    }
}
