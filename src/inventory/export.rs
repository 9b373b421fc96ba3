//! A snapshot as a v1 List: what `loadline snapshot` writes, and `Snapshot::from_text` reads back as it was.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{MODEL_DEPLOYMENT_LABEL, Node, Pod, Snapshot};

impl Snapshot {
    /// A v1 List of the nodes and pods, pruned to what Loadline uses.
    #[must_use]
    pub fn to_list(&self) -> Value {
        let nodes = self.nodes.values().map(node);
        let items: Vec<Value> = nodes.chain(self.pods.iter().map(pod)).collect();
        json!({"apiVersion": "v1", "kind": "List", "items": items})
    }
}

fn node(node: &Node) -> Value {
    let taints: Vec<Value> = node
        .taints
        .iter()
        .map(|taint| {
            let mut object = json!({"key": taint.key, "effect": taint.effect});
            if !taint.value.is_empty() {
                object["value"] = json!(taint.value);
            }
            object
        })
        .collect();
    let mut spec = Map::new();
    if !taints.is_empty() {
        spec.insert("taints".to_owned(), Value::Array(taints));
    }
    if node.unschedulable {
        spec.insert("unschedulable".to_owned(), Value::Bool(true));
    }
    let ready = if node.ready { "True" } else { "False" };
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node.name, "labels": node.labels},
        "spec": spec,
        "status": {"allocatable": quantities(&node.allocatable), "conditions": [{"type": "Ready", "status": ready}]},
    })
}

fn pod(pod: &Pod) -> Value {
    let mut metadata = json!({"namespace": pod.namespace, "name": pod.name});
    if let Some(name) = &pod.model_deployment {
        metadata["labels"] = json!({MODEL_DEPLOYMENT_LABEL: name});
    }
    let mut spec =
        json!({"containers": [{"name": "pod", "resources": {"requests": quantities(&pod.requests)}}]});
    if let Some(node) = &pod.node {
        spec["nodeName"] = json!(node);
    }
    let phase = match (pod.finished, &pod.node) {
        (true, _) => "Succeeded",
        (false, Some(_)) => "Running",
        (false, None) => "Pending",
    };
    let mut status = json!({"phase": phase});
    if let Some(node) = &pod.nominated {
        status["nominatedNodeName"] = json!(node);
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status})
}

fn quantities(amounts: &BTreeMap<String, u64>) -> BTreeMap<&str, String> {
    amounts.iter().map(|(name, amount)| (name.as_str(), amount.to_string())).collect()
}
