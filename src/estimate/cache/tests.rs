//! Figures that are known to the byte: published specifications worked out by hand, and engines' logs.

use crate::estimate::tests::{sized, workload};
use crate::estimate::{Draft, Speculation, Workload, estimate};
use crate::model::{Attention, CacheKind, Layer, ModelShape, Span, State, StateKind};
use crate::precision::{CachePrecision, Engine};
use crate::units::{GIB, MIB};

fn heads(kv_heads: u64, dim: u64) -> CacheKind {
    CacheKind::Heads { kv_heads, key_dim: dim, value_dim: dim }
}

fn attention(cache: CacheKind, span: Span) -> Layer {
    Layer { attention: Some(Attention { cache, span }), state: None }
}

fn state(kind: StateKind, conv_width: u64, matrix: u64, heads: u64) -> Layer {
    Layer { attention: None, state: Some(State { kind, conv_width, conv_kernel: 4, matrix, heads }) }
}

fn shape(groups: &[(usize, &Layer)]) -> ModelShape {
    let layers = groups.iter().flat_map(|(count, layer)| std::iter::repeat_n((*layer).clone(), *count));
    ModelShape { layers: layers.collect(), max_context: None, ..sized(1_000_000_000) }
}

fn full(layers: usize, kv_heads: u64, dim: u64) -> ModelShape {
    shape(&[(layers, &attention(heads(kv_heads, dim), Span::Full))])
}

fn latent(layers: usize, index_dim: u64) -> ModelShape {
    shape(&[(layers, &attention(CacheKind::Latent { rank: 512, rope_dim: 64, index_dim }, Span::Full))])
}

/// Qwen3-Next-80B: 12 layers of attention, 36 gated delta nets.
fn qwen3_next() -> ModelShape {
    shape(&[
        (12, &attention(heads(2, 256), Span::Full)),
        (36, &state(StateKind::GatedDelta, 8192, 32 * 128 * 128, 32)),
    ])
}

/// A workload of vLLM at a release.
fn at_version(version: &str) -> Workload {
    let engine_version = Some(version.parse().expect("a version"));
    Workload { options: crate::estimate::Options { engine_version, ..Default::default() }, ..workload() }
}

fn per_token(shape: &ModelShape, workload: &Workload) -> u64 {
    estimate(shape, workload).expect("fits").kv_cache_bytes_per_token.0
}

fn cache(shape: &ModelShape, workload: &Workload) -> u64 {
    estimate(shape, workload).expect("fits").components.kv_cache.0
}

#[test]
fn growth_per_token_is_known_to_the_byte() {
    let windowed = |layers, kv_heads, dim, window| {
        shape(&[
            (layers, &attention(heads(kv_heads, dim), Span::Full)),
            (layers, &attention(heads(kv_heads, dim), Span::Sliding(window))),
        ])
    };
    for (name, shape, expected) in [
        ("Llama-3.1-8B", full(32, 8, 128), 131_072),
        ("Llama-3.3-70B", full(80, 8, 128), 327_680),
        ("Qwen3-0.6B", full(28, 8, 128), 114_688),
        ("Qwen3-32B", full(64, 8, 128), 262_144),
        ("Phi-4", full(40, 10, 128), 204_800),
        ("Mistral-Small-3.2", full(40, 8, 128), 163_840),
        ("GLM-4.5", full(92, 8, 128), 376_832),
        ("MiniMax-M2", full(62, 8, 128), 253_952),
        ("DeepSeek-V3", latent(61, 0), 70_272),
        ("gpt-oss-20b", windowed(12, 8, 64, 128), 24_576),
        ("gpt-oss-120b", windowed(18, 8, 64, 128), 36_864),
        ("Qwen3-Next-80B", qwen3_next(), 24_576),
    ] {
        assert_eq!(per_token(&shape, &workload()), expected, "{name}");
    }
}

#[test]
fn a_window_that_bounds_nothing_is_none() {
    let windowed = |window, max_context| ModelShape {
        max_context,
        ..shape(&[(32, &attention(heads(8, 128), Span::Sliding(window)))])
    };
    // Phi-3 writes a window of 262144 on a context of 131072; Mistral-7B-v0.1 has a window on every layer.
    for (window, max_context) in [(262_144, Some(131_072)), (4096, Some(32_768)), (4096, None)] {
        assert_eq!(per_token(&windowed(window, max_context), &workload()), 131_072, "{window}");
    }
    // Llama-4-Scout: 36 of 48 layers in chunks of 8192, which a context of 8192 does not fill (measured: 196,576 bytes a token).
    let scout = ModelShape {
        max_context: Some(10_485_760),
        ..shape(&[
            (12, &attention(heads(8, 128), Span::Full)),
            (36, &attention(heads(8, 128), Span::Chunked(8192))),
        ])
    };
    for (context, expected) in [(1, 196_608), (8192, 196_608), (8193, 49_152), (131_072, 49_152)] {
        let workload = Workload { context: Some(context), ..workload() };
        assert_eq!(per_token(&scout, &workload), expected, "{context}");
    }
}

#[test]
fn cache_precisions_count_their_scales() {
    let with = |cache_precision, engine| Workload { cache_precision, engine, ..workload() };
    for (name, shape, workload, expected) in [
        ("8-bit latents", latent(61, 0), with(CachePrecision::Fp8, Engine::Vllm), 35_136),
        (
            "8-bit sparse latents and their index",
            latent(61, 128),
            with(CachePrecision::Fp8, Engine::Vllm),
            40_016 + 8052,
        ),
        ("q8_0", full(32, 8, 128), with(CachePrecision::Q80, Engine::LlamaCpp), 69_632),
        ("q4_0", full(32, 8, 128), with(CachePrecision::Q40, Engine::LlamaCpp), 36_864),
        ("fp8", full(32, 8, 128), with(CachePrecision::Fp8, Engine::Vllm), 65_536),
        (
            "int8 with a scale per token and head",
            full(32, 8, 128),
            with(CachePrecision::Int8, Engine::Vllm),
            67_584,
        ),
        ("fp32", full(32, 8, 128), with(CachePrecision::Fp32, Engine::Vllm), 262_144),
    ] {
        assert_eq!(per_token(&shape, &workload), expected, "{name}");
    }
}

#[test]
fn ranks_share_heads_and_replicate_what_they_cannot_share() {
    for (shape, tensor, expected) in [
        (full(32, 8, 128), 8, 131_072),
        (full(32, 8, 128), 16, 262_144),
        (full(32, 1, 128), 4, 65_536),
        (latent(61, 0), 8, 8 * 70_272),
    ] {
        assert_eq!(per_token(&shape, &Workload { tensor, ..workload() }), expected, "{tensor} ranks");
    }
}

#[test]
fn each_engine_sizes_windows_its_own_way() {
    let gemma = |full, sliding, kv_heads, dim| {
        shape(&[
            (full, &attention(heads(kv_heads, dim), Span::Full)),
            (sliding, &attention(heads(kv_heads, dim), Span::Sliding(1024))),
        ])
    };
    let oss = |layers| {
        shape(&[
            (layers, &attention(heads(8, 64), Span::Full)),
            (layers, &attention(heads(8, 64), Span::Sliding(128))),
        ])
    };
    let long = |engine, batched_tokens| Workload {
        context: Some(131_072),
        engine,
        batched_tokens: Some(batched_tokens),
        ..at_version("0.33.0")
    };
    // Hundredths of a GiB, of one sequence of 131072 tokens.
    for (name, shape, expected) in [
        ("Gemma-3-27B", gemma(10, 52, 16, 128), [1041, 1061, 1235, 1798]),
        ("Gemma-3-12B", gemma(8, 40, 8, 256), [831, 847, 957, 1332]),
        ("gpt-oss-20b", oss(12), [300, 302, 310, 338]),
        ("gpt-oss-120b", oss(18), [450, 453, 465, 507]),
    ] {
        let workloads = [
            long(Engine::None, 2048),
            long(Engine::LlamaCpp, 512),
            long(Engine::Vllm, 2048),
            long(Engine::Vllm, 8192),
        ];
        let found = workloads.map(|workload| (cache(&shape, &workload) * 100 + GIB / 2) / GIB);
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn recurrent_state_is_a_constant_per_sequence() {
    let at = |engine, sequences| Workload { engine, sequences, context: Some(256), ..workload() };
    let kv = |sequences: u64| sequences * 256 * 24_576;
    let single = ModelShape { state_precision: Some(CachePrecision::Fp32), ..qwen3_next() };
    for (name, shape, engine, expected) in [
        ("bf16", qwen3_next(), Engine::None, 39_518_208),
        ("fp32 matrix", single, Engine::None, 77_266_944),
        ("llama.cpp", qwen3_next(), Engine::LlamaCpp, 79_036_416),
    ] {
        for sequences in [1, 4] {
            assert_eq!(cache(&shape, &at(engine, sequences)) - kv(sequences), sequences * expected, "{name}");
        }
    }
    // Qwen3.6-27B as llama.cpp logged it: 4 sequences, 262144 cells.
    let logged = shape(&[
        (16, &attention(heads(4, 256), Span::Full)),
        (48, &state(StateKind::GatedDelta, 10_240, 48 * 128 * 128, 48)),
    ]);
    let four = Workload { sequences: 4, context: Some(65_536), engine: Engine::LlamaCpp, ..workload() };
    assert_eq!(cache(&logged, &four), 16_384 * MIB + 598 * MIB + MIB / 2);
    // The same with two tokens guessed by its own heads, one sequence: 16832 MiB (ggml-org/llama.cpp#25465).
    let mut one = Workload { sequences: 1, context: Some(262_144), engine: Engine::LlamaCpp, ..workload() };
    assert_eq!(cache(&logged, &one), 16_384 * MIB + 149 * MIB + MIB * 5 / 8);
    one.options.speculation = Some(Speculation { tokens: 2, draft: Draft::Head });
    let layer = 1024 * MIB;
    assert_eq!(cache(&logged, &one) - layer, 16_832 * MIB + MIB * 7 / 8);
}

#[test]
fn llama_cpp_holds_an_indexers_keys_as_the_others() {
    // Keys of 576 elements in 78 layers, of 128 in the 21 that have an indexer (dfch/biz.dfch.LlmOps, GLM-5.2 at 524288 tokens).
    let config = include_bytes!("../../../tests/fixtures/configs/zai-org__GLM-5.2.json");
    let shape = crate::model::hf_config::parse(config, "model").expect("a config");
    let workload = Workload { context: Some(524_288), engine: Engine::LlamaCpp, ..workload() };
    assert_eq!(cache(&shape, &workload), (44_928 + 2688) * MIB);
}

#[test]
fn llama_cpp_keeps_the_compressors_of_deepseek_v4_by_slot() {
    let config = include_bytes!("../../../tests/fixtures/configs/deepseek-ai__DeepSeek-V4-Flash-0731.json");
    let shape = crate::model::hf_config::parse(config, "model").expect("a config");
    let at = |sequences| {
        let workload = Workload {
            sequences,
            context: Some(64_000),
            batched_tokens: Some(4096),
            engine: Engine::LlamaCpp,
            ..workload()
        };
        cache(&shape, &workload)
    };
    // ggml-org/llama.cpp#27680: 182.75 MiB of 4352 cells on 43 layers, compressors of 1.31, 10 and 0.33 MiB; entries by the code.
    let entries = 1024 * (21 * 16_128 + 20 * 512) + 256 * 21 * 16_128;
    let compressors = 21 * (65_536 + 16_384) + 20 * 524_288;
    assert_eq!(at(1), 182 * MIB + MIB * 3 / 4 + entries + compressors);
    assert_eq!(at(3), 3 * at(1));
}

#[test]
fn vllm_pads_a_state_to_a_page_of_the_attention_layers() {
    let page = 544 * 2048;
    let at =
        |version, context| cache(&qwen3_next(), &Workload { context: Some(context), ..at_version(version) });
    assert_eq!(at("0.26", 16), 12 * page * (2 * 3 + 1));
    assert_eq!(at("0.26", 545), 12 * page * (2 * 3 + 2));
    // Before 0.26 prefixes of such models are not kept, unless it is asked for: one state for each sequence.
    assert_eq!(at("0.25.1", 545), 12 * page * (3 + 2));
    let mut asked = at_version("0.25.1");
    asked.options.prefix_caching = Some(true);
    assert_eq!(cache(&qwen3_next(), &Workload { context: Some(545), ..asked }), 12 * page * (2 * 3 + 2));
}

/// DeepSeek-V4-Flash: two layers with a window alone, 21 of ratio 4 with an index, 20 of ratio 128.
fn deepseek_v4_flash() -> ModelShape {
    let compressed = |ratio, index_dim| {
        attention(CacheKind::Compressed { head_dim: 512, ratio, window: 128, index_dim }, Span::Full)
    };
    shape(&[(2, &compressed(0, 0)), (21, &compressed(4, 128)), (20, &compressed(128, 0))])
}

/// What vLLM refused to start with, and what it said would do (vllm-project/vllm#44376, 0.22 with the 16,384 tokens a batch of its
/// Python interface): 6.66 GiB for 30,000 tokens; of 5.44 GiB, 13,528 tokens.
#[test]
fn states_of_a_compressor_are_small_windows_with_a_batch_in_flight() {
    let at = |context| {
        let workload = Workload {
            context: Some(context),
            batched_tokens: Some(16_384),
            cache_precision: CachePrecision::Fp8,
            ..at_version("0.22")
        };
        cache(&deepseek_v4_flash(), &workload)
    };
    let page = 22 * (37_440 + 8640 + 1728);
    assert_eq!(at(30_000), (118 + 2 * 259 + 4099 + 2065) * page);
    assert_eq!((at(30_000) * 100 + GIB / 2) / GIB, 666);
    assert_eq!((at(13_528) * 100 + GIB / 2) / GIB, 544);
    assert!(at(13_529) > at(13_528));
}

/// The groups and page sizes that were logged of 0.28's successor (vllm-project/vllm#54703): 1,002,240 bytes for a block of any
/// group.
#[test]
fn pages_of_several_sizes_are_packed_into_one_block() {
    let workload = Workload {
        context: Some(20_000),
        batched_tokens: Some(8192),
        cache_precision: CachePrecision::Auto,
        ..at_version("0.33")
    };
    assert_eq!(cache(&deepseek_v4_flash(), &workload), (79 + 2 * 259 + 4099 + 2065) * 1_002_240);
    // Untold, it is counted by the newest rules: the default release does not know the model.
    let untold = ModelShape { architecture: "deepseek_v4".to_owned(), ..deepseek_v4_flash() };
    let workload = Workload { options: crate::estimate::Options::default(), ..workload };
    assert_eq!(cache(&untold, &workload), (79 + 2 * 259 + 4099 + 2065) * 1_002_240);
}

#[test]
fn what_versions_count_differently_is_not_exact() {
    let config = include_bytes!("../../../tests/fixtures/configs/google__gemma-3-27b-it.json");
    let gemma = crate::model::hf_config::parse(config, "gemma").expect("a config");
    let untold = Workload { context: Some(32_768), ..workload() };
    let noted = estimate(&gemma, &untold).expect("an estimate");
    assert_eq!(noted.confidence, crate::model::Confidence::Derived);
    assert!(noted.notes.iter().any(|note| note.contains("differs between versions")), "{:?}", noted.notes);
    for version in ["0.19.0", "0.33.0"] {
        let told = Workload { context: Some(32_768), ..at_version(version) };
        let found = estimate(&gemma, &told).expect("an estimate");
        assert_eq!(found.confidence, crate::model::Confidence::Exact, "{version}");
        assert!(found.notes.iter().all(|note| !note.contains("differs")), "{version}");
    }
}

#[test]
fn an_encoder_decoder_keeps_both_caches() {
    let whisper = ModelShape { encoder_tokens: Some(1500), ..full(32, 20, 64) };
    let workload = Workload { context: Some(448), engine: Engine::Transformers, ..workload() };
    assert_eq!(cache(&whisper, &workload), 245_760_000 + 70 * MIB);
    let encoder = ModelShape { layers: Vec::new(), ..full(1, 1, 1) };
    assert_eq!(cache(&encoder, &workload), 0);
}

#[test]
fn shared_and_compressed_caches_count_what_they_keep() {
    let own = attention(heads(2, 256), Span::Full);
    let shared = attention(CacheKind::Shared, Span::Full);
    assert_eq!(per_token(&shape(&[(20, &own), (15, &shared)]), &workload()), 20 * 2048);
    let compressed = |ratio, index_dim| {
        attention(CacheKind::Compressed { head_dim: 512, ratio, window: 128, index_dim }, Span::Full)
    };
    let v4 = shape(&[(2, &compressed(0, 0)), (4, &compressed(4, 128)), (4, &compressed(128, 0))]);
    let fp8 = Workload { cache_precision: CachePrecision::Fp8, engine: Engine::None, ..workload() };
    assert_eq!(per_token(&v4, &fp8), (4 * (584 + 132_u64)).div_ceil(4) + (4 * 584_u64).div_ceil(128));
    let windows = 10 * 128 * 512;
    let entries = 4 * 2048 * (584 + 132) + 4 * 64 * 584;
    let states = 4 * 8192 * 8 + 4 * 4096 * 128;
    assert_eq!(cache(&v4, &fp8), windows + entries + states);
}

#[test]
fn tokens_never_make_an_empty_pool() {
    for engine in Engine::ALL {
        let workload = Workload { context: Some(1), engine: *engine, ..workload() };
        assert!(cache(&full(32, 8, 128), &workload) >= 131_072, "{engine}");
    }
}

#[test]
fn a_cache_that_the_engine_does_not_have_is_estimated_with_a_note() {
    let shape = crate::model::assumed::shape(crate::units::Parameters(8_000_000_000));
    for (engine, cache_precision, precision, noted) in [
        (Engine::Vllm, CachePrecision::Q80, None, true),
        (Engine::Vllm, CachePrecision::Fp8, None, false),
        (Engine::Vllm, CachePrecision::Fp32, None, true),
        (Engine::Vllm, CachePrecision::Fp32, Some(crate::precision::Precision::Fp32), true),
        (Engine::Sglang, CachePrecision::Q40, None, true),
        (Engine::LlamaCpp, CachePrecision::Fp8, None, true),
        (Engine::LlamaCpp, CachePrecision::Q80, None, false),
        (Engine::None, CachePrecision::Q80, None, false),
    ] {
        let workload = Workload { precision, cache_precision, engine, ..workload() };
        let estimate = estimate(&shape, &workload).expect("an estimate");
        let note = format!("{engine} has no {cache_precision} cache");
        let found = estimate.notes.iter().any(|found| found.contains(&note));
        assert_eq!(found, noted, "{engine} {cache_precision} {precision:?}: {:?}", estimate.notes);
    }
    let llama = include_bytes!("../../../tests/fixtures/configs/meta-llama__Llama-3.1-8B-Instruct.json");
    let llama = crate::model::hf_config::parse(llama, "model").expect("a config");
    let whole = Workload {
        cache_precision: CachePrecision::Fp32,
        precision: Some(crate::precision::Precision::Fp32),
        ..workload()
    };
    assert!(estimate(&llama, &whole).expect("an estimate").notes.iter().all(|note| !note.contains("cache")));
}
