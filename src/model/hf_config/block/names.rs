//! What the tensors of a decoder are called.

/// What the tensors of an attention block are called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttentionNames {
    /// The module, such as `self_attn`.
    pub(crate) module: &'static str,
    /// The query projection.
    pub(crate) query: &'static str,
    /// The key projection.
    pub(crate) key: &'static str,
    /// The value projection.
    pub(crate) value: &'static str,
    /// One matrix for all three instead.
    pub(crate) fused: Option<&'static str>,
    /// The output projection.
    pub(crate) out: &'static str,
    /// The norm of the queries.
    pub(crate) query_norm: &'static str,
    /// The norm of the keys.
    pub(crate) key_norm: &'static str,
}

/// What the tensors of an MLP are called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MlpNames {
    /// The module, such as `mlp`; empty for none.
    pub(crate) module: &'static str,
    /// The gate's projection.
    pub(crate) gate: &'static str,
    /// The projection to the hidden layer.
    pub(crate) up: &'static str,
    /// One matrix for both instead.
    pub(crate) fused: Option<&'static str>,
    /// The projection back.
    pub(crate) down: &'static str,
}

/// What the tensors of a mixture of experts are called, below its module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MoeNames {
    /// The module, such as `mlp` or `block_sparse_moe`.
    pub(crate) module: &'static str,
    /// The router.
    pub(crate) router: &'static str,
    /// The correction of the router's scores, where there is one.
    pub(crate) correction: &'static str,
    /// Below `experts.N`.
    pub(crate) expert: MlpNames,
    /// The module of the shared expert.
    pub(crate) shared: &'static str,
}

/// How the norms of a model are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NormKind {
    /// No weights (OLMo 1).
    None,
    /// A weight.
    Weight,
    /// A weight and a bias.
    WeightAndBias,
}

/// What the tensors of a family are called, and which of them it has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    /// The token embedding.
    pub(crate) embed: &'static str,
    /// What the layers' numbers follow, such as `model.layers`.
    pub(crate) layers: &'static str,
    /// The last norm; empty for none.
    pub(crate) norm: &'static str,
    /// The output head.
    pub(crate) head: &'static str,
    /// The norms of a layer.
    pub(crate) norms: &'static [&'static str],
    /// How they are made.
    pub(crate) norm_kind: NormKind,
    /// Attention.
    pub(crate) attention: AttentionNames,
    /// Dense MLPs.
    pub(crate) mlp: MlpNames,
    /// Mixtures of experts.
    pub(crate) moe: MoeNames,
    /// The module of a Mamba block.
    pub(crate) mamba: &'static str,
    /// Whether the output head is the embedding.
    pub(crate) tied: bool,
    /// Whether the output head has a bias.
    pub(crate) head_bias: bool,
}

/// Llama's names, which most families share.
pub(crate) const LLAMA: Style = Style {
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
    mamba: "mamba",
    tied: false,
    head_bias: false,
};

/// Experts with Mixtral's names.
pub(crate) const MIXTRAL_MOE: MoeNames = MoeNames {
    module: "block_sparse_moe",
    correction: "e_score_correction_bias",
    expert: MlpNames { module: "", gate: "w1", up: "w3", fused: None, down: "w2" },
    shared: "shared_experts",
    ..LLAMA.moe
};

/// Experts with DeepSeek's names.
pub(crate) const DEEPSEEK_MOE: MoeNames = MoeNames { shared: "shared_experts", ..LLAMA.moe };

/// Experts with Granite's names.
pub(crate) const GRANITE_MOE: MoeNames = MoeNames {
    module: "block_sparse_moe",
    router: "router.layer",
    expert: MlpNames { module: "", gate: "", up: "", fused: Some("input_linear"), down: "output_linear" },
    shared: "shared_mlp",
    ..LLAMA.moe
};
