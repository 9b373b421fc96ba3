//! Nodes with GPUs, as GPU Feature Discovery and the device plugin would show them, and kwok's stages that give them
//! their life cycle.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// The annotation that keeps kwok from making a node ready again.
pub(crate) const DOWN: &str = "test.loadline.dev/down";
/// The label of every node that has GPUs.
pub(crate) const GPU_NODE: &str = "test.loadline.dev/gpu-node";

/// A kind of node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// The node's name; with a number after it where there are several.
    pub(crate) name: &'static str,
    /// As the product label has it.
    pub(crate) product: &'static str,
    /// As the memory label has it: MiB of each GPU.
    pub(crate) memory: u64,
    /// How many GPUs.
    pub(crate) gpus: u64,
}

pub(crate) const T4: Kind = Kind { name: "t4", product: "Tesla-T4", memory: 15_360, gpus: 4 };
pub(crate) const L4: Kind = Kind { name: "l4", product: "NVIDIA-L4", memory: 23_034, gpus: 4 };
pub(crate) const A100: Kind =
    Kind { name: "a100", product: "NVIDIA-A100-SXM4-80GB", memory: 81_920, gpus: 4 };
pub(crate) const H100: Kind =
    Kind { name: "h100", product: "NVIDIA-H100-80GB-HBM3", memory: 81_559, gpus: 4 };
pub(crate) const H200: Kind = Kind { name: "h200", product: "NVIDIA-H200", memory: 143_771, gpus: 4 };

/// The nodes that every scenario starts with.
pub(crate) const STANDARD: [Kind; 4] = [T4, L4, A100, H100];

/// Memory per GPU, in MiB, of a node by its name, whatever its labels say by now.
pub(crate) fn memory_of(node: &str) -> Option<u64> {
    // "l4-2" is an L4.
    let kind = node.split('-').next();
    [T4, L4, A100, H100, H200].into_iter().find(|each| Some(each.name) == kind).map(|kind| kind.memory)
}

impl Kind {
    /// The node.
    pub(crate) fn node(&self) -> Value {
        self.node_named(self.name)
    }

    /// The node, with a name of its own.
    pub(crate) fn node_named(&self, name: &str) -> Value {
        let gpus = self.gpus.to_string();
        node(
            name,
            &json!({
                GPU_NODE: "true",
                "nvidia.com/gpu.present": "true",
                "nvidia.com/gpu.count": gpus,
                "nvidia.com/gpu.product": self.product,
                "nvidia.com/gpu.memory": self.memory.to_string(),
                "nvidia.com/gpu.replicas": "1",
                "nvidia.com/gpu.sharing-strategy": "none",
            }),
            Some(self.gpus),
        )
    }
}

/// A node without GPUs.
pub(crate) fn cpu_node() -> Value {
    node("cpu", &json!({}), None)
}

/// A node with these labels.
pub(crate) fn node(name: &str, labels: &Value, gpus: Option<u64>) -> Value {
    let mut labels = labels.clone();
    labels["kubernetes.io/hostname"] = json!(name);
    // The controller manager keeps the beta labels in step, so they are there from the first.
    for prefix in ["kubernetes.io", "beta.kubernetes.io"] {
        labels[format!("{prefix}/os")] = json!("linux");
        labels[format!("{prefix}/arch")] = json!("amd64");
    }
    let mut resources = json!({"cpu": "64", "memory": "512Gi", "pods": "110"});
    if let Some(gpus) = gpus {
        resources["nvidia.com/gpu"] = json!(gpus.to_string());
    }
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "status": {"allocatable": resources, "capacity": resources},
    })
}

/// A list of objects, as kubectl takes it.
pub(crate) fn list(items: impl IntoIterator<Item = Value>) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": items.into_iter().collect::<Vec<_>>()}).to_string()
}

/// Copies kwok's stages, so changed that a node can be taken down: its own would make every node ready at once.
pub(crate) fn write_stages(from: &Path, to: &Path) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(to)?;
    let mut written = Vec::new();
    for entry in fs::read_dir(from).with_context(|| format!("kwok's stages are not in {}", from.display()))? {
        let entry = entry?;
        let mut stage = fs::read_to_string(entry.path())?;
        if entry.file_name() == "node-initialize.yaml" {
            let selector = "    matchExpressions:\n";
            let unless_down = format!(
                "{selector}    - key: '.metadata.annotations[\"{DOWN}\"]'\n      operator: 'DoesNotExist'\n"
            );
            stage = stage.replacen(selector, &unless_down, 1);
        }
        let path = to.join(entry.file_name());
        fs::write(&path, stage)?;
        written.push(path);
    }
    written.sort();
    Ok(written)
}
