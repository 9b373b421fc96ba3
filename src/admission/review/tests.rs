use serde_json::json;

use super::super::wire::Kind;
use super::*;
use crate::inventory::testing::golden;
use crate::inventory::{Node, Snapshot, Sources};
use crate::plan::resolve_pure;

fn cluster(nodes: Vec<Node>) -> Inventory {
    let nodes = nodes.into_iter().map(|node| (node.name.clone(), Arc::new(node))).collect();
    Inventory::new(Snapshot { nodes, ..Snapshot::default() }, &Sources::default())
}

fn object(spec: Value) -> Value {
    json!({"apiVersion": "loadline.dev/v1alpha1", "kind": "ModelDeployment",
        "metadata": {"name": "llama", "namespace": "team-a"}, "spec": spec})
}

fn spec(fields: Value) -> Value {
    let mut spec = json!({"model": {"catalog": "llama-3.1-8b"}, "precision": "bf16",
        "context": {"length": 8192}, "engine": {"name": "vllm"}, "replicas": 1});
    for (key, value) in fields.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec
}

fn request(operation: Operation, object: Option<Value>, old_object: Option<Value>) -> Request {
    Request {
        uid: "1".to_owned(),
        kind: Kind::default(),
        sub_resource: String::new(),
        namespace: "team-a".to_owned(),
        name: "llama".to_owned(),
        operation,
        object,
        old_object,
        dry_run: None,
    }
}

fn shape(object: &ModelDeployment) -> Result<Arc<ModelShape>, Found> {
    let shape = resolve_pure(&object.spec).ok_or(Found::Pending)?;
    Ok(Arc::new(shape.map_err(Found::from)?))
}

fn ask(request: &Request, mode: AdmissionMode, inventory: Option<&Inventory>) -> Answer {
    review(request, Known { mode, inventory }, shape)
}

fn create(fields: Value, mode: AdmissionMode) -> Answer {
    let request = request(Operation::Create, Some(object(spec(fields))), None);
    ask(&request, mode, Some(&cluster(golden())))
}

fn update(old: Value, new: Value) -> Answer {
    let request = request(Operation::Update, Some(object(spec(new))), Some(object(spec(old))));
    ask(&request, AdmissionMode::Deny, Some(&cluster(golden())))
}

/// Needs more than any GPU of the cluster has.
fn large() -> Value {
    json!({"model": {"catalog": "llama-3.1-70b"}})
}

#[test]
fn what_fits_passes_and_what_does_not_is_answered_as_asked() {
    assert_eq!(create(json!({}), AdmissionMode::Deny), Answer::Passed);
    for (mode, word) in
        [(AdmissionMode::Deny, "denied"), (AdmissionMode::Warn, "warned"), (AdmissionMode::Ignore, "allowed")]
    {
        assert_eq!(create(large(), mode).word(), word);
        // What the object says goes before what its namespace does.
        for default in [AdmissionMode::Deny, AdmissionMode::Warn, AdmissionMode::Ignore] {
            let mut fields = large();
            fields["admission"] = json!(mode);
            assert_eq!(create(fields, default).word(), word, "{default:?}");
        }
    }
}

#[test]
fn the_words_are_those_of_plan() {
    let (text, is_invalid) = create(large(), AdmissionMode::Deny).denial().unwrap();
    assert!(
        !is_invalid && text.starts_with("no node takes it now: needs ") && text.contains("largest GPU"),
        "{text}"
    );
    let text = create(large(), AdmissionMode::Warn).warning().unwrap();
    assert!(text.starts_with("accepted, and its pods wait: needs "), "{text}");
    let (text, is_invalid) =
        create(json!({"parallelism": {"tensor": 3}}), AdmissionMode::Ignore).denial().unwrap();
    assert!(is_invalid && text.starts_with("spec.parallelism.tensor: "), "{text}");
}

#[test]
fn what_can_never_be_right_is_refused_whatever_is_asked_and_known() {
    for fields in [
        json!({"replicas": -1}),
        json!({"model": {}}),
        json!({"model": {"catalog": "no-such-model"}}),
        json!({"model": {"config": {"model_type": "no-such-family"}}}),
        json!({"precision": "bf17"}),
        json!({"context": "many"}),
        json!({"safetyMargin": "0.5"}),
    ] {
        let word = create(fields.clone(), AdmissionMode::Ignore).word();
        assert_eq!(word, "denied", "{fields}");
    }
    let wrong = request(Operation::Create, Some(object(spec(json!({"replicas": -1})))), None);
    assert_eq!(ask(&wrong, AdmissionMode::Warn, None).word(), "denied");
}

#[test]
fn what_is_not_known_is_no_reason_to_refuse() {
    let asked = request(Operation::Create, Some(object(spec(json!({"admission": "Deny"})))), None);
    assert_eq!(ask(&asked, AdmissionMode::Deny, None), Answer::ClusterUnread);
    let afar = json!({"model": {"huggingFace": {"repository": "org/model"}}});
    assert_eq!(create(afar.clone(), AdmissionMode::Deny), Answer::ModelUnknown { is_silent: false });
    assert_eq!(create(afar, AdmissionMode::Ignore).warning(), None);
    // Nodes with GPUs and no label that says what they have.
    let unlabelled = crate::inventory::testing::node("n", &[], &[("nvidia.com/gpu", 8)]);
    let asked = request(Operation::Create, Some(object(spec(json!({})))), None);
    assert_eq!(ask(&asked, AdmissionMode::Deny, Some(&cluster(vec![unlabelled]))).word(), "warned");
}

#[test]
fn deletes_statuses_and_metadata_are_never_refused() {
    let wrong = object(spec(json!({"replicas": -1})));
    let mut labelled = wrong.clone();
    labelled["metadata"]["labels"] = json!({"team": "a"});
    let mut going = object(spec(json!({"replicas": -2})));
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let mut status =
        request(Operation::Update, Some(object(spec(json!({"replicas": -2})))), Some(wrong.clone()));
    status.sub_resource = "status".to_owned();
    for request in [
        request(Operation::Delete, None, Some(wrong.clone())),
        request(Operation::Connect, None, None),
        request(Operation::Create, None, None),
        request(Operation::Update, Some(labelled), Some(wrong.clone())),
        request(Operation::Update, Some(going), Some(wrong)),
        status,
    ] {
        assert_eq!(
            ask(&request, AdmissionMode::Deny, Some(&cluster(golden()))),
            Answer::Passed,
            "{request:?}"
        );
    }
}

#[test]
fn what_was_accepted_once_can_be_changed_elsewhere() {
    let mut more = large();
    more["replicas"] = json!(3);
    // As unfit as before, or less so.
    assert_eq!(update(large(), more).word(), "warned");
    let mut shorter = large();
    shorter["context"] = json!({"length": 4096});
    assert_eq!(update(large(), shorter.clone()).word(), "warned");
    assert_eq!(update(shorter, large()).word(), "denied");
    assert_eq!(update(json!({}), large()).word(), "denied");
    assert_eq!(update(large(), json!({})), Answer::Passed);
    // As wrong as before.
    let wrong = json!({"safetyMargin": "0.5"});
    let text = update(wrong.clone(), json!({"safetyMargin": "0.5", "replicas": 2})).warning().unwrap();
    assert!(text.starts_with("it was wrong before"), "{text}");
    assert_eq!(update(wrong.clone(), json!({"safetyMargin": "0.6"})).word(), "denied");
    assert_eq!(update(json!({}), wrong).word(), "denied");
    // Of two faults one is mended.
    let two = json!({"replicas": -1, "safetyMargin": "0.5"});
    assert_eq!(update(two, json!({"safetyMargin": "0.5"})).word(), "warned");
    let odd = json!({"context": "many"});
    assert_eq!(update(odd.clone(), json!({"context": "many", "replicas": 2})).word(), "warned");
    assert_eq!(update(json!({}), odd).word(), "denied");
}

#[test]
fn a_dry_run_gets_the_same_answer() {
    let mut asked = request(Operation::Create, Some(object(spec(large()))), None);
    let inventory = cluster(golden());
    let real = ask(&asked, AdmissionMode::Deny, Some(&inventory));
    asked.dry_run = Some(true);
    assert_eq!(ask(&asked, AdmissionMode::Deny, Some(&inventory)), real);
}
