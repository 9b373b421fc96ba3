//! Decoders with a mixture of experts and ordinary (grouped-query) attention.

use super::blocks::{AttentionNames, Gqa, Mlp, MlpNames, Moe, MoeNames, QkNorm};
use super::builder::Builder;
use super::decoder::{Block, Dims, Ffn, NormKind, Style};
use super::dense_families::LLAMA;
use super::fields::{EXPERTS, Fields, HEADS, LAYERS, WIDTH};
pub(super) use super::moe_layers::sparse_layers;
use super::moe_layers::{alike, spans};
use crate::model::{Confidence, Experts, ParseError, Role, Span, Split};

/// The `model_type`s that are read here.
pub(super) const TYPES: &[&str] = &[
    "mixtral",
    "qwen2_moe",
    "qwen3_moe",
    "phimoe",
    "glm4_moe",
    "dots1",
    "minimax_m2",
    "minimax_m3",
    "deepseek",
    "llama4",
    "gpt_oss",
    "step3p5",
    "step3p7",
    "granitemoe",
    "granitemoeshared",
    "olmoe",
    "ernie4_5_moe",
    "mimo_v2_flash",
    "bailing_moe",
    "hunyuan_v1_moe",
    "dbrx",
    "arctic",
    "grok-1",
    "flex_olmo",
    "afmoe",
    "exaone_moe",
    "solar_open",
    "sarvam_moe",
    "hy_v3",
    "mellum",
    "laguna",
    "granitemoe_swa",
    "cohere2_moe",
    "bailing_moe_v2",
    "llada_moe",
    "hunyuan",
    "minimax_m3_vl_text",
    "ernie4_5_vl_moe_text",
    "aria_text",
];

/// Experts with Mixtral's names.
pub(super) const MIXTRAL_MOE: MoeNames = MoeNames {
    module: "block_sparse_moe",
    correction: "e_score_correction_bias",
    expert: MlpNames { module: "", gate: "w1", up: "w3", fused: None, down: "w2" },
    shared: "shared_experts",
    ..LLAMA.moe
};

/// Experts with DeepSeek's names.
pub(super) const DEEPSEEK_MOE: MoeNames = MoeNames { shared: "shared_experts", ..LLAMA.moe };

/// The layers of a mixture-of-experts config, and which of them have experts.
pub(super) fn build(model_type: &str, f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let mut dims = Dims::read(f, b)?;
    let mut of_experts = f.clone();
    if model_type == "dbrx" {
        // It keeps the measures of attention and of the experts apart.
        let attention = f.need_object("attn_config")?;
        dims.kv_heads = attention.positive_or("kv_n_heads", HEADS, dims.kv_heads)?;
        super::decoder::check_groups(&attention, "kv_n_heads", dims.heads, dims.kv_heads)?;
        of_experts = f.need_object("ffn_config")?;
    }
    let style = style(model_type, f)?;
    let attention = attention(model_type, f, &dims)?;
    let moe = experts(model_type, &of_experts)?;
    let seeing =
        (model_type == "ernie4_5_vl_moe_text").then(|| seeing_experts(f, &moe)).transpose()?.flatten();
    let dense = dense_width(model_type, f)?;
    let sparse = sparse_layers(model_type, f, dims.layers)?;
    let spans = spans(model_type, f, dims.layers)?;
    let windowed = windowed_attention(model_type, f, &attention)?;
    let index = index_heads(model_type, f, b)?;
    let mut blocks = Vec::new();
    for layer in 0..dims.layers {
        let at = usize::try_from(layer).unwrap_or(usize::MAX);
        let span = spans.get(at).copied().unwrap_or(Span::Full);
        let mut gqa = if span == Span::Full { attention } else { windowed };
        let is_sparse = sparse.get(at).copied().unwrap_or(true);
        if let Some((_, dim)) = index.filter(|_| is_sparse) {
            gqa.index_dim = dim;
        }
        let ffn = if is_sparse {
            Ffn::Moe(moe)
        } else {
            Ffn::Dense(Mlp { width: dense, gated: true, bias: false })
        };
        blocks.push(Block { attention: Some((gqa, span)), ffn });
    }
    style.open(b, &dims);
    for (layer, block) in (0_u64..).zip(&blocks) {
        b.begin_layer(format!("{}.{layer}.", style.layers), layer);
        style.block(b, &dims, block);
        super::extras::of_layer(model_type, f, b, &dims, (layer, dense))?;
        if let (Some(eyes), Ffn::Moe(_)) = (&seeing, block.ffn) {
            // What a token of an image passes instead.
            let names = MoeNames { module: "mlp.vision_moe", ..style.moe };
            eyes.build(b, &names, dims.hidden);
            b.shape.experts =
                Some(Experts { count: moe.count, per_token: moe.per_token, intermediate_size: moe.width });
        }
        if let (Some((heads, dim)), Ffn::Moe(_)) = (index, block.ffn) {
            let queries = (heads.saturating_mul(dim), dims.hidden);
            b.linear("self_attn.index_q_proj", Role::Attention, queries, Split::Replicated, false);
            b.linear("self_attn.index_k_proj", Role::Attention, (dim, dims.hidden), Split::Replicated, false);
        }
    }
    style.close(b, &dims);
    if matches!(model_type, "minimax_m3" | "step3p7") {
        b.described("This architecture");
    }
    let drafts = f.or("num_nextn_predict_layers", LAYERS, 0)?;
    if let Some(last) = blocks.last() {
        let last = Block { attention: last.attention, ffn: Ffn::Moe(moe) };
        next_token_layers(b, &dims, drafts, (style.layers, dims.layers), |b| style.block(b, &dims, &last));
    }
    Ok(())
}

/// Layers that predict further tokens (MTP), as DeepSeek-V3 lays them out: in the file, loaded for speculation. They
/// are numbered from `first`.
pub(super) fn next_token_layers(
    b: &mut Builder,
    dims: &Dims,
    count: u64,
    (layers, first): (&str, u64),
    mut block: impl FnMut(&mut Builder),
) {
    // The draft head must not change what the model's own layers are.
    let before = (b.shape.heads, b.shape.head_dim, b.shape.intermediate_size, b.shape.experts);
    for index in 0..count {
        b.begin_draft(format!("{layers}.{}.", first + index));
        b.norm("enorm", dims.hidden, false);
        b.norm("hnorm", dims.hidden, false);
        b.linear("eh_proj", Role::Draft, (dims.hidden, 2 * dims.hidden), Split::Replicated, false);
        b.norm("shared_head.norm", dims.hidden, false);
        block(b);
    }
    b.end_layers();
    (b.shape.heads, b.shape.head_dim, b.shape.intermediate_size, b.shape.experts) = before;
}

#[allow(clippy::too_many_lines)] // one arm per family
fn style(model_type: &str, f: &Fields<'_>) -> Result<Style, ParseError> {
    let fused = MlpNames { module: "", gate: "", up: "", fused: Some("gate_up_proj"), down: "down_proj" };
    let mut style = match model_type {
        "arctic" => Style {
            moe: MIXTRAL_MOE,
            // Beside the experts, each layer has a narrow MLP of its own.
            mlp: MlpNames { module: "residual_mlp", gate: "w1", up: "w3", fused: None, down: "w2" },
            ..LLAMA
        },
        "grok-1" => Style {
            norms: &["pre_attn_norm", "post_attn_norm", "pre_moe_norm", "post_moe_norm"],
            moe: MIXTRAL_MOE,
            tied: !f.flag_or("residual_moe", false)?,
            ..LLAMA
        },
        "flex_olmo" => Style { norms: &["post_attention_layernorm", "post_feedforward_layernorm"], ..LLAMA },
        "afmoe" => Style {
            norms: &[
                "input_layernorm",
                "post_attention_layernorm",
                "pre_mlp_layernorm",
                "post_mlp_layernorm",
            ],
            moe: MoeNames { router: "router.gate", correction: "expert_bias", ..DEEPSEEK_MOE },
            ..LLAMA
        },
        "exaone_moe" | "solar_open" | "sarvam_moe" | "hy_v3" | "cohere2_moe" => Style {
            moe: DEEPSEEK_MOE,
            norms: if model_type == "cohere2_moe" { &["input_layernorm"] } else { LLAMA.norms },
            tied: model_type == "cohere2_moe",
            ..LLAMA
        },
        "mixtral" | "minimax_m2" | "minimax_m3" => Style { moe: MIXTRAL_MOE, ..LLAMA },
        "phimoe" => Style {
            moe: MIXTRAL_MOE,
            norm_kind: NormKind::WeightAndBias,
            head_bias: f.flag_or("lm_head_bias", false)?,
            ..LLAMA
        },
        "glm4_moe" | "dots1" | "deepseek" | "llada_moe" | "aria_text" | "minimax_m3_vl_text" => {
            Style { moe: DEEPSEEK_MOE, ..LLAMA }
        }
        "llama4" => Style {
            mlp: MlpNames { module: "feed_forward", ..LLAMA.mlp },
            moe: MoeNames {
                module: "feed_forward",
                router: "router",
                expert: MlpNames { gate: "gate_proj", up: "up_proj", ..fused },
                ..LLAMA.moe
            },
            ..LLAMA
        },
        "gpt_oss" => Style { moe: MoeNames { router: "router", expert: fused, ..LLAMA.moe }, ..LLAMA },
        "step3p5" | "step3p7" => Style {
            moe: MoeNames { module: "moe", correction: "router_bias", shared: "share_expert", ..LLAMA.moe },
            ..LLAMA
        },
        "granitemoe" | "granitemoeshared" | "granitemoe_swa" => Style { moe: GRANITE_MOE, ..LLAMA },
        "ernie4_5_moe" | "ernie4_5_vl_moe_text" => Style { moe: DEEPSEEK_MOE, tied: true, ..LLAMA },
        "dbrx" => Style {
            embed: "transformer.wte",
            layers: "transformer.blocks",
            norm: "transformer.norm_f",
            norms: &["norm_attn_norm.norm_1", "norm_attn_norm.norm_2"],
            attention: AttentionNames {
                module: "norm_attn_norm.attn",
                fused: Some("Wqkv"),
                out: "out_proj",
                ..LLAMA.attention
            },
            moe: MoeNames {
                module: "ffn",
                router: "router.layer",
                expert: MlpNames { module: "", gate: "w1", up: "v1", fused: None, down: "w2" },
                ..LLAMA.moe
            },
            ..LLAMA
        },
        "bailing_moe" | "bailing_moe_v2" => Style {
            embed: "model.word_embeddings",
            attention: AttentionNames {
                module: "attention",
                fused: Some("query_key_value"),
                out: "dense",
                query_norm: "query_layernorm",
                key_norm: "key_layernorm",
                ..LLAMA.attention
            },
            moe: MoeNames { correction: "gate.expert_bias", ..DEEPSEEK_MOE },
            ..LLAMA
        },
        "hunyuan_v1_moe" | "hunyuan" => Style {
            attention: AttentionNames {
                query_norm: "query_layernorm",
                key_norm: "key_layernorm",
                ..LLAMA.attention
            },
            moe: MoeNames { router: "gate.wg", shared: "shared_mlp", ..LLAMA.moe },
            ..LLAMA
        },
        _ => LLAMA,
    };
    style.tied = f.flag("tie_word_embeddings")?.unwrap_or(style.tied);
    Ok(style)
}

/// Experts with Granite's names.
pub(super) const GRANITE_MOE: MoeNames = MoeNames {
    module: "block_sparse_moe",
    router: "router.layer",
    expert: MlpNames { module: "", gate: "", up: "", fused: Some("input_linear"), down: "output_linear" },
    shared: "shared_mlp",
    ..LLAMA.moe
};

fn attention(model_type: &str, f: &Fields<'_>, dims: &Dims) -> Result<Gqa, ParseError> {
    let bias = |default| f.flag_or("attention_bias", default);
    let (qkv_bias, out_bias) = match model_type {
        "qwen2_moe" => (f.flag_or("qkv_bias", true)?, false),
        "glm4_moe" => (bias(false)?, false),
        "gpt_oss" => (bias(true)?, bias(true)?),
        "ernie4_5_moe" => (f.flag_or("use_bias", false)?, f.flag_or("use_bias", false)?),
        "bailing_moe" | "bailing_moe_v2" => {
            (f.flag_or("use_qkv_bias", false)?, f.flag_or("use_bias", false)?)
        }
        _ => (bias(false)?, bias(false)?),
    };
    let qk_norm = match model_type {
        "qwen3_moe" | "dots1" | "step3p5" | "step3p7" | "afmoe" | "exaone_moe" | "hy_v3" | "mellum"
        | "laguna" | "llada_moe" | "minimax_m3_vl_text" => QkNorm::Head,
        "glm4_moe" | "minimax_m3" | "bailing_moe_v2" | "solar_open" if f.flag_or("use_qk_norm", false)? => {
            QkNorm::Head
        }
        "hunyuan_v1_moe" | "hunyuan" | "sarvam_moe" if f.flag_or("use_qk_norm", true)? => QkNorm::Head,
        "minimax_m2" if f.flag_or("use_qk_norm", true)? => QkNorm::Full,
        "olmoe" | "flex_olmo" => QkNorm::Full,
        _ => QkNorm::None,
    };
    let value_dim = f.number("v_head_dim", WIDTH)?.filter(|dim| *dim > 0).unwrap_or(dims.head_dim);
    Ok(Gqa {
        heads: dims.heads,
        kv_heads: f.positive_or("num_attention_groups", HEADS, dims.kv_heads)?,
        key_dim: dims.head_dim,
        value_dim,
        qkv_bias,
        out_bias,
        qk_norm,
        sinks: model_type == "gpt_oss" || f.flag_or("add_full_attention_sink_bias", false)?,
        ..Gqa::default()
    })
}

/// The attention of layers with a window, where it has other heads (MiMo-V2, Step-3.5).
fn windowed_attention(model_type: &str, f: &Fields<'_>, full: &Gqa) -> Result<Gqa, ParseError> {
    let mut windowed = *full;
    match model_type {
        "mimo_v2_flash" => {
            windowed.heads = f.positive_or("swa_num_attention_heads", HEADS, full.heads)?;
            windowed.kv_heads = f.positive_or("swa_num_key_value_heads", HEADS, full.kv_heads)?;
            windowed.key_dim = f.positive_or("swa_head_dim", WIDTH, full.key_dim)?;
            windowed.value_dim = f.positive_or("swa_v_head_dim", WIDTH, full.value_dim)?;
            windowed.sinks = f.flag_or("add_swa_attention_sink_bias", false)?;
            super::decoder::check_groups(f, "swa_num_key_value_heads", windowed.heads, windowed.kv_heads)?;
        }
        "step3p5" | "step3p7" => {
            if let Some(other) = f.object("attention_other_setting")? {
                windowed.heads = other.positive_or("num_attention_heads", HEADS, full.heads)?;
                windowed.kv_heads = other.positive_or("num_attention_groups", HEADS, full.kv_heads)?;
                windowed.key_dim = other.positive_or("head_dim", WIDTH, full.key_dim)?;
                windowed.value_dim = windowed.key_dim;
                super::decoder::check_groups(
                    &other,
                    "num_attention_groups",
                    windowed.heads,
                    windowed.kv_heads,
                )?;
            }
        }
        _ => {}
    }
    Ok(windowed)
}

/// Heads and width of the index that picks the blocks a sparse layer attends to (MiniMax-M3).
fn index_heads(model_type: &str, f: &Fields<'_>, b: &mut Builder) -> Result<Option<(u64, u64)>, ParseError> {
    if model_type != "minimax_m3" {
        return Ok(None);
    }
    let Some(sparse) = f.object("sparse_attention_config")? else { return Ok(None) };
    let heads = sparse.or("sparse_num_index_heads", HEADS, 0)?;
    let dim = sparse.or("sparse_index_dim", WIDTH, 0)?;
    b.shape.cache_confidence = Confidence::Derived;
    b.note("The index keys of the sparse attention layers are counted as one vector per token and layer.");
    Ok((heads > 0 && dim > 0).then_some((heads, dim)))
}

fn experts(model_type: &str, f: &Fields<'_>) -> Result<Moe, ParseError> {
    let count = ["num_local_experts", "n_routed_experts", "num_experts", "moe_num_experts"];
    let per_token =
        ["num_experts_per_tok", "experts_per_token", "num_experts_per_token", "moe_k", "moe_top_k"];
    let mut width = None;
    let mut per_token = f.any(&per_token, EXPERTS)?.unwrap_or(1);
    let mut shared = f.or("n_shared_experts", EXPERTS, 0)?.max(f.or("moe_num_shared_experts", EXPERTS, 0)?);
    if matches!(model_type, "hunyuan_v1_moe" | "hunyuan") {
        width = alike(f, "moe_intermediate_size", WIDTH)?.filter(|width| *width > 0);
        per_token = alike(f, "moe_topk", EXPERTS)?.unwrap_or(1);
        shared = if f.flag_or("use_mixed_mlp_moe", true)? {
            alike(f, "num_shared_expert", EXPERTS)?.unwrap_or(1)
        } else {
            0
        };
    } else if model_type == "ernie4_5_vl_moe_text" {
        width = alike(f, "moe_intermediate_size", WIDTH)?.filter(|width| *width > 0);
    } else if model_type == "aria_text" {
        shared = f.or("moe_num_shared_experts", EXPERTS, 2)?;
    } else if matches!(
        model_type,
        "bailing_moe" | "bailing_moe_v2" | "afmoe" | "exaone_moe" | "hy_v3" | "cohere2_moe"
    ) {
        shared = f.or("num_shared_experts", EXPERTS, 0)?;
    }
    let width = match width {
        Some(width) => width,
        None if model_type == "dbrx" => f.need(&["ffn_hidden_size"], WIDTH)?,
        None => f.need(&["moe_intermediate_size", "intermediate_size"], WIDTH)?,
    };
    let count = match alike(f, "moe_num_experts", EXPERTS)? {
        Some(count) if count > 0 => count,
        _ => f.need(&count, EXPERTS)?,
    };
    let shared_width = match model_type {
        "qwen2_moe" => f.or("shared_expert_intermediate_size", WIDTH, 5632)?,
        "llama4" => width,
        "minimax_m2" | "granitemoeshared" => f.or("shared_intermediate_size", WIDTH, 0)?,
        "laguna" => f.or("shared_expert_intermediate_size", WIDTH, 0)?,
        // Grok 2's dense MLP stands beside its experts.
        "grok-1" if f.flag_or("residual_moe", false)? => f.need(&["intermediate_size"], WIDTH)?,
        "minimax_m3" | "minimax_m3_vl_text" => f.or("shared_intermediate_size", WIDTH, shared * width)?,
        "step3p5" | "step3p7" => f.or("share_expert_dim", WIDTH, shared * width)?,
        "glm4_moe"
        | "ernie4_5_vl_moe_text"
        | "aria_text"
        | "dots1"
        | "deepseek"
        | "ernie4_5_moe"
        | "mimo_v2_flash"
        | "bailing_moe"
        | "hunyuan_v1_moe"
        | "hunyuan"
        | "bailing_moe_v2"
        | "afmoe"
        | "exaone_moe"
        | "hy_v3"
        | "solar_open"
        | "sarvam_moe"
        | "cohere2_moe" => shared * width,
        _ => 0,
    };
    let default_correction = matches!(
        model_type,
        "glm4_moe"
            | "dots1"
            | "mimo_v2_flash"
            | "ernie4_5_moe"
            | "ernie4_5_vl_moe_text"
            | "afmoe"
            | "exaone_moe"
            | "hy_v3"
            | "solar_open"
            | "sarvam_moe"
            | "laguna"
            | "minimax_m3_vl_text"
    );
    let correction = match model_type {
        "minimax_m2" | "minimax_m3" => f.flag_or("use_routing_bias", false)?,
        "step3p5" | "step3p7" => f.flag_or("use_moe_router_bias", false)?,
        "bailing_moe_v2" => f.flag_or("moe_router_enable_expert_bias", false)?,
        _ => default_correction,
    };
    Ok(Moe {
        count,
        per_token: per_token.clamp(1, count),
        width,
        shared_width,
        shared_gate: model_type == "qwen2_moe",
        gated: true,
        bias: model_type == "gpt_oss",
        router_bias: model_type == "gpt_oss",
        correction,
        ..Moe::default()
    })
}

/// The experts that ERNIE 4.5 VL keeps for images: the second entries of its lists.
fn seeing_experts(f: &Fields<'_>, moe: &Moe) -> Result<Option<Moe>, ParseError> {
    let second = |key: &str, limit, default: u64| match f.get(key) {
        Some(serde_json::Value::Array(_)) => {
            Ok(f.numbers(key, limit)?.and_then(|each| each.get(1).copied()).unwrap_or(0))
        }
        _ => Ok::<u64, ParseError>(default),
    };
    let width = second("moe_intermediate_size", WIDTH, 512)?;
    let count = second("moe_num_experts", EXPERTS, moe.count)?;
    Ok((width > 0 && count > 0).then_some(Moe { count, width, shared_width: 0, ..*moe }))
}

/// Width of the MLP of layers without experts.
fn dense_width(model_type: &str, f: &Fields<'_>) -> Result<u64, ParseError> {
    let key = match model_type {
        "llama4" => "intermediate_size_mlp",
        "minimax_m3" | "minimax_m3_vl_text" => "dense_intermediate_size",
        _ => "intermediate_size",
    };
    f.or(key, WIDTH, 0)
}
