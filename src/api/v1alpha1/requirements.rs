//! What the pods of each object must demand, where the API server's own policies can read it.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// What pods that name a ModelDeployment of the namespace must demand of nodes. Written by Loadline alone, one for each
/// namespace; the API server's admission policies take it as their parameter.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "loadline.dev",
    version = "v1alpha1",
    kind = "ModelRequirements",
    plural = "modelrequirements",
    singular = "modelrequirements",
    namespaced,
    derive = "PartialEq",
    derive = "Default",
    doc = "What pods that name a ModelDeployment of the namespace must demand of nodes. Written by Loadline alone, one for each namespace; the API server's admission policies take it as their parameter."
)]
#[serde(rename_all = "camelCase")]
pub struct ModelRequirementsSpec {
    /// What is demanded of labels: terms refer to it by place, since most objects demand the same of most labels.
    #[serde(default)]
    pub expressions: Vec<LabelExpression>,
    /// What is required, by the name of the ModelDeployment.
    #[serde(default)]
    #[x_kube(merge_strategy = MapMerge::Atomic)]
    pub models: BTreeMap<String, RequiredOfPods>,
}

/// What is demanded of one label, as node affinity has it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LabelExpression {
    /// The label's key.
    pub key: String,
    /// How its value is judged: In, NotIn, Exists, DoesNotExist, Gt or Lt.
    pub operator: String,
    /// What with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// What is required of the pods of one object.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequiredOfPods {
    /// The GPU resource that each pod requests, such as nvidia.com/gpu.
    pub resource: String,
    /// How many of it each pod requests.
    pub gpus: i64,
    /// MiB that each GPU must have.
    #[serde(rename = "perGpuMiB")]
    pub per_gpu_mib: i64,
    /// The node selector terms of which one must match, each as places in `expressions`.
    pub terms: Vec<Vec<i64>>,
    /// Those of templates whose pods still run, while a rollout lasts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<Vec<Vec<i64>>>,
}
