//! What is kept of an object of a snapshot, before it is read as one.

use serde_json::{Map, Value};

use crate::inventory::source::hami::REGISTER;

/// Keeps what is used of a node or a pod: a field that is not used cannot make a snapshot unreadable.
pub(super) fn prune(object: &mut Map<String, Value>) {
    keep(object, &["metadata", "spec", "status"]);
    if let Some(metadata) = fields(object, "metadata") {
        keep(metadata, &["name", "namespace", "labels", "annotations"]);
        if let Some(annotations) = fields(metadata, "annotations") {
            keep(annotations, &[REGISTER]);
        }
    }
    if let Some(spec) = fields(object, "spec") {
        keep(
            spec,
            &[
                "taints",
                "unschedulable",
                "nodeName",
                "containers",
                "initContainers",
                "overhead",
                "resources",
                "driver",
                "pool",
                "perDeviceNodeSelection",
                "sharedCounters",
                "devices",
            ],
        );
        for device in elements(spec, "devices") {
            prune_device(device);
        }
        quantities(spec, "overhead");
        resources(spec);
        for taint in elements(spec, "taints") {
            keep(taint, &["key", "value", "effect"]);
        }
        for list in ["containers", "initContainers"] {
            for container in elements(spec, list) {
                keep(container, &["name", "restartPolicy", "resources"]);
                resources(container);
            }
        }
    }
    if let Some(status) = fields(object, "status") {
        keep(status, &["allocatable", "capacity", "conditions", "phase", "nominatedNodeName", "allocation"]);
        if let Some(allocation) = fields(status, "allocation") {
            keep(allocation, &["devices"]);
            if let Some(devices) = fields(allocation, "devices") {
                keep(devices, &["results"]);
                for result in elements(devices, "results") {
                    keep(result, &["request", "driver", "pool", "device", "adminAccess"]);
                }
            }
        }
        quantities(status, "allocatable");
        quantities(status, "capacity");
        for condition in elements(status, "conditions") {
            keep(condition, &["type", "status"]);
        }
    }
}

/// Keeps what is used of a device, which had it one level deeper in `resource.k8s.io/v1beta1`.
fn prune_device(device: &mut Map<String, Value>) {
    if let Some(Value::Object(basic)) = device.remove("basic") {
        device.extend(basic);
    }
    keep(device, &["name", "nodeName", "attributes", "capacity", "taints", "consumesCounters"]);
    for taint in elements(device, "taints") {
        keep(taint, &["key", "value", "effect"]);
    }
}

/// Keeps of an object's `resources` what is requested.
fn resources(object: &mut Map<String, Value>) {
    if let Some(resources) = fields(object, "resources") {
        keep(resources, &["requests", "limits"]);
        quantities(resources, "requests");
        quantities(resources, "limits");
    }
}

fn keep(object: &mut Map<String, Value>, names: &[&str]) {
    object.retain(|name, _| names.contains(&name.as_str()));
}

fn fields<'a>(object: &'a mut Map<String, Value>, name: &str) -> Option<&'a mut Map<String, Value>> {
    object.get_mut(name).and_then(Value::as_object_mut)
}

fn elements<'a>(
    object: &'a mut Map<String, Value>,
    name: &str,
) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    let array = object.get_mut(name).and_then(Value::as_array_mut);
    array.into_iter().flatten().filter_map(Value::as_object_mut)
}

/// Makes numbers of quantities into strings, as the API server does.
fn quantities(object: &mut Map<String, Value>, name: &str) {
    for quantity in fields(object, name).into_iter().flatten().map(|(_, quantity)| quantity) {
        if let Value::Number(number) = quantity {
            *quantity = Value::String(number.to_string());
        }
    }
}
