//! Gemma 3n and Gemma 4: embeddings per layer, caches shared between layers, heads that differ by kind of layer.

use crate::model::hf_config::block::attention::{Gqa, QkNorm};
use crate::model::hf_config::block::mlp::{Ffn, Mlp, Moe};
use crate::model::hf_config::block::names::{LLAMA, MlpNames, MoeNames, Style};
use crate::model::hf_config::builder::Builder;
use crate::model::hf_config::config::fields::{
    EXPERTS, FACTOR, Fields, HEADS, LAYERS, TOKENS, VOCABULARY, WIDTH,
};
use crate::model::hf_config::families::family::{LayerRule, SPANS};
use crate::model::hf_config::families::layers::kinds;
use crate::model::hf_config::measures::{Dims, check_groups};
use crate::model::pattern::{Every, Kind};
use crate::model::{Layer, ParseError, Role, Span, Split};

/// The `model_type`s that are read here.
pub(crate) const TYPES: &[&str] = &["gemma3n_text", "gemma4_text"];

const NORMS: &[&str] = &[
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
];

/// Embeddings that every layer adds for itself.
#[derive(Clone, Copy, Debug)]
struct PerLayer {
    width: u64,
    vocabulary: u64,
}

impl PerLayer {
    fn read(f: &Fields<'_>, dims: &Dims) -> Result<Self, ParseError> {
        Ok(Self {
            width: f.or("hidden_size_per_layer_input", WIDTH, 0)?,
            vocabulary: f.or("vocab_size_per_layer_input", VOCABULARY, dims.vocabulary)?,
        })
    }

    fn open(&self, b: &mut Builder, dims: &Dims) {
        let width = dims.layers * self.width;
        b.embedding("model.embed_tokens_per_layer.weight", self.vocabulary, width, Split::Vocabulary);
        if self.width > 0 {
            let shape = (width, dims.hidden);
            let split = Split::Replicated;
            b.matrices("model.per_layer_model_projection.weight", Role::Mlp, 1, shape.0, shape.1, split);
            b.norm("model.per_layer_projection_norm", self.width, false);
        }
    }

    fn layer(&self, b: &mut Builder, hidden: u64) {
        if self.width > 0 {
            b.linear("per_layer_input_gate", Role::Mlp, (self.width, hidden), Split::Replicated, false);
            b.linear("per_layer_projection", Role::Mlp, (hidden, self.width), Split::Replicated, false);
            b.norm("post_per_layer_input_norm", hidden, false);
        }
    }
}

/// The tensors, caches and spans of a Gemma 3n or Gemma 4 config.
pub(crate) fn build(model_type: &str, f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let dims = Dims::read(f, b)?;
    let style = Style { norms: NORMS, tied: f.flag_or("tie_word_embeddings", true)?, ..LLAMA };
    let spans = spans(model_type, f, dims.layers)?;
    let shared = f.or("num_kv_shared_layers", LAYERS, if model_type == "gemma3n_text" { 15 } else { 0 })?;
    let first_shared = dims.layers.saturating_sub(shared);
    if model_type == "gemma3n_text" {
        third(f, b, &dims, &style, &spans, first_shared)
    } else {
        fourth(f, b, &dims, &style, &spans, first_shared)
    }
}

/// Which tokens each layer keeps.
fn spans(model_type: &str, f: &Fields<'_>, layers: u64) -> Result<Vec<Span>, ParseError> {
    let (period, window) = if model_type == "gemma3n_text" { (5, 512) } else { (6, 1024) };
    let every = LayerRule::Every(Every::full(period), &["sliding_window_pattern"], None);
    let window = f.or("sliding_window", TOKENS, window)?;
    let kinds = kinds(&[SPANS, every], f, Some(layers))?.unwrap_or_default();
    let span = |kind| if kind == Kind::Sliding && window > 0 { Span::Sliding(window) } else { Span::Full };
    Ok(kinds.into_iter().map(span).collect())
}

/// Gemma 4.
fn fourth(
    f: &Fields<'_>,
    b: &mut Builder,
    dims: &Dims,
    style: &Style,
    spans: &[Span],
    first_shared: u64,
) -> Result<(), ParseError> {
    let local = Gqa { qk_norm: QkNorm::Head, ..Gqa::plain(dims) };
    let global_dim = f.positive_or("global_head_dim", WIDTH, dims.head_dim)?;
    let global_heads = f.positive_or("num_global_key_value_heads", HEADS, dims.kv_heads)?;
    check_groups(f, "num_global_key_value_heads", dims.heads, global_heads)?;
    let key_is_value = f.flag_or("attention_k_eq_v", false)?;
    let global = Gqa {
        kv_heads: if key_is_value { global_heads } else { dims.kv_heads },
        key_dim: global_dim,
        value_dim: global_dim,
        key_is_value,
        ..local
    };
    let width = f.need(&["intermediate_size"], WIDTH)?;
    let double = f.flag_or("use_double_wide_mlp", false)?;
    let per_layer = PerLayer::read(f, dims)?;
    let moe = if f.flag_or("enable_moe_block", false)? {
        let count = f.need(&["num_experts"], EXPERTS)?;
        Some(Moe {
            count,
            per_token: f.or("top_k_experts", EXPERTS, 1)?.clamp(1, count),
            width: f.need(&["moe_intermediate_size", "expert_intermediate_size"], WIDTH)?,
            gated: true,
            ..Moe::default()
        })
    } else {
        None
    };
    let fused = MlpNames { module: "", gate: "", up: "", fused: Some("gate_up_proj"), down: "down_proj" };
    let names = MoeNames { module: "", router: "router.proj", expert: fused, ..LLAMA.moe };
    style.open(b, dims);
    per_layer.open(b, dims);
    for (layer, span) in (0..dims.layers).zip(spans) {
        b.begin_layer(format!("model.layers.{layer}."), layer);
        style.layer_norms(b, dims.hidden);
        let shares_cache = layer >= first_shared;
        let gqa = Gqa { shares_cache, ..if *span == Span::Full { global } else { local } };
        gqa.build(b, &style.attention, dims.hidden);
        let width = if double && shares_cache { 2 * width } else { width };
        style.ffn(b, dims.hidden, &Ffn::Dense(Mlp { width, gated: true, bias: false }));
        if let Some(moe) = &moe {
            moe.build(b, &names, dims.hidden);
            b.vector("router.scale", dims.hidden);
            b.vector("router.per_expert_scale", moe.count);
            for norm in [
                "pre_feedforward_layernorm_2",
                "post_feedforward_layernorm_1",
                "post_feedforward_layernorm_2",
            ] {
                b.norm(norm, dims.hidden, false);
            }
        }
        per_layer.layer(b, dims.hidden);
        b.vector("layer_scalar", 1);
        b.keep(Layer { attention: Some(gqa.kept(*span)), state: None });
    }
    style.close(b, dims);
    Ok(())
}

/// Gemma 3n: alternating updates of several residual streams (AltUp), and low-rank residuals (LAuReL).
fn third(
    f: &Fields<'_>,
    b: &mut Builder,
    dims: &Dims,
    style: &Style,
    spans: &[Span],
    first_shared: u64,
) -> Result<(), ParseError> {
    let gqa = Gqa { qk_norm: QkNorm::Head, ..Gqa::plain(dims) };
    let widths = match f.get("intermediate_size") {
        Some(serde_json::Value::Array(_)) => f.numbers("intermediate_size", WIDTH)?.unwrap_or_default(),
        _ => vec![f.need(&["intermediate_size"], WIDTH)?],
    };
    let streams = f.positive_or("altup_num_inputs", FACTOR, 4)?;
    let rank = f.positive_or("laurel_rank", WIDTH, 64)?;
    let per_layer = PerLayer::read(f, dims)?;
    let hidden = dims.hidden;
    style.open(b, dims);
    per_layer.open(b, dims);
    for stream in 0..streams.saturating_sub(1) {
        for name in ["altup_projections", "altup_unembed_projections"] {
            let name = format!("model.{name}.{stream}");
            b.linear(&name, Role::Mlp, (hidden, hidden), Split::Replicated, false);
        }
    }
    for (layer, span) in (0..dims.layers).zip(spans) {
        b.begin_layer(format!("model.layers.{layer}."), layer);
        style.layer_norms(b, hidden);
        gqa.build(b, &style.attention, hidden);
        let at = usize::try_from(layer).unwrap_or(usize::MAX);
        let width = widths.get(at).or(widths.last()).copied().unwrap_or(0);
        style.ffn(b, hidden, &Ffn::Dense(Mlp { width, gated: true, bias: false }));
        b.linear("laurel.linear_left", Role::Mlp, (rank, hidden), Split::Replicated, false);
        b.linear("laurel.linear_right", Role::Mlp, (hidden, rank), Split::Replicated, false);
        b.norm("laurel.post_laurel_norm", hidden, false);
        b.state("altup.prediction_coefs.weight", streams * streams, streams, Split::Replicated);
        b.state("altup.correction_coefs.weight", streams, streams, Split::Replicated);
        b.state("altup.modality_router.weight", streams, hidden, Split::Replicated);
        b.norm("altup.router_norm", hidden, false);
        b.vector("altup.correct_output_scale", hidden);
        per_layer.layer(b, hidden);
        let kept = Gqa { shares_cache: layer >= first_shared, ..gqa };
        b.keep(Layer { attention: Some(kept.kept(*span)), state: None });
    }
    style.close(b, dims);
    Ok(())
}
