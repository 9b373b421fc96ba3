//! GKE's own labels: `cloud.google.com/gke-accelerator` is the name of the card, and no label says its memory. Where a card is
//! shared `gke-gpu-sharing-strategy` says how and `gke-max-shared-clients-per-gpu` among how many; where it is cut
//! `gke-gpu-partition-size` has the profile's name. All of them keep the resource `nvidia.com/gpu`, and GPU Feature Discovery, if
//! it runs there, knows nothing of the sharing (GKE documentation, "About GPU sharing strategies" and "Run multi-instance GPUs",
//! 2026; GoogleCloudPlatform/container-engine-accelerators#209).

use std::collections::BTreeMap;

use super::cloud::{Cloud, Says};
use super::nvidia::GPU;
use super::{Meaning, Source, Wish, untrusted};
use crate::inventory::{Expression, GpuPool, GpuSharing, LabelFault, Node, Term};
use crate::units::Overflow;

const STRATEGY: &str = "cloud.google.com/gke-gpu-sharing-strategy";
const CLIENTS: &str = "cloud.google.com/gke-max-shared-clients-per-gpu";
const PARTITION: &str = "cloud.google.com/gke-gpu-partition-size";
const TIME_SHARING: &str = "time-sharing";
const MPS: &str = "mps";

const NAMES: Cloud = Cloud {
    name: "gke",
    domains: &[
        "cloud.google.com/gke-accelerator",
        "cloud.google.com/gke-gpu",
        "cloud.google.com/gke-max-shared-clients-per-gpu",
    ],
    marks: &["cloud.google.com/"],
    key: "cloud.google.com/gke-accelerator",
    says: Says::Name(&[
        ("nvidia-tesla-p100", "P100-16GB"),
        ("nvidia-tesla-v100", "V100-16GB"),
        ("nvidia-tesla-t4", "T4"),
        ("nvidia-tesla-a100", "A100-40GB"),
        ("nvidia-a100-80gb", "A100-80GB"),
        ("nvidia-l4", "L4"),
        ("nvidia-h100-80gb", "H100"),
        ("nvidia-h100-mega-80gb", "H100"),
        ("nvidia-h200-141gb", "H200"),
        ("nvidia-b200", "B200"),
        ("nvidia-gb200", "GB200"),
        ("nvidia-rtx-pro-6000", "RTX-PRO-6000"),
    ]),
    is_autoscaler: true,
};

/// Google Kubernetes Engine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gke;

impl Source for Gke {
    fn name(&self) -> &str {
        NAMES.name
    }

    fn domains(&self) -> Vec<&str> {
        NAMES.domains.to_vec()
    }

    fn is_resource(&self, resource: &str) -> bool {
        NAMES.is_resource(resource)
    }

    fn meaning(&self, key: &str) -> Meaning {
        NAMES.meaning(key)
    }

    fn taints(&self) -> Vec<&str> {
        vec![GPU]
    }

    fn pools(&self, node: &Node) -> Vec<GpuPool> {
        let mut pools = NAMES.pools(node);
        if let Some(partition) = node.labels.get(PARTITION) {
            for pool in &mut pools {
                pool.memory = untrusted(PARTITION, partition, LabelFault::PartOfACard);
            }
        }
        pools
    }

    fn terms(&self, wish: &Wish<'_>) -> Result<Vec<Term>, Overflow> {
        let mut terms = NAMES.terms(wish)?;
        for term in &mut terms {
            term.expressions.push(Expression::absent(PARTITION));
        }
        Ok(terms)
    }

    fn silence(&self, resource: &str) -> Vec<Expression> {
        NAMES.silence(resource)
    }

    fn conditions(&self, wish: &Wish<'_>) -> Vec<Expression> {
        if !self.is_resource(wish.resource) {
            return Vec::new();
        }
        let unwanted = if wish.is_shared() { vec![MPS] } else { vec![TIME_SHARING, MPS] };
        let mut all = vec![Expression::not_in(STRATEGY, unwanted)];
        if wish.gpus > 1 {
            all.push(Expression::absent(PARTITION));
        }
        all
    }

    fn amend(&self, node: &Node, pool: &mut GpuPool) {
        if !self.is_resource(&pool.resource) {
            return;
        }
        let clients = node.labels.get(CLIENTS).and_then(|clients| clients.parse().ok());
        let clients = clients.filter(|clients| *clients > 1).unwrap_or(pool.allocatable.max(2));
        match node.labels.get(STRATEGY).map(String::as_str) {
            Some(TIME_SHARING) => pool.sharing = GpuSharing::TimeSliced(clients),
            Some(MPS) => {
                pool.sharing = GpuSharing::Mps(clients);
                pool.memory = untrusted(STRATEGY, MPS, LabelFault::Divided);
            }
            _ if pool.sharing == GpuSharing::Exclusive && node.labels.contains_key(PARTITION) => {
                pool.sharing = GpuSharing::Mig;
            }
            _ => {}
        }
    }

    fn may_come_with(&self, labels: &BTreeMap<String, String>) -> bool {
        NAMES.may_come_with(labels)
    }

    fn is_autoscaler(&self) -> bool {
        NAMES.is_autoscaler
    }

    fn figure(&self, node: &Node, resource: &str) -> Option<(String, crate::units::Bytes)> {
        NAMES.figure(node, resource).filter(|_| !node.labels.contains_key(PARTITION))
    }

    fn is_by_name(&self) -> bool {
        true
    }
}
