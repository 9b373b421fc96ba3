//! How long an estimate takes: `cargo bench --bench estimate`.

use divan::{Bencher, black_box};
use loadline::estimate::inverse::Room;
use loadline::estimate::{Workload, estimate};
use loadline::model::{ModelShape, hf_config};
use loadline::precision::{CachePrecision, Engine, Precision};
use loadline::units::{Bytes, GIB, Margin};

fn main() {
    divan::main();
}

const MODELS: [(&str, &[u8]); 3] = [
    ("dense", include_bytes!("../tests/fixtures/configs/meta-llama__Llama-3.1-70B-Instruct.json")),
    ("experts", include_bytes!("../tests/fixtures/configs/deepseek-ai__DeepSeek-V3.2.json")),
    ("hybrid", include_bytes!("../tests/fixtures/configs/Qwen__Qwen3.5-397B-A17B.json")),
];

fn shape(name: &str) -> Option<ModelShape> {
    MODELS.iter().find(|(known, _)| *known == name).and_then(|(_, json)| hf_config::parse(json, name).ok())
}

fn workload(engine: Engine) -> Workload {
    Workload {
        precision: None,
        context: Some(32_768),
        sequences: 16,
        cache_precision: CachePrecision::Auto,
        tensor: 1,
        pipeline: 1,
        data: 1,
        engine,
        batched_tokens: None,
        options: loadline::estimate::Options::default(),
        training: None,
    }
}

#[divan::bench(args = ["dense", "experts", "hybrid"])]
fn vllm(bencher: Bencher<'_, '_>, name: &str) {
    let shape = shape(name);
    bencher.bench(|| shape.as_ref().map(|shape| estimate(black_box(shape), &workload(Engine::Vllm))));
}

#[divan::bench(args = ["dense", "experts", "hybrid"])]
fn llama_cpp_mix(bencher: Bencher<'_, '_>, name: &str) {
    let shape = shape(name);
    let workload = Workload { precision: Some(Precision::Q4KM), ..workload(Engine::LlamaCpp) };
    bencher.bench(|| shape.as_ref().map(|shape| estimate(black_box(shape), &workload)));
}

#[divan::bench(args = ["dense", "experts", "hybrid"])]
fn longest_context(bencher: Bencher<'_, '_>, name: &str) {
    let shape = shape(name);
    let room = Room { per_gpu: Bytes(1024 * GIB), margin: Margin::DEFAULT };
    bencher.bench(|| {
        shape.as_ref().map(|shape| room.longest_context(black_box(shape), &workload(Engine::Vllm), 1 << 20))
    });
}
