// What is asked is written where it is asked.
#![allow(clippy::needless_pass_by_value)]

use proptest::prelude::*;
use serde_json::json;

use super::super::wire::{self, Kind};
use super::*;
use crate::inventory::testing::golden;
use crate::inventory::{Node, Snapshot, Sources};
use crate::plan::{Permits, resolve_pure};

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
    review(request, Known { mode, inventory, permits: &Permits::default() }, shape)
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

/// JSON of any kind, with the odd values that readers trip over.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        proptest::sample::select(vec![
            "auto",
            "8B",
            "bf16",
            "1.2",
            "CREATE",
            "-1",
            "\u{0}",
            "9999999999999999999999"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec(("[a-z]{1,6}", inner), 0..4)
                .prop_map(|fields| Value::from(fields.into_iter().collect::<serde_json::Map<_, _>>())),
        ]
    })
}

/// Puts something else somewhere: which of a value's parts, and of those' parts, is taken in turn.
fn replace(value: &mut Value, way: &[usize], with: &Value) {
    let Some((first, rest)) = way.split_first() else { return value.clone_from(with) };
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let at = first % fields.len();
            if let Some(part) = fields.values_mut().nth(at) {
                replace(part, rest, with);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            let at = first % items.len();
            replace(&mut items[at], rest, with);
        }
        other => other.clone_from(with),
    }
}

fn whole(spec: &Value) -> Value {
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "7", "kind": {"group": "loadline.dev", "version": "v1alpha1", "kind": "ModelDeployment"},
        "resource": {"group": "loadline.dev", "version": "v1alpha1", "resource": "modeldeployments"},
        "namespace": "team-a", "name": "llama", "operation": "UPDATE", "userInfo": {"username": "a", "groups": ["b"]},
        "object": object(spec.clone()), "oldObject": object(spec_of_all()), "dryRun": false,
        "options": {"kind": "UpdateOptions", "fieldManager": "kubectl"}}})
}

/// Most fields, so that there is something to change.
fn spec_of_all() -> Value {
    spec(
        json!({"parallelism": {"tensor": 2, "pipeline": 1}, "context": {"length": 4096, "sequences": 2, "cachePrecision": "fp8"},
        "engine": {"name": "vllm", "version": "0.19", "args": ["--enforce-eager"]}, "safetyMargin": "1.3", "admission": "Deny",
        "placement": {"sharing": "Exclusive", "nodeSelector": {"a": "b"}, "tolerations": [{"key": "k", "operator": "Exists"}]},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}),
    )
}

proptest! {
    /// Whatever is put wherever: an answer or a refusal to answer, and never the end of it.
    #[test]
    fn no_question_breaks_it(
        changes in proptest::collection::vec((proptest::collection::vec(any::<usize>(), 0..7), anything()), 1..4)
    ) {
        let mut review = whole(&spec_of_all());
        for (way, with) in &changes {
            replace(&mut review, way, with);
        }
        if let Ok(request) = wire::read(review.to_string().as_bytes()) {
            let inventory = cluster(golden());
            for mode in [AdmissionMode::Deny, AdmissionMode::Ignore] {
                let answer = ask(&request, mode, Some(&inventory));
                prop_assert!(answer.warning().unwrap_or_default().len() <= 1024);
                prop_assert!(answer.denial().unwrap_or_default().0.len() <= 1024);
                // What the old object was has nothing to do with what a new one must be.
                let mut new = request.clone();
                (new.operation, new.old_object) = (Operation::Create, None);
                let alone = ask(&new, mode, Some(&inventory));
                prop_assert!(alone.denial().is_some() || answer.denial().is_none() || request.operation != Operation::Create);
            }
        }
    }

    /// What is wrong is not let through by what stands beside it.
    #[test]
    fn nothing_beside_a_wrong_spec_lets_it_through(
        way in proptest::collection::vec(any::<usize>(), 1..4), with in anything()
    ) {
        let mut wrong = spec_of_all();
        wrong["replicas"] = json!(-1);
        let mut review = whole(&wrong);
        replace(&mut review["request"], &way, &with);
        let Ok(request) = wire::read(review.to_string().as_bytes()) else { return Ok(()) };
        let is_asked = matches!(request.operation, Operation::Create | Operation::Update) && request.sub_resource.is_empty();
        let is_wrong = request.object.as_ref().is_some_and(|object| object.get("spec") == Some(&wrong));
        let is_going = request.object.as_ref().is_some_and(|object| !object["metadata"]["deletionTimestamp"].is_null());
        let was_wrong = request.old_object.as_ref().is_some_and(|old| old.get("spec") != Some(&spec_of_all()));
        if is_asked && is_wrong && !is_going && !was_wrong {
            let answer = ask(&request, AdmissionMode::Ignore, Some(&cluster(golden())));
            prop_assert!(answer.denial().is_some(), "{answer:?}");
        }
    }
}
