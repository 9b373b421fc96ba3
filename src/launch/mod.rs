//! What runs for an object: the pods that serve its model, or why none do. Pure.
//!
//! Invariants: the pods depend on the spec alone, never on the cluster, so that nothing but a change of the spec rolls them
//! (what the cluster decides, a resource's name and `tensor: auto`, stays as it was written); pods that a template makes
//! can be bound only to nodes that [`decide`](crate::decide) accepts by their labels; what was written for a spec stays
//! as it was written until that spec changes, whichever version of Loadline wrote it ([`record`]).

pub mod affinity;
pub mod deployment;
pub mod failure;
pub mod guard;
pub mod images;
mod pods;
pub mod record;
pub mod rollout;
pub mod standing;
mod template;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::api::ModelDeploymentSpec;
use crate::decide::{Decision, Requirement, Verdict};
use crate::engine;
use crate::estimate::Estimate;
use crate::inventory::{MODEL_DEPLOYMENT_LABEL, Sources};
use crate::model::ModelShape;
use crate::precision::Engine;
use crate::refusal::Refusal;
use crate::units::{Bytes, Margin, shorten};

use crate::engine::Named;
pub use crate::engine::Nothing;
pub use deployment::{FIELD_MANAGER, MANAGED_BY, MANAGED_BY_LABEL, selector};
pub use record::{Record, Running};
pub use template::Template;

/// A label value is at most so long, and the object's name is one.
const LONGEST_NAME: usize = 63;

/// What an object's pods are made of.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its spec.
    pub spec: &'a ModelDeploymentSpec,
    /// Its pod template, if it has one.
    pub template: Option<&'a Template>,
    /// The model's shape.
    pub shape: &'a ModelShape,
    /// The repository that a catalog entry stands for.
    pub repository: Option<&'a str>,
    /// The resource that the pods request, such as `nvidia.com/gpu`.
    pub resource: &'a str,
    /// What it needs.
    pub estimate: &'a Estimate,
    /// The safety margin.
    pub margin: Margin,
    /// What the nodes must have.
    pub requirement: Requirement,
    /// Where the cluster's nodes may have their labels from.
    pub sources: &'a Sources,
}

/// What is to run.
#[derive(Clone, Debug, PartialEq)]
pub enum Launch {
    /// These pods.
    Run(Box<Pods>),
    /// Nothing, and why.
    Nothing(Nothing),
}

impl Launch {
    /// Why nothing runs though something was asked for; `None` where something runs, or where the spec asks for an
    /// estimate only.
    #[must_use]
    pub fn obstacle(&self) -> Option<&Nothing> {
        match self {
            Self::Nothing(nothing) if !nothing.is_by_choice() => Some(nothing),
            Self::Nothing(_) | Self::Run(_) => None,
        }
    }

    /// Why what is asked for can never be run as it is. That nothing says where the weights are is not among it: a size or a
    /// config alone is a question about memory, which has its answer, and nothing of it runs.
    #[must_use]
    pub fn impossibility(&self) -> Option<&Nothing> {
        self.obstacle().filter(|nothing| !matches!(nothing, Nothing::NoModel))
    }

    /// The pods, if any run.
    #[must_use]
    pub fn pods(&self) -> Option<&Pods> {
        match self {
            Self::Run(pods) => Some(pods),
            Self::Nothing(_) => None,
        }
    }
}

/// The pods of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Pods {
    /// The pod template, as it is to be applied.
    pub template: Value,
    /// What it demands of nodes.
    pub demand: Demand,
}

/// What pods demand of the nodes that they are bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Demand {
    /// The resource that they request, such as `nvidia.com/gpu`.
    pub resource: String,
    /// How many of it each pod takes.
    pub gpus: u64,
    /// Bytes that each must have.
    pub per_gpu: u64,
    /// Tensor-parallel ranks, which `auto` does not say.
    pub tensor: u64,
}

impl Demand {
    /// As a requirement of nodes.
    #[must_use]
    pub const fn requirement(&self) -> Requirement {
        Requirement { per_gpu: Bytes(self.per_gpu), gpus: self.gpus }
    }
}

/// What is to run for an object.
///
/// # Errors
/// A template or engine argument that is malformed or contradicts the estimate, or a name that is no label's value.
pub fn launch(inputs: Inputs<'_>) -> Result<Launch, Refusal> {
    let spec = inputs.spec;
    if spec.training.is_some() {
        return Ok(Launch::Nothing(Nothing::Training));
    }
    let start = match engine::start(question(inputs))? {
        engine::Launch::Nothing(nothing) => return Ok(Launch::Nothing(nothing)),
        engine::Launch::Run(start) => start,
    };
    if inputs.name.len() > LONGEST_NAME {
        return Err(Refusal::name(
            format!(
                "\"{}\" has {} characters, and its pods carry it as a label",
                shorten(inputs.name),
                inputs.name.len()
            ),
            format!("choose a name of at most {LONGEST_NAME} characters"),
        ));
    }
    let labels = json!({
        "app.kubernetes.io/name": start.application,
        "app.kubernetes.io/instance": inputs.name,
        "app.kubernetes.io/component": "model-server",
        MANAGED_BY_LABEL: MANAGED_BY,
        MODEL_DEPLOYMENT_LABEL: inputs.name,
    });
    Ok(Launch::Run(Box::new(Pods {
        template: pods::pods(inputs, &start, &labels)?,
        demand: Demand {
            resource: inputs.resource.to_owned(),
            gpus: inputs.requirement.gpus,
            per_gpu: inputs.requirement.per_gpu.0,
            tensor: inputs.estimate.workload.tensor,
        },
    })))
}

/// Whether nothing would run for an object in any case, since it asks for an estimate only or names no weights.
#[must_use]
pub fn would_run_nothing(inputs: Inputs<'_>) -> bool {
    if inputs.spec.training.is_some() {
        return true;
    }
    match engine::start(question(inputs)) {
        Ok(engine::Launch::Nothing(nothing)) => nothing.is_by_choice() || nothing == Nothing::NoModel,
        Ok(engine::Launch::Run(_)) | Err(_) => false,
    }
}

/// Whether anything would run for an object with this estimate. What is suggested must.
#[must_use]
pub fn would_run(inputs: Inputs<'_>) -> bool {
    let fits_template = inputs.template.is_none_or(|template| template.takes(inputs.requirement.gpus));
    fits_template && matches!(engine::start(question(inputs)), Ok(engine::Launch::Run(_)))
}

fn question(inputs: Inputs<'_>) -> engine::Question<'_> {
    let spec = inputs.spec.engine.as_ref();
    let engine = spec.map_or(Engine::Vllm, |engine| engine.name);
    let template = inputs.template;
    let image =
        spec.and_then(|engine| engine.image.as_deref()).or_else(|| template.and_then(Template::image));
    let stock = image.and_then(engine::stock_of);
    let commands = template.is_some_and(Template::commands);
    // Where no engine is named, the words are for the one whose image it is.
    let reader = if engine == Engine::None { stock.unwrap_or(engine) } else { engine };
    let words = template.map(Template::words).filter(|words| !words.is_empty());
    let replaced = words.is_some();
    let words = words.or_else(|| spec.and_then(|engine| engine.args.as_deref())).unwrap_or_default();
    let named = match engine::named(reader, words) {
        Named::No => {
            let of = |name: &&str| template?.variable(name);
            engine::model_variables(reader).iter().find_map(of).unwrap_or_default()
        }
        named => named,
    };
    engine::Question {
        spec: inputs.spec,
        shape: inputs.shape,
        catalog_repository: inputs.repository,
        brought: commands || (image.is_some() && stock.is_none()),
        has_image: image.is_some() || commands,
        named,
        replaced,
        estimate: inputs.estimate,
        margin: inputs.margin,
    }
}

/// The resource that the pods are to request: the one they request already, unless it is of no use; else the decision's.
///
/// Nothing but a change of the spec should roll the pods. A cluster that has come to have whole GPUs beside its MIG
/// slices, or the other way round, is no reason; that none of the pods is ready and only the others would fit is one.
#[must_use]
pub fn resource<'a>(decision: &'a Decision, present: Option<&'a str>, is_any_ready: bool) -> &'a str {
    match present {
        Some(present) if is_any_ready || suits(decision, Some(present)) || !suits(decision, None) => present,
        _ => decision.resource(),
    }
}

/// Whether some node has room, in use or not, with this resource or with any.
#[must_use]
pub fn suits(decision: &Decision, resource: Option<&str>) -> bool {
    decision
        .classes
        .iter()
        .filter(|class| matches!(class.verdict(), Verdict::Fits | Verdict::Busy))
        .filter_map(|class| class.pool.as_deref())
        .any(|pool| resource.is_none_or(|resource| pool.resource == resource))
}
