//! Pods that name an object, whoever makes them: they get what it needs, or are not let in; with Loadline there or not.

// What is asked is written where it is asked.
#![allow(clippy::needless_pass_by_value)]

use serde_json::{Value, json};

use super::scenario::{Scenario, eventually, scenario};
use crate::cluster::{items, text};

/// How often each trick is tried.
fn tries() -> usize {
    std::env::var("LOADLINE_TRIES").ok().and_then(|tries| tries.parse().ok()).unwrap_or(20)
}

/// Needs more than the T4 has, and no more than the L4.
fn spec() -> Value {
    json!({"model": {"parameters": "8B"}, "precision": "fp16", "context": {"length": 8192}})
}

/// A scenario with the policies of pods, and nobody who answers webhooks.
fn guarded(name: &str, give: &str, play: impl FnOnce(&mut Scenario)) {
    scenario(name, |s| {
        let give = format!("--set=admission.pods.give={give}");
        // Nobody listens there, and nobody is held up by it.
        s.cluster.install_webhooks("https://127.0.0.1:9", &[&give]).unwrap();
        s.apply("llama", &spec());
        s.wait_ready("llama", "True", "Available");
        eventually("the requirements", || {
            Ok((!s.get("modelrequirements", "loadline")?["spec"]["models"]["llama"].is_null()).then_some(()))
        });
        play(s);
        // Not one pod that names the object is on a node that is too small.
        let low =
            pods(s).into_iter().filter(|pod| matches!(text(pod, "/spec/nodeName"), "t4" | "cpu")).count();
        assert_eq!(low, 0);
    });
}

/// Every pod that names the object.
fn pods(s: &Scenario) -> Vec<Value> {
    let selector = "loadline.dev/model-deployment=llama";
    let list = s.kubectl(["get", "pods", "-l", selector, "-o", "json"]).unwrap().json().unwrap();
    items(&list).to_vec()
}

pub(super) fn pod(name: &str, fields: Value) -> Value {
    let mut spec = json!({"containers": [{"name": "server", "image": "registry.example/engine:test"}]});
    for (key, value) in fields.as_object().unwrap() {
        spec[key] = value.clone();
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"loadline.dev/model-deployment": "llama"}},
        "spec": spec})
}

fn with_gpus(count: &str) -> Value {
    json!([{"name": "server", "image": "registry.example/engine:test", "resources": {"limits": {"nvidia.com/gpu": count}}}])
}

pub(super) fn create(s: &Scenario, object: &Value) -> Result<(), String> {
    let ran = s.kubectl_with_input(["create", "-f", "-"], &object.to_string()).unwrap();
    if ran.success() { Ok(()) } else { Err(ran.stderr) }
}

/// The terms that the child Deployment's pods demand.
fn terms(s: &Scenario) -> Value {
    let deployment = s.get("deployment", "llama").unwrap();
    deployment["spec"]["template"]["spec"]["affinity"].clone()
}

fn strip(s: &Scenario) {
    let patch = r#"[{"op": "remove", "path": "/spec/template/spec/affinity"}]"#;
    // It may not be back from the last time.
    let _ = s.kubectl(["patch", "deployment", "llama", "--type=json", "-p", patch]).unwrap();
}

#[test]
fn a_pod_that_lacks_its_terms_is_refused() {
    guarded("guard", "none", |s| {
        let terms = terms(s);
        let refused = |object: &Value, why: &str| {
            let error = create(s, object).expect_err(&object.to_string());
            assert!(error.contains(why), "{error}");
        };
        let lacks = "its required node affinity does not demand that";
        refused(&pod("bare", json!({"containers": with_gpus("1")})), lacks);
        let mut lower = terms.clone();
        for term in
            lower["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
                .as_array_mut()
                .unwrap()
        {
            for expression in term["matchExpressions"].as_array_mut().unwrap() {
                if expression["operator"] == "Gt" {
                    expression["values"] = json!(["15000"]);
                }
            }
        }
        refused(&pod("lower", json!({"affinity": lower, "containers": with_gpus("1")})), lacks);
        let mut also = terms.clone();
        also["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
            .as_array_mut()
            .unwrap()
            .push(json!({"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "Exists"}]}));
        refused(&pod("also", json!({"affinity": also, "containers": with_gpus("1")})), lacks);
        let placed = json!({"affinity": terms, "nodeName": "t4", "containers": with_gpus("1")});
        refused(&pod("placed", placed), "sets spec.nodeName");
        refused(&pod("without", json!({"affinity": terms})), "takes 1 nvidia.com/gpu");
        // What has them, or more, is let in; so is what names nothing, or what is not known.
        create(s, &pod("right", json!({"affinity": terms, "containers": with_gpus("1")}))).unwrap();
        let mut more = terms.clone();
        for term in
            more["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
                .as_array_mut()
                .unwrap()
        {
            let expressions = term["matchExpressions"].as_array_mut().unwrap();
            expressions.push(json!({"key": "zone", "operator": "In", "values": ["a"]}));
            for expression in expressions {
                if expression["operator"] == "Gt" && expression["key"].as_str().unwrap().ends_with(".memory")
                {
                    expression["values"] = json!(["60000"]);
                }
            }
        }
        create(s, &pod("more", json!({"affinity": more, "containers": with_gpus("1")}))).unwrap();
        let mut other = pod("other", json!({}));
        other["metadata"]["labels"] = json!({"loadline.dev/model-deployment": "nobody"});
        create(s, &other).unwrap();
        other["metadata"] = json!({"name": "unnamed"});
        create(s, &other).unwrap();
        // Nor can one come to be of the object that way.
        let named = ["label", "pod", "unnamed", "loadline.dev/model-deployment=llama"];
        assert!(s.kubectl(named).unwrap().refusal().unwrap().contains(lacks));
        s.run(["label", "pod", "right", "team=a"]);
        s.run(["label", "pod", "right", "loadline.dev/model-deployment-"]);
        s.run(["delete", "pod", "right", "more", "other", "unnamed", "--wait=false"]);
    });
}

#[test]
fn a_stripped_deployment_makes_no_pod_with_the_controller_down() {
    guarded("stripped-down", "none", |s| {
        s.cluster.kill_controller();
        strip(s);
        s.run(["scale", "deployment", "llama", "--replicas=3"]);
        let why = eventually("the pods to be refused", || {
            let deployment = s.get("deployment", "llama")?;
            let conditions = deployment["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let failure = conditions.iter().find(|condition| condition["type"] == "ReplicaFailure");
            Ok(failure.map(|failure| text(failure, "/message").to_owned()))
        });
        assert!(why.contains("the pod names ModelDeployment llama, which needs "), "{why}");
        for at in 0..tries() {
            // Each is another template, and another ReplicaSet.
            s.run(["set", "env", "deployment/llama", &format!("TRY={at}")]);
        }
        s.cluster.run_controller(&["--label-grace=0s"]).unwrap();
        s.wait_ready("llama", "True", "Available");
        assert!(!terms(s).is_null());
    });
}

#[test]
fn a_stripped_deployment_makes_no_pod_with_the_controller_up() {
    guarded("stripped-up", "none", |s| {
        for at in 0..tries() {
            strip(s);
            s.run(["delete", "pod", "-l", "loadline.dev/model-deployment=llama", "--wait=false"]);
            if at % 5 == 0 {
                s.wait_ready("llama", "True", "Available");
            }
        }
        s.wait_ready("llama", "True", "Available");
    });
}

/// A bare pod is given all that it lacks, and what was asked for stays; returns the names of the pods that were made.
pub(super) fn check_given(s: &Scenario, phase: &str) -> [String; 2] {
    let terms = terms(s);
    let required = |pod: &Value| {
        let affinity = &pod["spec"]["affinity"]["nodeAffinity"];
        affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"].clone()
    };
    let own = required(&json!({"spec": {"affinity": terms}}));
    let (bare, theirs) = (format!("bare-{phase}"), format!("theirs-{phase}"));
    create(s, &pod(&bare, json!({}))).unwrap();
    let made = s.get("pod", &bare).unwrap();
    assert_eq!(required(&made), own, "{phase}");
    assert_eq!(made["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"], "1");
    assert_eq!(made["spec"]["containers"][0]["resources"]["requests"]["nvidia.com/gpu"], "1");
    let tolerated = json!({"key": "nvidia.com/gpu", "operator": "Exists"});
    assert!(made["spec"]["tolerations"].as_array().unwrap().contains(&tolerated));
    // Each of the user's terms with each of ours.
    let zone = json!({"key": "zone", "operator": "NotIn", "values": ["b"]});
    let user = json!({"affinity": {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [zone]}, {"matchExpressions": [{"key": "disk", "operator": "Exists"}]}]}},
        "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 1, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname"}}]}},
        "containers": [{"name": "server", "image": "registry.example/engine:test",
            "resources": {"limits": {"cpu": "1"}}}]});
    create(s, &pod(&theirs, user)).unwrap();
    let made = s.get("pod", &theirs).unwrap();
    let found = required(&made);
    let found = found.as_array().unwrap();
    assert_eq!(found.len(), 2 * own.as_array().unwrap().len());
    assert_eq!(found[0]["matchExpressions"][0], zone);
    assert_eq!(made["spec"]["containers"][0]["resources"]["limits"]["cpu"], "1");
    assert_eq!(made["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"], "1");
    assert!(!made["spec"]["affinity"]["podAntiAffinity"].is_null());
    [bare, theirs]
}

/// Waits until a bare pod is let in: somebody gives it what it lacks.
pub(super) fn wait_until_given(s: &Scenario) {
    eventually("pods to be given what they lack", || {
        let create = ["create", "--dry-run=server", "-f", "-"];
        Ok(s.kubectl_with_input(create, &pod("a", json!({})).to_string())?.success().then_some(()))
    });
}

#[test]
fn bare_pods_are_given_what_they_lack_with_the_controller_up_and_down() {
    guarded("given", "policy", |s| {
        wait_until_given(s);
        for phase in ["up", "down"] {
            if phase == "down" {
                s.cluster.kill_controller();
            }
            let mut names = check_given(s, phase).to_vec();
            // Many at once: those that are bound are bound where they fit.
            let many: Vec<String> =
                (0..tries()).map(|at| pod(&format!("{phase}-{at}"), json!({})).to_string()).collect();
            s.kubectl_with_input(["create", "-f", "-"], &many.join("\n")).unwrap().output().unwrap();
            let bound = eventually("a pod to be bound", || {
                let is_of = |pod: &&Value| text(pod, "/metadata/name").starts_with(phase);
                let all = pods(s);
                let bound = all.iter().filter(is_of).filter(|pod| !text(pod, "/spec/nodeName").is_empty());
                Ok(Some(bound.count()).filter(|bound| *bound > 0))
            });
            eprintln!("{phase}: {} made, {bound} bound", tries());
            assert!(pods(s).iter().all(|pod| !matches!(text(pod, "/spec/nodeName"), "t4" | "cpu")));
            names.extend((0..tries()).map(|at| format!("{phase}-{at}")));
            let delete = ["delete", "pod", "--wait=false", "--grace-period=0", "--force"].map(str::to_owned);
            s.run(delete.into_iter().chain(names));
        }
    });
}

#[test]
fn what_is_required_follows_the_object_and_goes_with_it() {
    guarded("follows", "none", |s| {
        let required =
            |s: &Scenario| s.get("modelrequirements", "loadline").unwrap()["spec"]["models"].clone();
        let before = required(s)["llama"]["perGpuMiB"].as_i64().unwrap();
        s.apply(
            "second",
            &json!({"model": {"parameters": "1B"}, "precision": "fp16", "engine": {"name": "none"}}),
        );
        eventually("an estimate to be required too", || Ok((!required(s)["second"].is_null()).then_some(())));
        s.apply(
            "llama",
            &json!({"model": {"parameters": "8B"}, "precision": "fp16", "context": {"length": 32768}}),
        );
        eventually("more to be required", || {
            let now = &required(s)["llama"];
            let is_more = now["perGpuMiB"].as_i64().is_some_and(|now| now > before);
            // Once the old pods are gone, no more of theirs will do.
            Ok((is_more && now["earlier"].is_null()).then_some(()))
        });
        // While nobody sees it.
        s.cluster.kill_controller();
        s.run(["delete", "mdep", "second", "--timeout=20s"]);
        s.cluster.run_controller(&["--label-grace=0s"]).unwrap();
        eventually("it to be forgotten", || Ok(required(s)["second"].is_null().then_some(())));
        s.run(["delete", "mdep", "llama", "--timeout=20s"]);
        s.wait_gone("modelrequirements", "loadline");
        // Nobody but Loadline writes it.
        let mut may = vec!["auth", "can-i", "update", "modelrequirements.loadline.dev", "--as=someone"];
        may.extend(["--as-group=system:authenticated"]);
        assert!(!s.kubectl(may).unwrap().success());
    });
}
