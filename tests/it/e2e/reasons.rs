//! Each state of a node has its own reason in the status, with what it is about, and the way back.

use serde_json::{Value, json};

use super::scenario::{Scenario, message, node_status, scenario, scenario_with};
use crate::controlplane::harness::fleet::{self, L4};

/// Fits an L4, an A100 and an H100.
fn spec() -> Value {
    json!({"model": {"parameters": "8B"}, "precision": "fp16", "context": {"length": 8192}})
}

/// Only an L4 will do.
fn on_l4() -> Value {
    let mut spec = spec();
    spec["placement"] = json!({"nodeSelector": {"nvidia.com/gpu.product": L4.product}});
    spec
}

fn label_l4(s: &Scenario, label: &str) {
    s.run(["label", "node", "l4", "--overwrite", label]);
}

#[test]
fn cordoned() {
    scenario("cordon", |s| {
        s.run(["cordon", "l4"]);
        s.apply("llama", &on_l4());
        s.wait_node("llama", "l4", "NodeCordoned");
        s.wait_ready("llama", "False", "NodeCordoned");
        s.wait_pods("llama", 0, 1);
        s.run(["uncordon", "l4"]);
        s.wait_node("llama", "l4", "FitsNow");
        assert_eq!(s.wait_pods("llama", 1, 0), ["l4"]);
        s.wait_ready("llama", "True", "Available");
    });
}

#[test]
fn not_ready() {
    scenario("not-ready", |s| {
        s.run(["annotate", "node", "l4", &format!("{}=true", fleet::DOWN)]);
        let down =
            r#"{"status":{"conditions":[{"type":"Ready","status":"False","reason":"KubeletNotReady"}]}}"#;
        s.run(["patch", "node", "l4", "--subresource=status", "-p", down]);
        s.apply("llama", &on_l4());
        s.wait_node("llama", "l4", "NodeNotReady");
        s.wait_pods("llama", 0, 1);
        s.run(["annotate", "node", "l4", &format!("{}-", fleet::DOWN)]);
        s.wait_node("llama", "l4", "FitsNow");
        assert_eq!(s.wait_pods("llama", 1, 0), ["l4"]);
    });
}

#[test]
fn tainted() {
    scenario("taint", |s| {
        s.run(["taint", "node", "l4", "team=b:NoSchedule"]);
        s.apply("llama", &on_l4());
        let message = s.wait_node("llama", "l4", "TaintNotTolerated");
        assert!(message.contains("team=b:NoSchedule"), "{message}");
        s.wait_pods("llama", 0, 1);
        // The remedy: tolerate it.
        let toleration = json!([{"key": "team", "operator": "Equal", "value": "b", "effect": "NoSchedule"}]);
        let patch = json!({"spec": {"placement": {"tolerations": toleration}}}).to_string();
        s.run(["patch", "modeldeployment", "llama", "--type=merge", "-p", &patch]);
        s.wait_node("llama", "l4", "FitsNow");
        assert_eq!(s.wait_pods("llama", 1, 0), ["l4"]);
    });
}

#[test]
fn label_removed() {
    scenario("label", |s| {
        label_l4(s, "nvidia.com/gpu.memory-");
        // By its name the card is known all the same, and the scheduler is told so.
        s.apply("named", &on_l4());
        s.wait_node("named", "l4", "FitsNow");
        assert_eq!(s.wait_pods("named", 1, 0), ["l4"]);
        label_l4(s, "nvidia.com/gpu.product=GPU-X");
        let mut spec = spec();
        spec["placement"] = json!({"nodeSelector": {"nvidia.com/gpu.product": "GPU-X"}});
        s.apply("llama", &spec);
        let message = s.wait_node("llama", "l4", "LabelMissing");
        assert!(message.contains("nvidia.com/gpu.memory"), "{message}");
        s.wait_pods("llama", 0, 1);
        label_l4(s, "nvidia.com/gpu.memory=23034");
        s.wait_node("llama", "l4", "FitsNow");
        assert_eq!(s.wait_pods("llama", 1, 0), ["l4"]);
    });
}

#[test]
fn a_label_that_vanishes_for_a_moment_flips_nothing() {
    scenario_with("grace", &["--label-grace=5m"], |s| {
        s.apply("before", &on_l4());
        s.wait_node("before", "l4", "FitsNow");
        label_l4(s, "nvidia.com/gpu.memory-");
        // An object that comes after the removal shows what the controller makes of it.
        s.apply("after", &on_l4());
        s.wait_node("after", "l4", "FitsNow");
        // A label that changes counts at once: this one is of no L4.
        label_l4(s, "nvidia.com/gpu.memory=8192");
        s.wait_node("after", "l4", "LabelUntrusted");
        s.wait_node("before", "l4", "LabelUntrusted");
    });
}

#[test]
fn labels_that_cannot_be_believed() {
    scenario("untrusted", |s| {
        s.apply("llama", &on_l4());
        for value in ["", "0", "15360MiB", "1e30", "24152899584", "23034.5", "none"] {
            label_l4(s, &format!("nvidia.com/gpu.memory={value}"));
            let words = s.wait("llama", &format!("l4 with memory {value:?}"), |object| {
                node_status(object, "l4").is_some_and(|status| {
                    status["reason"] == "LabelUntrusted"
                        && status["message"].as_str().is_some_and(|words| words.contains(value))
                })
            });
            assert_eq!(words["status"]["placement"]["fits"], 0, "{value:?}: {words:#}");
            // What is bound stays; what comes anew must not be bound.
            let name = format!("new-{}", value.len());
            s.apply(&name, &on_l4());
            s.wait_node(&name, "l4", "LabelUntrusted");
            s.wait_pods(&name, 0, 1);
            s.run(["delete", "modeldeployment", &name]);
            label_l4(s, "nvidia.com/gpu.memory=23034");
            s.wait_node("llama", "l4", "FitsNow");
        }
    });
}

#[test]
fn taken_by_other_pods() {
    scenario("busy", |s| {
        let pods = |count: usize| {
            let pods = (0..count).map(|at| {
                json!({
                    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("other-{at}")},
                    "spec": {
                        "nodeSelector": {"kubernetes.io/hostname": "l4"},
                        "containers": [{"name": "c", "image": "i", "resources": {"limits": {"nvidia.com/gpu": "2"}}}],
                    },
                })
            });
            fleet::list(pods)
        };
        s.try_apply(&pods(2)).unwrap().output().unwrap();
        s.run(["wait", "--for=condition=Ready", "pod/other-0", "pod/other-1", "--timeout=60s"]);
        s.apply("llama", &on_l4());
        let words = s.wait_node("llama", "l4", "GpusBusy");
        assert!(words.contains("0 of 4") || words.contains("0 free"), "{words}");
        let object = s.wait_ready("llama", "False", "GpusBusy");
        assert_eq!(object["status"]["placement"]["busy"], 1);
        assert!(message(&object).contains("needs"), "{}", message(&object));
        s.wait_pods("llama", 0, 1);
        s.run(["delete", "pod", "other-0"]);
        s.wait_node("llama", "l4", "FitsNow");
        assert_eq!(s.wait_pods("llama", 1, 0), ["l4"]);
    });
}

#[test]
fn shared_gpus() {
    scenario("shared", |s| {
        label_l4(s, "nvidia.com/gpu.sharing-strategy=time-slicing");
        label_l4(s, "nvidia.com/gpu.replicas=4");
        s.apply("llama", &on_l4());
        s.wait_node("llama", "l4", "SharedGpu");
        s.wait_pods("llama", 0, 1);
    });
}

#[test]
fn no_node_has_a_gpu() {
    scenario("no-gpus", |s| {
        s.run(["delete", "nodes", "-l", fleet::GPU_NODE]);
        s.apply("llama", &spec());
        s.wait_ready("llama", "False", "NoGpuNodes");
        s.wait_pods("llama", 0, 1);
        s.add_node(&L4.node());
        assert_eq!(s.wait_pods("llama", 1, 0), ["l4"]);
        s.wait_ready("llama", "True", "Available");
    });
}

#[test]
fn too_few_gpus() {
    scenario("few", |s| {
        let mut spec = spec();
        spec["parallelism"] = json!({"tensor": 8});
        s.apply("llama", &spec);
        let words = s.wait_node("llama", "h100", "TooFewGpus");
        assert!(words.contains('8') && words.contains('4'), "{words}");
        s.wait_pods("llama", 0, 1);
    });
}

/// An object for the L4s whose pods request so much CPU.
fn with_cpu(cpu: u64) -> Value {
    let mut spec = on_l4();
    spec["template"] = json!({"spec": {"containers": [{"resources": {"requests": {"cpu": cpu}}}]}});
    spec
}

#[test]
fn no_node_has_the_cpu_that_is_requested() {
    scenario("cpu", |s| {
        s.apply("llama", &with_cpu(100));
        let words = s.wait_node("llama", "l4", "ResourcesTooSmall");
        assert!(words.contains("64 CPU where 100 requested"), "{words}");
        let object = s.wait_ready("llama", "False", "ResourcesTooSmall");
        assert_eq!(object["status"]["placement"]["fits"], 0);
        s.wait_pods("llama", 0, 1);
        let mut large = L4.node_named("l4-2");
        for kind in ["allocatable", "capacity"] {
            large["status"][kind]["cpu"] = json!("128");
        }
        s.add_node(&large);
        assert_eq!(s.wait_pods("llama", 1, 0), ["l4-2"]);
        s.wait_ready("llama", "True", "Available");
        s.wait_node("llama", "l4-2", "FitsNow");
        s.wait_node("llama", "l4", "ResourcesTooSmall");
    });
}

#[test]
fn cpu_taken_by_pods_without_gpus() {
    scenario("cpu-busy", |s| {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"},
            "spec": {
                "nodeSelector": {"kubernetes.io/hostname": "l4"},
                "containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "60"}}}],
            },
        });
        s.try_apply(&pod.to_string()).unwrap().output().unwrap();
        s.run(["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"]);
        s.apply("llama", &with_cpu(16));
        let words = s.wait_node("llama", "l4", "ResourcesBusy");
        assert!(words.contains("4 of 64 CPU free where 16 requested"), "{words}");
        s.wait_ready("llama", "False", "ResourcesBusy");
        s.wait_pods("llama", 0, 1);
        s.run(["delete", "pod", "web"]);
        s.wait_node("llama", "l4", "FitsNow");
        assert_eq!(s.wait_pods("llama", 1, 0), ["l4"]);
    });
}
