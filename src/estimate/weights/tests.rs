//! What engines load, tensor by tensor.

use crate::estimate::tests::workload;
use crate::estimate::{Workload, estimate};
use crate::model::{ModelShape, Quantization, Role, ShapeSource, Split, Tensor, catalog, hf_config};
use crate::precision::{Engine, Precision};
use crate::units::{GIB, MIB, Margin};

const LLAMA: &[u8] = include_bytes!("../../../tests/fixtures/configs/meta-llama__Llama-3.1-8B-Instruct.json");
const LARGE: &[u8] =
    include_bytes!("../../../tests/fixtures/configs/meta-llama__Llama-3.1-70B-Instruct.json");
const TIED: &[u8] = include_bytes!("../../../tests/fixtures/configs/Qwen__Qwen3-0.6B.json");
const LATENT: &[u8] = include_bytes!("../../../tests/fixtures/configs/deepseek-ai__DeepSeek-V3.json");

fn shape(json: &[u8]) -> ModelShape {
    // No rotary tables: these tests are of the tensors.
    ModelShape { rotary_elements: Some(0), ..hf_config::parse(json, "model").expect("a config") }
}

fn weights(shape: &ModelShape, workload: &Workload) -> u64 {
    estimate(shape, workload).expect("fits").components.weights.0
}

fn as_precision(precision: Precision) -> Workload {
    Workload { precision: Some(precision), ..workload() }
}

#[test]
fn a_known_model_is_counted_to_the_byte() {
    let llama = shape(LLAMA);
    assert_eq!(llama.parameters, 8_030_261_248);
    for (precision, bytes) in [
        (None, 16_060_522_496),
        (Some(Precision::Fp16), 16_060_522_496),
        (Some(Precision::Fp32), 32_121_044_992),
        // Linear layers at a byte, a 32-bit scale for each of their 1,376,256 rows, the rest at 16 bits: 8.49 GiB with the rotary
        // table, as vLLM loads a W8A8 checkpoint of it.
        (Some(Precision::Int8), 6_979_321_856 + 4 * 1_376_256 + 2 * 1_050_939_392),
        (Some(Precision::Int4), 4_015_130_624),
    ] {
        assert_eq!(weights(&llama, &Workload { precision, ..workload() }), bytes, "{precision:?}");
    }
    let exaone = catalog::shape("exaone-4.0-1.2b").expect("in the catalog");
    let exaone = ModelShape { rotary_elements: Some(0), ..exaone };
    let bytes = weights(&exaone, &as_precision(Precision::Bf16));
    assert_eq!((bytes * 100 + GIB / 2) / GIB, 238, "{bytes} bytes");
}

#[test]
fn bare_bits_name_the_layouts_that_count_scales() {
    let estimate = estimate(&shape(LLAMA), &as_precision(Precision::Int4)).expect("fits");
    assert!(estimate.notes.iter().any(|note| note.contains("gptq-int4, awq-int4, nf4 or q4_k_m")));
}

#[test]
fn layouts_leave_embeddings_at_16_bits() {
    // 6,979,321,856 parameters are in linear layers of the blocks, 1,050,939,392 are not.
    let (linear, rest) = (6_979_321_856_u64, 1_050_939_392_u64);
    let llama = shape(LLAMA);
    for (precision, engine, expected) in [
        (Precision::GptqInt4, Engine::Vllm, linear / 2 + linear / 128 * 2 + linear / 128 / 2 + rest * 2),
        (Precision::Nf4, Engine::Transformers, linear / 2 + linear / 64 * 4 + rest * 2),
        (Precision::Mxfp4, Engine::Sglang, linear / 2 + linear / 32 + rest * 2),
        (Precision::Nvfp4, Engine::Vllm, linear / 2 + linear / 16 + rest * 2),
    ] {
        assert_eq!(weights(&llama, &Workload { engine, ..as_precision(precision) }), expected, "{precision}");
    }
}

#[test]
fn fewer_bits_are_fewer_bytes() {
    use Precision as P;
    for json in [LLAMA, TIED, LATENT] {
        let shape = shape(json);
        let ladder = [
            P::Fp32,
            P::Bf16,
            P::Mxfp8,
            P::GptqInt8,
            P::Fp8,
            P::Q6K,
            P::Q5KM,
            P::Q4KM,
            P::Q3KM,
            P::Q2K,
            P::Iq2Xxs,
        ];
        let mut above = u64::MAX;
        for precision in ladder {
            let bytes = weights(&shape, &as_precision(precision));
            assert!(bytes <= above, "{precision}: {bytes} > {above}");
            above = bytes;
        }
    }
}

#[test]
fn a_tied_head_is_loaded_once_and_twice_by_llama_cpp() {
    let tied = shape(TIED);
    assert!(tied.tied_embeddings);
    assert_eq!(weights(&tied, &workload()), tied.parameters * 2);
    // The input matrix stays on the host, its copy is the head: as much on the GPU.
    let llama_cpp = Workload { engine: Engine::LlamaCpp, ..as_precision(Precision::Bf16) };
    assert!(weights(&tied, &llama_cpp) >= tied.parameters * 2);
    let untied = shape(LLAMA);
    let without_input = (untied.parameters - 128_256 * 4096) * 2;
    assert!(weights(&untied, &llama_cpp).abs_diff(without_input) < MIB);
}

#[test]
fn ranks_share_what_can_be_shared() {
    let llama = shape(LLAMA);
    for tensor in [2, 4, 8] {
        let split = Workload { tensor, ..workload() };
        let estimate = estimate(&llama, &split).expect("fits");
        let norms = 65 * 4096 * 2;
        assert_eq!(estimate.components.weights.0, 16_060_522_496 + norms * (tensor - 1), "{tensor} ranks");
        assert_eq!(estimate.per_gpu.weights.0 * tensor, estimate.components.weights.0);
    }
    // 16 ranks hold a whole key-value head each, 8 heads twice.
    let sixteen = Workload { tensor: 16, ..workload() };
    let twice = 32 * 2 * 1024 * 4096 * 2;
    assert_eq!(weights(&llama, &sixteen), 16_060_522_496 + 65 * 4096 * 2 * 15 + twice);
}

#[test]
fn stages_hold_their_layers_and_their_end() {
    let llama = shape(LLAMA);
    let two = estimate(&llama, &Workload { pipeline: 2, ..workload() }).expect("fits");
    assert_eq!(two.components.weights.0, 16_060_522_496);
    assert_eq!(two.gpus, 2);
    let by_layer = Workload { tensor: 2, engine: Engine::LlamaCpp, ..as_precision(Precision::Q4KM) };
    let two = estimate(&llama, &by_layer).expect("fits");
    assert!(two.notes.iter().any(|note| note.contains("whole layers")), "{:?}", two.notes);
    // Three ranks cannot share heads, but they can share layers.
    assert!(estimate(&llama, &Workload { tensor: 3, ..by_layer }).is_ok());
}

#[test]
fn draft_layers_are_not_loaded() {
    let deepseek = shape(LATENT);
    let drafts: u64 = deepseek
        .tensors
        .iter()
        .filter(|tensor| tensor.role == Role::Draft)
        .map(|tensor| tensor.rows * tensor.columns * tensor.count)
        .sum();
    assert!(drafts > 10_000_000_000, "{drafts}");
    // An engine that makes no copies of what latent attention absorbs.
    let plain = Workload { engine: Engine::None, ..as_precision(Precision::Bf16) };
    assert_eq!(weights(&deepseek, &plain), deepseek.parameters * 2);
}

fn stored(precision: Precision, bytes: u64, quantizable: bool) -> ModelShape {
    let tensor = Tensor {
        name: "model.layers.0.mlp.up_proj.weight".to_owned(),
        layer: Some(0),
        role: Role::Mlp,
        count: 1,
        rows: 1000,
        columns: 1000,
        split: Split::Rows,
        quantizable,
        stored_bytes: Some(bytes),
    };
    ModelShape {
        source: ShapeSource::Safetensors,
        parameters: 1_000_000,
        tensors: vec![tensor],
        stored_precision: Some(precision),
        ..shape(LLAMA)
    }
}

#[test]
fn headers_are_believed_and_16_bit_types_exchanged() {
    for (name, shape, workload, expected) in [
        ("as stored", stored(Precision::Bf16, 2_000_000, true), workload(), 2_000_000),
        (
            "another 16 bits",
            stored(Precision::Bf16, 2_000_000, true),
            as_precision(Precision::Fp16),
            2_000_000,
        ),
        ("fp32 halved by vLLM", stored(Precision::Fp32, 4_000_000, true), workload(), 2_000_000),
        (
            "fp32 when asked for",
            stored(Precision::Fp32, 4_000_000, true),
            as_precision(Precision::Fp32),
            4_000_000,
        ),
        ("a format's odd bytes", stored(Precision::Fp8, 1_000_333, true), workload(), 1_000_333),
        (
            "fp32 kept by transformers",
            stored(Precision::Fp32, 4_000_000, true),
            Workload { engine: Engine::Transformers, ..workload() },
            4_000_000,
        ),
    ] {
        assert_eq!(weights(&shape, &workload), expected, "{name}");
    }
}

#[test]
fn a_quantised_checkpoint_is_itself_unless_told_otherwise() {
    let mut llama = shape(LLAMA);
    llama.quantization = Some(Quantization {
        precision: Precision::AwqInt4,
        group_size: Some(64),
        zero_points: true,
        activation_order: false,
        double_quantized: false,
        ignored: vec!["model.layers.0".to_owned()],
        cache_precision: None,
        groups: Vec::new(),
    });
    let (layer, linear, rest) = (218_103_808_u64, 6_979_321_856_u64, 1_050_939_392_u64);
    let packed = linear - layer;
    let own = packed / 2 + packed / 64 * 2 + packed / 64 / 2 + (rest + layer) * 2;
    for precision in [None, Some(Precision::AwqInt4), Some(Precision::Int4)] {
        assert_eq!(weights(&llama, &Workload { precision, ..workload() }), own, "{precision:?}");
    }
    let whole = estimate(&llama, &as_precision(Precision::Bf16)).expect("fits");
    assert_eq!(whole.components.weights.0, 16_060_522_496);
    assert!(whole.notes.iter().any(|note| note.contains("before it was quantised")), "{:?}", whole.notes);
}

#[test]
fn seventy_billion_parameters_need_four_cards() {
    let large = shape(LARGE);
    let needed = |tensor| {
        let workload = Workload { tensor, ..as_precision(Precision::Bf16) };
        let estimate = estimate(&large, &workload).expect("fits");
        Margin::DEFAULT.apply(estimate.total_per_gpu).expect("fits").0
    };
    let (a100, h100, h200) = (81_920 * MIB, 81_559 * MIB, 143_771 * MIB);
    assert!(needed(4) <= a100 && needed(4) <= h100, "{}", needed(4));
    assert!(needed(1) > h200, "{}", needed(1));
    assert!(needed(2) > h100 && needed(2) <= h200, "{}", needed(2));
}

/// The weights on one GPU of a model in 16 bits that is quantised on paper, against what an engine logged for a real checkpoint
/// in that format, in ten-thousandths of a GiB. Sources: the rows of that id in tests/fixtures/measured. The GGUF types are held
/// to llama.cpp's published sizes in `gguf_mix`.
#[test]
fn a_model_quantised_on_paper_is_as_large_as_the_real_checkpoint() {
    use Precision as P;
    macro_rules! config {
        ($name:literal) => {
            include_bytes!(concat!("../../../tests/fixtures/configs/", $name, ".json")).as_slice()
        };
    }
    let llama = LLAMA;
    let qwen = config!("Qwen__Qwen3-8B");
    for (row, json, precision, tensor, measured) in [
        ("llmdplan-v019-w4a16-redhatai-lla-tp1pp1dp1--8192-dtf16", llama, P::GptqInt4, 1, 53_800_u64),
        ("h-qwen25-7b-gptq", config!("Qwen__Qwen2.5-7B-Instruct"), P::GptqInt4, 1, 51_811),
        ("idx-llama31-8b-awq-kaitchup", llama, P::AwqInt4, 1, 53_748),
        ("h-qwen3-8b-awq", qwen, P::AwqInt4, 1, 57_071),
        ("idx-qwen25-72b-awq-a40-tp2", config!("Qwen__Qwen2.5-72B-Instruct"), P::AwqInt4, 2, 193_952),
        ("idx-llama31-8b-bnb4", llama, P::Nf4, 1, 53_421),
        ("llmdplan-v019-meta-llama-llama-3--tp1pp1dp1--8192-qfp8", llama, P::Fp8, 1, 84_900),
        ("h-exaone4-32b-fp8", config!("LGAI-EXAONE__EXAONE-4.0-32B"), P::Fp8, 1, 309_891),
        ("llmdplan-v019-w8a8-redhatai-llam-tp1pp1dp1--8192-dtf16", llama, P::Int8, 1, 84_900),
        ("h-qwen3-8b-fp8", qwen, P::Fp8Block, 1, 88_000),
        ("h-qwen3-30b-fp8-gb10", config!("Qwen__Qwen3-30B-A3B"), P::Fp8Block, 1, 290_435),
        ("h-llama31-8b-nvfp4", llama, P::Nvfp4, 1, 56_473),
        (
            "gpt-oss-20b, vLLM 0.11 on H100 (llm-d-planner)",
            config!("openai__gpt-oss-20b"),
            P::Mxfp4,
            1,
            134_700,
        ),
        ("llmdplan-emp-gptoss120b", config!("openai__gpt-oss-120b"), P::Mxfp4, 1, 643_800),
    ] {
        let mut base = hf_config::parse(json, "model").expect("a config");
        base.quantization = None;
        base.stored_precision = Some(P::Bf16);
        // gpt-oss was measured with vLLM 0.11, which pads it otherwise than those since 0.19.
        let engine_version =
            (precision == P::Mxfp4).then_some(crate::estimate::EngineVersion::Release(0, 11, 0));
        let options = crate::estimate::Options { engine_version, ..Default::default() };
        let workload = Workload { tensor, options, ..as_precision(precision) };
        let found = estimate(&base, &workload).expect("fits").per_gpu.weights.0;
        let measured = measured * (GIB / 10_000);
        assert!(found.abs_diff(measured) * 50 <= measured, "{row}: {found} of {measured}");
    }
}

/// A compressed-tensors release with attention, head and the last eight MLPs in 8 bits and the other MLPs in NVFP4: each group has
/// its own width, and the first that names a module counts. Counted by hand: 21.0 GiB, where one width for all makes 28.4.
#[test]
fn groups_of_modules_have_their_own_width() {
    let config = include_bytes!("../../../tests/fixtures/cases/compressed-tensors-two-groups.json");
    let shape = shape(config);
    let found = weights(&shape, &Workload { context: Some(8192), ..workload() });
    assert!((found * 10 + GIB / 2) / GIB == 210, "{found}");
}

/// A GGUF holds the text model alone: the whole config without its tower is the text-only config.
#[test]
fn a_tower_is_left_out_where_it_is_not_loaded() {
    let whole =
        hf_config::parse(include_bytes!("../../../tests/fixtures/configs/Qwen__Qwen3.5-27B.json"), "whole");
    let text =
        hf_config::parse(include_bytes!("../../../tests/fixtures/cases/qwen3.5-27b-text-only.json"), "text");
    let (whole, text) = (whole.expect("a config"), text.expect("a config"));
    let options = crate::estimate::Options { text_only: true, ..Default::default() };
    for (engine, precision, cache_precision) in [
        (Engine::LlamaCpp, Some(Precision::Q4KM), crate::precision::CachePrecision::Q80),
        (Engine::Vllm, None, crate::precision::CachePrecision::Auto),
    ] {
        let workload = Workload {
            engine,
            precision,
            cache_precision,
            context: Some(65_536),
            options: options.clone(),
            ..workload()
        };
        let (left, right) = (weights(&whole, &workload), weights(&text, &workload));
        assert_eq!(left, right, "{engine}");
        let with = Workload { options: crate::estimate::Options::default(), ..workload };
        assert!(weights(&whole, &with) > left + GIB / 2, "{engine}");
    }
}

#[test]
fn what_publishers_leave_alone_is_a_range() {
    let qwen = shape(include_bytes!("../../../tests/fixtures/configs/Qwen__Qwen3-30B-A3B.json"));
    let on_paper = estimate(&qwen, &as_precision(Precision::Nvfp4)).expect("fits");
    let term = on_paper.terms.first().expect("the weights");
    assert!(term.high > term.low && term.high.0 < term.low.0 * 5 / 4, "{term:?}");
    assert!(
        on_paper.notes.iter().any(|note| note.contains("differs by who made it")),
        "{:?}",
        on_paper.notes
    );
    // What an engine quantises itself has no publisher.
    let loaded = estimate(&qwen, &as_precision(Precision::Fp8)).expect("fits");
    assert!(loaded.notes.iter().all(|note| !note.contains("who made it")), "{:?}", loaded.notes);
}
