//! A snapshot as a v1 List: what `loadline snapshot` writes, and `Snapshot::from_text` reads back as it was.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Amounts, MODEL_DEPLOYMENT_LABEL, Node, Pod, Snapshot};

/// The namespace of the pods that stand for several, which is no namespace's name.
const OTHERS: &str = "(other pods)";

impl Snapshot {
    /// A v1 List of the nodes and pods, pruned to what Loadline uses.
    #[must_use]
    pub fn to_list(&self) -> Value {
        let nodes = self.nodes.values().map(|entry| node(entry));
        let others = self.others.iter().map(|(node, requested)| other(node, *requested));
        let items: Vec<Value> = nodes.chain(self.pods.iter().map(pod)).chain(others).collect();
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
    let mut metadata = json!({"name": node.name, "labels": node.labels});
    if !node.annotations.is_empty() {
        metadata["annotations"] = json!(node.annotations);
    }
    let ready = if node.ready { "True" } else { "False" };
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": metadata,
        "spec": spec,
        "status": {"allocatable": quantities(&node.allocatable, node.host.named()), "conditions": [{"type": "Ready", "status": ready}]},
    })
}

fn pod(pod: &Pod) -> Value {
    let mut metadata = json!({"namespace": pod.namespace, "name": pod.name});
    if let Some(name) = &pod.model_deployment {
        metadata["labels"] = json!({MODEL_DEPLOYMENT_LABEL: name});
    }
    // That it is one pod is no request.
    let requested = pod.host.named().filter(|asked| asked.1 > 0 && *asked != ("pods", 1));
    let requests = quantities(&pod.requests, requested);
    let mut spec = json!({"containers": [{"name": "pod", "resources": {"requests": requests}}]});
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

/// A pod that stands for all of a node that are not written one by one.
fn other(node: &str, requested: Amounts) -> Value {
    pod(&Pod {
        namespace: OTHERS.to_owned(),
        name: node.to_owned(),
        node: Some(node.to_owned()),
        host: requested,
        ..Pod::default()
    })
}

fn quantities(
    amounts: &BTreeMap<String, u64>,
    host: impl Iterator<Item = (&'static str, u64)>,
) -> BTreeMap<&str, String> {
    let host = host
        .map(|(name, amount)| (name, if name == "cpu" { format!("{amount}m") } else { amount.to_string() }));
    amounts.iter().map(|(name, amount)| (name.as_str(), amount.to_string())).chain(host).collect()
}
