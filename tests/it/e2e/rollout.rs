//! What runs while a spec is changed: the pods of the old one serve until those of the new do, or the status says why not;
//! and what is changed in vain keeps what runs.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::scenario::{Scenario, current, eventually, message, model_deployment, scenario};
use crate::cluster::{condition_of, items, text};
use crate::controlplane::harness::fleet::L4;

/// An image's worth of 8B that fits an L4, and only on the one node that has them.
fn on_l4(more: &Value) -> Value {
    let mut spec = json!({
        "model": {"parameters": "8B"}, "precision": "fp16", "context": {"length": 8192},
        "placement": {"nodeSelector": {"nvidia.com/gpu.product": L4.product}},
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

fn patch(s: &Scenario, name: &str, spec: &Value) {
    s.run(["patch", "mdep", name, "--type=merge", "-p", &json!({"spec": spec}).to_string()]);
}

/// The uids of an object's pods that are not going.
fn uids(s: &Scenario, name: &str) -> BTreeSet<String> {
    let selector = format!("loadline.dev/model-deployment={name}");
    let list: Value = serde_json::from_str(&s.run(["get", "pods", "-l", &selector, "-o", "json"])).unwrap();
    let stays = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null();
    items(&list).iter().filter(stays).map(|pod| text(pod, "/metadata/uid").to_owned()).collect()
}

/// How many pods of an object are ready.
fn serving(s: &Scenario, name: &str) -> anyhow::Result<usize> {
    let selector = format!("loadline.dev/model-deployment={name}");
    let list = s.kubectl(["get", "pods", "-l", &selector, "-o", "json"])?.json()?;
    let is_ready = |pod: &&Value| condition_of(pod, "Ready").is_some_and(|ready| ready["status"] == "True");
    Ok(items(&list)
        .iter()
        .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
        .filter(is_ready)
        .count())
}

fn is_available(object: &Value) -> bool {
    current(object)
        && condition_of(object, "Ready")
            .is_some_and(|ready| ready["status"] == "True" && ready["reason"] == "Available")
}

/// Follows a change to its end, and returns the least number of pods that served on the way.
#[track_caller]
fn follow(s: &Scenario, name: &str) -> usize {
    let mut least = usize::MAX;
    eventually(&format!("{name} to be ready again"), || {
        least = least.min(serving(s, name)?);
        Ok(is_available(&s.get("mdep", name)?).then_some(()))
    });
    least
}

#[test]
fn an_edit_that_cannot_be_run_keeps_what_runs() {
    scenario("in-vain", |s| {
        let spec = json!({
            "model": {"catalog": "llama-3.1-8b"}, "context": {"length": 8192}, "engine": {"name": "vllm"},
        });
        s.apply("llama", &spec);
        s.wait_ready("llama", "True", "Available");
        let (pods, before) = (uids(s, "llama"), s.get("deployment", "llama").unwrap());
        assert_eq!(pods.len(), 1);
        // The catalog's repository has no such checkpoint, and vLLM makes none as it loads.
        patch(s, "llama", &json!({"precision": "awq-int4"}));
        let object = s.wait_ready("llama", "False", "CannotRun");
        assert!(message(&object).contains("awq-int4"), "{}", message(&object));
        assert_eq!(condition_of(&object, "Stalled").unwrap()["status"], "True");
        assert_eq!(object["status"]["readyReplicas"], 1, "it serves on");
        assert_eq!(uids(s, "llama"), pods);
        // It can be scaled all the same, with the pods that it has.
        s.run(["scale", "mdep", "llama", "--replicas=2"]);
        s.wait_pods("llama", 2, 0);
        assert!(uids(s, "llama").is_superset(&pods));
        s.run(["scale", "mdep", "llama", "--replicas=1"]);
        s.wait_pods("llama", 1, 0);
        let kept = uids(s, "llama");
        patch(s, "llama", &json!({"precision": null}));
        s.wait_ready("llama", "True", "Available");
        assert_eq!(uids(s, "llama"), kept, "nothing was restarted");
        let after = s.get("deployment", "llama").unwrap();
        assert_eq!(after["spec"]["template"], before["spec"]["template"]);
    });
}

#[test]
fn an_update_that_has_a_free_gpu_never_stops_serving() {
    scenario("surge", |s| {
        s.apply("llama", &on_l4(&json!({})));
        s.wait_ready("llama", "True", "Available");
        let before = uids(s, "llama");
        patch(s, "llama", &json!({"context": {"length": 4096}}));
        assert_eq!(follow(s, "llama"), 1, "a pod served all the time");
        assert!(uids(s, "llama").is_disjoint(&before));
        assert!(s.check_honesty() >= 2);
    });
}

#[test]
fn an_update_on_a_full_pool_ends() {
    scenario("full", |s| {
        // Four pods hold the node's four GPUs: they are replaced one by one.
        s.apply("four", &on_l4(&json!({"replicas": 4})));
        s.wait_ready("four", "True", "Available");
        let before = uids(s, "four");
        patch(s, "four", &json!({"context": {"length": 4096}}));
        let least = follow(s, "four");
        assert!(least >= 3, "{least} served");
        assert!(uids(s, "four").is_disjoint(&before));
        s.run(["delete", "mdep", "four", "--timeout=30s"]);
        s.wait_pods("four", 0, 0);
        // One pod holds all of them: it goes, and the new one comes.
        s.apply("one", &on_l4(&json!({"parallelism": {"tensor": 4}})));
        s.wait_ready("one", "True", "Available");
        let before = uids(s, "one");
        patch(s, "one", &json!({"context": {"length": 4096}}));
        follow(s, "one");
        assert!(uids(s, "one").is_disjoint(&before));
        s.check_honesty();
    });
}

#[test]
fn a_surge_that_is_asked_for_waits_on_a_full_pool_and_says_so() {
    scenario("full-surge", |s| {
        s.apply("llama", &on_l4(&json!({"replicas": 4, "rollout": "Surge"})));
        s.wait_ready("llama", "True", "Available");
        let before = uids(s, "llama");
        patch(s, "llama", &json!({"context": {"length": 4096}}));
        let object = s.wait_ready("llama", "False", "Replacing");
        assert!(message(&object).contains("until a GPU is free"), "{}", message(&object));
        assert_eq!(object["status"]["readyReplicas"], 4);
        assert!(uids(s, "llama").is_superset(&before), "the old pods serve on");
        // The remedy that the reason names.
        patch(s, "llama", &json!({"rollout": "InPlace"}));
        assert!(follow(s, "llama") >= 3);
        assert!(uids(s, "llama").is_disjoint(&before));
    });
}

/// How a Deployment replaces its pods, as the server has it.
fn strategy(s: &Scenario, name: &str) -> Value {
    s.get("deployment", name).unwrap()["spec"]["strategy"].clone()
}

#[test]
fn recreate_is_what_the_server_makes_of_it() {
    scenario("recreate", |s| {
        let recreate = json!({"type": "Recreate"});
        s.apply("new", &on_l4(&json!({"rollout": "Recreate"})));
        s.wait_ready("new", "True", "Available");
        assert_eq!(strategy(s, "new"), recreate);
        let before = uids(s, "new");
        patch(s, "new", &json!({"context": {"length": 4096}}));
        follow(s, "new");
        assert!(uids(s, "new").is_disjoint(&before));
        // One that was replaced in another way.
        s.apply("other", &on_l4(&json!({})));
        s.wait_ready("other", "True", "Available");
        assert_eq!(strategy(s, "other")["type"], "RollingUpdate");
        let before = uids(s, "other");
        patch(s, "other", &json!({"rollout": "Recreate"}));
        eventually("the strategy", || Ok((strategy(s, "other") == recreate).then_some(())));
        patch(s, "other", &json!({"rollout": "Surge"}));
        eventually("the strategy", || Ok((strategy(s, "other")["type"] == "RollingUpdate").then_some(())));
        s.wait_ready("other", "True", "Available");
        assert_eq!(uids(s, "other"), before, "how they are replaced is no reason to replace them");
    });
}

#[test]
fn recreate_takes_the_place_of_the_servers_own_default() {
    scenario("recreate-default", |s| {
        s.cluster.stop_controller().unwrap();
        s.apply("llama", &on_l4(&json!({"rollout": "Recreate"})));
        let object = s.get("mdep", "llama").unwrap();
        // As release 0.1.0 wrote it: without a strategy, so that the server's default is in it, which nobody owns.
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "name": "llama",
                "labels": {"app.kubernetes.io/managed-by": "loadline", "loadline.dev/model-deployment": "llama"},
                "ownerReferences": [{
                    "apiVersion": "loadline.dev/v1alpha1", "kind": "ModelDeployment", "name": "llama",
                    "uid": object["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true,
                }],
            },
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": {
                    "app.kubernetes.io/managed-by": "loadline", "loadline.dev/model-deployment": "llama",
                }},
                "template": {
                    "metadata": {"labels": {
                        "app.kubernetes.io/managed-by": "loadline", "loadline.dev/model-deployment": "llama",
                    }},
                    "spec": {
                        "nodeSelector": {"nvidia.com/gpu.product": L4.product},
                        "containers": [{"name": "model", "image": "registry.example/engine:0"}],
                    },
                },
            },
        });
        let arguments = ["apply", "--server-side", "--field-manager=loadline-controller", "-f", "-"];
        s.kubectl_with_input(arguments, &deployment.to_string()).unwrap().output().unwrap();
        assert_eq!(strategy(s, "llama")["rollingUpdate"]["maxSurge"], "25%");
        s.cluster.run_controller(&["--label-grace=0s"]).unwrap();
        s.wait_ready("llama", "True", "Available");
        assert_eq!(strategy(s, "llama"), json!({"type": "Recreate"}));
    });
}

#[test]
fn an_orphan_is_taken_on_again() {
    scenario("orphan", |s| {
        s.apply("llama", &on_l4(&json!({})));
        s.wait_ready("llama", "True", "Available");
        let (pods, before) = (uids(s, "llama"), s.get("deployment", "llama").unwrap());
        s.run(["delete", "mdep", "llama", "--cascade=orphan", "--timeout=30s"]);
        s.wait_gone("mdep", "llama");
        eventually("the Deployment to be nobody's", || {
            Ok(s.get("deployment", "llama")?["metadata"]["ownerReferences"].is_null().then_some(()))
        });
        s.apply("llama", &on_l4(&json!({})));
        let object = s.wait_ready("llama", "True", "Available");
        let after = s.get("deployment", "llama").unwrap();
        assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
        assert_eq!(after["metadata"]["ownerReferences"][0]["uid"], object["metadata"]["uid"]);
        assert_eq!(uids(s, "llama"), pods, "it was never restarted");
    });
}

#[test]
fn an_estimate_stays_ready_whatever_the_pods_of_others_do() {
    scenario("estimates", |s| {
        let spec = json!({"model": {"parameters": "8B"}, "precision": "fp16", "engine": {"name": "none"}});
        s.apply("asked", &spec);
        s.wait_ready("asked", "True", "EstimateOnly");
        let training = json!({"model": {"catalog": "llama-3.2-1b"}, "training": {"method": "lora"}});
        s.apply("trained", &training);
        s.wait_ready("trained", "True", "EstimateOnly");
        let mark = s.cluster.mark().unwrap();
        // All GPUs that would do, by the pods of another.
        s.apply("greedy", &json!({
            "model": {"parameters": "8B"}, "precision": "fp16", "context": {"length": 8192}, "replicas": 16,
        }));
        s.wait("asked", "no room", |object| {
            condition_of(object, "Placeable").is_some_and(|placeable| placeable["reason"] == "GpusBusy")
        });
        s.run(["delete", "mdep", "greedy", "--timeout=30s"]);
        s.wait("asked", "room", |object| {
            condition_of(object, "Placeable").is_some_and(|placeable| placeable["reason"] == "FitsNow")
        });
        let mut written = 0;
        for request in s.cluster.requests_since(mark).unwrap() {
            if request.resource() == "modeldeployments/status"
                && ["asked", "trained"].contains(&request.name())
            {
                let ready = condition_of(request.body(), "Ready").unwrap();
                assert_eq!((text(ready, "/status"), text(ready, "/reason")), ("True", "EstimateOnly"));
                written += 1;
            }
        }
        assert!(written >= 2, "{written} statuses");
    });
}

#[test]
fn before_its_first_status_nothing_is_said_to_be_current() {
    scenario("unread", |s| {
        s.cluster.stop_controller().unwrap();
        let manifest = model_deployment("llama", &on_l4(&json!({}))).to_string();
        s.try_apply(&manifest).unwrap().output().unwrap();
        assert_eq!(s.get("mdep", "llama").unwrap()["status"]["observedGeneration"], -1);
        s.cluster.run_controller(&["--label-grace=0s"]).unwrap();
        s.wait_ready("llama", "True", "Available");
    });
}

#[test]
fn what_serves_stays_where_no_node_can_take_the_new_pods() {
    scenario("stays", |s| {
        for rollout in ["InPlace", "Recreate"] {
            let mut spec = json!({
                "model": {"catalog": "llama-3.1-8b"}, "context": {"length": 8192}, "engine": {"name": "vllm"},
                "rollout": rollout,
            });
            s.apply("llama", &spec);
            s.wait_ready("llama", "True", "Available");
            let before = uids(s, "llama");
            spec["placement"] = json!({"nodeSelector": {"pool": "nosuch"}});
            s.apply("llama", &spec);
            s.wait_ready("llama", "False", "SelectorMismatch");
            s.wait("llama", "that the old pods serve on", |object| {
                message(object).contains("the old pods serve on")
            });
            s.wait_quiet(Duration::from_secs(3));
            assert!(before.is_subset(&uids(s, "llama")), "{rollout}");
            assert_eq!(serving(s, "llama").unwrap(), 1, "{rollout}");
            s.run(["delete", "mdep", "llama", "--timeout=30s"]);
        }
    });
}

#[test]
fn a_template_that_the_server_cannot_take_is_told_and_can_be_scaled() {
    scenario("ill-typed", |s| {
        let mut spec = json!({
            "model": {"catalog": "llama-3.1-8b"}, "context": {"length": 8192}, "engine": {"name": "vllm"},
        });
        s.apply("llama", &spec);
        s.wait_ready("llama", "True", "Available");
        let twice = json!([{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]);
        spec["template"] = json!({"spec": {"containers": [{"name": "model", "env": twice}]}});
        s.apply("llama", &spec);
        let object = s.wait_ready("llama", "False", "WorkloadRejected");
        let said = message(&object);
        assert!(said.contains("duplicate entries for key") && said.contains("serves on"), "{said}");
        s.run(["scale", "mdep", "llama", "--replicas=2"]);
        s.wait_pods("llama", 2, 0);
    });
}
