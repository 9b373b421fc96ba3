use serde_json::{Value, json};

use super::*;
use crate::controller::testing::{cluster, object, shape};
use crate::inventory::Node;
use crate::inventory::testing::gpu_node;

fn spec(precision: &str) -> Value {
    json!({
        "model": {"parameters": "70B"}, "precision": precision, "context": {"length": 8192},
        "parallelism": {"tensor": "auto"}, "engine": {"name": "vllm", "image": "pause:1"},
    })
}

fn seventy_billion() -> Model {
    let spec = object(&spec("bf16")).spec;
    Model { shape: Arc::new(crate::plan::resolve_pure(&spec).unwrap().unwrap()), catalog_repository: None }
}

/// What is resolved with the Deployment that is there.
fn resolved(precision: &str, nodes: Vec<Node>, present: Option<&Deployment>) -> Resolved {
    resolve(&object(&spec(precision)), &seventy_billion(), &cluster(nodes, Vec::new()), present)
}

/// The Deployment as the server has it, with so many ready pods.
fn live(resolved: &Resolved, ready: i32) -> Deployment {
    let Some(Built::Deployment(built)) = &resolved.built else { panic!("a Deployment: {resolved:?}") };
    let mut live = Value::clone(built);
    live["spec"]["template"]["spec"]["restartPolicy"] = json!("Always");
    live["status"] = json!({"readyReplicas": ready});
    serde_json::from_value(live).unwrap()
}

fn tensor(resolved: &Resolved) -> u64 {
    let Found::Planned(plan) = &resolved.found else { panic!("a plan: {resolved:?}") };
    plan.estimate.workload.tensor
}

#[test]
fn auto_stays_at_what_runs() {
    let a100 = || vec![gpu_node("a100", 81920, 4)];
    // Larger than any GPU that needs a second one.
    let with_larger = || [a100(), vec![gpu_node("large", 286_720, 4)]].concat();
    let started = resolved("bf16", a100(), None);
    assert_eq!((tensor(&started), started.kept), (4, None));
    assert_eq!(tensor(&resolved("bf16", with_larger(), None)), 1, "anew, one would do");
    let (serves, waits) = (live(&started, 1), live(&started, 0));
    for (case, precision, nodes, present, expected) in [
        ("a larger node comes", "bf16", with_larger(), &serves, (4, Some(4))),
        ("it comes while pods start", "bf16", with_larger(), &waits, (4, Some(4))),
        ("its own goes, and it serves", "bf16", vec![gpu_node("large", 286_720, 4)], &serves, (4, Some(4))),
        ("its own goes for good", "bf16", vec![gpu_node("single", 286_720, 1)], &waits, (1, None)),
        ("every node goes", "bf16", Vec::new(), &waits, (4, Some(4))),
        ("the spec is another", "int4", with_larger(), &serves, (1, None)),
    ] {
        let found = resolved(precision, nodes, Some(present));
        assert_eq!((tensor(&found), found.kept), expected, "{case}");
    }
}

#[test]
fn a_number_that_is_written_is_what_it_is() {
    let nodes = || cluster(vec![gpu_node("a100", 81920, 4)], Vec::new());
    let model = Model { shape: Arc::new(shape()), catalog_repository: None };
    let written = |ranks: i64| {
        let mut object = object(&spec("bf16"));
        object.spec.parallelism.as_mut().unwrap().tensor = Some(TensorParallel::Ranks(ranks));
        object
    };
    let present = live(&resolve(&written(4), &model, &nodes(), None), 1);
    let found = resolve(&written(2), &model, &nodes(), Some(&present));
    assert_eq!((tensor(&found), found.kept), (2, None));
}
