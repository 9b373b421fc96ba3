//! Which layers of a mixture of experts have experts, and which tokens each layer keeps.

use super::decoder::spans_by_type;
use super::fields::{FACTOR, Fields, LAYERS, Limit, TOKENS};
use crate::model::{ParseError, Span};

/// A number that may be written once per layer (Hunyuan); the largest, where the layers differ.
pub(super) fn alike(f: &Fields<'_>, key: &str, limit: Limit) -> Result<Option<u64>, ParseError> {
    if matches!(f.get(key), Some(serde_json::Value::Array(_))) {
        return Ok(f.numbers(key, limit)?.and_then(|each| each.into_iter().max()));
    }
    f.number(key, limit)
}

/// Which layers have experts.
pub(super) fn sparse_layers(model_type: &str, f: &Fields<'_>, layers: u64) -> Result<Vec<bool>, ParseError> {
    // A list with an entry per layer wins over a rule.
    if let Some(serde_json::Value::Array(_)) = f.get("moe_layer_freq") {
        let list = f.numbers("moe_layer_freq", FACTOR)?.unwrap_or_default();
        return Ok(list.into_iter().map(|entry| entry > 0).collect());
    }
    if let Some(kinds) = f.texts("mlp_layer_types")? {
        return Ok(kinds.into_iter().map(|kind| kind != "dense").collect());
    }
    if let Some(text) = f.text("moe_layers_enum").unwrap_or_default() {
        let listed: Vec<u64> = text.split(',').filter_map(|item| item.trim().parse().ok()).collect();
        return Ok((0..layers).map(|layer| listed.contains(&layer)).collect());
    }
    let starts = ["first_k_dense_replace", "moe_layer_start_index", "num_dense_layers"];
    let written = match starts.iter().find(|key| f.has(key)) {
        Some(key) => alike(f, key, LAYERS)?,
        None => None,
    };
    let first = written.unwrap_or(u64::from(
        // What their classes take where the config does not say.
        matches!(
            model_type,
            "afmoe" | "exaone_moe" | "sarvam_moe" | "hy_v3" | "laguna" | "glm4_moe" | "ernie4_5_vl_moe_text"
        ),
    ));
    let step = f.positive_or(
        match model_type {
            "llama4" => "interleave_moe_layer_step",
            "qwen2_moe" | "qwen3_moe" | "qwen3_next" | "qwen3_5_moe_text" => "decoder_sparse_step",
            "ernie4_5_moe" => "moe_layer_interval",
            "arctic" => "moe_layer_frequency",
            _ => "moe_layer_freq",
        },
        FACTOR,
        1,
    )?;
    let dense_only = f.numbers("mlp_only_layers", LAYERS)?.unwrap_or_default();
    let offset = u64::from(matches!(
        model_type,
        "llama4" | "qwen2_moe" | "qwen3_moe" | "qwen3_next" | "qwen3_5_moe_text" | "ernie4_5_moe" | "arctic"
    ));
    Ok((0..layers)
        .map(|layer| layer >= first && (layer + offset).is_multiple_of(step) && !dense_only.contains(&layer))
        .collect())
}

/// Which tokens each layer keeps.
pub(super) fn spans(model_type: &str, f: &Fields<'_>, layers: u64) -> Result<Vec<Span>, ParseError> {
    let window = f.any(&["sliding_window", "sliding_window_size"], TOKENS)?.filter(|tokens| *tokens > 0);
    match model_type {
        "llama4" => {
            let Some(chunk) = f.or("attention_chunk_size", TOKENS, 8192).map(|c| (c > 0).then_some(c))?
            else {
                return Ok(Vec::new());
            };
            // 1 marks a layer with rotary positions, which attends within its chunk.
            let mut rotary = f.numbers("no_rope_layers", FACTOR)?.unwrap_or_default();
            if rotary.is_empty() {
                let interval = f.positive_or("no_rope_layer_interval", FACTOR, 4)?;
                rotary = (1..=layers).map(|layer| u64::from(!layer.is_multiple_of(interval))).collect();
            }
            Ok(rotary
                .into_iter()
                .map(|rotary| if rotary == 0 { Span::Full } else { Span::Chunked(chunk) })
                .collect())
        }
        "mimo_v2_flash" => {
            let pattern = f.numbers("hybrid_layer_pattern", FACTOR)?.unwrap_or_default();
            let span = |windowed| match window {
                Some(window) if windowed == 1 => Span::Sliding(window),
                _ => Span::Full,
            };
            Ok(pattern.into_iter().map(span).collect())
        }
        _ => match (spans_by_type(f, layers)?, window) {
            (Some(spans), _) => Ok(spans),
            (None, Some(window))
                if matches!(model_type, "afmoe" | "exaone_moe" | "cohere2_moe" | "granitemoe_swa") =>
            {
                let every = match f.get("sliding_window_pattern") {
                    Some(serde_json::Value::String(letters)) => {
                        u64::try_from(letters.len()).unwrap_or(4).max(1)
                    }
                    _ => f
                        .any(&["global_attn_every_n_layers", "sliding_window_pattern"], FACTOR)?
                        .unwrap_or(4)
                        .max(1),
                };
                // Granite's first layer of a period is the global one, else the last.
                let offset = u64::from(model_type != "granitemoe_swa");
                let span = |layer: u64| {
                    if (layer + offset).is_multiple_of(every) { Span::Full } else { Span::Sliding(window) }
                };
                Ok((0..layers).map(span).collect())
            }
            (None, Some(window)) if model_type == "gpt_oss" => Ok((0..layers)
                .map(|layer| if layer.is_multiple_of(2) { Span::Sliding(window) } else { Span::Full })
                .collect()),
            (None, Some(window)) if matches!(model_type, "mixtral" | "phimoe") => {
                Ok((0..layers).map(|_| Span::Sliding(window)).collect())
            }
            _ => Ok(Vec::new()),
        },
    }
}
