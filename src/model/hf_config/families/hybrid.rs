//! Decoders whose layers attend or keep a state, and those with states alone.

use super::family::{
    ATTENTION_BIAS, Draft, EXPERTS, Experts, Extra, Family, FfnRule, Form, HEADS, Heads, Inner, LayerRule,
    MLP, Mamba2Keys, Mixer, Number, Offset, On, PLAIN, Recurrence, SPARSE, Shared, Size, Sparse, TIED, When,
};
use super::latent::DEEPSEEK;
use crate::model::ParseError;
use crate::model::hf_config::block::attention::QkNorm;
use crate::model::hf_config::block::mlp::Ffn;
use crate::model::hf_config::block::names::{
    AttentionNames, DEEPSEEK_MOE, GRANITE_MOE, LLAMA, MIXTRAL_MOE, MlpNames, MoeNames, Style,
};
use crate::model::hf_config::block::state::DeltaForm;
use crate::model::hf_config::builder::Builder;
use crate::model::hf_config::config::fields::{FACTOR, Fields};
use crate::model::hf_config::plan::Plan;
use crate::model::pattern::{Every, Kind, Place};

/// What most have.
const BASE: Family = Family { layers: &[LINEAR], ..PLAIN };

/// transformers' words for layers that attend or keep a state.
const LINEAR: LayerRule =
    LayerRule::ByTypes("layer_types", &[("full_attention", Kind::Full), ("linear_attention", Kind::State)]);

/// The same for Mamba.
const MAMBA: LayerRule = LayerRule::ByTypes(
    "layer_types",
    &[
        ("attention", Kind::Full),
        ("mamba", Kind::State),
        ("full_attention", Kind::Full),
        ("mamba2", Kind::State),
        ("linear_attention", Kind::State),
    ],
);

/// The same for short convolutions.
const CONVOLUTIONS: LayerRule = LayerRule::ByTypes(
    "layer_types",
    &[("full_attention", Kind::Full), ("sliding_attention", Kind::Sliding), ("conv", Kind::State)],
);

const RECURRENT_WORDS: &[(&str, Kind)] = &[
    ("recurrent", Kind::State),
    ("attention", Kind::Sliding),
    ("linear_attention", Kind::State),
    ("full_attention", Kind::Sliding),
    ("sliding_attention", Kind::Sliding),
];

/// Attention in the last layer of so many, or as the config says.
const fn attends_in(period: u64, keys: &'static [&'static str]) -> LayerRule {
    LayerRule::Every(Every::attending(period), keys, None)
}

const ALL_STATES: LayerRule = LayerRule::All(Kind::State);

/// Mamba-2 as Bamba, Granite 4 and Falcon-H1 have it.
const MAMBA2: Recurrence = Recurrence::Mamba2(Mamba2Keys {
    heads: "mamba_n_heads",
    inner: Inner::Own("mamba_d_ssm"),
    expand: "mamba_expand",
    groups: Number(&["mamba_n_groups"], 1),
    state: Number(&["mamba_d_state"], 256),
    kernel: "mamba_d_conv",
    conv_bias: "mamba_conv_bias",
    bias: "mamba_proj_bias",
    normed: When::Flag("mamba_rms_norm", true),
});

/// The names of Bamba, Falcon-H1 and Jamba.
const FEED_FORWARD: Style = Style {
    norm: "model.final_layernorm",
    norms: &["input_layernorm", "pre_ff_layernorm"],
    mlp: MlpNames { module: "feed_forward", ..LLAMA.mlp },
    moe: MoeNames { module: "feed_forward", router: "router", ..LLAMA.moe },
    ..LLAMA
};

/// Experts that a config of the family may have.
const OPTIONAL: Experts = Experts {
    count: Number(&["num_experts"], 0),
    more_than: Some(0),
    per_token: Number(&["num_experts_per_tok"], 1),
    width: &["moe_intermediate_size"],
    ..EXPERTS
};

const BACKBONE: Style = Style {
    embed: "backbone.embeddings",
    layers: "backbone.layers",
    norm: "backbone.norm_f",
    norms: &["norm"],
    attention: AttentionNames { module: "mixer", ..LLAMA.attention },
    mamba: "mixer",
    ..LLAMA
};

const NEMOTRON_MLP: MlpNames =
    MlpNames { module: "mixer", gate: "", up: "up_proj", fused: None, down: "down_proj" };

/// Words and letters for the blocks of Nemotron-H.
const WORDS: &[(&str, Kind)] = &[
    ("mamba", Kind::State),
    ("attention", Kind::Full),
    ("mlp", Kind::Mlp),
    ("moe", Kind::Experts),
    ("linear_attention", Kind::State),
    ("full_attention", Kind::Full),
];
const LETTERS: &[(char, Kind)] =
    &[('M', Kind::State), ('*', Kind::Full), ('-', Kind::Mlp), ('E', Kind::Experts)];

/// A norm of the residual stream's width.
const fn norm(name: &'static str, on: On, when: When) -> Extra {
    Extra { name, form: Form::Norm(Size::Hidden, When::Never), on, when }
}

/// A gate of one feature per head, by which the output of attention is multiplied.
const fn gate_per_head(when: When) -> Extra {
    let form = Form::Attention(Size::Heads, Size::Hidden);
    Extra { name: "self_attn.g_proj", form, on: On::Attending, when }
}

/// One entry per family.
pub(super) const FAMILIES: &[Family] = &[
    // Three gated delta nets to one gated attention. It has a draft in every checkpoint, and does not say so.
    Family {
        types: &["qwen3_next"],
        state: Recurrence::Delta(DeltaForm::Fused),
        draft: Draft::NextToken(Number(&["mtp_num_hidden_layers"], 1), "mtp.layers"),
        ..QWEN
    },
    Family { types: &["qwen3_5_text", "qwen3_5_moe_text"], ..QWEN },
    // Two gated delta nets to two attentions within a window and one over everything.
    Family {
        types: &["lara_mini"],
        tied: TIED,
        mixer: Mixer::Heads(HEADS.biased(ATTENTION_BIAS).normed(QkNorm::Head, When::Always)),
        layers: &[LayerRule::ByTypes(
            "layer_types",
            &[
                ("full_attention", Kind::Full),
                ("sliding_attention", Kind::Sliding),
                ("linear_attention", Kind::State),
            ],
        )],
        draft: Draft::None,
        ..QWEN
    }
    .sparse(&Experts { shared: Shared::Width("shared_expert_intermediate_size", 512), ..OPTIONAL }),
    // OLMo Hybrid: each kind of layer with norms of its own place.
    Family {
        types: &["olmo_hybrid"],
        names: Style { norms: &["post_attention_layernorm"], ..LLAMA },
        mixer: Mixer::Heads(Heads { qkv_bias: ATTENTION_BIAS, ..HEADS.normed(QkNorm::Full, When::Always) }),
        state: Recurrence::Delta(DeltaForm::Parts),
        layers: &[LINEAR, attends_in(4, &[])],
        extras: &[
            norm("post_feedforward_layernorm", On::Attending, When::Always),
            norm("input_layernorm", On::Recurrent, When::Always),
        ],
        ..BASE
    },
    // Kimi Linear and K3: delta attention and latent attention, by lists that count layers from 1.
    Family {
        types: &["kimi_linear"],
        names: Style { moe: DEEPSEEK_MOE, ..LLAMA },
        mixer: Mixer::Latent,
        state: Recurrence::Kimi,
        layers: &[
            LayerRule::Listed("linear_attn_config.full_attn_layers", 1, Kind::Full, Kind::State),
            LINEAR,
            ALL_STATES,
        ],
        adjust: Some(|_, plan, b| {
            kimi(plan, b);
            Ok(())
        }),
        ..BASE
    }
    .sparse(&Experts { latent: "routed_expert_hidden_size", correction: When::Always, ..DEEPSEEK }),
    // Ling and Ring: groups of layers, of which the last attends; what does not fill a group attends too.
    Family {
        types: &["bailing_hybrid"],
        names: Style { embed: LLAMA.embed, ..LING },
        mixer: Mixer::Latent,
        state: Recurrence::Ling(true),
        extras: &[gate_per_head(When::Always)],
        ..BAILING
    },
    Family {
        types: &["bailing_moe_linear"],
        names: LING,
        mixer: Mixer::Heads(HEADS.normed(QkNorm::Head, When::Always)),
        state: Recurrence::Ling(false),
        ..BAILING
    },
    // Lightning attention, every eighth layer softmax.
    Family {
        types: &["minimax", "minimax_text_01", "minimax_m1"],
        names: Style { moe: MIXTRAL_MOE, ..LLAMA },
        state: Recurrence::Lightning,
        layers: &[
            LINEAR,
            LayerRule::Numbered("attn_type_list", 1, Kind::Full, Kind::State),
            attends_in(2, &[]),
        ],
        ..BASE
    }
    .sparse(&Experts {
        count: Number(&["num_local_experts"], 0),
        per_token: Number(&["num_experts_per_tok"], 2),
        width: &["intermediate_size"],
        ..EXPERTS
    }),
    // Every eighth layer attention, every second MLP a mixture of experts.
    Family {
        types: &["jamba"],
        names: FEED_FORWARD,
        state: Recurrence::Mamba1("mamba_"),
        layers: &[LayerRule::Every(
            Every { place: Place::After(4), ..Every::attending(8) },
            &["attn_layer_period"],
            Some("attn_layer_offset"),
        )],
        ..BASE
    }
    .sparse(&Experts {
        count: Number(&["num_experts"], 16),
        more_than: Some(1),
        per_token: Number(&["num_experts_per_tok"], 2),
        width: &["intermediate_size"],
        sparse: Sparse {
            step: "expert_layer_period",
            every: 2,
            offset: Offset::Key("expert_layer_offset", 1),
            ..SPARSE
        },
        ..EXPERTS
    }),
    // Every layer has attention and a Mamba-2 block side by side.
    Family {
        types: &["falcon_h1"],
        names: FEED_FORWARD,
        mixer: Mixer::Heads(Heads { qkv_bias: ATTENTION_BIAS, ..HEADS }),
        state: MAMBA2,
        layers: &[LayerRule::All(Kind::Both)],
        ffn: FfnRule { bias: When::Flag("mlp_bias", false), ..MLP },
        ..BASE
    },
    Family {
        types: &["bamba"],
        names: FEED_FORWARD,
        state: MAMBA2,
        layers: GRANITE_LAYERS,
        ffn: FfnRule { bias: When::Flag("mlp_bias", false), ..MLP },
        ..BASE
    },
    // Granite 4; without experts it has the shared one alone.
    Family {
        types: &["granitemoehybrid"],
        names: Style {
            mlp: MlpNames { module: "shared_mlp", ..GRANITE_MOE.expert },
            moe: GRANITE_MOE,
            ..LLAMA
        },
        state: MAMBA2,
        layers: GRANITE_LAYERS,
        ffn: FfnRule { width: &["shared_intermediate_size"], ..MLP },
        ..BASE
    }
    .sparse(&Experts {
        count: Number(&["num_local_experts"], 0),
        width: &["intermediate_size"],
        shared: Shared::Width("shared_intermediate_size", 0),
        ..OPTIONAL
    }),
    Family { types: &["lfm2"], adjust: Some(|f, plan, _| lfm2(f, plan)), ..LFM },
    Family { types: &["lfm2_moe"], adjust: Some(|f, plan, _| lfm2(f, plan)), ..LFM }
        .sparse(&Experts { correction: When::Flag("use_expert_bias", true), ..OPTIONAL }),
    Family {
        types: &["lfm3"],
        state: Recurrence::Convolution(7),
        extras: &[
            norm("post_operator_norm", On::All, When::Flag("use_sandwich_norm", true)),
            norm("post_ffn_norm", On::All, When::Flag("use_sandwich_norm", true)),
            gate_per_head(When::Flag("use_attention_gate", true)),
        ],
        ffn: MLP,
        ..LFM
    },
    // Griffin: gated linear recurrences, and attention within a window in every third layer.
    Family {
        types: &["recurrent_gemma"],
        names: Style {
            norm: "model.final_norm",
            norms: &["temporal_pre_norm", "channel_pre_norm"],
            attention: AttentionNames { module: "temporal_block", ..LLAMA.attention },
            mlp: MlpNames { module: "mlp_block", ..LLAMA.mlp },
            ..LLAMA
        },
        tied: TIED,
        mixer: Mixer::Heads(Heads { qkv_bias: ATTENTION_BIAS, out_bias: When::Always, ..HEADS }),
        state: Recurrence::Griffin,
        layers: &[
            LayerRule::Cycled("layer_types", RECURRENT_WORDS),
            LayerRule::Cycled("block_types", RECURRENT_WORDS),
            LayerRule::Cycled("_block_types", RECURRENT_WORDS),
            LayerRule::Every(Every { one: Kind::Sliding, ..Every::attending(3) }, &[], None),
        ],
        window: Number(&["attention_window_size"], 2048),
        // What is written is the width of gate and up projection together.
        ffn: FfnRule { halved: true, bias: When::Always, ..MLP },
        ..BASE
    },
    // Nemotron-H: every layer is one block alone.
    Family {
        types: &["nemotron_h"],
        names: Style {
            mlp: NEMOTRON_MLP,
            moe: MoeNames { module: "mixer", expert: NEMOTRON_MLP, shared: "shared_experts", ..LLAMA.moe },
            ..BACKBONE
        },
        mixer: Mixer::Heads(HEADS.biased(ATTENTION_BIAS)),
        state: Recurrence::Mamba2(Mamba2Keys {
            heads: "mamba_num_heads",
            inner: Inner::OfHeads("mamba_head_dim"),
            bias: "mamba_proj_bias",
            ..MAMBA2_ALONE
        }),
        layers: &[
            LayerRule::ByTypes("layers_block_type", WORDS),
            LayerRule::Letters("hybrid_override_pattern", LETTERS, false),
        ],
        ffn: FfnRule {
            gated: When::Never,
            bias: When::Flag("mlp_bias", false),
            experts: Some(Experts {
                count: Number(&["n_routed_experts"], 0),
                latent: "moe_latent_size",
                shared: Shared::TimesWidth("n_shared_experts", "moe_shared_expert_intermediate_size"),
                gated: false,
                correction: When::Always,
                ..OPTIONAL
            }),
            alone: true,
            ..MLP
        },
        draft: Draft::Pattern(
            &[
                LayerRule::ByTypes("mtp_layers_block_type", WORDS),
                LayerRule::Letters("mtp_hybrid_override_pattern", LETTERS, false),
            ],
            "mtp.layers",
        ),
        ..BASE
    },
    Family {
        types: &["mamba", "falcon_mamba"],
        names: Style { embed: "backbone.embedding", ..BACKBONE },
        tied: TIED,
        state: Recurrence::Mamba1(""),
        ..STATES
    },
    Family { types: &["mamba2"], names: BACKBONE, state: Recurrence::Mamba2(MAMBA2_ALONE), ..STATES },
];

/// Layers of nothing but states.
const STATES: Family =
    Family { mixer: Mixer::None, layers: &[ALL_STATES], ffn: FfnRule { width: &[], ..MLP }, ..BASE };

/// Mamba-2 where a model has nothing else.
const MAMBA2_ALONE: Mamba2Keys = Mamba2Keys {
    heads: "num_heads",
    inner: Inner::Wide(Number(&["head_dim"], 64)),
    expand: "expand",
    groups: Number(&["n_groups"], 8),
    state: Number(&["state_size", "ssm_state_size"], 128),
    kernel: "conv_kernel",
    conv_bias: "use_conv_bias",
    bias: "use_bias",
    normed: When::Always,
};

const QWEN: Family = Family {
    mixer: Mixer::Heads(Heads {
        gated: When::Flag("attn_output_gate", true),
        ..HEADS.biased(ATTENTION_BIAS).normed(QkNorm::Head, When::Always)
    }),
    state: Recurrence::Delta(DeltaForm::Halves),
    layers: &[LINEAR, attends_in(4, &["full_attention_interval"])],
    draft: Draft::NextToken(Number(&["mtp_num_hidden_layers"], 0), "mtp.layers"),
    ..BASE
}
.sparse(&Experts {
    shared: Shared::Width("shared_expert_intermediate_size", 0),
    shared_gate: true,
    sparse: Sparse { step: "decoder_sparse_step", offset: Offset::Last, ..SPARSE },
    ..OPTIONAL
});

const LING: Style = Style {
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

const BAILING: Family = Family {
    layers: &[
        LINEAR,
        LayerRule::Every(
            Every { place: Place::LastAndRest, ..Every::attending(5) },
            &["layer_group_size"],
            None,
        ),
    ],
    ..BASE
}
.sparse(&Experts {
    count: Number(&["num_experts"], 0),
    per_token: Number(&["num_experts_per_tok", "num_experts_per_token"], 1),
    width: &["moe_intermediate_size"],
    shared: Shared::Times(&["num_shared_experts"], 0, When::Always),
    correction: When::Flag("moe_router_enable_expert_bias", true),
    ..EXPERTS
});

const GRANITE_LAYERS: &[LayerRule] =
    &[MAMBA, LayerRule::Listed("attn_layer_indices", 0, Kind::Full, Kind::State), ALL_STATES];

/// LFM2: short convolutions and attention.
const LFM: Family = Family {
    names: Style {
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
    },
    tied: When::First(&["tie_word_embeddings", "tie_embedding"], true),
    mixer: Mixer::Heads(HEADS.normed(QkNorm::Head, When::Always)),
    state: Recurrence::Convolution(3),
    layers: &[CONVOLUTIONS, LayerRule::Listed("full_attn_idxs", 0, Kind::Full, Kind::State), ALL_STATES],
    ffn: FfnRule { width: &["intermediate_size", "block_ff_dim"], ..MLP },
    ..BASE
};

/// The MLP width of LFM2: two thirds of what is written, rounded up to a multiple.
fn lfm2(f: &Fields<'_>, plan: &mut Plan) -> Result<(), ParseError> {
    if !f.flag_or("block_auto_adjust_ff_dim", true)? {
        return Ok(());
    }
    let multiple = f.positive_or("block_multiple_of", FACTOR, 256)?;
    for layer in &mut plan.layers {
        if let Ffn::Dense(mlp) = &mut layer.ffn {
            mlp.width = (2 * mlp.width / 3).div_ceil(multiple) * multiple;
        }
    }
    Ok(())
}

fn kimi(plan: &Plan, b: &mut Builder) {
    if plan.layers.iter().any(|layer| matches!(layer.ffn, Ffn::Moe(moe) if moe.input > 0)) {
        b.described("Kimi K3");
    }
}
