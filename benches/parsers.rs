//! How long it takes to read what describes a model: a header is read while a user waits for `kubectl apply`'s answer to show.

#![allow(missing_docs, clippy::expect_used, clippy::panic)]

use std::fmt::Write as _;

use divan::{Bencher, black_box};
use loadline::model::{gguf, hf_config, safetensors};

// Shared with the tests: not all of it is used here.
#[allow(dead_code)]
#[path = "../tests/it/weights.rs"]
mod weights;

fn main() {
    divan::main();
}

/// A header of 704 tensors and 128,256 tokens, as that of a 70B Llama.
#[divan::bench]
fn gguf_header_of_700_tensors(bencher: Bencher<'_, '_>) {
    let file = weights::llama_gguf(78, 128_256).bytes();
    bencher.bench(|| gguf::parse_whole(black_box(&file)).expect("valid").tensors.len());
}

#[divan::bench]
fn gguf_shape_of_700_tensors(bencher: Bencher<'_, '_>) {
    let header = gguf::parse_whole(&weights::llama_gguf(78, 128_256).bytes()).expect("valid");
    bencher.bench(|| gguf::shape(std::slice::from_ref(black_box(&header)), "m").expect("valid").parameters);
}

/// An index of 200 files and 90,000 tensors, as that of DeepSeek-V3.
#[divan::bench]
fn index_of_200_shards(bencher: Bencher<'_, '_>) {
    let mut map = String::new();
    for tensor in 0..90_000 {
        let (layer, expert) = (tensor / 1500, tensor % 1500);
        let comma = if tensor == 0 { "" } else { "," };
        let file = tensor / 450 + 1;
        write!(
            map,
            "{comma}\"model.layers.{layer}.mlp.experts.{expert}.down_proj.weight\":\"model-{file:05}-of-00200.safetensors\""
        )
        .expect("in memory");
    }
    let index = format!("{{\"metadata\":{{\"total_size\":1}},\"weight_map\":{{{map}}}}}");
    bencher.bench(|| {
        let index = safetensors::Index::parse(black_box(index.as_bytes())).expect("valid");
        assert_eq!(index.files.len(), 200);
        index.tensors
    });
}

/// The headers of 200 files of 450 tensors each, as they come from the Hub.
fn shards() -> Vec<Vec<u8>> {
    (0..200)
        .map(|shard| {
            let names: Vec<String> = (0..450)
                .map(|tensor| format!("model.layers.{}.mlp.experts.{tensor}.down_proj.weight", shard / 4))
                .chain([format!("model.layers.{shard}.self_attn.k_proj.weight")])
                .collect();
            let tensors: Vec<(&str, &str, &[u64])> =
                names.iter().map(|name| (name.as_str(), "BF16", &[512_u64, 128] as &[u64])).collect();
            weights::safetensors(&tensors)
        })
        .collect()
}

#[divan::bench]
fn safetensors_headers_of_200_shards(bencher: Bencher<'_, '_>) {
    let files = shards();
    bencher.bench(|| {
        files
            .iter()
            .map(|file| safetensors::parse_header(black_box(file)).expect("valid").tensors.len())
            .sum::<usize>()
    });
}

#[divan::bench]
fn safetensors_shape_of_90_000_tensors(bencher: Bencher<'_, '_>) {
    let headers: Vec<_> =
        shards().iter().map(|file| safetensors::parse_header(file).expect("valid")).collect();
    bencher.bench(|| safetensors::shape(black_box(&headers), None, "m").expect("valid").parameters);
}

#[divan::bench]
fn config_of_a_mixture_of_experts(bencher: Bencher<'_, '_>) {
    let config = include_bytes!("../tests/fixtures/configs/deepseek-ai__DeepSeek-V3.json");
    bencher.bench(|| hf_config::parse(black_box(config), "m").expect("valid").parameters);
}
