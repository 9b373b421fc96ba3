//! `plan` of workloads that are no ModelDeployments.

use serde_json::{Value, json};

use super::{Run, run_with};

fn deployment(gpus: u64, arguments: &[&str]) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "chat", "namespace": "team-a"}, "spec": {"replicas": 1, "template": {"spec": {
        "containers": [{
            "name": "server", "image": "vllm/vllm-openai:v0.19.0", "command": ["vllm", "serve"], "args": arguments,
            "resources": {"limits": {"nvidia.com/gpu": gpus}},
        }],
    }}}})
}

fn planned(input: &str, more: &str) -> Run {
    run_with(
        &format!("plan -f - --offline --snapshot examples/cluster.snapshot -o json {more}"),
        input.as_bytes(),
    )
}

fn results(run: &Run) -> Vec<Value> {
    let document: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|_| panic!("{}", run.stderr));
    document["results"].as_array().expect("results").clone()
}

const MODEL: &str = "meta-llama/Llama-3.1-8B-Instruct";

#[test]
fn a_deployment_gets_the_verdict_of_a_model_deployment_that_says_the_same() {
    for context in [8192, 131_072, 100_000_000] {
        let ours = json!({
            "apiVersion": "loadline.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": "ours", "namespace": "team-a"},
            "spec": {
                "model": {"catalog": "llama-3.1-8b"},
                "context": {"length": context},
                "engine": {"name": "vllm", "image": "vllm/vllm-openai:v0.19.0"},
            },
        });
        let theirs = deployment(1, &[MODEL, "--max-model-len", &context.to_string()]);
        let run = planned(&format!("{ours}\n---\n{theirs}"), "--each");
        let found = results(&run);
        assert_eq!(found.len(), 2, "{}", run.stderr);
        assert!(found[0].get("workload").is_none() && found[1]["workload"]["kind"] == "Deployment");
        for same in ["verdict", "reason", "nodes", "suggestions", "slots"] {
            assert_eq!(found[0][same], found[1][same], "{context} {same}");
        }
        for same in ["requiredPerGpu", "gpus", "perGpu"] {
            assert_eq!(found[0]["estimate"][same], found[1]["estimate"][same], "{context} {same}");
        }
        let code = |object: &Value| planned(&object.to_string(), "").code;
        assert_eq!(code(&ours), code(&theirs), "{context}");
    }
}

#[test]
fn more_ranks_than_the_pod_has_gpus_are_refused_in_a_deployment() {
    let run = planned(&deployment(2, &[MODEL, "-tp", "4", "--max-model-len", "8192"]).to_string(), "");
    let found = results(&run);
    let message = found[0]["message"].as_str().unwrap();
    assert_eq!((run.code, found[0]["verdict"].as_str()), (1, Some("rejected")));
    assert!(message.contains("among 4 GPUs, and its pod asks for 2 (nvidia.com/gpu)"), "{message}");
    assert!(!message.contains("spec."), "{message}");
    // What the engine leaves unused is taken from the node all the same.
    let found = results(&planned(&deployment(2, &[MODEL, "--max-model-len", "8192"]).to_string(), ""));
    assert!(
        found[0]["message"].as_str().unwrap().contains("on 2 GPUs of one node"),
        "{}",
        found[0]["message"]
    );
}

#[test]
fn an_engine_that_may_use_less_of_a_card_needs_a_larger_one() {
    let needs = |arguments: &[&str]| {
        let all: Vec<&str> = [MODEL, "--max-model-len", "8192"].iter().chain(arguments).copied().collect();
        let found = results(&planned(&deployment(1, &all).to_string(), ""));
        found[0]["estimate"]["requiredPerGpu"].as_u64().unwrap_or_else(|| panic!("{}", found[0]["message"]))
    };
    let (usual, half) = (needs(&[]), needs(&["--gpu-memory-utilization", "0.5"]));
    assert!(half > usual * 3 / 2, "{usual} {half}");
    assert_eq!(needs(&["--gpu-memory-utilization=0.95"]), usual);
}

#[test]
fn what_is_not_known_is_unknown_and_what_runs_no_model_is_silence() {
    let run = planned(&deployment(1, &["/models/mine", "--max-model-len", "4k"]).to_string(), "");
    let found = results(&run);
    assert_eq!((run.code, found[0]["reason"].as_str()), (4, Some("ModelNotResolved")));
    let workload = &found[0]["workload"];
    assert_eq!((workload["readable"].as_bool(), workload["context"].as_u64()), (Some(false), Some(4000)));
    let web = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"template": {"spec": {"containers": [{"name": "c", "image": "nginx"}]}}}});
    let run = planned(&web.to_string(), "");
    assert_eq!((run.code, results(&run).len(), run.stderr.as_str()), (0, 0, ""));
}

#[test]
fn workloads_alone_are_planned_where_that_is_asked_for() {
    let ours = json!({"apiVersion": "loadline.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": "ours"}, "spec": {"model": {"parameters": "8B"}}});
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [ours, deployment(1, &[MODEL, "--max-model-len", "8192"])]});
    let found = results(&planned(&list.to_string(), "--workloads-only"));
    assert_eq!(found.iter().map(|found| found["name"].as_str()).collect::<Vec<_>>(), [Some("chat")]);
    assert_eq!(results(&planned(&list.to_string(), "")).len(), 2);
}
