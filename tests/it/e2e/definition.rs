//! The custom resource definition as the real API server has it.

use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use loadline::api::crds;
use serde_json::{Map, Value, json};

use super::scenario::{current, model_deployment, scenario};
use crate::cluster::condition_of;

/// What every object needs, and the smallest value of it.
fn least(schema: &JSONSchemaProps, path: &str) -> Value {
    match path {
        "spec" => return json!({"model": {"parameters": "8B"}}),
        "spec.model" => return json!({"parameters": "8B"}),
        _ => {}
    }
    if let Some(first) = schema.enum_.iter().flatten().next() {
        return first.0.clone();
    }
    match schema.type_.as_deref() {
        Some("object") => {
            let properties = schema.properties.iter().flatten();
            let required = |name: &String| schema.required.iter().flatten().any(|required| required == name);
            let fields: Map<String, Value> = properties
                .filter(|(name, _)| required(name))
                .map(|(name, schema)| (name.clone(), least(schema, &format!("{path}.{name}"))))
                .collect();
            Value::Object(fields)
        }
        Some("array") => json!([]),
        Some("integer") => json!(1),
        Some("boolean") => json!(false),
        _ => json!("x"),
    }
}

/// One value of the schema for every name of every enum in it, each the smallest that has it.
fn with_each_name(schema: &JSONSchemaProps, path: &str) -> Vec<(String, Value)> {
    if let Some(names) = &schema.enum_ {
        return names.iter().map(|name| (format!("{path}: {}", name.0), name.0.clone())).collect();
    }
    let mut found = Vec::new();
    for (name, property) in schema.properties.iter().flatten() {
        for (what, value) in with_each_name(property, &format!("{path}.{name}")) {
            let mut object = least(schema, path);
            object[name] = value;
            found.push((what, object));
        }
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        found.extend(with_each_name(items, path).into_iter().map(|(what, item)| (what, json!([item]))));
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &schema.additional_properties {
        found.extend(
            with_each_name(values, path).into_iter().map(|(what, value)| (what, json!({"key": value}))),
        );
    }
    found
}

#[test]
fn every_name_of_every_enum_is_accepted() {
    let mut versions = crds::model_deployment().spec.versions;
    let schema = versions.remove(0).schema.and_then(|schema| schema.open_api_v3_schema).expect("a schema");
    let spec = &schema.properties.as_ref().expect("properties")["spec"];
    let specs = with_each_name(spec, "spec");
    assert!(specs.len() > 60, "only {} names", specs.len());
    scenario("enums", |s| {
        // One call for all: each is judged by itself.
        let objects: Vec<Value> = specs
            .iter()
            .enumerate()
            .map(|(at, (_, spec))| {
                let mut object =
                    model_deployment(&format!("enum-{at}"), &json!({"engine": {"name": "none"}}));
                object["spec"] = spec.clone();
                object
            })
            .collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
        let create = ["create", "--dry-run=server", "-o", "name", "-f", "-"];
        let ran = s.kubectl_with_input(create, &list).unwrap();
        let accepted = ran.stdout.lines().count();
        let missing: Vec<&str> = specs
            .iter()
            .enumerate()
            .filter(|(at, _)| !ran.stdout.lines().any(|line| line.ends_with(&format!("/enum-{at}"))))
            .map(|(_, (what, _))| what.as_str())
            .collect();
        assert!(
            missing.is_empty(),
            "{accepted} of {} accepted, not {missing:?}\n{}",
            specs.len(),
            ran.stderr
        );
    });
}

/// What kstatus, and with it Argo CD and Flux, makes of an object between its creation and its first status: a generation
/// that is not the present one is in progress; no status at all would be current.
#[test]
fn an_object_that_nobody_has_looked_at_is_of_no_generation() {
    scenario("unobserved", |s| {
        let spec = json!({"model": {"parameters": "8B"}, "precision": "int4", "context": {"length": 8192}});
        let object = model_deployment("llama", &spec).to_string();
        let created =
            s.kubectl_with_input(["create", "-o", "json", "-f", "-"], &object).unwrap().json().unwrap();
        assert_eq!(created["status"]["observedGeneration"], -1, "{created:#}");
        assert!(condition_of(&created, "Ready").is_none());
        // The controller takes it for none, and writes its own.
        let object = s.wait_ready("llama", "True", "Available");
        assert!(current(&object) && object["status"]["observedGeneration"] == 1, "{object:#}");
        s.wait_quiet(Duration::from_secs(2));
    });
}
