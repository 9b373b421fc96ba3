//! What was written for a spec, so that it stays as it was written: a newer Loadline, or a newer estimate, rolls nothing by
//! itself.
//!
//! The record is an annotation of the Deployment: it is written and read with the template that it is of.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{NodeSelectorTerm, PodTemplateSpec};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Demand, Pods};
use crate::api::ModelDeploymentSpec;
use crate::api::v1alpha1::TensorParallel;
use crate::digest::fnv1a;
use crate::inventory::{Term, Vendor};
use crate::units::MIB;

/// Where a Deployment keeps its record.
pub const RECORD_ANNOTATION: &str = "loadline.dev/record";
/// Asks for the pods to be made anew from the present spec and estimate: any value that the record does not have.
pub const ROLL_ANNOTATION: &str = "loadline.dev/roll";

/// What a Deployment's template was made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// A digest of what in the spec makes the template.
    pub spec: String,
    /// The value that [`ROLL_ANNOTATION`] had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roll: Option<String>,
    /// What the pods demand.
    pub demand: Demand,
    /// The template.
    pub template: Value,
}

impl Record {
    /// The record of pods that are made of this spec now.
    #[must_use]
    pub fn new(spec: &ModelDeploymentSpec, roll: Option<&str>, pods: &Pods) -> Self {
        Self {
            spec: digest(spec),
            roll: roll.map(str::to_owned),
            demand: pods.demand.clone(),
            template: pods.template.clone(),
        }
    }

    /// Whether it is of this spec, and no roll was asked for since.
    #[must_use]
    pub fn is_of(&self, spec: &ModelDeploymentSpec, roll: Option<&str>) -> bool {
        self.spec == digest(spec) && (roll.is_none() || self.roll.as_deref() == roll)
    }

    /// The pods, as they were written.
    #[must_use]
    pub fn pods(&self) -> Pods {
        Pods { template: self.template.clone(), demand: self.demand.clone() }
    }

    /// The terms that the template demands of nodes; none that cannot be read.
    #[must_use]
    pub fn terms(&self) -> Vec<Term> {
        let required =
            "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
        let terms = self.template.pointer(required).and_then(Value::as_array);
        terms.into_iter().flatten().filter_map(|term| Term::from_api(term).ok()).collect()
    }

    /// As the annotation's value.
    #[must_use]
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A digest of what in a spec makes the pod template: all but how many run, how they are replaced, and what admission does.
#[must_use]
pub fn digest(spec: &ModelDeploymentSpec) -> String {
    let made_of = ModelDeploymentSpec { replicas: 1, admission: None, rollout: None, ..spec.clone() };
    let text = serde_json::to_string(&made_of).unwrap_or_default();
    format!("{:016x}", fnv1a(text.as_bytes()))
}

/// What runs for an object already.
#[derive(Clone, Debug, PartialEq)]
pub struct Running {
    /// What its template was made of, where that is known.
    pub record: Option<Record>,
    /// The GPU resource that the pods request, and how many.
    pub requested: Option<(String, u64)>,
    /// Whether any pod is ready.
    pub is_any_ready: bool,
    /// Whether there is no pod, nor to be one: nothing rolls, whatever is written.
    pub is_at_rest: bool,
}

impl Running {
    /// Reads a Deployment. `written_for` is the spec that it is known to be of: releases before 0.2 left no record.
    #[must_use]
    pub fn of(deployment: &Deployment, written_for: Option<&ModelDeploymentSpec>) -> Self {
        let text = deployment.metadata.annotations.as_ref().and_then(|all| all.get(RECORD_ANNOTATION));
        let record = text.and_then(|text| serde_json::from_str::<Record>(text).ok());
        let template = deployment.spec.as_ref().map(|spec| &spec.template);
        let status = deployment.status.as_ref();
        let ready = status.and_then(|status| status.ready_replicas);
        let asked = deployment.spec.as_ref().and_then(|spec| spec.replicas);
        let there = status.and_then(|status| status.replicas).unwrap_or(0);
        Self {
            record: record.or_else(|| adopted(template?, written_for?)),
            requested: template.and_then(requested),
            is_any_ready: ready.is_some_and(|ready| ready > 0),
            is_at_rest: asked == Some(0) && there == 0,
        }
    }
}

impl Running {
    /// All but the template, which takes the most room and decides nothing.
    #[must_use]
    pub fn without_template(&self) -> Self {
        let record = self.record.as_ref().map(|record| Record {
            spec: record.spec.clone(),
            roll: record.roll.clone(),
            demand: record.demand.clone(),
            template: Value::Null,
        });
        Self { record, requested: self.requested.clone(), ..*self }
    }
}

/// The GPU resource that a template's containers request, and how many.
fn requested(template: &PodTemplateSpec) -> Option<(String, u64)> {
    let containers = &template.spec.as_ref()?.containers;
    containers
        .iter()
        .filter_map(|container| container.resources.as_ref()?.limits.as_ref())
        .flatten()
        .filter(|(resource, _)| Vendor::of_resource(resource).is_some())
        .find_map(|(resource, count)| Some((resource.clone(), count.0.parse().ok()?)))
}

/// The record that a release without records would have left: the template as it is, with what its terms demand. `None`
/// where no term demands memory: then it is not as Loadline wrote it.
fn adopted(template: &PodTemplateSpec, spec: &ModelDeploymentSpec) -> Option<Record> {
    let (resource, gpus) = requested(template)?;
    let node = template.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
    let terms = &node.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms;
    let demanded: Option<Vec<u64>> = terms.iter().map(memory).collect();
    // A GPU that is divided must have a multiple: the least is what one pod takes.
    let per_gpu = demanded?.into_iter().min()?;
    let parallelism = spec.parallelism.clone().unwrap_or_default();
    let stages = parallelism.pipeline.and_then(|stages| u64::try_from(stages).ok()).unwrap_or(1).max(1);
    let tensor = match parallelism.tensor {
        Some(TensorParallel::Ranks(ranks)) => u64::try_from(ranks).ok()?,
        _ => gpus / stages,
    };
    Some(Record {
        spec: digest(spec),
        roll: None,
        demand: Demand { resource, gpus, per_gpu, tensor },
        template: serde_json::to_value(template).ok()?,
    })
}

/// The bytes that a term demands of a memory label in MiB: `Gt N` is at least N + 1.
fn memory(term: &NodeSelectorTerm) -> Option<u64> {
    term.match_expressions
        .iter()
        .flatten()
        .filter(|expression| expression.operator == "Gt" && expression.key.ends_with(".memory"))
        .filter_map(|expression| expression.values.as_ref()?.first()?.parse::<u64>().ok())
        .filter_map(|mib| mib.checked_add(1)?.checked_mul(MIB))
        .max()
}
