//! Where models run, and where they do not.

use serde_json::json;

use super::scenario::{message, scenario};
use crate::cluster::{condition_of, text};
use crate::controlplane::harness::fleet::{H200, L4};

#[test]
fn an_8b_model_at_fp16_runs_on_an_l4_or_better_and_never_on_a_t4() {
    scenario("fp16", |s| {
        // One more than there are GPUs that are large enough: the last one waits beside four idle T4s.
        s.apply(
            "llama",
            &json!({"model": {"parameters": "8B"}, "precision": "fp16", "context": {"length": 8192}, "replicas": 13}),
        );
        let nodes = s.wait_pods("llama", 12, 1);
        assert_eq!(nodes.iter().filter(|&node| node == "l4").count(), 4);
        assert_eq!(nodes.iter().filter(|&node| node == "a100").count(), 4);
        assert_eq!(nodes.iter().filter(|&node| node == "h100").count(), 4);
        let message = s.wait_node("llama", "t4", "GpuMemoryTooSmall");
        assert!(message.contains("15.0 GiB"), "{message}");
        s.wait_node("llama", "cpu", "NoGpus");
        assert_eq!(s.check_bindings(), 12);
    });
}

#[test]
fn an_8b_model_at_fp16_prefers_the_smallest_gpu_that_fits() {
    scenario("smallest", |s| {
        s.apply(
            "llama",
            &json!({"model": {"parameters": "8B"}, "precision": "fp16", "context": {"length": 8192}}),
        );
        assert_eq!(s.wait_pods("llama", 1, 0), ["l4"]);
        let object = s.wait_ready("llama", "True", "Available");
        assert_eq!(object["status"]["placement"]["best"]["node"], "l4");
    });
}

#[test]
fn an_8b_model_at_int4_runs_on_a_t4() {
    scenario("int4", |s| {
        s.apply(
            "llama",
            &json!({"model": {"parameters": "8B"}, "precision": "int4", "context": {"length": 8192}}),
        );
        assert_eq!(s.wait_pods("llama", 1, 0), ["t4"]);
        let object = s.wait_ready("llama", "True", "Available");
        assert_eq!(object["status"]["estimate"]["weights"], 4_000_000_000_i64);
        assert_eq!(object["status"]["placement"]["fits"], 4);
    });
}

#[test]
fn a_70b_model_over_four_gpus_runs_on_a100_or_h100() {
    scenario("tensor4", |s| {
        s.apply(
            "llama",
            &json!({
                "model": {"parameters": "70B"}, "precision": "bf16", "context": {"length": 8192},
                "parallelism": {"tensor": 4}, "replicas": 2,
            }),
        );
        assert_eq!(s.wait_pods("llama", 2, 0), ["a100", "h100"]);
        let object = s.wait_ready("llama", "True", "Available");
        assert_eq!(object["status"]["estimate"]["gpus"], 4);
        let pods = s.run(["get", "pods", "-o", "jsonpath={.items[*].spec.containers[0].resources.limits}"]);
        assert_eq!(pods.matches(r#""nvidia.com/gpu":"4""#).count(), 2, "{pods}");
    });
}

#[test]
fn a_70b_model_on_one_gpu_waits_and_says_what_would_fit() {
    scenario("tensor1", |s| {
        s.apply(
            "llama",
            &json!({"model": {"parameters": "70B"}, "precision": "bf16", "context": {"length": 8192}}),
        );
        s.wait_pods("llama", 0, 1);
        let object = s.wait_ready("llama", "False", "GpuMemoryTooSmall");
        let words = message(&object).to_owned();
        // The numbers, and a change that fits.
        assert!(words.contains("weights 130.4") && words.contains("x1.2"), "{words}");
        assert!(words.contains("80.0 GiB"), "{words}");
        let suggestions = object["status"]["placement"]["suggestions"].as_array().unwrap();
        assert!(!suggestions.is_empty(), "{object:#}");
        assert_eq!(condition_of(&object, "Reconciling").unwrap()["status"], "True");
        assert_eq!(condition_of(&object, "Stalled").unwrap()["status"], "False");

        // An H200 has more than any other, and still too little: the status says so.
        s.add_node(&H200.node());
        let why = s.wait_node("llama", "h200", "GpuMemoryTooSmall");
        assert!(why.contains("140.4 GiB"), "{why}");
        let object =
            s.wait("llama", "the H200 in the message", |object| message(object).contains("140.4 GiB"));
        assert!(message(&object).contains("NVIDIA-H200"), "{}", message(&object));
        s.wait_pods("llama", 0, 1);

        // The change that is suggested does fit.
        let suggestion = text(&suggestions[0], "/change").to_owned();
        let (field, value) = suggestion.split_once(' ').unwrap();
        let patch = match field {
            "precision" => json!({"spec": {"precision": value}}),
            "tensor" => json!({"spec": {"parallelism": {"tensor": value.parse::<i64>().unwrap()}}}),
            _ => panic!("{suggestion} is a suggestion that this test does not know"),
        };
        s.run(["patch", "modeldeployment", "llama", "--type=merge", "-p", &patch.to_string()]);
        s.wait_ready("llama", "True", "Available");
    });
}

#[test]
fn a_new_node_settles_what_waited_for_it() {
    scenario("arrival", |s| {
        s.apply(
            "llama",
            &json!({"model": {"parameters": "70B"}, "precision": "int8", "context": {"length": 8192}}),
        );
        s.wait_pods("llama", 0, 1);
        let before = s.wait_ready("llama", "False", "GpuMemoryTooSmall");
        s.add_node(&H200.node());
        assert_eq!(s.wait_pods("llama", 1, 0), ["h200"]);
        let after = s.wait_ready("llama", "True", "Available");
        assert_eq!(before["metadata"]["generation"], after["metadata"]["generation"]);
        s.wait_node("llama", "h200", "FitsNow");
    });
}

#[test]
fn the_engine_is_told_what_was_estimated() {
    scenario("arguments", |s| {
        s.apply(
            "llama",
            &json!({
                "model": {"parameters": "8B"}, "precision": "bf16",
                "context": {"length": 4096, "sequences": 2}, "parallelism": {"tensor": 2},
            }),
        );
        s.wait_pods("llama", 1, 0);
        let arguments =
            s.run(["get", "deployment", "llama", "-o", "jsonpath={.spec.template.spec.containers[0].args}"]);
        for expected in ["--max-model-len", "4096", "--max-num-seqs", "--tensor-parallel-size"] {
            assert!(arguments.contains(expected), "{expected} is not in {arguments}");
        }
    });
}

#[test]
fn a_pod_template_is_merged_with_what_keeps_it_safe() {
    scenario("template", |s| {
        s.apply(
            "llama",
            &json!({
                "model": {"parameters": "8B"}, "precision": "fp16", "context": {"length": 8192},
                "engine": {"name": "none"},
                "template": {
                    "metadata": {"labels": {"team": "a"}},
                    "spec": {"containers": [{"name": "server", "image": "registry.example/server:1", "env": [{"name": "A", "value": "b"}]}]},
                },
                "replicas": 5,
            }),
        );
        let nodes = s.wait_pods("llama", 5, 0);
        assert!(!nodes.contains(&"t4".to_owned()), "{nodes:?}");
        let pods =
            s.run(["get", "pods", "-l", "team=a", "-o", "jsonpath={.items[*].spec.containers[0].env}"]);
        assert_eq!(pods.matches(r#""name":"A""#).count(), 5, "{pods}");
    });
}

#[test]
fn without_a_workload_it_is_ready_when_a_node_fits() {
    scenario("estimate-only", |s| {
        let spec = json!({"model": {"parameters": "8B"}, "precision": "fp16", "engine": {"name": "none"}});
        s.apply("llama", &spec);
        s.wait("llama", "Ready", |object| {
            condition_of(object, "Ready").is_some_and(|ready| ready["status"] == "True")
        });
        assert!(s.get("deployment", "llama").unwrap().is_null());
    });
}

#[test]
fn several_nodes_of_a_kind_are_all_used() {
    scenario("kinds", |s| {
        s.add_node(&L4.node_named("l4-2"));
        s.apply(
            "llama",
            &json!({
                "model": {"parameters": "8B"}, "precision": "fp16", "context": {"length": 8192}, "replicas": 8,
                "placement": {"nodeSelector": {"nvidia.com/gpu.product": L4.product}},
            }),
        );
        let nodes = s.wait_pods("llama", 8, 0);
        assert_eq!(nodes.iter().filter(|&node| node == "l4-2").count(), 4, "{nodes:?}");
        let message = s.wait_node("llama", "a100", "SelectorMismatch");
        assert!(message.contains("nvidia.com/gpu.product"), "{message}");
    });
}
