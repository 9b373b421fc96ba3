use serde_json::{Value, json};

use super::*;
use crate::estimate::{Options, estimate};
use crate::model::catalog;
use crate::precision::CachePrecision;

const STOCK: &str = "vllm/vllm-openai:v0.19.0";

/// What becomes of a spec whose model is an 8B of the catalog, in 16 bits unless the spec says otherwise.
fn started(spec: &Value, repository: Option<&str>) -> Result<Launch, Refusal> {
    let spec: ModelDeploymentSpec = serde_json::from_value(spec.clone()).expect("a spec");
    let shape = catalog::shape("llama-3.1-8b").expect("a model of the catalog");
    let workload = Workload {
        precision: spec.precision,
        context: Some(8192),
        sequences: 1,
        cache_precision: CachePrecision::Auto,
        tensor: 1,
        pipeline: 1,
        engine: spec.engine.as_ref().map_or(Engine::Vllm, |engine| engine.name),
        batched_tokens: None,
        options: Options::default(),
        training: None,
    };
    let estimate = estimate(&shape, &workload).expect("an estimate");
    let margin = Margin::DEFAULT;
    start(Question {
        spec: &spec,
        shape: &shape,
        catalog_repository: repository,
        estimate: &estimate,
        margin,
    })
}

fn nothing(spec: &Value, repository: Option<&str>) -> Option<Nothing> {
    match started(spec, repository).expect("no refusal") {
        Launch::Nothing(nothing) => Some(nothing),
        Launch::Run(_) => None,
    }
}

fn arguments(spec: &Value, repository: Option<&str>) -> String {
    match started(spec, repository).expect("no refusal") {
        Launch::Run(start) => start.arguments.unwrap_or_default().join(" "),
        Launch::Nothing(nothing) => panic!("{nothing}"),
    }
}

#[test]
fn a_stock_image_that_is_told_no_model_is_not_run() {
    let vllm = |fields: Value| {
        let mut engine = json!({"name": "vllm"});
        for (key, value) in fields.as_object().expect("fields") {
            engine[key] = value.clone();
        }
        json!({"model": {"parameters": "8B"}, "engine": engine})
    };
    let container = |container: Value| json!({"model": {"parameters": "8B"}, "template": {"spec": {"containers": [container]}}});
    for (spec, runs) in [
        (json!({"model": {"parameters": "8B"}}), false),
        (json!({"model": {"config": {}}}), false),
        (json!({"model": {"configMapRef": {"name": "a", "key": "b"}}}), false),
        (vllm(json!({"args": ["--seed", "1"]})), false),
        (vllm(json!({"image": STOCK})), false),
        (vllm(json!({"image": format!("docker.io/{STOCK}@sha256:0a")})), false),
        (vllm(json!({"image": STOCK, "args": ["--enable-prefix-caching"]})), false),
        (vllm(json!({"image": STOCK, "args": ["--model", "a/b"]})), true),
        (vllm(json!({"args": ["a/b"]})), true),
        (vllm(json!({"image": "registry.example/mine:1"})), true),
        (vllm(json!({"image": "registry.example/vllm/vllm-openai:1"})), true),
        (container(json!({"name": "model"})), false),
        (container(json!({"image": STOCK})), false),
        (container(json!({"image": STOCK, "env": [{"name": "HF_TOKEN", "value": "x"}]})), false),
        (container(json!({"image": STOCK, "args": ["--model", "a/b"]})), true),
        (container(json!({"command": ["serve.sh"]})), true),
        (container(json!({"image": "mine:1"})), true),
    ] {
        let expected = if runs { None } else { Some(Nothing::NoModel) };
        assert_eq!(nothing(&spec, None), expected, "{spec}");
    }
    let mut variable = container(json!({"name": "model", "env": [{"name": "MODEL_ID", "value": "a/b"}]}));
    variable["engine"] = json!({"name": "tgi"});
    assert_eq!(nothing(&variable, None), None);
    variable["engine"] = json!({"name": "sglang"});
    assert_eq!(nothing(&variable, None), Some(Nothing::NoModel), "a variable of another engine");
}

#[test]
fn what_the_engine_cannot_load_is_not_run() {
    let catalog = json!({"catalog": "llama-3.1-8b"});
    let gguf = json!({"gguf": {"huggingFace": {"repository": "a/b-gguf", "file": "x.gguf"}}});
    let repository = Some("a/b");
    for (model, precision, engine, expected) in [
        (&catalog, "bf16", json!({"name": "vllm", "image": STOCK}), None),
        (&catalog, "fp8", json!({"name": "vllm"}), None),
        (&catalog, "fp32", json!({"name": "vllm"}), None),
        (&catalog, "int4", json!({"name": "vllm", "image": "mine:1"}), None),
        (&catalog, "int4", json!({"name": "vllm", "args": ["--model", "c/d-AWQ"]}), None),
        (
            &catalog,
            "int4",
            json!({"name": "vllm", "image": STOCK}),
            Some("not run: vllm cannot load a/b as int4; name a repository that holds int4"),
        ),
        (&catalog, "fp32", json!({"name": "tgi"}), Some("not run: tgi cannot load a/b as fp32")),
        (&catalog, "q4_k_m", json!({"name": "llama-cpp"}), Some("llama-cpp loads GGUF files, and a/b has")),
        (&gguf, "q4_k_m", json!({"name": "vllm"}), Some("set engine.name: llama-cpp")),
    ] {
        let spec = json!({"model": model, "precision": precision, "engine": engine});
        let found = nothing(&spec, repository).map(|nothing| nothing.to_string());
        match expected {
            None => assert_eq!(found, None, "{spec}"),
            Some(part) => {
                assert!(found.as_ref().is_some_and(|found| found.contains(part)), "{spec}: {found:?}");
            }
        }
    }
}

#[test]
fn only_what_the_user_asked_for_is_by_choice() {
    for (nothing, by_choice) in [
        (Nothing::Training, true),
        (Nothing::NoEngine, true),
        (Nothing::NoModel, false),
        (Nothing::NoImage(Engine::Transformers), false),
        (
            Nothing::NoCheckpoint {
                repository: "a/b".to_owned(),
                precision: Precision::Int4,
                engine: Engine::Vllm,
            },
            false,
        ),
        (Nothing::WrongFiles { place: "a/b".to_owned(), gguf: true, engine: Engine::Vllm }, false),
    ] {
        assert_eq!(nothing.is_by_choice(), by_choice, "{nothing}");
        assert_eq!(nothing.to_string().starts_with("estimate only: "), by_choice, "{nothing}");
    }
}

/// In 32 bits the cache is of the model's own type too, which nobody asked for and nobody is told.
#[test]
fn vllm_serves_in_32_bits() {
    let spec = json!({"model": {"catalog": "llama-3.1-8b"}, "precision": "fp32"});
    let words = arguments(&spec, Some("a/b"));
    assert!(words.contains("--dtype float32") && !words.contains("--kv-cache-dtype"), "{words}");
    let asked = json!({
        "model": {"catalog": "llama-3.1-8b"}, "precision": "bf16", "context": {"cachePrecision": "fp32"},
    });
    let error = started(&asked, Some("a/b")).expect_err("refused").to_string();
    assert!(error.starts_with("spec.context.cachePrecision: fp32 is not a cache that vllm"), "{error}");
}
