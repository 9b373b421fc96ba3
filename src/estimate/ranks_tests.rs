use super::*;
use crate::estimate::tests::workload;
use crate::estimate::{AttentionGroups, Options, estimate};
use crate::model::hf_config;

const MIXTURE: &[u8] = include_bytes!("../../tests/fixtures/configs/Qwen__Qwen3-30B-A3B.json");
const DENSE: &[u8] = include_bytes!("../../tests/fixtures/configs/meta-llama__Llama-3.1-8B-Instruct.json");
const LATENT: &[u8] = include_bytes!("../../tests/fixtures/configs/deepseek-ai__DeepSeek-V3.json");

fn shape(json: &[u8]) -> ModelShape {
    hf_config::parse(json, "model").expect("a config")
}

fn on(engine: Engine, tensor: u64, data: u64, options: Options) -> Workload {
    Workload { engine, tensor, data, options, sequences: 16, precision: None, ..workload() }
}

fn grouped(head: bool, whole_mlps: bool) -> Options {
    Options { attention_groups: Some(AttentionGroups { head, whole_mlps }), ..Options::default() }
}

/// Attention, MLPs, output head, experts, shared experts, GPUs.
fn ranks(shape: &ModelShape, workload: &Workload) -> [u64; 6] {
    let ranks = Ranks::of(shape, workload, workload.tensor).expect("small");
    [ranks.attention, ranks.dense, ranks.head, ranks.experts, ranks.shared, ranks.gpus]
}

#[test]
fn each_engine_divides_by_its_own_rule() {
    let experts = || Options { expert_parallel: true, ..Options::default() };
    for (name, shape, workload, expected) in [
        ("vLLM, dense: copies", shape(DENSE), on(Engine::Vllm, 2, 4, Options::default()), [2, 2, 2, 2, 2, 8]),
        (
            "vLLM: a slice of each expert",
            shape(MIXTURE),
            on(Engine::Vllm, 1, 8, Options::default()),
            [1, 1, 1, 8, 1, 8],
        ),
        ("vLLM: whole experts", shape(MIXTURE), on(Engine::Vllm, 2, 4, experts()), [2, 2, 2, 8, 1, 8]),
        ("SGLang: copies", shape(MIXTURE), on(Engine::Sglang, 2, 4, Options::default()), [2, 2, 2, 2, 2, 8]),
        (
            "SGLang: attention alone",
            shape(LATENT),
            on(Engine::Sglang, 8, 8, grouped(false, false)),
            [1, 8, 8, 8, 8, 8],
        ),
        (
            "SGLang: and more",
            shape(LATENT),
            on(Engine::Sglang, 8, 4, grouped(true, true)),
            [2, 1, 2, 8, 8, 8],
        ),
    ] {
        assert_eq!(ranks(&shape, &workload), expected, "{name}");
        assert_eq!(estimate(&shape, &workload).expect("divides").gpus, 8, "{name}");
    }
}

/// DeepSeek-V3's 256 experts of 58 layers are 653.9 of its 671 billion parameters: with eight groups a GPU holds an eighth of
/// them, and the rest whole.
#[test]
fn groups_hold_the_rest_whole_and_their_share_of_the_sequences() {
    let latent = shape(LATENT);
    let weights = |workload: &Workload| estimate(&latent, workload).expect("divides").per_gpu.weights.0;
    let cache = |workload: &Workload| estimate(&latent, workload).expect("divides").per_gpu.kv_cache.0;
    let [alone, groups] =
        [on(Engine::Vllm, 8, 1, Options::default()), on(Engine::Vllm, 1, 8, Options::default())];
    let experts: u64 = 58 * 256 * 3 * 7168 * 2048;
    let rest = |total: u64| total - experts / 8;
    let (alone_rest, groups_rest) = (rest(weights(&alone)), rest(weights(&groups)));
    assert!(groups_rest > 4 * alone_rest, "{groups_rest} of {alone_rest}");
    // A latent cache is the same on every tensor-parallel rank; a group has the cache of its own sequences alone.
    assert_eq!(cache(&alone), 8 * cache(&groups));
    // SGLang's groups have the same attention, and share the dense layers and the head.
    let within = on(Engine::Sglang, 8, 8, grouped(false, false));
    assert!(weights(&within) < weights(&groups) && weights(&within) > weights(&alone));
    assert_eq!(cache(&within), cache(&groups));
}

#[test]
fn copies_are_copies() {
    let dense = shape(DENSE);
    let one = estimate(&dense, &Workload { sequences: 4, ..on(Engine::Vllm, 1, 1, Options::default()) })
        .expect("fits");
    let four = estimate(&dense, &on(Engine::Vllm, 1, 4, Options::default())).expect("fits");
    assert_eq!(four.per_gpu, one.per_gpu);
    assert_eq!((four.gpus, four.components.weights.0), (4, 4 * one.components.weights.0));
    assert_eq!(four.workload.sequences, 16);
}

#[test]
fn what_no_engine_divides_is_refused() {
    for (shape, workload, parts) in [
        (
            shape(LATENT),
            on(Engine::Sglang, 4, 8, grouped(false, false)),
            ["4 ranks cannot share 8 data-parallel groups", "write 8"],
        ),
        (
            shape(MIXTURE),
            on(Engine::Vllm, 1, 7, Options::default()),
            ["7 groups of 1 ranks cannot share", "among 7 GPUs"],
        ),
        (shape(DENSE), on(Engine::Vllm, 1, 0, Options::default()), ["parallelism.data: 0 GPUs", "1 or more"]),
    ] {
        let error = estimate(&shape, &workload).expect_err("refused").to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
}
