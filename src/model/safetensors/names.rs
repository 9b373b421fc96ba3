//! What a tensor is for, by the names that checkpoints of transformers use.

use crate::model::{Role, Split};

/// What a name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Class {
    /// The decoder layer.
    pub(super) layer: Option<u32>,
    /// What it is for.
    pub(super) role: Role,
    /// How tensor parallelism divides it; key-value heads are filled in by the caller.
    pub(super) split: Split,
    /// Whether weight quantisation would apply to it.
    pub(super) quantizable: bool,
}

/// A tower that is not the language model.
const TOWERS: &[&str] = &[
    "visual",
    "vision_tower",
    "vision_model",
    "vision_encoder",
    "vision_embed_tokens",
    "vision",
    "vit",
    "vpm",
    "image_encoder",
    "audio_tower",
    "audio_model",
    "audio_encoder",
    "speech_encoder",
    "audio",
    "sam_model",
];

/// What carries a tower's features to the residual stream.
const PROJECTORS: &[&str] = &[
    "multi_modal_projector",
    "mm_projector",
    "merger",
    "deepstack_merger_list",
    "aligner",
    "connector",
    "projector",
    "resampler",
    "embed_vision",
    "embed_audio",
    "mlp1",
    "vision_proj",
    "patch_merger",
    "perceive",
];

/// Names of the modules that hold a recurrence rather than attention.
const RECURRENT: &[&str] = &[
    "mamba",
    "mixer",
    "linear_attn",
    "conv",
    "short_conv",
    "temporal_block",
    "ssm",
    "time_mixer",
    "delta_net",
];

/// Buffers that some checkpoints carry and no engine loads.
pub(super) fn is_buffer(name: &str) -> bool {
    name.ends_with("rotary_emb.inv_freq")
        || name.ends_with(".attn.bias")
        || name.ends_with(".masked_bias")
        || name.ends_with("attention.bias")
        || name.ends_with(".position_ids")
        || name.ends_with("rotary_emb.cos_cached")
        || name.ends_with("rotary_emb.sin_cached")
}

/// The name with the index of an expert replaced, so that the experts of a layer fall together; and whether it had one.
pub(super) fn without_expert(name: &str) -> Option<String> {
    let mut parts: Vec<&str> = name.split('.').collect();
    let at = parts.iter().position(|part| matches!(*part, "experts" | "local_experts"))?;
    let index = parts.get_mut(at + 1)?;
    if index.is_empty() || !index.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    *index = "*";
    Some(parts.join("."))
}

/// Where the layer's index is in a dotted name: the first number that stands alone outside a tower.
fn layer_of(parts: &[&str]) -> Option<(usize, u32)> {
    parts.windows(2).enumerate().find_map(|(at, pair)| match pair {
        [list, index]
            if matches!(*list, "layers" | "h" | "layer" | "blocks" | "block" | "decoder_layers") =>
        {
            index.parse().ok().map(|index| (at + 1, index))
        }
        _ => None,
    })
}

/// The key by which a checkpoint's name and a config's are compared: the layer, and what follows it without the
/// expert's index and the final `.weight`.
pub(super) fn key(name: &str) -> (Option<u32>, String) {
    let parts: Vec<&str> = name.split('.').collect();
    let (layer, rest) = match layer_of(&parts) {
        Some((at, layer)) => (Some(layer), parts.get(at + 1..).unwrap_or_default()),
        // Outside the layers the last module and its parameter are enough.
        None => (None, parts.get(parts.len().saturating_sub(2)..).unwrap_or_default()),
    };
    let kept: Vec<&str> = rest
        .iter()
        .copied()
        .filter(|part| *part != "*" && *part != "weight" && !part.bytes().all(|byte| byte.is_ascii_digit()))
        .collect();
    (layer, kept.join("."))
}

/// Classifies a name. `vector` says that the tensor has one dimension or none.
pub(super) fn classify(name: &str, vector: bool) -> Class {
    let parts: Vec<&str> = name.split('.').collect();
    let has = |words: &[&str]| parts.iter().any(|part| words.contains(part));
    let outside = |role| Class { layer: None, role, split: Split::Replicated, quantizable: false };
    // A tower's own merger is a projector; a text model's `mlp1` is not below a tower but at the root.
    if has(PROJECTORS) && layer_of(&parts).is_none_or(|_| has(TOWERS)) {
        return outside(Role::Projector);
    }
    if has(TOWERS) {
        return outside(Role::Vision);
    }
    if has(&["mtp", "mtp_layers", "eh_proj", "enorm", "hnorm", "nextn"]) {
        let last = parts.iter().rev().find(|part| **part != "weight").copied().unwrap_or_default();
        return Class { role: Role::Draft, ..in_layer(&parts, last, vector) };
    }
    let layer = layer_of(&parts).map(|(_, layer)| layer);
    let Some(last) = parts.iter().rev().find(|part| !matches!(**part, "weight" | "*")).copied() else {
        return outside(Role::Norm);
    };
    if layer.is_none() {
        return match last {
            "embed_tokens"
            | "wte"
            | "word_embeddings"
            | "embed_in"
            | "tok_embeddings"
            | "embedding"
            | "embeddings"
            | "embed"
            | "shared"
            | "embed_tokens_per_layer" => {
                Class { layer: None, role: Role::Embedding, split: Split::Vocabulary, quantizable: false }
            }
            "wpe" | "embed_positions" | "position_embeddings" | "token_type_embeddings" | "pos_embed" => {
                outside(Role::Embedding)
            }
            "lm_head" | "embed_out" | "output" | "output_layer" | "head" | "score" | "classifier" => {
                Class { layer: None, role: Role::OutputHead, split: Split::Vocabulary, quantizable: false }
            }
            _ if vector || last.contains("norm") || last.starts_with("ln_") => outside(Role::Norm),
            _ => outside(Role::Attention),
        };
    }
    Class { layer, ..in_layer(&parts, last, vector) }
}

fn in_layer(parts: &[&str], last: &str, vector: bool) -> Class {
    let has = |words: &[&str]| parts.iter().any(|part| words.contains(part));
    let class = |role, split, quantizable| Class { layer: None, role, split, quantizable };
    let recurrent = has(RECURRENT);
    if recurrent
        && (vector || matches!(last, "conv1d" | "conv" | "A_log" | "D" | "dt_bias" | "x_proj" | "dt_proj"))
    {
        return class(Role::State, Split::Rows, false);
    }
    if vector || last.contains("norm") || last.starts_with("ln_") || last == "bias" {
        return class(Role::Norm, Split::Replicated, false);
    }
    if has(&["experts", "local_experts"]) && !has(&["shared_experts", "shared_expert"]) {
        return class(Role::Expert, expert_split(last), true);
    }
    if last == "shared_expert_gate" || last == "router" || has(&["router"]) {
        return class(Role::Router, Split::Replicated, false);
    }
    if last == "gate" && has(&["mlp", "block_sparse_moe", "feed_forward", "moe", "mixer", "ffn"]) {
        return class(Role::Router, Split::Replicated, false);
    }
    if has(&["shared_experts", "shared_expert", "shared_mlp"]) {
        return class(Role::SharedExpert, expert_split(last), true);
    }
    if recurrent {
        let split = if matches!(last, "out_proj" | "o_proj") { Split::Columns } else { Split::Rows };
        return class(Role::Attention, split, true);
    }
    match last {
        "k_proj" | "v_proj" | "key" | "value" | "wk" | "wv" => {
            class(Role::Attention, Split::KeyValueHeads(0), true)
        }
        "q_proj" | "query" | "wq" | "q_b_proj" | "kv_b_proj" | "qkv_proj" | "query_key_value" | "c_attn"
        | "Wqkv" | "W_pack" | "wqkv" => class(Role::Attention, Split::Rows, true),
        "q_a_proj" | "kv_a_proj_with_mqa" | "fused_qkv_a_proj_with_mqa" => {
            class(Role::Attention, Split::Replicated, true)
        }
        "o_proj" | "wo" | "out_proj" => class(Role::Attention, Split::Columns, true),
        "c_proj" | "dense" | "wo_b" if has(&["attn", "self_attn", "attention", "self_attention"]) => {
            class(Role::Attention, Split::Columns, true)
        }
        _ if has(&["attn", "self_attn", "attention", "self_attention", "cross_attn", "encoder_attn"]) => {
            class(Role::Attention, Split::Rows, true)
        }
        _ => class(Role::Mlp, expert_split(last), true),
    }
}

fn expert_split(last: &str) -> Split {
    match last {
        "down_proj" | "w2" | "dense_4h_to_h" | "c_proj" | "fc2" | "fc_out" | "output" => Split::Columns,
        _ => Split::Rows,
    }
}

/// The index of the expert in a name.
pub(super) fn expert_index(name: &str) -> Option<u64> {
    let mut parts = name.split('.').skip_while(|part| !matches!(*part, "experts" | "local_experts"));
    parts.nth(1)?.parse().ok()
}
