//! Dense decoders after Llama: attention over heads and one gated MLP per layer.

use super::family::{
    ATTENTION_BIAS, Draft, Extra, Family, FfnRule, Form, HEADS, Heads, KvHeads, LayerRule, MLP, Mixer,
    Number, On, PLAIN, SPANS, Size, TIED, When,
};
use crate::model::hf_config::block::attention::QkNorm;
use crate::model::hf_config::block::names::{AttentionNames, LLAMA, MlpNames, NormKind, Style};
use crate::model::pattern::{Every, Kind};

/// One of several spellings of an MLP's width, or four times the residual stream where `widen` says so.
pub(super) const WIDTHS: FfnRule = FfnRule {
    width: &[
        "intermediate_size",
        "ffn_hidden_size",
        "n_inner",
        "ffn_dim",
        "ff_intermediate_size",
        "mlp_hidden_size",
    ],
    ..MLP
};

/// No biases, whatever the config says.
pub(super) const BARE: Family = Family { ffn: WIDTHS, draft: Draft::Mimo, ..PLAIN };

/// Llama, whose config may ask for biases.
pub(super) const BIASED: Family = Family {
    mixer: Mixer::Heads(HEADS.biased(ATTENTION_BIAS)),
    ffn: FfnRule { bias: When::Flag("mlp_bias", false), ..WIDTHS },
    ..BARE
};

/// The same with norms of queries and keys.
const NORMED: Family =
    Family { mixer: Mixer::Heads(HEADS.biased(ATTENTION_BIAS).normed(QkNorm::Head, When::Always)), ..BIASED };

pub(super) const LAYER_NORM: Style = Style { norm_kind: NormKind::WeightAndBias, ..LLAMA };

pub(super) const PHI_MLP: MlpNames =
    MlpNames { module: "mlp", gate: "", up: "fc1", fused: None, down: "fc2" };

pub(super) const FOUR_H: MlpNames = MlpNames {
    module: "mlp",
    gate: "",
    up: "dense_h_to_4h",
    fused: Some("dense_h_to_4h"),
    down: "dense_4h_to_h",
};

/// One matrix for query, key and value, as Megatron calls it.
pub(super) const MEGATRON: AttentionNames =
    AttentionNames { fused: Some("query_key_value"), out: "dense", ..LLAMA.attention };

pub(super) const BLOOM: AttentionNames = AttentionNames { module: "self_attention", ..MEGATRON };

const POST_NORMS: &[&str] = &["post_attention_layernorm", "post_feedforward_layernorm"];

const GEMMA2: Style = Style {
    norms: &[
        "input_layernorm",
        "post_attention_layernorm",
        "pre_feedforward_layernorm",
        "post_feedforward_layernorm",
    ],
    ..LLAMA
};

/// EXAONE 4 spells the pattern out: L for a local layer, G for a global one.
const LOCAL_OR_GLOBAL: LayerRule =
    LayerRule::Letters("sliding_window_pattern", &[('L', Kind::Sliding), ('G', Kind::Full)], true);

/// One global layer, the last of so many, or as the config says.
const fn global_in(period: u64) -> LayerRule {
    LayerRule::Every(Every::full(period), &["sliding_window_pattern"], None)
}

const IN_TWO: &[LayerRule] = &[SPANS, LOCAL_OR_GLOBAL, global_in(2)];
const IN_FOUR: &[LayerRule] = &[SPANS, LOCAL_OR_GLOBAL, global_in(4)];
const IN_SIX: &[LayerRule] = &[SPANS, LOCAL_OR_GLOBAL, global_in(6)];
const FIRST_OF_FOUR: &[LayerRule] = &[SPANS, LayerRule::Every(Every::full_first(4), &[], None)];
pub(super) const ALL_SLIDING: &[LayerRule] = &[SPANS, LayerRule::All(Kind::Sliding)];

/// Qwen's windows, which are off unless a flag is set, and begin after some layers.
const AFTER_SOME: &[LayerRule] = &[
    SPANS,
    LayerRule::Before(Number(&["max_window_layers"], 28), "use_sliding_window", Kind::Full, Kind::Sliding),
];

/// An extra norm of a layer.
pub(super) const fn norm(name: &'static str, width: Size) -> Extra {
    Extra { name, form: Form::Norm(width, When::Never), on: On::All, when: When::Always }
}

/// An extra vector of a layer.
pub(super) const fn vector(name: &'static str, elements: Size) -> Extra {
    Extra { name, form: Form::Vector(elements), on: On::All, when: When::Always }
}

/// ModernBERT's norms may have biases.
const NORM_BIAS: When = When::Flag("norm_bias", false);

/// One entry per family.
pub(super) const FAMILIES: &[Family] = &[
    Family {
        types: &[
            "llama",
            "yi",
            "granite",
            "ministral",
            "ministral3",
            "xverse",
            "aquila",
            "helium",
            "iquestcoder",
            "minicpm4",
        ],
        ..BIASED
    },
    Family { types: &["mistral"], layers: ALL_SLIDING, ..BIASED },
    Family { types: &["cwm"], layers: FIRST_OF_FOUR, ..BIASED },
    Family { types: &["smollm3", "minicpm", "gemma"], tied: TIED, ..BIASED },
    Family { types: &["arcee"], ffn: FfnRule { gated: When::Never, ..BIASED.ffn }, ..BIASED },
    Family {
        types: &["bitnet"],
        extras: &[norm("self_attn.attn_sub_norm", Size::Queries), norm("mlp.ffn_sub_norm", Size::Width)],
        ..BIASED
    },
    Family {
        types: &["diffllama"],
        extras: &[
            vector("self_attn.lambda_q1", Size::HeadDim),
            vector("self_attn.lambda_k1", Size::HeadDim),
            vector("self_attn.lambda_q2", Size::HeadDim),
            vector("self_attn.lambda_k2", Size::HeadDim),
        ],
        ..BIASED
    },
    Family {
        types: &["hyperclovax"],
        extras: &[
            Extra { when: When::Flag("use_post_norm", false), ..norm("post_norm1", Size::Hidden) },
            Extra { when: When::Flag("use_post_norm", false), ..norm("post_norm2", Size::Hidden) },
        ],
        ..BIASED
    },
    Family {
        types: &["granite_swa"],
        layers: FIRST_OF_FOUR,
        extras: &[vector("self_attn.sinks", Size::Heads)],
        ..BIASED
    },
    // Its norms have no weights.
    Family {
        types: &["nanochat"],
        names: Style { norm_kind: NormKind::None, mlp: PHI_MLP, ..LLAMA },
        ffn: FfnRule { gated: When::Never, ..BIASED.ffn },
        ..BIASED
    },
    Family {
        types: &["jais2"],
        names: LAYER_NORM,
        mixer: Mixer::Heads(HEADS.biased(When::Flag("attention_bias", true))),
        ffn: FfnRule { bias: When::Flag("mlp_bias", true), gated: When::Never, ..WIDTHS },
        ..BARE
    },
    Family {
        types: &["vaultgemma"],
        names: Style { norms: &["input_layernorm", "pre_feedforward_layernorm"], ..LLAMA },
        tied: TIED,
        layers: IN_TWO,
        ..BIASED
    },
    Family {
        types: &["seed_oss"],
        mixer: Mixer::Heads(Heads {
            qkv_bias: When::Flag("attention_bias", true),
            out_bias: When::Flag("attention_out_bias", false),
            ..HEADS
        }),
        ..BIASED
    },
    Family { types: &["ernie4_5"], tied: TIED, ..BARE },
    Family { types: &["qwen2"], layers: AFTER_SOME, ..DREAM },
    Family { types: &["dream", "Dream"], ..DREAM },
    Family {
        types: &["mimo"],
        mixer: Mixer::Heads(Heads { qkv_bias: When::Flag("attention_bias", true), ..HEADS }),
        layers: AFTER_SOME,
        ..BARE
    },
    Family { types: &["qwen3"], layers: AFTER_SOME, ..NORMED },
    // Qwen 3 that writes blocks of tokens by diffusion.
    Family { types: &["sdar"], ..NORMED },
    Family {
        types: &["doge"],
        extras: &[
            vector("input_residual", Size::Hidden),
            vector("post_attention_residual", Size::Hidden),
            vector("self_attn.A", Size::KvHeads),
            Extra {
                form: Form::Whole(Size::KvHeads, Size::Keys),
                ..vector("self_attn.dt_proj", Size::KvHeads)
            },
        ],
        ..NORMED
    },
    Family {
        types: &["hunyuan_v1_dense"],
        names: Style {
            attention: AttentionNames {
                query_norm: "query_layernorm",
                key_norm: "key_layernorm",
                ..LLAMA.attention
            },
            ..LLAMA
        },
        mixer: Mixer::Heads(
            HEADS.biased(ATTENTION_BIAS).normed(QkNorm::Head, When::Flag("use_qk_norm", true)),
        ),
        ..BIASED
    },
    Family {
        types: &["phi3"],
        names: Style {
            attention: AttentionNames { fused: Some("qkv_proj"), ..LLAMA.attention },
            mlp: MlpNames { fused: Some("gate_up_proj"), ..LLAMA.mlp },
            ..LLAMA
        },
        layers: ALL_SLIDING,
        ..BARE
    },
    Family { types: &["gemma2"], names: GEMMA2, tied: TIED, layers: IN_TWO, ..BIASED },
    Family { types: &["gemma3_text"], names: GEMMA2, tied: TIED, layers: IN_SIX, ..NORMED },
    Family {
        types: &["modernbert-decoder"],
        names: Style {
            embed: "model.embeddings.tok_embeddings",
            norm: "model.final_norm",
            norms: &["mlp_norm"],
            attention: AttentionNames { module: "attn", out: "Wo", ..LLAMA.attention },
            mlp: MlpNames { module: "mlp", gate: "", up: "", fused: Some("Wi"), down: "Wo" },
            ..LLAMA
        },
        tied: TIED,
        layers: &[SPANS, LayerRule::Every(Every::full_first(3), &["global_attn_every_n_layers"], None)],
        window: Number(&["sliding_window", "local_attention"], 128),
        extras: &[Extra {
            form: Form::Norm(Size::Hidden, NORM_BIAS),
            on: On::NotFirst,
            ..norm("attn_norm", Size::Hidden)
        }],
        outer: &[
            Extra {
                form: Form::Norm(Size::Hidden, NORM_BIAS),
                ..norm("model.embeddings.norm", Size::Hidden)
            },
            Extra {
                form: Form::Dense(Size::Hidden, Size::Hidden, When::Flag("classifier_bias", false)),
                ..norm("lm_head.dense", Size::Hidden)
            },
            Extra { form: Form::Norm(Size::Hidden, NORM_BIAS), ..norm("lm_head.norm", Size::Hidden) },
            Extra { when: When::Flag("decoder_bias", true), ..vector("decoder.bias", Size::Vocabulary) },
        ],
        adjust: Some(|f, plan, _| {
            if NORM_BIAS.holds(f)? {
                plan.style.norm_kind = NormKind::WeightAndBias;
            }
            Ok(())
        }),
        ..BIASED
    },
    Family {
        types: &["llada"],
        names: Style {
            embed: "model.transformer.wte",
            layers: "model.transformer.blocks",
            norm: "model.transformer.ln_f",
            head: "model.transformer.ff_out",
            norms: &["attn_norm", "ff_norm"],
            attention: AttentionNames { module: "", out: "attn_out", ..LLAMA.attention },
            mlp: MlpNames { module: "", gate: "ff_proj", up: "up_proj", fused: None, down: "ff_out" },
            ..LLAMA
        },
        mixer: Mixer::Heads(Heads {
            qkv_bias: When::Flag("include_qkv_bias", false),
            out_bias: When::Flag("include_bias", false),
            ..HEADS
        }),
        ffn: FfnRule { bias: When::Flag("include_bias", false), ..WIDTHS },
        ..BARE
    },
    Family {
        types: &["baichuan"],
        names: Style { attention: AttentionNames { fused: Some("W_pack"), ..LLAMA.attention }, ..LLAMA },
        ..BARE
    },
    Family { types: &["internlm"], mixer: Mixer::Heads(HEADS.biased(When::Flag("bias", true))), ..BARE },
    Family {
        types: &["internlm3"],
        mixer: Mixer::Heads(Heads {
            qkv_bias: When::Flag("qkv_bias", false),
            out_bias: When::Flag("bias", false),
            ..HEADS
        }),
        ffn: FfnRule { bias: When::Flag("bias", false), ..WIDTHS },
        ..BARE
    },
    // With the slopes of its activation.
    Family {
        types: &["apertus"],
        names: Style { norms: &["attention_layernorm", "feedforward_layernorm"], ..LLAMA },
        ffn: FfnRule { gated: When::Never, ..BIASED.ffn },
        extras: &[vector("mlp.act_fn.alpha_p", Size::One), vector("mlp.act_fn.alpha_n", Size::One)],
        ..NORMED
    },
    Family {
        types: &["internlm2"],
        names: Style {
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
        mixer: Mixer::Heads(HEADS.biased(When::Flag("bias", false))),
        ..BARE
    },
    Family {
        types: &["chatglm"],
        names: Style {
            embed: "transformer.embedding.word_embeddings",
            layers: "transformer.encoder.layers",
            norm: "transformer.encoder.final_layernorm",
            head: "transformer.output_layer",
            attention: BLOOM,
            mlp: FOUR_H,
            ..LLAMA
        },
        kv_heads: KvHeads::Grouped("multi_query_attention", "multi_query_group_num"),
        mixer: Mixer::Heads(Heads {
            qkv_bias: When::Any(&["add_bias_linear", "add_qkv_bias"]),
            out_bias: When::Flag("add_bias_linear", false),
            ..HEADS
        }),
        ffn: FfnRule { bias: When::Flag("add_bias_linear", false), ..WIDTHS },
        ..BARE
    },
    Family { types: &["glm"], ..GLM },
    Family {
        types: &["glm4"],
        names: Style {
            norms: &[
                "input_layernorm",
                "post_attention_layernorm",
                "post_self_attn_layernorm",
                "post_mlp_layernorm",
            ],
            ..GLM.names
        },
        ..GLM
    },
    Family { types: &["olmo"], names: Style { norm_kind: NormKind::None, ..LLAMA }, ..BIASED },
    Family { types: &["olmo2"], ..OLMO2 },
    Family { types: &["olmo3"], layers: IN_FOUR, ..OLMO2 },
    Family {
        types: &["stablelm", "stablelm_epoch"],
        names: LAYER_NORM,
        mixer: Mixer::Heads(Heads {
            qkv_bias: When::Flag("use_qkv_bias", false),
            norm: QkNorm::Full,
            normed: When::Flag("qk_layernorm", false),
            ..HEADS
        }),
        adjust: Some(|f, plan, _| {
            if f.flag_or("use_parallel_residual", false)? {
                plan.style.norms = &["input_layernorm"];
            }
            Ok(())
        }),
        ..BARE
    },
    Family { types: &["cohere"], ..COHERE },
    Family { types: &["cohere2"], layers: IN_FOUR, ..COHERE },
    Family {
        types: &["exaone4"],
        names: Style { norms: POST_NORMS, ..LLAMA },
        mixer: Mixer::Heads(HEADS.normed(QkNorm::Head, When::Always)),
        layers: IN_FOUR,
        ..BARE
    },
    Family { types: &["orion"], names: LAYER_NORM, ..BARE },
    Family {
        types: &["nemotron"],
        names: LAYER_NORM,
        ffn: FfnRule { gated: When::Never, ..BIASED.ffn },
        ..BIASED
    },
];

/// Qwen 2, with and without windows.
const DREAM: Family =
    Family { mixer: Mixer::Heads(Heads { qkv_bias: When::Flag("qkv_bias", true), ..HEADS }), ..BARE };

const GLM: Family = Family {
    names: Style { mlp: MlpNames { fused: Some("gate_up_proj"), ..LLAMA.mlp }, ..LLAMA },
    mixer: Mixer::Heads(Heads { qkv_bias: ATTENTION_BIAS, ..HEADS }),
    ..BIASED
};

const OLMO2: Family = Family {
    names: Style { norms: POST_NORMS, ..LLAMA },
    mixer: Mixer::Heads(HEADS.biased(ATTENTION_BIAS).normed(QkNorm::Full, When::Always)),
    ..BIASED
};

const COHERE: Family = Family {
    names: Style { norms: &["input_layernorm"], ..LLAMA },
    tied: TIED,
    mixer: Mixer::Heads(HEADS.biased(ATTENTION_BIAS).normed(QkNorm::Full, When::Flag("use_qk_norm", false))),
    ..BIASED
};
