//! Nodes whose GPUs are given to resource claims: what is read of them, and what the real scheduler does with them.

use std::process::Command;

use serde_json::{Value, json};

use super::scenario::{Scenario, eventually, scenario};
use crate::controlplane::harness::fleet::{A100, Kind};
use crate::controlplane::harness::{command, loadline_binary};

/// A node as GPU Operator 26.7 leaves one that had a device plugin before: its labels are still there, of another card, and it
/// hands out no GPU.
fn stale() -> Value {
    let mut node = Kind { memory: 143_771, product: "NVIDIA-H200", ..A100 }.node_named("a100-dra");
    for kind in ["allocatable", "capacity"] {
        node["status"][kind].as_object_mut().unwrap().remove("nvidia.com/gpu");
    }
    node
}

/// What NVIDIA's driver writes of two A100 of 40 GB.
fn slice(name: &str, generation: u64, slices: u64, devices: &[&str]) -> Value {
    let device = |name: &&str| {
        json!({
            "name": name,
            "attributes": {"type": {"string": "gpu"}, "productName": {"string": "NVIDIA A100-SXM4-40GB"}},
            "capacity": {"memory": {"value": "40960Mi"}},
        })
    };
    json!({
        "apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": name},
        "spec": {
            "driver": "gpu.nvidia.com", "nodeName": "a100-dra",
            "pool": {"name": "a100-dra", "generation": generation, "resourceSliceCount": slices},
            "devices": devices.iter().map(device).collect::<Vec<_>>(),
        },
    })
}

/// A claim of so many GPUs with so much memory, and a pod that uses it.
fn claimant(name: &str, memory: &str) -> [Value; 2] {
    let expression = format!(
        "device.driver == 'gpu.nvidia.com' && device.capacity['gpu.nvidia.com'].memory.compareTo(quantity('{memory}')) >= 0"
    );
    let exactly = json!({"deviceClassName": "test-gpu", "selectors": [{"cel": {"expression": expression}}]});
    let claim = json!({
        "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": name},
        "spec": {"devices": {"requests": [{"name": "gpu", "exactly": exactly}]}},
    });
    let container = json!({"name": "model", "image": "registry.example/model:test", "resources": {"claims": [{"name": "gpu"}]}});
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [container], "resourceClaims": [{"name": "gpu", "resourceClaimName": name}]},
    });
    [claim, pod]
}

/// The pools of a node, as `loadline nodes` reads the live cluster.
fn pools(s: &Scenario, node: &str) -> anyhow::Result<Value> {
    let mut command = Command::new(loadline_binary()?);
    command.args(["nodes", "-o", "json"]).env("KUBECONFIG", &s.cluster.plane.kubeconfig);
    let ran = command::run(command, "")?;
    let document: Value = serde_json::from_str(&ran.stdout)?;
    let nodes = document["nodes"].as_array().cloned().unwrap_or_default();
    Ok(nodes
        .into_iter()
        .find(|entry| entry["name"] == node)
        .map_or(Value::Null, |entry| entry["pools"].clone()))
}

#[test]
fn a_node_of_claims_with_stale_labels_is_given_to_no_pod_that_makes_none() {
    scenario("claims", |s| {
        let apply = |object: &Value| s.try_apply(&object.to_string()).unwrap().output().unwrap();
        s.run(["delete", "resourceslices,deviceclasses", "--all", "--ignore-not-found"]);
        apply(
            &json!({"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": "test-gpu"}, "spec": {}}),
        );
        apply(&slice("a100-dra-0", 2, 2, &["gpu-0"]));
        apply(&slice("a100-dra-1", 2, 2, &["gpu-1"]));
        // Of the generation before: a card that is no longer there.
        apply(&slice("a100-dra-old", 1, 1, &["gpu-7"]));
        s.add_node(&stale());
        let spec = |parameters: &str| {
            json!({
                "model": {"parameters": parameters}, "precision": "bf16", "context": {"length": 4096},
                "placement": {"nodeSelector": {"kubernetes.io/hostname": "a100-dra"}},
            })
        };
        // 13B takes some 33 GiB: what an A100 of 40 GB has. 34B takes more, and the label would have it.
        s.apply("mid", &spec("13B"));
        s.apply("large", &spec("34B"));
        let words = s.wait_node("mid", "a100-dra", "ClaimNeeded");
        assert!(words.contains("NVIDIA-A100-SXM4-40GB") && words.contains("2 GPUs (2 free)"), "{words}");
        s.wait_node("large", "a100-dra", "GpuMemoryTooSmall");
        s.wait_pods("mid", 0, 1);

        // The real scheduler gives one to a claim: it is no longer free. A claim of more than they have gets none.
        let [[claim, pod], [too_large, waits]] = [claimant("claimant", "30Gi"), claimant("waits", "60Gi")];
        for object in [&claim, &pod, &too_large, &waits] {
            apply(object);
        }
        eventually("the claimant on the node", || {
            let bound = s.get("pod", "claimant")?["spec"]["nodeName"] == "a100-dra";
            Ok(bound.then_some(()))
        });
        let found = eventually("one of two free", || {
            let found = pools(s, "a100-dra")?;
            Ok((found[0]["freeGpus"] == 1).then_some(found))
        });
        assert_eq!((found.as_array().unwrap().len(), &found[0]["gpus"]), (1, &json!(2)), "{found}");
        assert_eq!(found[0]["memoryMiB"], 40960, "{found}");
        s.wait("mid", "one of two free", |object| {
            let nodes = object["status"]["placement"]["nodes"].as_array();
            let says = |node: &Value| {
                node["name"] == "a100-dra"
                    && node["message"].as_str().is_some_and(|words| words.contains("(1 free)"))
            };
            nodes.is_some_and(|nodes| nodes.iter().any(says))
        });
        assert!(s.get("pod", "waits").unwrap()["spec"]["nodeName"].is_null());

        // The driver is at work on the pool: nothing is known until it is whole again.
        s.run(["delete", "resourceslice", "a100-dra-1"]);
        s.wait_node("mid", "a100-dra", "LabelUntrusted");
        apply(&slice("a100-dra-1", 2, 2, &["gpu-1"]));
        s.wait_node("mid", "a100-dra", "ClaimNeeded");

        // With a device plugin in the driver's place the labels count, which are of now.
        s.run(["delete", "pod", "claimant", "waits", "--force", "--grace-period=0"]);
        s.run(["delete", "resourceslices", "--all"]);
        s.run([
            "label",
            "node",
            "a100-dra",
            "--overwrite",
            "nvidia.com/gpu.product=NVIDIA-A100-SXM4-80GB",
            "nvidia.com/gpu.memory=81920",
        ]);
        let handed_out =
            json!({"status": {"allocatable": {"nvidia.com/gpu": "4"}, "capacity": {"nvidia.com/gpu": "4"}}});
        s.run([
            "patch",
            "node",
            "a100-dra",
            "--subresource=status",
            "--type=merge",
            "-p",
            &handed_out.to_string(),
        ]);
        s.wait_node("mid", "a100-dra", "FitsNow");
        assert_eq!(s.wait_pods("mid", 1, 0), ["a100-dra"]);
        s.run(["delete", "deviceclass", "test-gpu"]);
    });
}
