//! What layers keep, against figures that published engines logged or that follow from the published formulas.

use super::*;
use crate::model::{CacheKind, Layer, Span, StateKind, catalog};

/// Bytes that a token adds to the cache in 16 bits: all layers, or only those that keep every token.
fn per_token(layers: &[Layer], growing_only: bool) -> u64 {
    let elements = |layer: &Layer| {
        let attention = layer.attention.filter(|attention| !growing_only || attention.span == Span::Full)?;
        Some(match attention.cache {
            CacheKind::Heads { kv_heads, key_dim, value_dim } => kv_heads * (key_dim + value_dim),
            CacheKind::Latent { rank, rope_dim, .. } => rank + rope_dim,
            CacheKind::Compressed { .. } | CacheKind::Shared => 0,
        })
    };
    2 * layers.iter().filter_map(elements).sum::<u64>()
}

fn by_name(name: &str) -> ModelShape {
    catalog::shape(name).unwrap_or_else(|| panic!("{name} is in the catalog"))
}

#[test]
fn the_cache_of_a_token_is_the_published_one() {
    for (name, bytes) in [
        ("llama-3.1-8b", 131_072),
        ("llama-3.3-70b", 327_680),
        ("qwen3-0.6b", 114_688),
        ("qwen3-32b", 262_144),
        ("mixtral-8x7b", 131_072),
        ("phi-4", 204_800),
        ("mistral-small-3.2-24b", 163_840),
        ("glm-4.5", 376_832),
        ("glm-4.5-air", 188_416),
        ("minimax-m2.5", 253_952),
        ("deepseek-v3", 70_272),
        ("kimi-k2", 70_272),
        ("gpt-oss-20b", 24_576),
        ("gpt-oss-120b", 36_864),
        ("qwen3-next-80b-a3b", 24_576),
    ] {
        assert_eq!(per_token(&by_name(name).layers, true), bytes, "{name}");
    }
    // Twelve of its layers keep 128 tokens, and 2048 bytes of each.
    let shape = by_name("gpt-oss-20b");
    let capped = shape
        .layers
        .iter()
        .filter(|layer| layer.attention.is_some_and(|attention| attention.span == Span::Sliding(128)));
    assert_eq!(capped.count(), 12);
    assert_eq!(per_token(&shape.layers, false) - per_token(&shape.layers, true), 12 * 2048);
}

#[test]
fn every_kind_of_decoder_keeps_what_its_heads_say() {
    // Layers that attend x (keys + values) x 2 bytes, by hand.
    for (stem, bytes) in [
        ("google__flan-t5-xxl", 24 * 2 * 64 * 64 * 2),
        ("google__mt5-small", 8 * 2 * 6 * 64 * 2),
        ("facebook__bart-large-cnn", 12 * 2 * 1024 * 2),
        ("facebook__nllb-200-distilled-600M", 12 * 2 * 1024 * 2),
        ("Helsinki-NLP__opus-mt-en-de", 6 * 2 * 512 * 2),
        ("EleutherAI__gpt-neo-1.3B", 24 * 2 * 2048 * 2),
        ("Salesforce__codegen-350M-mono", 20 * 2 * 1024 * 2),
        ("microsoft__bitnet-b1.58-2B-4T-bf16", 30 * 2 * 5 * 128 * 2),
        ("jetmoe__jetmoe-8b", 24 * 2 * 16 * 128 * 2),
        ("Snowflake__snowflake-arctic-instruct", 35 * 2 * 8 * 128 * 2),
        ("hpcai-tech__grok-1", 64 * 2 * 8 * 128 * 2),
        ("xai-org__grok-2", 64 * 2 * 8 * 128 * 2),
        // Two latent attentions in each of 28 layers.
        ("meituan-longcat__LongCat-Flash-Chat", 2 * 28 * (512 + 64) * 2),
        // Every fourth layer attends to all.
        ("arcee-ai__Trinity-Mini", 8 * 2 * 4 * 128 * 2),
        ("CohereLabs__aya-vision-8b", 8 * 2 * 8 * 128 * 2),
        ("inclusionAI__Ling-mini-2.0", 20 * 2 * 4 * 128 * 2),
        ("GSAI-ML__LLaDA-8B-Instruct", 32 * 2 * 4096 * 2),
        ("google__paligemma-3b-pt-224", 18 * 2 * 256 * 2),
        ("llava-hf__llava-onevision-qwen2-7b-ov-hf", 28 * 2 * 512 * 2),
        ("HuggingFaceM4__idefics2-8b", 32 * 2 * 8 * 128 * 2),
        ("adept__fuyu-8b", 36 * 2 * 4096 * 2),
        ("Salesforce__blip2-opt-2.7b", 32 * 2 * 2560 * 2),
        ("microsoft__Florence-2-large", 12 * 2 * 1024 * 2),
        ("Qwen__Qwen2.5-Omni-7B", 28 * 2 * 512 * 2),
        ("Qwen__Qwen3-Omni-30B-A3B-Instruct", 48 * 2 * 512 * 2),
        ("microsoft__Phi-4-multimodal-instruct", 32 * 2 * 8 * 128 * 2),
        ("mistralai__Voxtral-Mini-3B-2507", 30 * 2 * 8 * 128 * 2),
        ("ibm-granite__granite-speech-3.3-8b", 40 * 2 * 8 * 128 * 2),
        ("baidu__ERNIE-4.5-VL-28B-A3B-PT", 28 * 2 * 4 * 128 * 2),
        ("RecursiveSI__flint", 28 << 10),
        ("Salesforce__ctrl", 48 * 2 * 1280 * 2),
    ] {
        assert_eq!(per_token(&super::shape(stem).layers, true), bytes, "{stem}");
    }
    // Eight of its layers keep a window, the others a state.
    let shape = super::shape("google__recurrentgemma-2b");
    assert_eq!((per_token(&shape.layers, true), per_token(&shape.layers, false)), (0, 8 * 2 * 256 * 2));
    assert_eq!(shape.layers.iter().filter(|layer| layer.state.is_some()).count(), 18);
    // A translator's decoder also keeps what its encoder read.
    assert_eq!(super::shape("google__flan-t5-xxl").encoder_tokens, Some(512));
    assert_eq!(super::shape("facebook__nllb-200-distilled-600M").encoder_tokens, Some(1024));
    // An encoder keeps nothing.
    for stem in ["google-bert__bert-base-uncased", "BAAI__bge-reranker-v2-m3", "answerdotai__ModernBERT-base"]
    {
        assert!(super::shape(stem).layers.is_empty(), "{stem}");
    }
}

#[test]
fn the_state_of_a_sequence_is_the_published_one() {
    // Qwen3-Next: 37.69 MiB in 16 bits, of which the convolutions keep three of four taps.
    let shape = by_name("qwen3-next-80b-a3b");
    let elements: u64 = shape
        .layers
        .iter()
        .filter_map(|layer| layer.state)
        .map(|state| state.conv_width * (state.conv_kernel - 1) + state.matrix)
        .sum();
    assert_eq!(2 * elements, 39_518_208);
    assert!(
        shape.layers.iter().filter_map(|layer| layer.state).all(|state| state.kind == StateKind::GatedDelta)
    );
    // Qwen3.6-27B under llama.cpp: 598.50 MiB for four sequences in 32 bits, and 16 GiB of cache for 262144 tokens.
    let shape = super::shape("nvidia__Qwen3.6-27B-NVFP4");
    let elements: u64 = shape
        .layers
        .iter()
        .filter_map(|layer| layer.state)
        .map(|state| state.conv_width * (state.conv_kernel - 1) + state.matrix)
        .sum();
    assert_eq!(4 * 4 * elements, 598 * (1 << 20) + (1 << 19));
    assert_eq!(per_token(&shape.layers, true) * 262_144, 16 << 30);
    // Whisper large: 70 MiB of its own tokens, 234.4 MiB of the encoder's.
    let shape = by_name("whisper-large-v3");
    assert_eq!(per_token(&shape.layers, true) * 448, 70 << 20);
    assert_eq!(
        shape.encoder_tokens.map(|tokens| (tokens * per_token(&shape.layers, true) * 10) >> 20),
        Some(2343)
    );
}

#[test]
fn layers_keep_what_their_kind_keeps() {
    let count =
        |stem: &str, is: &dyn Fn(&Layer) -> bool| super::shape(stem).layers.iter().filter(|l| is(l)).count();
    let full = |layer: &Layer| layer.attention.is_some_and(|attention| attention.span == Span::Full);
    let sliding =
        |layer: &Layer| layer.attention.is_some_and(|attention| matches!(attention.span, Span::Sliding(_)));
    let chunked =
        |layer: &Layer| layer.attention.is_some_and(|attention| attention.span == Span::Chunked(8192));
    let shared =
        |layer: &Layer| layer.attention.is_some_and(|attention| attention.cache == CacheKind::Shared);
    let none = |layer: &Layer| layer.attention.is_none() && layer.state.is_none();
    let stateful = |layer: &Layer| layer.state.is_some();
    for (stem, is, layers) in [
        ("google__gemma-3-27b-it", &full as &dyn Fn(&Layer) -> bool, 10),
        ("google__gemma-3-27b-it", &sliding, 52),
        ("google__gemma-3-4b-it", &full, 5),
        ("google__gemma-2-9b", &sliding, 21),
        ("google__gemma-4-E2B-it", &shared, 20),
        // The window is in the config, but switched off.
        ("Qwen__Qwen2.5-7B", &full, 28),
        ("mistralai__Mistral-7B-v0.1", &sliding, 32),
        ("mistralai__Mistral-7B-Instruct-v0.2", &full, 32),
        ("LGAI-EXAONE__EXAONE-4.0-32B", &full, 16),
        ("allenai__Olmo-3.1-32B-Instruct", &sliding, 48),
        ("meta-llama__Llama-4-Scout-17B-16E-Instruct", &chunked, 36),
        ("meta-llama__Llama-4-Scout-17B-16E-Instruct", &full, 12),
        ("meta-llama__Llama-3.2-11B-Vision-Instruct", &full, 32),
        ("meta-llama__Llama-3.2-11B-Vision-Instruct", &stateful, 8),
        ("XiaomiMiMo__MiMo-V2-Flash", &full, 9),
        ("nvidia__Llama-3_3-Nemotron-Super-49B-v1", &none, 31),
        ("nvidia__NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", &full, 6),
        ("nvidia__NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", &stateful, 23),
        // Its lists count layers from 1.
        ("moonshotai__Kimi-K3", &full, 24),
        ("moonshotai__Kimi-K3", &stateful, 69),
        ("LiquidAI__LFM2.5-VL-1.6B", &full, 6),
        ("Aleph-Alpha__Kolibri-1", &full, 10),
        ("Aleph-Alpha__Kolibri-1", &sliding, 40),
        ("RecursiveSI__flint", &full, 14),
        ("RecursiveSI__flint", &sliding, 35),
        ("PowerInfer__SmallThinker-4BA0.6B-Instruct", &full, 32),
    ] {
        assert_eq!(count(stem, is), layers, "{stem}");
    }
    let kimi = super::shape("moonshotai__Kimi-K3");
    assert!(kimi.layers[3].attention.is_some() && kimi.layers[4].state.is_some());
    let mimo = super::shape("XiaomiMiMo__MiMo-V2-Flash");
    let heads = |at: usize| mimo.layers[at].attention.map(|attention| attention.cache);
    assert_eq!(heads(0), Some(CacheKind::Heads { kv_heads: 4, key_dim: 192, value_dim: 128 }));
    assert_eq!(heads(1), Some(CacheKind::Heads { kv_heads: 8, key_dim: 192, value_dim: 128 }));
    let v32 = super::shape("deepseek-ai__DeepSeek-V3.2");
    assert!(v32.layers.iter().all(|layer| layer.attention.map(|attention| attention.cache)
        == Some(CacheKind::Latent { rank: 512, rope_dim: 64, index_dim: 128 })));
}

#[test]
fn a_hybrid_of_three_kinds_of_layer_is_one_entry() {
    // Lara 4 Mini, by the code of its class in transformers 5.24, whose defaults these are; its publisher states no number.
    let kinds = ["linear", "sliding", "linear", "full", "sliding"].map(|kind| format!("{kind}_attention"));
    let config = serde_json::json!({
        "model_type": "lara_mini", "vocab_size": 151_936, "hidden_size": 1024, "num_hidden_layers": 34, "head_dim": 128,
        "num_attention_heads": 16, "num_key_value_heads": 4, "sliding_window": 512, "max_position_embeddings": 131_072,
        "linear_num_key_heads": 8, "linear_num_value_heads": 16, "linear_key_head_dim": 128, "linear_value_head_dim": 128,
        "linear_conv_kernel_dim": 4, "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512,
        "num_experts": 128, "num_experts_per_tok": 4,
        "layer_types": (0..34).map(|layer| &kinds[layer % 5]).collect::<Vec<_>>(),
    });
    let shape = parse(config.to_string().as_bytes(), "lara").expect("a config");
    let experts = 128 * 1024 + 128 * 3 * 1024 * 512 + 3 * 1024 * 512;
    let (keys, values) = (8 * 128, 16 * 128);
    let delta =
        1024 * (2 * keys + 2 * values + 2 * 16) + 4 * (2 * keys + values) + 2 * 16 + 128 + values * 1024;
    let attention = 1024 * 16 * 128 * 2 + 2 * 1024 * 4 * 128 + 2 * 128;
    let layers = 34 * (2 * 1024 + experts) + 14 * delta + 20 * attention;
    assert_eq!(shape.parameters, 151_936 * 1024 + 1024 + layers);
    let spans = |span: Span| {
        shape.layers.iter().filter(|layer| layer.attention.is_some_and(|kept| kept.span == span)).count()
    };
    let states = shape.layers.iter().filter(|layer| layer.state.is_some()).count();
    assert_eq!((states, spans(Span::Sliding(512)), spans(Span::Full)), (14, 13, 7));
}

#[test]
fn draft_layers_are_told_apart() {
    for (stem, drafts, tied) in [
        ("deepseek-ai__DeepSeek-V3", 1, false),
        ("zai-org__GLM-4.5", 1, false),
        ("XiaomiMiMo__MiMo-7B-Base", 1, false),
        ("stepfun-ai__Step-3.7-Flash", 3, false),
        ("Qwen__Qwen3.5-0.8B", 1, true),
        ("moonshotai__Kimi-K2-Instruct", 0, false),
        ("meta-llama__Llama-3.1-8B", 0, false),
    ] {
        let shape = super::shape(stem);
        assert_eq!((shape.draft_layers.len(), shape.tied_embeddings), (drafts, tied), "{stem}");
    }
}

#[test]
fn the_class_says_which_head_a_model_has() {
    let json = |class: &str| {
        format!(
            r#"{{"model_type": "qwen3", "architectures": ["{class}"], "hidden_size": 64, "num_hidden_layers": 1,
                "num_attention_heads": 1, "intermediate_size": 1, "vocab_size": 100, "id2label": {{"0": "no"}}}}"#
        )
    };
    for (class, rows) in [
        ("Qwen3ForCausalLM", Some(100)),
        ("QWenLMHeadModel", Some(100)),
        ("Qwen3Model", None),
        ("Qwen3ForSequenceClassification", Some(1)),
        ("Qwen3ForRewardModel", Some(1)),
    ] {
        let shape = parse(json(class).as_bytes(), class).unwrap_or_else(|error| panic!("{class}: {error}"));
        let head = shape.tensors.iter().find(|tensor| tensor.role == crate::model::Role::OutputHead);
        assert_eq!(head.map(|tensor| tensor.rows), rows, "{class}");
    }
}

#[test]
fn names_are_those_of_the_checkpoint() {
    for (stem, name, rows, columns) in [
        ("meta-llama__Llama-3.1-8B", "model.layers.31.self_attn.k_proj.weight", 1024, 4096),
        ("Qwen__Qwen2.5-7B", "model.layers.0.self_attn.q_proj.bias", 1, 3584),
        ("mistralai__Mixtral-8x7B-v0.1", "model.layers.0.block_sparse_moe.experts.*.w2.weight", 4096, 14_336),
        ("deepseek-ai__DeepSeek-V3", "model.layers.3.mlp.experts.*.down_proj.weight", 7168, 2048),
        ("deepseek-ai__DeepSeek-V3", "model.layers.60.self_attn.kv_a_proj_with_mqa.weight", 576, 7168),
        ("openai__gpt-oss-20b", "model.layers.0.mlp.experts.gate_up_proj", 5760, 2880),
        ("Qwen__Qwen3.5-27B", "model.language_model.layers.0.linear_attn.in_proj_z.weight", 6144, 5120),
        ("google__gemma-3-27b-it", "language_model.model.layers.0.mlp.gate_proj.weight", 21_504, 5376),
        ("nvidia__Nemotron-H-56B-Base-8K", "backbone.layers.1.mixer.up_proj.weight", 32_768, 8192),
        ("openai-community__gpt2", "transformer.h.11.attn.c_attn.weight", 2304, 768),
        ("moonshotai__Kimi-K2.5", "language_model.lm_head.weight", 163_840, 7168),
    ] {
        let shape = super::shape(stem);
        let found = shape.tensors.iter().find(|tensor| tensor.name == name);
        assert_eq!(found.map(|tensor| (tensor.rows, tensor.columns)), Some((rows, columns)), "{stem} {name}");
    }
}
