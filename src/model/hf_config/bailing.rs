//! Ling and Ring with linear attention: groups of layers, of which the last attends to every token.

use super::blocks::{AttentionNames, Gqa, Mlp, Moe, MoeNames, QkNorm};
use super::builder::Builder;
use super::decoder::{Dims, Ffn, Style};
use super::dense_families::LLAMA;
use super::fields::{EXPERTS, FACTOR, Fields, HEADS, LAYERS, WIDTH};
use super::hybrid::plain;
use super::mla::Mla;
use super::moe::DEEPSEEK_MOE;
use crate::model::{Layer, ParseError, Role, Span, Split, State, StateKind};

/// The `model_type`s that are read here.
pub(super) const TYPES: &[&str] = &["bailing_hybrid", "bailing_moe_linear"];

/// The linear attention of a layer: its heads, their width, and the taps of its convolution (0 for none).
#[derive(Clone, Copy, Debug)]
struct Linear {
    heads: u64,
    dim: u64,
    taps: u64,
}

impl Linear {
    /// Kimi's delta attention, with gates of full rank.
    fn delta(self, b: &mut Builder, hidden: u64) {
        let width = self.heads * self.dim;
        let attention = Role::Attention;
        for part in ["q_proj", "k_proj", "v_proj", "f_proj", "g_proj"] {
            b.linear(&format!("self_attn.{part}"), attention, (width, hidden), Split::Rows, false);
        }
        b.state("self_attn.conv1d.weight", 3 * width, self.taps, Split::Rows);
        b.state("self_attn.A_log", 1, self.heads, Split::Columns);
        b.state("self_attn.dt_bias", 1, width, Split::Columns);
        b.linear("self_attn.b_proj", attention, (self.heads, hidden), Split::Rows, false);
        b.norm("self_attn.o_norm", self.dim, false);
        b.linear("self_attn.o_proj", attention, (hidden, width), Split::Columns, false);
    }

    /// Lightning attention, with a gate and norms.
    fn lightning(self, b: &mut Builder, hidden: u64) {
        let width = self.heads * self.dim;
        let attention = Role::Attention;
        b.linear("attention.query_key_value", attention, (3 * width, hidden), Split::Rows, false);
        b.linear("attention.g_proj", attention, (width, hidden), Split::Rows, false);
        b.linear("attention.dense", attention, (hidden, width), Split::Columns, false);
        b.norm("attention.g_norm", width, false);
        b.norm("attention.query_layernorm", self.dim, false);
        b.norm("attention.key_layernorm", self.dim, false);
    }

    fn kept(self) -> State {
        State {
            kind: if self.taps > 0 { StateKind::KimiDelta } else { StateKind::Linear },
            conv_width: if self.taps > 0 { 3 * self.heads * self.dim } else { 0 },
            conv_kernel: self.taps.max(1),
            matrix: (self.heads * self.dim).saturating_mul(self.dim),
            heads: self.heads,
        }
    }
}

/// The groups of layers of a Ling or Ring config, linear attention and full.
pub(super) fn build(model_type: &str, f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let dims = Dims::read(f, b)?;
    let hidden = dims.hidden;
    let delta = model_type == "bailing_hybrid";
    let style = Style {
        embed: if delta { LLAMA.embed } else { "model.word_embeddings" },
        attention: AttentionNames {
            module: "attention",
            fused: Some("query_key_value"),
            out: "dense",
            query_norm: "query_layernorm",
            key_norm: "key_layernorm",
            ..LLAMA.attention
        },
        moe: MoeNames { correction: "gate.expert_bias", ..DEEPSEEK_MOE },
        tied: f.flag_or("tie_word_embeddings", false)?,
        ..LLAMA
    };
    let linear = Linear {
        heads: f.positive_or("linear_num_heads", HEADS, dims.heads)?,
        dim: f.positive_or("linear_head_dim", WIDTH, dims.head_dim)?,
        taps: if delta {
            f.any(&["linear_conv_kernel_dim", "short_conv_kernel_size"], FACTOR)?.unwrap_or(4)
        } else {
            0
        },
    };
    let group = f.positive_or("layer_group_size", FACTOR, 5)?;
    let kinds = f.texts("layer_types")?;
    // What does not fill a group at the end attends to every token.
    let whole = dims.layers / group * group;
    let full = |layer: u64| match &kinds {
        Some(kinds) => usize::try_from(layer).ok().and_then(|at| kinds.get(at)) == Some(&"full_attention"),
        None => layer >= whole || (layer + 1).is_multiple_of(group),
    };
    let count = f.need(&["num_experts"], EXPERTS)?;
    let width = f.need(&["moe_intermediate_size"], WIDTH)?;
    let per_token = f.any(&["num_experts_per_tok", "num_experts_per_token"], EXPERTS)?.unwrap_or(1);
    let moe = Moe {
        count,
        per_token: per_token.clamp(1, count),
        width,
        shared_width: width * f.or("num_shared_experts", EXPERTS, 0)?,
        gated: true,
        correction: f.flag_or("moe_router_enable_expert_bias", true)?,
        ..Moe::default()
    };
    let dense = Mlp { width: f.need(&["intermediate_size"], WIDTH)?, gated: true, bias: false };
    let first = f.or("first_k_dense_replace", LAYERS, 0)?;
    let mla = if delta { Some(Mla::read(f, dims.heads)?) } else { None };
    let gqa = Gqa { qk_norm: QkNorm::Head, ..plain(&dims) };
    style.open(b, &dims);
    for layer in 0..dims.layers {
        b.begin_layer(format!("{}.{layer}.", style.layers), layer);
        style.layer_norms(b, hidden);
        let mut kept = Layer::default();
        match (full(layer), &mla) {
            (true, Some(mla)) => {
                mla.build(b, hidden);
                // One gate per head.
                b.linear("self_attn.g_proj", Role::Attention, (dims.heads, hidden), Split::Rows, false);
                kept.attention = Some(mla.kept());
            }
            (true, None) => {
                gqa.build(b, &style.attention, hidden);
                kept.attention = Some(gqa.kept(Span::Full));
            }
            (false, _) => {
                if delta {
                    linear.delta(b, hidden);
                } else {
                    linear.lightning(b, hidden);
                }
                kept.state = Some(linear.kept());
            }
        }
        style.ffn(b, hidden, &if layer < first { Ffn::Dense(dense) } else { Ffn::Moe(moe) });
        b.keep(kept);
    }
    style.close(b, &dims);
    Ok(())
}
