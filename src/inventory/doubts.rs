//! What the labels of a node say that does not agree with what is taken of it, though that is known. What cannot be believed at all
//! is in a pool's [`Memory`].

use super::{GpuPool, GpuSharing, Meaning, Memory, Node, Sources, Vendor};
use crate::units::Bytes;

/// Figures further apart than this, in percent of the larger, are not of one card.
const TOLERANCE: u128 = 8;

/// What is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// A label from before a driver of resource claims came to offer the GPUs.
    LeftOver {
        /// The label.
        label: String,
        /// Its value.
        value: String,
        /// The driver, whose word is taken.
        driver: String,
    },
    /// Fewer are handed out than a label counts.
    Fewer {
        /// The label.
        label: String,
        /// How many there should be.
        counted: u64,
        /// How many are handed out, which is what counts.
        handed_out: u64,
    },
    /// Two sources say memory of the same GPUs that is more than 8 % apart.
    Disagree {
        /// The label that is taken.
        label: String,
        /// What it says.
        bytes: Bytes,
        /// The other label.
        other: String,
        /// What that says.
        other_bytes: Bytes,
    },
}

/// How the keys begin of a vendor's own labels.
const fn domains(vendor: Vendor) -> &'static [&'static str] {
    match vendor {
        Vendor::Nvidia => &["nvidia.com/"],
        Vendor::Amd => &["amd.com/", "beta.amd.com/"],
        Vendor::Intel => &["gpu.intel.com/"],
    }
}

impl Sources {
    /// What is to be looked at of a node's GPUs of one kind.
    #[must_use]
    pub fn doubts(&self, node: &Node, pool: &GpuPool) -> Vec<Doubt> {
        if pool.is_claimed() {
            return self.left_over(node, pool).into_iter().collect();
        }
        let Memory::Known { bytes, label, .. } = &pool.memory else { return Vec::new() };
        let counted = self.iter().find_map(|source| source.counted(node, pool));
        let fewer = counted
            .filter(|(_, counted)| *counted > pool.allocatable)
            .map(|(label, counted)| Doubt::Fewer { label, counted, handed_out: pool.allocatable });
        let figures = self.iter().filter_map(|source| source.figure(node, &pool.resource));
        let mut others = figures.filter(|(other, figure)| other != label && is_apart(*bytes, *figure));
        // The figure of a slice and that of its card are both right.
        let other = others.next().filter(|_| pool.sharing != GpuSharing::Mig);
        let disagree = other.map(|(other, other_bytes)| Doubt::Disagree {
            label: label.clone(),
            bytes: *bytes,
            other,
            other_bytes,
        });
        fewer.into_iter().chain(disagree).collect()
    }

    fn left_over(&self, node: &Node, pool: &GpuPool) -> Option<Doubt> {
        let is_own = |key: &&String| domains(pool.vendor).iter().any(|domain| key.starts_with(domain));
        let of = |meaning| node.labels.keys().filter(is_own).find(|key| self.meaning(key) == meaning);
        let label = of(Meaning::Memory).or_else(|| of(Meaning::Product))?;
        let value = node.labels.get(label).cloned().unwrap_or_default();
        Some(Doubt::LeftOver { label: label.clone(), value, driver: pool.resource.clone() })
    }
}

fn is_apart(one: Bytes, other: Bytes) -> bool {
    let (one, other) = (u128::from(one.0), u128::from(other.0));
    one.abs_diff(other) * 100 > one.max(other) * TOLERANCE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::testing::node;
    use crate::units::MIB;

    const MEMORY: &str = "nvidia.com/gpu.memory";

    fn doubts(labels: &[(&str, &str)], allocatable: &[(&str, u64)]) -> Vec<Doubt> {
        let (node, sources) = (node("n", labels, allocatable), Sources::default());
        let pools = sources.pools(&node);
        pools.iter().flat_map(|pool| sources.doubts(&node, pool)).collect()
    }

    #[test]
    fn what_sources_say_apart_of_one_card_is_told() {
        let l4 = |mib: &str| {
            vec![
                (MEMORY, "23034".to_owned()),
                ("karpenter.k8s.aws/instance-gpu-name", "l4".to_owned()),
                ("karpenter.k8s.aws/instance-gpu-memory", mib.to_owned()),
            ]
        };
        let of = |labels: &[(&str, String)]| {
            let labels: Vec<(&str, &str)> =
                labels.iter().map(|(key, value)| (*key, value.as_str())).collect();
            doubts(&labels, &[("nvidia.com/gpu", 4)])
        };
        assert_eq!(of(&l4("22888")), []);
        let (label, other) = (MEMORY.to_owned(), "karpenter.k8s.aws/instance-gpu-memory".to_owned());
        let (bytes, other_bytes) = (Bytes(23034 * MIB), Bytes(11444 * MIB));
        assert_eq!(of(&l4("11444")), [Doubt::Disagree { label, bytes, other, other_bytes }]);
        // With the labels of GPU Feature Discovery beside it, by which a cloud's is no longer read.
        let mut labels = l4("11444");
        labels.push(("nvidia.com/gpu.replicas", "1".to_owned()));
        assert_eq!(of(&labels).len(), 1);
        // A slice is not its card.
        labels.push(("nvidia.com/gpu.slices.gi", "1".to_owned()));
        assert_eq!(of(&labels), []);
    }

    #[test]
    fn cards_that_are_not_handed_out_are_told() {
        let eight = [(MEMORY, "23034"), ("nvidia.com/gpu.count", "8")];
        let fewer =
            |handed_out| Doubt::Fewer { label: "nvidia.com/gpu.count".to_owned(), counted: 8, handed_out };
        assert_eq!(doubts(&eight, &[("nvidia.com/gpu", 8)]), []);
        assert_eq!(doubts(&eight, &[("nvidia.com/gpu", 6)]), [fewer(6)]);
        assert_eq!(doubts(&eight, &[]), [fewer(0)]);
        // Those that are cut are handed out as slices.
        assert_eq!(doubts(&eight, &[("nvidia.com/gpu", 6), ("nvidia.com/mig-1g.10gb", 14)]), []);
        let shared = [(MEMORY, "23034"), ("nvidia.com/gpu.count", "2"), ("nvidia.com/gpu.replicas", "4")];
        assert_eq!(doubts(&shared, &[("nvidia.com/gpu", 8)]), []);
        assert!(matches!(doubts(&shared, &[("nvidia.com/gpu", 4)])[..], [Doubt::Fewer { counted: 8, .. }]));
    }
}
