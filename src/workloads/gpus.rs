//! The GPUs of a pod, as kube-scheduler counts them: by resource, slices by their names, and claims.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PodSpec;
use serde_json::{Map, Value, json};

use super::container::Around;
use super::objects::{at, items, number, scalar, text};
use crate::inventory::{Requests, Vendor};

/// What a pod asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gpus {
    /// How many of each resource, such as `nvidia.com/gpu`.
    pub resources: BTreeMap<String, u64>,
    /// How many come by resource claims; `None` where there are none.
    pub claimed: Option<u64>,
    /// Whether there is a claim of which the file does not say what it gives.
    pub claims_unknown: bool,
    /// Accelerators or shares of GPUs that are not counted, by name.
    pub others: Vec<String>,
}

impl Gpus {
    /// How many there are; `None` where the file does not say.
    #[must_use]
    pub fn per_pod(&self) -> Option<u64> {
        if self.claims_unknown {
            return None;
        }
        let stated = !self.resources.is_empty() || self.claimed.is_some();
        let sum =
            self.resources.values().fold(self.claimed.unwrap_or(0), |sum, more| sum.saturating_add(*more));
        stated.then_some(sum)
    }

    /// The one resource that they are of.
    #[must_use]
    pub fn resource(&self) -> Option<&str> {
        match self.resources.len() {
            1 => self.resources.keys().next().map(String::as_str),
            _ => None,
        }
    }
}

/// Parts of a name that stand for an accelerator of another kind, or for a share of a GPU.
const OTHERS: &[&str] = &[
    "tpu", "gaudi", "ascend", "neuron", "gpumem", "gpucores", "gpu-mem", "gpu-core", "vgpu", "npu", "mlu",
    "dcu",
];

/// What a pod asks for.
pub(super) fn of(around: Around<'_>) -> Gpus {
    let mut found = Gpus::default();
    let Some(requests) = counted(around.pod).map(|pod| Requests::of(&pod).extended) else { return found };
    for (resource, count) in requests {
        let name = resource.split_once('/').map_or("", |(_, name)| name).to_ascii_lowercase();
        if OTHERS.iter().any(|part| name.contains(part)) {
            found.others.push(resource);
        } else if Vendor::of_resource(&resource).is_some() {
            found.resources.insert(resource, count);
        }
    }
    // One that is written as none is none.
    if found.resources.is_empty() {
        found.resources.extend(zeroes(around.pod).map(|resource| (resource, 0)));
    }
    for claim in items(around.pod, "/resourceClaims") {
        let template = text(claim, "/resourceClaimTemplateName")
            .and_then(|name| around.objects.find(&["ResourceClaimTemplate"], name, around.namespace))
            .and_then(|template| at(template, "/spec/spec"));
        let claim = text(claim, "/resourceClaimName")
            .and_then(|name| around.objects.find(&["ResourceClaim"], name, around.namespace))
            .and_then(|claim| at(claim, "/spec"));
        match template.or(claim).and_then(devices) {
            Some(devices) => found.claimed = Some(found.claimed.unwrap_or(0).saturating_add(devices)),
            None => found.claims_unknown = true,
        }
    }
    found
}

/// How many devices a claim asks for; `None` for all, or for one of several.
fn devices(claim: &Value) -> Option<u64> {
    let of = |request: &Value| {
        let exactly = at(request, "/exactly").unwrap_or(request);
        if at(request, "/firstAvailable").is_some() || text(exactly, "/allocationMode") == Some("All") {
            return None;
        }
        let is_gpu = text(exactly, "/deviceClassName")
            .is_some_and(|class| class.contains("gpu") || class.contains("mig"));
        Some(if is_gpu { number(exactly, "/count").unwrap_or(1) } else { 0 })
    };
    items(claim, "/devices/requests").map(of).try_fold(0_u64, |sum, more| Some(sum.saturating_add(more?)))
}

/// The GPU resources that are asked for by zero.
fn zeroes(pod: &Value) -> impl Iterator<Item = String> + '_ {
    let lists = ["/resources/limits", "/resources/requests"];
    items(pod, "/containers").flat_map(move |container| {
        let amounts = lists.into_iter().filter_map(|list| at(container, list)?.as_object());
        amounts.flat_map(Map::keys).filter(|name| Vendor::of_resource(name).is_some()).cloned()
    })
}

/// A pod with nothing but what is counted, with amounts as text, as the API server takes them.
fn counted(pod: &Value) -> Option<PodSpec> {
    let containers = |path: &str| -> Vec<Value> { items(pod, path).map(container).collect() };
    let mut counted = json!({
        "containers": containers("/containers"), "initContainers": containers("/initContainers"),
    });
    for field in ["overhead", "resources"] {
        let amounts = at(pod, &format!("/{field}"));
        if let (Some(fields), Some(amounts)) = (counted.as_object_mut(), amounts) {
            fields.insert(field.to_owned(), as_text(amounts));
        }
    }
    serde_json::from_value(counted).ok()
}

fn container(container: &Value) -> Value {
    json!({
        "name": text(container, "/name").unwrap_or_default(),
        "restartPolicy": text(container, "/restartPolicy"),
        "resources": at(container, "/resources").map(as_text),
    })
}

/// Numbers of amounts as text.
fn as_text(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), as_text(value))).collect(),
        Value::Number(_) => scalar(value).map_or(Value::Null, Value::String),
        Value::Array(_) => Value::Null,
        other => other.clone(),
    }
}

/// A pod template with what decides where it may go besides GPUs, for a spec.
pub(super) fn template(pod: &Value) -> Value {
    let containers = |path: &str| -> Vec<Value> {
        let of = |one: &Value| {
            let mut kept = container(one);
            let without = |amounts: &mut Value| {
                if let Some(fields) = amounts.as_object_mut() {
                    fields.retain(|name, _| Vendor::of_resource(name).is_none());
                }
            };
            for list in ["/resources/limits", "/resources/requests"] {
                kept.pointer_mut(list).into_iter().for_each(without);
            }
            if let Some(fields) = kept.as_object_mut() {
                fields.retain(|_, value| !value.is_null());
                let image = text(one, "/image").filter(|image| !image.is_empty()).unwrap_or("image");
                fields.insert("image".to_owned(), json!(image));
            }
            kept
        };
        items(pod, path).map(of).collect()
    };
    let mut spec = json!({"containers": containers("/containers")});
    let inits = containers("/initContainers");
    if let Some(fields) = spec.as_object_mut() {
        if !inits.is_empty() {
            fields.insert("initContainers".to_owned(), json!(inits));
        }
        for field in ["nodeSelector", "affinity", "tolerations"] {
            fields.extend(at(pod, &format!("/{field}")).map(|value| (field.to_owned(), value.clone())));
        }
        for field in ["overhead", "resources"] {
            fields.extend(at(pod, &format!("/{field}")).map(|value| (field.to_owned(), as_text(value))));
        }
    }
    json!({"spec": spec})
}
