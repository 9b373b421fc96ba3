//! A workload that is no ModelDeployment, for output.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::precision::{CachePrecision, Precision};
use crate::workloads::{Program, Workload};

/// What a workload is and says. What is not stated is null, and no default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadDocument {
    /// Its kind.
    kind: String,
    /// Which of its parts, where it has several.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<String>,
    /// The container that runs the model.
    container: Option<String>,
    /// What runs the model.
    engine: Option<&'static str>,
    /// The model's repository on the Hub.
    model: Option<String>,
    /// The format of the weights.
    #[schemars(with = "Option<String>")]
    precision: Option<Precision>,
    /// Tokens per sequence.
    context: Option<u64>,
    /// Sequences at once.
    sequences: Option<u64>,
    /// How the cache is held.
    #[schemars(with = "Option<String>")]
    cache_precision: Option<CachePrecision>,
    /// Tensor-parallel ranks.
    tensor: Option<u64>,
    /// Pipeline stages.
    pipeline: Option<u64>,
    /// Data-parallel groups.
    data: Option<u64>,
    /// The part of a GPU that the engine plans with, as it is written.
    memory_fraction: Option<String>,
    /// GPUs of one pod.
    gpus_per_pod: Option<u64>,
    /// The same, by resource.
    gpu_resources: BTreeMap<String, u64>,
    /// Copies.
    replicas: Option<u64>,
    /// Pods that make up one copy.
    pods_per_replica: Option<u64>,
    /// Labels that a node must have.
    node_selector: BTreeMap<String, String>,
    /// Whether all is known that a verdict needs.
    readable: bool,
    /// What is missing, and what to give.
    why: Option<String>,
}

impl From<&Workload> for WorkloadDocument {
    fn from(workload: &Workload) -> Self {
        let facts = &workload.facts;
        Self {
            kind: workload.kind.clone(),
            role: workload.role.clone(),
            container: facts.container.clone(),
            engine: facts.program.map(Program::name),
            model: facts.model.repository().map(str::to_owned),
            precision: facts.precision,
            context: facts.context,
            sequences: facts.sequences,
            cache_precision: facts.cache,
            tensor: facts.tensor,
            pipeline: facts.pipeline,
            data: facts.data,
            memory_fraction: facts.memory_fraction.clone(),
            gpus_per_pod: facts.gpus.per_pod(),
            gpu_resources: facts.gpus.resources.clone(),
            replicas: facts.replicas,
            pods_per_replica: facts.ranks,
            node_selector: facts.node_selector.clone(),
            readable: facts.is_readable(),
            why: facts.why(),
        }
    }
}
