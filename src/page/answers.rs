//! What the endpoints of the estimate answer: each a function of a request, by the same core as the command line's.

use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::ModelDeploymentSpec;
use crate::api::v1alpha1::ModelSource;
use crate::estimate::{AttentionKernel, Checkpointing, Method, Offload, Optimizer, Sharding};
use crate::model::ModelShape;
use crate::model::catalog;
use crate::plan::{check, margin, workload};
use crate::precision::{CachePrecision, Engine, Precision};
use crate::render::json::{
    self, CardDocument, CardFitDocument, CurveDocument, EstimateDocument, ModelEntry, RangeDocument,
};
use crate::render::yaml;
use crate::sizing::{Answer, CARDS, Comparison, Gpu, Question, Sizing, command, curve, grid};
use crate::units::Bytes;

use super::models::Models;
use super::problem::Problem;

/// What is asked of a model.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct EstimateRequest {
    /// The model and how it is to be run, as in a ModelDeployment.
    pub(super) spec: ModelDeploymentSpec,
    /// Say whether it fits this GPU: a name such as L4, or its memory in MiB.
    #[serde(default)]
    fit: Option<String>,
    /// Show the model side by side at every usual value of one thing.
    #[serde(default)]
    compare: Option<Comparison>,
}

/// A text that names a model.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NamedRequest {
    /// A size, a model of the catalog, a repository of the Hub, or an address of one.
    text: String,
}

/// What a text stands for.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct NamedDocument {
    /// What to write into `spec.model`.
    model: ModelSource,
}

/// Everything that the page shows of an estimate.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ViewDocument {
    /// What `loadline estimate -o json` prints.
    estimate: EstimateDocument,
    /// How wide the estimate itself may be, on the GPU that needs most.
    range: RangeDocument,
    /// The common GPUs, and which have what is required.
    cards: Vec<CardFitDocument>,
    /// Memory over context.
    curve: CurveDocument,
    /// The model's longest context, where it is known.
    longest_context: Option<u64>,
    /// The repository that the model is of, where it is known.
    repository: Option<String>,
    /// The command that asks the same.
    command: String,
    /// A ModelDeployment that asks for the same.
    manifest: String,
}

/// The values of every closed list.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ChoicesDocument {
    precision: Vec<Precision>,
    cache_precision: Vec<CachePrecision>,
    engine: Vec<Engine>,
    method: Vec<Method>,
    optimizer: Vec<Optimizer>,
    gradient_checkpointing: Vec<Checkpointing>,
    attention: Vec<AttentionKernel>,
    sharding: Vec<Sharding>,
    offload: Vec<Offload>,
}

/// What `loadline estimate -o json` prints.
pub(super) fn estimate(models: &Models, request: &EstimateRequest) -> Result<EstimateDocument, Problem> {
    let shape = shape(models, request)?;
    Ok(answer(&shape, request)?.document)
}

/// Everything that the page shows.
pub(super) fn view(models: &Models, request: &EstimateRequest) -> Result<ViewDocument, Problem> {
    let (spec, shape) = (&request.spec, shape(models, request)?);
    let Answer { estimate, document } = answer(&shape, request)?;
    let asked = workload(spec, &shape)?;
    let sizing = Sizing { shape: &shape, asked: &asked, estimate: &estimate, margin: margin(spec)? };
    let repository = match &spec.model {
        ModelSource { hugging_face: Some(hub), .. } => Some(hub.repository.clone()),
        ModelSource { catalog: Some(name), .. } => catalog::find(name).map(|entry| entry.repository.clone()),
        _ => None,
    };
    Ok(ViewDocument {
        range: whole(&document),
        estimate: document,
        cards: grid(&sizing),
        curve: curve(&sizing),
        longest_context: shape.max_context,
        repository,
        command: command(spec),
        manifest: manifest(spec, &shape.name)?,
    })
}

/// The ranges of all components together.
fn whole(document: &EstimateDocument) -> RangeDocument {
    let sum = |of: fn(&RangeDocument) -> Bytes| {
        Bytes(document.range.values().fold(0_u64, |sum, range| sum.saturating_add(of(range).0)))
    };
    RangeDocument { low: sum(|of| of.low), expected: sum(|of| of.expected), high: sum(|of| of.high) }
}

fn shape(models: &Models, request: &EstimateRequest) -> Result<std::sync::Arc<ModelShape>, Problem> {
    // What is wrong with the spec is said before anything is read for it. A file that was uploaded stands for a ConfigMap.
    check(&request.spec)?;
    models.shape(&request.spec)
}

fn answer(shape: &ModelShape, request: &EstimateRequest) -> Result<Answer, Problem> {
    let fit =
        request.fit.as_deref().filter(|text| !text.trim().is_empty()).map(str::parse::<Gpu>).transpose();
    let fit = fit.map_err(|error| Problem::of_field("fit", error))?;
    let question = Question {
        fit: fit.as_ref(),
        compare: request.compare,
        ..Question::new(shape, &request.spec, margin(&request.spec)?)
    };
    Ok(question.answer()?)
}

/// A ModelDeployment with a spec, as YAML.
fn manifest(spec: &ModelDeploymentSpec, model: &str) -> Result<String, Problem> {
    let broken = |error: String| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error);
    let mut spec = serde_json::to_value(spec).map_err(|error| broken(error.to_string()))?;
    if let Some(fields) = spec.as_object_mut() {
        // One is the default.
        fields.retain(|field, value| field != "replicas" || *value != 1);
    }
    let object = serde_json::json!({
        "apiVersion": "loadline.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": object_name(model)},
        "spec": spec,
    });
    yaml::print(&object).map_err(|error| broken(error.to_string()))
}

/// A name that an object may have, from that of a model.
fn object_name(model: &str) -> String {
    let last = model.rsplit('/').next().unwrap_or(model).to_ascii_lowercase();
    let part = |part: &str| (!part.is_empty()).then(|| part.to_owned());
    let parts: Vec<String> = last.split(|c: char| !c.is_ascii_alphanumeric()).filter_map(part).collect();
    let name: String = parts.join("-").chars().take(50).collect();
    let name = name.trim_matches('-');
    // The name of an object that is a service's too begins with a letter.
    match name.chars().next() {
        Some(first) if first.is_ascii_alphabetic() => name.to_owned(),
        Some(_) => format!("model-{name}"),
        None => "model".to_owned(),
    }
}

/// What a text names.
pub(super) fn named(request: &NamedRequest) -> Result<NamedDocument, Problem> {
    Ok(NamedDocument { model: crate::sizing::named(&request.text)? })
}

/// What `loadline estimate --list-models -o json` prints.
pub(super) fn models() -> Vec<ModelEntry> {
    let models: Vec<_> =
        catalog::entries().iter().filter_map(|entry| Some((entry, entry.shape()?))).collect();
    json::models(&models)
}

/// What `loadline estimate --list-gpus -o json` prints.
pub(super) fn gpus() -> Vec<CardDocument> {
    CARDS.iter().map(|card| CardDocument { name: card.name, memory: card.memory() }).collect()
}

/// The closed lists.
pub(super) fn choices() -> ChoicesDocument {
    ChoicesDocument {
        precision: Precision::ALL.to_vec(),
        cache_precision: CachePrecision::ALL.to_vec(),
        engine: Engine::ALL.to_vec(),
        method: Method::ALL.to_vec(),
        optimizer: Optimizer::ALL.to_vec(),
        gradient_checkpointing: Checkpointing::ALL.to_vec(),
        attention: AttentionKernel::ALL.to_vec(),
        sharding: Sharding::ALL.to_vec(),
        offload: Offload::ALL.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::object_name;

    #[test]
    fn a_model_gives_a_name_that_an_object_may_have() {
        for (model, name) in [
            ("meta-llama/Llama-3.1-8B-Instruct", "llama-3-1-8b-instruct"),
            ("8B", "model-8b"),
            ("모델", "model"),
            ("a__b..c", "a-b-c"),
        ] {
            assert_eq!(object_name(model), name, "{model}");
        }
    }
}
