//! Resolving models from disk, from ConfigMaps, and from what a spec has inline.

use std::path::Path;
use std::sync::Arc;

use loadline::api::v1alpha1::{GgufRef, HuggingFaceRef, KeyRef, ModelSource};
use loadline::model::{Confidence, ModelShape, ShapeSource};
use loadline::precision::Precision;
use loadline::source::{Settings, SourceError, SourceRef, Sources, Token, token_secret};
use loadline::units::Parameters;

use crate::weights::{Meta, llama_gguf, safetensors};

const CONFIG: &str = r#"{"model_type":"llama","hidden_size":512,"intermediate_size":2048,"num_hidden_layers":1,
    "num_attention_heads":4,"num_key_value_heads":2,"vocab_size":1000,"max_position_embeddings":4096,
    "tie_word_embeddings":true,"torch_dtype":"bfloat16"}"#;
const TENSORS: &[(&str, &str, &[u64])] = &[
    ("model.embed_tokens.weight", "BF16", &[1000, 512]),
    ("model.layers.0.self_attn.q_proj.weight", "BF16", &[512, 512]),
    ("model.layers.0.self_attn.k_proj.weight", "BF16", &[256, 512]),
    ("model.layers.0.self_attn.v_proj.weight", "BF16", &[256, 512]),
    ("model.layers.0.self_attn.o_proj.weight", "BF16", &[512, 512]),
];
const MLP: &[(&str, &str, &[u64])] = &[("model.layers.0.mlp.up_proj.weight", "BF16", &[2048, 512])];
const ATTENTION_PARAMETERS: u64 = 1000 * 512 + 2 * 512 * 512 + 2 * 256 * 512;

fn sources() -> Sources {
    Sources::new(Settings { offline: true, ..Settings::default() }).expect("valid")
}

fn read(path: &Path) -> Result<Arc<ModelShape>, SourceError> {
    sources().resolve(&SourceRef::Path(path.to_owned()))
}

/// A directory of files by name.
fn directory(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, content) in files {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().expect("below the directory")).expect("created");
        std::fs::write(path, content).expect("written");
    }
    directory
}

#[test]
fn a_directory_is_read_by_its_index_and_a_shard_stands_for_all() {
    let index = br#"{"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors"}}"#;
    let directory = directory(&[
        ("config.json", CONFIG.as_bytes()),
        ("model.safetensors.index.json", index),
        ("m-1.safetensors", &safetensors(TENSORS)),
        ("m-2.safetensors", &safetensors(MLP)),
        ("consolidated.safetensors", &safetensors(TENSORS)),
        ("original/model.safetensors", &safetensors(TENSORS)),
        ("pytorch_model.bin", b"pickle"),
    ]);
    for path in ["", "m-1.safetensors", "m-2.safetensors", "model.safetensors.index.json"] {
        let shape = read(&directory.path().join(path)).expect(path);
        assert_eq!(shape.parameters, ATTENTION_PARAMETERS + 2048 * 512, "{path}");
        assert_eq!((shape.source, shape.weights_confidence), (ShapeSource::Safetensors, Confidence::Exact));
        assert_eq!(shape.cache_confidence, Confidence::Exact, "the config is known");
    }
    let shape = read(&directory.path().join("consolidated.safetensors")).expect("by itself");
    assert_eq!(shape.parameters, ATTENTION_PARAMETERS);
    let shape = read(&directory.path().join("config.json")).expect("the config alone");
    assert_eq!(shape.source, ShapeSource::Config);
}

#[test]
fn a_quantised_checkpoint_has_the_bytes_of_its_files() {
    let config = CONFIG.replace(
        "\"model_type\"",
        "\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":128,\"desc_act\":false,\"sym\":true},\"model_type\"",
    );
    let name = |part: &str| format!("model.layers.0.mlp.up_proj.{part}");
    let (qweight, qzeros, scales) = (name("qweight"), name("qzeros"), name("scales"));
    let mut tensors = TENSORS.to_vec();
    tensors.extend([
        (qweight.as_str(), "I32", &[512_u64 / 8, 2048] as &[u64]),
        (qzeros.as_str(), "I32", &[4, 2048 / 8]),
        (scales.as_str(), "F16", &[4, 2048]),
    ]);
    let directory =
        directory(&[("config.json", config.as_bytes()), ("model.safetensors", &safetensors(&tensors))]);
    let shape = read(directory.path()).expect("resolves");
    assert_eq!(shape.parameters, ATTENTION_PARAMETERS + 2048 * 512);
    assert_eq!(shape.stored_precision, Some(Precision::Bf16), "of what is not quantised");
    assert_eq!(shape.quantization.as_ref().map(|found| found.precision), Some(Precision::GptqInt4));
    let stored: u64 = shape.tensors.iter().filter_map(|tensor| tensor.stored_bytes).sum();
    assert_eq!(stored, ATTENTION_PARAMETERS * 2 + 2048 * 512 / 2 + 4 * 2048 / 2 + 4 * 2048 * 2);
    let tensor =
        shape.tensors.iter().find(|tensor| tensor.name.ends_with("up_proj.weight")).expect("unpacked");
    assert_eq!((tensor.rows, tensor.columns, tensor.quantizable), (2048, 512, true));
}

#[test]
fn gguf_files_are_read_alone_and_in_parts() {
    let whole = llama_gguf(1, 50).bytes();
    let part = |number: u32| {
        llama_gguf(1, 50).meta("split.no", &Meta::U32(number)).meta("split.count", &Meta::U32(2)).bytes()
    };
    let directory = directory(&[
        ("one/m.gguf", &whole),
        ("two/m-00001-of-00002.gguf", &part(0)),
        ("two/m-00002-of-00002.gguf", &part(1)),
        ("many/a.gguf", &whole),
        ("many/b.gguf", &whole),
        ("lost/m-00001-of-00002.gguf", &part(0)),
        ("odd/m.gguf", &part(0)),
        ("extensionless/blob", &whole),
    ]);
    let at = |path: &str| read(&directory.path().join(path));
    let one = at("one").expect("one file");
    assert_eq!((one.source, one.vocabulary), (ShapeSource::Gguf, 50));
    assert_eq!(at("one/m.gguf").map(|shape| shape.parameters), Ok(one.parameters));
    assert_eq!(at("extensionless/blob").map(|shape| shape.parameters), Ok(one.parameters));
    for path in ["two", "two/m-00001-of-00002.gguf", "two/m-00002-of-00002.gguf"] {
        assert_eq!(at(path).map(|shape| shape.parameters), Ok(2 * one.parameters), "{path}");
    }
    for (path, expect) in [
        ("many", "2 GGUF files"),
        ("lost/m-00001-of-00002.gguf", "m-00002-of-00002.gguf"),
        ("odd", "-00001-of-00002.gguf"),
        ("nowhere", "nowhere"),
    ] {
        let error = at(path).expect_err(path).to_string();
        assert!(error.contains(expect), "{error} does not say {expect}");
    }
}

#[test]
fn what_is_on_disk_and_wrong_is_named() {
    let whole = safetensors(TENSORS);
    let directory = directory(&[
        ("empty/readme.md", b"x"),
        ("cut/model.safetensors", whole.get(..100).expect("longer")),
        ("html/model.safetensors", b"<!DOCTYPE html><html>"),
        ("short/model.safetensors", &[whole.as_slice(), &[0; 10]].concat()),
        ("index/model.safetensors.index.json", br#"{"weight_map":{"a":"gone.safetensors"}}"#),
        ("text.json", b"hello"),
    ]);
    for (path, expect) in [
        ("empty", "no config.json"),
        ("cut", "cut off"),
        ("html", "it is a web page"),
        ("short", "incomplete"),
        ("index", "gone.safetensors"),
        ("text.json", "neither a config.json"),
    ] {
        let error = read(&directory.path().join(path)).expect_err(path).to_string();
        assert!(error.contains(expect), "{error} does not say {expect}");
    }
}

#[test]
fn a_config_map_may_hold_any_of_the_formats() {
    let header = safetensors(TENSORS);
    let entry = format!("{{\"name\":\"mine\",\"config\":{CONFIG}}}");
    let read = |bytes: &[u8]| {
        sources().resolve(&SourceRef::ConfigMap { bytes: bytes.to_vec(), name: "mine".to_owned() })
    };
    for (bytes, source) in [
        (CONFIG.as_bytes(), ShapeSource::Config),
        (header.as_slice(), ShapeSource::Safetensors),
        (header.get(8..).expect("longer"), ShapeSource::Safetensors),
        (&llama_gguf(1, 20).bytes(), ShapeSource::Gguf),
        (b" llama-3.1-8b\n", ShapeSource::Catalog),
        (entry.as_bytes(), ShapeSource::Config),
    ] {
        assert_eq!(read(bytes).map(|shape| shape.source), Ok(source));
    }
    for (bytes, expect) in [
        (&br#"{"weight_map":{"a":"b.safetensors"}}"#[..], "without their sizes"),
        (b"no-such-model", "nor the name of a model of the catalog"),
        (b"{", "not JSON"),
        (b"{}", "model_type"),
        (b"", "neither"),
    ] {
        let error = read(bytes).expect_err(expect).to_string();
        assert!(error.contains(expect), "{error} does not say {expect}");
    }
}

#[test]
fn a_spec_becomes_a_reference() {
    let key = || KeyRef { name: "n".to_owned(), key: "k".to_owned() };
    let hub = || HuggingFaceRef {
        repository: "a/b".to_owned(),
        token_secret_ref: Some(key()),
        ..HuggingFaceRef::default()
    };
    let of = |model: &ModelSource, map: Option<Vec<u8>>| SourceRef::of(model, "mine", Token::new("t"), map);
    let model = ModelSource { parameters: Some("8B".to_owned()), ..ModelSource::default() };
    assert_eq!(of(&model, None), Ok(SourceRef::Parameters(Parameters(8_000_000_000))));
    let shape = sources().resolve(&of(&model, None).expect("valid")).expect("assumed");
    assert_eq!(shape.weights_confidence, Confidence::Assumed);
    let model = ModelSource { hugging_face: Some(hub()), ..ModelSource::default() };
    assert!(matches!(of(&model, None), Ok(SourceRef::HuggingFace { token: Some(_), .. })));
    assert_eq!(token_secret(&model), Some(&key()));
    let gguf = GgufRef { hugging_face: Some(hub()), url: None };
    let model = ModelSource { gguf: Some(gguf), ..ModelSource::default() };
    assert!(matches!(of(&model, None), Ok(SourceRef::HuggingFace { .. })));
    assert_eq!(token_secret(&model), Some(&key()));
    let model = ModelSource { config_map_ref: Some(key()), ..ModelSource::default() };
    let error = of(&model, None).expect_err("no such ConfigMap").to_string();
    assert!(error.contains("model.configMapRef") && error.contains("\"k\""), "{error}");
    assert!(of(&model, Some(CONFIG.into())).is_ok());
    let model = ModelSource { catalog: Some("lama-3.1-8b".to_owned()), ..ModelSource::default() };
    let error = sources().resolve(&of(&model, None).expect("valid")).expect_err("misspelt").to_string();
    assert!(error.contains("did you mean llama-3.1-8b"), "{error}");
    let error = of(&ModelSource::default(), None).expect_err("nothing").to_string();
    assert!(error.contains("no source"), "{error}");
}

#[test]
fn offline_the_catalog_stands_for_its_repositories() {
    let source = SourceRef::HuggingFace {
        repository: "meta-llama/Llama-3.1-8B-Instruct".to_owned(),
        revision: None,
        file: None,
        token: None,
    };
    assert_eq!(sources().resolve(&source).map(|shape| shape.source), Ok(ShapeSource::Catalog));
}

#[tokio::test]
async fn the_async_form_gives_the_same() {
    let directory = directory(&[("config.json", CONFIG.as_bytes())]);
    let sources = Arc::new(sources());
    let source = SourceRef::Path(directory.path().to_owned());
    assert_eq!(sources.read_async("team", source.clone()).await, sources.resolve(&source));
}
