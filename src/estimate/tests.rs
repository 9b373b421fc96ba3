//! The seed rules, to the byte, and what every estimate must hold to.

use super::*;
use crate::model::{Attention, CacheKind, Layer, ModelShape, ShapeSource, Span, assumed};
use crate::units::{GIB, MIB, Margin, Parameters};

/// A dense 8B model of which only the size is known.
pub(in crate::estimate) fn sized(parameters: u64) -> ModelShape {
    let cache = CacheKind::Heads { kv_heads: 8, key_dim: 128, value_dim: 128 };
    ModelShape {
        name: "sized".to_owned(),
        source: ShapeSource::Parameters,
        architecture: "assumed".to_owned(),
        parameters,
        tensors: Vec::new(),
        layers: vec![Layer { attention: Some(Attention { cache, span: Span::Full }), state: None }; 32],
        draft_layers: Vec::new(),
        hidden_size: 4096,
        intermediate_size: 14_336,
        heads: 32,
        head_dim: 128,
        experts: None,
        vocabulary: 128_256,
        max_context: Some(8192),
        tied_embeddings: false,
        stored_precision: None,
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

pub(in crate::estimate) fn workload() -> Workload {
    Workload {
        precision: None,
        context: Some(8192),
        sequences: 1,
        cache_precision: CachePrecision::Auto,
        tensor: 1,
        pipeline: 1,
        data: 1,
        engine: Engine::Vllm,
        batched_tokens: None,
        options: Options::default(),
        training: None,
    }
}

fn with(precision: Precision) -> Workload {
    Workload { precision: Some(precision), ..workload() }
}

#[test]
fn the_seed_rule_holds_to_the_byte() {
    for (parameters, precision, expected) in [
        (8_000_000_000, Precision::Fp32, 32_000_000_000),
        (8_000_000_000, Precision::Fp16, 16_000_000_000),
        (8_000_000_000, Precision::Bf16, 16_000_000_000),
        (8_000_000_000, Precision::Fp8, 8_000_000_000),
        (8_000_000_000, Precision::Int8, 8_000_000_000),
        (8_000_000_000, Precision::Int4, 4_000_000_000),
        (8_000_000_000, Precision::GptqInt4, 4_000_000_000),
        (8_000_000_000, Precision::AwqInt4, 4_000_000_000),
        (7_000_000_001, Precision::Int4, 3_500_000_001),
        (8_000_000_000, Precision::Mxfp4, 4_250_000_000),
        (8_000_000_000, Precision::Q80, 8_500_000_000),
    ] {
        for engine in Engine::ALL {
            let workload = Workload { engine: *engine, ..with(precision) };
            let estimate = estimate(&sized(parameters), &workload).expect("fits");
            assert_eq!(estimate.components.weights, Bytes(expected), "{parameters} {precision} {engine}");
        }
    }
}

#[test]
fn the_cards_of_the_seed_accept_and_refuse() {
    let cards = [("T4", 15_360), ("L4", 23_034), ("RTX 4090", 24_564), ("8 GB", 8188)];
    for (precision, engine, fits) in [
        (Precision::Fp16, Engine::Vllm, [false, true, true, false]),
        (Precision::Fp16, Engine::None, [false, true, true, false]),
        (Precision::Int4, Engine::Vllm, [true, true, true, true]),
        (Precision::Int4, Engine::None, [true, true, true, true]),
        (Precision::Int4, Engine::LlamaCpp, [true, true, true, true]),
    ] {
        let shape = assumed::shape(Parameters(8_000_000_000));
        let estimate = estimate(&shape, &Workload { engine, ..with(precision) }).expect("fits");
        let needed = Margin::DEFAULT.apply(estimate.total_per_gpu).expect("fits");
        for ((card, mib), expected) in cards.into_iter().zip(fits) {
            assert_eq!(
                needed.0 <= mib * MIB,
                expected,
                "{precision} on {card}, {engine}: {needed} of {:?}",
                estimate.components
            );
        }
    }
}

#[test]
fn the_cache_of_a_dense_model_is_linear_in_tokens() {
    for (context, sequences, expected) in
        [(8192, 1, GIB), (4096, 1, GIB / 2), (8192, 8, 8 * GIB), (16, 1, 2 << 20)]
    {
        let workload = Workload { context: Some(context), sequences, ..workload() };
        let estimate = estimate(&sized(8_000_000_000), &workload).expect("fits");
        assert_eq!(estimate.components.kv_cache, Bytes(expected), "{context} x {sequences}");
        assert_eq!(estimate.kv_cache_bytes_per_token, Bytes(131_072));
    }
}

#[test]
fn what_cannot_be_split_says_so_with_numbers() {
    let mut shape = crate::model::hf_config::parse(
        include_bytes!("../../tests/fixtures/configs/meta-llama__Llama-3.1-8B-Instruct.json"),
        "llama",
    )
    .expect("a config");
    let error =
        estimate(&shape, &Workload { tensor: 3, ..workload() }).expect_err("3 does not divide").to_string();
    assert_eq!(
        error,
        "parallelism.tensor: 3 ranks cannot share 32 attention heads and 8 KV heads and an MLP of 14336; write 2 or 4"
    );
    for (workload, field) in [
        (Workload { tensor: 0, ..workload() }, "parallelism.tensor"),
        (Workload { pipeline: 0, ..workload() }, "parallelism.pipeline"),
        (Workload { pipeline: 33, ..workload() }, "parallelism.pipeline"),
        (Workload { sequences: 0, ..workload() }, "context.sequences"),
        (Workload { context: Some(0), ..workload() }, "context.length"),
    ] {
        let error = estimate(&shape, &workload).expect_err(field).to_string();
        assert!(error.starts_with(field), "{error}");
    }
    shape.tensors.clear();
    let assumed = estimate(&shape, &Workload { tensor: 64, ..workload() }).expect("only assumed heads");
    assert!(assumed.notes.iter().any(|note| note.contains("32 attention heads")), "{:?}", assumed.notes);
}

#[test]
fn the_arithmetic_is_shown() {
    let formulas = |shape: &ModelShape, workload: &Workload| -> Vec<String> {
        let estimate = estimate(shape, workload).expect("fits");
        estimate
            .terms
            .iter()
            .map(|term| format!("{} = {}: {}", term.component, term.bytes.0, term.formula))
            .collect()
    };
    let found = formulas(&sized(8_000_000_000), &with(Precision::Fp16));
    assert_eq!(found[0], "weights = 16000000000: 8B parameters x 2 bytes (fp16)");
    assert_eq!(
        found[1],
        "kvCache = 1073741824: 1 sequence x (8192 tokens x 131072 bytes in 32 layers), as fp16"
    );
    assert!(found[2].ends_with("8192 tokens x 118784 bytes in the widest layer"), "{}", found[2]);
    assert!(found[3].starts_with("overhead = ") && found[3].contains("CUDA context (vLLM"), "{}", found[3]);
    let split = formulas(&sized(8_000_000_000), &Workload { tensor: 2, ..with(Precision::GptqInt4) });
    assert_eq!(split[0], "weights = 2000000000: 8B parameters x 0.5 bytes (gptq-int4), on 2 GPUs");
    assert_eq!(
        split[1],
        "kvCache = 536870912: 1 sequence x (8192 tokens x 65536 bytes in 32 layers), as bf16"
    );
}

#[test]
fn defaults_are_filled_in_and_said() {
    let bare = Workload { context: None, ..workload() };
    let estimate = estimate(&sized(8_000_000_000), &bare).expect("fits");
    assert_eq!(estimate.workload.context, Some(8192));
    assert_eq!(estimate.workload.precision, Some(Precision::Bf16));
    assert_eq!(estimate.workload.cache_precision, CachePrecision::Bf16);
    assert_eq!(estimate.workload.batched_tokens, Some(8192));
    assert!(
        estimate.notes.iter().any(|note| note.contains("8192 tokens are assumed")),
        "{:?}",
        estimate.notes
    );
    assert!(estimate.notes.iter().any(|note| note.contains("bf16 is assumed")), "{:?}", estimate.notes);
    assert_eq!(estimate.confidence, Confidence::Assumed);
}

#[test]
fn a_longer_context_than_the_model_knows_is_said() {
    let long = Workload { context: Some(100_000), ..workload() };
    let estimate = estimate(&sized(8_000_000_000), &long).expect("fits");
    assert!(estimate.notes.iter().any(|note| note.contains("more than the 8192")), "{:?}", estimate.notes);
}

#[test]
fn seventy_billion_parameters_need_more_than_one_card() {
    let shape = assumed::shape(Parameters(70_000_000_000));
    for (tensor, mib, fits) in
        [(4, 81_920, true), (4, 81_559, true), (2, 143_771, true), (1, 81_559, false), (1, 143_771, false)]
    {
        let workload = Workload { tensor, ..with(Precision::Bf16) };
        let estimate = estimate(&shape, &workload).expect("fits");
        let needed = Margin::DEFAULT.apply(estimate.total_per_gpu).expect("fits");
        assert_eq!(needed.0 <= mib * MIB, fits, "tensor {tensor} on {mib} MiB: {needed}");
    }
}
