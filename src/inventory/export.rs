//! A snapshot as a v1 List: what `loadline snapshot` writes, and `Snapshot::from_text` reads back as it was.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{Amounts, Counters, Device, DeviceId, MODEL_DEPLOYMENT_LABEL, Node, Pod, Slice, Snapshot, Taint};

/// The namespace of the pods that stand for several, which is no namespace's name.
const OTHERS: &str = "(other pods)";

impl Snapshot {
    /// A v1 List of the nodes and pods, pruned to what Loadline uses.
    #[must_use]
    pub fn to_list(&self) -> Value {
        let nodes = self.nodes.values().map(|entry| node(entry));
        let others = self.others.iter().map(|(node, requested)| other(node, *requested));
        let slices = self.slices.values().map(|entry| slice(entry));
        let claims = self.claims.iter().map(|(key, devices)| claim(key, devices));
        let items: Vec<Value> =
            nodes.chain(self.pods.iter().map(pod)).chain(others).chain(slices).chain(claims).collect();
        json!({"apiVersion": "v1", "kind": "List", "items": items})
    }
}

fn taints(taints: &[Taint]) -> Vec<Value> {
    taints
        .iter()
        .map(|taint| {
            let mut object = json!({"key": taint.key, "effect": taint.effect});
            if !taint.value.is_empty() {
                object["value"] = json!(taint.value);
            }
            object
        })
        .collect()
}

fn node(node: &Node) -> Value {
    let taints = taints(&node.taints);
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

fn slice(slice: &Slice) -> Value {
    let counters = |all: &Counters| -> Map<String, Value> {
        all.iter().map(|(name, amount)| (name.clone(), json!({"value": amount.to_string()}))).collect()
    };
    let text = |text: &Option<String>| text.as_ref().map(|text| json!({"string": text}));
    let device = |device: &Device| {
        let kind = Some(device.kind.clone()).filter(|kind| !kind.is_empty());
        let attributes: Map<String, Value> = [("type", text(&kind)), ("productName", text(&device.product))]
            .into_iter()
            .filter_map(|(name, text)| Some((name.to_owned(), text?)))
            .collect();
        let mut object = json!({"name": device.name, "attributes": attributes});
        if let Some(node) = &device.node {
            object["nodeName"] = json!(node);
        }
        if let Some(memory) = &device.memory {
            object["capacity"] = json!({"memory": {"value": memory}});
        }
        if !device.taints.is_empty() {
            object["taints"] = json!(taints(&device.taints));
        }
        let consumes = device.consumes.iter();
        let consumes: Vec<Value> =
            consumes.map(|(set, all)| json!({"counterSet": set, "counters": counters(all)})).collect();
        if !consumes.is_empty() {
            object["consumesCounters"] = json!(consumes);
        }
        object
    };
    let sets = slice.counters.iter().map(|(name, all)| json!({"name": name, "counters": counters(all)}));
    json!({
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": slice.name},
        "spec": {
            "driver": slice.driver,
            "pool": {"name": slice.pool, "generation": slice.generation, "resourceSliceCount": slice.slices},
            "perDeviceNodeSelection": true,
            "sharedCounters": sets.collect::<Vec<_>>(),
            "devices": slice.devices.iter().map(device).collect::<Vec<_>>(),
        },
    })
}

fn claim((namespace, name): &(String, String), devices: &BTreeSet<DeviceId>) -> Value {
    let results: Vec<Value> = devices
        .iter()
        .map(|(driver, pool, device)| json!({"request": "gpu", "driver": driver, "pool": pool, "device": device}))
        .collect();
    json!({
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {},
        "status": {"allocation": {"devices": {"results": results}}},
    })
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
