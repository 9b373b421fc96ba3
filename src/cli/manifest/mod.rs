//! ModelDeployments in files, checked as the API server would: every fault with its path, value and remedy.

mod document;
mod nearest;
mod rules;
mod schema;

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::Value;

use crate::api::ModelDeploymentSpec;
use crate::render::Origin;
use crate::units::shorten;

use document::Document;
pub(super) use nearest::nearest;

const API_VERSION: &str = "loadline.dev/v1alpha1";
const KIND: &str = "ModelDeployment";

/// What a file holds of what Loadline plans.
#[derive(Debug, Default)]
pub(super) struct Manifests {
    /// The ModelDeployments, in order, each as it was read or with its faults.
    pub(super) objects: Vec<Manifest>,
    /// ConfigMaps, which the objects may take their models from.
    pub(super) config_maps: Vec<ConfigMap>,
    /// Other objects, by kind and name: passed over.
    pub(super) others: Vec<String>,
}

/// One ModelDeployment of a file.
#[derive(Debug)]
pub(super) struct Manifest {
    /// Its namespace, where it states one.
    pub(super) namespace: Option<String>,
    /// Its name; what stands for it in the output where it has none.
    pub(super) name: String,
    /// Where it was read.
    pub(super) origin: Origin,
    /// Its spec, or every fault.
    pub(super) spec: Result<Box<ModelDeploymentSpec>, Vec<String>>,
}

impl Manifests {
    /// Reads the documents of a text: YAML or JSON, one object or several, Lists unfolded. A document that cannot be read
    /// is an object with faults: the others do not suffer.
    pub(super) fn read(text: &str, file: &str) -> Self {
        let mut manifests = Self::default();
        for document in document::split(text) {
            let origin = Origin { file: Some(file.to_owned()), line: document.line };
            match document.parse() {
                Ok(Value::Null) => {}
                Ok(value) => manifests.object(value, &origin, &document),
                Err(problem) => manifests.objects.push(unreadable(&document, origin, problem)),
            }
        }
        manifests
    }

    fn object(&mut self, value: Value, origin: &Origin, document: &Document<'_>) {
        let kind = value.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
        if let (true, Some(Value::Array(items))) =
            (kind == "List" || kind == format!("{KIND}List"), value.get("items"))
        {
            for item in items {
                self.object(item.clone(), origin, document);
            }
            return;
        }
        let api_version = value.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
        let ours = api_version.split('/').next() == API_VERSION.split('/').next();
        if kind == KIND && ours {
            self.objects.push(manifest(value, origin.clone(), document));
        } else if kind.is_empty() {
            let problem = format!("has no kind; expected apiVersion: {API_VERSION} and kind: {KIND}");
            self.objects.push(unreadable(document, origin.clone(), problem));
        } else if ours || kind == KIND {
            // A slip in one of the two must not make the object vanish from a check.
            let (found, wanted) =
                (format!("{api_version}, kind {kind}"), format!("{API_VERSION}, kind {KIND}"));
            let problem = format!("apiVersion {}: not known; expected {wanted}", shorten(&found));
            self.objects.push(unreadable(document, origin.clone(), problem));
        } else if let ("v1", "ConfigMap", Ok(map)) =
            (api_version, kind.as_str(), serde_json::from_value(value.clone()))
        {
            self.config_maps.push(map);
        } else {
            let name = value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("with no name");
            self.others.push(format!("{} {}", shorten(&kind), shorten(name)));
        }
    }
}

fn unreadable(document: &Document<'_>, origin: Origin, problem: String) -> Manifest {
    Manifest {
        namespace: None,
        name: format!("(document {})", document.number),
        origin,
        spec: Err(vec![problem]),
    }
}

fn manifest(value: Value, origin: Origin, document: &Document<'_>) -> Manifest {
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let namespace = text("/metadata/namespace");
    let name = text("/metadata/name").unwrap_or_else(|| format!("(document {})", document.number));
    let mut faults = schema::faults(&value);
    let spec = if faults.is_empty() {
        typed(value).map(Box::new).map_err(|fault| {
            faults.push(fault);
            faults
        })
    } else {
        Err(faults)
    };
    Manifest { namespace, name, origin, spec }
}

/// The spec as its type. What the schema lets pass and the type does not is a fault with its path all the same.
fn typed(mut value: Value) -> Result<ModelDeploymentSpec, String> {
    let spec = value.get_mut("spec").map(Value::take).unwrap_or_default();
    serde_path_to_error::deserialize(spec)
        .map_err(|error| format!("spec.{}: {}", error.path(), error.inner()))
}

/// Reads the ModelDeployments of a text, for fuzzing: it must not panic.
#[cfg(test)]
mod tests;
