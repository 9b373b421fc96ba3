//! `modeldeployments.loadline.dev/v1alpha1`. The doc comments here are what `kubectl explain` prints.

// The derive makes a hidden copy of each type, whose `pub` leads nowhere.
#![allow(unreachable_pub)]
// One `printcolumn` per column repeats the attribute's keys.
#![allow(clippy::duplicated_attributes)]

mod requirements;
mod status;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Toleration;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::limits;
use crate::estimate::{AttentionKernel, Checkpointing, Loss, Method, Offload, Optimizer, Sharding};
use crate::inventory::Vendor;
use crate::precision::{CachePrecision, Engine, Precision};

pub use requirements::{LabelExpression, ModelRequirements, ModelRequirementsSpec, RequiredOfPods};
pub use status::{
    BestNode, EstimateStatus, ModelDeploymentStatus, NodeStatus, PlacementStatus, RejectedNodes,
    SuggestionStatus, SummaryStatus, UNOBSERVED,
};

/// A model, how it is to be served or trained, and where it may run. Loadline estimates the GPU memory that it needs,
/// adds the safety margin, and lets its pods only onto nodes whose GPUs have that much.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "loadline.dev",
    version = "v1alpha1",
    kind = "ModelDeployment",
    plural = "modeldeployments",
    singular = "modeldeployment",
    shortname = "mdep",
    category = "loadline",
    namespaced,
    status = "ModelDeploymentStatus",
    selectable = ".spec.engine.name",
    selectable = ".spec.model.catalog",
    selectable = ".status.reason",
    derive = "PartialEq",
    derive = "Default",
    doc = "A model, how it is to be served or trained, and where it may run. Loadline estimates the GPU memory that it needs, adds the safety margin, and lets its pods only onto nodes whose GPUs have that much.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether the wanted replicas are available"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        description = "Why it is ready or not, in one word"
    ),
    printcolumn(
        name = "Needs/GPU",
        type_ = "string",
        json_path = ".status.summary.needsPerGpu",
        description = "The estimate times the safety margin, on the GPU that needs most"
    ),
    printcolumn(
        name = "GPUs",
        type_ = "integer",
        json_path = ".status.estimate.gpus",
        description = "GPUs that one replica takes"
    ),
    printcolumn(
        name = "Fits",
        type_ = "integer",
        json_path = ".status.placement.fits",
        description = "Nodes that it fits on now"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Since when it exists"
    ),
    printcolumn(
        name = "Model",
        type_ = "string",
        json_path = ".status.summary.model",
        description = "The model",
        priority = 1
    ),
    printcolumn(
        name = "Precision",
        type_ = "string",
        json_path = ".status.summary.precision",
        description = "How the weights are held",
        priority = 1
    ),
    printcolumn(
        name = "Weights",
        type_ = "string",
        json_path = ".status.summary.weights",
        description = "Memory of the weights, over all GPUs",
        priority = 1
    ),
    printcolumn(
        name = "KV-cache",
        type_ = "string",
        json_path = ".status.summary.kvCache",
        description = "Memory of the KV cache, over all GPUs",
        priority = 1
    ),
    printcolumn(
        name = "Best-node",
        type_ = "string",
        json_path = ".status.placement.best.node",
        description = "The smallest node that it fits on",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.message",
        description = "The reason in one clause; kubectl describe has it whole",
        priority = 1
    )
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.training) || (!has(self.context) && !has(self.engine))")
        .message("training excludes context and engine: set training.sequenceLength and training.microBatch instead, or remove training to serve the model"),
    validation = Rule::new("!has(self.training) || !has(self.parallelism)")
        .message("training excludes parallelism: set training.gpus and training.sharding instead")
)]
pub struct ModelDeploymentSpec {
    /// The model: exactly one of `parameters`, `huggingFace`, `gguf`, `config`, `configMapRef` and `catalog`; `parameters` may also accompany `config`, and then states the published size.
    pub model: ModelSource,
    /// How the weights are held in GPU memory. Default: as the checkpoint stores them; bf16 where it does not say. `int4` is the bare half byte per parameter; every other format, where the tensors are known, counts scales and what it leaves in 16 bits: `int8`, `gptq-int4`, `awq-int4`, `nf4`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Precision")]
    pub precision: Option<Precision>,
    /// The context that is held in the KV cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ContextSpec")]
    pub context: Option<ContextSpec>,
    /// How one replica is divided over GPUs. One replica takes data x tensor x pipeline GPUs, all on one node; with SGLang's `--enable-dp-attention`, whose groups are made of the tensor-parallel ranks, tensor x pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ParallelismSpec")]
    pub parallelism: Option<ParallelismSpec>,
    /// What serves the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "EngineSpec")]
    pub engine: Option<EngineSpec>,
    /// The factor by which a GPU must be larger than the estimate: a decimal from "1.0" to "10.0", in quotes. Default: "1.2".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(r"self.matches('^(10(\\.0{1,3})?|[1-9](\\.[0-9]{1,3})?)$')").message("safetyMargin must be a decimal from 1.0 to 10.0 with at most three decimals, such as \"1.2\""))]
    #[schemars(length(max = limits::MARGIN.most))]
    pub safety_margin: Option<String>,
    /// What `kubectl apply` does when no node fits now. Default: what the namespace's label `loadline.dev/admission` (deny, warn or ignore) or the controller says; else Warn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "AdmissionMode")]
    pub admission: Option<AdmissionMode>,
    /// Which nodes may be picked, and how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PlacementSpec")]
    pub placement: Option<PlacementSpec>,
    /// How many copies run. Set by `kubectl scale` too.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = limits::MOST_REPLICAS))]
    pub replicas: i32,
    /// How new pods take the place of old ones when the spec changes. Default: Auto.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RolloutMode")]
    pub rollout: Option<RolloutMode>,
    /// A pod template that is merged with what Loadline adds: the GPU request, the node affinity, the engine's arguments. Needed with `engine.name: none` if anything is to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free_form_object")]
    pub template: Option<serde_json::Value>,
    /// Training instead of serving. Estimated and checked against the nodes; no workload is made of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "TrainingSpec")]
    pub training: Option<TrainingSpec>,
}

/// Where the model's shape comes from.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.huggingFace) ? 1 : 0) + (has(self.gguf) ? 1 : 0) + (has(self.config) ? 1 : 0) + (has(self.configMapRef) ? 1 : 0) + (has(self.catalog) ? 1 : 0) + (has(self.parameters) && !has(self.config) ? 1 : 0) == 1")
        .message("model must have exactly one source: one of parameters, huggingFace, gguf, config, configMapRef, catalog (parameters may also accompany config)")
)]
pub struct ModelSource {
    /// The model's size alone, such as "8B", "1.2B", "500M" or "8030261248". The architecture is then assumed from a table of typical shapes, and the estimate says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(r"self.matches('^[0-9]+(\\.[0-9]+)?[KkMmBbTt]?$')").message("parameters must be a number with an optional suffix K, M, B or T, in quotes, such as \"8B\", \"1.2B\", \"500M\" or \"8030261248\""))]
    #[schemars(length(min = limits::SIZE.least, max = limits::SIZE.most))]
    pub parameters: Option<String>,
    /// A model on the Hugging Face Hub. Only its config and the headers of its weight files are read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "HuggingFaceRef")]
    pub hugging_face: Option<HuggingFaceRef>,
    /// A GGUF file. Only its header is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "GgufRef")]
    pub gguf: Option<GgufRef>,
    /// The content of a Hugging Face config.json, inline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free_form_object")]
    pub config: Option<serde_json::Value>,
    /// A ConfigMap of the same namespace that holds a config.json, a safetensors index or header, or a catalog entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "KeyRef")]
    pub config_map_ref: Option<KeyRef>,
    /// A model of the built-in catalog, such as `llama-3.1-8b`. Needs no network. `loadline estimate --list-models` lists them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = limits::CATALOG.least, max = limits::CATALOG.most))]
    pub catalog: Option<String>,
}

/// A model on the Hugging Face Hub.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HuggingFaceRef {
    /// The repository, as `organisation/name`.
    #[x_kube(validation = Rule::new(r"self.matches('^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$')").message("repository must be organisation/name, such as meta-llama/Llama-3.1-8B-Instruct"))]
    #[schemars(length(min = limits::REPOSITORY.least, max = limits::REPOSITORY.most))]
    pub repository: String,
    /// A branch, tag or commit. Default: main.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = limits::REVISION.least, max = limits::REVISION.most))]
    pub revision: Option<String>,
    /// For a GGUF model: the file in the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = limits::FILE.least, max = limits::FILE.most))]
    pub file: Option<String>,
    /// A Secret of the same namespace that holds an access token for a gated or private repository. It needs the label `loadline.dev/hub-token: "true"`: no other Secret is sent to the Hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "KeyRef")]
    pub token_secret_ref: Option<KeyRef>,
}

/// A GGUF file.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.url) != has(self.huggingFace)").message("gguf must have exactly one of url and huggingFace"))]
pub struct GgufRef {
    /// An https address that answers range requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.startsWith('https://')").message("url must begin with https://"))]
    #[schemars(length(min = limits::URL.least, max = limits::URL.most))]
    pub url: Option<String>,
    /// A file of a Hugging Face repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "HuggingFaceRef")]
    pub hugging_face: Option<HuggingFaceRef>,
}

/// A key of a ConfigMap or Secret in the same namespace.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyRef {
    /// The name of the ConfigMap or Secret.
    #[x_kube(validation = Rule::new(r"self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')").message("name must be as Kubernetes has it: small letters, digits, '-' and '.', such as hub-token"))]
    #[schemars(length(min = limits::NAME.least, max = limits::NAME.most))]
    pub name: String,
    /// The key in it.
    #[x_kube(validation = Rule::new("self.matches('^[-._a-zA-Z0-9]+$') && self != '.' && !self.startsWith('..')").message("key must be as Kubernetes has it: letters, digits, '-', '_' and '.', such as token"))]
    #[schemars(length(min = limits::NAME.least, max = limits::NAME.most))]
    pub key: String,
}

/// The context that is held in the KV cache.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContextSpec {
    /// Tokens per sequence. Default: the model's own maximum; 8192 where the model's maximum is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = limits::MOST_TOKENS))]
    pub length: Option<i64>,
    /// Sequences that are held at once. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = limits::MOST_SEQUENCES))]
    pub sequences: Option<i64>,
    /// How the cache is held. Default: auto, which is the model's own 16-bit type unless the checkpoint says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "CachePrecision")]
    pub cache_precision: Option<CachePrecision>,
}

/// How one replica is divided over GPUs.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParallelismSpec {
    /// GPUs that share each layer: a number that divides the model's attention heads, or `auto`, the smallest that fits. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("string(self).matches('^(auto|[1-9][0-9]{0,2}|10[01][0-9]|102[0-4])$')").message("tensor must be a number from 1 to 1024, or auto"))]
    #[schemars(schema_with = "int_or_string")]
    pub tensor: Option<TensorParallel>,
    /// Stages that the layers are divided into. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = limits::MOST_RANKS))]
    pub pipeline: Option<i64>,
    /// Groups of ranks that each serve a share of `context.sequences` (data parallelism): `--data-parallel-size` of vLLM, where all groups together share the experts of a mixture of experts, `--dp-size` of SGLang. Other engines have none: use `replicas`. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = limits::MOST_RANKS))]
    pub data: Option<i64>,
}

/// A number of tensor-parallel ranks, or `auto`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TensorParallel {
    /// So many.
    Ranks(i64),
    /// A word; only `auto` is valid.
    Word(String),
}

/// What serves the model.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EngineSpec {
    /// Which engine. It decides activations and overhead, and the arguments that keep the engine within the estimate. `none` estimates only, unless there is a template.
    pub name: Engine,
    /// The container image. Default: the engine's own, by a pinned tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = limits::IMAGE.least, max = limits::IMAGE.most))]
    pub image: Option<String>,
    /// The engine's version, in quotes: a release such as "0.19.0", of llama.cpp a build such as "b10481" or the date of one, such as "2026-11-01". Engines size their caches by rules that differ between versions. Default: that of the image's tag; without an image, the version whose image is run. Without an image, the image of this version is run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(r"self.matches('^([vV]?[0-9]{1,6}(\\.[0-9]{1,9})+([.+-]?[A-Za-z][A-Za-z0-9.+-]*)?|[bB]?[1-9][0-9]{0,8}|20[2-9][0-9]-[0-9]{2}-[0-9]{2})$')").message("version must be a release such as \"0.19.0\", or of llama.cpp a build such as \"b10481\" or its date such as \"2026-11-01\""))]
    #[schemars(length(min = limits::VERSION.least, max = limits::VERSION.most))]
    pub version: Option<String>,
    /// More arguments for the engine, after Loadline's own. What they say of memory is counted: adapters, speculative decoding, data and expert parallelism, CUDA graphs, batches, types, prefix caching, towers that are left out, slots that share a cache. A cap on sequences (`--max-num-seqs`) reserves no cache: `context.sequences` does. An argument that contradicts another field, or that takes more GPUs than were counted, is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::ARGUMENTS.most), inner(length(max = limits::ARGUMENT.most)))]
    pub args: Option<Vec<String>>,
}

/// What `kubectl apply` does when no node fits now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AdmissionMode {
    /// Refuse the object. What its nodes do not say is no reason to.
    Deny,
    /// Accept it with a warning; its pods wait.
    #[default]
    Warn,
    /// Accept it silently.
    Ignore,
}

/// How new pods take the place of old ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RolloutMode {
    /// Surge where a GPU is free for a new pod, InPlace where none is.
    #[default]
    Auto,
    /// A new pod starts before an old one goes. Where no GPU is free for it, it waits, and the old ones serve on.
    Surge,
    /// One old pod goes before a new one starts, and leaves it its GPU.
    InPlace,
    /// All old pods go before new ones start.
    Recreate,
}

/// Which nodes may be picked, and how.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlacementSpec {
    /// Vendors whose GPUs may be used. Default: all that the engine runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = limits::VENDORS.least, max = limits::VENDORS.most))]
    pub vendors: Option<Vec<Vendor>>,
    /// Whether a GPU that is handed out more than once (time slicing, MPS) will do. Default: Exclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SharingMode")]
    pub sharing: Option<SharingMode>,
    /// Which of the nodes that fit is preferred. Default: SmallestFit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Strategy")]
    pub strategy: Option<Strategy>,
    /// How the scheduler is told. Default: NodeAffinity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PlacementMode")]
    pub mode: Option<PlacementMode>,
    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<BTreeMap<String, String>>,
    /// Taints that are tolerated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::TOLERATIONS.most))]
    pub tolerations: Option<Vec<Toleration>>,
}

/// Whether a GPU that is handed out more than once will do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SharingMode {
    /// Only GPUs that go to one pod.
    #[default]
    Exclusive,
    /// Shared GPUs too: nothing then stops the others from taking the memory.
    Shared,
}

/// Which of the nodes that fit is preferred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Strategy {
    /// The smallest GPUs that fit, so that large ones stay free.
    #[default]
    SmallestFit,
    /// The largest GPUs.
    LargestFit,
}

/// How the scheduler is told which nodes fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PlacementMode {
    /// By node affinity on memory labels.
    #[default]
    NodeAffinity,
    /// By a scheduling gate. Not supported yet.
    Gated,
    /// By a dynamic resource claim. Not supported yet.
    ResourceClaim,
}

/// How the model is to be trained.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrainingSpec {
    /// What is trained: every weight, low-rank adapters, or low-rank adapters on a 4-bit base.
    pub method: Method,
    /// The optimizer. Default: adamw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Optimizer")]
    pub optimizer: Option<Optimizer>,
    /// Sequences per step and GPU. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = limits::MOST_SEQUENCES))]
    pub micro_batch: Option<i64>,
    /// Tokens per sequence. Default: 2048, or the model's maximum if that is less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = limits::MOST_TOKENS))]
    pub sequence_length: Option<i64>,
    /// Rank of the LoRA matrices. Default: 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = limits::MOST_SEQUENCES))]
    pub lora_rank: Option<i64>,
    /// Which linear layers get LoRA matrices: `attention`, `all-linear`, or names such as `q_proj`. Default: all-linear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = limits::LORA_TARGETS.least, max = limits::LORA_TARGETS.most), inner(length(min = limits::LORA_TARGET.least, max = limits::LORA_TARGET.most)))]
    pub lora_targets: Option<Vec<String>>,
    /// Whether activations are recomputed. Default: full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Checkpointing")]
    pub gradient_checkpointing: Option<Checkpointing>,
    /// The attention kernel. Default: sdpa.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "AttentionKernel")]
    pub attention: Option<AttentionKernel>,
    /// How state is sharded over GPUs. Default: none on one GPU, ddp on more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Sharding")]
    pub sharding: Option<Sharding>,
    /// GPUs that train together, all on one node. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = limits::MOST_RANKS))]
    pub gpus: Option<i64>,
    /// What is kept in host memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::OFFLOADS.most))]
    pub offload: Option<Vec<Offload>>,
    /// How the loss is computed: `plain` is PyTorch's cross entropy over all logits; `in-place` writes no log probabilities (Unsloth's fast cross entropy); `chunked` takes the tokens in chunks (torchtune); `fused` holds no logits (Liger, cut cross entropy). Default: plain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Loss")]
    pub loss: Option<Loss>,
    /// Whether samples are packed to one length, so that the allocator reuses the same blocks in every step. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packing: Option<bool>,
    /// GPUs that share each sequence (sequence or context parallelism): a divisor of `gpus`. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = limits::MOST_RANKS))]
    pub sequence_parallel: Option<i64>,
    /// With qlora: whether what is not quantised is cast to 32 bits first, as PEFT's `prepare_model_for_kbit_training` does. litgpt, torchtune and Unsloth leave it out. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cast_base: Option<bool>,
}

impl TrainingSpec {
    /// A run of which nothing more is said than what is trained.
    #[must_use]
    pub const fn new(method: Method) -> Self {
        Self {
            method,
            optimizer: None,
            micro_batch: None,
            sequence_length: None,
            lora_rank: None,
            lora_targets: None,
            gradient_checkpointing: None,
            attention: None,
            sharding: None,
            gpus: None,
            offload: None,
            loss: None,
            packing: None,
            sequence_parallel: None,
            cast_base: None,
        }
    }
}

const fn one() -> i32 {
    1
}

/// An object that the server keeps as it is: Loadline reads it with its own checks.
fn free_form_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

fn int_or_string(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]})
}

#[cfg(test)]
mod tests;
