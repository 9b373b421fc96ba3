//! Dense decoders after GPT-2: biases everywhere, norms with biases, and no gate.

use super::dense::{ALL_SLIDING, BARE, BLOOM, FOUR_H, LAYER_NORM, MEGATRON, PHI_MLP, WIDTHS, norm, vector};
use super::family::{
    Extra, Family, FfnRule, Form, HEADS, Heads, KvHeads, Mixer, Number, Size, TIED, UNTIED, When,
};
use crate::model::ParseError;
use crate::model::hf_config::block::names::{AttentionNames, LLAMA, MlpNames, NormKind, Style};
use crate::model::hf_config::config::fields::{FACTOR, Fields};
use crate::model::hf_config::plan::Plan;

/// GPT-2's names, which its descendants share.
const GPT2: Style = Style {
    embed: "transformer.wte",
    layers: "transformer.h",
    norm: "transformer.ln_f",
    norms: &["ln_1", "ln_2"],
    norm_kind: NormKind::WeightAndBias,
    attention: AttentionNames { module: "attn", fused: Some("c_attn"), out: "c_proj", ..LLAMA.attention },
    mlp: MlpNames { module: "mlp", gate: "", up: "c_fc", fused: None, down: "c_proj" },
    ..LLAMA
};

/// Everything has a bias, and nothing is gated: GPT-2 and its contemporaries.
const CLASSIC: Family = Family {
    names: GPT2,
    tied: TIED,
    mixer: Mixer::Heads(HEADS.biased(When::Always)),
    ffn: FfnRule { widen: Number(&[], 4), gated: When::Never, bias: When::Always, ..WIDTHS },
    ..BARE
};

/// The same where attention has no biases.
const UNBIASED: Mixer = Mixer::Heads(HEADS);

const OPT: Style = Style {
    embed: "model.decoder.embed_tokens",
    layers: "model.decoder.layers",
    norm: "model.decoder.final_layer_norm",
    norms: &["self_attn_layer_norm", "final_layer_norm"],
    attention: AttentionNames { out: "out_proj", ..LLAMA.attention },
    mlp: MlpNames { module: "", gate: "", up: "fc1", fused: None, down: "fc2" },
    ..LAYER_NORM
};

const GPTJ_MLP: MlpNames = MlpNames { up: "fc_in", down: "fc_out", ..GPT2.mlp };

/// Rows for padding in a table of learned positions.
const PADDING: u64 = 2;

/// One entry per family.
pub(super) const FAMILIES: &[Family] = &[
    // Qwen 1 writes the width of gate and up projection together.
    Family {
        types: &["qwen"],
        names: Style {
            norm_kind: NormKind::Weight,
            mlp: MlpNames { module: "mlp", gate: "w2", up: "w1", fused: None, down: "c_proj" },
            ..GPT2
        },
        mixer: Mixer::Heads(Heads { qkv_bias: When::Always, ..HEADS }),
        ffn: FfnRule { halved: true, ..WIDTHS },
        ..BARE
    },
    Family {
        types: &["phi", "phi-msft"],
        names: Style {
            norm: "model.final_layernorm",
            norms: &["input_layernorm"],
            attention: AttentionNames { out: "dense", ..LLAMA.attention },
            mlp: PHI_MLP,
            ..LAYER_NORM
        },
        tied: UNTIED,
        head_bias: When::Always,
        ..CLASSIC
    },
    Family {
        types: &["phi3small"],
        names: Style {
            norm: "model.final_layernorm",
            attention: MEGATRON,
            mlp: MlpNames { fused: Some("up_proj"), ..LLAMA.mlp },
            ..LAYER_NORM
        },
        ffn: FfnRule { gated: When::Always, ..CLASSIC.ffn },
        ..CLASSIC
    },
    Family {
        types: &["falcon", "RefinedWebModel"],
        kv_heads: KvHeads::One(
            When::Flag("multi_query", true),
            When::Flag("new_decoder_architecture", false),
        ),
        adjust: Some(|f, plan, _| falcon(f, plan, false)),
        ..FALCON
    },
    // Before the second generation came to transformers, its type said it.
    Family { types: &["RefinedWeb"], adjust: Some(|f, plan, _| falcon(f, plan, true)), ..FALCON },
    Family {
        types: &["mpt"],
        names: Style {
            norm: "transformer.norm_f",
            layers: "transformer.blocks",
            norms: &["norm_1", "norm_2"],
            norm_kind: NormKind::Weight,
            attention: AttentionNames { fused: Some("Wqkv"), out: "out_proj", ..GPT2.attention },
            mlp: MlpNames { module: "ffn", gate: "", up: "up_proj", fused: None, down: "down_proj" },
            ..GPT2
        },
        tied: TIED,
        kv_heads: KvHeads::Below("attn_config", false),
        ffn: FfnRule { widen: Number(&["expansion_ratio"], 4), gated: When::Never, ..WIDTHS },
        ..BARE
    },
    Family { types: &["gpt2", "gpt-sw3"], positions: Some(("transformer.wpe", 0)), ..CLASSIC },
    Family {
        types: &["gpt_bigcode"],
        positions: Some(("transformer.wpe", 0)),
        kv_heads: KvHeads::One(When::Flag("multi_query", true), When::Never),
        ..CLASSIC
    },
    // Positions are computed, and the output matrix has a bias of its own.
    Family {
        types: &["ctrl"],
        names: Style {
            embed: "transformer.w",
            norm: "transformer.layernorm",
            norms: &["layernorm1", "layernorm2"],
            attention: AttentionNames {
                module: "multi_head_attention",
                query: "Wq",
                key: "Wk",
                value: "Wv",
                fused: None,
                out: "dense",
                ..LLAMA.attention
            },
            mlp: MlpNames { module: "ffn", gate: "", up: "0", fused: None, down: "2" },
            ..GPT2
        },
        ffn: FfnRule { width: &["dff"], ..CLASSIC.ffn },
        outer: &[vector("lm_head.bias", Size::Vocabulary)],
        ..CLASSIC
    },
    // The last layer's output is not normed.
    Family {
        types: &["openai-gpt"],
        names: Style { embed: "transformer.tokens_embed", norm: "", ..GPT2 },
        positions: Some(("transformer.positions_embed", 0)),
        ..CLASSIC
    },
    Family {
        types: &["gpt_neo"],
        names: Style {
            attention: AttentionNames { module: "attn.attention", out: "out_proj", ..LLAMA.attention },
            ..GPT2
        },
        positions: Some(("transformer.wpe", 0)),
        mixer: Mixer::Heads(Heads { out_bias: When::Always, ..HEADS }),
        ..CLASSIC
    },
    Family {
        types: &["codegen"],
        names: Style {
            norms: &["ln_1"],
            attention: AttentionNames {
                module: "attn",
                fused: Some("qkv_proj"),
                out: "out_proj",
                ..LLAMA.attention
            },
            mlp: GPTJ_MLP,
            ..GPT2
        },
        tied: UNTIED,
        head_bias: When::Always,
        mixer: UNBIASED,
        ..CLASSIC
    },
    Family {
        types: &["gptj"],
        names: Style {
            norms: &["ln_1"],
            attention: AttentionNames { module: "attn", out: "out_proj", ..LLAMA.attention },
            mlp: GPTJ_MLP,
            ..GPT2
        },
        tied: UNTIED,
        head_bias: When::Always,
        mixer: UNBIASED,
        ..CLASSIC
    },
    Family {
        types: &["xglm"],
        names: Style { embed: "model.embed_tokens", layers: "model.layers", norm: "model.layer_norm", ..OPT },
        ..CLASSIC
    },
    Family {
        types: &["biogpt"],
        names: Style {
            embed: "biogpt.embed_tokens",
            layers: "biogpt.layers",
            norm: "biogpt.layer_norm",
            ..OPT
        },
        positions: Some(("biogpt.embed_positions", PADDING)),
        ..CLASSIC
    },
    Family {
        types: &["opt"],
        names: OPT,
        positions: Some(("model.decoder.embed_positions", PADDING)),
        ..CLASSIC
    },
    Family {
        types: &["persimmon"],
        names: Style { norm: "model.final_layernorm", attention: MEGATRON, mlp: FOUR_H, ..LAYER_NORM },
        tied: UNTIED,
        extras: &[
            Extra {
                form: Form::Norm(Size::HeadDim, When::Always),
                when: When::Flag("qk_layernorm", true),
                ..norm("self_attn.q_layernorm", Size::HeadDim)
            },
            Extra {
                form: Form::Norm(Size::HeadDim, When::Always),
                when: When::Flag("qk_layernorm", true),
                ..norm("self_attn.k_layernorm", Size::HeadDim)
            },
        ],
        ..CLASSIC
    },
    Family {
        types: &["jais"],
        ffn: FfnRule { gated: When::Says("activation_function", "swiglu"), ..CLASSIC.ffn },
        ..CLASSIC
    },
    Family {
        types: &["bloom"],
        names: Style {
            embed: "transformer.word_embeddings",
            norms: LLAMA.norms,
            attention: BLOOM,
            mlp: FOUR_H,
            ..GPT2
        },
        outer: &[Extra {
            form: Form::Norm(Size::Hidden, When::Always),
            ..norm("transformer.word_embeddings_layernorm", Size::Hidden)
        }],
        ..CLASSIC
    },
    Family {
        types: &["gpt_neox"],
        names: Style {
            embed: "gpt_neox.embed_in",
            layers: "gpt_neox.layers",
            norm: "gpt_neox.final_layer_norm",
            head: "embed_out",
            attention: AttentionNames { module: "attention", ..MEGATRON },
            mlp: FOUR_H,
            ..LAYER_NORM
        },
        tied: UNTIED,
        mixer: Mixer::Heads(HEADS.biased(When::Flag("attention_bias", true))),
        ..CLASSIC
    },
    Family {
        types: &["starcoder2"],
        names: Style { mlp: GPT2.mlp, ..LAYER_NORM },
        tied: TIED,
        mixer: Mixer::Heads(HEADS.biased(When::Flag("use_bias", true))),
        layers: ALL_SLIDING,
        ffn: FfnRule { bias: When::Flag("use_bias", true), gated: When::Never, ..WIDTHS },
        ..BARE
    },
    Family {
        types: &["exaone"],
        names: Style {
            norm_kind: NormKind::Weight,
            attention: AttentionNames { module: "attn.attention", out: "out_proj", ..LLAMA.attention },
            mlp: MlpNames { module: "mlp", gate: "c_fc_0", up: "c_fc_1", fused: None, down: "c_proj" },
            ..GPT2
        },
        ..BARE
    },
];

const FALCON: Family = Family {
    names: Style { embed: "transformer.word_embeddings", attention: BLOOM, mlp: FOUR_H, ..GPT2 },
    mixer: Mixer::Heads(HEADS.biased(When::Flag("bias", false))),
    ffn: FfnRule { bias: When::Flag("bias", false), ..CLASSIC.ffn },
    ..CLASSIC
};

/// Falcon: two norms since the second generation, one before where attention and MLP run in parallel.
fn falcon(f: &Fields<'_>, plan: &mut Plan, second: bool) -> Result<(), ParseError> {
    let new = f.flag_or("new_decoder_architecture", second)?;
    let parallel = f.flag_or("parallel_attn", true)?;
    let one = new && f.number("num_ln_in_parallel_attn", FACTOR)? == Some(1);
    plan.style.norms = match (new, parallel) {
        (true, _) if one => &["input_layernorm"],
        (true, _) => &["ln_attn", "ln_mlp"],
        (false, true) => &["input_layernorm"],
        (false, false) => LLAMA.norms,
    };
    Ok(())
}
