//! Karpenter's provider for Azure, which AKS runs for node auto-provisioning: `karpenter.azure.com/sku-gpu-name` is the name of
//! the card as the SKU has it, and no label says its memory (Azure/karpenter-provider-azure v1, `pkg/apis/v1beta1/labels.go`).
//! One name is of several cards: `A100` of 40 and 80 GB, `V100` of 16 and 32, `H100` of 80 and 94. The smaller counts. `A10` is
//! not here: its SKUs hand out sixths of a card under the card's name. `kubernetes.azure.com/accelerator` says only whose.

use super::cloud::{Cloud, Says};

/// The provider's own labels.
pub(super) const KARPENTER: Cloud = Cloud {
    name: "karpenter-azure",
    domains: &["karpenter.azure.com/sku-gpu", "kubernetes.azure.com/accelerator"],
    marks: &["kubernetes.azure.com/", "karpenter.azure.com/"],
    key: "karpenter.azure.com/sku-gpu-name",
    says: Says::Name(&[
        ("T4", "T4"),
        ("V100", "V100-16GB"),
        ("A100", "A100-40GB"),
        ("H100", "H100"),
        ("H200", "H200"),
        ("GB200", "GB200"),
    ]),
    is_autoscaler: true,
};
