//! ModelDeployments in files, checked as the API server would: every fault with its path, value and remedy.

mod document;
mod schema;

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::Value;

use crate::api::ModelDeploymentSpec;
use crate::plan::check;
use crate::render::Origin;
use crate::units::shorten;
use crate::workloads;

use document::Document;
use schema::Fault;

const API_VERSION: &str = "loadline.dev/v1alpha1";
const KIND: &str = "ModelDeployment";
/// What is wrong with a template that is given as an object.
const TEMPLATE: &str = "is a template, with {{ … }} still to be filled in; render it first, such as `helm template CHART | loadline plan -f -`";

/// How a file came to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// It was named itself: what is no object in it is an error.
    ByItself,
    /// Its directory was: what is no object is passed over, as other tools have their files there too.
    ByDirectory,
}

/// What a file holds of what Loadline plans.
#[derive(Debug, Default)]
pub(super) struct Manifests {
    /// The ModelDeployments, in order, each as it was read or with its faults.
    pub(super) objects: Vec<Manifest>,
    /// ConfigMaps, which the objects may take their models from.
    pub(super) config_maps: Vec<ConfigMap>,
    /// Objects of the kinds whose pods may run a model, each with where it was read.
    pub(super) workloads: Vec<(Value, Origin)>,
    /// Objects that those may refer to.
    pub(super) referred: Vec<Value>,
    /// Other objects, by kind and name: passed over.
    pub(super) others: Vec<String>,
    /// Whether a document was passed over that has no kind: a chart's values, the file of another tool.
    pub(super) without_kind: bool,
    /// Whether a document was passed over that is a template, to be filled in before it is an object.
    pub(super) templates: bool,
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
    pub(super) fn read(text: &str, file: &str, named: Named) -> Self {
        let mut manifests = Self::default();
        for document in document::split(text) {
            let origin = Origin { file: Some(file.to_owned()), line: document.line };
            match document.parse() {
                Ok(Value::Null) => {}
                Ok(value) => manifests.object(value, &origin, &document, named),
                Err(problem) => manifests.fault(&document, origin, problem, named),
            }
        }
        manifests
    }

    /// A document that cannot be read. With placeholders in it, it was not meant to be; and other tools put comments into
    /// their JSON.
    fn fault(&mut self, document: &Document<'_>, origin: Origin, problem: String, named: Named) {
        let is_json = origin.file.as_deref().is_some_and(|file| file.to_ascii_lowercase().ends_with(".json"));
        match (document.contains("{{"), named) {
            (true, Named::ByDirectory) => self.templates = true,
            (true, Named::ByItself) => self.objects.push(unreadable(document, origin, TEMPLATE.to_owned())),
            (false, Named::ByDirectory) if is_json && !document.contains("loadline.dev") => {
                self.without_kind = true;
            }
            (false, _) => self.objects.push(unreadable(document, origin, problem)),
        }
    }

    fn object(&mut self, value: Value, origin: &Origin, document: &Document<'_>, named: Named) {
        let kind = value.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
        if let (true, Some(Value::Array(items))) =
            (kind == "List" || kind == format!("{KIND}List"), value.get("items"))
        {
            for item in items {
                self.object(item.clone(), origin, document, named);
            }
            return;
        }
        let api_version = value.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
        let ours = api_version.split('/').next() == API_VERSION.split('/').next();
        if kind == KIND && ours {
            let manifest = manifest(value, origin.clone(), document);
            // A value that is still to be filled in is no slip of whoever wrote it.
            let unfilled =
                manifest.spec.as_ref().is_err_and(|faults| faults.iter().any(|fault| fault.contains("{{")));
            match (unfilled, named) {
                (true, Named::ByDirectory) => self.templates = true,
                (true, Named::ByItself) => {
                    self.objects.push(unreadable(document, origin.clone(), TEMPLATE.to_owned()));
                }
                (false, _) => self.objects.push(manifest),
            }
        } else if kind.is_empty() && !ours && named == Named::ByDirectory {
            self.without_kind = true;
        } else if kind.is_empty() {
            let problem = format!("has no kind; expected apiVersion: {API_VERSION} and kind: {KIND}");
            self.objects.push(unreadable(document, origin.clone(), problem));
        } else if ours || kind == KIND {
            // A slip in one of the two must not make the object vanish from a check.
            let (found, wanted) =
                (format!("{api_version}, kind {kind}"), format!("{API_VERSION}, kind {KIND}"));
            let problem = format!("apiVersion {}: not known; expected {wanted}", shorten(&found));
            self.objects.push(unreadable(document, origin.clone(), problem));
        } else if workloads::is_read(&value) {
            self.workloads.push((value, origin.clone()));
        } else if let ("v1", "ConfigMap", Ok(map)) =
            (api_version, kind.as_str(), serde_json::from_value(value.clone()))
        {
            self.config_maps.push(map);
            self.referred.push(value);
        } else if workloads::is_referred_to(&value) {
            self.referred.push(value);
        } else {
            let name = value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("with no name");
            self.others.push(format!("{} {}", shorten(&kind), shorten(name)));
        }
    }
}

impl Manifest {
    /// A whole file that cannot be read.
    pub(super) fn of_file(file: &str, problem: String) -> Self {
        Self {
            namespace: None,
            name: "(file)".to_owned(),
            origin: Origin { file: Some(file.to_owned()), line: 1 },
            spec: Err(vec![problem]),
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
    let faults = schema::faults(&value);
    let spec = if faults.is_empty() {
        typed(value).map(Box::new).map_err(|fault| vec![fault])
    } else {
        let more = refused_besides(value, &faults);
        Err(faults.into_iter().map(|fault| fault.text).chain(more).collect())
    };
    Manifest { namespace, name, origin, spec }
}

/// What the rest of a spec is refused for, once the fields with faults are taken out: all is to be told at once.
fn refused_besides(mut value: Value, faults: &[Fault]) -> Option<String> {
    for fault in faults {
        // A list with a wrong item goes as a whole.
        let path = fault.path.split('[').next().unwrap_or_default();
        let (parent, field) = path.rsplit_once('.')?;
        let pointer = format!("/{}", parent.replace('.', "/"));
        if let Some(fields) = value.pointer_mut(&pointer).and_then(Value::as_object_mut) {
            fields.remove(field);
        }
    }
    let refusal = check(&typed(value).ok()?).err()?;
    let field = format!("spec.{}", refusal.field()?);
    // That a field is missing is no news where it was taken out.
    let taken_out =
        faults.iter().any(|fault| fault.path.starts_with(&field) || field.starts_with(&fault.path));
    (!taken_out).then(|| refusal.to_string())
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
