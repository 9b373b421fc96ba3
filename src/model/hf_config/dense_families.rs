//! What dense families are called and made of: one entry per `model_type`.

use super::blocks::{AttentionNames, MlpNames, MoeNames, QkNorm};
use super::decoder::{NormKind, Style};
use super::fields::{FACTOR, Fields};
use crate::model::ParseError;

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
#[allow(clippy::struct_excessive_bools)] // each is a tensor that is there or not
#[derive(Clone, Copy, Debug)]
pub(super) struct Family {
    /// Names.
    pub(super) style: Style,
    /// Whether query, key and value projections have biases.
    pub(super) qkv_bias: bool,
    /// Whether the output projection of attention has one.
    pub(super) out_bias: bool,
    /// Whether the projections of the MLP have them.
    pub(super) mlp_bias: bool,
    /// Whether the MLP's hidden layer is multiplied by a gate.
    pub(super) gated: bool,
    /// Norms of queries and keys.
    pub(super) qk_norm: QkNorm,
    /// Width of the MLP where the config does not say, as a multiple of the residual stream.
    pub(super) widen: u64,
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

/// The family of a `model_type`; `None` if it is not a dense decoder.
#[allow(clippy::too_many_lines)] // one arm per family
pub(super) fn family(model_type: &str, f: &Fields<'_>) -> Result<Option<Family>, ParseError> {
    let flag = |key| f.flag_or(key, false);
    let attention_bias = flag("attention_bias")?;
    let llama =
        Family { qkv_bias: attention_bias, out_bias: attention_bias, mlp_bias: flag("mlp_bias")?, ..PLAIN };
    Ok(Some(match model_type {
        "llama" | "yi" | "granite" | "arcee" | "mistral" | "ministral" | "ministral3" | "xverse"
        | "minicpm" | "smollm3" | "aquila" | "helium" | "cwm" | "iquestcoder" | "bitnet" | "diffllama"
        | "hyperclovax" | "granite_swa" | "minicpm4" => Family {
            style: Style { tied: matches!(model_type, "smollm3" | "minicpm"), ..LLAMA },
            gated: model_type != "arcee",
            ..llama
        },
        // Its norms have no weights.
        "nanochat" => Family {
            style: Style { norm_kind: NormKind::None, mlp: PHI_MLP, ..LLAMA },
            gated: false,
            ..llama
        },
        "jais2" => Family {
            style: LAYER_NORM,
            qkv_bias: f.flag_or("attention_bias", true)?,
            out_bias: f.flag_or("attention_bias", true)?,
            mlp_bias: f.flag_or("mlp_bias", true)?,
            gated: false,
            ..PLAIN
        },
        "vaultgemma" => Family {
            style: Style { norms: &["input_layernorm", "pre_feedforward_layernorm"], tied: true, ..LLAMA },
            ..llama
        },
        "seed_oss" => Family {
            qkv_bias: f.flag_or("attention_bias", true)?,
            out_bias: flag("attention_out_bias")?,
            ..llama
        },
        "ernie4_5" => Family { style: Style { tied: true, ..LLAMA }, ..PLAIN },
        "qwen2" | "dream" | "Dream" => Family { qkv_bias: f.flag_or("qkv_bias", true)?, ..PLAIN },
        "mimo" => Family { qkv_bias: f.flag_or("attention_bias", true)?, ..PLAIN },
        "qwen3" | "doge" => Family { qk_norm: QkNorm::Head, ..llama },
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
                mlp: PHI_MLP,
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
        "falcon" | "RefinedWeb" | "RefinedWebModel" => falcon(model_type, f)?,
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
        "gpt2" | "gpt_bigcode" | "gpt-sw3" => CLASSIC,
        // The last layer's output is not normed.
        "openai-gpt" => {
            Family { style: Style { embed: "transformer.tokens_embed", norm: "", ..GPT2 }, ..CLASSIC }
        }
        "gpt_neo" => Family {
            style: Style {
                attention: AttentionNames { module: "attn.attention", out: "out_proj", ..LLAMA.attention },
                ..GPT2
            },
            qkv_bias: false,
            ..CLASSIC
        },
        "codegen" => Family {
            style: Style {
                norms: &["ln_1"],
                attention: AttentionNames {
                    module: "attn",
                    fused: Some("qkv_proj"),
                    out: "out_proj",
                    ..LLAMA.attention
                },
                mlp: MlpNames { up: "fc_in", down: "fc_out", ..GPT2.mlp },
                tied: false,
                head_bias: true,
                ..GPT2
            },
            qkv_bias: false,
            out_bias: false,
            ..CLASSIC
        },
        "xglm" | "biogpt" => Family {
            style: Style {
                embed: if model_type == "xglm" { "model.embed_tokens" } else { "biogpt.embed_tokens" },
                layers: if model_type == "xglm" { "model.layers" } else { "biogpt.layers" },
                norm: if model_type == "xglm" { "model.layer_norm" } else { "biogpt.layer_norm" },
                ..OPT
            },
            ..CLASSIC
        },
        "persimmon" => Family {
            style: Style {
                norm: "model.final_layernorm",
                attention: AttentionNames { fused: Some("query_key_value"), out: "dense", ..LLAMA.attention },
                mlp: FOUR_H,
                ..LAYER_NORM
            },
            ..CLASSIC
        },
        "modernbert-decoder" => Family {
            style: Style {
                embed: "model.embeddings.tok_embeddings",
                norm: "model.final_norm",
                norms: &["mlp_norm"],
                norm_kind: if flag("norm_bias")? { NormKind::WeightAndBias } else { NormKind::Weight },
                attention: AttentionNames { module: "attn", out: "Wo", ..LLAMA.attention },
                mlp: MlpNames { module: "mlp", gate: "", up: "", fused: Some("Wi"), down: "Wo" },
                tied: true,
                ..LLAMA
            },
            ..llama
        },
        "llada" => Family {
            style: Style {
                embed: "model.transformer.wte",
                layers: "model.transformer.blocks",
                norm: "model.transformer.ln_f",
                head: "model.transformer.ff_out",
                norms: &["attn_norm", "ff_norm"],
                attention: AttentionNames { module: "", out: "attn_out", ..LLAMA.attention },
                mlp: MlpNames { module: "", gate: "ff_proj", up: "up_proj", fused: None, down: "ff_out" },
                ..LLAMA
            },
            qkv_bias: flag("include_qkv_bias")?,
            out_bias: flag("include_bias")?,
            mlp_bias: flag("include_bias")?,
            ..PLAIN
        },
        "jais" => Family { gated: f.text("activation_function")? == Some("swiglu"), ..CLASSIC },
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
        "opt" => Family { style: OPT, ..CLASSIC },
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
        "internlm3" => {
            let bias = flag("bias")?;
            Family { qkv_bias: flag("qkv_bias")?, out_bias: bias, mlp_bias: bias, ..PLAIN }
        }
        "apertus" => Family {
            style: Style { norms: &["attention_layernorm", "feedforward_layernorm"], ..LLAMA },
            gated: false,
            qk_norm: QkNorm::Head,
            ..llama
        },
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
        "stablelm" | "stablelm_epoch" => Family {
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
fn falcon(model_type: &str, f: &Fields<'_>) -> Result<Family, ParseError> {
    let bias = f.flag_or("bias", false)?;
    // Before it came to transformers, the type said it.
    let new = f.flag_or("new_decoder_architecture", model_type == "RefinedWeb")?;
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

/// OPT's names.
const OPT: Style = Style {
    embed: "model.decoder.embed_tokens",
    layers: "model.decoder.layers",
    norm: "model.decoder.final_layer_norm",
    norms: &["self_attn_layer_norm", "final_layer_norm"],
    attention: AttentionNames { out: "out_proj", ..LLAMA.attention },
    mlp: MlpNames { module: "", gate: "", up: "fc1", fused: None, down: "fc2" },
    tied: true,
    ..LAYER_NORM
};

const PHI_MLP: MlpNames = MlpNames { module: "mlp", gate: "", up: "fc1", fused: None, down: "fc2" };

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
