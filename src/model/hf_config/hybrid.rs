//! Hybrids of attention and recurrent layers.

use super::blocks::{AttentionNames, Gqa, Mlp, MlpNames, Moe, MoeNames, QkNorm};
use super::builder::Builder;
use super::decoder::{Dims, Ffn, Style};
use super::dense_families::LLAMA;
use super::fields::{EXPERTS, FACTOR, Fields, HEADS, LAYERS, TOKENS, WIDTH};
use super::mla::Mla;
use super::moe::{DEEPSEEK_MOE, GRANITE_MOE, MIXTRAL_MOE, next_token_layers, sparse_layers};
use super::recurrent::{GatedDelta, KimiDelta, Lightning, Mamba1, Mamba2};
use crate::model::{Layer, ParseError, Role, Span, Split, State, StateKind};
use crate::precision::CachePrecision;
use crate::units::shorten;

/// The `model_type`s that are read here.
pub(super) const TYPES: &[&str] = &[
    "qwen3_next",
    "qwen3_5_text",
    "qwen3_5_moe_text",
    "kimi_linear",
    "jamba",
    "falcon_h1",
    "bamba",
    "granitemoehybrid",
    "lfm2",
    "lfm2_moe",
    "minimax",
    "minimax_text_01",
    "minimax_m1",
    "olmo_hybrid",
    "lfm3",
];

/// The layers of a hybrid config, each of its own kind.
pub(super) fn build(model_type: &str, f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    b.shape.state_precision = state_precision(f)?;
    match model_type {
        "qwen3_next" | "qwen3_5_text" | "qwen3_5_moe_text" => qwen(model_type, f, b),
        "kimi_linear" => kimi_linear(f, b),
        "jamba" => jamba(f, b),
        "falcon_h1" => falcon_h1(f, b),
        "bamba" | "granitemoehybrid" => granite(model_type, f, b),
        "olmo_hybrid" => olmo_hybrid(f, b),
        "lfm2" | "lfm2_moe" | "lfm3" => lfm2(model_type, f, b),
        _ => minimax(f, b),
    }
}

/// The element type of recurrent state, where the config fixes it.
pub(super) fn state_precision(f: &Fields<'_>) -> Result<Option<CachePrecision>, ParseError> {
    for key in ["mamba_ssm_cache_dtype", "mamba_ssm_dtype", "mamba_cache_dtype"] {
        match f.text(key)? {
            Some("float32") => return Ok(Some(CachePrecision::Fp32)),
            Some("float16") => return Ok(Some(CachePrecision::Fp16)),
            Some("bfloat16") => return Ok(Some(CachePrecision::Bf16)),
            _ => {}
        }
    }
    Ok(None)
}

/// Grouped-query attention as the measures have it.
pub(super) fn plain(dims: &Dims) -> Gqa {
    Gqa {
        heads: dims.heads,
        kv_heads: dims.kv_heads,
        key_dim: dims.head_dim,
        value_dim: dims.head_dim,
        ..Gqa::default()
    }
}

/// The kinds of the layers, one per layer.
fn kinds<'a>(f: &Fields<'a>, key: &str, layers: u64) -> Result<Option<Vec<&'a str>>, ParseError> {
    let Some(kinds) = f.texts(key)? else { return Ok(None) };
    if u64::try_from(kinds.len()).unwrap_or(u64::MAX) < layers {
        return Err(
            f.error(key, format!("has {} entries for {layers} layers; write one per layer", kinds.len()))
        );
    }
    Ok(Some(kinds))
}

fn unknown_kind(f: &Fields<'_>, key: &str, kind: &str, known: &str) -> ParseError {
    f.error(key, format!("has the entry \"{}\"; known are {known}", shorten(kind)))
}

/// Qwen3-Next and Qwen3.5: three gated delta nets to one gated attention.
fn qwen(model_type: &str, f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let dims = Dims::read(f, b)?;
    let style = Style { tied: f.flag_or("tie_word_embeddings", false)?, ..LLAMA };
    let delta = GatedDelta::read(f, model_type == "qwen3_next")?;
    let bias = f.flag_or("attention_bias", false)?;
    let gqa = Gqa {
        qk_norm: QkNorm::Head,
        gated: f.flag_or("attn_output_gate", true)?,
        qkv_bias: bias,
        out_bias: bias,
        ..plain(&dims)
    };
    let ffn = match f.any(&["num_experts"], EXPERTS)?.filter(|count| *count > 0) {
        Some(count) => Ffn::Moe(Moe {
            count,
            per_token: f.or("num_experts_per_tok", EXPERTS, 1)?.clamp(1, count),
            width: f.need(&["moe_intermediate_size"], WIDTH)?,
            shared_width: f.or("shared_expert_intermediate_size", WIDTH, 0)?,
            shared_gate: true,
            gated: true,
            ..Moe::default()
        }),
        None => Ffn::Dense(Mlp { width: f.need(&["intermediate_size"], WIDTH)?, gated: true, bias: false }),
    };
    let sparse = sparse_layers(model_type, f, dims.layers)?;
    let interval = f.positive_or("full_attention_interval", FACTOR, 4)?;
    let kinds = kinds(f, "layer_types", dims.layers)?;
    style.open(b, &dims);
    for layer in 0..dims.layers {
        b.begin_layer(format!("{}.{layer}.", style.layers), layer);
        let at = usize::try_from(layer).unwrap_or(usize::MAX);
        let full = match kinds.as_ref().and_then(|kinds| kinds.get(at)) {
            Some(&"full_attention") => true,
            Some(&"linear_attention") => false,
            Some(other) => {
                return Err(unknown_kind(f, "layer_types", other, "full_attention and linear_attention"));
            }
            None => (layer + 1).is_multiple_of(interval),
        };
        style.layer_norms(b, dims.hidden);
        let mut kept = Layer::default();
        if full {
            gqa.build(b, &style.attention, dims.hidden);
            kept.attention = Some(gqa.kept(Span::Full));
        } else {
            delta.build(b, dims.hidden);
            kept.state = Some(delta.kept());
        }
        let dense = !sparse.get(at).copied().unwrap_or(true);
        match f.number("intermediate_size", WIDTH)? {
            Some(width) if dense && matches!(ffn, Ffn::Moe(_)) => {
                style.ffn(b, dims.hidden, &Ffn::Dense(Mlp { width, gated: true, bias: false }));
            }
            _ => style.ffn(b, dims.hidden, &ffn),
        }
        b.keep(kept);
    }
    style.close(b, &dims);
    // Qwen3-Next has one in every checkpoint, and does not say so.
    let undeclared = u64::from(model_type == "qwen3_next");
    let drafts = f.or("mtp_num_hidden_layers", LAYERS, undeclared)?;
    next_token_layers(b, &dims, drafts, ("mtp.layers", 0), |b| {
        let block = super::decoder::Block { attention: Some((gqa, Span::Full)), ffn };
        style.block(b, &dims, &block);
    });
    Ok(())
}

/// Kimi Linear and K3: delta attention and latent attention, by lists that count layers from 1.
fn kimi_linear(f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let dims = Dims::read(f, b)?;
    let moe_names = MoeNames { ..DEEPSEEK_MOE };
    let style = Style { tied: f.flag_or("tie_word_embeddings", false)?, moe: moe_names, ..LLAMA };
    let (delta, full) = match f.object("linear_attn_config")? {
        Some(linear) => {
            (KimiDelta::read(&linear)?, linear.numbers("full_attn_layers", LAYERS)?.unwrap_or_default())
        }
        // As transformers writes it: a kind per layer.
        None if f.has("layer_types") => {
            let kinds = kinds(f, "layer_types", dims.layers)?.unwrap_or_default();
            let full = (1..).zip(kinds).filter(|(_, kind)| *kind == "full_attention");
            (KimiDelta::flat(f)?, full.map(|(layer, _)| layer).collect())
        }
        None => (KimiDelta::read(&f.need_object("linear_attn_config")?)?, Vec::new()),
    };
    let mla = Mla::read(f, dims.heads)?;
    let mut moe = super::mla::experts(f)?;
    let latent = f.or("routed_expert_hidden_size", WIDTH, 0)?;
    if latent > 0 {
        b.described("Kimi K3");
    }
    if let Some(moe) = &mut moe {
        moe.input = latent;
        moe.correction = true;
    }
    let sparse = sparse_layers("kimi_linear", f, dims.layers)?;
    let width = f.need(&["intermediate_size"], WIDTH)?;
    style.open(b, &dims);
    for layer in 0..dims.layers {
        b.begin_layer(format!("{}.{layer}.", style.layers), layer);
        style.layer_norms(b, dims.hidden);
        let mut kept = Layer::default();
        if full.contains(&(layer + 1)) {
            mla.build(b, dims.hidden);
            kept.attention = Some(mla.kept());
        } else {
            delta.build(b, dims.hidden);
            kept.state = Some(delta.kept());
        }
        let at = usize::try_from(layer).unwrap_or(usize::MAX);
        match moe.filter(|_| sparse.get(at).copied().unwrap_or(true)) {
            Some(moe) => {
                latent_projections(b, "mlp", dims.hidden, latent);
                style.ffn(b, dims.hidden, &Ffn::Moe(moe));
            }
            None => style.ffn(b, dims.hidden, &Ffn::Dense(Mlp { width, gated: true, bias: false })),
        }
        b.keep(kept);
    }
    style.close(b, &dims);
    Ok(())
}

/// From the residual stream to the narrower one of the experts, and back; none where `latent` is 0.
pub(super) fn latent_projections(b: &mut Builder, module: &str, hidden: u64, latent: u64) {
    let (down, up) = (format!("{module}.fc1_latent_proj"), format!("{module}.fc2_latent_proj"));
    b.linear(&down, Role::SharedExpert, (latent, hidden), Split::Replicated, false);
    b.linear(&up, Role::SharedExpert, (hidden, latent), Split::Replicated, false);
}

/// Jamba: Mamba-1, every eighth layer attention, every second MLP a mixture of experts.
fn jamba(f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let dims = Dims::read(f, b)?;
    let style = Style {
        tied: f.flag_or("tie_word_embeddings", false)?,
        norm: "model.final_layernorm",
        norms: &["input_layernorm", "pre_ff_layernorm"],
        mlp: MlpNames { module: "feed_forward", ..LLAMA.mlp },
        moe: MoeNames { module: "feed_forward", router: "router", ..LLAMA.moe },
        ..LLAMA
    };
    let mamba = Mamba1::read(f, "mamba_", dims.hidden)?;
    let gqa = plain(&dims);
    let period = f.positive_or("attn_layer_period", FACTOR, 8)?;
    let offset = f.or("attn_layer_offset", FACTOR, 4)?;
    let expert_period = f.positive_or("expert_layer_period", FACTOR, 2)?;
    let expert_offset = f.or("expert_layer_offset", FACTOR, 1)?;
    let width = f.need(&["intermediate_size"], WIDTH)?;
    let count = f.positive_or("num_experts", EXPERTS, 16)?;
    let per_token = f.or("num_experts_per_tok", EXPERTS, 2)?.clamp(1, count);
    let moe = Moe { count, per_token, width, gated: true, ..Moe::default() };
    style.open(b, &dims);
    for layer in 0..dims.layers {
        b.begin_layer(format!("{}.{layer}.", style.layers), layer);
        style.layer_norms(b, dims.hidden);
        let mut kept = Layer::default();
        if layer % period == offset {
            gqa.build(b, &style.attention, dims.hidden);
            kept.attention = Some(gqa.kept(Span::Full));
        } else {
            mamba.build(b, "mamba", dims.hidden);
            kept.state = Some(mamba.kept());
        }
        let sparse = count > 1 && layer % expert_period == expert_offset;
        let dense = Ffn::Dense(Mlp { width, gated: true, bias: false });
        style.ffn(b, dims.hidden, &if sparse { Ffn::Moe(moe) } else { dense });
        b.keep(kept);
    }
    style.close(b, &dims);
    Ok(())
}

/// The Mamba-2 block of Bamba, Granite 4 and Falcon-H1.
fn mamba2(f: &Fields<'_>, hidden: u64) -> Result<Mamba2, ParseError> {
    let heads = f.need(&["mamba_n_heads"], HEADS)?;
    let expand = f.positive_or("mamba_expand", FACTOR, 2)?;
    let inner = f.positive_or("mamba_d_ssm", WIDTH, hidden * expand)?;
    Ok(Mamba2 {
        inner,
        heads,
        groups: f.positive_or("mamba_n_groups", HEADS, 1)?,
        state: f.positive_or("mamba_d_state", WIDTH, 256)?,
        kernel: f.positive_or("mamba_d_conv", FACTOR, 4)?,
        conv_bias: f.flag_or("mamba_conv_bias", true)?,
        bias: f.flag_or("mamba_proj_bias", false)?,
        normed: f.flag_or("mamba_rms_norm", true)?,
    })
}

/// Falcon-H1: every layer has attention and a Mamba-2 block side by side.
fn falcon_h1(f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let dims = Dims::read(f, b)?;
    let style = Style {
        tied: f.flag_or("tie_word_embeddings", false)?,
        norm: "model.final_layernorm",
        norms: &["input_layernorm", "pre_ff_layernorm"],
        mlp: MlpNames { module: "feed_forward", ..LLAMA.mlp },
        ..LLAMA
    };
    let mamba = mamba2(f, dims.hidden)?;
    let gqa = Gqa { qkv_bias: f.flag_or("attention_bias", false)?, ..plain(&dims) };
    let mlp = Mlp {
        width: f.need(&["intermediate_size"], WIDTH)?,
        gated: true,
        bias: f.flag_or("mlp_bias", false)?,
    };
    style.open(b, &dims);
    for layer in 0..dims.layers {
        b.begin_layer(format!("{}.{layer}.", style.layers), layer);
        style.layer_norms(b, dims.hidden);
        gqa.build(b, &style.attention, dims.hidden);
        mamba.build(b, "mamba", dims.hidden);
        style.ffn(b, dims.hidden, &Ffn::Dense(mlp));
        b.keep(Layer { attention: Some(gqa.kept(Span::Full)), state: Some(mamba.kept()) });
    }
    style.close(b, &dims);
    Ok(())
}

/// Bamba and Granite 4: Mamba-2 or attention by layer, then an MLP or a mixture of experts with a shared one.
fn granite(model_type: &str, f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let dims = Dims::read(f, b)?;
    let bamba = model_type == "bamba";
    let style = Style {
        tied: f.flag_or("tie_word_embeddings", false)?,
        norm: if bamba { "model.final_layernorm" } else { LLAMA.norm },
        norms: if bamba { &["input_layernorm", "pre_ff_layernorm"] } else { LLAMA.norms },
        mlp: MlpNames { module: "feed_forward", ..LLAMA.mlp },
        moe: GRANITE_MOE,
        ..LLAMA
    };
    let gqa = plain(&dims);
    let kinds = kinds(f, "layer_types", dims.layers)?;
    let listed = f.numbers("attn_layer_indices", LAYERS)?.unwrap_or_default();
    let attends = |layer: u64| match kinds.as_ref().and_then(|k| k.get(usize::try_from(layer).ok()?)) {
        Some(&"attention" | &"full_attention") => Ok(true),
        Some(&"mamba" | &"mamba2" | &"linear_attention") => Ok(false),
        Some(other) => Err(unknown_kind(f, "layer_types", other, "attention and mamba")),
        None => Ok(listed.contains(&layer)),
    };
    let mamba = mamba2(f, dims.hidden)?;
    let shared_width = f.or("shared_intermediate_size", WIDTH, 0)?;
    let count = f.or("num_local_experts", EXPERTS, 0)?;
    let width = f.need(&["intermediate_size"], WIDTH)?;
    let ffn = if bamba {
        Ffn::Dense(Mlp { width, gated: true, bias: f.flag_or("mlp_bias", false)? })
    } else if count == 0 {
        Ffn::None
    } else {
        let per_token = f.or("num_experts_per_tok", EXPERTS, 1)?.clamp(1, count);
        Ffn::Moe(Moe { count, per_token, width, shared_width, gated: true, ..Moe::default() })
    };
    style.open(b, &dims);
    for layer in 0..dims.layers {
        b.begin_layer(format!("{}.{layer}.", style.layers), layer);
        style.layer_norms(b, dims.hidden);
        let mut kept = Layer::default();
        if attends(layer)? {
            gqa.build(b, &style.attention, dims.hidden);
            kept.attention = Some(gqa.kept(Span::Full));
        } else {
            mamba.build(b, "mamba", dims.hidden);
            kept.state = Some(mamba.kept());
        }
        if ffn == Ffn::None {
            // Granite 4 without experts has the shared one alone.
            let mlp = Mlp { width: shared_width, gated: true, bias: false };
            mlp.build(b, &GRANITE_MOE.expert, GRANITE_MOE.shared, Role::Mlp, dims.hidden);
        } else {
            style.ffn(b, dims.hidden, &ffn);
        }
        b.keep(kept);
    }
    style.close(b, &dims);
    Ok(())
}

/// LFM2: short convolutions and attention.
fn lfm2(model_type: &str, f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let dims = Dims::read(f, b)?;
    let style = Style {
        tied: f.flag("tie_word_embeddings")?.or(f.flag("tie_embedding")?).unwrap_or(true),
        norm: "model.embedding_norm",
        norms: &["operator_norm", "ffn_norm"],
        attention: AttentionNames {
            out: "out_proj",
            query_norm: "q_layernorm",
            key_norm: "k_layernorm",
            ..LLAMA.attention
        },
        mlp: MlpNames { module: "feed_forward", gate: "w1", up: "w3", fused: None, down: "w2" },
        moe: MoeNames {
            module: "feed_forward",
            correction: "expert_bias",
            expert: MIXTRAL_MOE.expert,
            ..LLAMA.moe
        },
        ..LLAMA
    };
    let third = model_type == "lfm3";
    let gqa = Gqa { qk_norm: QkNorm::Head, ..plain(&dims) };
    let kernel = f.positive_or("conv_L_cache", FACTOR, if third { 7 } else { 3 })?;
    let window = f.number("sliding_window", TOKENS)?.filter(|window| *window > 0);
    let (sandwich, gate) =
        (f.flag_or("use_sandwich_norm", third)? && third, f.flag_or("use_attention_gate", third)? && third);
    let conv_bias = f.flag_or("conv_bias", false)?;
    let width = if third { f.need(&["intermediate_size"], WIDTH)? } else { lfm2_width(f)? };
    let dense_layers = f.or("num_dense_layers", LAYERS, 0)?;
    let moe = match f.any(&["num_experts"], EXPERTS)?.filter(|_| model_type == "lfm2_moe") {
        Some(count) if count > 0 => Some(Moe {
            count,
            per_token: f.or("num_experts_per_tok", EXPERTS, 1)?.clamp(1, count),
            width: f.need(&["moe_intermediate_size"], WIDTH)?,
            gated: true,
            correction: f.flag_or("use_expert_bias", true)?,
            ..Moe::default()
        }),
        _ => None,
    };
    let kinds = kinds(f, "layer_types", dims.layers)?;
    let listed = f.numbers("full_attn_idxs", LAYERS)?.unwrap_or_default();
    let state = State {
        kind: StateKind::ShortConvolution,
        conv_width: dims.hidden,
        conv_kernel: kernel,
        matrix: 0,
        heads: 0,
    };
    style.open(b, &dims);
    for layer in 0..dims.layers {
        b.begin_layer(format!("{}.{layer}.", style.layers), layer);
        style.layer_norms(b, dims.hidden);
        let (attends, span) = match kinds.as_ref().and_then(|k| k.get(usize::try_from(layer).ok()?)) {
            Some(&"full_attention") => (true, Span::Full),
            Some(&"sliding_attention") => (true, window.map_or(Span::Full, Span::Sliding)),
            Some(&"conv") => (false, Span::Full),
            Some(other) => return Err(unknown_kind(f, "layer_types", other, "full_attention and conv")),
            None => (listed.contains(&layer), Span::Full),
        };
        if sandwich {
            b.norm("post_operator_norm", dims.hidden, false);
            b.norm("post_ffn_norm", dims.hidden, false);
        }
        let mut kept = Layer::default();
        if attends {
            gqa.build(b, &style.attention, dims.hidden);
            if gate {
                b.linear("self_attn.g_proj", Role::Attention, (dims.heads, dims.hidden), Split::Rows, false);
            }
            kept.attention = Some(gqa.kept(span));
        } else {
            let attention = Role::Attention;
            let hidden = dims.hidden;
            b.linear("conv.in_proj", attention, (3 * hidden, hidden), Split::Rows, conv_bias);
            b.state("conv.conv.weight", hidden, kernel, Split::Rows);
            b.linear("conv.out_proj", attention, (hidden, hidden), Split::Columns, conv_bias);
            kept.state = Some(state);
        }
        let dense = Ffn::Dense(Mlp { width, gated: true, bias: false });
        style.ffn(b, dims.hidden, &moe.filter(|_| layer >= dense_layers).map_or(dense, Ffn::Moe));
        b.keep(kept);
    }
    style.close(b, &dims);
    Ok(())
}

/// The MLP width of LFM2: two thirds of what is written, rounded up to a multiple.
fn lfm2_width(f: &Fields<'_>) -> Result<u64, ParseError> {
    let width = f.need(&["intermediate_size", "block_ff_dim"], WIDTH)?;
    if !f.flag_or("block_auto_adjust_ff_dim", true)? {
        return Ok(width);
    }
    let multiple = f.positive_or("block_multiple_of", FACTOR, 256)?;
    Ok((2 * width / 3).div_ceil(multiple) * multiple)
}

/// MiniMax-Text-01 and M1: lightning attention, every eighth layer softmax, all with experts.
fn minimax(f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let dims = Dims::read(f, b)?;
    let style = Style { tied: f.flag_or("tie_word_embeddings", false)?, moe: MIXTRAL_MOE, ..LLAMA };
    let gqa = plain(&dims);
    let lightning = Lightning { heads: dims.heads, dim: dims.head_dim };
    let kinds = kinds(f, "layer_types", dims.layers)?;
    let types = f.numbers("attn_type_list", FACTOR)?;
    let count = f.need(&["num_local_experts"], EXPERTS)?;
    let moe = Moe {
        count,
        per_token: f.or("num_experts_per_tok", EXPERTS, 2)?.clamp(1, count),
        width: f.need(&["intermediate_size"], WIDTH)?,
        gated: true,
        ..Moe::default()
    };
    style.open(b, &dims);
    for layer in 0..dims.layers {
        b.begin_layer(format!("{}.{layer}.", style.layers), layer);
        let at = usize::try_from(layer).unwrap_or(usize::MAX);
        let full = match (kinds.as_ref().and_then(|k| k.get(at)), types.as_ref().and_then(|t| t.get(at))) {
            (Some(kind), _) => *kind == "full_attention",
            (None, Some(kind)) => *kind == 1,
            (None, None) => !layer.is_multiple_of(2),
        };
        style.layer_norms(b, dims.hidden);
        let mut kept = Layer::default();
        if full {
            gqa.build(b, &style.attention, dims.hidden);
            kept.attention = Some(gqa.kept(Span::Full));
        } else {
            lightning.build(b, dims.hidden);
            kept.state = Some(lightning.kept());
        }
        style.ffn(b, dims.hidden, &Ffn::Moe(moe));
        b.keep(kept);
    }
    style.close(b, &dims);
    Ok(())
}

/// OLMo Hybrid: three gated delta nets to one attention, each with norms of its own place.
fn olmo_hybrid(f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let dims = Dims::read(f, b)?;
    let style = Style { tied: f.flag_or("tie_word_embeddings", false)?, ..LLAMA };
    let delta = GatedDelta::read(f, false)?;
    let gqa = Gqa { qk_norm: QkNorm::Full, qkv_bias: f.flag_or("attention_bias", false)?, ..plain(&dims) };
    let mlp = Mlp { width: f.need(&["intermediate_size"], WIDTH)?, gated: true, bias: false };
    let kinds = kinds(f, "layer_types", dims.layers)?;
    style.open(b, &dims);
    for layer in 0..dims.layers {
        b.begin_layer(format!("{}.{layer}.", style.layers), layer);
        let full = match kinds.as_ref().and_then(|kinds| kinds.get(usize::try_from(layer).ok()?)) {
            Some(&"full_attention") => true,
            Some(&"linear_attention") => false,
            Some(other) => {
                return Err(unknown_kind(f, "layer_types", other, "full_attention and linear_attention"));
            }
            None => (layer + 1).is_multiple_of(4),
        };
        let mut kept = Layer::default();
        b.norm("post_attention_layernorm", dims.hidden, false);
        if full {
            b.norm("post_feedforward_layernorm", dims.hidden, false);
            gqa.build(b, &style.attention, dims.hidden);
            kept.attention = Some(gqa.kept(Span::Full));
        } else {
            b.norm("input_layernorm", dims.hidden, false);
            delta.separate(b, dims.hidden);
            kept.state = Some(delta.kept());
        }
        style.ffn(b, dims.hidden, &Ffn::Dense(mlp));
        b.keep(kept);
    }
    style.close(b, &dims);
    Ok(())
}
