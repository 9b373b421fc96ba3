//! Karpenter's provider for AWS, and EKS Auto Mode, which has the same labels under a prefix of its own:
//! `instance-gpu-name` and `instance-gpu-memory`, MiB per GPU as EC2's catalogue has it (aws/karpenter-provider-aws v1,
//! `pkg/apis/v1/labels.go`; EKS user guide, "Auto Mode node pool labels"). The catalogue's T4 has 16384 MiB and the driver's
//! 15360, its H200 144384 and the driver's 143771: the smaller of the catalogue's and the card's counts. A fraction of a card
//! (`g6f`) has the card's name and the fraction's memory.

use super::cloud::{Cloud, Names, Says};

/// The names that the catalogue has, in the case of the label. `a100` is of two cards, which the figure tells apart.
const NAMES: Names = &[
    ("t4", "T4"),
    ("a10g", "A10G"),
    ("l4", "L4"),
    ("l40s", "L40S"),
    ("v100", "V100-32GB"),
    ("a100", "A100-80GB"),
    ("h100", "H100"),
    ("h200", "H200"),
    ("b200", "B200"),
    ("b300", "B300"),
];

/// What nodes of EKS have, of its node groups, of Auto Mode or of Karpenter.
const MARKS: &[&str] = &["eks.amazonaws.com/", "karpenter.k8s.aws/", "k8s.amazonaws.com/"];

/// Karpenter on AWS.
pub(super) const KARPENTER: Cloud = Cloud {
    name: "karpenter-aws",
    domains: &["karpenter.k8s.aws/instance-gpu"],
    marks: MARKS,
    key: "karpenter.k8s.aws/instance-gpu-name",
    says: Says::NameAndMib { names: NAMES, memory: "karpenter.k8s.aws/instance-gpu-memory" },
    is_autoscaler: true,
};

/// EKS Auto Mode.
pub(super) const EKS_AUTO_MODE: Cloud = Cloud {
    name: "eks-auto-mode",
    domains: &["eks.amazonaws.com/instance-gpu"],
    marks: MARKS,
    key: "eks.amazonaws.com/instance-gpu-name",
    says: Says::NameAndMib { names: NAMES, memory: "eks.amazonaws.com/instance-gpu-memory" },
    is_autoscaler: true,
};
