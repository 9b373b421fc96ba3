//! The pod template: the user's, if there is one, with what Loadline adds.
//!
//! What the template says stays, unless it contradicts the estimate; then the object is refused, and nothing is
//! overruled in silence.

use k8s_openapi::api::core::v1::{PodTemplateSpec, Toleration};
use serde_json::{Map, Value, json};

use super::affinity::{self, Question};
use super::{Subject, affinity::preferred};
use crate::engine::Start;
use crate::inventory::{Expression, Sources, Term, Vendor};
use crate::refusal::Refusal;
use crate::units::shorten;

/// The container that serves the model.
const CONTAINER: &str = "model";
/// Shared memory for the processes of one replica.
const SHARED_MEMORY: (&str, &str) = ("shared-memory", "/dev/shm");
/// Terms that the user's and Loadline's may come to when each is combined with each.
const MOST_TERMS: usize = 64;

/// The pod template of an object.
pub(super) fn pods(subject: Subject<'_>, start: &Start, labels: &Value) -> Result<Value, Refusal> {
    let mut pods = match &subject.spec.template {
        Some(template) => checked(template)?,
        None => json!({}),
    };
    let Some(metadata) = object(&mut pods, "metadata") else { return Err(not_an_object("metadata")) };
    // The owner is the Deployment, and the name is made of its.
    for of_the_pod in ["name", "namespace", "generateName", "ownerReferences"] {
        metadata.remove(of_the_pod);
    }
    merge(metadata, "labels", labels);
    let Some(spec) = object(&mut pods, "spec") else { return Err(not_an_object("spec")) };
    if spec.get("containers").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        spec.insert("containers".to_owned(), json!([{"name": CONTAINER}]));
    }
    let gpus = subject.requirement.gpus;
    let serving = serving(spec);
    let containers = spec.get_mut("containers").and_then(Value::as_array_mut);
    for (at, container) in containers.into_iter().flatten().enumerate() {
        let Some(container) = container.as_object_mut() else {
            return Err(not_an_object("spec.containers"));
        };
        if at == serving {
            serve(subject, container, start, gpus)?;
        } else if requested(container, subject.resource).is_some() {
            return Err(invalid(
                "template",
                format!(
                    "container {} requests {} too, which no estimate covers",
                    name_of(container),
                    subject.resource
                ),
                "remove it: one container serves the model".to_owned(),
            ));
        }
    }
    if gpus > 1 && subject.spec.template.is_none() {
        // The ranks of one replica exchange tensors through shared memory, of which a container has 64 MiB by default.
        spec.insert(
            "volumes".to_owned(),
            json!([{"name": SHARED_MEMORY.0, "emptyDir": {"medium": "Memory"}}]),
        );
    }
    select(subject, spec)?;
    tolerate(subject, spec);
    place(subject, spec)?;
    Ok(pods)
}

/// The user's template, if the API server would understand it.
fn checked(template: &Value) -> Result<Value, Refusal> {
    // What is left empty is what Kubernetes' defaults, and Loadline's, are for.
    let mut filled = template.clone();
    if let Some(containers) = filled.pointer_mut("/spec/containers").and_then(Value::as_array_mut) {
        for (at, container) in containers.iter_mut().enumerate() {
            if let Some(container) = container.as_object_mut() {
                let name = if at == 0 { CONTAINER.to_owned() } else { format!("{CONTAINER}-{at}") };
                container.entry("name").or_insert(Value::String(name));
            }
        }
    } else if let Some(spec) = filled.get_mut("spec").and_then(Value::as_object_mut)
        && spec.get("containers").is_none_or(Value::is_null)
    {
        spec.insert("containers".to_owned(), json!([{"name": CONTAINER}]));
    }
    let typed: Result<PodTemplateSpec, _> = serde_path_to_error::deserialize(&filled);
    match typed {
        Ok(_) => Ok(filled),
        Err(error) => Err(invalid(
            &format!("template.{}", error.path()),
            error.inner().to_string(),
            "write it as the template of a Deployment".to_owned(),
        )),
    }
}

/// Which container serves the model: the one of that name, or the first.
fn serving(spec: &Map<String, Value>) -> usize {
    let containers = spec.get("containers").and_then(Value::as_array);
    let named = containers.and_then(|containers| {
        containers
            .iter()
            .position(|container| container.get("name").and_then(Value::as_str) == Some(CONTAINER))
    });
    named.unwrap_or(0)
}

/// What the serving container gets: image, command, arguments and GPUs.
fn serve(
    subject: Subject<'_>,
    container: &mut Map<String, Value>,
    start: &Start,
    gpus: u64,
) -> Result<(), Refusal> {
    let templated = subject.spec.template.is_some();
    let engine = subject.spec.engine.as_ref();
    let own_image = container.get("image").and_then(Value::as_str).map(str::to_owned);
    let wanted_image = engine.and_then(|engine| engine.image.as_deref());
    match (&own_image, wanted_image, &start.image) {
        (Some(own), Some(wanted), _) if own != wanted => {
            return Err(invalid(
                "engine.image",
                format!("\"{}\" contradicts the template's image \"{}\"", shorten(wanted), shorten(own)),
                "name the image in one of them".to_owned(),
            ));
        }
        (Some(_), _, _) => {}
        (None, _, Some(image)) => {
            container.insert("image".to_owned(), json!(image));
        }
        (None, _, None) => {
            return Err(invalid(
                "template",
                format!("container {} has no image", name_of(container)),
                "set its image, or engine.image".to_owned(),
            ));
        }
    }
    let speaks_for_itself = ["command", "args"]
        .iter()
        .any(|key| container.get(*key).and_then(Value::as_array).is_some_and(|words| !words.is_empty()));
    if speaks_for_itself {
        if engine.and_then(|engine| engine.args.as_ref()).is_some_and(|arguments| !arguments.is_empty()) {
            return Err(invalid(
                "engine.args",
                "the template's container has a command or arguments of its own".to_owned(),
                "write the arguments in one of them".to_owned(),
            ));
        }
    } else {
        if !start.command.is_empty() {
            container.insert("command".to_owned(), json!(start.command));
        }
        if let Some(arguments) = &start.arguments {
            container.insert("args".to_owned(), json!(arguments));
        }
    }
    if !templated {
        furnish(subject, container, start, gpus);
    }
    request(subject.resource, container, gpus)
}

/// What a container that is wholly Loadline's gets besides: its port, a probe, a token, shared memory.
fn furnish(subject: Subject<'_>, container: &mut Map<String, Value>, start: &Start, gpus: u64) {
    if let Some((port, path)) = start.endpoint {
        container
            .insert("ports".to_owned(), json!([{"name": "http", "containerPort": port, "protocol": "TCP"}]));
        // Ready is when the model is loaded, which may be long after the container has started.
        container.insert(
            "readinessProbe".to_owned(),
            json!({"httpGet": {"path": path, "port": "http"}, "periodSeconds": 10, "failureThreshold": 3}),
        );
    }
    let model = &subject.spec.model;
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

/// The GPUs that a container asks for, as written.
fn requested<'a>(container: &'a Map<String, Value>, resource: &str) -> Option<&'a Value> {
    let resources = container.get("resources")?;
    ["limits", "requests"].iter().find_map(|kind| resources.get(*kind)?.get(resource))
}

/// Asks for the GPUs.
fn request(resource: &str, container: &mut Map<String, Value>, gpus: u64) -> Result<(), Refusal> {
    let wanted = gpus.to_string();
    if let Some(own) = requested(container, resource) {
        let own = own.as_str().map_or_else(|| own.to_string(), str::to_owned);
        if own != wanted {
            return Err(invalid(
                "template",
                format!(
                    "container {} requests {resource}: {}, and one replica takes {wanted} (tensor x pipeline)",
                    name_of(container),
                    shorten(&own)
                ),
                "remove the request, or set parallelism.tensor".to_owned(),
            ));
        }
    }
    let resources = container.entry("resources").or_insert_with(|| json!({}));
    if let Some(resources) = resources.as_object_mut() {
        // Limit and request of an extended resource must be equal.
        for kind in ["limits", "requests"] {
            merge(resources, kind, &json!({resource: wanted}));
        }
    }
    Ok(())
}

/// The node selector, as labels of the pod's own.
fn select(subject: Subject<'_>, spec: &mut Map<String, Value>) -> Result<(), Refusal> {
    let wanted = subject.spec.placement.as_ref().and_then(|placement| placement.node_selector.as_ref());
    for (key, value) in wanted.into_iter().flatten() {
        let own = spec.get("nodeSelector").and_then(|selector| selector.get(key)).and_then(Value::as_str);
        if let Some(own) = own.filter(|own| own != value) {
            return Err(invalid(
                "placement.nodeSelector",
                format!(
                    "{}: \"{}\" contradicts the template's \"{}\"",
                    shorten(key),
                    shorten(value),
                    shorten(own)
                ),
                "say it in one of them".to_owned(),
            ));
        }
        merge(spec, "nodeSelector", &json!({key.as_str(): value}));
    }
    Ok(())
}

/// Tolerations: the template's, the object's, and the one of the GPUs' own taint.
fn tolerate(subject: Subject<'_>, spec: &mut Map<String, Value>) {
    let own = spec.get("tolerations").and_then(Value::as_array).cloned().unwrap_or_default();
    let wanted = subject.spec.placement.as_ref().and_then(|placement| placement.tolerations.clone());
    // The convention of Kubernetes' admission plugin ExtendedResourceToleration, which is off by default.
    let mut keys = vec![subject.resource, Vendor::Nvidia.resource()];
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
fn place(subject: Subject<'_>, spec: &mut Map<String, Value>) -> Result<(), Refusal> {
    let placement = subject.spec.placement.as_ref();
    let sources = Sources::default();
    let question = Question {
        sources: &sources,
        resource: subject.resource,
        requirement: subject.requirement,
        sharing: placement.and_then(|placement| placement.sharing).unwrap_or_default(),
        strategy: placement.and_then(|placement| placement.strategy).unwrap_or_default(),
    };
    let own = affinity::required(question).map_err(|overflow| Refusal::Estimate(overflow.into()))?;
    let affinity = spec.entry("affinity").or_insert_with(|| json!({}));
    if affinity.is_null() {
        *affinity = json!({});
    }
    let Some(node) = affinity.as_object_mut().and_then(|affinity| object_in(affinity, "nodeAffinity")) else {
        return Err(not_an_object("spec.affinity"));
    };
    let users = node
        .get("requiredDuringSchedulingIgnoredDuringExecution")
        .and_then(|required| required.get("nodeSelectorTerms"))
        .and_then(Value::as_array);
    // To Kubernetes an empty term matches no node: with Loadline's expressions in it, it would match some.
    let users = users.map_or_else(
        || vec![json!({})],
        |terms| {
            let says_something = |term: &&Value| {
                ["matchExpressions", "matchFields"]
                    .iter()
                    .any(|kind| term.get(*kind).and_then(Value::as_array).is_some_and(|all| !all.is_empty()))
            };
            terms.iter().filter(says_something).cloned().collect()
        },
    );
    if users.is_empty() {
        return Err(invalid(
            "template.spec.affinity",
            "the required node selector terms are empty, and match no node".to_owned(),
            "remove them, or write an expression".to_owned(),
        ));
    }
    if users.len().saturating_mul(own.len()) > MOST_TERMS {
        return Err(invalid(
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

/// The object under a key, made if it is not there.
fn object<'a>(value: &'a mut Value, key: &str) -> Option<&'a mut Map<String, Value>> {
    object_in(value.as_object_mut()?, key)
}

fn object_in<'a>(fields: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Map<String, Value>> {
    let value = fields.entry(key).or_insert_with(|| json!({}));
    if value.is_null() {
        *value = json!({});
    }
    value.as_object_mut()
}

/// Sets the entries of an object under a key.
fn merge(fields: &mut Map<String, Value>, key: &str, entries: &Value) {
    if let (Some(into), Some(entries)) = (object_in(fields, key), entries.as_object()) {
        into.extend(entries.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
}

fn name_of(container: &Map<String, Value>) -> String {
    shorten(container.get("name").and_then(Value::as_str).unwrap_or_default())
}

fn not_an_object(path: &str) -> Refusal {
    invalid(
        &format!("template.{path}"),
        "not an object".to_owned(),
        "write it as the template of a Deployment".to_owned(),
    )
}

fn invalid(field: &str, problem: String, remedy: String) -> Refusal {
    Refusal::Invalid { field: field.to_owned(), problem, remedy }
}
