//! Zamba: Mamba layers, some of which also pass through one of few shared transformer blocks.

use crate::model::hf_config::block::mamba::Mamba2;
use crate::model::hf_config::block::names::{LLAMA, Style};
use crate::model::hf_config::builder::Builder;
use crate::model::hf_config::config::fields::{FACTOR, Fields, HEADS, LAYERS, WIDTH};
use crate::model::hf_config::measures::Dims;
use crate::model::{Attention, CacheKind, Layer, ParseError, Role, Span, Split, State, StateKind};

/// The `model_type`s that are read here.
pub(crate) const TYPES: &[&str] = &["zamba", "zamba2"];

/// The Mamba layers of a Zamba config, and the blocks that they share.
pub(crate) fn build(model_type: &str, f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    if model_type == "zamba" { first(f, b) } else { second(f, b) }
}

/// The names that both have.
fn style(f: &Fields<'_>) -> Result<Style, ParseError> {
    Ok(Style {
        tied: f.flag_or("tie_word_embeddings", true)?,
        norm: "model.final_layernorm",
        norms: &["input_layernorm"],
        ..LLAMA
    })
}

/// The first: one shared block, which reads the stream and the embeddings side by side, and Mamba-1 in groups.
fn first(f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let dims = Dims::read(f, b)?;
    let hidden = dims.hidden;
    let style = style(f)?;
    let groups = f.positive_or("n_mamba_heads", HEADS, 2)?;
    let inner = hidden * f.positive_or("mamba_expand", FACTOR, 2)?;
    let states = f.positive_or("mamba_d_state", WIDTH, 16)?;
    let taps = f.positive_or("mamba_d_conv", FACTOR, 4)?;
    let rank = match f.get("mamba_dt_rank") {
        None | Some(serde_json::Value::String(_)) => hidden.div_ceil(16),
        _ => f.need(&["mamba_dt_rank"], WIDTH)?,
    };
    let wide = f.positive_or("attention_hidden_size", WIDTH, 2 * hidden)?;
    let head_dim = f.positive_or("attention_head_dim", WIDTH, (wide / dims.heads).max(1))?;
    let width = f.need(&["intermediate_size"], WIDTH)?;
    let period = f.positive_or("attn_layer_period", FACTOR, 6)?;
    let offset = f.or("attn_layer_offset", FACTOR, 4)?;
    let kinds = f.texts("layers_block_type")?;
    let hybrid = |layer: u64| match kinds.as_ref().and_then(|kinds| kinds.get(usize::try_from(layer).ok()?)) {
        Some(kind) => *kind == "hybrid",
        None => layer % period == offset % period && layer >= offset.min(period),
    };
    b.widest_attention(dims.heads, head_dim);
    b.shape.intermediate_size = width;
    style.open(b, &dims);
    let attended = dims.heads * head_dim;
    let kv_rows = dims.kv_heads * head_dim;
    let kv = Split::KeyValueHeads(dims.kv_heads);
    b.begin_block("model.shared_transf.");
    b.norm("input_layernorm", wide, false);
    b.norm("pre_ff_layernorm", hidden, false);
    b.linear("self_attn.q_proj", Role::Attention, (attended, wide), Split::Rows, false);
    b.linear("self_attn.k_proj", Role::Attention, (kv_rows, wide), kv, false);
    b.linear("self_attn.v_proj", Role::Attention, (kv_rows, wide), kv, false);
    b.linear("self_attn.o_proj", Role::Attention, (hidden, attended), Split::Columns, false);
    b.linear("feed_forward.gate_proj", Role::Mlp, (width, hidden), Split::Rows, false);
    b.linear("feed_forward.up_proj", Role::Mlp, (width, hidden), Split::Rows, false);
    b.linear("feed_forward.down_proj", Role::Mlp, (hidden, width), Split::Columns, false);
    let bias = f.flag_or("mamba_proj_bias", false)?;
    let state = State {
        kind: StateKind::Mamba1,
        conv_width: inner,
        conv_kernel: taps,
        matrix: inner.saturating_mul(states),
        heads: 0,
    };
    for layer in 0..dims.layers {
        b.begin_layer(format!("model.layers.{layer}."), layer);
        style.layer_norms(b, hidden);
        b.linear("mamba.in_proj", Role::Attention, (2 * inner, hidden), Split::Rows, bias);
        b.state("mamba.conv1d.weight", inner, taps, Split::Rows);
        if f.flag_or("mamba_conv_bias", true)? {
            b.vector("mamba.conv1d.bias", inner);
        }
        // Each group has projections of its own.
        let part = inner / groups;
        b.state("mamba.x_proj_weight", groups * (rank + 2 * states), part, Split::Replicated);
        b.state("mamba.dt_proj_weight", inner, rank, Split::Rows);
        b.vector("mamba.dt_proj_bias", inner);
        b.state("mamba.A_log", inner, states, Split::Rows);
        b.vector("mamba.D", inner);
        b.linear("mamba.out_proj", Role::Attention, (hidden, inner), Split::Columns, bias);
        let mut kept = Layer { attention: None, state: Some(state) };
        if hybrid(layer) {
            b.linear("linear", Role::Mlp, (hidden, hidden), Split::Replicated, false);
            let cache = CacheKind::Heads { kv_heads: dims.kv_heads, key_dim: head_dim, value_dim: head_dim };
            kept.attention = Some(Attention { cache, span: Span::Full });
        }
        b.keep(kept);
    }
    style.close(b, &dims);
    Ok(())
}

/// The second.
fn second(f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let dims = Dims::read(f, b)?;
    let hidden = dims.hidden;
    let style = style(f)?;
    let expand = f.positive_or("mamba_expand", FACTOR, 2)?;
    let mamba = Mamba2 {
        inner: hidden * expand,
        heads: f.positive_or("n_mamba_heads", HEADS, 8)?,
        groups: f.positive_or("mamba_ngroups", HEADS, 1)?,
        state: f.positive_or("mamba_d_state", WIDTH, 64)?,
        kernel: f.positive_or("mamba_d_conv", FACTOR, 4)?,
        conv_bias: f.flag_or("use_conv_bias", true)?,
        bias: f.flag_or("add_bias_linear", false)?,
        normed: true,
    };
    let shared = f.positive_or("num_mem_blocks", LAYERS, 1)?;
    let rank = f.positive_or("adapter_rank", WIDTH, 128)?;
    let attention_adapters = f.flag_or("use_shared_attention_adapter", false)?;
    let width = f.positive_or("intermediate_size", WIDTH, 4 * hidden)?;
    let hybrid = hybrid_layers(f)?;
    // The shared blocks read the residual stream and the embeddings side by side.
    let wide = 2 * hidden;
    let head_dim = f.positive_or("attention_head_dim", WIDTH, (wide / dims.heads).max(1))?;
    let attended = dims.heads * head_dim;
    b.widest_attention(dims.heads, head_dim);
    b.shape.intermediate_size = width;
    style.open(b, &dims);
    for block in 0..shared {
        b.begin_block(format!("model.shared_transformer.{block}."));
        b.norm("input_layernorm", wide, false);
        b.norm("pre_ff_layernorm", hidden, false);
        let kv_rows = dims.kv_heads * head_dim;
        let kv = Split::KeyValueHeads(dims.kv_heads);
        b.linear("self_attn.q_proj", Role::Attention, (attended, wide), Split::Rows, false);
        b.linear("self_attn.k_proj", Role::Attention, (kv_rows, wide), kv, false);
        b.linear("self_attn.v_proj", Role::Attention, (kv_rows, wide), kv, false);
        b.linear("self_attn.o_proj", Role::Attention, (hidden, attended), Split::Columns, false);
        b.linear("feed_forward.gate_up_proj", Role::Mlp, (2 * width, hidden), Split::Rows, false);
        b.linear("feed_forward.down_proj", Role::Mlp, (hidden, width), Split::Columns, false);
    }
    let cache = CacheKind::Heads { kv_heads: dims.kv_heads, key_dim: head_dim, value_dim: head_dim };
    for layer in 0..dims.layers {
        b.begin_layer(format!("model.layers.{layer}."), layer);
        style.layer_norms(b, hidden);
        mamba.build(b, "mamba", hidden);
        let mut kept = Layer { attention: None, state: Some(mamba.kept()) };
        if hybrid.contains(&layer) {
            b.linear("linear", Role::Mlp, (hidden, hidden), Split::Replicated, false);
            let whole = Split::Replicated;
            b.linear("gate_up_proj_adapter.0", Role::Mlp, (rank, hidden), whole, false);
            b.linear("gate_up_proj_adapter.1", Role::Mlp, (2 * width, rank), whole, false);
            for part in ["q", "k", "v"].into_iter().filter(|_| attention_adapters) {
                let name = |at: u8| format!("linear_{part}_adapter.{at}");
                b.linear(&name(0), Role::Attention, (rank, wide), whole, false);
                b.linear(&name(1), Role::Attention, (attended, rank), whole, false);
            }
            // The weights are shared, the keys and values are not.
            kept.attention = Some(Attention { cache, span: Span::Full });
        }
        b.keep(kept);
    }
    style.close(b, &dims);
    Ok(())
}

/// The layers that pass through a shared block.
fn hybrid_layers(f: &Fields<'_>) -> Result<Vec<u64>, ParseError> {
    if let Some(listed) = f.numbers("hybrid_layer_ids", LAYERS)? {
        return Ok(listed);
    }
    let kinds = f
        .texts("layers_block_type")?
        .ok_or_else(|| f.error("layers_block_type", "is missing; write mamba or hybrid for every layer"))?;
    Ok((0..).zip(kinds).filter(|(_, kind)| *kind == "hybrid").map(|(layer, _)| layer).collect())
}
