//! What no table says of families with experts.

use crate::model::hf_config::block::attention::Gqa;
use crate::model::hf_config::block::mlp::{Ffn, Moe};
use crate::model::hf_config::builder::Builder;
use crate::model::hf_config::config::fields::{EXPERTS, Fields, HEADS, WIDTH};
use crate::model::hf_config::measures::check_groups;
use crate::model::hf_config::plan::Plan;
use crate::model::{Confidence, ParseError, Span};

/// The layers with a window may have other heads (MiMo-V2, Step-3.5).
fn windowed(plan: &mut Plan, change: impl Fn(&mut Gqa) -> Result<(), ParseError>) -> Result<(), ParseError> {
    for layer in plan.layers.iter_mut().filter(|layer| !matches!(layer.mixer, Some((_, Span::Full)))) {
        layer.heads().map_or(Ok(()), &change)?;
    }
    Ok(())
}

pub(super) fn mimo(f: &Fields<'_>, plan: &mut Plan) -> Result<(), ParseError> {
    windowed(plan, |gqa| {
        gqa.heads = f.positive_or("swa_num_attention_heads", HEADS, gqa.heads)?;
        gqa.kv_heads = f.positive_or("swa_num_key_value_heads", HEADS, gqa.kv_heads)?;
        gqa.key_dim = f.positive_or("swa_head_dim", WIDTH, gqa.key_dim)?;
        gqa.value_dim = f.positive_or("swa_v_head_dim", WIDTH, gqa.value_dim)?;
        gqa.sinks = f.flag_or("add_swa_attention_sink_bias", false)?;
        check_groups(f, "swa_num_key_value_heads", gqa.heads, gqa.kv_heads)
    })
}

pub(super) fn step(f: &Fields<'_>, plan: &mut Plan) -> Result<(), ParseError> {
    let kv_heads = f.positive_or("num_attention_groups", HEADS, plan.dims.kv_heads)?;
    check_groups(f, "num_attention_groups", plan.dims.heads, kv_heads)?;
    plan.layers.iter_mut().filter_map(|layer| layer.heads()).for_each(|gqa| gqa.kv_heads = kv_heads);
    let Some(other) = f.object("attention_other_setting")? else { return Ok(()) };
    windowed(plan, |gqa| {
        gqa.heads = other.positive_or("num_attention_heads", HEADS, gqa.heads)?;
        gqa.kv_heads = other.positive_or("num_attention_groups", HEADS, gqa.kv_heads)?;
        gqa.key_dim = other.positive_or("head_dim", WIDTH, gqa.key_dim)?;
        gqa.value_dim = gqa.key_dim;
        check_groups(&other, "num_attention_groups", gqa.heads, gqa.kv_heads)
    })
}

/// Heads and width of the index that picks the blocks a sparse layer attends to.
pub(super) fn minimax_m3(f: &Fields<'_>, plan: &mut Plan, b: &mut Builder) -> Result<(), ParseError> {
    if let Some(sparse) = f.object("sparse_attention_config")? {
        let heads = sparse.or("sparse_num_index_heads", HEADS, 0)?;
        let dim = sparse.or("sparse_index_dim", WIDTH, 0)?;
        b.shape.cache_confidence = Confidence::Derived;
        b.note(
            "The index keys of the sparse attention layers are counted as one vector per token and layer.",
        );
        let indexed = plan.layers.iter_mut().filter(|layer| layer.is_sparse() && heads > 0 && dim > 0);
        for gqa in indexed.filter_map(|layer| layer.heads()) {
            (gqa.index_heads, gqa.index_dim) = (heads, dim);
        }
    }
    b.described("This architecture");
    Ok(())
}

pub(super) fn grok(f: &Fields<'_>, plan: &mut Plan) -> Result<(), ParseError> {
    let residual = f.flag_or("residual_moe", false)?;
    plan.style.tied = f.flag_or("tie_word_embeddings", !residual)?;
    if residual {
        let width = f.need(&["intermediate_size"], WIDTH)?;
        for layer in &mut plan.layers {
            if let Ffn::Moe(moe) = &mut layer.ffn {
                moe.shared_width = width;
            }
        }
    }
    Ok(())
}

/// The experts that ERNIE 4.5 VL keeps for images: the second entries of its lists.
pub(super) fn ernie_vl(f: &Fields<'_>, plan: &mut Plan) -> Result<(), ParseError> {
    let second = |key: &str, limit, default: u64| match f.get(key) {
        Some(serde_json::Value::Array(_)) => {
            Ok(f.numbers(key, limit)?.and_then(|each| each.get(1).copied()).unwrap_or(0))
        }
        _ => Ok::<u64, ParseError>(default),
    };
    for layer in &mut plan.layers {
        let Ffn::Moe(moe) = layer.ffn else { continue };
        let width = second("moe_intermediate_size", WIDTH, 512)?;
        let count = second("moe_num_experts", EXPERTS, moe.count)?;
        let eyes = Moe { count, width, shared_width: 0, ..moe };
        layer.eyes = (width > 0 && count > 0).then_some((eyes, "mlp.vision_moe"));
    }
    Ok(())
}
