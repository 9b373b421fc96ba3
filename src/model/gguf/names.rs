//! What a tensor is for, by the names that GGUF fixes for all architectures.
//!
//! Source: `TENSOR_NAMES` in gguf-py/gguf/constants.py of ggml-org/llama.cpp.

use crate::model::{Role, Split};

/// What a name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Class {
    pub(super) layer: Option<u32>,
    pub(super) role: Role,
    pub(super) split: Split,
    pub(super) quantizable: bool,
}

/// Classifies a name. `vector` says that the tensor has one dimension or none; `layers` is how many decoder layers there
/// are: blocks after them are a draft's.
pub(super) fn classify(name: &str, vector: bool, layers: u32) -> Class {
    let class = |role, split, quantizable| Class { layer: None, role, split, quantizable };
    let rest = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
    let Some((layer, rest)) = rest.and_then(|(layer, rest)| Some((layer.parse::<u32>().ok()?, rest))) else {
        return match name.split('.').next().unwrap_or_default() {
            "token_embd" | "per_layer_token_embd" => class(Role::Embedding, Split::Vocabulary, false),
            "position_embd" | "token_types" => class(Role::Embedding, Split::Replicated, false),
            "output" | "cls" => class(Role::OutputHead, Split::Vocabulary, false),
            "v" | "a" => class(Role::Vision, Split::Replicated, false),
            "mm" | "resampler" => class(Role::Projector, Split::Replicated, false),
            "nextn" => class(Role::Draft, Split::Replicated, false),
            part if vector || part.contains("norm") || part == "rope_freqs" => {
                class(Role::Norm, Split::Replicated, false)
            }
            _ => class(Role::Attention, Split::Replicated, false),
        };
    };
    if layer >= layers || rest.starts_with("nextn") {
        return class(Role::Draft, Split::Replicated, false);
    }
    Class { layer: Some(layer), ..in_layer(rest, vector) }
}

fn in_layer(rest: &str, vector: bool) -> Class {
    let class = |role, split, quantizable| Class { layer: None, role, split, quantizable };
    let stem = rest.strip_suffix(".weight").unwrap_or(rest);
    let recurrent = ["ssm_", "shortconv.", "time_mix_"].iter().any(|prefix| stem.starts_with(prefix));
    if recurrent {
        return match stem {
            "ssm_in" | "shortconv.in_proj" if !vector => class(Role::Attention, Split::Rows, true),
            "ssm_out" | "shortconv.out_proj" if !vector => class(Role::Attention, Split::Columns, true),
            _ => class(Role::State, Split::Rows, false),
        };
    }
    if vector || stem.contains("norm") || rest.strip_suffix(".bias").is_some() {
        return class(Role::Norm, Split::Replicated, false);
    }
    match stem {
        "attn_k" | "attn_v" => class(Role::Attention, Split::KeyValueHeads(0), true),
        "attn_output" => class(Role::Attention, Split::Columns, true),
        "attn_q_a" | "attn_kv_a_mqa" => class(Role::Attention, Split::Replicated, true),
        "ffn_gate_inp" | "ffn_gate_inp_shexp" | "exp_probs_b" => {
            class(Role::Router, Split::Replicated, false)
        }
        "ffn_down" | "channel_mix_value" => class(Role::Mlp, Split::Columns, true),
        _ if stem.ends_with("_shexp") => class(Role::SharedExpert, by_direction(stem), true),
        _ if stem.ends_with("_exps") || stem.ends_with("_chexps") => {
            class(Role::Expert, by_direction(stem), true)
        }
        _ if stem.starts_with("ffn_") || stem.starts_with("channel_mix") => {
            class(Role::Mlp, Split::Rows, true)
        }
        _ => class(Role::Attention, Split::Rows, true),
    }
}

fn by_direction(stem: &str) -> Split {
    if stem.contains("down") { Split::Columns } else { Split::Rows }
}
