//! The quantisation of real checkpoints, and of every dialect.

use super::*;
use crate::model::{Confidence, Quantization};
use crate::precision::CachePrecision;

fn quantization(stem: &str) -> Quantization {
    super::shape(stem).quantization.unwrap_or_else(|| panic!("{stem} is quantised"))
}

#[test]
fn real_checkpoints_have_their_formats() {
    for (stem, precision, group, cache) in [
        ("deepseek-ai__DeepSeek-V3", Precision::Fp8Block, Some(128), None),
        ("Qwen__Qwen3-32B-FP8-Static-PerTensor", Precision::Fp8, Some(0), Some(CachePrecision::Fp8)),
        ("meta-llama__Llama-3.1-405B-Instruct-FP8", Precision::Fp8, None, None),
        ("RedHatAI__Llama-4-Scout-17B-16E-Instruct-FP8-dynamic", Precision::Fp8, None, None),
        ("mistralai__Devstral-2-123B-Instruct-2512", Precision::Fp8, None, None),
        ("moonshotai__Kimi-K2.5", Precision::AwqInt4, Some(32), None),
        ("moonshotai__Kimi-K3", Precision::Mxfp4, Some(32), None),
        ("openai__gpt-oss-20b", Precision::Mxfp4, Some(32), None),
        ("nvidia__Kimi-K2.5-NVFP4", Precision::Nvfp4, Some(16), Some(CachePrecision::Fp8)),
        // No quantization_config: only ModelOpt's own file says it.
        ("nvidia__Llama-3.1-70B-Instruct-FP8", Precision::Fp8, Some(0), Some(CachePrecision::Fp8)),
        (
            "nvidia__NVIDIA-Nemotron-3-Nano-30B-A3B-NVFP4",
            Precision::Nvfp4,
            Some(16),
            Some(CachePrecision::Fp8),
        ),
        ("deepseek-ai__DeepSeek-V4-Flash", Precision::Mxfp4, Some(32), None),
        ("nvidia__Qwen3.6-27B-NVFP4", Precision::Nvfp4, Some(16), Some(CachePrecision::Fp8)),
    ] {
        let found = quantization(stem);
        assert_eq!(
            (found.precision, found.group_size, found.cache_precision),
            (precision, group, cache),
            "{stem}"
        );
    }
    assert_eq!(super::shape("meta-llama__Llama-3.1-8B").quantization, None);
    assert_eq!(quantization("moonshotai__Kimi-K2.5").ignored.len(), 4);
}

#[test]
fn a_mixed_checkpoint_has_bytes_per_tensor() {
    // 19.78 GiB is what vLLM loads of it: without the draft head.
    let shape = super::shape("nvidia__Qwen3.6-27B-NVFP4");
    let loaded = shape.tensors.iter().filter(|tensor| tensor.role != crate::model::Role::Draft);
    let bytes: u64 = loaded.map(|tensor| tensor.stored_bytes.expect("bytes of every tensor")).sum();
    assert!(bytes.abs_diff(21_238_613_606) < 300_000_000, "{bytes}");
    let uniform = super::shape("nvidia__Kimi-K2.5-NVFP4");
    assert!(uniform.tensors.iter().all(|tensor| tensor.stored_bytes.is_none()));
}

/// A small model with a `quantization_config`.
fn with(config: &str) -> ModelShape {
    let json = format!(
        r#"{{"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1,
            "intermediate_size": 128, "vocab_size": 256, "torch_dtype": "float16", "quantization_config": {config}}}"#
    );
    parse(json.as_bytes(), "small").unwrap_or_else(|error| panic!("{config}: {error}"))
}

#[test]
fn every_dialect_is_read() {
    let group = |bits: u64, kind: &str, rest: &str| {
        format!(
            r#"{{"quant_method": "compressed-tensors", "config_groups": {{"group_0": {{"targets": ["Linear"],
                "weights": {{"num_bits": {bits}, "type": "{kind}"{rest}}}}}}}}}"#
        )
    };
    for (config, precision, group_size) in [
        (
            r#"{"quant_method": "gptq", "bits": 4, "group_size": 32}"#.to_owned(),
            Precision::GptqInt4,
            Some(32),
        ),
        (r#"{"quant_method": "gptq", "bits": 8, "group_size": -1}"#.to_owned(), Precision::GptqInt8, Some(0)),
        (
            r#"{"quant_method": "awq", "w_bit": 4, "q_group_size": 64}"#.to_owned(),
            Precision::AwqInt4,
            Some(64),
        ),
        (r#"{"quant_method": "auto-round", "bits": 4}"#.to_owned(), Precision::GptqInt4, Some(128)),
        (r#"{"quant_method": "bitsandbytes", "load_in_4bit": true}"#.to_owned(), Precision::Nf4, Some(64)),
        (r#"{"quant_method": "bitsandbytes", "load_in_8bit": true}"#.to_owned(), Precision::BnbInt8, None),
        (
            r#"{"quant_method": "fp8", "weight_block_size": [128, 128]}"#.to_owned(),
            Precision::Fp8Block,
            Some(128),
        ),
        (r#"{"quant_method": "fp8"}"#.to_owned(), Precision::Fp8, None),
        (r#"{"quant_method": "mxfp4"}"#.to_owned(), Precision::Mxfp4, Some(32)),
        (r#"{"quant_method": "modelopt", "quant_algo": "NVFP4"}"#.to_owned(), Precision::Nvfp4, Some(16)),
        (group(8, "float", r#", "strategy": "channel""#), Precision::Fp8, None),
        (group(8, "float", r#", "strategy": "block""#), Precision::Fp8Block, Some(128)),
        (group(8, "int", r#", "strategy": "channel""#), Precision::Int8, Some(0)),
        (group(4, "int", r#", "group_size": 128"#), Precision::AwqInt4, Some(128)),
        (group(4, "float", r#", "group_size": 16"#), Precision::Nvfp4, Some(16)),
        (group(4, "float", r#", "group_size": 32"#), Precision::Mxfp4, Some(32)),
    ] {
        let found = with(&config).quantization.unwrap_or_else(|| panic!("{config}"));
        assert_eq!((found.precision, found.group_size), (precision, group_size), "{config}");
    }
    let nested = with(r#"{"quant_method": "bitsandbytes", "bnb_4bit_use_double_quant": true}"#);
    assert!(nested.quantization.is_some_and(|found| found.double_quantized));
    let ordered = with(r#"{"quant_method": "gptq", "bits": 4, "desc_act": true}"#);
    assert!(ordered.quantization.is_some_and(|found| found.activation_order && found.zero_points));
}

/// Bytes of the linear layers of a small model, where the method says how it packs them.
#[test]
fn methods_without_a_name_here_are_counted_by_their_packing() {
    // 64 x 64 four times, 128 x 64 twice, 64 x 128.
    let weights: u64 = 4 * 64 * 64 + 3 * 64 * 128;
    let rows: u64 = 4 * 64 + 2 * 128 + 64;
    let groups = |size: u64| weights / size;
    for (config, bytes) in [
        (r#"{"quant_method": "gptq", "bits": 3, "group_size": 64}"#, weights * 3 / 8 + groups(64) * 19 / 8),
        (r#"{"quant_method": "auto-round", "bits": 2, "group_size": 64}"#, weights / 4 + groups(64) * 18 / 8),
        (
            r#"{"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64}}}"#,
            weights / 2 + groups(64) * 4,
        ),
        (r#"{"quant_method": "quanto", "weights": "int2"}"#, weights / 4 + (rows - 64) * 4 + 64 * 4),
        (
            r#"{"quant_method": "torchao", "quant_type": "int4_weight_only", "group_size": 64}"#,
            weights / 2 + groups(64) * 4,
        ),
        (
            r#"{"quant_method": "torchao", "quant_type": {"default": {"_type": "Int4WeightOnlyConfig"}}, "group_size": 64}"#,
            weights / 2 + groups(64) * 4,
        ),
        (r#"{"quant_method": "bitnet"}"#, weights / 4 + 7 * 2),
        (r#"{"quant_method": "exl2", "bits": 4.25}"#, weights * 17 / 32),
        (
            r#"{"quant_method": "aqlm", "num_codebooks": 1, "nbits_per_codebook": 8, "in_group_size": 8}"#,
            weights / 8 + rows * 2 + 7 * 8 * 2 * 256,
        ),
    ] {
        let shape = with(config);
        let linear = shape.tensors.iter().filter(|tensor| tensor.quantizable);
        let counted: u64 = linear.map(|tensor| tensor.stored_bytes.expect("bytes")).sum();
        assert!(counted.abs_diff(bytes) <= 7, "{config}: {counted}, not {bytes}");
        assert!(!shape.notes.is_empty() && shape.quantization.is_some(), "{config}");
        let embedding = shape.tensors.iter().find(|tensor| tensor.role == crate::model::Role::Embedding);
        assert_eq!(embedding.and_then(|tensor| tensor.stored_bytes), Some(256 * 64 * 2), "{config}");
    }
    for (config, precision) in [
        (r#"{"quant_method": "eetq"}"#, Precision::Int8),
        (r#"{"quant_method": "quanto", "weights": "float8"}"#, Precision::Fp8),
        (r#"{"quant_method": "torchao", "quant_type": "int8_weight_only"}"#, Precision::Int8),
        (
            r#"{"quant_method": "torchao", "quant_type": "float8_dynamic_activation_float8_weight"}"#,
            Precision::Fp8,
        ),
        (r#"{"quant_method": "fbgemm_fp8"}"#, Precision::Fp8),
        (r#"{"quant_method": "fp_quant", "forward_dtype": "mxfp4"}"#, Precision::Mxfp4),
    ] {
        assert_eq!(with(config).quantization.map(|found| found.precision), Some(precision), "{config}");
    }
}

#[test]
fn an_unknown_method_is_counted_at_16_bits_and_says_so() {
    let shape = with(r#"{"quant_method": "no-such"}"#);
    assert_eq!((shape.quantization.is_none(), shape.weights_confidence), (true, Confidence::Assumed));
    assert!(shape.notes.iter().any(|note| note.contains("no-such")), "{:?}", shape.notes);
}

/// Lists of modules left alone name real modules of the checkpoint: so they check the names of the tensors too.
#[test]
fn modules_left_alone_are_modules_of_the_model() {
    // Towers have names of their own here; a tied head is no tensor; the rest are names without a layer, or of buffers.
    let elsewhere = [
        "vision_model.",
        "model.vision_tower",
        "model.multi_modal_projector",
        "lm_head",
        "gate",
        "e_score_correction_bias",
    ];
    let mut unknown = Vec::new();
    let mut checked = 0;
    for fixture in fixtures() {
        let shape = fixture.parse().unwrap_or_else(|error| panic!("{}: {error}", fixture.stem));
        for entry in shape.quantization.iter().flat_map(|quantization| &quantization.ignored) {
            let module = entry.trim_end_matches('*').trim_end_matches('.');
            let skipped = elsewhere.iter().any(|name| module.starts_with(name))
                || module.ends_with("indexers_proj")
                || module.contains('*')
                || module.starts_with("re:");
            if skipped {
                continue;
            }
            checked += 1;
            if !shape.tensors.iter().any(|tensor| tensor.name.starts_with(module)) {
                unknown.push(format!("{}: {entry}", fixture.stem));
            }
        }
    }
    assert!(checked > 3000, "{checked} names");
    assert!(unknown.is_empty(), "{} of {checked}:\n{}", unknown.len(), unknown.join("\n"));
}
