use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::api::ModelDeployment;
use crate::api::v1alpha1::ModelSource;

fn read(text: &str) -> Manifests {
    Manifests::read(text, "models.yaml", Named::ByItself)
}

fn faults(spec: &str) -> Vec<String> {
    let text = format!("apiVersion: {API_VERSION}\nkind: {KIND}\nmetadata: {{name: m}}\nspec:\n{spec}");
    match read(&text).objects.remove(0).spec {
        Err(faults) => faults,
        Ok(spec) => check(&spec).err().map(|refusal| refusal.to_string()).into_iter().collect(),
    }
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
            "spec.model.parameters: \"8Q\" is not a parameter count; write a number of 1 to 1000T with an optional suffix K, M, B or T",
        ),
        ("  model: {parameters: 8}", "spec.model.parameters: 8 is not text; write it in quotes: \"8\""),
        (
            "  model: {parameters: 8B, catalog: x}",
            "spec.model: parameters and catalog are set together; set exactly one of parameters",
        ),
        ("  model: {}", "spec.model: no source is set; set one of parameters"),
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
            "spec.safetyMargin: \"0.5\" is not a safety margin; write a decimal from 1.0 to 10.0",
        ),
        (
            "  model: {parameters: 8B}\n  safetyMargin: NaN",
            "spec.safetyMargin: \"NaN\" is not a safety margin",
        ),
        (
            "  model: {parameters: 8B}\n  safetyMargin: 1,2",
            "spec.safetyMargin: \"1,2\" is not a safety margin",
        ),
        (
            "  model: {parameters: 8B}\n  precision: int5",
            "spec.precision: \"int5\" is not known; did you mean int8?",
        ),
        (
            "  model: {parameters: 8B}\n  parallelism: {tensor: 0}",
            "spec.parallelism.tensor: 0 is not a number of ranks; write a whole number from 1 to 1024",
        ),
        (
            "  model: {parameters: 8B}\n  parallelism: {tensor: 1.5}",
            "spec.parallelism.tensor: 1.5 is neither a whole number nor a word",
        ),
        (
            "  model: {parameters: 8B}\n  training: {method: lora}\n  engine: {name: vllm}",
            "spec.engine: it is for serving, and training is set; set training.attention and training.optimizer instead",
        ),
        (
            "  model: {parameters: 8B}\n  context: null",
            "spec.context: null is not an object; give it a value, or remove it",
        ),
        ("  model: [1]", "spec.model: a list is not an object"),
        (
            "  model: {huggingFace: {repository: llama}}",
            "spec.model.huggingFace.repository: \"llama\" is not a repository; write organisation/name",
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
    let found = faults("  model: {parameters: 8Q}\n  replicas: x\n  foo: 1");
    assert_eq!(found.len(), 3, "{found:?}");
    // What was wrong with a field is not told again as its absence.
    let found = faults("  model: {parameters: 8}\n  context: {length: x}");
    assert_eq!(found.len(), 2, "{found:?}");
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
    let versions = [
        "0.19.0",
        "v0.26",
        "0.5.15.post1",
        "0.14.0rc1",
        "0.26.1.dev3+g12",
        "b10481",
        "8943",
        "2026-11-01",
        "latest",
        "",
        "v",
        "0",
        "-1",
        "0.19.",
        " 0.19.0",
        "0.19.0 ",
        "2026-13-01",
        "b0",
    ];
    for name in ["vllm", "llama-cpp", "none"] {
        specs.extend(texts(&versions).into_iter().map(
            |version| json!({"model": {"parameters": "8B"}, "engine": {"name": name, "version": version}}),
        ));
    }
    let names = ["hub", "a.b-c", "A", "a b", "-a", "a-", "a..b", "../x", "ü", "0"];
    let keys = ["token", "HF_TOKEN", ".a", "a b", ".", "..", "..a", "a/b", "ü"];
    let of_names = names.iter().map(|name| json!({"name": name, "key": "k"}));
    for reference in of_names.chain(keys.iter().map(|key| json!({"name": "n", "key": key}))) {
        let hub = json!({"repository": "a/b", "tokenSecretRef": reference});
        specs.push(json!({"model": {"configMapRef": reference}}));
        specs.push(json!({"model": {"huggingFace": hub}}));
        specs.push(json!({"model": {"gguf": {"huggingFace": {"repository": "a/b", "file": "x.gguf", "tokenSecretRef": reference}}}}));
    }
    let mut ranks = texts(&["auto", "Auto", "1", "0", "01", "1024", "1025", "-1", ""]);
    ranks.extend([json!(1), json!(0), json!(-1), json!(1024), json!(1025), json!(999)]);
    specs.extend(
        ranks
            .into_iter()
            .map(|ranks| json!({"model": {"parameters": "8B"}, "parallelism": {"tensor": ranks}})),
    );
    specs
}

/// The definition's rules need no hand-written copy: what they refuse, the check of a spec refuses, in the same field.
#[test]
fn every_rule_of_the_definition_is_one_of_the_check() {
    let rules = schema::all_rules();
    let mut broken = std::collections::BTreeSet::new();
    for spec in specs() {
        let object = ModelDeployment::new("m", serde_json::from_value(spec.clone()).expect("a typed spec"));
        let refusal = check(&object.spec).err();
        let Err(errors) = object.validate_cel() else { continue };
        let errors = errors.to_string();
        let refusal = refusal.unwrap_or_else(|| panic!("{spec}: only the server refuses it: {errors}"));
        let field = format!("spec.{}", refusal.field().expect("a field"));
        let of: Vec<_> = rules.iter().filter(|rule| errors.contains(&rule.message)).collect();
        assert!(!of.is_empty(), "{spec}: {errors}");
        assert!(of.iter().any(|rule| field.starts_with(&rule.path)), "{spec}: {refusal}, not {of:?}");
        broken.extend(of.into_iter().map(|rule| &rule.expression));
    }
    let missing: Vec<_> = rules.iter().filter(|rule| !broken.contains(&rule.expression)).collect();
    assert!(missing.is_empty(), "no spec breaks {missing:?}");
    assert!(rules.len() >= 9, "only {} rules were found", rules.len());
}

proptest! {
    #![proptest_config(ProptestConfig::default())]

    #[test]
    fn no_text_makes_it_panic(text in "[-a-z0-9:{}\\[\\]\"'#|>&*!%@, \n.~]{0,200}|\\PC{0,200}") {
        // By itself, and where a value of an object stands: a text alone is rarely more than a scalar.
        let object = format!("apiVersion: {API_VERSION}\nkind: {KIND}\nmetadata: {{name: m}}\nspec:\n  model: {{parameters: 8B}}\n");
        for text in [text.clone(), format!("{object}  {text}"), format!("{object}---\n{text}\n---\n{object}")] {
            let found = read(&text);
            let told = |object: &Manifest| object.spec.as_ref().is_ok_and(|spec| !spec.model.eq(&ModelSource::default()))
                || object.spec.as_ref().is_err_and(|faults| faults.iter().all(|fault| !fault.is_empty()) && !faults.is_empty());
            prop_assert!(found.objects.iter().all(told), "{found:?}");
        }
        // What comes before and after is read whatever it is.
        let found = read(&format!("{object}---\n{text}\n---\n{object}"));
        let sound = found.objects.iter().filter(|object| object.name == "m" && object.spec.is_ok());
        prop_assert!(sound.count() >= 2, "{found:?}");
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
