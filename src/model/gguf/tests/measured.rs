//! Against what llama.cpp printed when it loaded real files.

use super::shape_of;
use crate::model::CacheKind;
use crate::model::weights::{Gguf, Meta};

/// A decoder as llama.cpp's converter writes it.
struct Decoder {
    architecture: &'static str,
    layers: u32,
    hidden: u64,
    feed_forward: u64,
    heads: u64,
    kv_heads: u64,
    head_dim: u64,
    vocabulary: u64,
    /// The type of the matrices, its block, and the type of a separate output matrix.
    matrices: (u32, (u64, u64)),
    output: Option<(u32, (u64, u64))>,
    qkv_bias: bool,
    qk_norm: bool,
}

impl Decoder {
    fn file(&self) -> Gguf {
        let key = |name: &str| format!("{}.{name}", self.architecture);
        let number = |value: u64| Meta::U32(u32::try_from(value).expect("small"));
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let matrix = |file: Gguf, name: &str, columns: u64, rows: u64| {
            file.tensor(&format!("{name}.weight"), self.matrices.0, self.matrices.1, &[columns, rows])
        };
        let mut file = Gguf::new()
            .meta("general.architecture", &Meta::Text(self.architecture))
            .meta(&key("block_count"), &Meta::U32(self.layers))
            .meta(&key("embedding_length"), &number(self.hidden))
            .meta(&key("feed_forward_length"), &number(self.feed_forward))
            .meta(&key("attention.head_count"), &number(self.heads))
            .meta(&key("attention.head_count_kv"), &number(self.kv_heads))
            .meta(&key("attention.key_length"), &number(self.head_dim));
        file = matrix(file, "token_embd", self.hidden, self.vocabulary)
            .f32("output_norm.weight", &[self.hidden]);
        if let Some((kind, block)) = self.output {
            file = file.tensor("output.weight", kind, block, &[self.hidden, self.vocabulary]);
        }
        for layer in 0..self.layers {
            let name = |part: &str| format!("blk.{layer}.{part}");
            file = matrix(file, &name("attn_q"), self.hidden, q);
            file = matrix(file, &name("attn_k"), self.hidden, kv);
            file = matrix(file, &name("attn_v"), self.hidden, kv);
            file = matrix(file, &name("attn_output"), q, self.hidden);
            file = matrix(file, &name("ffn_gate"), self.hidden, self.feed_forward);
            file = matrix(file, &name("ffn_up"), self.hidden, self.feed_forward);
            file = matrix(file, &name("ffn_down"), self.feed_forward, self.hidden);
            file = file
                .f32(&name("attn_norm.weight"), &[self.hidden])
                .f32(&name("ffn_norm.weight"), &[self.hidden]);
            if self.qkv_bias {
                file = file.f32(&name("attn_q.bias"), &[q]).f32(&name("attn_k.bias"), &[kv]);
                file = file.f32(&name("attn_v.bias"), &[kv]);
            }
            if self.qk_norm {
                file = file.f32(&name("attn_q_norm.weight"), &[self.head_dim]);
                file = file.f32(&name("attn_k_norm.weight"), &[self.head_dim]);
            }
        }
        file
    }
}

#[test]
fn the_bytes_are_those_that_llama_cpp_loads() {
    const Q4_0: (u32, (u64, u64)) = (2, (32, 18));
    const Q6_K: (u32, (u64, u64)) = (14, (256, 210));
    const Q8_0: (u32, (u64, u64)) = (8, (32, 34));
    const BF16: (u32, (u64, u64)) = (30, (1, 2));
    let llama = Decoder {
        architecture: "llama",
        layers: 32,
        hidden: 4096,
        feed_forward: 14_336,
        heads: 32,
        kv_heads: 8,
        head_dim: 128,
        vocabulary: 128_256,
        matrices: Q4_0,
        output: Some(Q6_K),
        qkv_bias: false,
        qk_norm: false,
    };
    // Hundredths of a MiB: the model buffers that tests/fixtures/measured/llamacpp.csv has, on GPU and CPU.
    for (decoder, hundredths, cache_of_1024) in [
        (Decoder { ..llama }, 415_599 + 28_181, 128),
        (Decoder { vocabulary: 32_000, ..llama }, 384_755 + 7031, 128),
        (
            Decoder {
                architecture: "qwen2",
                layers: 28,
                hidden: 3584,
                feed_forward: 18_944,
                heads: 28,
                kv_heads: 4,
                vocabulary: 152_064,
                matrices: Q8_0,
                output: Some(Q8_0),
                qkv_bias: true,
                ..llama
            },
            716_544 + 55_223,
            56,
        ),
        (
            Decoder {
                architecture: "qwen3",
                layers: 36,
                hidden: 2560,
                feed_forward: 9728,
                vocabulary: 151_936,
                matrices: BF16,
                output: None,
                qk_norm: true,
                ..llama
            },
            767_262,
            144,
        ),
    ] {
        let shape = shape_of(&decoder.file()).expect("valid");
        let stored: u64 = shape.tensors.iter().filter_map(|tensor| tensor.stored_bytes).sum();
        let found = (stored * 100 + (1 << 19)) >> 20;
        assert!(found.abs_diff(hundredths) <= 1, "{}: {found} is not {hundredths}", decoder.architecture);
        let per_token: u64 = shape
            .layers
            .iter()
            .map(|layer| match layer.attention.expect("attends").cache {
                CacheKind::Heads { kv_heads, key_dim, value_dim } => kv_heads * (key_dim + value_dim) * 2,
                other => panic!("{other:?}"),
            })
            .sum();
        assert_eq!(per_token * 1024, cache_of_1024 << 20, "{}", decoder.architecture);
    }
}
