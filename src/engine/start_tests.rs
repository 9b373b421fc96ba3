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
        data: 1,
        engine: spec.engine.as_ref().map_or(Engine::Vllm, |engine| engine.name),
        batched_tokens: None,
        options: Options::default(),
        training: None,
    };
    let estimate = estimate(&shape, &workload).expect("an estimate");
    let image = spec.engine.as_ref().and_then(|engine| engine.image.as_deref());
    let words = spec.engine.as_ref().and_then(|engine| engine.args.as_deref()).unwrap_or_default();
    start(Question {
        spec: &spec,
        shape: &shape,
        catalog_repository: repository,
        brought: image.is_some_and(|image| stock_of(image).is_none()),
        has_image: image.is_some(),
        named: named::named(workload.engine, words),
        replaced: false,
        estimate: &estimate,
        margin: Margin::DEFAULT,
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
        Launch::Nothing(nothing) => panic!("{nothing:?}"),
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
        // Whoever keeps it: the image of an engine holds no weights.
        (vllm(json!({"image": "registry.example/vllm-openai:1"})), false),
        (vllm(json!({"image": "nvcr.io/nvidia/vllm:25.09-py3"})), false),
        (vllm(json!({"image": "lmsysorg/sglang:v0.5"})), false),
    ] {
        let expected = if runs { None } else { Some(Nothing::NoModel) };
        assert_eq!(nothing(&spec, None), expected, "{spec}");
    }
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
        (&catalog, "int4", json!({"name": "vllm", "args": ["--model", "/models/x"]}), None),
        (&catalog, "awq-int4", json!({"name": "vllm", "args": ["--model", "/models/x"]}), None),
        (&catalog, "awq-int4", json!({"name": "vllm", "args": ["--model", "c/d-AWQ"]}), None),
        (
            &catalog,
            "awq-int4",
            json!({"name": "vllm", "args": ["--model", "c/d"]}),
            Some(cannot_from("c/d", Precision::AwqInt4)),
        ),
        // To name the model's own repository once more makes no other of it.
        (
            &catalog,
            "awq-int4",
            json!({"name": "vllm", "args": ["--model", "a/b"]}),
            Some(cannot_from("a/b", Precision::AwqInt4)),
        ),
        (
            &catalog,
            "q4_k_m",
            json!({"name": "vllm", "args": ["--model", "/models/x"]}),
            Some(cannot_from("/models/x", Precision::Q4KM)),
        ),
        (
            &catalog,
            "int4",
            json!({"name": "vllm", "image": STOCK}),
            Some(cannot(Precision::Int4, Engine::Vllm)),
        ),
        (&catalog, "fp32", json!({"name": "tgi"}), Some(cannot(Precision::Fp32, Engine::Tgi))),
        (
            &catalog,
            "q4_k_m",
            json!({"name": "llama-cpp"}),
            Some(Nothing::WrongFiles { place: "a/b".to_owned(), gguf: false, engine: Engine::LlamaCpp }),
        ),
        (
            &gguf,
            "q4_k_m",
            json!({"name": "vllm"}),
            Some(Nothing::WrongFiles { place: "a/b-gguf".to_owned(), gguf: true, engine: Engine::Vllm }),
        ),
    ] {
        let spec = json!({"model": model, "precision": precision, "engine": engine});
        let found = nothing(&spec, repository);
        assert_eq!(found, expected, "{spec}");
        assert!(found.is_none_or(|nothing| !nothing.is_by_choice()), "{spec}");
    }
    assert!(Nothing::Training.is_by_choice() && Nothing::NoEngine.is_by_choice());
}

fn cannot(precision: Precision, engine: Engine) -> Nothing {
    let loads = loads(engine, precision);
    Nothing::NoCheckpoint { repository: "a/b".to_owned(), precision, engine, loads, elsewhere: None }
}

fn cannot_from(place: &str, precision: Precision) -> Nothing {
    match cannot(precision, Engine::Vllm) {
        Nothing::NoCheckpoint { precision, engine, loads, elsewhere, .. } => {
            Nothing::NoCheckpoint { repository: place.to_owned(), precision, engine, loads, elsewhere }
        }
        other => other,
    }
}

#[test]
fn a_place_that_is_none_or_of_another_model_is_refused() {
    let with =
        |args: Value| json!({"model": {"catalog": "llama-3.1-8b"}, "engine": {"name": "vllm", "args": args}});
    for (args, expected) in [
        (json!(["--model", ""]), "spec.engine.args: the model's name is empty"),
        (
            json!(["--model", "meta-llama/Llama-3.1-70B"]),
            "spec.engine.args: meta-llama/Llama-3.1-70B has 70.5B parameters, and the model that was estimated has 8.0B",
        ),
        (
            json!(["--quantization", "awq"]),
            "spec.engine.args: vllm loads with method awq only what is stored so, and a/b is not",
        ),
    ] {
        let error = started(&with(args), Some("a/b")).expect_err("refused").to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    assert!(started(&with(json!(["--quantization", "awq", "--model", "/models/awq"])), Some("a/b")).is_ok());
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
