//! JetMoE: a mixture of experts in attention too, whose experts share keys and values.

use crate::model::hf_config::block::names::{LLAMA, Style};
use crate::model::hf_config::builder::Builder;
use crate::model::hf_config::config::fields::{EXPERTS, Fields, HEADS, WIDTH};
use crate::model::hf_config::measures::Dims;
use crate::model::{Attention, CacheKind, Experts, Layer, ParseError, Role, Span, Split};

/// The `model_type`s that are read here.
pub(crate) const TYPES: &[&str] = &["jetmoe"];

/// Reads it.
pub(crate) fn build(f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let kv_heads = f.positive_or("num_key_value_heads", HEADS, 16)?;
    let dim = f.positive_or("kv_channels", WIDTH, 128)?;
    let count = f.positive_or("num_local_experts", EXPERTS, 8)?;
    let per_token = f.positive_or("num_experts_per_tok", EXPERTS, 2)?.min(count);
    let mut owned = f.owned();
    // Each expert that sees a token brings as many query heads as there are key-value heads.
    owned.insert_missing("num_attention_heads", serde_json::Value::from(kv_heads * per_token));
    let dims = Dims::read(&owned.fields(), b)?;
    let hidden = dims.hidden;
    let width = f.need(&["intermediate_size"], WIDTH)?;
    let style = Style { tied: f.flag_or("tie_word_embeddings", true)?, ..LLAMA };
    let inner = kv_heads * dim;
    b.shape.experts = Some(Experts { count, per_token, intermediate_size: width });
    b.widest_attention(dims.heads, dim);
    style.open(b, &dims);
    for layer in 0..dims.layers {
        b.begin_layer(format!("{}.{layer}.", style.layers), layer);
        style.layer_norms(b, hidden);
        let kv = Split::KeyValueHeads(kv_heads);
        b.linear("self_attention.kv_proj", Role::Attention, (2 * inner, hidden), kv, false);
        for (module, rows) in [("self_attention.experts", inner), ("mlp", width)] {
            // The MLP is gated.
            let up = if module == "mlp" { 2 * rows } else { rows };
            let name = |part: &str| format!("{module}.{part}");
            b.linear(&name("router.layer"), Role::Router, (count, hidden), Split::Replicated, false);
            b.matrices(&name("input_linear"), Role::Expert, count, up, hidden, Split::Rows);
            b.matrices(&name("output_linear"), Role::Expert, count, hidden, rows, Split::Columns);
            b.vector(&name("bias"), hidden);
        }
        let cache = CacheKind::Heads { kv_heads, key_dim: dim, value_dim: dim };
        b.keep(Layer { attention: Some(Attention { cache, span: Span::Full }), state: None });
    }
    style.close(b, &dims);
    Ok(())
}
