//! How large the tables of rotary positions are that an engine makes of a config.
//!
//! Source: vLLM's `rotary_embedding`, one table per kind of attention, with a row per position and a cosine and a sine
//! per pair of rotated features. A linear or dynamic scaling multiplies the positions, YaRN counts from the original ones, a
//! long rotary scaling keeps the short table too, and the positions of images and videos (M-RoPE) have four times as many
//! (in the logs since vLLM 0.16).

use crate::model::hf_config::config::fields::{Fields, TOKENS, WIDTH};
use crate::model::hf_config::tower::TEXT_KEYS;
use crate::model::{CacheKind, ModelShape, Span};

/// Model types that rotate nothing: positions are learned, linear biases, or left to recurrent layers.
const WITHOUT: &[&str] = &[
    "opt",
    "ctrl",
    "gpt2",
    "gpt_bigcode",
    "mpt",
    "bloom",
    "nemotron_h",
    "jamba",
    "mamba",
    "mamba2",
    "falcon_mamba",
];

/// Model types whose positions are those of images and videos, also where a config does not name the sections.
const MULTIMODAL: &[&str] = &["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5", "glm4v"];

/// Rows of such a table per position of the text.
const ROWS: u64 = 4;

/// Elements of all tables; `None` where the config does not say how many positions there are. What is no number counts as not
/// written: the tables are no reason to refuse a config.
pub(super) fn elements(root: &Fields<'_>, shape: &ModelShape) -> Option<u64> {
    let nested = TEXT_KEYS.iter().find_map(|key| root.object(key).unwrap_or_default());
    let f = nested.as_ref().unwrap_or(root);
    let kind =
        [f, root].into_iter().find_map(|f| f.text("model_type").unwrap_or_default()).unwrap_or_default();
    if WITHOUT.contains(&kind) || shape.encoder_tokens.is_some() {
        return Some(0);
    }
    let written = f.number("max_position_embeddings", TOKENS).unwrap_or_default();
    let positions = written.filter(|tokens| *tokens > 0).or(shape.max_context)?;
    let scaling =
        ["rope_parameters", "rope_scaling"].iter().find_map(|key| f.object(key).unwrap_or_default());
    let of = |span: &str| scaling.as_ref().and_then(|scaling| scaling.object(span).unwrap_or_default());
    let (full, sliding) = (of("full_attention"), of("sliding_attention"));
    let widths = Widths::of(shape);
    if full.is_some() || sliding.is_some() {
        let global = scaled(positions, full.as_ref()).checked_mul(widths.global)?;
        return global.checked_add(scaled(positions, sliding.as_ref()).checked_mul(widths.windowed)?);
    }
    let rotated = part(f, scaling.as_ref(), widths.widest())?;
    let sections = scaling.as_ref().is_some_and(|scaling| scaling.has("mrope_section"));
    let rows = if sections || MULTIMODAL.iter().any(|family| kind.starts_with(family)) { ROWS } else { 1 };
    let table = scaled(positions, scaling.as_ref()).checked_mul(rotated)?.checked_mul(rows)?;
    // The layers with a window rotate by the text's own positions, whatever scales the others.
    let apart = f.has("rope_local_base_freq") || kind.starts_with("gemma3") || kind == "olmo3";
    let local = if apart { positions.checked_mul(widths.windowed)? } else { 0 };
    table.checked_add(local)
}

/// Rows of a table.
fn scaled(positions: u64, scaling: Option<&Fields<'_>>) -> u64 {
    let Some(scaling) = scaling else { return positions };
    let kind = ["rope_type", "type"].iter().find_map(|key| scaling.text(key).unwrap_or_default());
    let number = |key| scaling.number(key, TOKENS).unwrap_or_default().filter(|number| *number > 0);
    let factor = number("factor").unwrap_or(1);
    let original = number("original_max_position_embeddings");
    match kind {
        Some("linear" | "dynamic") => positions.saturating_mul(factor),
        Some("yarn" | "deepseek_yarn") => original.unwrap_or(positions).saturating_mul(factor),
        Some("longrope" | "su") => positions.saturating_add(original.unwrap_or(0)),
        _ => positions,
    }
}

/// How much of a head is rotated.
fn part(f: &Fields<'_>, scaling: Option<&Fields<'_>>, width: u64) -> Option<u64> {
    if let Some(rotated) = f.number("rotary_dim", WIDTH).unwrap_or_default() {
        return Some(rotated.min(width));
    }
    let share = ["partial_rotary_factor", "rotary_pct"].iter().find_map(|key| {
        f.get(key).or_else(|| scaling.and_then(|scaling| scaling.get(key))).and_then(thousandths)
    });
    // A latent cache rotates its own few features, which are the width already.
    width.checked_mul(share.unwrap_or(1000)).map(|rotated| rotated.div_ceil(1000))
}

/// A share of one in thousandths, without the rounding of a float.
fn thousandths(value: &serde_json::Value) -> Option<u64> {
    let text = value.as_number()?.to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let fraction: String = fraction.chars().chain("000".chars()).take(3).collect();
    let share = whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(fraction.parse().ok()?)?;
    (1..=1000).contains(&share).then_some(share)
}

/// Rotated features of a head, by which tokens its layer keeps.
#[derive(Clone, Copy, Debug, Default)]
struct Widths {
    global: u64,
    windowed: u64,
}

impl Widths {
    fn of(shape: &ModelShape) -> Self {
        let mut widths = Self::default();
        for attention in shape.layers.iter().filter_map(|layer| layer.attention) {
            let width = match attention.cache {
                CacheKind::Heads { key_dim, .. } => key_dim,
                CacheKind::Latent { rope_dim, .. } => rope_dim,
                // DeepSeek-V4 rotates 64 features of a head.
                CacheKind::Compressed { .. } => 64,
                CacheKind::Shared => 0,
            };
            let widest = match attention.span {
                Span::Full => &mut widths.global,
                Span::Sliding(_) | Span::Chunked(_) => &mut widths.windowed,
            };
            *widest = (*widest).max(width);
        }
        widths
    }

    fn widest(self) -> u64 {
        self.global.max(self.windowed)
    }
}

#[cfg(test)]
mod tests {
    use crate::model::hf_config::parse;

    /// A small config with more fields, and the elements of its tables.
    fn check(more: &str, expected: Option<u64>) {
        let text = format!(
            r#"{{"model_type": "qwen3", "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 1000{more}}}"#
        );
        let shape = parse(text.as_bytes(), "small").expect("a config");
        assert_eq!(shape.rotary_elements, expected, "{more}");
    }

    #[test]
    fn a_table_has_a_row_per_position_and_a_column_per_rotated_feature() {
        for (more, expected) in [
            ("", None),
            (r#", "max_position_embeddings": 1000"#, Some(64_000)),
            (r#", "max_position_embeddings": 1000, "partial_rotary_factor": 0.5"#, Some(32_000)),
            (r#", "max_position_embeddings": 1000, "partial_rotary_factor": 0.25"#, Some(16_000)),
            (r#", "max_position_embeddings": 1000, "partial_rotary_factor": "half""#, Some(64_000)),
            (
                r#", "max_position_embeddings": 1000, "rope_scaling": {"type": "linear", "factor": 8.0}"#,
                Some(512_000),
            ),
            (
                r#", "max_position_embeddings": 4000, "rope_scaling": {"rope_type": "yarn", "factor": 4,
                "original_max_position_embeddings": 1000}"#,
                Some(256_000),
            ),
            (
                r#", "max_position_embeddings": 1000, "rope_scaling": {"rope_type": "default", "mrope_section": [8, 12, 12]}"#,
                Some(256_000),
            ),
            (
                r#", "max_position_embeddings": 1000, "rope_scaling": {"type": "longrope",
                "original_max_position_embeddings": 100}"#,
                Some(70_400),
            ),
        ] {
            check(more, expected);
        }
    }
}
