//! Alibaba Cloud's labels: `aliyun.accelerator/nvidia_name` is NVML's name with `-` for spaces, as GPU Feature Discovery has it;
//! `aliyun.accelerator/nvidia_mem` has a unit (`23028MiB`), so that node affinity cannot compare it (Container Service for
//! Kubernetes documentation, "GPU node labels", 2026). The name is what is gone by.

use super::cloud::{Cloud, Says};

/// Alibaba Cloud Container Service for Kubernetes.
pub(super) const ACK: Cloud = Cloud {
    name: "alibaba-ack",
    domains: &["aliyun.accelerator/", "aliyun.com/gpu"],
    marks: &["node.alibabacloud.com/", "alibabacloud.com/"],
    key: "aliyun.accelerator/nvidia_name",
    says: Says::Product,
    is_autoscaler: false,
};
