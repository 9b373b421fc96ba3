//! An object against the schema of the custom resource definition: the same one that the API server has.

use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::Value;

use crate::api::crds;
use crate::spelling::nearest;
use crate::units::shorten;

use super::{API_VERSION, KIND};

/// The schema of the only version.
static SCHEMA: LazyLock<Option<JSONSchemaProps>> = LazyLock::new(|| {
    let version = crds::model_deployment().spec.versions.into_iter().next()?;
    version.schema?.open_api_v3_schema
});

/// More faults of one object than anybody reads.
const MOST_FAULTS: usize = 20;

/// Something that is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Where, such as `spec.context.length`.
    pub(super) path: String,
    /// The path, its value and what would be right.
    pub(super) text: String,
}

/// Every fault of an object.
pub(super) fn faults(object: &Value) -> Vec<Fault> {
    let mut faults = Faults::default();
    metadata(object, &mut faults);
    let Some(fields) = object.as_object() else { return faults.0 };
    let known = ["apiVersion", "kind", "metadata", "spec", "status"];
    for field in fields.keys().filter(|field| !known.contains(&field.as_str())) {
        faults.unknown("", field, &known);
    }
    let schema =
        SCHEMA.as_ref().and_then(|schema| schema.properties.as_ref()).and_then(|fields| fields.get("spec"));
    match (schema, fields.get("spec")) {
        (Some(schema), Some(spec)) => check(schema, spec, "spec", &mut faults),
        _ => faults.push("spec", "missing; it must at least have model, such as `model: {parameters: 8B}`"),
    }
    faults.0
}

fn metadata(object: &Value, faults: &mut Faults) {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    if text("/apiVersion") != Some(API_VERSION) {
        let found = text("/apiVersion").unwrap_or_default();
        let problem = format!("\"{}\" is not known for kind {KIND}; use {API_VERSION}", shorten(found));
        faults.push("apiVersion", &problem);
    }
    match object.pointer("/metadata/name") {
        Some(Value::String(name)) if is_name(name, 253, true) => {}
        Some(name) => faults.push("metadata.name", &format!(
            "{} must be lower case letters, digits, '-' and '.', and begin and end with a letter or digit",
            shown(name)
        )),
        None if object.pointer("/metadata/generateName").is_some() => {}
        None => faults.push("metadata.name", "missing; give the object a name, such as llama-8b"),
    }
    match object.pointer("/metadata/namespace") {
        None => {}
        Some(Value::String(name)) if is_name(name, 63, false) => {}
        Some(name) => faults.push(
            "metadata.namespace",
            &format!(
                "{} must be lower case letters, digits and '-', and begin and end with a letter or digit",
                shown(name)
            ),
        ),
    }
}

/// A DNS label, or with dots a subdomain (RFC 1123), as Kubernetes names objects.
fn is_name(name: &str, longest: usize, dots: bool) -> bool {
    let label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.bytes().all(inner)
    };
    name.len() <= longest && if dots { name.split('.').all(label) } else { label(name) }
}

#[derive(Default)]
struct Faults(Vec<Fault>);

impl Faults {
    fn push(&mut self, path: &str, problem: &str) {
        if self.0.len() < MOST_FAULTS {
            self.0.push(Fault { path: path.to_owned(), text: format!("{path}: {problem}") });
        }
    }

    fn unknown(&mut self, path: &str, field: &str, known: &[&str]) {
        let path = joined(path, &shorten(field));
        let remedy = nearest(field, known.iter().copied()).map_or_else(
            || format!("known are {}", known.join(", ")),
            |near| format!("did you mean {near}?"),
        );
        self.push(&path, &format!("unknown field; {remedy}"));
    }
}

fn joined(path: &str, field: &str) -> String {
    if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
}

/// A value as it stands in a message.
fn shown(value: &Value) -> String {
    match value {
        Value::Object(_) => "an object".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::String(text) => format!("\"{}\"", shorten(text)),
        other => shorten(&other.to_string()),
    }
}

fn check(schema: &JSONSchemaProps, value: &Value, path: &str, faults: &mut Faults) {
    if !has_type(schema, value, path, faults) {
        return;
    }
    if let Some(allowed) = &schema.enum_
        && !allowed.iter().any(|allowed| allowed.0 == *value)
    {
        let names: Vec<&str> = allowed.iter().filter_map(|allowed| allowed.0.as_str()).collect();
        let near = value.as_str().and_then(|value| nearest(value, names.iter().copied()));
        let near = near.map_or_else(String::new, |near| format!("did you mean {near}? "));
        faults.push(path, &format!("{} is not known; {near}known are {}", shown(value), names.join(", ")));
        return;
    }
    match value {
        Value::Object(fields) => object(schema, fields, path, faults),
        Value::Array(items) => array(schema, items, path, faults),
        Value::String(text) => string(schema, text, path, faults),
        Value::Number(number) => range(schema, number, path, faults),
        Value::Null | Value::Bool(_) => {}
    }
}

fn has_type(schema: &JSONSchemaProps, value: &Value, path: &str, faults: &mut Faults) -> bool {
    if schema.x_kubernetes_int_or_string == Some(true) {
        let fine = value.is_string() || value.is_i64() || value.is_u64();
        if !fine {
            faults.push(path, &format!("{} is neither a whole number nor a word", shown(value)));
        }
        return fine;
    }
    let (fine, wanted) = match schema.type_.as_deref() {
        Some("object") => (value.is_object(), "an object"),
        Some("array") => (value.is_array(), "a list"),
        Some("string") => (value.is_string(), "text"),
        Some("boolean") => (value.is_boolean(), "true or false"),
        Some("integer") => (value.is_i64() || value.is_u64(), "a whole number"),
        Some("number") => (value.is_number(), "a number"),
        _ => return true,
    };
    if !fine {
        let remedy = match (value, wanted) {
            (Value::Number(_) | Value::Bool(_), "text") => format!("; write it in quotes: \"{value}\""),
            (Value::String(text), "a whole number") if text.parse::<i64>().is_ok() => {
                format!("; write it without quotes: {text}")
            }
            (Value::Null, _) => "; give it a value, or remove it".to_owned(),
            _ => String::new(),
        };
        let limits = limits(schema).map_or_else(String::new, |limits| format!(" {limits}"));
        faults.push(path, &format!("{} is not {wanted}{limits}{remedy}", shown(value)));
    }
    fine
}

fn object(
    schema: &JSONSchemaProps,
    fields: &serde_json::Map<String, Value>,
    path: &str,
    faults: &mut Faults,
) {
    let properties = schema.properties.as_ref();
    for required in schema.required.iter().flatten() {
        if !fields.contains_key(required) {
            faults.push(&joined(path, required), "missing, and it must be there");
        }
    }
    let free_form = schema.x_kubernetes_preserve_unknown_fields == Some(true);
    for (field, value) in fields {
        if let Some(schema) = properties.and_then(|properties| properties.get(field)) {
            check(schema, value, &joined(path, field), faults);
        } else if let Some(JSONSchemaPropsOrBool::Schema(schema)) = &schema.additional_properties {
            check(schema, value, &joined(path, &shorten(field)), faults);
        } else if !free_form && schema.additional_properties.is_none() {
            let known: Vec<&str> = properties.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
            faults.unknown(path, field, &known);
        }
    }
}

fn array(schema: &JSONSchemaProps, items: &[Value], path: &str, faults: &mut Faults) {
    let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let (least, most) = (schema.min_items.unwrap_or(0), schema.max_items.unwrap_or(i64::MAX));
    if length < least || length > most {
        let limit = if length < least { format!("at least {least}") } else { format!("at most {most}") };
        faults.push(path, &format!("has {length} items, and may have {limit}"));
        return;
    }
    if let Some(JSONSchemaPropsOrArray::Schema(schema)) = &schema.items {
        for (index, item) in items.iter().enumerate() {
            check(schema, item, &format!("{path}[{index}]"), faults);
        }
    }
}

fn string(schema: &JSONSchemaProps, text: &str, path: &str, faults: &mut Faults) {
    let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    if length < schema.min_length.unwrap_or(0) {
        let least = schema.min_length.unwrap_or(0);
        faults.push(path, &format!("\"{}\" is shorter than {least} characters", shorten(text)));
    }
    if length > schema.max_length.unwrap_or(i64::MAX) {
        let most = schema.max_length.unwrap_or(0);
        faults.push(path, &format!("\"{}\" is longer than {most} characters", shorten(text)));
    }
}

fn range(schema: &JSONSchemaProps, number: &serde_json::Number, path: &str, faults: &mut Faults) {
    let Some(limits) = limits(schema) else { return };
    // Every limit of the schema is far below 2^53, where a float is exact; what is beyond stays on its side.
    let outside = number.as_f64().is_none_or(|number| {
        schema.minimum.is_some_and(|least| number < least) || schema.maximum.is_some_and(|most| number > most)
    });
    if outside {
        faults.push(path, &format!("{} is not a whole number {limits}", shorten(&number.to_string())));
    }
}

/// `from 1 to 1024`.
fn limits(schema: &JSONSchemaProps) -> Option<String> {
    match (schema.minimum, schema.maximum) {
        (Some(least), Some(most)) => Some(format!("from {least} to {most}")),
        (Some(least), None) => Some(format!("of at least {least}")),
        (None, Some(most)) => Some(format!("of at most {most}")),
        (None, None) => None,
    }
}

/// A CEL rule of the schema.
#[cfg(test)]
#[derive(Debug)]
pub(super) struct Rule {
    /// The field that it is about, such as `spec.model`.
    pub(super) path: String,
    /// The expression.
    pub(super) expression: String,
    /// What the server says where it does not hold.
    pub(super) message: String,
}

/// Every CEL rule of the schema.
#[cfg(test)]
pub(super) fn all_rules() -> Vec<Rule> {
    fn collect(schema: &JSONSchemaProps, path: &str, found: &mut Vec<Rule>) {
        found.extend(schema.x_kubernetes_validations.iter().flatten().map(|rule| Rule {
            path: path.to_owned(),
            expression: rule.rule.clone(),
            message: rule.message.clone().unwrap_or_default(),
        }));
        for (name, schema) in schema.properties.iter().flatten() {
            collect(schema, &joined(path, name), found);
        }
        if let Some(JSONSchemaPropsOrArray::Schema(schema)) = &schema.items {
            collect(schema, path, found);
        }
        if let Some(JSONSchemaPropsOrBool::Schema(schema)) = &schema.additional_properties {
            collect(schema, path, found);
        }
    }
    let mut found = Vec::new();
    SCHEMA.iter().for_each(|schema| collect(schema, "", &mut found));
    found
}
