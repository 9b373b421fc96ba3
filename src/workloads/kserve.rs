//! KServe's kinds: an InferenceService whose facts are spread over its runtime, and an LLMInferenceService over what it is based on.
//!
//! Fields: kserve/kserve `pkg/apis/serving/v1beta1` and `v1alpha2`; what is appended to a runtime's arguments and laid over its
//! container: `pkg/controller/v1beta1/inferenceservice/utils`.

use serde_json::{Value, json};

use super::objects::{Objects, at, items, number, text};
use super::role::{Role, Serving, laid_over};
use super::start::Program;
use crate::engine::Word;
use crate::precision::Engine;

/// The container that serves, in every kind of KServe.
const CONTAINER: &str = "kserve-container";

/// The parts of an InferenceService: its predictor.
pub(super) fn inference_service(object: &Value, objects: &Objects<'_>) -> Vec<Role> {
    let Some(predictor) = at(object, "/spec/predictor") else { return Vec::new() };
    let namespace = text(object, "/metadata/namespace");
    let mut role = Role { replicas: number(predictor, "/minReplicas"), ..Role::of(predictor) };
    if let Some(model) = at(predictor, "/model") {
        let Some(serving) = of_model(model, namespace, objects, &mut role) else { return Vec::new() };
        role.serving = Some(serving);
    }
    if let Some(worker) = at(predictor, "/workerSpec") {
        let serving = role.serving.get_or_insert_default();
        serving.tensor = number(worker, "/tensorParallelSize");
        serving.pipeline = number(worker, "/pipelineParallelSize");
        role.is_group = true;
        role.ranks = number(worker, "/size").map(|size| size.saturating_add(1)).or(serving.pipeline);
        for (name, ranks) in
            [("TENSOR_PARALLEL_SIZE", serving.tensor), ("PIPELINE_PARALLEL_SIZE", serving.pipeline)]
        {
            role.variables.extend(ranks.map(|ranks| (name, ranks.to_string())));
        }
    }
    vec![role]
}

/// The pod of a predictor that names a model's format: its runtime's, with what the service adds. `None` for formats that are
/// no language model's.
fn of_model(
    model: &Value,
    namespace: Option<&str>,
    objects: &Objects<'_>,
    role: &mut Role,
) -> Option<Serving> {
    let format = text(model, "/modelFormat/name").unwrap_or_default().to_ascii_lowercase();
    let named = text(model, "/runtime");
    let runtime = named.and_then(|name| {
        objects
            .find(&["ServingRuntime"], name, namespace)
            .or_else(|| objects.find(&["ClusterServingRuntime"], name, None))
    });
    let program = match (format.as_str(), named) {
        (_, Some(name)) if name.contains("huggingfaceserver") => Some(Program::HuggingFaceServer),
        ("huggingface", None) => Some(Program::HuggingFaceServer),
        ("vllm", _) => Some(Program::Engine(Engine::Vllm)),
        _ => None,
    };
    if runtime.is_none() && program.is_none() {
        // With a runtime that is not in the file, or none: a format of other models is none of ours.
        let perhaps = format == "huggingface" || named.is_some_and(|name| name.contains("llm"));
        if !perhaps {
            return None;
        }
        role.faults.push(format!("the runtime {} is not in the file", named.unwrap_or_default()));
    }
    let own = json!({
        "name": CONTAINER, "image": at(model, "/image"), "command": at(model, "/command"), "args": at(model, "/args"),
        "env": at(model, "/env"), "resources": at(model, "/resources"),
    });
    let empty = json!({});
    let base = runtime.and_then(|runtime| at(runtime, "/spec")).unwrap_or(&empty);
    let of_runtime = items(base, "/containers").find(|container| text(container, "/name") == Some(CONTAINER));
    let mut container = laid_over(of_runtime.unwrap_or(&empty), &own);
    let words = |container: Option<&Value>| {
        container.map(|container| items(container, "/args").cloned().collect::<Vec<_>>()).unwrap_or_default()
    };
    // The service's arguments follow the runtime's.
    let arguments: Vec<Value> = words(of_runtime).into_iter().chain(words(Some(&own))).collect();
    if let Some(fields) = container.as_object_mut() {
        fields.insert("args".to_owned(), Value::Array(arguments));
        fields.retain(|_, value| !value.is_null());
    }
    let mut base = base.clone();
    if let Some(fields) = base.as_object_mut() {
        fields.insert("containers".to_owned(), json!([container]));
    }
    let mut own_pod = role.pod.clone();
    if let Some(fields) = own_pod.as_object_mut() {
        fields.remove("model");
    }
    role.pod = laid_over(&base, &own_pod);
    let place = text(model, "/storageUri").map(Word::of);
    let stored = at(model, "/storage").map(|_| Word::of("storage://"));
    Some(Serving { place: place.or(stored), program, ..Serving::default() })
}

/// The parts of an LLMInferenceService: what decodes, and what prefills where that is apart.
pub(super) fn llm(object: &Value, objects: &Objects<'_>) -> Vec<Role> {
    let namespace = text(object, "/metadata/namespace");
    let mut spec = json!({});
    let mut missing = None;
    for base in items(object, "/spec/baseRefs").filter_map(|base| text(base, "/name")) {
        match objects.find(&["LLMInferenceServiceConfig"], base, namespace) {
            Some(config) => spec = laid_over(&spec, at(config, "/spec").unwrap_or(&Value::Null)),
            None => missing = missing.or(Some(base.to_owned())),
        }
    }
    spec = laid_over(&spec, at(object, "/spec").unwrap_or(&Value::Null));
    let place = text(&spec, "/model/uri").map(Word::of);
    let mut roles = vec![part(&spec, "", None, place.clone())];
    if at(&spec, "/prefill").is_some() {
        roles.push(part(&spec, "/prefill", Some("prefill"), place));
        if let Some(decode) = roles.first_mut() {
            decode.name = Some("decode".to_owned());
        }
    }
    for role in &mut roles {
        let lacks_all = role.pod.get("containers").is_none();
        role.faults.extend(
            missing.iter().filter(|_| lacks_all).map(|base| format!("its base {base} is not in the file")),
        );
    }
    roles
}

fn part(spec: &Value, path: &str, name: Option<&str>, place: Option<Word>) -> Role {
    let field = |field: &str| at(spec, &format!("{path}/{field}"));
    let ranks = |kind: &str| number(spec, &format!("{path}/parallelism/{kind}"));
    let (data, here) = (ranks("data"), ranks("dataLocal"));
    let worker = field("worker");
    let groups = data.zip(here).and_then(|(data, here)| data.checked_div(here));
    let empty = json!({});
    Role {
        name: name.map(str::to_owned),
        worker: worker.cloned(),
        // Which KServe's own command adds, where it is set.
        variables: vec![("VLLM_ADDITIONAL_ARGS", String::new())],
        replicas: number(spec, &format!("{path}/replicas")),
        ranks: if worker.is_some() { groups.or_else(|| ranks("pipeline")) } else { None },
        is_group: worker.is_some() || groups.is_some_and(|groups| groups > 1),
        serving: Some(Serving {
            place,
            program: Some(Program::Engine(Engine::Vllm)),
            tensor: ranks("tensor"),
            pipeline: ranks("pipeline"),
            data,
            data_here: here,
        }),
        ..Role::of(field("template").unwrap_or(&empty))
    }
}
