//! Decoders with a mixture of experts and attention over heads.

use super::adjust::{ernie_vl, grok, mimo, minimax_m3, step};
use super::family::{
    ATTENTION_BIAS, Draft, EXPERTS, Experts, Extra, Family, FfnRule, Form, HEADS, Heads, KvHeads, LayerRule,
    MLP, Mixer, Number, Offset, On, PLAIN, SPANS, SPARSE, Shared, Size, Sparse, TIED, When,
};
use crate::model::hf_config::block::attention::QkNorm;
use crate::model::hf_config::block::names::{
    AttentionNames, DEEPSEEK_MOE, GRANITE_MOE, LLAMA, MIXTRAL_MOE, MlpNames, MoeNames, NormKind, Style,
};
use crate::model::pattern::{Every, Kind, Place};

/// What most have.
const BASE: Family = Family {
    mixer: Mixer::Heads(ATTENTION),
    window: Number(&["sliding_window", "sliding_window_size"], 0),
    draft: Draft::NextToken(Number(&["num_nextn_predict_layers"], 0), ""),
    ..PLAIN
}
.sparse(&EXPERTS);

/// Biases where the config says so, and values of their own width.
const ATTENTION: Heads = Heads { own_values: true, sinks: SINKS, ..HEADS.biased(ATTENTION_BIAS) };

const SINKS: When = When::Flag("add_full_attention_sink_bias", false);

/// With norms of queries and keys.
const NORMED: Mixer = Mixer::Heads(ATTENTION.normed(QkNorm::Head, When::Always));

/// The same where a flag says so.
const fn normed_if(flag: &'static str, default: bool) -> Mixer {
    Mixer::Heads(ATTENTION.normed(QkNorm::Head, When::Flag(flag, default)))
}

const MIXTRAL: Style = Style { moe: MIXTRAL_MOE, ..LLAMA };
const DEEPSEEK: Style = Style { moe: DEEPSEEK_MOE, ..LLAMA };
const GRANITE: Style = Style { moe: GRANITE_MOE, ..LLAMA };

/// Several experts' width together passes every token.
const SHARED: Shared = Shared::Times(&["n_shared_experts", "moe_num_shared_experts"], 0, When::Always);

/// The same under a third name.
const SHARED_TOO: Shared = Shared::Times(&["num_shared_experts"], 0, When::Always);

/// DeepSeek's experts, with the correction of the third version.
const CORRECTED: Experts = Experts { shared: SHARED, correction: When::Always, ..EXPERTS };

/// The first layer is dense, where the config does not say.
const AFTER_FIRST: Sparse = Sparse { first: 1, ..SPARSE };

/// The last of every so many layers.
const fn last_of(step: &'static str) -> Sparse {
    Sparse { step, offset: Offset::Last, ..SPARSE }
}

const FUSED: MlpNames =
    MlpNames { module: "", gate: "", up: "", fused: Some("gate_up_proj"), down: "down_proj" };

/// One global layer, the last of four, or as the config says; its letters stand for a period.
const GLOBAL: &[LayerRule] = &[SPANS, LETTERS, LayerRule::Every(Every::full(4), PERIODS, None)];

const PERIODS: &[&str] = &["global_attn_every_n_layers", "sliding_window_pattern"];

const LETTERS: LayerRule =
    LayerRule::Letters("sliding_window_pattern", &[('L', Kind::Sliding), ('G', Kind::Full)], true);

const ALL_SLIDING: &[LayerRule] = &[SPANS, LayerRule::All(Kind::Sliding)];

const SANDWICH: &[&str] =
    &["input_layernorm", "post_attention_layernorm", "pre_mlp_layernorm", "post_mlp_layernorm"];

/// A gate of one feature per head, by which the output of attention is multiplied.
const fn gate_per_head(when: When) -> Extra {
    Extra { name: "self_attn.g_proj", form: Form::Attention(Size::Heads, Size::Hidden), on: On::All, when }
}

/// One entry per family.
pub(super) const FAMILIES: &[Family] = &[
    Family { types: &["mixtral"], names: MIXTRAL, layers: ALL_SLIDING, ..BASE },
    Family {
        types: &["phimoe"],
        names: Style { norm_kind: NormKind::WeightAndBias, ..MIXTRAL },
        head_bias: When::Flag("lm_head_bias", false),
        layers: ALL_SLIDING,
        ..BASE
    },
    Family {
        types: &["minimax_m2"],
        names: MIXTRAL,
        mixer: Mixer::Heads(ATTENTION.normed(QkNorm::Full, When::Flag("use_qk_norm", true))),
        ..BASE
    }
    .sparse(&Experts {
        shared: Shared::Width("shared_intermediate_size", 0),
        correction: When::Flag("use_routing_bias", false),
        ..EXPERTS
    }),
    Family {
        types: &["minimax_m3"],
        names: MIXTRAL,
        mixer: normed_if("use_qk_norm", false),
        ffn: FfnRule { width: &["dense_intermediate_size"], ..MLP },
        adjust: Some(minimax_m3),
        ..BASE
    }
    .sparse(&Experts {
        shared: MINIMAX_SHARED,
        correction: When::Flag("use_routing_bias", false),
        ..EXPERTS
    }),
    Family {
        types: &["minimax_m3_vl_text"],
        names: DEEPSEEK,
        mixer: NORMED,
        ffn: FfnRule { width: &["dense_intermediate_size"], ..MLP },
        ..BASE
    }
    .sparse(&Experts { shared: MINIMAX_SHARED, ..CORRECTED }),
    Family {
        types: &["qwen2_moe"],
        mixer: Mixer::Heads(Heads {
            qkv_bias: When::Flag("qkv_bias", true),
            out_bias: When::Never,
            ..ATTENTION
        }),
        ..BASE
    }
    .sparse(&Experts {
        shared: Shared::Width("shared_expert_intermediate_size", 5632),
        shared_gate: true,
        sparse: last_of("decoder_sparse_step"),
        ..EXPERTS
    }),
    Family { types: &["qwen3_moe"], mixer: NORMED, ..BASE }
        .sparse(&Experts { sparse: last_of("decoder_sparse_step"), ..EXPERTS }),
    Family {
        types: &["glm4_moe"],
        names: DEEPSEEK,
        mixer: Mixer::Heads(
            Heads { out_bias: When::Never, ..ATTENTION }
                .normed(QkNorm::Head, When::Flag("use_qk_norm", false)),
        ),
        ..BASE
    }
    .sparse(&Experts { sparse: AFTER_FIRST, ..CORRECTED }),
    Family { types: &["dots1"], names: DEEPSEEK, mixer: NORMED, ..BASE }.sparse(&CORRECTED),
    Family { types: &["deepseek"], names: DEEPSEEK, ..BASE }.sparse(&Experts { shared: SHARED, ..EXPERTS }),
    Family { types: &["llada_moe"], names: DEEPSEEK, mixer: NORMED, ..BASE },
    Family { types: &["aria_text"], names: DEEPSEEK, ..BASE }
        .sparse(&Experts { shared: Shared::Times(&["moe_num_shared_experts"], 2, When::Always), ..EXPERTS }),
    // Its attention is chunked but where it has no positions; 1 in the list marks a layer with them.
    Family {
        types: &["llama4"],
        names: Style {
            mlp: MlpNames { module: "feed_forward", ..LLAMA.mlp },
            moe: MoeNames {
                module: "feed_forward",
                router: "router",
                expert: MlpNames { gate: "gate_proj", up: "up_proj", ..FUSED },
                ..LLAMA.moe
            },
            ..LLAMA
        },
        layers: &[
            LayerRule::Numbered("no_rope_layers", 0, Kind::Full, Kind::Chunked),
            LayerRule::Every(
                Every { others: Kind::Chunked, ..Every::full(4) },
                &["no_rope_layer_interval"],
                None,
            ),
        ],
        chunk: Number(&["attention_chunk_size"], 8192),
        ffn: FfnRule { width: &["intermediate_size_mlp"], ..MLP },
        ..BASE
    }
    .sparse(&Experts { shared: Shared::Routed, sparse: last_of("interleave_moe_layer_step"), ..EXPERTS }),
    Family {
        types: &["gpt_oss"],
        names: Style { moe: MoeNames { router: "router", expert: FUSED, ..LLAMA.moe }, ..LLAMA },
        mixer: Mixer::Heads(Heads {
            sinks: When::Always,
            ..ATTENTION.biased(When::Flag("attention_bias", true))
        }),
        layers: &[SPANS, LayerRule::Every(Every::full(2), &[], None)],
        ..BASE
    }
    .sparse(&Experts { bias: true, ..EXPERTS }),
    Family {
        types: &["step3p5"],
        extras: &[gate_per_head(When::First(&["use_head_wise_attn_gate", "gating"], false))],
        adjust: Some(|f, plan, _| step(f, plan)),
        ..STEP
    },
    Family {
        types: &["step3p7"],
        extras: &[gate_per_head(When::First(&["use_head_wise_attn_gate", "gating"], true))],
        adjust: Some(|f, plan, b| {
            b.described("This architecture");
            step(f, plan)
        }),
        ..STEP
    },
    Family { types: &["granitemoe"], names: GRANITE, ..BASE },
    Family { types: &["granitemoeshared"], names: GRANITE, ..BASE }
        .sparse(&Experts { shared: Shared::Width("shared_intermediate_size", 0), ..EXPERTS }),
    // The first layer of a period is the global one.
    Family {
        types: &["granitemoe_swa"],
        names: GRANITE,
        layers: &[SPANS, LayerRule::Every(Every::full_first(4), PERIODS, None)],
        extras: &[Extra {
            name: "self_attn.sinks",
            form: Form::Vector(Size::Heads),
            on: On::All,
            when: When::Always,
        }],
        ..BASE
    },
    Family { types: &["olmoe"], ..OLMOE },
    Family {
        types: &["flex_olmo"],
        names: Style { norms: &["post_attention_layernorm", "post_feedforward_layernorm"], ..LLAMA },
        ..OLMOE
    },
    Family {
        types: &["ernie4_5_moe"],
        names: DEEPSEEK,
        tied: TIED,
        mixer: Mixer::Heads(ATTENTION.biased(When::Flag("use_bias", false))),
        ..BASE
    }
    .sparse(&Experts { sparse: last_of("moe_layer_interval"), ..CORRECTED }),
    Family {
        types: &["ernie4_5_vl_moe_text"],
        names: DEEPSEEK,
        tied: TIED,
        adjust: Some(|f, plan, _| ernie_vl(f, plan)),
        ..BASE
    }
    .sparse(&Experts { sparse: AFTER_FIRST, ..CORRECTED }),
    Family {
        types: &["mimo_v2_flash"],
        layers: &[LayerRule::Numbered("hybrid_layer_pattern", 1, Kind::Sliding, Kind::Full)],
        adjust: Some(|f, plan, _| mimo(f, plan)),
        ..BASE
    }
    .sparse(&CORRECTED),
    Family { types: &["bailing_moe"], names: BAILING, mixer: Mixer::Heads(BAILING_ATTENTION), ..BASE }
        .sparse(&Experts { shared: SHARED_TOO, ..EXPERTS }),
    Family {
        types: &["bailing_moe_v2"],
        names: BAILING,
        mixer: Mixer::Heads(BAILING_ATTENTION.normed(QkNorm::Head, When::Flag("use_qk_norm", false))),
        ..BASE
    }
    .sparse(&Experts {
        shared: SHARED_TOO,
        correction: When::Flag("moe_router_enable_expert_bias", false),
        ..EXPERTS
    }),
    Family {
        types: &["hunyuan_v1_moe", "hunyuan"],
        names: Style {
            attention: AttentionNames {
                query_norm: "query_layernorm",
                key_norm: "key_layernorm",
                ..LLAMA.attention
            },
            moe: MoeNames { router: "gate.wg", shared: "shared_mlp", ..LLAMA.moe },
            ..LLAMA
        },
        mixer: normed_if("use_qk_norm", true),
        ..BASE
    }
    .sparse(&Experts {
        per_token: Number(&["moe_topk"], 1),
        shared: Shared::Times(&["num_shared_expert"], 1, When::Flag("use_mixed_mlp_moe", true)),
        ..EXPERTS
    }),
    // It keeps the measures of attention and of the experts apart.
    Family {
        types: &["dbrx"],
        names: Style {
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
        kv_heads: KvHeads::Below("attn_config", true),
        ..BASE
    }
    .sparse(&Experts { below: "ffn_config", width: &["ffn_hidden_size"], ..EXPERTS }),
    // A dense MLP of the residual stream's width stands beside the experts.
    Family {
        types: &["arctic"],
        names: Style {
            mlp: MlpNames { module: "residual_mlp", gate: "w1", up: "w3", fused: None, down: "w2" },
            ..MIXTRAL
        },
        extras: &[
            beside("residual_layernorm", Form::Norm(Size::Hidden, When::Never)),
            beside("residual_mlp.w1", Form::Rows(Size::Hidden, Size::Hidden)),
            beside("residual_mlp.w3", Form::Rows(Size::Hidden, Size::Hidden)),
            beside("residual_mlp.w2", Form::Columns(Size::Hidden, Size::Hidden)),
        ],
        ..BASE
    }
    .sparse(&Experts { sparse: last_of("moe_layer_frequency"), ..EXPERTS }),
    // Grok 2's dense MLP stands beside its experts.
    Family {
        types: &["grok-1"],
        names: Style {
            norms: &["pre_attn_norm", "post_attn_norm", "pre_moe_norm", "post_moe_norm"],
            ..MIXTRAL
        },
        adjust: Some(|f, plan, _| grok(f, plan)),
        ..BASE
    },
    Family {
        types: &["afmoe"],
        names: Style {
            norms: SANDWICH,
            moe: MoeNames { router: "router.gate", correction: "expert_bias", ..DEEPSEEK_MOE },
            ..LLAMA
        },
        mixer: NORMED,
        layers: GLOBAL,
        extras: &[Extra {
            name: "self_attn.gate_proj",
            form: Form::Attention(Size::Queries, Size::Hidden),
            on: On::All,
            when: When::Always,
        }],
        ..BASE
    }
    .sparse(&Experts { shared: SHARED_TOO, sparse: AFTER_FIRST, ..CORRECTED }),
    Family { types: &["exaone_moe"], names: DEEPSEEK, mixer: NORMED, layers: GLOBAL, ..BASE }
        .sparse(&Experts { shared: SHARED_TOO, sparse: AFTER_FIRST, ..CORRECTED }),
    Family { types: &["hy_v3"], names: DEEPSEEK, mixer: NORMED, ..BASE }.sparse(&Experts {
        shared: SHARED_TOO,
        sparse: AFTER_FIRST,
        ..CORRECTED
    }),
    Family { types: &["solar_open"], names: DEEPSEEK, mixer: normed_if("use_qk_norm", false), ..BASE }
        .sparse(&CORRECTED),
    Family { types: &["sarvam_moe"], names: DEEPSEEK, mixer: normed_if("use_qk_norm", true), ..BASE }
        .sparse(&Experts { sparse: AFTER_FIRST, ..CORRECTED }),
    Family {
        types: &["cohere2_moe"],
        names: Style { norms: &["input_layernorm"], ..DEEPSEEK },
        tied: TIED,
        layers: GLOBAL,
        ..BASE
    }
    .sparse(&Experts { shared: SHARED_TOO, ..EXPERTS }),
    Family { types: &["mellum"], mixer: NORMED, ..BASE },
    // A sliding window in four layers of five, and norms on both sides of attention and experts.
    Family {
        types: &["kolibri1"],
        names: Style {
            norms: &[
                "input_layernorm",
                "post_attention_layernorm",
                "post_self_attn_layernorm",
                "post_mlp_layernorm",
            ],
            ..DEEPSEEK
        },
        mixer: NORMED,
        layers: &[SPANS, LayerRule::Every(Every::full(5), &[], None)],
        ..BASE
    }
    .sparse(&Experts {
        shared: Shared::Width("shared_expert_intermediate_size", 512),
        correction: When::Always,
        ..EXPERTS
    }),
    // The first two layers are dense, and a shared expert without a gate stands beside the others.
    Family {
        types: &["flint"],
        mixer: Mixer::Heads(Heads { sinks: When::Always, ..ATTENTION.normed(QkNorm::Head, When::Always) }),
        layers: &[SPANS, LayerRule::Every(Every { place: Place::After(1), ..Every::full(4) }, &[], None)],
        ..BASE
    }
    .sparse(&Experts {
        shared: Shared::Width("shared_expert_intermediate_size", 1024),
        sparse: Sparse { first: 2, ..SPARSE },
        ..EXPERTS
    }),
    // It has names of its own for everything, and a number per layer for its windows.
    Family {
        types: &["smallthinker"],
        names: Style {
            moe: MoeNames {
                module: "block_sparse_moe",
                router: "primary_router",
                expert: MlpNames { module: "", gate: "gate", up: "up", fused: None, down: "down" },
                ..LLAMA.moe
            },
            ..LLAMA
        },
        layers: &[
            LayerRule::Numbered("sliding_window_layout", 1, Kind::Sliding, Kind::Full),
            LayerRule::Every(Every::full_first(4), &[], None),
        ],
        ..BASE
    }
    .sparse(&Experts {
        count: Number(&["moe_num_primary_experts"], 0),
        per_token: Number(&["moe_num_active_primary_experts"], 1),
        width: &["moe_ffn_hidden_size"],
        ..EXPERTS
    }),
    Family { types: &["laguna"], mixer: NORMED, extras: &[gate_per_head(When::Unless("gating"))], ..BASE }
        .sparse(&Experts {
            shared: Shared::Width("shared_expert_intermediate_size", 0),
            correction: When::Always,
            sparse: AFTER_FIRST,
            ..EXPERTS
        }),
];

const MINIMAX_SHARED: Shared =
    Shared::WidthOrTimes("shared_intermediate_size", &["n_shared_experts", "moe_num_shared_experts"]);

const OLMOE: Family = Family { mixer: Mixer::Heads(ATTENTION.normed(QkNorm::Full, When::Always)), ..BASE };

const STEP: Family = Family {
    names: Style {
        moe: MoeNames { module: "moe", correction: "router_bias", shared: "share_expert", ..LLAMA.moe },
        ..LLAMA
    },
    mixer: NORMED,
    ..BASE
}
.sparse(&Experts {
    shared: Shared::WidthOrTimes("share_expert_dim", &["n_shared_experts", "moe_num_shared_experts"]),
    correction: When::Flag("use_moe_router_bias", false),
    ..EXPERTS
});

const BAILING: Style = Style {
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
};

const BAILING_ATTENTION: Heads = Heads {
    qkv_bias: When::Flag("use_qkv_bias", false),
    out_bias: When::Flag("use_bias", false),
    ..ATTENTION
};

/// What Arctic has beside its experts.
const fn beside(name: &'static str, form: Form) -> Extra {
    Extra { name, form, on: On::All, when: When::Flag("parallel_attn_mlp_res", true) }
}
