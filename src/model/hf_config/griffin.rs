//! Griffin (RecurrentGemma): gated linear recurrences, and attention within a window in every third layer.

use super::blocks::{AttentionNames, Gqa, Mlp};
use super::builder::Builder;
use super::decoder::{Dims, Style};
use super::dense_families::LLAMA;
use super::fields::{FACTOR, Fields, TOKENS, WIDTH};
use super::hybrid::plain;
use crate::model::{Layer, ParseError, Role, Span, Split, State, StateKind};

/// The `model_type`s that are read here.
pub(super) const TYPES: &[&str] = &["recurrent_gemma"];

/// Reads it.
pub(super) fn build(f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let dims = Dims::read(f, b)?;
    let hidden = dims.hidden;
    let style = Style {
        norm: "model.final_norm",
        norms: &["temporal_pre_norm", "channel_pre_norm"],
        attention: AttentionNames { module: "temporal_block", ..LLAMA.attention },
        tied: f.flag_or("tie_word_embeddings", true)?,
        ..LLAMA
    };
    let width = f.positive_or("lru_width", WIDTH, hidden)?;
    let taps = f.positive_or("conv1d_width", FACTOR, 4)?;
    let window = f.positive_or("attention_window_size", TOKENS, 2048)?;
    let kinds = f
        .texts("layer_types")?
        .or(f.texts("block_types")?)
        .or(f.texts("_block_types")?)
        .unwrap_or_else(|| vec!["recurrent", "recurrent", "attention"]);
    // What is written is the width of gate and up projection together.
    let mlp = Mlp { width: f.need(&["intermediate_size"], WIDTH)? / 2, gated: true, bias: true };
    let gqa = Gqa { out_bias: true, qkv_bias: f.flag_or("attention_bias", false)?, ..plain(&dims) };
    let state =
        State { kind: StateKind::Mamba1, conv_width: width, conv_kernel: taps, matrix: width, heads: 0 };
    style.open(b, &dims);
    for (layer, kind) in (0..dims.layers).zip(kinds.iter().cycle()) {
        b.begin_layer(format!("{}.{layer}.", style.layers), layer);
        style.layer_norms(b, hidden);
        let mut kept = Layer::default();
        if kind.contains("recurrent") || *kind == "linear_attention" {
            for part in ["linear_y", "linear_x"] {
                let name = format!("temporal_block.{part}");
                b.linear(&name, Role::Attention, (width, hidden), Split::Rows, true);
            }
            b.linear("temporal_block.linear_out", Role::Attention, (hidden, width), Split::Columns, true);
            b.state("temporal_block.conv_1d.weight", width, taps, Split::Rows);
            b.vector("temporal_block.conv_1d.bias", width);
            b.vector("temporal_block.rg_lru.recurrent_param", width);
            for gate in ["input_gate", "recurrent_gate"] {
                // One square block per head.
                let side = (width / dims.heads).max(1);
                b.state(&format!("temporal_block.rg_lru.{gate}_weight"), width, side, Split::Rows);
                b.vector(&format!("temporal_block.rg_lru.{gate}_bias"), width);
            }
            kept.state = Some(state);
        } else {
            gqa.build(b, &style.attention, hidden);
            kept.attention = Some(gqa.kept(Span::Sliding(window)));
        }
        mlp.build(b, &LLAMA.mlp, "mlp_block", Role::Mlp, hidden);
        b.keep(kept);
    }
    style.close(b, &dims);
    Ok(())
}
