//! Models on a Hub that comes and goes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::scenario::{SETTLED, Scenario, current, eventually, model_deployment, scenario_with};
use crate::cluster::{PATIENCE, condition_of, items, text};
use crate::controlplane::harness::wait::until;
use crate::hub::sharded;
use crate::server::{Reply, Server};

/// Objects whose models are on the Hub.
const OBJECTS: usize = 50;
/// Those of them that run something.
const RUNNING: usize = 6;

fn from_hub(repository: &str, runs: bool) -> Value {
    let mut spec = json!({"model": {"huggingFace": {"repository": repository}}, "context": {"length": 1024}});
    if !runs {
        spec["engine"] = json!({"name": "none"});
    }
    spec
}

/// The statuses, by name.
fn statuses(s: &Scenario) -> BTreeMap<String, Value> {
    let list: Value = serde_json::from_str(&s.run(["get", "modeldeployments", "-o", "json"])).unwrap();
    let of = |object: &Value| (text(object, "/metadata/name").to_owned(), object["status"].clone());
    items(&list).iter().map(of).collect()
}

/// The repositories that were asked for.
fn asked(server: &Server, from: usize) -> BTreeSet<String> {
    server
        .seen()
        .iter()
        .skip(from)
        .filter_map(|seen| seen.path.split('/').nth(2).map(str::to_owned))
        .collect()
}

#[test]
fn a_restart_while_the_hub_is_down_forgets_nothing() {
    let is_down = Arc::new(AtomicBool::new(false));
    let server = Server::start({
        let is_down = Arc::clone(&is_down);
        move |seen, _| {
            if is_down.load(Ordering::Relaxed) {
                Reply::Status(503, Vec::new(), Vec::new())
            } else {
                sharded(seen)
            }
        }
    });
    let endpoint = format!("--hub-endpoint={}", server.url());
    let options = ["--label-grace=0s", &endpoint];
    scenario_with("hub", &options, |s| {
        let objects: Vec<Value> = (0..OBJECTS)
            .map(|at| model_deployment(&format!("m{at}"), &from_hub(&format!("org/m{at}"), at < RUNNING)))
            .collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        s.try_apply(&list.to_string()).unwrap().output().unwrap();
        let is_settled = |object: &Value| {
            current(object) && condition_of(object, "Ready").is_some_and(|ready| ready["status"] == "True")
        };
        for at in (0..OBJECTS).rev() {
            s.wait(&format!("m{at}"), "ready", is_settled);
        }
        s.wait_quiet(SETTLED);
        let before = statuses(s);

        s.cluster.kill_controller();
        is_down.store(true, Ordering::Relaxed);
        let (mark, requests) = (s.cluster.mark().unwrap(), server.seen().len());
        s.cluster.run_controller(&options).unwrap();
        // Each of them has been asked for, in vain.
        let all = until("the Hub to be asked for every model", 3 * PATIENCE, || {
            Ok((asked(&server, requests).len() == OBJECTS).then_some(()))
        });
        all.unwrap();
        assert_eq!(s.writes_since(mark).unwrap(), Vec::<String>::new(), "nothing is known that is new");
        assert_eq!(statuses(s), before);

        // What runs can be scaled all the same.
        s.run(["scale", "mdep", "m0", "--replicas=2"]);
        eventually("the Deployment to be scaled", || {
            Ok((s.get("deployment", "m0")?["spec"]["replicas"] == 2).then_some(()))
        });
        assert_eq!(s.writes_since(mark).unwrap(), ["patch deployments hub/m0"]);
        let deployment = s.get("deployment", "m0").unwrap();
        assert!(!text(&deployment, "/spec/template/spec/containers/0/image").is_empty(), "{deployment:#}");
        assert_eq!(statuses(s), before);

        // And what names another model is told so.
        s.apply("m49", &from_hub("org/another", false));
        s.wait("m49", "Pending", |object| {
            current(object)
                && condition_of(object, "Ready").is_some_and(|ready| {
                    ready["reason"] == "EstimatePending" || ready["reason"] == "ModelNotResolved"
                })
        });
    });
}

#[test]
fn a_namespace_whose_models_never_come_delays_no_other() {
    let server =
        Server::start(|seen, _| if seen.path.starts_with("/slow/") { Reply::Stalled } else { sharded(seen) });
    let endpoint = format!("--hub-endpoint={}", server.url());
    scenario_with("endless", &["--label-grace=0s", &endpoint], |s| {
        s.cluster.create_namespace("endless-other").unwrap();
        let objects: Vec<Value> = (0..200)
            .map(|at| model_deployment(&format!("m{at}"), &from_hub(&format!("slow/m{at}"), false)))
            .collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        s.try_apply(&list.to_string()).unwrap().output().unwrap();
        s.wait("m199", "Pending", |object| condition_of(object, "Ready").is_some());
        s.namespace = "endless-other".to_owned();
        s.apply("other", &from_hub("org/m", false));
        let began = Instant::now();
        s.wait("other", "a verdict", |object| current(object) && !object["status"]["estimate"].is_null());
        let took = began.elapsed();
        assert!(took < Duration::from_secs(2), "{took:?}");
    });
}
