//! Dense decoders: one attention block and one MLP per layer.

use super::blocks::{AttentionNames, Gqa, Mlp, MlpNames, MoeNames, QkNorm};
use super::builder::Builder;
use super::decoder::{Block, Dims, Ffn, INTERMEDIATE_KEYS, NormKind, Style, spans_by_type};
use super::fields::{FACTOR, Fields, HEADS, TOKENS, WIDTH};
use crate::model::{ParseError, Role, Span, Split};
use crate::units::shorten;

/// Llama's names, which most families share.
pub(super) const LLAMA: Style = Style {
    embed: "model.embed_tokens",
    layers: "model.layers",
    norm: "model.norm",
    head: "lm_head",
    norms: &["input_layernorm", "post_attention_layernorm"],
    norm_kind: NormKind::Weight,
    attention: AttentionNames {
        module: "self_attn",
        query: "q_proj",
        key: "k_proj",
        value: "v_proj",
        fused: None,
        out: "o_proj",
        query_norm: "q_norm",
        key_norm: "k_norm",
    },
    mlp: MlpNames { module: "mlp", gate: "gate_proj", up: "up_proj", fused: None, down: "down_proj" },
    moe: MoeNames {
        module: "mlp",
        router: "gate",
        correction: "gate.e_score_correction_bias",
        expert: MlpNames { module: "", gate: "gate_proj", up: "up_proj", fused: None, down: "down_proj" },
        shared: "shared_expert",
    },
    tied: false,
    head_bias: false,
};

/// GPT-2's names, which its descendants share.
const GPT2: Style = Style {
    embed: "transformer.wte",
    layers: "transformer.h",
    norm: "transformer.ln_f",
    norms: &["ln_1", "ln_2"],
    norm_kind: NormKind::WeightAndBias,
    attention: AttentionNames { module: "attn", fused: Some("c_attn"), out: "c_proj", ..LLAMA.attention },
    mlp: MlpNames { module: "mlp", gate: "", up: "c_fc", fused: None, down: "c_proj" },
    tied: true,
    ..LLAMA
};

const LAYER_NORM: Style = Style { norm_kind: NormKind::WeightAndBias, ..LLAMA };

/// What differs between dense families besides names.
#[derive(Clone, Copy, Debug)]
struct Family {
    style: Style,
    qkv_bias: bool,
    out_bias: bool,
    mlp_bias: bool,
    gated: bool,
    qk_norm: QkNorm,
    /// Width of the MLP where the config does not say, as a multiple of the residual stream.
    widen: u64,
}

const PLAIN: Family = Family {
    style: LLAMA,
    qkv_bias: false,
    out_bias: false,
    mlp_bias: false,
    gated: true,
    qk_norm: QkNorm::None,
    widen: 0,
};

/// Everything has a bias, and nothing is gated: GPT-2 and its contemporaries.
const CLASSIC: Family =
    Family { style: GPT2, qkv_bias: true, out_bias: true, mlp_bias: true, gated: false, widen: 4, ..PLAIN };

/// Whether `build` knows the `model_type`.
pub(super) fn knows(model_type: &str, f: &Fields<'_>) -> bool {
    matches!(family(model_type, f), Ok(Some(_)) | Err(_))
}

/// Reads a dense decoder.
pub(super) fn build(model_type: &str, f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let Some(family) = family(model_type, f)? else {
        return Err(f.error("model_type", format!("\"{}\" is not a dense decoder", shorten(model_type))));
    };
    let mut dims = Dims::read(f, b)?;
    adjust(model_type, f, &mut dims)?;
    let mut style = family.style;
    style.tied = f.flag("tie_word_embeddings")?.unwrap_or(style.tied);
    let width = match f.any(&INTERMEDIATE_KEYS, WIDTH)? {
        Some(width) if width > 0 => width,
        _ if family.widen > 0 => family.widen * dims.hidden,
        _ => f.need(&INTERMEDIATE_KEYS, WIDTH)?,
    };
    // Qwen 1 writes the width of gate and up projection together.
    let width = if model_type == "qwen" { width / 2 } else { width };
    let gqa = Gqa {
        heads: dims.heads,
        kv_heads: dims.kv_heads,
        key_dim: dims.head_dim,
        value_dim: dims.head_dim,
        qkv_bias: family.qkv_bias,
        out_bias: family.out_bias,
        qk_norm: family.qk_norm,
        ..Gqa::default()
    };
    let spans = spans(model_type, f, dims.layers)?;
    positions(model_type, b, &dims);
    let mlp = Mlp { width, gated: family.gated, bias: family.mlp_bias };
    let mut spans = spans.into_iter();
    let mut block =
        |_| Block { attention: Some((gqa, spans.next().unwrap_or(Span::Full))), ffn: Ffn::Dense(mlp) };
    if reward_model(f)? {
        style.open(b, &dims);
        for index in 0..dims.layers {
            b.begin_layer(format!("{}.{index}.", style.layers), index);
            style.block(b, &dims, &block(index));
        }
        style.tied = true;
        style.close(b, &dims);
        b.linear("v_head", Role::OutputHead, (1, dims.hidden), Split::Replicated, false);
        return Ok(());
    }
    style.build(b, &dims, block);
    if model_type == "bloom" {
        b.norm("transformer.word_embeddings_layernorm", dims.hidden, true);
    }
    next_token_layers(
        f,
        b,
        &dims,
        &style,
        &Block { attention: Some((gqa, Span::Full)), ffn: Ffn::Dense(mlp) },
    )
}

/// Layers that predict further tokens (MiMo): in the file, loaded for speculation.
fn next_token_layers(
    f: &Fields<'_>,
    b: &mut Builder,
    dims: &Dims,
    style: &Style,
    block: &Block,
) -> Result<(), ParseError> {
    for index in 0..f.or("num_nextn_predict_layers", super::fields::LAYERS, 0)? {
        b.begin_draft(format!("model.mtp_layers.{index}."));
        b.norm("token_layernorm", dims.hidden, false);
        b.norm("hidden_layernorm", dims.hidden, false);
        b.norm("final_layernorm", dims.hidden, false);
        b.linear("input_proj", Role::Draft, (dims.hidden, 2 * dims.hidden), Split::Replicated, false);
        style.block(b, dims, block);
    }
    b.end_layers();
    Ok(())
}

/// Whether the head yields one score instead of a vocabulary.
fn reward_model(f: &Fields<'_>) -> Result<bool, ParseError> {
    let architectures = f.texts("architectures")?.unwrap_or_default();
    Ok(architectures.iter().any(|name| name.ends_with("ForRewardModel")))
}

/// What a family writes in places of its own.
fn adjust(model_type: &str, f: &Fields<'_>, dims: &mut Dims) -> Result<(), ParseError> {
    let multi_query = |default| f.flag_or("multi_query", default);
    match model_type {
        "chatglm" => {
            if f.flag_or("multi_query_attention", false)? {
                dims.kv_heads = f.need(&["multi_query_group_num"], HEADS)?;
            }
        }
        "falcon" => {
            if !f.flag_or("new_decoder_architecture", false)? {
                dims.kv_heads = if multi_query(true)? { 1 } else { dims.heads };
            }
        }
        "gpt_bigcode" => dims.kv_heads = if multi_query(true)? { 1 } else { dims.heads },
        "mpt" => {
            if let Some(attention) = f.object("attn_config")? {
                dims.kv_heads = attention.positive_or("kv_n_heads", HEADS, dims.kv_heads)?;
            }
        }
        _ => {}
    }
    super::decoder::check_groups(f, "num_key_value_heads", dims.heads, dims.kv_heads)
}

/// Tables of positions, where a family learns them.
fn positions(model_type: &str, b: &mut Builder, dims: &Dims) {
    b.end_layers();
    let rows = b.shape.max_context.unwrap_or(0);
    match model_type {
        "gpt2" | "gpt_bigcode" => {
            b.embedding("transformer.wpe.weight", rows, dims.hidden, Split::Replicated);
        }
        // The first two rows are for padding.
        "opt" => {
            b.embedding("model.decoder.embed_positions.weight", rows + 2, dims.hidden, Split::Replicated)
        }
        _ => {}
    }
}

/// Which tokens each layer keeps.
fn spans(model_type: &str, f: &Fields<'_>, layers: u64) -> Result<Vec<Span>, ParseError> {
    if let Some(spans) = spans_by_type(f, layers)? {
        return Ok(spans);
    }
    let window = f.number("sliding_window", TOKENS)?.filter(|tokens| *tokens > 0);
    let Some(window) = window else { return Ok(Vec::new()) };
    let pattern = |default: u64| -> Result<Vec<Span>, ParseError> {
        let full = match f.get("sliding_window_pattern") {
            // EXAONE 4 spells the pattern out: L for a local layer, G for a global one.
            Some(serde_json::Value::String(letters)) if !letters.is_empty() => {
                let letters: Vec<char> = letters.chars().take(10_000).collect();
                let spans = (0..layers).zip(letters.iter().cycle());
                return Ok(spans
                    .map(|(_, letter)| if *letter == 'L' { Span::Sliding(window) } else { Span::Full })
                    .collect());
            }
            _ => f.or("sliding_window_pattern", FACTOR, default)?,
        };
        Ok((1..=layers)
            .map(|layer| if full == 0 || layer % full == 0 { Span::Full } else { Span::Sliding(window) })
            .collect())
    };
    match model_type {
        "gemma2" => pattern(2),
        "gemma3_text" => pattern(6),
        "cohere2" | "exaone4" | "olmo3" => pattern(4),
        "mistral" | "phi3" | "starcoder2" => Ok((0..layers).map(|_| Span::Sliding(window)).collect()),
        "qwen2" | "qwen3" | "mimo" if f.flag_or("use_sliding_window", false)? => {
            let first = f.or("max_window_layers", super::fields::LAYERS, 28)?;
            Ok((0..layers)
                .map(|layer| if layer < first { Span::Full } else { Span::Sliding(window) })
                .collect())
        }
        _ => Ok(Vec::new()),
    }
}

/// The family of a `model_type`; `None` if it is not a dense decoder.
#[allow(clippy::too_many_lines)] // one arm per family
fn family(model_type: &str, f: &Fields<'_>) -> Result<Option<Family>, ParseError> {
    let flag = |key| f.flag_or(key, false);
    let attention_bias = flag("attention_bias").unwrap_or_default();
    let llama = Family {
        qkv_bias: attention_bias,
        out_bias: attention_bias,
        mlp_bias: flag("mlp_bias").unwrap_or_default(),
        ..PLAIN
    };
    Ok(Some(match model_type {
        "llama" | "yi" | "granite" | "arcee" | "mistral" | "ministral" | "ministral3" | "xverse"
        | "minicpm" | "smollm3" | "aquila" | "helium" => Family {
            style: Style { tied: model_type == "smollm3", ..LLAMA },
            gated: model_type != "arcee",
            ..llama
        },
        "seed_oss" => Family {
            qkv_bias: f.flag_or("attention_bias", true)?,
            out_bias: flag("attention_out_bias")?,
            ..llama
        },
        "ernie4_5" => Family { style: Style { tied: true, ..LLAMA }, ..PLAIN },
        "qwen2" => Family { qkv_bias: f.flag_or("qkv_bias", true)?, ..PLAIN },
        "mimo" => Family { qkv_bias: f.flag_or("attention_bias", true)?, ..PLAIN },
        "qwen3" => Family { qk_norm: QkNorm::Head, ..llama },
        "hunyuan_v1_dense" => Family {
            qk_norm: if f.flag_or("use_qk_norm", true)? { QkNorm::Head } else { QkNorm::None },
            style: Style {
                attention: AttentionNames {
                    query_norm: "query_layernorm",
                    key_norm: "key_layernorm",
                    ..LLAMA.attention
                },
                ..LLAMA
            },
            ..llama
        },
        "qwen" => Family {
            style: Style { norm_kind: NormKind::Weight, tied: false, mlp: QWEN_MLP, ..GPT2 },
            qkv_bias: true,
            ..PLAIN
        },
        "phi" | "phi-msft" => Family {
            style: Style {
                norm: "model.final_layernorm",
                norms: &["input_layernorm"],
                attention: AttentionNames { out: "dense", ..LLAMA.attention },
                mlp: MlpNames { gate: "", up: "fc1", down: "fc2", ..LLAMA.mlp },
                head_bias: true,
                ..LAYER_NORM
            },
            ..CLASSIC
        },
        "phi3" => Family {
            style: Style {
                attention: AttentionNames { fused: Some("qkv_proj"), ..LLAMA.attention },
                mlp: MlpNames { fused: Some("gate_up_proj"), ..LLAMA.mlp },
                ..LLAMA
            },
            ..PLAIN
        },
        "phi3small" => Family {
            style: Style {
                norm: "model.final_layernorm",
                attention: AttentionNames { fused: Some("query_key_value"), out: "dense", ..LLAMA.attention },
                mlp: MlpNames { fused: Some("up_proj"), ..LLAMA.mlp },
                tied: true,
                ..LAYER_NORM
            },
            gated: true,
            ..CLASSIC
        },
        "gemma" => Family { style: Style { tied: true, ..LLAMA }, ..llama },
        "gemma2" => Family { style: GEMMA2, ..llama },
        "gemma3_text" => Family { style: GEMMA2, qk_norm: QkNorm::Head, ..llama },
        "falcon" => falcon(f)?,
        "mpt" => Family {
            style: Style {
                norm: "transformer.norm_f",
                layers: "transformer.blocks",
                norms: &["norm_1", "norm_2"],
                norm_kind: NormKind::Weight,
                attention: AttentionNames { fused: Some("Wqkv"), out: "out_proj", ..GPT2.attention },
                mlp: MlpNames { module: "ffn", gate: "", up: "up_proj", fused: None, down: "down_proj" },
                ..GPT2
            },
            gated: false,
            widen: f.or("expansion_ratio", FACTOR, 4)?,
            ..PLAIN
        },
        "gpt2" | "gpt_bigcode" => CLASSIC,
        "bloom" => Family {
            style: Style {
                embed: "transformer.word_embeddings",
                norms: &["input_layernorm", "post_attention_layernorm"],
                attention: AttentionNames {
                    module: "self_attention",
                    fused: Some("query_key_value"),
                    out: "dense",
                    ..LLAMA.attention
                },
                mlp: FOUR_H,
                ..GPT2
            },
            ..CLASSIC
        },
        "gptj" => Family {
            style: Style {
                norms: &["ln_1"],
                attention: AttentionNames { module: "attn", out: "out_proj", ..LLAMA.attention },
                mlp: MlpNames { up: "fc_in", down: "fc_out", ..GPT2.mlp },
                tied: false,
                head_bias: true,
                ..GPT2
            },
            qkv_bias: false,
            out_bias: false,
            ..CLASSIC
        },
        "gpt_neox" => Family {
            style: Style {
                embed: "gpt_neox.embed_in",
                layers: "gpt_neox.layers",
                norm: "gpt_neox.final_layer_norm",
                head: "embed_out",
                attention: AttentionNames {
                    module: "attention",
                    fused: Some("query_key_value"),
                    out: "dense",
                    ..LLAMA.attention
                },
                mlp: FOUR_H,
                ..LAYER_NORM
            },
            qkv_bias: f.flag_or("attention_bias", true)?,
            out_bias: f.flag_or("attention_bias", true)?,
            ..CLASSIC
        },
        "opt" => Family {
            style: Style {
                embed: "model.decoder.embed_tokens",
                layers: "model.decoder.layers",
                norm: "model.decoder.final_layer_norm",
                norms: &["self_attn_layer_norm", "final_layer_norm"],
                attention: AttentionNames { out: "out_proj", ..LLAMA.attention },
                mlp: MlpNames { module: "", gate: "", up: "fc1", fused: None, down: "fc2" },
                tied: true,
                ..LAYER_NORM
            },
            ..CLASSIC
        },
        "starcoder2" => {
            let bias = f.flag_or("use_bias", true)?;
            Family {
                style: Style { mlp: GPT2.mlp, tied: true, ..LAYER_NORM },
                qkv_bias: bias,
                out_bias: bias,
                mlp_bias: bias,
                gated: false,
                ..PLAIN
            }
        }
        "baichuan" => Family {
            style: Style { attention: AttentionNames { fused: Some("W_pack"), ..LLAMA.attention }, ..LLAMA },
            ..PLAIN
        },
        "internlm" => {
            let bias = f.flag_or("bias", true)?;
            Family { qkv_bias: bias, out_bias: bias, ..PLAIN }
        }
        "internlm2" => {
            let bias = flag("bias")?;
            Family {
                style: Style {
                    embed: "model.tok_embeddings",
                    head: "output",
                    norms: &["attention_norm", "ffn_norm"],
                    attention: AttentionNames {
                        module: "attention",
                        fused: Some("wqkv"),
                        out: "wo",
                        ..LLAMA.attention
                    },
                    mlp: MlpNames { module: "feed_forward", gate: "w1", up: "w3", fused: None, down: "w2" },
                    ..LLAMA
                },
                qkv_bias: bias,
                out_bias: bias,
                ..PLAIN
            }
        }
        "chatglm" => {
            let bias = flag("add_bias_linear")?;
            Family {
                qkv_bias: bias || flag("add_qkv_bias")?,
                out_bias: bias,
                mlp_bias: bias,
                style: CHATGLM,
                ..PLAIN
            }
        }
        "glm" | "glm4" => Family {
            style: Style {
                norms: if model_type == "glm" { LLAMA.norms } else { GLM4_NORMS },
                mlp: MlpNames { fused: Some("gate_up_proj"), ..LLAMA.mlp },
                ..LLAMA
            },
            out_bias: false,
            ..llama
        },
        "olmo" => Family { style: Style { norm_kind: NormKind::None, ..LLAMA }, ..llama },
        "olmo2" | "olmo3" => Family {
            style: Style { norms: &["post_attention_layernorm", "post_feedforward_layernorm"], ..LLAMA },
            qk_norm: QkNorm::Full,
            ..llama
        },
        "stablelm" => Family {
            style: Style {
                norms: if flag("use_parallel_residual")? { &["input_layernorm"] } else { LLAMA.norms },
                ..LAYER_NORM
            },
            qkv_bias: flag("use_qkv_bias")?,
            qk_norm: if flag("qk_layernorm")? { QkNorm::Full } else { QkNorm::None },
            ..PLAIN
        },
        "cohere" | "cohere2" => Family {
            style: Style { norms: &["input_layernorm"], tied: true, ..LLAMA },
            qk_norm: if flag("use_qk_norm")? { QkNorm::Full } else { QkNorm::None },
            ..llama
        },
        "exaone" => Family {
            style: Style {
                norm_kind: NormKind::Weight,
                attention: AttentionNames { module: "attn.attention", out: "out_proj", ..LLAMA.attention },
                mlp: MlpNames { module: "mlp", gate: "c_fc_0", up: "c_fc_1", fused: None, down: "c_proj" },
                tied: false,
                ..GPT2
            },
            ..PLAIN
        },
        "exaone4" => Family {
            style: Style { norms: &["post_attention_layernorm", "post_feedforward_layernorm"], ..LLAMA },
            qk_norm: QkNorm::Head,
            ..PLAIN
        },
        "orion" => Family { style: LAYER_NORM, ..PLAIN },
        "nemotron" => Family { style: LAYER_NORM, gated: false, ..llama },
        _ => return Ok(None),
    }))
}

/// Falcon: two norms since the second generation, one before where attention and MLP run in parallel.
fn falcon(f: &Fields<'_>) -> Result<Family, ParseError> {
    let bias = f.flag_or("bias", false)?;
    let new = f.flag_or("new_decoder_architecture", false)?;
    let parallel = f.flag_or("parallel_attn", true)?;
    let one = new && f.number("num_ln_in_parallel_attn", FACTOR)? == Some(1);
    Ok(Family {
        style: Style {
            embed: "transformer.word_embeddings",
            norms: match (new, parallel) {
                (true, _) if one => &["input_layernorm"],
                (true, _) => &["ln_attn", "ln_mlp"],
                (false, true) => &["input_layernorm"],
                (false, false) => LLAMA.norms,
            },
            attention: AttentionNames {
                module: "self_attention",
                fused: Some("query_key_value"),
                out: "dense",
                ..LLAMA.attention
            },
            mlp: FOUR_H,
            ..GPT2
        },
        qkv_bias: bias,
        out_bias: bias,
        mlp_bias: bias,
        ..CLASSIC
    })
}

const FOUR_H: MlpNames = MlpNames {
    module: "mlp",
    gate: "",
    up: "dense_h_to_4h",
    fused: Some("dense_h_to_4h"),
    down: "dense_4h_to_h",
};

const QWEN_MLP: MlpNames = MlpNames { module: "mlp", gate: "w2", up: "w1", fused: None, down: "c_proj" };

const GLM4_NORMS: &[&str] =
    &["input_layernorm", "post_attention_layernorm", "post_self_attn_layernorm", "post_mlp_layernorm"];

const GEMMA2: Style = Style {
    norms: &[
        "input_layernorm",
        "post_attention_layernorm",
        "pre_feedforward_layernorm",
        "post_feedforward_layernorm",
    ],
    tied: true,
    ..LLAMA
};

const CHATGLM: Style = Style {
    embed: "transformer.embedding.word_embeddings",
    layers: "transformer.encoder.layers",
    norm: "transformer.encoder.final_layernorm",
    head: "transformer.output_layer",
    attention: AttentionNames {
        module: "self_attention",
        fused: Some("query_key_value"),
        out: "dense",
        ..LLAMA.attention
    },
    mlp: FOUR_H,
    ..LLAMA
};
