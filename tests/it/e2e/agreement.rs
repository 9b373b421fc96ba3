//! `loadline plan` says of an object what its status says, on the live cluster and from a snapshot of it.

use std::process::Command;

use serde_json::{Value, json};

use super::scenario::{Scenario, current, eventually, scenario};
use crate::cluster::{condition_of, items, text};
use crate::controlplane::harness::{command, fleet, loadline_binary};

/// Objects of many kinds: what fits, what is too large, what waits, what is refused and what cannot be run.
fn objects() -> Vec<Value> {
    let config: Value =
        serde_json::from_str(include_str!("../../fixtures/configs/Qwen__Qwen2.5-7B-Instruct.json")).unwrap();
    let models = [
        ("small", json!({"catalog": "llama-3.2-1b"})),
        ("mid", json!({"catalog": "llama-3.1-8b"})),
        ("large", json!({"catalog": "llama-3.1-70b"})),
        ("sized", json!({"parameters": "13B"})),
        ("config", json!({"config": config})),
        ("typo", json!({"catalog": "lama-3.1-8b"})),
    ];
    let requesting = |more: Value| {
        let mut container = json!({"name": "model"});
        container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"spec": {"containers": [container]}})
    };
    let variations = [
        ("plain", json!({})),
        ("stock", json!({"engine": {"name": "vllm"}})),
        ("awq", json!({"engine": {"name": "vllm"}, "precision": "awq-int4"})),
        ("tensor", json!({"parallelism": {"tensor": 4}, "precision": "bf16"})),
        ("odd", json!({"parallelism": {"tensor": 3}})),
        ("none", json!({"engine": {"name": "none"}, "safetyMargin": "1.5"})),
        ("cpu", json!({"template": requesting(json!({"resources": {"requests": {"cpu": "100"}}}))})),
        ("args", json!({"engine": {"name": "vllm", "args": ["--max-model-len", "lots"]}})),
        ("unread", json!({"template": {"spec": {"containers": [{"name": "model", "imagee": "x"}]}}})),
        ("gpus", json!({"template": requesting(json!({"resources": {"limits": {"nvidia.com/gpu": "7"}}}))})),
    ];
    let mut objects = Vec::new();
    for (model, source) in &models {
        for (variation, more) in &variations {
            let mut spec = json!({
                "model": source, "context": {"length": 4096},
                "engine": {"name": "vllm", "image": "registry.example/engine:test"},
            });
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            objects.push(json!({
                "apiVersion": "loadline.dev/v1alpha1", "kind": "ModelDeployment",
                "metadata": {"name": format!("{model}-{variation}")}, "spec": spec,
            }));
        }
    }
    objects
}

fn plan(s: &Scenario, manifest: &str, more: &[&str]) -> Value {
    let mut command = Command::new(loadline_binary().unwrap());
    command.args(["plan", "-f", "-", "-o", "json"]).args(more);
    command.env("KUBECONFIG", &s.cluster.plane.kubeconfig);
    let ran = command::run(command, manifest).unwrap();
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", ran.stderr))
}

/// In which way a plan differs from a status.
fn difference(result: &Value, object: &Value) -> Option<String> {
    let ready = condition_of(object, "Ready")?;
    let placeable = condition_of(object, "Placeable")?;
    let estimate = &object["status"]["estimate"];
    // Of what has room and is not run a plan says both at once; the status says the one in Ready, the other in Placeable.
    let said = text(result, "/message");
    let why = text(ready, "/message").split("; needs ").next()?;
    let says_both = said.contains(why) && said.contains(text(placeable, "/message"));
    let says = |condition: &Value| {
        condition["reason"] == result["reason"] && (condition["message"] == said || says_both)
    };
    let verdict = match text(placeable, "/status") {
        "True" => ["fits"].as_slice(),
        "False" => &["busy", "rejected"],
        _ => &["unknown", "rejected"],
    };
    let same_verdict =
        verdict.contains(&text(result, "/verdict")) || (result["verdict"] == "rejected" && says(ready));
    let same_estimate = result["estimate"]["requiredPerGpu"] == estimate["requiredPerGpu"];
    ((!says(ready) && !says(placeable)) || !same_verdict || !same_estimate).then(|| {
        format!(
            "{}\nplan: {} {} {}\nready: {ready}\nplaceable: {placeable}",
            result["name"], result["verdict"], result["reason"], result["message"]
        )
    })
}

#[test]
fn sixty_objects_are_told_the_same_by_plan_and_by_their_status() {
    scenario("sixty", |s| {
        let objects = objects();
        assert_eq!(objects.len(), 60);
        s.try_apply(&fleet::list(objects.clone())).unwrap().output().unwrap();
        let all = |s: &Scenario| s.kubectl(["get", "mdep", "-o", "json"]).unwrap().json();
        eventually("a verdict for each", || {
            let list = all(s)?;
            let done = items(&list)
                .iter()
                .filter(|object| current(object) && condition_of(object, "Ready").is_some());
            Ok((done.count() == objects.len()).then_some(()))
        });
        s.wait_quiet(super::scenario::SETTLED);
        // In the order in which GPUs are promised: of age, and of one second by name.
        let mut created: Vec<(String, String)> = items(&all(s).unwrap())
            .iter()
            .map(|object| {
                let of = |field| text(object, field).to_owned();
                (of("/metadata/creationTimestamp"), of("/metadata/name"))
            })
            .collect();
        created.sort();
        let manifest: Vec<String> = created
            .into_iter()
            .map(|(_, name)| {
                let mut object =
                    objects.iter().find(|object| object["metadata"]["name"] == *name).unwrap().clone();
                object["metadata"]["namespace"] = json!(s.namespace);
                object.to_string()
            })
            .collect();
        let manifest = manifest.join("\n---\n");
        let live = plan(s, &manifest, &[]);
        let file = s.cluster.plane.home.join("sixty.json");
        std::fs::write(&file, s.run(["get", "nodes,pods", "-A", "-o", "json"])).unwrap();
        let offline = plan(s, &manifest, &["--snapshot", file.to_str().unwrap()]);
        assert_eq!(live, offline);
        let list = all(s).unwrap();
        let results = live["results"].as_array().unwrap();
        let differences: Vec<String> = items(&list)
            .iter()
            .filter_map(|object| {
                let name = &object["metadata"]["name"];
                let result = results.iter().find(|result| result["name"] == *name);
                result.map_or_else(
                    || Some(format!("{name} has no result")),
                    |result| difference(result, object),
                )
            })
            .collect();
        assert!(differences.is_empty(), "{} of 60 differ:\n{}", differences.len(), differences.join("\n"));
    });
}
