//! The pods that serve a model: the user's template, if there is one, with what Loadline adds.
//!
//! What the template says stays, unless it contradicts the estimate; then the object is refused, and nothing is
//! overruled in silence.

use k8s_openapi::api::core::v1::Toleration;
use serde_json::{Map, Value, json};

use super::Inputs;
use super::affinity::{self, Question, preferred};
use super::template::{SERVING, object};
use crate::engine::Start;
use crate::inventory::{Expression, Term, Vendor};
use crate::refusal::Refusal;

/// Shared memory for the processes of one replica.
const SHARED_MEMORY: (&str, &str) = ("shared-memory", "/dev/shm");
/// Terms that the user's and Loadline's may come to when each is combined with each.
const MOST_TERMS: usize = 64;

/// The pod template of an object.
pub(super) fn pods(inputs: Inputs<'_>, start: &Start, labels: &Value) -> Result<Value, Refusal> {
    let gpus = inputs.requirement.gpus;
    let mut pods = inputs.template.map_or_else(
        || json!({"spec": {"containers": [{"name": SERVING}]}}),
        |template| template.raw.clone(),
    );
    if let Some(template) = inputs.template {
        template.gpus(inputs.resource, gpus)?;
    }
    let fields = pods.as_object_mut().ok_or_else(|| not_an_object("template"))?;
    let metadata = object(fields, "metadata").ok_or_else(|| not_an_object("template.metadata"))?;
    // The owner is the Deployment, and the name is made of its.
    for of_the_pod in ["name", "namespace", "generateName", "ownerReferences"] {
        metadata.remove(of_the_pod);
    }
    merge(metadata, "labels", labels);
    let spec = object(fields, "spec").ok_or_else(|| not_an_object("template.spec"))?;
    let serving = inputs.template.map_or(0, super::Template::serving);
    let container = spec
        .get_mut("containers")
        .and_then(|containers| containers.get_mut(serving)?.as_object_mut())
        .ok_or_else(|| not_an_object("template.spec.containers"))?;
    serve(inputs, container, start, gpus);
    if gpus > 1 && inputs.template.is_none() {
        // The ranks of one replica exchange tensors through shared memory, of which a container has 64 MiB by default.
        spec.insert(
            "volumes".to_owned(),
            json!([{"name": SHARED_MEMORY.0, "emptyDir": {"medium": "Memory"}}]),
        );
    }
    select(inputs, spec);
    tolerate(inputs, spec);
    place(inputs, spec)?;
    Ok(pods)
}

/// What the serving container gets: image, command, arguments and GPUs.
fn serve(inputs: Inputs<'_>, container: &mut Map<String, Value>, start: &Start, gpus: u64) {
    if inputs.template.is_none_or(|template| template.image().is_none())
        && let Some(image) = &start.image
    {
        container.insert("image".to_owned(), json!(image));
    }
    if !container.contains_key("terminationMessagePath") {
        // The engine's last words, such as those of a GPU that is out of memory, are in the pod's status then.
        container.entry("terminationMessagePolicy").or_insert_with(|| json!("FallbackToLogsOnError"));
    }
    if inputs.template.is_none_or(|template| !template.speaks_for_itself()) {
        if !start.command.is_empty() {
            container.insert("command".to_owned(), json!(start.command));
        }
        if let Some(arguments) = &start.arguments {
            container.insert("args".to_owned(), json!(arguments));
        }
    }
    if inputs.template.is_none() {
        furnish(inputs, container, start, gpus);
    }
    let resources = container.entry("resources").or_insert_with(|| json!({}));
    if resources.is_null() {
        *resources = json!({});
    }
    if let Some(resources) = resources.as_object_mut() {
        // Limit and request of an extended resource must be equal.
        for kind in ["limits", "requests"] {
            merge(resources, kind, &json!({inputs.resource: gpus.to_string()}));
        }
    }
}

/// What a container that is wholly Loadline's gets besides: its port, a probe, a token, shared memory.
fn furnish(inputs: Inputs<'_>, container: &mut Map<String, Value>, start: &Start, gpus: u64) {
    if let Some((port, path)) = start.endpoint {
        container
            .insert("ports".to_owned(), json!([{"name": "http", "containerPort": port, "protocol": "TCP"}]));
        // Ready is when the model is loaded, which may be long after the container has started.
        container.insert(
            "readinessProbe".to_owned(),
            json!({"httpGet": {"path": path, "port": "http"}, "periodSeconds": 10, "failureThreshold": 3}),
        );
    }
    let model = &inputs.spec.model;
    let reference = model
        .hugging_face
        .as_ref()
        .or_else(|| model.gguf.as_ref().and_then(|gguf| gguf.hugging_face.as_ref()));
    if let Some(secret) = reference.and_then(|reference| reference.token_secret_ref.as_ref()) {
        container.insert(
            "env".to_owned(),
            json!([{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": secret.name, "key": secret.key}}}]),
        );
    }
    if gpus > 1 {
        container.insert(
            "volumeMounts".to_owned(),
            json!([{"name": SHARED_MEMORY.0, "mountPath": SHARED_MEMORY.1}]),
        );
    }
}

/// The node selector, beside the template's own: that the two agree was seen when the policy was read.
fn select(inputs: Inputs<'_>, spec: &mut Map<String, Value>) {
    let wanted = inputs.spec.placement.as_ref().and_then(|placement| placement.node_selector.as_ref());
    for (key, value) in wanted.into_iter().flatten() {
        merge(spec, "nodeSelector", &json!({key.as_str(): value}));
    }
}

/// Tolerations: the template's, the object's, and the one of the GPUs' own taint.
fn tolerate(inputs: Inputs<'_>, spec: &mut Map<String, Value>) {
    let own = spec.get("tolerations").and_then(Value::as_array).cloned().unwrap_or_default();
    let wanted = inputs.spec.placement.as_ref().and_then(|placement| placement.tolerations.clone());
    // The convention of Kubernetes' admission plugin ExtendedResourceToleration, which is off by default.
    let mut keys = vec![inputs.resource, Vendor::Nvidia.resource()];
    keys.dedup();
    let gpus = keys.into_iter().map(|key| Toleration {
        key: Some(key.to_owned()),
        operator: Some("Exists".to_owned()),
        ..Toleration::default()
    });
    let mut all = own;
    for toleration in wanted.into_iter().flatten().chain(gpus) {
        let toleration = json!(toleration);
        if !all.contains(&toleration) {
            all.push(toleration);
        }
    }
    spec.insert("tolerations".to_owned(), Value::Array(all));
}

/// Node affinity: each of the user's required terms and each of Loadline's, in one; the user's preferences, then
/// Loadline's.
fn place(inputs: Inputs<'_>, spec: &mut Map<String, Value>) -> Result<(), Refusal> {
    let placement = inputs.spec.placement.as_ref();
    let question = Question {
        sources: inputs.sources,
        resource: inputs.resource,
        requirement: inputs.requirement,
        sharing: placement.and_then(|placement| placement.sharing).unwrap_or_default(),
        strategy: placement.and_then(|placement| placement.strategy).unwrap_or_default(),
    };
    let own = affinity::required(question).map_err(|overflow| Refusal::Estimate(overflow.into()))?;
    let users = match inputs.template {
        Some(template) => template.required()?.iter().map(|term| json!(term)).collect(),
        None => Vec::new(),
    };
    // Without a term of the user's, Loadline's stand alone.
    let users = if users.is_empty() { vec![json!({})] } else { users };
    let node = object(spec, "affinity")
        .and_then(|affinity| object(affinity, "nodeAffinity"))
        .ok_or_else(|| not_an_object("template.spec.affinity"))?;
    if users.len().saturating_mul(own.len()) > MOST_TERMS {
        return Err(Refusal::invalid(
            "template.spec.affinity",
            format!("{} required node selector terms", users.len()),
            format!("write at most {}", MOST_TERMS / own.len().max(1)),
        ));
    }
    let terms: Vec<Value> =
        own.iter().flat_map(|own| users.iter().map(move |users| both(users, own))).collect();
    node.insert(
        "requiredDuringSchedulingIgnoredDuringExecution".to_owned(),
        json!({"nodeSelectorTerms": terms}),
    );
    let kind = "preferredDuringSchedulingIgnoredDuringExecution";
    let mut preferences = node.get(kind).and_then(Value::as_array).cloned().unwrap_or_default();
    preferences.extend(preferred(question));
    if !preferences.is_empty() {
        node.insert(kind.to_owned(), Value::Array(preferences));
    }
    Ok(())
}

/// One term that holds where both hold.
fn both(users: &Value, own: &Term) -> Value {
    let mut term = users.as_object().cloned().unwrap_or_default();
    let mut expressions = term.get("matchExpressions").and_then(Value::as_array).cloned().unwrap_or_default();
    expressions.extend(own.expressions.iter().map(Expression::to_api));
    term.insert("matchExpressions".to_owned(), Value::Array(expressions));
    Value::Object(term)
}

/// Sets the entries of an object under a key.
fn merge(fields: &mut Map<String, Value>, key: &str, entries: &Value) {
    if let (Some(into), Some(entries)) = (object(fields, key), entries.as_object()) {
        into.extend(entries.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
}

fn not_an_object(field: &str) -> Refusal {
    Refusal::invalid(field, "it is not an object", "write it as the template of a Deployment")
}
