use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::api::ModelDeployment;

fn read(text: &str) -> Manifests {
    Manifests::read(text, "models.yaml", Named::ByItself)
}

fn faults(spec: &str) -> Vec<String> {
    let text = format!("apiVersion: {API_VERSION}\nkind: {KIND}\nmetadata: {{name: m}}\nspec:\n{spec}");
    read(&text).objects.remove(0).spec.err().unwrap_or_default()
}

#[test]
fn a_spec_that_is_wrong_is_told_where_and_what_would_be_right() {
    for (spec, expected) in [
        ("  model: {parameters: 8B}", ""),
        (
            "  model: {parameters: 8B}\n  precison: int4",
            "spec.precison: unknown field; did you mean precision?",
        ),
        ("  model: {parameter: 8B}", "spec.model.parameter: unknown field; did you mean parameters?"),
        (
            "  model: {parameters: 8Q}",
            "spec.model.parameters: \"8Q\": parameters must be a number with an optional suffix K, M, B or T",
        ),
        ("  model: {parameters: 8}", "spec.model.parameters: 8 is not text; write it in quotes: \"8\""),
        (
            "  model: {parameters: 8B, catalog: x}",
            "spec.model: model must have exactly one source: one of parameters",
        ),
        ("  model: {}", "spec.model: model must have exactly one source"),
        ("  replicas: 1", "spec.model: missing, and it must be there"),
        (
            "  model: {parameters: 8B}\n  context: {length: -1}",
            "spec.context.length: -1 is not a whole number from 1 to 100000000",
        ),
        (
            "  model: {parameters: 8B}\n  context: {length: 9223372036854775808}",
            "spec.context.length: 9223372036854775808 is not a whole number from 1 to 100000000",
        ),
        (
            "  model: {parameters: 8B}\n  context: {length: 99999999999999999999999}",
            "cannot be read: spec.context.length: invalid type: integer `99999999999999999999999`",
        ),
        (
            "  model: {parameters: 8B}\n  context: {length: 8k}",
            "spec.context.length: \"8k\" is not a whole number from 1 to 100000000",
        ),
        (
            "  model: {parameters: 8B}\n  context: {length: '8192'}",
            "spec.context.length: \"8192\" is not a whole number from 1 to 100000000; write it without quotes: 8192",
        ),
        (
            "  model: {parameters: 8B}\n  safetyMargin: 1.2",
            "spec.safetyMargin: 1.2 is not text; write it in quotes: \"1.2\"",
        ),
        (
            "  model: {parameters: 8B}\n  safetyMargin: '0.5'",
            "spec.safetyMargin: \"0.5\": safetyMargin must be a decimal from 1.0 to 10.0",
        ),
        (
            "  model: {parameters: 8B}\n  safetyMargin: NaN",
            "spec.safetyMargin: \"NaN\": safetyMargin must be",
        ),
        (
            "  model: {parameters: 8B}\n  safetyMargin: 1,2",
            "spec.safetyMargin: \"1,2\": safetyMargin must be",
        ),
        (
            "  model: {parameters: 8B}\n  precision: int5",
            "spec.precision: \"int5\" is not known; did you mean int8?",
        ),
        (
            "  model: {parameters: 8B}\n  parallelism: {tensor: 0}",
            "spec.parallelism.tensor: 0: tensor must be a number from 1 to 1024, or auto",
        ),
        (
            "  model: {parameters: 8B}\n  parallelism: {tensor: 1.5}",
            "spec.parallelism.tensor: 1.5 is neither a whole number nor a word",
        ),
        (
            "  model: {parameters: 8B}\n  training: {method: lora}\n  engine: {name: vllm}",
            "spec: training excludes context and engine",
        ),
        (
            "  model: {parameters: 8B}\n  context: null",
            "spec.context: null is not an object; give it a value, or remove it",
        ),
        ("  model: [1]", "spec.model: a list is not an object"),
        (
            "  model: {huggingFace: {repository: llama}}",
            "spec.model.huggingFace.repository: \"llama\": repository must be organisation/name",
        ),
    ] {
        let found = faults(spec);
        match expected {
            "" => assert_eq!(found, [] as [String; 0], "{spec}"),
            expected => assert!(found.iter().any(|fault| fault.starts_with(expected)), "{spec}\n{found:?}"),
        }
    }
}

#[test]
fn every_fault_is_told_at_once() {
    assert_eq!(faults("  model: {parameters: 8Q}\n  replicas: x\n  foo: 1").len(), 3);
}

#[test]
fn one_document_that_cannot_be_read_leaves_the_others_alone() {
    let good = format!(
        "apiVersion: {API_VERSION}\nkind: {KIND}\nmetadata: {{name: good}}\nspec: {{model: {{parameters: 8B}}}}\n"
    );
    let text =
        format!("a: [1\n---\n{good}---\nkind: Service\napiVersion: v1\nmetadata: {{name: web}}\n---\nx: 1\n");
    let found = read(&text);
    let names: Vec<&str> = found.objects.iter().map(|object| object.name.as_str()).collect();
    assert_eq!(names, ["(document 1)", "good", "(document 4)"]);
    assert!(found.objects[1].spec.is_ok());
    assert_eq!(found.objects[1].origin.line, 3);
    assert_eq!(found.others, ["Service web"]);
}

#[test]
fn kinds_and_versions_that_are_nearly_right_do_not_vanish() {
    for text in [
        "apiVersion: loadline.dev/v1\nkind: ModelDeployment\nmetadata: {name: m}",
        "apiVersion: v1\nkind: ModelDeployment\nmetadata: {name: m}",
        "apiVersion: loadline.dev/v1alpha1\nkind: ModelDeploymnt\nmetadata: {name: m}",
    ] {
        let found = read(text);
        assert_eq!((found.objects.len(), found.others.len()), (1, 0), "{text}");
        assert!(found.objects[0].spec.is_err(), "{text}");
    }
}

#[test]
fn lists_are_unfolded_and_keys_that_stand_twice_are_refused() {
    let object = format!(
        "{{apiVersion: {API_VERSION}, kind: {KIND}, metadata: {{name: m}}, spec: {{model: {{parameters: 8B}}}}}}"
    );
    assert_eq!(read(&format!("kind: List\napiVersion: v1\nitems: [{object}, {object}]")).objects.len(), 2);
    let twice = faults("  model: {parameters: 8B}\n  replicas: 1\n  replicas: 2");
    assert!(twice.first().is_some_and(|fault| fault.contains("duplicate")), "{twice:?}");
}

/// Specs on either side of every rule.
fn specs() -> Vec<Value> {
    let texts = |values: &[&str]| values.iter().map(|text| json!(text)).collect::<Vec<_>>();
    let mut specs = vec![
        json!({"model": {"parameters": "8B"}, "training": {"method": "full"}}),
        json!({"model": {"parameters": "8B"}, "training": {"method": "full"}, "context": {}}),
        json!({"model": {"parameters": "8B"}, "training": {"method": "full"}, "engine": {"name": "vllm"}}),
        json!({"model": {"parameters": "8B"}, "training": {"method": "full"}, "parallelism": {}}),
        json!({"model": {}}),
        json!({"model": {"parameters": "8B", "config": {}}}),
        json!({"model": {"parameters": "8B", "config": {}, "catalog": "x"}}),
        json!({"model": {"gguf": {}}}),
        json!({"model": {"gguf": {"url": "https://x/y"}}}),
        json!({"model": {"gguf": {"url": "http://xx/y"}}}),
        json!({"model": {"gguf": {"url": "https://x/y", "huggingFace": {"repository": "a/b"}}}}),
    ];
    let margins = [
        "1.2", "1", "10", "10.0", "10.001", "10.000", "0.5", "01.2", "1.2345", "1.", ".5", "NaN", "1,2",
        " 1.2", "9.999",
    ];
    specs.extend(
        texts(&margins)
            .into_iter()
            .map(|margin| json!({"model": {"parameters": "8B"}, "safetyMargin": margin})),
    );
    let sizes = ["8B", "8b", "8Q", "8", "8.5M", "8.", ".5B", "-8B", "8BB", " 8B", "1e9", "0"];
    specs.extend(texts(&sizes).into_iter().map(|size| json!({"model": {"parameters": size}})));
    let repositories = ["a/b", "a/b/c", "a", "/b", "a/", ".a/b", "a/.b", "a-1/b_2.c", "a b/c", "ü/b"];
    specs.extend(
        texts(&repositories).into_iter().map(|name| json!({"model": {"huggingFace": {"repository": name}}})),
    );
    let mut ranks = texts(&["auto", "Auto", "1", "0", "01", "1024", "1025", "-1", ""]);
    ranks.extend([json!(1), json!(0), json!(-1), json!(1024), json!(1025), json!(999)]);
    specs.extend(
        ranks
            .into_iter()
            .map(|ranks| json!({"model": {"parameters": "8B"}, "parallelism": {"tensor": ranks}})),
    );
    specs
}

#[test]
fn the_rules_are_those_of_the_custom_resource_definition() {
    for rule in schema::all_rules().iter().filter(|rule| !rule.contains("oldSelf")) {
        assert!(rules::holds(rule, &json!({})).is_some(), "not known by hand: {rule}");
    }
    for spec in specs() {
        let object =
            json!({"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "m"}, "spec": spec});
        let typed: ModelDeployment = serde_json::from_value(object.clone()).expect("a typed object");
        let by_server: Vec<String> = match typed.validate_cel() {
            Ok(()) => Vec::new(),
            Err(errors) => errors.iter().map(ToString::to_string).collect(),
        };
        let by_hand = schema::faults(&object);
        let told = |fault: &&String| fault.contains(" must ") || fault.contains("excludes");
        assert_eq!(
            by_server.is_empty(),
            !by_hand.iter().any(|fault| told(&fault)),
            "{object}\n{by_server:?}\n{by_hand:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::default())]

    #[test]
    fn no_text_makes_it_panic(text in "[-a-z0-9:{}\\[\\]\"'#|>&*!%@, \n.~]{0,200}|\\PC{0,200}") {
        let found = read(&text);
        prop_assert!(found.objects.iter().all(|object| object.spec.is_ok() || object.spec.as_ref().is_err_and(|faults| !faults.is_empty())));
    }

    #[test]
    fn no_value_of_a_field_makes_it_panic(
        field in prop::sample::select(vec!["model", "precision", "context", "parallelism", "safetyMargin", "replicas", "template", "placement", "training"]),
        value in "[-a-z0-9:{}\\[\\]\"', .]{0,60}",
    ) {
        for fault in faults(&format!("  {field}: {value}")) {
            prop_assert!(!fault.is_empty());
        }
    }
}
