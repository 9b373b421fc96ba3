//! Objects and plans for tests.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::api::ModelDeployment;
use crate::api::v1alpha1::TensorParallel;
use crate::decide::{Policy, Request, Requirement, decide};
use crate::estimate::{Components, Estimate, Workload};
use crate::inventory::{Inventory, Node, Owner, Pod, Snapshot, Sources};
use crate::launch::{Demand, Launch, Pods};
use crate::model::{Confidence, ModelShape, ShapeSource};
use crate::plan::Plan;
use crate::precision::{CachePrecision, Engine, Precision};
use crate::units::{Bytes, GIB, Margin};

/// An object with this spec, named team-a/llama.
pub(crate) fn object(spec: &Value) -> ModelDeployment {
    serde_json::from_value(json!({
        "apiVersion": "loadline.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"namespace": "team-a", "name": "llama", "uid": "0a", "generation": 3, "resourceVersion": "10"},
        "spec": spec,
    }))
    .expect("a valid object")
}

/// A dense shape of this size, stored in 16 bits.
pub(crate) fn shape() -> ModelShape {
    ModelShape {
        name: "8B".to_owned(),
        source: ShapeSource::Parameters,
        architecture: "assumed".to_owned(),
        parameters: 8_000_000_000,
        tensors: Vec::new(),
        layers: Vec::new(),
        draft_layers: Vec::new(),
        hidden_size: 4096,
        intermediate_size: 14336,
        heads: 32,
        head_dim: 128,
        experts: None,
        vocabulary: 128_256,
        max_context: Some(131_072),
        tied_embeddings: false,
        stored_precision: Some(Precision::Bf16),
        quantization: None,
        state_precision: None,
        rotary_elements: None,
        encoder_tokens: None,
        multimodal: false,
        weights_confidence: Confidence::Assumed,
        cache_confidence: Confidence::Assumed,
        notes: Vec::new(),
    }
}

/// A cluster of these nodes and pods.
pub(crate) fn cluster(nodes: Vec<Node>, pods: Vec<Pod>) -> Inventory {
    let nodes = nodes.into_iter().map(|node| (node.name.clone(), Arc::new(node))).collect();
    Inventory::new(Snapshot { nodes, pods, ..Snapshot::default() }, &Sources::default())
}

/// A plan of an object whose GPUs must each have so many GiB: the numbers are made up, the decision is made.
pub(crate) fn plan(object: &ModelDeployment, gib: u64, inventory: &Inventory) -> Plan {
    let spec = &object.spec;
    let context = spec.context.clone().unwrap_or_default();
    let parallelism = spec.parallelism.clone().unwrap_or_default();
    let unsigned = |number: i64| u64::try_from(number).expect("a count");
    let tensor = match parallelism.tensor {
        Some(TensorParallel::Ranks(ranks)) => unsigned(ranks),
        _ => 1,
    };
    let pipeline = unsigned(parallelism.pipeline.unwrap_or(1));
    let workload = Workload {
        precision: Some(spec.precision.unwrap_or(Precision::Bf16)),
        context: Some(unsigned(context.length.unwrap_or(8192))),
        sequences: unsigned(context.sequences.unwrap_or(1)),
        cache_precision: context.cache_precision.unwrap_or(CachePrecision::Auto),
        tensor,
        pipeline,
        data: 1,
        engine: spec.engine.as_ref().map_or(Engine::Vllm, |engine| engine.name),
        batched_tokens: Some(8192),
        options: crate::estimate::Options::default(),
        training: None,
    };
    let gpus = tensor * pipeline;
    // The parts add up to what the margin of 1.2 makes the requirement of.
    let part = |share: u64| Bytes(gib * GIB * share / 12);
    let per_gpu = Components {
        weights: part(7),
        kv_cache: part(1),
        activations: part(1),
        overhead: part(1),
        ..Components::default()
    };
    let over_all = |bytes: Bytes| Bytes(bytes.0 * gpus);
    let requirement = Requirement { per_gpu: Bytes(gib * GIB), gpus };
    let policy = Policy::default();
    let owner = Some(Owner { namespace: "team-a", name: "llama" });
    Plan {
        model: "8B".to_owned(),
        source: "parameters".to_owned(),
        architecture: "assumed".to_owned(),
        parameters: 8_000_000_000,
        estimate: Estimate {
            logged: None,
            components: Components {
                weights: over_all(per_gpu.weights),
                kv_cache: over_all(per_gpu.kv_cache),
                activations: over_all(per_gpu.activations),
                overhead: over_all(per_gpu.overhead),
                ..Components::default()
            },
            per_gpu,
            gpus,
            total: over_all(part(10)),
            total_per_gpu: part(10),
            kv_cache_bytes_per_token: Bytes(131_072),
            workload,
            confidence: Confidence::Assumed,
            terms: Vec::new(),
            notes: vec!["The architecture is assumed".to_owned()],
        },
        margin: Margin::DEFAULT,
        requirement,
        decision: decide(&Request { requirement, policy: &policy, owner }, inventory, &[]),
        policy,
        replicas: u64::try_from(object.spec.replicas).unwrap(),
        launch: Launch::Run(Box::new(Pods {
            template: Value::Null,
            demand: Demand { resource: "nvidia.com/gpu".to_owned(), gpus, per_gpu: gib * GIB, tensor },
        })),
        kept: None,
    }
}

/// A body's bytes and the status code.
pub(crate) type Answer = (u16, Value);

/// An API server that answers by a function, and remembers what it was asked.
#[derive(Clone, Default)]
pub(crate) struct Recorded(pub(crate) Arc<std::sync::Mutex<Vec<(String, Value)>>>);

impl Recorded {
    /// What it was asked: method and path with query, and the body.
    pub(crate) fn requests(&self) -> Vec<(String, Value)> {
        self.0.lock().expect("no panic while recording").clone()
    }

    /// The methods and paths alone.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.requests().into_iter().map(|(call, _)| call).collect()
    }

    /// A client of it.
    pub(crate) fn client(
        &self,
        answer: impl Fn(&str, &Value) -> Answer + Clone + Send + Sync + 'static,
    ) -> kube::Client {
        let recorded = self.clone();
        let service = tower::service_fn(move |request: axum::http::Request<kube::client::Body>| {
            let (recorded, answer) = (recorded.clone(), answer.clone());
            async move {
                let path =
                    request.uri().path_and_query().map_or("", |path| path.as_str()).trim_end_matches('?');
                let call = format!("{} {path}", request.method());
                let bytes = request.into_body().collect_bytes().await.expect("a body");
                let body: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
                let (code, value) = answer(&call, &body);
                recorded.0.lock().expect("no panic while recording").push((call, body));
                let response = axum::http::Response::builder()
                    .status(code)
                    .header("content-type", "application/json")
                    .body(kube::client::Body::from(value.to_string().into_bytes()))
                    .expect("a response");
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        kube::Client::new(service, "default")
    }
}

/// The answer of a server that refuses.
pub(crate) fn refusal(code: u16, reason: &str, message: &str) -> Answer {
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure",
        "reason": reason, "message": message, "code": code,
    });
    (code, status)
}
