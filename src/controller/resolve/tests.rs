use serde_json::{Value, json};

use super::*;
use crate::api::v1alpha1::TensorParallel;
use crate::controller::testing::{cluster, object, shape};
use crate::inventory::Node;
use crate::inventory::testing::gpu_node;
use crate::launch::record::ROLL_ANNOTATION;

fn spec(precision: &str) -> Value {
    json!({
        "model": {"parameters": "70B"}, "precision": precision, "context": {"length": 8192},
        "parallelism": {"tensor": "auto"}, "engine": {"name": "vllm", "image": "pause:1"},
    })
}

fn seventy_billion() -> ModelShape {
    let spec = object(&spec("bf16")).spec;
    crate::plan::resolve_pure(&spec).unwrap().unwrap()
}

/// What comes of an object, planned anew.
fn planned(
    object: &ModelDeployment,
    shape: &ModelShape,
    inventory: &Inventory,
    deployment: Option<&Deployment>,
    pods: &[PodFacts],
) -> Resolved {
    resolve(object, &Arc::new(shape.clone()), inventory, Present { deployment, pods, images: None }, |_| None)
}

/// What is resolved with the Deployment that is there.
fn resolved(precision: &str, nodes: Vec<Node>, present: Option<&Deployment>) -> Resolved {
    planned(&object(&spec(precision)), &seventy_billion(), &cluster(nodes, Vec::new()), present, &[])
}

/// The Deployment as the server has it, with so many ready pods.
fn live(resolved: &Resolved, ready: i32) -> Deployment {
    let Desired::Deployment(built) = &resolved.desired else { panic!("a Deployment: {resolved:?}") };
    let mut live = Value::clone(built);
    live["spec"]["template"]["spec"]["restartPolicy"] = json!("Always");
    live["status"] = json!({"readyReplicas": ready});
    serde_json::from_value(live).unwrap()
}

/// The ranks, and whether the pods stay as they were written.
fn tensor(resolved: &Resolved) -> (u64, bool) {
    let Found::Planned(plan) = &resolved.found else { panic!("a plan: {resolved:?}") };
    (plan.estimate.workload.tensor, plan.kept.is_some())
}

#[test]
fn auto_stays_at_what_runs() {
    let a100 = || vec![gpu_node("a100", 81920, 4)];
    // Larger than any GPU that needs a second one.
    let with_larger = || [a100(), vec![gpu_node("large", 286_720, 4)]].concat();
    let started = resolved("bf16", a100(), None);
    assert_eq!(tensor(&started), (4, false));
    assert_eq!(tensor(&resolved("bf16", with_larger(), None)), (1, false), "anew, one would do");
    let (serves, waits) = (live(&started, 1), live(&started, 0));
    for (case, precision, nodes, present, expected) in [
        ("a larger node comes", "bf16", with_larger(), &serves, (4, true)),
        ("it comes while pods start", "bf16", with_larger(), &waits, (4, true)),
        ("its own goes, and it serves", "bf16", vec![gpu_node("large", 286_720, 4)], &serves, (4, true)),
        ("its own goes for good", "bf16", vec![gpu_node("single", 286_720, 1)], &waits, (1, false)),
        ("every node goes", "bf16", Vec::new(), &waits, (4, true)),
        ("the spec is another", "int4", with_larger(), &serves, (1, false)),
    ] {
        let found = resolved(precision, nodes, Some(present));
        assert_eq!(tensor(&found), expected, "{case}");
    }
}

#[test]
fn a_number_that_is_written_is_what_it_is() {
    let nodes = || cluster(vec![gpu_node("a100", 81920, 4)], Vec::new());
    let model = shape();
    let written = |ranks: i64| {
        let mut object = object(&spec("bf16"));
        object.spec.parallelism.as_mut().unwrap().tensor = Some(TensorParallel::Ranks(ranks));
        object
    };
    let present = live(&planned(&written(4), &model, &nodes(), None, &[]), 1);
    let found = planned(&written(2), &model, &nodes(), Some(&present), &[]);
    assert_eq!(tensor(&found), (2, false));
}

/// What release 0.1.0 wrote for these specs, a line each: `name`, `spec` and `deployment`.
const RELEASE_0_1_0: &str = include_str!("../../../tests/fixtures/releases/0.1.0.jsonl");

/// The shape of a spec's model; of one that is read from afar, that of Llama 3.1 8B.
fn shape_of(object: &ModelDeployment) -> ModelShape {
    match crate::plan::resolve_pure(&object.spec) {
        Some(shape) => shape.unwrap(),
        None => crate::model::catalog::shape("llama-3.1-8b").unwrap(),
    }
}

#[test]
fn what_an_earlier_release_wrote_stays_as_it_was_written() {
    let inventory = cluster(crate::inventory::testing::golden(), Vec::new());
    let lines: Vec<Value> = RELEASE_0_1_0.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.len() >= 40, "{}", lines.len());
    for line in lines {
        let name = line["name"].as_str().unwrap();
        let mut object = object(&line["spec"]);
        object.metadata.name = Some(name.to_owned());
        // As the earlier release left it: no record, and a status that says that it was written.
        object.status = Some(
            serde_json::from_value(json!({"observedGeneration": 3, "conditions": [{
                "type": "Ready", "status": "False", "reason": "Progressing", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }]}))
            .unwrap(),
        );
        let present: Deployment = serde_json::from_value(line["deployment"].clone()).unwrap();
        let before = serde_json::to_value(&present).unwrap()["spec"]["template"].clone();
        let shape = shape_of(&object);
        for (replicas, step) in (object.spec.replicas..).zip(["upgraded", "scaled", "again"]) {
            object.spec.replicas = replicas;
            let found = planned(&object, &shape, &inventory, Some(&present), &[]);
            let Desired::Deployment(wanted) = &found.desired else { panic!("{name}: {:?}", found.desired) };
            assert_eq!(wanted["spec"]["template"], before, "{name}, {step}");
            assert_eq!(wanted["spec"]["replicas"], json!(replicas), "{name}, {step}");
        }
        // A change of the spec, or a roll that is asked for, makes them anew.
        object.spec.safety_margin = Some("1.31".to_owned());
        object.metadata.generation = Some(4);
        let found = planned(&object, &shape, &inventory, Some(&present), &[]);
        if let (Desired::Deployment(wanted), Found::Planned(plan)) = (&found.desired, &found.found) {
            let is_kept = wanted["spec"]["template"] == before;
            assert_eq!(
                is_kept,
                plan.launch.obstacle().is_some() || plan.decision.reason() == Reason::NeverFits,
                "{name}"
            );
        }
    }
}

/// The object's Deployment as it was written, with a record.
fn written(object: &ModelDeployment, inventory: &Inventory) -> Deployment {
    let found = planned(object, &shape_of(object), inventory, None, &[]);
    let Desired::Deployment(wanted) = found.desired else { panic!("{:?}", found.found) };
    serde_json::from_value(*wanted).unwrap()
}

#[test]
fn what_is_written_stays_until_the_spec_changes_or_a_roll_is_asked_for() {
    let inventory = cluster(crate::inventory::testing::golden(), Vec::new());
    let spec = json!({"model": {"catalog": "llama-3.1-8b"}, "context": {"length": 8192}});
    let before = object(&spec);
    let mut present = written(&before, &inventory);
    // An estimate that came out smaller at the time.
    let annotations = present.metadata.annotations.as_mut().unwrap();
    let mut record: Value = serde_json::from_str(&annotations["loadline.dev/record"]).unwrap();
    record["demand"]["perGpu"] = json!(1 << 30);
    record["template"]["spec"]["containers"][0]["image"] = json!("vllm/vllm-openai:v0.1.0");
    annotations.insert("loadline.dev/record".to_owned(), record.to_string());
    let image = |object: &ModelDeployment| {
        let found = planned(object, &shape_of(object), &inventory, Some(&present), &[]);
        let Desired::Deployment(wanted) = &found.desired else { panic!("{:?}", found.desired) };
        let Found::Planned(plan) = &found.found else { panic!("{:?}", found.found) };
        let image = wanted["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned();
        (image.ends_with(":v0.1.0"), plan.is_outgrown(), wanted["spec"]["replicas"].as_i64().unwrap())
    };
    assert_eq!(image(&before), (true, true, 1), "as it was written");
    let mut scaled = before.clone();
    scaled.spec.replicas = 4;
    assert_eq!(image(&scaled), (true, true, 4), "how many is no part of the template");
    let mut rolled = before.clone();
    rolled.metadata.annotations = Some([(ROLL_ANNOTATION.to_owned(), "1".to_owned())].into());
    assert_eq!(image(&rolled), (false, false, 1), "a roll is asked for");
    let mut changed = before;
    changed.spec.context.as_mut().unwrap().length = Some(4096);
    assert_eq!(image(&changed), (false, false, 1), "another spec");
}

#[test]
fn an_edit_that_cannot_be_run_keeps_the_pods_of_the_earlier_spec() {
    let inventory = cluster(crate::inventory::testing::golden(), Vec::new());
    let spec = |more: Value| {
        let mut spec =
            json!({"model": {"catalog": "llama-3.1-8b"}, "context": {"length": 8192}, "replicas": 2});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        object(&spec)
    };
    let present = written(&spec(json!({})), &inventory);
    let before = serde_json::to_value(&present).unwrap()["spec"]["template"].clone();
    for (case, edited, expected) in [
        ("a format that the engine cannot load", spec(json!({"precision": "awq-int4"})), Some("CannotRun")),
        ("nothing says where the weights are", spec(json!({"model": {"parameters": "8B"}})), Some("FitsNow")),
        ("refused", spec(json!({"context": {"length": 0}})), Some("InvalidSpec")),
        ("no GPU has it", spec(json!({"context": {"length": 8192, "sequences": 60000}})), Some("NeverFits")),
        ("an estimate only is asked for", spec(json!({"engine": {"name": "none"}})), None),
    ] {
        let found = planned(&edited, &shape_of(&edited), &inventory, Some(&present), &[]);
        match (&found.desired, expected) {
            (Desired::None, None) => {}
            (Desired::Deployment(wanted), Some(reason)) => {
                assert_eq!(wanted["spec"]["template"], before, "{case}");
                let outcome = crate::render::Outcome {
                    namespace: String::new(),
                    name: String::new(),
                    origin: crate::render::Origin::default(),
                    workload: None,
                    found: found.found,
                };
                assert_eq!(outcome.reason().as_str(), reason, "{case}");
            }
            (other, _) => panic!("{case}: {other:?}"),
        }
    }
    let found = unresolved(Found::Pending, &spec(json!({"replicas": 5})), Some(&present));
    let Desired::Deployment(wanted) = found.desired else { panic!("{:?}", found.desired) };
    assert_eq!((&wanted["spec"]["template"], &wanted["spec"]["replicas"]), (&before, &json!(5)));
    assert_eq!(unresolved(Found::Pending, &spec(json!({})), None).desired, Desired::AsItIs);
}

#[test]
fn new_pods_take_the_place_of_old_ones_in_a_way_that_ends() {
    use crate::inventory::testing::{gpu_node, gpu_pod};
    let spec = |length: u64, rollout: Option<&str>| {
        let mut spec = json!({"model": {"catalog": "llama-3.1-8b"}, "context": {"length": length}});
        spec["rollout"] = rollout.map_or(Value::Null, |rollout| json!(rollout));
        object(&spec)
    };
    let own = |name: &str| crate::inventory::Pod {
        model_deployment: Some("llama".to_owned()),
        namespace: "team-a".to_owned(),
        ..gpu_pod(name, "l4", 1)
    };
    let others = |gpus: u64| gpu_pod("other", "l4", gpus);
    let waits = PodFacts {
        unscheduled: Some(crate::inventory::pod_facts::Said {
            reason: "Unschedulable".to_owned(),
            message: "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.".to_owned(),
        }),
        ..PodFacts::default()
    };
    for (case, pods, length, rollout, facts, expected) in [
        ("a GPU is free", vec![own("a"), others(2)], 4096, None, vec![], Replacement::Surge),
        ("none is", vec![own("a"), others(3)], 4096, None, vec![], Replacement::InPlace(1)),
        ("its own would not do either", vec![others(4)], 4096, None, vec![], Replacement::Surge),
        ("nothing is replaced", vec![own("a"), others(3)], 8192, None, vec![], Replacement::Surge),
        (
            "the free GPU was taken meanwhile",
            vec![own("a"), others(3)],
            8192,
            None,
            vec![waits.clone()],
            Replacement::InPlace(1),
        ),
        (
            "the user wants to wait",
            vec![own("a"), others(3)],
            4096,
            Some("Surge"),
            vec![],
            Replacement::Surge,
        ),
        ("the user wants it so", vec![own("a")], 4096, Some("InPlace"), vec![], Replacement::InPlace(1)),
        (
            "the user wants all to go first",
            vec![own("a")],
            4096,
            Some("Recreate"),
            vec![],
            Replacement::Recreate,
        ),
    ] {
        let inventory = cluster(vec![gpu_node("l4", 23034, 4)], pods);
        let present = written(&spec(8192, None), &inventory);
        let edited = spec(length, rollout);
        let found = planned(&edited, &shape_of(&edited), &inventory, Some(&present), &facts);
        let Desired::Deployment(wanted) = found.desired else { panic!("{case}: {:?}", found.desired) };
        let wanted: Deployment = serde_json::from_value(*wanted).unwrap();
        assert_eq!(Replacement::of(&wanted), Some(expected), "{case}");
    }
}

#[test]
fn in_place_ends_also_where_not_all_replicas_run() {
    use crate::inventory::testing::{gpu_node, gpu_pod};
    let spec = |replicas: u64, tensor: u64, length: u64| {
        object(&json!({
            "model": {"catalog": "llama-3.1-8b"}, "context": {"length": length}, "replicas": replicas,
            "parallelism": {"tensor": tensor}, "rollout": "InPlace",
        }))
    };
    let own = crate::inventory::Pod {
        model_deployment: Some("llama".to_owned()),
        namespace: "team-a".to_owned(),
        ..gpu_pod("own", "l4", 4)
    };
    let inventory = cluster(vec![gpu_node("l4", 23034, 4)], vec![own]);
    for (case, replicas, ready, tensor, expected) in [
        ("all run, and will", 4, 4, 1, 1),
        ("one of four runs", 4, 1, 1, 4),
        ("two of four will", 4, 4, 2, 3),
        ("one runs, and is replaced", 1, 1, 4, 1),
        ("none runs", 2, 0, 1, 2),
    ] {
        let mut present = written(&spec(replicas, 1, 8192), &inventory);
        present.status = Some(serde_json::from_value(json!({"readyReplicas": ready})).unwrap());
        let edited = spec(replicas, tensor, 4096);
        let found = planned(&edited, &shape_of(&edited), &inventory, Some(&present), &[]);
        assert_eq!(found.replacement(), Replacement::InPlace(expected), "{case}");
    }
}

/// The setting is for what is made anew: no pod is replaced because images are kept elsewhere now.
#[test]
fn images_are_pulled_from_where_they_are_kept_once_the_spec_is_another() {
    let images = Images { registry: Some("r.example".to_owned()), ..Images::default() };
    let model = crate::model::catalog::shape("llama-3.1-8b").unwrap();
    let nodes = cluster(vec![gpu_node("a100", 81920, 1)], Vec::new());
    let with = |precision: &str, deployment: Option<&Deployment>, images: Option<&Images>| {
        let spec = json!({"model": {"catalog": "llama-3.1-8b"}, "precision": precision, "context": {"length": 4096}, "engine": {"name": "vllm"}});
        let present = Present { deployment, images, ..Present::default() };
        resolve(&object(&spec), &Arc::new(model.clone()), &nodes, present, |_| None)
    };
    let image = |resolved: &Resolved| {
        let Desired::Deployment(built) = &resolved.desired else { panic!("a Deployment: {resolved:?}") };
        built["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()
    };
    let before = with("bf16", None, None);
    assert!(image(&before).starts_with("vllm/vllm-openai:"), "{}", image(&before));
    let present = live(&before, 1);
    assert_eq!(with("bf16", Some(&present), Some(&images)).desired, before.desired);
    let mirrored = format!("r.example/{}", image(&before));
    assert_eq!(image(&with("fp8", Some(&present), Some(&images))), mirrored);
    assert_eq!(image(&with("bf16", None, Some(&images))), mirrored);
}
