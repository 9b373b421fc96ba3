//! What the engine's options add, in numbers that were worked out by hand or measured.

use super::*;
use crate::estimate::tests::workload;
use crate::estimate::{Estimate, Workload, estimate};
use crate::model::{ModelShape, catalog, hf_config};
use crate::precision::{Engine, Precision};
use crate::units::GIB;

fn shape(json: &[u8]) -> ModelShape {
    hf_config::parse(json, "model").expect("a config")
}

fn llama() -> ModelShape {
    shape(include_bytes!("../../tests/fixtures/configs/meta-llama__Llama-3.1-8B-Instruct.json"))
}

fn with(shape: &ModelShape, workload: &Workload, options: Options) -> Estimate {
    estimate(shape, &Workload { options, ..workload.clone() }).expect("an estimate")
}

fn guesses(tokens: u64, draft: Draft) -> Options {
    Options { speculation: Some(Speculation { tokens, draft }), ..Options::default() }
}

#[test]
fn adapters_take_room_for_every_linear_layer() {
    let shape = llama();
    let base = estimate(&shape, &workload()).expect("an estimate");
    // Per layer of Llama-3.1-8B: q and o 8192 each, k and v 5120 each, gate, up and down 18432 each; the two ends 132352 each.
    let widths = 32 * (2 * 8192 + 2 * 5120 + 3 * 18_432) + 2 * 132_352;
    for (count, rank) in [(1, 16), (4, 64)] {
        let options = Options { adapters: Some(Adapters { count, rank }), ..Options::default() };
        let estimate = with(&shape, &workload(), options);
        let more = estimate.per_gpu.overhead.0 - base.per_gpu.overhead.0;
        assert_eq!(more, widths * count * rank * 2, "{count} of rank {rank}");
        assert_eq!(estimate.per_gpu.weights, base.per_gpu.weights);
    }
    // On two ranks the halves that are not shared stay whole: more than half.
    let two = Workload { tensor: 2, ..workload() };
    let options = Options { adapters: Some(Adapters { count: 1, rank: 16 }), ..Options::default() };
    let more = with(&shape, &two, options).per_gpu.overhead.0
        - estimate(&shape, &two).expect("one").per_gpu.overhead.0;
    assert!(more > widths * 16 && more < widths * 32, "{more}");
}

#[test]
fn adapters_of_a_size_alone_are_near_those_of_a_real_model() {
    let options = Options { adapters: Some(Adapters { count: 4, rank: 64 }), ..Options::default() };
    let room = |shape: &ModelShape| {
        with(shape, &workload(), options.clone()).per_gpu.overhead.0
            - estimate(shape, &workload()).expect("an estimate").per_gpu.overhead.0
    };
    let assumed = room(&crate::model::assumed::shape(crate::units::Parameters(8_030_261_248)));
    let real = room(&llama());
    assert!(assumed.abs_diff(real) * 5 < real, "{assumed} against {real}");
}

#[test]
fn a_models_own_heads_are_loaded_for_speculation_only() {
    // DeepSeek-V3 is published with 671B parameters, and 14B more in the head that predicts the next token but one.
    let shape = shape(include_bytes!("../../tests/fixtures/configs/deepseek-ai__DeepSeek-V3.json"));
    let eight = Workload { tensor: 8, ..workload() };
    let base = estimate(&shape, &eight).expect("an estimate");
    let guessing = with(&shape, &eight, guesses(1, Draft::OwnHeads));
    let more = guessing.components.weights.0 - base.components.weights.0;
    assert!((11_000_000_000..16_000_000_000).contains(&more), "{more}");
    // One layer more beside 61, of the same latent cache.
    let cache = guessing.per_gpu.kv_cache.0 - base.per_gpu.kv_cache.0;
    assert_eq!(cache, base.per_gpu.kv_cache.0 / 61);
}

#[test]
fn a_draft_model_brings_its_weights_and_its_cache() {
    let shape = llama();
    let draft = catalog::shape("llama-3.2-1b").expect("in the catalog");
    let base = estimate(&shape, &workload()).expect("an estimate");
    let alone = estimate(&draft, &workload()).expect("an estimate");
    let both = with(&shape, &workload(), guesses(5, Draft::Model("llama-3.2-1b".to_owned())));
    // All but the draft's own rotary tables, which are small.
    let more = both.per_gpu.weights.0 - base.per_gpu.weights.0;
    assert!(more <= alone.per_gpu.weights.0 && more * 100 > alone.per_gpu.weights.0 * 99, "{more}");
    assert_eq!(both.per_gpu.kv_cache.0, base.per_gpu.kv_cache.0 + alone.per_gpu.kv_cache.0);
    // Six rows of logits are sampled where there was one.
    assert!(both.per_gpu.activations >= base.per_gpu.activations);
}

#[test]
fn a_draft_head_is_near_what_one_was_measured_to_take() {
    // SGLang, EAGLE-3 head of Llama-3.1-8B-Instruct: a further 2.21 GiB (serving.csv, sgl-idx-llama31-8b-eagle3-h100nvl).
    let shape = llama();
    let base = estimate(&shape, &workload()).expect("an estimate");
    let more = with(&shape, &workload(), guesses(4, Draft::Head)).per_gpu.weights.0 - base.per_gpu.weights.0;
    assert!((GIB * 3 / 2..GIB * 5 / 2).contains(&more), "{more}");
}

#[test]
fn whole_experts_per_rank_conserve_the_experts() {
    let shape = shape(include_bytes!("../../tests/fixtures/configs/Qwen__Qwen3-30B-A3B.json"));
    let four = Workload { tensor: 4, ..workload() };
    let sliced = estimate(&shape, &four).expect("an estimate");
    let whole = with(&shape, &four, Options { expert_parallel: true, ..Options::default() });
    assert_eq!(sliced.per_gpu.weights, whole.per_gpu.weights, "128 experts are divisible by 4");
    assert!(whole.per_gpu.activations >= sliced.per_gpu.activations, "a rank works on whole experts");
    // An FP8 checkpoint in blocks of 128 whose experts cannot be cut in eight can be handed out whole.
    let blocks = self::shape(include_bytes!("../../tests/fixtures/configs/Qwen__Qwen3-235B-A22B-FP8.json"));
    let eight = Workload { tensor: 8, ..workload() };
    assert!(estimate(&blocks, &eight).is_err());
    let options = Options { expert_parallel: true, ..Options::default() };
    assert!(estimate(&blocks, &Workload { options, ..eight }).is_ok());
}

#[test]
fn graphs_are_not_captured_eagerly() {
    let shape = llama();
    let base = estimate(&shape, &workload()).expect("an estimate");
    let eager = with(&shape, &workload(), Options { eager: true, ..Options::default() });
    let graphs = base.logged.expect("vLLM's").graphs;
    assert!(graphs.0 > 0);
    assert_eq!(eager.logged.expect("vLLM's").graphs.0, 0);
    assert_eq!(base.per_gpu.overhead.0 - eager.per_gpu.overhead.0, graphs.0);
}

#[test]
fn llama_cpp_without_flash_attention_writes_out_the_scores() {
    // llamacpp.csv: mistral-7b-instruct-q4-0-rtx-a4000-1 (164 MiB) and llama-2-7b-q4-k-m-arc-a770-1 (296 MiB), both exact.
    for (json, context, mebibytes) in [
        (&include_bytes!("../../tests/fixtures/configs/mistralai__Mistral-7B-v0.1.json")[..], 2048, 164),
        (&include_bytes!("../../tests/fixtures/configs/meta-llama__Llama-2-7b-hf.json")[..], 4096, 296),
    ] {
        let shape = shape(json);
        let workload = Workload {
            engine: Engine::LlamaCpp,
            context: Some(context),
            precision: Some(Precision::Q40),
            ..workload()
        };
        // Both are of builds before June 2026.
        let engine_version = Some(EngineVersion::Build(9000));
        let options = Options { without_flash_attention: true, engine_version, ..Options::default() };
        let found = with(&shape, &workload, options).per_gpu.activations.0;
        let measured = mebibytes * crate::units::MIB;
        assert!(found.abs_diff(measured) * 20 <= measured, "{context}: {found} against {measured}");
    }
}

#[test]
fn a_draft_that_is_not_known_is_refused() {
    for (draft, parts) in [
        (Draft::OwnHeads, ["has no layers that predict further tokens", "draft model"]),
        (Draft::Model("llama-3.2-1".to_owned()), ["llama-3.2-1 is not in the catalog", "llama-3.2-1b"]),
    ] {
        let workload = Workload { options: guesses(1, draft), ..workload() };
        let error = estimate(&llama(), &workload).expect_err("refused").to_string();
        for part in parts {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}

#[test]
fn llama_cpp_counts_what_is_on_the_gpus_only() {
    let llama_cpp = |precision| Workload {
        engine: Engine::LlamaCpp,
        context: Some(8192),
        precision: Some(precision),
        ..workload()
    };
    // llamacpp.csv, qwen3-30b-a3b-q4-k-m-rtx-4090-1: with every expert in host memory 784.42 MiB are left, and all of the cache.
    let experts = shape(include_bytes!("../../tests/fixtures/configs/Qwen__Qwen3-30B-A3B.json"));
    let options = Options { host_expert_layers: Some(1000), ..Options::default() };
    let found = with(&experts, &llama_cpp(Precision::Q4KM), options).per_gpu;
    let measured = 784 * crate::units::MIB;
    assert!(found.weights.0.abs_diff(measured) * 20 < measured, "{} against {measured}", found.weights);
    assert_eq!(
        found.kv_cache,
        with(&experts, &llama_cpp(Precision::Q4KM), Options::default()).per_gpu.kv_cache
    );

    // mistral-nemo 40/41: one of 40 layers stays on the host, the output does not. 6597.68 MiB.
    let nemo =
        shape(include_bytes!("../../tests/fixtures/configs/mistralai__Mistral-Nemo-Instruct-2407.json"));
    let options = |layers| Options { gpu_layers: Some(layers), ..Options::default() };
    let all = with(&nemo, &llama_cpp(Precision::Q4KM), Options::default()).per_gpu;
    let most = with(&nemo, &llama_cpp(Precision::Q4KM), options(40)).per_gpu;
    let measured = 6597 * crate::units::MIB;
    assert!(most.weights.0.abs_diff(measured) * 50 < measured, "{} against {measured}", most.weights);
    assert_eq!(most.kv_cache.0, all.kv_cache.0 / 40 * 39);
    assert_eq!(with(&nemo, &llama_cpp(Precision::Q4KM), options(41)).per_gpu, all);

    // Fewer layers are never more memory.
    let mut before = all.weights;
    for layers in (1..=40).rev() {
        let now = with(&nemo, &llama_cpp(Precision::Q4KM), options(layers)).per_gpu.weights;
        assert!(now < before, "{layers}");
        before = now;
    }
    let none = Workload { options: options(0), ..llama_cpp(Precision::Q4KM) };
    assert!(estimate(&nemo, &none).expect_err("refused").to_string().contains("-ngl 0"));
}

#[test]
fn a_hybrid_keeps_a_state_more_for_every_guess() {
    let shape = catalog::shape("qwen3-next-80b-a3b").expect("in the catalog");
    let many = Workload { sequences: 16, tensor: 2, ..workload() };
    let base = estimate(&shape, &many).expect("an estimate");
    let mut before = base.per_gpu.kv_cache;
    for tokens in 1..=3 {
        let now = with(&shape, &many, guesses(tokens, Draft::OwnHeads)).per_gpu.kv_cache;
        assert!(now > before, "{tokens}");
        before = now;
    }
    // The head for further tokens has 1.6B parameters, as large as one of the 48 layers.
    let more =
        with(&shape, &many, guesses(1, Draft::OwnHeads)).components.weights.0 - base.components.weights.0;
    assert!((2_000_000_000..5_000_000_000).contains(&more), "{more}");
}
