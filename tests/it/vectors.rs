//! docs/vectors.json: what others can hold themselves to, this estimator is held to.

use std::collections::BTreeSet;
use std::path::Path;

use loadline::estimate::{Options, Workload, estimate};
use loadline::model::{ModelShape, hf_config};
use loadline::precision::{CachePrecision, Engine};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u64,
    description: String,
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Vector {
    id: String,
    model: String,
    workload: Input,
    quantity: Quantity,
    value: u64,
    tolerance_ppm: u64,
    kind: Kind,
    source: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Input {
    engine: Option<String>,
    engine_version: Option<String>,
    precision: Option<String>,
    context: Option<u64>,
    sequences: Option<u64>,
    cache_precision: Option<String>,
    tensor: Option<u64>,
    batched_tokens: Option<u64>,
    unified_slots: Option<u64>,
    without_flash_attention: Option<bool>,
    prefix_caching: Option<bool>,
    expert_parallel: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Quantity {
    Parameters,
    LoadedPerGpu,
    KvCachePerGpu,
    KvCachePerToken,
    ComputeBuffer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Kind {
    Measured,
    Published,
    Engine,
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .expect("a file of the repository")
}

fn document() -> Document {
    serde_json::from_str(&read("docs/vectors.json")).expect("docs/vectors.json is as its schema says")
}

fn shape(model: &str) -> ModelShape {
    let file = format!("tests/fixtures/configs/{}.json", model.replace('/', "__"));
    hf_config::parse(read(&file).as_bytes(), model).expect("a config")
}

fn workload(input: &Input) -> Workload {
    let engine = input.engine.as_deref().map_or(Engine::None, |engine| engine.parse().expect("an engine"));
    Workload {
        precision: input.precision.as_deref().map(|precision| precision.parse().expect("a precision")),
        context: input.context,
        sequences: input.sequences.unwrap_or(1),
        cache_precision: input
            .cache_precision
            .as_deref()
            .map_or(CachePrecision::Auto, |precision| precision.parse().expect("a cache precision")),
        tensor: input.tensor.unwrap_or(1),
        pipeline: 1,
        data: 1,
        engine,
        batched_tokens: input.batched_tokens,
        options: Options {
            engine_version: input
                .engine_version
                .as_deref()
                .map(|version| version.parse().expect("a version")),
            prefix_caching: input.prefix_caching,
            unified_slots: input.unified_slots,
            without_flash_attention: input.without_flash_attention.unwrap_or(false),
            expert_parallel: input.expert_parallel.unwrap_or(false),
            ..Options::default()
        },
        training: None,
    }
}

/// What the estimator makes of a vector.
fn found(vector: &Vector) -> u64 {
    let shape = shape(&vector.model);
    if vector.quantity == Quantity::Parameters {
        return shape.parameters;
    }
    let estimate = estimate(&shape, &workload(&vector.workload)).expect("an estimate");
    match vector.quantity {
        Quantity::Parameters => shape.parameters,
        Quantity::LoadedPerGpu => estimate.logged.expect("vLLM's log").model.0,
        Quantity::KvCachePerGpu => estimate.per_gpu.kv_cache.0,
        Quantity::KvCachePerToken => estimate.components.kv_cache.0 / estimate.workload.context.unwrap_or(1),
        Quantity::ComputeBuffer => estimate.per_gpu.activations.0,
    }
}

#[test]
fn every_vector_is_met() {
    let mut outside = Vec::new();
    for vector in &document().vectors {
        let found = found(vector);
        let off = u128::from(found.abs_diff(vector.value)) * 1_000_000 / u128::from(vector.value.max(1));
        if off > u128::from(vector.tolerance_ppm) {
            outside.push(format!("{}: {found} of {}, {off} ppm off", vector.id, vector.value));
        }
    }
    assert!(outside.is_empty(), "{}", outside.join("\n"));
}

#[test]
fn vectors_are_many_of_every_kind_and_each_has_a_source() {
    let document = document();
    assert_eq!(document.version, 1);
    assert!(!document.description.is_empty());
    assert!(document.vectors.len() >= 200, "{}", document.vectors.len());
    for kind in [Kind::Measured, Kind::Published, Kind::Engine] {
        let count = document.vectors.iter().filter(|vector| vector.kind == kind).count();
        assert!(count >= 20, "{kind:?}: {count}");
    }
    let ids: BTreeSet<&str> = document.vectors.iter().map(|vector| vector.id.as_str()).collect();
    assert_eq!(ids.len(), document.vectors.len());
    assert!(document.vectors.iter().all(|vector| vector.source.len() > 10));
}

#[test]
fn the_schema_names_the_fields_that_are_read() {
    let schema: serde_json::Value = serde_json::from_str(&read("docs/vectors.schema.json")).expect("JSON");
    let items = &schema["properties"]["vectors"]["items"];
    let keys = |value: &serde_json::Value| -> BTreeSet<String> {
        value.as_object().expect("an object").keys().cloned().collect()
    };
    let documents: serde_json::Value = serde_json::from_str(&read("docs/vectors.json")).expect("JSON");
    for vector in documents["vectors"].as_array().expect("a list") {
        assert_eq!(keys(vector), keys(&items["properties"]), "{}", vector["id"]);
        let known = keys(&items["properties"]["workload"]["properties"]);
        assert!(keys(&vector["workload"]).is_subset(&known), "{}", vector["id"]);
        let quantities = items["properties"]["quantity"]["enum"].as_array().expect("a list");
        assert!(quantities.contains(&vector["quantity"]), "{}", vector["id"]);
    }
}
