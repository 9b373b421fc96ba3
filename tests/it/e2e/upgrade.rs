//! A newer Loadline takes over what an earlier release wrote, and rolls nothing of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use super::scenario::{Scenario, current, eventually, scenario_with};
use crate::cluster::{CONTROLLER, condition_of, items, text};
use crate::controlplane::harness::fleet;

/// What release 0.1.0 wrote for these specs, a line each: `name`, `spec` and `deployment`.
const RELEASE_0_1_0: &str = include_str!("../../fixtures/releases/0.1.0.jsonl");
/// As the release named itself to the API server.
const MANAGER: &str = "--field-manager=loadline-controller";

/// The object whose estimate has grown since: it is made to have.
const GROWN: &str = "catalog-8b";
/// One whose estimate has really grown: since then the padding of gpt-oss' experts is counted.
const OUTGROWN: &str = "catalog-gpt-oss";
const TERMS: &str = "/spec/template/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";

/// What the release wrote; for one object as if its estimate had been 20,001 MiB at the time.
fn written() -> Vec<Value> {
    let mut lines: Vec<Value> =
        RELEASE_0_1_0.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let grown = lines.iter_mut().find(|line| line["name"] == GROWN).unwrap();
    let terms = grown["deployment"].pointer_mut(TERMS).and_then(Value::as_array_mut).unwrap();
    for term in terms {
        for expression in term["matchExpressions"].as_array_mut().into_iter().flatten() {
            if demands_memory(expression) {
                expression["values"] = json!(["20000"]);
            }
        }
    }
    lines
}

fn demands_memory(expression: &Value) -> bool {
    expression["operator"] == "Gt" && text(expression, "/key").ends_with(".memory")
}

/// The status that the release left: its estimate is what the pods' terms demand.
fn status(generation: &Value, deployment: &Value) -> Value {
    let terms = deployment.pointer(TERMS).and_then(Value::as_array).into_iter().flatten();
    let demanded = terms.filter_map(|term| {
        let mut expressions = term["matchExpressions"].as_array().into_iter().flatten();
        let memory = expressions.find(|expression| demands_memory(expression))?;
        text(memory, "/values/0").parse::<i64>().ok()
    });
    let mib = demanded.min().unwrap();
    let required = (mib + 1) << 20;
    let gpus = text(deployment, "/spec/template/spec/containers/0/resources/limits/nvidia.com~1gpu");
    let condition = |kind: &str, status: &str, reason: &str| {
        json!({
            "type": kind, "status": status, "reason": reason, "message": "as it was",
            "observedGeneration": generation, "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    json!({
        "observedGeneration": generation,
        "estimate": {
            "weights": required, "kvCache": 0, "activations": 0, "overhead": 0, "total": required,
            "required": required, "requiredPerGpu": required, "gpus": gpus.parse::<i64>().unwrap(),
            "safetyMargin": "1.2", "confidence": "exact", "source": "as it was", "notes": [],
        },
        "replicas": 1, "readyReplicas": 0, "selector": "a=b",
        "conditions": [
            condition("Ready", "False", "Progressing"),
            condition("Estimated", "True", "Estimated"),
            condition("Placeable", "True", "FitsNow"),
            condition("Reconciling", "True", "Progressing"),
            condition("Stalled", "False", "Progressing"),
        ],
    })
}

/// All objects of a kind in the scenario's namespace, by name.
fn all(s: &Scenario, kind: &str) -> anyhow::Result<BTreeMap<String, Value>> {
    let list = s.kubectl(["get", kind, "-o", "json"])?.json()?;
    Ok(items(&list)
        .iter()
        .map(|object| (text(object, "/metadata/name").to_owned(), object.clone()))
        .collect())
}

fn templates(s: &Scenario) -> BTreeMap<String, Value> {
    let deployments = all(s, "deployments").unwrap();
    deployments.into_iter().map(|(name, object)| (name, object["spec"]["template"].clone())).collect()
}

fn replica_sets(s: &Scenario) -> BTreeSet<String> {
    all(s, "replicasets").unwrap().into_keys().collect()
}

/// One of the objects has a token, which the team has let the controller read.
fn may_read_the_token(s: &Scenario) {
    s.run(["create", "role", "hub-token", "--verb=get", "--resource=secrets", "--resource-name=hub"]);
    let account = format!("--serviceaccount={}", CONTROLLER.trim_start_matches("system:serviceaccount:"));
    s.run(["create", "rolebinding", "hub-token", "--role=hub-token", &account]);
}

#[test]
fn what_release_0_1_0_wrote_is_taken_over_and_nothing_rolls() {
    // Nothing is there to answer for what is on the Hub: as it would be on the day.
    let options = ["--label-grace=0s", "--hub-endpoint=http://127.0.0.1:1"];
    scenario_with("upgrade", &options, |s| {
        s.cluster.stop_controller().unwrap();
        may_read_the_token(s);
        let eight = fleet::Kind { name: "h200", gpus: 8, ..fleet::H200 };
        s.add_node(&eight.node());
        let lines = written();
        assert!(lines.len() >= 40, "{}", lines.len());
        let objects = lines.iter().map(|line| {
            json!({
                "apiVersion": "loadline.dev/v1alpha1", "kind": "ModelDeployment",
                "metadata": {"name": line["name"]}, "spec": line["spec"],
            })
        });
        s.try_apply(&fleet::list(objects)).unwrap().output().unwrap();
        let live = all(s, "modeldeployments").unwrap();
        let deployments = lines.iter().map(|line| {
            let mut deployment = line["deployment"].clone();
            let object = &live[text(line, "/name")];
            deployment["metadata"]["namespace"] = json!(s.namespace);
            deployment["metadata"]["ownerReferences"][0]["uid"] = object["metadata"]["uid"].clone();
            deployment
        });
        let arguments = ["apply", "--server-side", MANAGER, "-f", "-"];
        s.kubectl_with_input(arguments, &fleet::list(deployments)).unwrap().output().unwrap();
        let statuses = lines.iter().map(|line| {
            let object = &live[text(line, "/name")];
            json!({
                "apiVersion": "loadline.dev/v1alpha1", "kind": "ModelDeployment",
                "metadata": {"name": line["name"], "namespace": s.namespace},
                "status": status(&object["metadata"]["generation"], &line["deployment"]),
            })
        });
        let arguments =
            ["apply", "--server-side", "--subresource=status", "--validate=false", MANAGER, "-f", "-"];
        s.kubectl_with_input(arguments, &fleet::list(statuses)).unwrap().output().unwrap();
        eventually("the pods of the earlier release", || {
            let seen =
                |object: &Value| object["status"]["observedGeneration"] == object["metadata"]["generation"];
            Ok((all(s, "deployments")?.values().all(seen) && replica_sets(s).len() == lines.len())
                .then_some(()))
        });
        let (before, sets) = (templates(s), replica_sets(s));

        s.cluster.run_controller(&options).unwrap();
        eventually("all to be taken over", || {
            let is_recorded =
                |object: &Value| object["metadata"]["annotations"]["loadline.dev/record"].is_string();
            let deployments = all(s, "deployments")?;
            let not: Vec<_> =
                deployments.iter().filter(|(_, object)| !is_recorded(object)).map(|(name, _)| name).collect();
            Ok(not.is_empty().then_some(()))
        });
        s.wait_quiet(Duration::from_secs(5));
        let after = templates(s);
        for (name, template) in &before {
            assert_eq!(after[name], *template, "{name} was changed");
        }
        assert_eq!(replica_sets(s), sets, "something rolls");

        // One for which a newer estimate asks for more says so, and rolls when it is asked to; no other does.
        let name = GROWN.to_owned();
        let grown = |object: &Value| {
            condition_of(object, "UpToDate").is_some_and(|found| found["reason"] == "EstimateGrown")
        };
        let objects = all(s, "modeldeployments").unwrap();
        let all_grown: Vec<_> =
            objects.iter().filter(|(_, object)| grown(object)).map(|(name, _)| name).collect();
        assert_eq!(all_grown, [GROWN, OUTGROWN]);
        s.run(["annotate", "mdep", &name, "loadline.dev/roll=1"]);
        eventually("the roll", || Ok((replica_sets(s).len() == sets.len() + 1).then_some(())));
        s.wait(&name, "as it is estimated now", |object| current(object) && !grown(object));
        s.wait_quiet(Duration::from_secs(2));
        let rolled: Vec<String> = replica_sets(s).difference(&sets).cloned().collect();
        assert!(matches!(rolled.as_slice(), [set] if set.starts_with(&format!("{name}-"))), "{rolled:?}");
        let now = templates(s);
        let changed: Vec<_> = before.keys().filter(|&name| now[name] != before[name]).collect();
        assert_eq!(changed, [&name]);
    });
}
