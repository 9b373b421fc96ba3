//! CoreWeave's own labels: `gpu.nvidia.com/vram` is a whole number, 81 for an H100 of 81559 MiB and 143 for an H200 of 143771:
//! MiB divided by 1000 and rounded down, so that a thousand MiB each is never too much. The unit is not documented
//! (CoreWeave Kubernetes Service documentation, "Node labels", 2026).

use super::cloud::{Cloud, Says};

/// CoreWeave Kubernetes Service.
pub(super) const COREWEAVE: Cloud = Cloud {
    name: "coreweave",
    domains: &["gpu.nvidia.com/"],
    marks: &["node.coreweave.cloud/"],
    key: "gpu.nvidia.com/vram",
    says: Says::ThousandMib,
    is_autoscaler: false,
};
