//! Pods that fail: the status says what kube-scheduler, the kubelet and the engine say of them, and what to do.

use serde_json::{Value, json};

use super::scenario::{Scenario, eventually, message, scenario};
use crate::cluster::{condition_of, text};

fn spec(more: &Value) -> Value {
    let mut spec = json!({"model": {"parameters": "8B"}, "precision": "fp16", "context": {"length": 8192}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

/// A template whose container requests these of a node.
fn requesting(requests: &Value) -> Value {
    json!({"template": {"spec": {"containers": [{"name": "model", "resources": {"requests": requests}}]}}})
}

/// Says of the only pod of an object what its kubelet would; kwok leaves a pod alone once it runs.
fn say(s: &Scenario, name: &str, container: &Value, is_ready: bool) {
    let pods = s.pods(name).unwrap();
    let [(pod, _)] = pods.as_slice() else { panic!("{pods:?}") };
    let mut status = json!({
        "name": "model", "image": "registry.example/engine:test", "imageID": "", "ready": is_ready,
        "restartCount": 3,
    });
    status.as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
    let truth = if is_ready { "True" } else { "False" };
    let conditions =
        ["Ready", "ContainersReady"].map(|condition| json!({"type": condition, "status": truth}));
    let patch = json!({"status": {"conditions": conditions, "containerStatuses": [status]}}).to_string();
    s.run(["patch", "pod", pod, "--subresource=status", "--type=strategic", "-p", &patch]);
}

fn runs() -> Value {
    json!({"state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}})
}

fn crashed(reason: &str, code: i64, said: &str) -> Value {
    json!({
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting failed container"}},
        "lastState": {"terminated": {"exitCode": code, "reason": reason, "message": said}},
    })
}

/// How often an estimate was exceeded, by the metrics.
fn exceeded(s: &Scenario) -> u64 {
    let metrics = s.cluster.controller_answer("/metrics").unwrap();
    let line = metrics.lines().find_map(|line| line.strip_prefix("loadline_estimates_exceeded_total "));
    line.unwrap_or_else(|| panic!("{metrics}")).trim().parse().unwrap()
}

#[test]
fn what_the_kubelet_says_of_a_pod_is_told() {
    scenario("fails", |s| {
        s.apply("llama", &spec(&json!({})));
        s.wait_ready("llama", "True", "Available");
        let before = exceeded(s);
        let memory =
            "INFO loading weights\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.";
        for (container, reason, parts) in [
            (
                crashed("Error", 1, memory),
                "GpuOutOfMemory",
                &["CUDA out of memory", "Tried to allocate", "GiB", "safetyMargin"][..],
            ),
            (crashed("OOMKilled", 137, ""), "HostOutOfMemory", &["OOMKilled"]),
            (
                crashed("Error", 1, "ValueError: no such flag"),
                "CrashLooping",
                &["no such flag", "exit code 1"],
            ),
            (
                json!({"state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image \"x\""}}}),
                "ImagePullFailed",
                &["Back-off pulling"],
            ),
            (
                json!({"state": {"waiting": {"reason": "CreateContainerConfigError", "message": "secret \"hub\" not found"}}}),
                "ContainerNotCreated",
                &["secret \"hub\" not found"],
            ),
        ] {
            say(s, "llama", &container, false);
            let object = s.wait_ready("llama", "False", reason);
            for part in parts {
                assert!(message(&object).contains(part), "{part:?} is not in {}", message(&object));
            }
            assert_eq!(condition_of(&object, "Placeable").unwrap()["status"], "True", "there is room");
            say(s, "llama", &runs(), true);
            s.wait_ready("llama", "True", "Available");
        }
        assert_eq!(exceeded(s), before + 1);
        say(s, "llama", &crashed("Error", 1, memory), false);
        s.wait_ready("llama", "False", "GpuOutOfMemory");
        assert_eq!(exceeded(s), before + 2, "once for each time that it comes to be so");
        s.check_honesty();
    });
}

#[test]
fn what_the_scheduler_says_is_told_and_an_hour_of_it_is_stalled() {
    scenario("cpu", |s| {
        // No node has so many.
        s.apply("llama", &spec(&requesting(&json!({"cpu": "100"}))));
        let object = s.wait_ready("llama", "False", "ResourcesTooSmall");
        assert!(message(&object).contains("64 CPU where 100 requested"), "{}", message(&object));
        assert_eq!(condition_of(&object, "Stalled").unwrap()["status"], "False");
        // The hour that a Deployment waits has passed, as far as the controller manager knows.
        let deployment = s.get("deployment", "llama").unwrap();
        let mut conditions = deployment["status"]["conditions"].clone();
        for condition in conditions.as_array_mut().unwrap() {
            if condition["type"] == "Progressing" {
                condition["lastUpdateTime"] = json!("2026-01-01T00:00:00Z");
            }
        }
        let patch = json!({"status": {"conditions": conditions}}).to_string();
        s.run(["patch", "deployment", "llama", "--subresource=status", "--type=merge", "-p", &patch]);
        let object = s.wait_ready("llama", "False", "DeadlineExceeded");
        assert!(message(&object).contains("Insufficient cpu"), "{}", message(&object));
        let stalled = condition_of(&object, "Stalled").unwrap();
        assert_eq!((text(stalled, "/status"), text(stalled, "/reason")), ("True", "DeadlineExceeded"));
        // The remedy.
        s.apply("llama", &spec(&requesting(&json!({"cpu": "4"}))));
        s.wait_ready("llama", "True", "Available");
    });
}

#[test]
fn host_memory_that_no_node_has_is_told() {
    scenario("host-memory", |s| {
        s.apply("llama", &spec(&json!({})));
        s.wait_ready("llama", "True", "Available");
        s.apply("llama", &spec(&requesting(&json!({"memory": "4Ti"}))));
        let object = s.wait_ready("llama", "False", "ResourcesTooSmall");
        assert!(message(&object).contains("memory"), "{}", message(&object));
        // What ran before serves on.
        assert_eq!(object["status"]["readyReplicas"], 1);
        eventually("the new pod beside the old", || Ok((s.pods("llama")?.len() == 2).then_some(())));
        s.check_honesty();
    });
}
