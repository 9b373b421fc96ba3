//! Every tensor, layer and state that the readers of configs and GGUF headers make, as text: write it before and after a
//! change of the families and compare the two.
//!
//! `cargo run --release --example shapes -- DIRECTORY` writes `tensors.txt` (each fixture, class and catalog entry in full),
//! `changed.txt` (a digest of what each becomes when one of its fields is gone or another, errors included) and `gguf.txt`
//! (what each architecture keeps, with keys that decide it); with `quick` after it, not the second, which takes minutes.

#![recursion_limit = "2048"]
#![allow(clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;

use loadline::model::{ModelShape, ParseError, catalog, gguf, hf_config};
use serde_json::{Map, Value, json};

// Shared with the tests: not all of it is used here.
#[allow(dead_code)]
#[path = "../it/weights.rs"]
mod weights;

use weights::{Gguf, Meta};

fn main() {
    let to = std::env::args().nth(1).expect("the directory to write to");
    let to = Path::new(&to);
    std::fs::create_dir_all(to).expect("a directory");
    let configs = configs();
    let mut tensors = String::new();
    for config in &configs {
        let read = hf_config::parse_with_quant(config.json.as_bytes(), config.quant.as_deref(), &config.name);
        let _ = writeln!(tensors, "== {}\n{}", config.name, in_full(&read));
    }
    std::fs::write(to.join("tensors.txt"), tensors).expect("written");
    std::fs::write(to.join("gguf.txt"), architectures()).expect("written");
    if std::env::args().nth(2).as_deref() == Some("quick") {
        return;
    }
    let mut changed = String::new();
    // Half of them on each of two threads.
    let halves = configs.split_at(configs.len() * 2 / 5);
    let half = |configs: &[Config]| {
        let mut text = String::new();
        for config in configs {
            changed_fields(config, &mut text);
        }
        text
    };
    std::thread::scope(|scope| {
        let second = scope.spawn(|| half(halves.1));
        changed.push_str(&half(halves.0));
        changed.push_str(&second.join().expect("no panic"));
    });
    std::fs::write(to.join("changed.txt"), changed).expect("written");
    println!("{} configs", configs.len());
}

struct Config {
    name: String,
    json: String,
    quant: Option<Vec<u8>>,
}

/// The fixtures, the classes of transformers, the catalog, and a config of everything for each type.
fn configs() -> Vec<Config> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directory = root.join("tests/fixtures/configs");
    let mut names: Vec<String> = std::fs::read_dir(&directory)
        .expect("fixtures")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter_map(|name| name.strip_suffix(".json").map(ToOwned::to_owned))
        .filter(|name| !name.ends_with(".hf_quant_config"))
        .collect();
    names.sort();
    let fixture = |name: &String| Config {
        name: name.clone(),
        json: std::fs::read_to_string(directory.join(format!("{name}.json"))).expect("a fixture"),
        quant: std::fs::read(directory.join(format!("{name}.hf_quant_config.json"))).ok(),
    };
    let mut all: Vec<Config> = names.iter().map(fixture).collect();
    let classes = root.join("src/model/hf_config/tests/class_sizes.jsonl");
    for line in std::fs::read_to_string(classes).expect("class sizes").lines() {
        let row: Value = serde_json::from_str(line).expect("JSON");
        let name = format!("class {}", row["config"]["model_type"]);
        all.push(Config { name, json: row["config"].to_string(), quant: None });
    }
    for entry in catalog::entries() {
        all.push(Config { name: format!("catalog {}", entry.name), json: entry.config(), quant: None });
    }
    let types = std::fs::read_to_string(root.join("tests/shapes/types.txt")).expect("types");
    for name in types.split_whitespace() {
        let mut config = everything();
        config.insert("model_type".to_owned(), name.into());
        let json = Value::Object(config.clone()).to_string();
        all.push(Config { name: format!("everything {name}"), json, quant: None });
        let mut nested = config.clone();
        let text = Value::Object(config);
        nested.insert("text_config".to_owned(), text.clone());
        let thinker =
            json!({"text_config": text, "vision_config": everything(), "audio_config": everything()});
        nested.insert("thinker_config".to_owned(), thinker);
        for key in ["text_config", "thinker_config"] {
            nested[key]["model_type"] = "qwen2".into();
        }
        let json = Value::Object(nested).to_string();
        let alone = hf_config::parse(all[all.len() - 1].json.as_bytes(), "m");
        if digest(&hf_config::parse(json.as_bytes(), "m")) != digest(&alone) {
            all.push(Config { name: format!("nested {name}"), json, quant: None });
        }
    }
    all
}

/// A config with nearly every field that some family reads.
fn everything() -> Map<String, Value> {
    let config = json!({
        "hidden_size": 256, "num_hidden_layers": 10, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 32,
        "intermediate_size": 640, "vocab_size": 1000, "max_position_embeddings": 4096, "d_model": 256, "d_ff": 512, "d_kv": 32,
        "num_heads": 8, "num_layers": 10, "encoder_layers": 3, "decoder_layers": 4, "encoder_ffn_dim": 512,
        "decoder_ffn_dim": 384, "decoder_attention_heads": 8, "encoder_attention_heads": 8, "encoder_sparse_step": 2,
        "decoder_sparse_step": 2, "sliding_window": 128, "use_sliding_window": true, "max_window_layers": 3,
        "attention_chunk_size": 64, "no_rope_layer_interval": 3, "hybrid_layer_pattern": [0, 1, 1, 0, 1, 1, 0, 1, 1, 0],
        "swa_num_attention_heads": 4, "swa_num_key_value_heads": 2, "swa_head_dim": 48, "swa_v_head_dim": 24,
        "v_head_dim": 40, "add_swa_attention_sink_bias": true, "attention_other_setting": {"num_attention_heads": 12, "num_attention_groups": 6, "head_dim": 16},
        "num_experts": 6, "num_local_experts": 6, "n_routed_experts": 6, "moe_num_experts": 6, "num_experts_per_tok": 2,
        "moe_topk": 2, "moe_k": 2, "top_k_experts": 2, "moe_intermediate_size": 96, "expert_ffn_hidden_size": 96,
        "ffn_hidden_size": 500, "n_shared_experts": 2, "num_shared_experts": 2, "moe_num_shared_experts": 2,
        "num_shared_expert": 1, "shared_expert_intermediate_size": 112, "shared_intermediate_size": 120,
        "share_expert_dim": 136, "dense_intermediate_size": 200, "intermediate_size_mlp": 208, "zero_expert_num": 2,
        "first_k_dense_replace": 2, "decoder_sparse_interval": 2, "moe_layer_interval": 2,
        "interleave_moe_layer_step": 2, "use_qk_norm": true, "attention_bias": true, "mlp_bias": true, "use_bias": true,
        "use_qkv_bias": true, "qkv_bias": true, "bias": true, "use_routing_bias": true, "use_moe_router_bias": true,
        "moe_router_enable_expert_bias": true, "topk_method": "noaux_tc", "enable_moe_block": true, "residual_moe": true,
        "q_lora_rank": 64, "kv_lora_rank": 48, "qk_nope_head_dim": 32, "qk_rope_head_dim": 16, "o_lora_rank": 32,
        "o_groups": 4, "index_n_heads": 4, "index_head_dim": 24, "mla_use_output_gate": true,
        "indexer_types": ["full", "shared", "shared", "full", "shared", "shared", "full", "shared", "shared", "full"],
        "compress_ratios": [0, 4, 16, 4, 16, 4, 16, 4, 16, 4], "hc_mult": 2, "num_nextn_predict_layers": 1,
        "mtp_num_hidden_layers": 1, "sparse_attention_config": {"sparse_num_index_heads": 2, "sparse_index_dim": 16},
        "linear_num_key_heads": 4, "linear_key_head_dim": 16, "linear_num_value_heads": 8, "linear_value_head_dim": 24,
        "linear_conv_kernel_dim": 4, "linear_num_heads": 4, "linear_head_dim": 32, "short_conv_kernel_size": 4,
        "full_attention_interval": 3, "layer_group_size": 3, "attn_output_gate": true,
        "linear_attn_config": {"num_heads": 4, "head_dim": 32, "short_conv_kernel_size": 4, "full_attn_layers": [3, 6, 9]},
        "routed_expert_hidden_size": 128, "attn_layer_period": 3, "attn_layer_offset": 1, "expert_layer_period": 2,
        "expert_layer_offset": 1, "mamba_n_heads": 8, "mamba_d_ssm": 320, "mamba_expand": 2, "mamba_n_groups": 2,
        "mamba_d_state": 16, "mamba_d_conv": 4, "mamba_num_heads": 8, "mamba_head_dim": 40, "mamba_proj_bias": true,
        "mamba_rms_norm": true, "n_mamba_heads": 4, "num_mem_blocks": 2, "adapter_rank": 8,
        "use_shared_attention_adapter": true, "hybrid_layer_ids": [2, 5, 8], "attn_layer_indices": [2, 5, 8],
        "full_attn_idxs": [2, 5, 8], "attn_type_list": [0, 1, 0, 0, 1, 0, 0, 1, 0, 0], "cross_attention_layers": [3, 7],
        "hybrid_override_pattern": "M-M*EM-M*E", "mtp_hybrid_override_pattern": "*E", "moe_latent_size": 64,
        "moe_shared_expert_intermediate_size": 72, "ssm_state_size": 16, "n_groups": 2, "conv_kernel": 4, "state_size": 16,
        "expand": 2, "time_step_rank": 12, "mamba_ssm_cache_dtype": "float32", "attention_hidden_size": 192,
        "conv_L_cache": 3, "num_dense_layers": 2, "lru_width": 256, "attention_window_size": 100,
        "hidden_size_per_layer_input": 16, "vocab_size_per_layer_input": 900, "num_kv_shared_layers": 4,
        "global_head_dim": 64, "num_global_key_value_heads": 2, "attention_k_eq_v": true, "use_double_wide_mlp": true,
        "laurel_rank": 8, "altup_num_inputs": 3, "embedding_size": 128, "type_vocab_size": 2, "num_hidden_groups": 2,
        "inner_group_num": 2, "relative_attention": true, "pos_att_type": "c2p|p2c", "position_buckets": 64,
        "conv_kernel_size": 3, "feed_forward_type": "glu", "lora_rank": 4, "moe_every_n_layers": 2, "moe_top_k": 2,
        "num_sparse_encoder_layers": 2, "num_sparse_decoder_layers": 2, "max_source_positions": 300,
        "max_target_positions": 200, "num_mel_bins": 40, "tie_word_embeddings": false, "gating": true,
        "use_head_wise_attn_gate": true, "norm_bias": true, "use_post_norm": true, "qk_layernorm": true,
        "stack_factor": 4, "projection_dim": 128, "image_size": 64, "patch_size": 16, "num_channels": 3, "depth": 3,
        "activation_function": "swiglu", "n_inner": 700, "multi_query": false, "new_decoder_architecture": true,
        "attn_config": {"kv_n_heads": 2}, "ffn_config": {"ffn_hidden_size": 96, "moe_num_experts": 6, "moe_top_k": 2},
        "parallel_attn": true, "expansion_ratio": 3, "add_qkv_bias": true, "multi_query_attention": true,
        "multi_query_group_num": 2, "qk_dim_factor": 0.5, "v_dim_factor": 1.0, "embedding_dim": 256, "num_blocks": 10,
        "block_configs": (0..10).map(|at| json!({"attention": {"no_op": at == 3, "n_heads_in_group": 4},
            "ffn": {"no_op": at == 5, "ffn_mult": 2.5}})).collect::<Vec<_>>(),
        "vision_config": {"hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 160,
            "image_size": 64, "patch_size": 16, "depth": 3, "embed_dim": 96, "out_hidden_size": 256,
            "deepstack_visual_indexes": [0, 1], "num_position_embeddings": 16, "attention_bias": true,
            "num_key_value_heads": 2, "layers": 3, "width": 96},
        "audio_config": {"d_model": 96, "hidden_size": 96, "encoder_layers": 3, "encoder_ffn_dim": 160,
            "num_hidden_layers": 3, "intermediate_size": 160, "output_dim": 64},
        "encoder_config": {"num_layers": 2, "hidden_dim": 96}, "projector_config": {"depth": 2, "num_hidden_layers": 2},
        "qformer_config": {"num_hidden_layers": 2}, "perceiver_config": {"resampler_depth": 2},
        "adapter_config": {"intermediate_size": 64, "text_hidden_size": 256}, "cross_decoder": 1
    });
    match config {
        Value::Object(map) => map,
        _ => panic!("an object"),
    }
}

fn in_full(read: &Result<ModelShape, ParseError>) -> String {
    let shape = match read {
        Ok(shape) => shape,
        Err(error) => return format!("error: {error}"),
    };
    let mut text = String::new();
    let mut tensors: Vec<String> = shape.tensors.iter().map(|tensor| format!("{tensor:?}")).collect();
    tensors.sort();
    for tensor in tensors {
        text.push_str(&tensor);
        text.push('\n');
    }
    for layer in &shape.layers {
        let _ = writeln!(text, "{layer:?}");
    }
    for layer in &shape.draft_layers {
        let _ = writeln!(text, "draft {layer:?}");
    }
    let _ = writeln!(text, "{:?}", without_lists(shape));
    text
}

fn without_lists(shape: &ModelShape) -> ModelShape {
    ModelShape {
        name: shape.name.clone(),
        architecture: shape.architecture.clone(),
        tensors: Vec::new(),
        layers: Vec::new(),
        draft_layers: Vec::new(),
        quantization: shape.quantization.clone(),
        notes: shape.notes.clone(),
        ..*shape
    }
}

/// What is the same where two shapes are, and what an error says.
fn digest(read: &Result<ModelShape, ParseError>) -> String {
    match read {
        Ok(shape) => {
            let mut hasher = DefaultHasher::new();
            // In which order a reader comes to the tensors makes no difference.
            let mut tensors: Vec<_> = shape.tensors.iter().collect();
            tensors.sort_by_key(|tensor| (tensor.layer, &tensor.name, tensor.rows, tensor.columns));
            for tensor in tensors {
                let sizes = (tensor.layer, tensor.count, tensor.rows, tensor.columns, tensor.stored_bytes);
                (&tensor.name, tensor.role, sizes, tensor.split, tensor.quantizable).hash(&mut hasher);
            }
            (&shape.layers, &shape.draft_layers).hash(&mut hasher);
            format!("{:?}", without_lists(shape)).hash(&mut hasher);
            format!("{:016x} {} {}", hasher.finish(), shape.tensors.len(), shape.parameters)
        }
        Err(error) => format!("error: {error}"),
    }
}

/// Few enough layers that every change is read in little time.
fn shortened(value: &mut Value) {
    let Value::Object(map) = value else { return };
    for key in [
        "num_hidden_layers",
        "num_layers",
        "n_layer",
        "n_layers",
        "encoder_layers",
        "decoder_layers",
        "depth",
    ] {
        if let Some(layers) = map.get(key).and_then(Value::as_u64) {
            map.insert(key.to_owned(), layers.min(9).into());
        }
    }
    map.values_mut().for_each(shortened);
}

fn changed_fields(config: &Config, to: &mut String) {
    let Ok(mut whole) = serde_json::from_str::<Value>(&config.json) else { return };
    shortened(&mut whole);
    let mut paths = Vec::new();
    collect(&whole, &mut Vec::new(), &mut paths);
    if config.name.starts_with("nested ") {
        // What is inside is tried as a config of its own.
        paths.retain(|path| path.len() < 2 || !path[0].starts_with('t'));
    }
    for path in paths.iter().filter(|path| path.first().is_none_or(|key| !key.contains("quant"))).take(300) {
        let Some(own) = path.iter().try_fold(&whole, |value, key| value.get(key)) else { continue };
        // Of a config of everything few fields count for its type.
        let most =
            if config.name.starts_with("everything ") || config.name.starts_with("nested ") { 2 } else { 9 };
        for (what, value) in changes(own).into_iter().take(most) {
            let mut changed = whole.clone();
            let Some((last, above)) = path.split_last() else { continue };
            let holder = above.iter().try_fold(&mut changed, |value, key| value.get_mut(key));
            let Some(Value::Object(holder)) = holder else { continue };
            match value {
                Some(value) => drop(holder.insert(last.clone(), value)),
                None => drop(holder.remove(last)),
            }
            let read = hf_config::parse(changed.to_string().as_bytes(), "m");
            let _ = writeln!(to, "{} {} {what}: {}", config.name, path.join("."), digest(&read));
        }
    }
}

/// The paths of the fields, two levels deep.
fn collect(value: &Value, path: &mut Vec<String>, paths: &mut Vec<Vec<String>>) {
    let Value::Object(map) = value else { return };
    for (key, inner) in map {
        path.push(key.clone());
        paths.push(path.clone());
        if path.len() < 2 {
            collect(inner, path, paths);
        }
        path.pop();
    }
}

fn changes(value: &Value) -> Vec<(&'static str, Option<Value>)> {
    let mut all = vec![("gone", None)];
    match value {
        Value::Bool(flag) => all.push(("flipped", Some((!flag).into()))),
        Value::Number(number) => {
            all.push(("0", Some(0.into())));
            all.push(("3", Some(3.into())));
            all.push(("doubled", number.as_u64().map(|number| (2 * number).into())));
            all.push(("text", Some("x".into())));
        }
        Value::String(_) => all.push(("other text", Some("zzz".into()))),
        Value::Array(items) => {
            all.push(("short", Some(items.iter().take(2).cloned().collect())));
            all.push(("last", Some(items.iter().rev().cloned().collect())));
            all.push(("words", Some(items.iter().map(|_| Value::from("zzz")).collect())));
        }
        Value::Null => all.push(("1", Some(1.into()))),
        Value::Object(_) => all.push(("empty", Some(json!({})))),
    }
    all
}

/// What each architecture of GGUF keeps.
fn architectures() -> String {
    let mut text = String::new();
    let names =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shapes/architectures.txt"));
    for name in names.expect("architectures").split_whitespace() {
        for (what, keys) in variants() {
            let mut file = Gguf::new().meta("general.architecture", &Meta::Text(name));
            let base = [("block_count", 12), ("embedding_length", 512), ("context_length", 4096)];
            for (key, value) in base {
                if !keys.iter().any(|(own, _)| *own == key) {
                    file = file.meta(&format!("{name}.{key}"), &Meta::U32(value));
                }
            }
            let more =
                [("feed_forward_length", 1024), ("attention.head_count", 8), ("attention.head_count_kv", 2)];
            for (key, value) in more {
                if !keys.iter().any(|(own, _)| *own == key) {
                    file = file.meta(&format!("{name}.{key}"), &Meta::U32(value));
                }
            }
            for (key, value) in &keys {
                file = file.meta(&format!("{name}.{key}"), value);
            }
            let bytes =
                file.f32("token_embd.weight", &[512, 100]).f32("blk.0.attn_k.weight", &[512, 128]).bytes();
            let read = gguf::parse_whole(&bytes).and_then(|header| gguf::shape(&[header], "m"));
            let _ = writeln!(text, "== {name} {what}\n{}", in_full(&read));
        }
    }
    text
}

const FLAGS: &[bool] = &[true, true, false, true, true, false, true, true, false, true, true, false];
const NUMBERS: &[u32] = &[0, 1, 1, 0, 1, 1, 0, 1, 1, 0, 1, 1];
const HEADS: &[u32] = &[0, 0, 2, 0, 0, 2, 0, 0, 2, 0, 0, 2];
const WIDTHS: &[u32] = &[0, 8, 0, 0, 8, 0, 0, 8, 0, 0, 8, 0];

type Keys = Vec<(&'static str, Meta<'static>)>;

#[allow(clippy::too_many_lines)] // one entry per set of keys
fn variants() -> Vec<(&'static str, Keys)> {
    let n = Meta::U32;
    let ssm = || {
        vec![
            ("ssm.conv_kernel", Meta::U32(4)),
            ("ssm.inner_size", Meta::U32(1024)),
            ("ssm.state_size", Meta::U32(16)),
            ("ssm.group_count", Meta::U32(2)),
            ("ssm.time_step_rank", Meta::U32(8)),
        ]
    };
    let with = |mut keys: Keys, more: Keys| {
        keys.extend(more);
        keys
    };
    vec![
        ("plain", Vec::new()),
        ("window", vec![("attention.sliding_window", n(128))]),
        ("window 0", vec![("attention.sliding_window", n(0))]),
        ("period", vec![("attention.sliding_window", n(128)), ("attention.sliding_window_pattern", n(3))]),
        ("period 0", vec![("attention.sliding_window", n(128)), ("attention.sliding_window_pattern", n(0))]),
        (
            "flags",
            vec![
                ("attention.sliding_window", n(128)),
                ("attention.sliding_window_pattern", Meta::Flags(FLAGS)),
                ("attention.key_length_swa", n(32)),
                ("attention.value_length_swa", n(24)),
            ],
        ),
        (
            "numbers",
            vec![
                ("attention.sliding_window", n(128)),
                ("attention.sliding_window_pattern", Meta::Numbers(NUMBERS)),
                ("attention.key_length", n(96)),
            ],
        ),
        (
            "short",
            vec![
                ("attention.sliding_window", n(128)),
                ("attention.sliding_window_pattern", Meta::Flags(&FLAGS[..3])),
            ],
        ),
        (
            "latent",
            vec![
                ("attention.kv_lora_rank", n(64)),
                ("attention.key_length_mla", n(96)),
                ("rope.dimension_count", n(16)),
                ("attention.indexer.key_length", n(32)),
                ("nextn_predict_layers", n(2)),
            ],
        ),
        ("old latent", vec![("attention.kv_lora_rank", n(64))]),
        ("state", ssm()),
        ("interval", with(ssm(), vec![("full_attention_interval", n(3))])),
        ("interval alone", vec![("full_attention_interval", n(3))]),
        ("interval 0", with(ssm(), vec![("full_attention_interval", n(0))])),
        ("heads", with(ssm(), vec![("attention.head_count_kv", Meta::Numbers(HEADS))])),
        (
            "widths",
            with(
                ssm(),
                vec![
                    ("attention.head_count_kv", Meta::Numbers(HEADS)),
                    ("feed_forward_length", Meta::Numbers(WIDTHS)),
                ],
            ),
        ),
        ("heads alone", vec![("attention.head_count_kv", Meta::Numbers(HEADS))]),
        ("convolution", vec![("shortconv.l_cache", n(3)), ("attention.head_count_kv", Meta::Numbers(HEADS))]),
        ("wkv", vec![("wkv.head_size", n(64)), ("token_shift_count", n(2))]),
        (
            "delta",
            vec![
                ("kda.head_dim", n(32)),
                ("ssm.conv_kernel", n(4)),
                ("attention.head_count_kv", Meta::Numbers(HEADS)),
                ("attention.kv_lora_rank", n(64)),
                ("attention.key_length_mla", n(96)),
            ],
        ),
        ("shared", vec![("attention.shared_kv_layers", n(4)), ("attention.sliding_window", n(128))]),
        (
            "compressed",
            vec![
                ("attention.sliding_window", n(128)),
                ("attention.compress_ratios", Meta::Numbers(HEADS)),
                ("attention.indexer.key_length", n(32)),
            ],
        ),
        (
            "experts",
            vec![
                ("expert_count", n(8)),
                ("expert_used_count", n(2)),
                ("expert_feed_forward_length", n(64)),
                ("expert_shared_feed_forward_length", n(2048)),
            ],
        ),
    ]
}
