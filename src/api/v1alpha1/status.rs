//! The status of a ModelDeployment.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::model::Confidence;

/// The `observedGeneration` of a status that nobody has written yet, by the definition's default.
pub const UNOBSERVED: i64 = -1;

/// What Loadline found out. A function of spec and cluster: it changes only when one of them does.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelDeploymentStatus {
    /// The generation of the spec that this status is about; -1 before the controller has looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What the model needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "EstimateStatus")]
    pub estimate: Option<EstimateStatus>,
    /// Where it could go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PlacementStatus")]
    pub placement: Option<PlacementStatus>,
    /// The reason of the Ready condition, for `kubectl get --field-selector status.reason=GpusBusy`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The Ready condition's message in one clause, for `kubectl get -o wide`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The figures that `kubectl get` shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SummaryStatus")]
    pub summary: Option<SummaryStatus>,
    /// Pods of the workload.
    #[serde(default)]
    pub replicas: i32,
    /// Pods of the workload that are ready.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Label selector of the workload's pods, for autoscalers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Ready, Estimated and Placeable; Reconciling and Stalled as kstatus means them.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// What the model needs, in bytes.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EstimateStatus {
    /// Bytes of the weights, over all GPUs of one replica.
    pub weights: i64,
    /// Bytes of the KV cache and recurrent state, over all GPUs of one replica.
    pub kv_cache: i64,
    /// Bytes of the activations, over all GPUs of one replica.
    pub activations: i64,
    /// Bytes of CUDA context, kernels, graphs and framework, over all GPUs of one replica.
    pub overhead: i64,
    /// Bytes of the gradients, when training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradients: Option<i64>,
    /// Bytes of the optimizer state, when training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optimizer: Option<i64>,
    /// Bytes of all of it, over all GPUs of one replica.
    pub total: i64,
    /// Bytes of all of it times the safety margin, over all GPUs of one replica.
    pub required: i64,
    /// Bytes that each GPU must have: the GPU that needs most, times the safety margin.
    pub required_per_gpu: i64,
    /// GPUs that one replica takes, all on one node.
    pub gpus: i64,
    /// The safety margin.
    pub safety_margin: String,
    /// How sure the estimate is: exact, derived or assumed.
    #[schemars(with = "String")]
    pub confidence: Confidence,
    /// Where the model's shape came from.
    pub source: String,
    /// What to know of how the estimate was made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Where it could go.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlacementStatus {
    /// Nodes that it fits on now.
    pub fits: i64,
    /// Nodes whose GPUs have the memory and are in use.
    pub busy: i64,
    /// Nodes of which it cannot be said.
    pub unknown: i64,
    /// Nodes that it does not fit on, by reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<RejectedNodes>,
    /// The node that suits best.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "BestNode")]
    pub best: Option<BestNode>,
    /// At most ten nodes with their reasons, one per kind first; `loadline plan` shows all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeStatus>,
    /// Changes that would make it fit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suggestions: Vec<SuggestionStatus>,
}

/// How many nodes have one reason.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RejectedNodes {
    /// The reason.
    pub reason: String,
    /// How many nodes.
    pub nodes: i64,
}

/// The node that suits best.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BestNode {
    /// Its GPUs, as its labels name them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// Bytes per GPU.
    pub memory: i64,
    /// The name of the node.
    pub node: String,
}

/// The answer for one node.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// The name of the node.
    pub name: String,
    /// fits, busy, unknown or rejected.
    pub verdict: String,
    /// Why, in one word.
    pub reason: String,
    /// Why, with the numbers.
    pub message: String,
}

/// A change that would make it fit.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SuggestionStatus {
    /// The change, such as `precision int4`.
    pub change: String,
    /// Bytes that each GPU must then have.
    pub required_per_gpu: i64,
    /// Nodes that it would then fit on.
    pub nodes: i64,
}

/// The figures that `kubectl get` shows.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SummaryStatus {
    /// The model.
    pub model: String,
    /// How the weights are held.
    pub precision: String,
    /// Memory per GPU with the margin, such as "21.4 GiB".
    pub needs_per_gpu: String,
    /// Memory of the weights.
    pub weights: String,
    /// Memory of the KV cache.
    pub kv_cache: String,
}
