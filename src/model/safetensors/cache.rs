//! What the tensors alone tell of the cache: an upper bound, for models without a config that is understood.

use std::collections::BTreeMap;

use super::entry::WHAT;
use super::names;
use super::pack::Weight;
use crate::model::{Attention, CacheKind, Layer, ParseError, Role, Span};

/// The most layers that are believed.
const MAX_LAYERS: usize = 4096;

/// A cache that is at least as large as the model's.
pub(super) struct Bound {
    pub(super) layers: Vec<Layer>,
    pub(super) kv_heads: u64,
    pub(super) heads: u64,
    pub(super) head_dim: u64,
}

/// The widths of one layer's projections.
#[derive(Clone, Copy, Default)]
struct Projections {
    query: u64,
    key: u64,
    value: u64,
    fused: u64,
    /// Columns of the output projection: what the value heads come to for all query heads.
    output: u64,
    latent: u64,
    latent_rank: u64,
    /// Length of a norm over one head.
    head: u64,
    recurrent: bool,
}

/// The bound, from the key and value projections of each layer.
///
/// # Errors
/// If a layer keeps a state whose size the tensors do not tell, or nothing is recognised.
pub(super) fn upper_bound(weights: &[Weight]) -> Result<Bound, ParseError> {
    let mut layers: BTreeMap<u32, Projections> = BTreeMap::new();
    for weight in weights {
        let class = names::classify(&weight.name, weight.vector);
        let Some(layer) = class.layer else { continue };
        if layers.len() >= MAX_LAYERS && !layers.contains_key(&layer) {
            return Err(ParseError::TooLarge {
                what: WHAT,
                problem: format!("it names more than {MAX_LAYERS} layers"),
            });
        }
        let found = layers.entry(layer).or_default();
        if class.role == Role::State {
            found.recurrent = true;
        }
        record(found, weight);
    }
    if layers.values().any(|found| found.recurrent) {
        return Err(refusal("recurrent layers"));
    }
    let mut bound = Bound { layers: Vec::with_capacity(layers.len()), kv_heads: 0, heads: 0, head_dim: 0 };
    for found in layers.values() {
        bound.layers.push(bound_of(found, &mut bound.kv_heads, &mut bound.heads, &mut bound.head_dim)?);
    }
    if bound.layers.is_empty() {
        return Err(refusal("no decoder layers"));
    }
    Ok(bound)
}

fn record(found: &mut Projections, weight: &Weight) {
    let Some(last) = weight.name.split('.').rev().find(|part| *part != "weight") else { return };
    let widest = |width: &mut u64, seen: u64| *width = (*width).max(seen);
    if weight.vector {
        match last {
            "k_norm" | "q_norm" | "k_layernorm" | "q_layernorm" => widest(&mut found.head, weight.columns),
            "kv_a_layernorm" => widest(&mut found.latent_rank, weight.columns),
            _ => {}
        }
        return;
    }
    // Cross-attention caches the encoder's keys, which is a bound that the encoder's length would decide.
    match last {
        "q_proj" | "wq" => widest(&mut found.query, weight.rows),
        "k_proj" | "wk" => widest(&mut found.key, weight.rows),
        "v_proj" | "wv" => widest(&mut found.value, weight.rows),
        "qkv_proj" | "query_key_value" | "Wqkv" | "W_pack" | "wqkv" => widest(&mut found.fused, weight.rows),
        // GPT-2 stores it the other way round: the longer side is the output.
        "c_attn" => widest(&mut found.fused, weight.rows.max(weight.columns)),
        "o_proj" | "wo" => widest(&mut found.output, weight.columns),
        "dense" | "out_proj" | "c_proj"
            if weight.name.contains("attn") || weight.name.contains("attention") =>
        {
            widest(&mut found.output, weight.columns);
        }
        "kv_a_proj_with_mqa" => widest(&mut found.latent, weight.rows),
        _ => {}
    }
}

fn bound_of(
    found: &Projections,
    most_kv_heads: &mut u64,
    most_heads: &mut u64,
    widest_head: &mut u64,
) -> Result<Layer, ParseError> {
    let cache = if found.latent > 0 {
        let rank =
            if (1..=found.latent).contains(&found.latent_rank) { found.latent_rank } else { found.latent };
        CacheKind::Latent { rank, rope_dim: found.latent - rank, index_dim: 0 }
    } else {
        let (key, value) = if found.key > 0 {
            // Without a value projection the keys serve as values too, and both are cached.
            (found.key, if found.value > 0 { found.value } else { found.key })
        } else if found.fused > 0 {
            // Queries, keys and values: what the output projection takes is the queries' share.
            let rest = found.fused.saturating_sub(found.output);
            let both = if found.output == 0 || rest == 0 { found.fused } else { rest };
            (both.div_ceil(2), both.div_ceil(2))
        } else {
            return Err(refusal("layers without key and value projections"));
        };
        let head_dim = head_dim(found.head, key, value);
        let kv_heads = (key / head_dim).max(1);
        *most_kv_heads = (*most_kv_heads).max(kv_heads);
        *widest_head = (*widest_head).max(head_dim);
        let queries = if found.query > 0 { found.query } else { found.output };
        *most_heads = (*most_heads).max((queries / head_dim).max(kv_heads));
        CacheKind::Heads { kv_heads, key_dim: key.div_ceil(kv_heads), value_dim: value.div_ceil(kv_heads) }
    };
    Ok(Layer { attention: Some(Attention { cache, span: Span::Full }), state: None })
}

/// The width of a head: that of a norm over one, or the usual 128 or 64; else one head is all there is.
fn head_dim(norm: u64, key: u64, value: u64) -> u64 {
    [norm, 128, 64]
        .into_iter()
        // A norm over all heads at once (OLMo 2) is wider than any head.
        .find(|&width| (1..=512).contains(&width) && key.is_multiple_of(width) && value.is_multiple_of(width))
        .unwrap_or(key.max(1))
}

fn refusal(found: &'static str) -> ParseError {
    ParseError::Malformed {
        what: WHAT,
        problem: format!(
            "the tensors have {found}, which do not tell what is cached per token; give the model's config.json too"
        ),
    }
}
