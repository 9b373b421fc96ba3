//! The custom resource definition as the API server gets it.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;
use serde_json::json;

use super::v1alpha1::UNOBSERVED;
use super::{ModelDeployment, ModelRequirements};

/// `modeldeployments.loadline.dev`, made from the types of [`super::v1alpha1`].
#[must_use]
pub fn model_deployment() -> CustomResourceDefinition {
    let mut crd = ModelDeployment::crd();
    for version in &mut crd.spec.versions {
        if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            for_each_schema(schema, &mut tidy);
            if let Some(status) = schema.properties.as_mut().and_then(|fields| fields.get_mut("status")) {
                // Until the controller has looked, kstatus is to say InProgress: no status at all would be Current.
                status.default = Some(JSON(json!({"observedGeneration": UNOBSERVED})));
            }
        }
    }
    crd
}

/// `modelrequirements.loadline.dev`.
#[must_use]
pub fn model_requirements() -> CustomResourceDefinition {
    let mut crd = ModelRequirements::crd();
    for version in &mut crd.spec.versions {
        if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            for_each_schema(schema, &mut tidy);
        }
    }
    crd
}

/// All definitions, each with its name.
#[must_use]
pub fn all() -> [(&'static str, CustomResourceDefinition); 2] {
    [
        ("modeldeployments.loadline.dev", model_deployment()),
        ("modelrequirements.loadline.dev", model_requirements()),
    ]
}

/// A definition as YAML, with a line that says where it comes from.
///
/// # Errors
/// Only if the definition cannot be written as YAML, which a test rules out.
pub fn yaml(definition: &CustomResourceDefinition) -> Result<String, serde_yaml::Error> {
    let body = serde_yaml::to_string(definition)?;
    Ok(format!("# Made from src/api/v1alpha1 by `loadline crds`; a test keeps it in step.\n{body}"))
}

/// What the derive writes and an API server warns of or rejects.
fn tidy(schema: &mut JSONSchemaProps) {
    // Formats that are not of OpenAPI: newer servers warn of them.
    if schema.format.as_deref().is_some_and(|format| format.starts_with("uint")) {
        schema.format = None;
    }
    // An optional enum is optional by absence; a null in the list makes `kubectl explain` show one.
    if let Some(values) = &mut schema.enum_ {
        values.retain(|value| !value.0.is_null());
    }
    // A null is the same as absence, and a field that may be both is one more state to explain.
    schema.nullable = None;
    // What is not said of a list is that it is replaced as a whole: so it is said.
    if schema.type_.as_deref() == Some("array") && schema.x_kubernetes_list_type.is_none() {
        schema.x_kubernetes_list_type = Some("atomic".to_owned());
    }
    // Doc comments are wrapped for the source, not for the reader.
    if let Some(description) = &mut schema.description {
        *description = description.split_whitespace().collect::<Vec<_>>().join(" ");
    }
}

/// Calls `visit` on a schema and on every schema in it.
pub(crate) fn for_each_schema(schema: &mut JSONSchemaProps, visit: &mut impl FnMut(&mut JSONSchemaProps)) {
    visit(schema);
    for property in schema.properties.iter_mut().flat_map(|properties| properties.values_mut()) {
        for_each_schema(property, visit);
    }
    match schema.items.as_mut() {
        Some(JSONSchemaPropsOrArray::Schema(items)) => for_each_schema(items, visit),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => {
            for item in items {
                for_each_schema(item, visit);
            }
        }
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = schema.additional_properties.as_mut() {
        for_each_schema(values, visit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> JSONSchemaProps {
        model_deployment()
            .spec
            .versions
            .remove(0)
            .schema
            .and_then(|schema| schema.open_api_v3_schema)
            .expect("a schema")
    }

    #[test]
    fn the_server_finds_nothing_to_warn_of() {
        let mut schemas = 0;
        for_each_schema(&mut schema(), &mut |schema| {
            schemas += 1;
            let format = schema.format.as_deref().unwrap_or("int64");
            assert!(["int32", "int64", "double", "date-time"].contains(&format), "format {format}");
            assert!(schema.one_of.is_none() && schema.not.is_none(), "not structural: {schema:?}");
        });
        assert!(schemas > 60, "only {schemas} schemas were visited");
    }

    #[test]
    fn every_list_says_how_it_is_merged() {
        for (name, definition) in all() {
            let mut lists = 0;
            for version in definition.spec.versions {
                let mut schema =
                    version.schema.and_then(|schema| schema.open_api_v3_schema).expect("a schema");
                for_each_schema(&mut schema, &mut |schema| {
                    if schema.type_.as_deref() == Some("array") {
                        lists += 1;
                        let kind = schema.x_kubernetes_list_type.as_deref().unwrap_or_default();
                        assert!(["atomic", "set", "map"].contains(&kind), "{name}: {schema:?}");
                    }
                });
            }
            assert!(lists > 1, "{name}: {lists} lists");
        }
    }

    #[test]
    fn objects_are_selected_by_what_people_ask_for() {
        let version = model_deployment().spec.versions.remove(0);
        let fields: Vec<String> =
            version.selectable_fields.into_iter().flatten().map(|field| field.json_path).collect();
        assert_eq!(fields, [".spec.engine.name", ".spec.model.catalog", ".status.reason"]);
    }

    /// YAML takes a bare `Off`, `No` or `y` for a boolean, and then nothing that is written is the enum's value.
    #[test]
    fn every_name_of_an_enum_is_text_to_every_reader_of_yaml() {
        let text = yaml(&model_deployment()).expect("YAML");
        let read: CustomResourceDefinition = serde_yaml::from_str(&text).expect("the definition");
        let mut schema =
            read.spec.versions.into_iter().next().and_then(|version| version.schema?.open_api_v3_schema);
        let mut names = 0;
        for_each_schema(schema.as_mut().expect("a schema"), &mut |schema| {
            for value in schema.enum_.iter().flatten() {
                let name = value.0.as_str().unwrap_or_else(|| panic!("{} is not text", value.0));
                let boolean = ["y", "n", "yes", "no", "on", "off", "true", "false"];
                assert!(
                    !boolean.contains(&name.to_ascii_lowercase().as_str()),
                    "{name} is a boolean to YAML 1.1"
                );
                names += 1;
            }
        });
        assert!(names > 60, "only {names} names");
    }

    #[test]
    fn a_status_that_nobody_has_written_is_of_no_generation() {
        let status = &schema().properties.expect("properties")["status"];
        assert_eq!(status.default.as_ref().map(|value| &value.0), Some(&json!({"observedGeneration": -1})));
    }

    #[test]
    fn every_field_is_described() {
        fn check(path: &str, schema: &JSONSchemaProps, missing: &mut Vec<String>) {
            for (name, property) in schema.properties.iter().flatten() {
                let path = format!("{path}.{name}");
                if property.description.as_deref().unwrap_or_default().len() < 10 {
                    missing.push(path.clone());
                }
                check(&path, property, missing);
                if let Some(JSONSchemaPropsOrArray::Schema(items)) = &property.items {
                    check(&format!("{path}[]"), items, missing);
                }
            }
        }
        let mut missing = Vec::new();
        let schema = schema();
        for part in ["spec", "status"] {
            check(part, &schema.properties.as_ref().expect("properties")[part], &mut missing);
        }
        assert_eq!(missing, Vec::<String>::new(), "fields without a description");
    }
}
