//! A controller that is killed, an object that cannot be read, an API server that goes away: what is written in the end
//! is the same.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};

use super::numbers::Numbers;
use super::scenario::{SETTLED, Scenario, current, eventually, model_deployment, scenario};
use crate::cluster::{PATIENCE, condition_of, items, text};
use crate::controlplane::harness::wait::until;

/// What the controller has made of the scenario's objects, by kind, name and part, less what differs from one time to
/// the next.
fn outcome(s: &Scenario) -> BTreeMap<String, Value> {
    let list = s.run(["get", "modeldeployments,deployments", "-o", "json"]);
    let list: Value = serde_json::from_str(&list).unwrap();
    let mut outcome = BTreeMap::new();
    for object in items(&list) {
        let name = format!("{} {}", text(object, "/kind"), text(object, "/metadata/name"));
        outcome.insert(format!("{name} labels"), object["metadata"]["labels"].clone());
        outcome.insert(format!("{name} spec"), object["spec"].clone());
        // A Deployment's status is the controller manager's.
        if object["kind"] == "ModelDeployment" {
            let mut status = object["status"].clone();
            status.as_object_mut().unwrap().remove("observedGeneration");
            for condition in status["conditions"].as_array_mut().unwrap() {
                for changing in ["lastTransitionTime", "observedGeneration"] {
                    condition.as_object_mut().unwrap().remove(changing);
                }
            }
            outcome.insert(format!("{name} status"), status);
        }
    }
    outcome
}

/// A spec for an object. Two change between what runs at once; what waits and what is wrong stay so, for what ran before
/// such a change rightly runs on, and whether it ever ran depends on the moment.
fn spec(name: &str, which: u64) -> Value {
    match (name, which) {
        ("m2", _) => {
            json!({"model": {"parameters": "70B"}, "precision": "bf16", "context": {"length": 8192}})
        }
        // Its 8 KV heads cannot be shared by 3.
        ("m3", _) => json!({"model": {"catalog": "llama-3.1-8b"}, "parallelism": {"tensor": 3}}),
        (_, 0) => json!({"model": {"parameters": "8B"}, "precision": "int4", "context": {"length": 8192}}),
        _ => json!({"model": {"parameters": "8B"}, "precision": "fp16", "context": {"length": 8192}}),
    }
}

#[test]
fn killed_at_any_moment_it_ends_in_the_same_state() {
    scenario("killed", |s| {
        let mut numbers = Numbers(2026);
        let mut wanted = BTreeMap::new();
        for round in 0..16 {
            let name = format!("m{}", numbers.below(4));
            if numbers.below(4) == 0 {
                s.run(["delete", "mdep", &name, "--ignore-not-found", "--wait=false"]);
                wanted.remove(&name);
            } else {
                let spec = spec(&name, numbers.below(2));
                s.apply(&name, &spec);
                wanted.insert(name, spec);
            }
            // Not a wait for anything: the moment of the blow.
            std::thread::sleep(Duration::from_millis(numbers.below(250)));
            s.cluster.kill_controller();
            // Something that it can only find out when it is back, and that moves no pod: none prefers the largest.
            s.run([if round % 2 == 0 { "cordon" } else { "uncordon" }, "h100"]);
            s.cluster.run_controller(&["--label-grace=0s"]).unwrap();
        }
        assert!(wanted.len() >= 2, "{wanted:?}");
        let settled = |s: &Scenario| {
            for name in wanted.keys() {
                s.wait(name, "a verdict", |object| {
                    current(object) && condition_of(object, "Ready").is_some()
                });
            }
        };
        settled(s);
        for name in (0..4).map(|at| format!("m{at}")).filter(|name| !wanted.contains_key(name)) {
            s.wait_gone("deployment", &name);
        }
        s.wait_quiet(SETTLED);
        let with_kills = outcome(s);
        let names = wanted.keys().map(String::as_str);
        s.run(["delete", "mdep", "--timeout=60s"].into_iter().chain(names));
        eventually("the pods to go", || {
            Ok(items(&s.kubectl(["get", "pods", "-o", "json"])?.json()?).is_empty().then_some(()))
        });

        for (name, spec) in &wanted {
            s.apply(name, spec);
        }
        settled(s);
        let mut differs = String::new();
        let same = until("the same state as with kills", PATIENCE, || {
            let without = outcome(s);
            assert_eq!(with_kills.keys().collect::<Vec<_>>(), without.keys().collect::<Vec<_>>());
            differs = with_kills
                .iter()
                .filter(|&(part, found)| *found != without[part])
                .map(|(part, found)| format!("{part}\nwith kills: {found:#}\nwithout: {:#}", without[part]))
                .collect::<Vec<_>>()
                .join("\n");
            Ok(differs.is_empty().then_some(()))
        });
        same.with_context(|| differs).unwrap();
    });
}

#[test]
fn an_object_that_cannot_be_read_stops_no_other() {
    scenario("malformed", |s| {
        // As after a downgrade of the CRD: the server holds what the types do not.
        s.cluster.open_schema().unwrap();
        let strange = [
            ("number", json!({"model": {"parameters": 8}})),
            ("list", json!({"model": []})),
            ("empty", json!({})),
            ("context", json!({"model": {"parameters": "8B"}, "context": "many"})),
        ];
        for (name, spec) in &strange {
            eventually("the open schema to be in force", || {
                Ok(s.try_apply(&model_deployment(name, spec).to_string())?.success().then_some(()))
            });
        }
        s.apply("before", &json!({"model": {"parameters": "8B"}, "precision": "int4"}));
        s.wait_ready("before", "True", "Available");
        // Also from the start: the first list holds them all.
        s.cluster.kill_controller();
        s.cluster.run_controller(&["--label-grace=0s"]).unwrap();
        s.apply("after", &json!({"model": {"parameters": "8B"}, "precision": "int4"}));
        s.wait_ready("after", "True", "Available");
        for (name, _) in &strange {
            s.wait_pods(name, 0, 0);
        }
    });
}

#[test]
fn it_ends_when_asked_to() {
    scenario("sigterm", |s| {
        s.apply("llama", &json!({"model": {"parameters": "8B"}, "precision": "int4"}));
        s.cluster.stop_controller().unwrap();
        s.cluster.run_controller(&["--label-grace=0s"]).unwrap();
        s.wait_ready("llama", "True", "Available");
    });
}

#[test]
fn health_and_metrics_are_served() {
    scenario("metrics", |s| {
        s.apply("llama", &json!({"model": {"parameters": "8B"}, "precision": "int4"}));
        s.wait_ready("llama", "True", "Available");
        for path in ["/healthz", "/readyz"] {
            let answer = s.cluster.controller_answer(path).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        }
        let metrics = s.cluster.controller_answer("/metrics").unwrap();
        assert!(metrics.contains("loadline_reconciles_total"), "{metrics}");
        for series in [
            "loadline_model_deployments{ready=\"True\",reason=\"Available\"} 1",
            "loadline_model_deployment_gpus{namespace=\"metrics\",name=\"llama\"} 1",
            "loadline_time_to_decision_seconds_count",
            "loadline_gpu_pools{label=\"believed\"}",
            "loadline_build_info{version=",
            "process_resident_memory_bytes",
        ] {
            assert!(metrics.contains(series), "{series} is not in\n{metrics}");
        }
        assert!(metrics.ends_with("# EOF\n"), "{metrics}");
    });
}

/// What went while the API server was away is told of no more: no event says that it is gone.
#[test]
fn objects_that_go_while_the_watch_is_down_are_counted_no_more() {
    scenario("uncounted", |s| {
        let spec = json!({"model": {"parameters": "8B"}, "precision": "int4", "context": {"length": 8192}});
        for name in ["stays", "goes"] {
            s.apply(name, &spec);
            s.wait_ready(name, "True", "Available");
        }
        let counts = |s: &Scenario, name: &str| {
            let metrics = s.cluster.controller_answer("/metrics")?;
            let series =
                format!("loadline_model_deployment_gpus{{namespace=\"uncounted\",name=\"{name}\"}} 1");
            anyhow::Ok(metrics.contains(&series))
        };
        assert!(counts(s, "goes").unwrap() && counts(s, "stays").unwrap());
        // The controller is stopped as a whole: it sees neither the deletion nor the end of its watch.
        s.cluster.suspend_controller().unwrap();
        s.run(["delete", "modeldeployment", "goes"]);
        s.cluster.plane.restart_api_server(|| Ok(())).unwrap();
        s.cluster.resume_controller().unwrap();
        until("what is gone to be counted no more", PATIENCE, || Ok((!counts(s, "goes")?).then_some(())))
            .unwrap();
        assert!(counts(s, "stays").unwrap());
    });
}

/// Whoever deletes the definition by mistake and puts it back finds the controller at work again, and sees meanwhile that it is not.
#[test]
fn without_its_definition_the_controller_is_not_ready_and_with_it_it_is_soon() {
    scenario("undefined", |s| {
        let spec = json!({"model": {"parameters": "8B"}, "precision": "int4", "context": {"length": 8192}});
        s.apply("llama", &spec);
        s.wait_ready("llama", "True", "Available");
        let is_ready = || anyhow::Ok(s.cluster.controller_answer("/readyz")?.starts_with("HTTP/1.1 200"));
        let name = "crd/modeldeployments.loadline.dev";
        s.run(["delete", name]);
        let gone =
            until(
                "the controller to say that it is not ready",
                PATIENCE,
                || Ok((!is_ready()?).then_some(())),
            );
        let answer = s.cluster.controller_answer("/readyz").unwrap();
        // For the other scenarios, whatever comes of this one.
        s.cluster.install_chart(&[]).unwrap();
        gone.unwrap();
        assert!(answer.contains("the CustomResourceDefinition modeldeployments.loadline.dev"), "{answer}");
        let back = Instant::now();
        until("the controller to be ready again", PATIENCE, || Ok(is_ready()?.then_some(()))).unwrap();
        assert!(back.elapsed() < Duration::from_secs(15), "it took {:?}", back.elapsed());
        s.apply("again", &spec);
        s.wait_ready("again", "True", "Available");
    });
}

#[test]
fn an_api_server_that_dies_and_comes_back_finds_the_controller_at_work() {
    scenario("apiserver", |s| {
        s.apply(
            "before",
            &json!({"model": {"parameters": "8B"}, "precision": "int4", "context": {"length": 8192}}),
        );
        s.wait_ready("before", "True", "Available");
        s.wait_quiet(SETTLED);
        let before = outcome(s);
        s.cluster.plane.restart_api_server(|| Ok(())).unwrap();
        // It did not die of it, and what it had done it leaves alone.
        assert!(s.cluster.controller_answer("/healthz").unwrap().starts_with("HTTP/1.1 200"));
        s.apply(
            "after",
            &json!({"model": {"parameters": "8B"}, "precision": "fp16", "context": {"length": 8192}}),
        );
        s.wait_ready("after", "True", "Available");
        s.forget_refusals();
        let now = outcome(s);
        for (part, found) in before.iter().filter(|(part, _)| !part.ends_with("status")) {
            assert_eq!(now.get(part), Some(found), "{part}");
        }
        // A watch that was cut still sees what changes: nodes, too.
        s.run(["cordon", "l4"]);
        s.wait_node("after", "l4", "NodeCordoned");
    });
}

#[test]
fn a_namespace_that_goes_takes_everything_with_it() {
    scenario("going", |s| {
        let spec = json!({"model": {"parameters": "8B"}, "precision": "int4", "context": {"length": 8192}});
        for name in ["one", "two", "three"] {
            s.apply(name, &spec);
        }
        // At once, while the controller is at them; and new ones come until the server refuses them.
        s.run(["delete", "namespace", "going", "--wait=false"]);
        for at in 0..5 {
            let ran = s.try_apply(&model_deployment(&format!("late{at}"), &spec).to_string()).unwrap();
            if !ran.success() {
                let refusal = ran.refusal().unwrap();
                assert!(refusal.contains("being terminated") || refusal.contains("not found"), "{refusal}");
            }
        }
        until("the namespace to go", PATIENCE, || {
            let list =
                s.cluster.kubectl(["get", "namespace", "going", "-o", "name", "--ignore-not-found"])?;
            Ok(list.output()?.trim().is_empty().then_some(()))
        })
        .unwrap();
        // The controller is at work for others still.
        s.cluster.create_namespace("going").unwrap();
        s.apply("again", &spec);
        s.wait_ready("again", "True", "Available");
    });
}
