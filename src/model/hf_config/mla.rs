//! Decoders with latent attention (MLA): DeepSeek-V2 and its descendants.

use super::blocks::{Mlp, Moe};
use super::builder::Builder;
use super::decoder::{Dims, Ffn, Style};
use super::dense_families::LLAMA;
use super::fields::{EXPERTS, Fields, HEADS, LAYERS, WIDTH};
use super::moe::{DEEPSEEK_MOE, next_token_layers, sparse_layers};
use crate::model::{Attention, CacheKind, Experts, Layer, ParseError, Role, Span, Split};

/// The `model_type`s that are read here.
pub(super) const TYPES: &[&str] = &[
    "deepseek_v2",
    "deepseek_v3",
    "deepseek_v32",
    "kimi_k2",
    "glm_moe_dsa",
    "glm4_moe_lite",
    "minicpm3",
    "sarvam_mla",
    "youtu",
    "mistral4",
    "axk1",
    "longcat_flash",
];

/// Latent attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mla {
    /// Heads.
    heads: u64,
    /// Rank of the queries; 0 for a full projection.
    q_rank: u64,
    /// Rank of keys and values, which is what the cache holds.
    kv_rank: u64,
    /// Elements of a key without position.
    nope: u64,
    /// Elements of the rotary key.
    rope: u64,
    /// Elements of a value.
    value: u64,
    /// Heads and width of the sparse indexer (DeepSeek-V3.2); 0 for none.
    index: (u64, u64),
    /// Whether the output is multiplied by a gate (Kimi K3).
    output_gate: bool,
}

impl Mla {
    /// Reads it.
    pub(super) fn read(f: &Fields<'_>, heads: u64) -> Result<Self, ParseError> {
        let nope = f.need(&["qk_nope_head_dim"], WIDTH)?;
        let index_heads = f.or("index_n_heads", HEADS, 0)?;
        Ok(Self {
            heads,
            q_rank: f.or("q_lora_rank", WIDTH, 0)?,
            kv_rank: f.need(&["kv_lora_rank"], WIDTH)?,
            nope,
            rope: f.need(&["qk_rope_head_dim"], WIDTH)?,
            value: f.positive_or("v_head_dim", WIDTH, nope)?,
            index: if index_heads > 0 { (index_heads, f.need(&["index_head_dim"], WIDTH)?) } else { (0, 0) },
            output_gate: f.flag_or("mla_use_output_gate", false)?,
        })
    }

    /// What a layer with it keeps.
    pub(super) fn kept(&self) -> Attention {
        let cache = CacheKind::Latent { rank: self.kv_rank, rope_dim: self.rope, index_dim: self.index.1 };
        Attention { cache, span: Span::Full }
    }

    /// Adds the tensors.
    pub(super) fn build(&self, b: &mut Builder, hidden: u64) {
        self.named(b, "self_attn", hidden);
    }

    /// The same, of a module with another name.
    fn named(&self, b: &mut Builder, module: &str, hidden: u64) {
        let name = |part: &str| format!("{module}.{part}");
        let Self { heads, q_rank, kv_rank, nope, rope, value, index, .. } = *self;
        b.widest_attention(heads, nope + rope);
        let attention = Role::Attention;
        let queries = heads * (nope + rope);
        if q_rank > 0 {
            b.linear(&name("q_a_proj"), attention, (q_rank, hidden), Split::Replicated, false);
            b.norm(&name("q_a_layernorm"), q_rank, false);
            b.linear(&name("q_b_proj"), attention, (queries, q_rank), Split::Rows, false);
        } else {
            b.linear(&name("q_proj"), attention, (queries, hidden), Split::Rows, false);
        }
        let compressed = (kv_rank + rope, hidden);
        b.linear(&name("kv_a_proj_with_mqa"), attention, compressed, Split::Replicated, false);
        b.norm(&name("kv_a_layernorm"), kv_rank, false);
        let expanded = (heads * (nope + value), kv_rank);
        b.linear(&name("kv_b_proj"), attention, expanded, Split::Rows, false);
        if self.output_gate {
            b.linear(&name("g_proj"), attention, (heads * value, hidden), Split::Rows, false);
        }
        b.linear(&name("o_proj"), attention, (hidden, heads * value), Split::Columns, false);
        let (index_heads, index_dim) = index;
        if index_heads > 0 {
            let from = if q_rank > 0 { q_rank } else { hidden };
            let queries = (index_heads * index_dim, from);
            b.linear(&name("indexer.wq_b"), attention, queries, Split::Replicated, false);
            b.linear(&name("indexer.wk"), attention, (index_dim, hidden), Split::Replicated, false);
            b.norm(&name("indexer.k_norm"), index_dim, true);
            let weights = (index_heads, hidden);
            b.linear(&name("indexer.weights_proj"), Role::Router, weights, Split::Replicated, false);
        }
    }
}

/// The experts of DeepSeek's descendants.
pub(super) fn experts(f: &Fields<'_>) -> Result<Option<Moe>, ParseError> {
    let Some(count) = f.any(&["n_routed_experts", "num_experts"], EXPERTS)?.filter(|count| *count > 0) else {
        return Ok(None);
    };
    let width = f.need(&["moe_intermediate_size"], WIDTH)?;
    let shared = f.any(&["n_shared_experts", "num_shared_experts"], EXPERTS)?.unwrap_or(0);
    let per_token = f.any(&["num_experts_per_tok", "num_experts_per_token"], EXPERTS)?.unwrap_or(1);
    Ok(Some(Moe {
        count,
        per_token: per_token.clamp(1, count),
        width,
        shared_width: shared * width,
        gated: true,
        correction: f.text("topk_method")? == Some("noaux_tc"),
        ..Moe::default()
    }))
}

/// The layers of a config with latent attention, dense and of experts.
pub(super) fn build(model_type: &str, f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    if model_type == "longcat_flash" {
        return longcat(f, b);
    }
    let dims = Dims::read(f, b)?;
    let style = Style {
        moe: DEEPSEEK_MOE,
        tied: f.flag_or("tie_word_embeddings", matches!(model_type, "minicpm3" | "youtu"))?,
        ..LLAMA
    };
    let mla = Mla::read(f, dims.heads)?;
    let moe = experts(f)?;
    let sparse = sparse_layers(model_type, f, dims.layers)?;
    let width = f.need(&["intermediate_size"], WIDTH)?;
    // GLM-5.2: most layers read the index of an earlier one.
    let index_kinds = f.texts("indexer_types")?.unwrap_or_default();
    style.open(b, &dims);
    let block = |b: &mut Builder, mla: &Mla, ffn: &Ffn| {
        style.layer_norms(b, dims.hidden);
        mla.build(b, dims.hidden);
        style.ffn(b, dims.hidden, ffn);
        b.keep(Layer { attention: Some(mla.kept()), state: None });
    };
    let dense = Ffn::Dense(Mlp { width, gated: true, bias: false });
    for layer in 0..dims.layers {
        b.begin_layer(format!("{}.{layer}.", style.layers), layer);
        let at = usize::try_from(layer).unwrap_or(usize::MAX);
        let shares_index = index_kinds.get(at).is_some_and(|kind| *kind == "shared");
        let mla = Mla { index: if shares_index { (0, 0) } else { mla.index }, ..mla };
        let ffn = moe.filter(|_| sparse.get(at).copied().unwrap_or(true)).map_or(dense, Ffn::Moe);
        block(b, &mla, &ffn);
        if model_type == "axk1" && matches!(ffn, Ffn::Moe(_)) {
            b.norm("mlp.post_mlp_layernorm", dims.hidden, false);
        }
    }
    style.close(b, &dims);
    let drafts = f.or("num_nextn_predict_layers", LAYERS, 0)?;
    next_token_layers(b, &dims, drafts, (style.layers, dims.layers), |b| {
        block(b, &mla, &moe.map_or(dense, Ffn::Moe));
    });
    Ok(())
}

/// LongCat-Flash: every layer has two attentions and two MLPs, and one mixture of experts beside them, some of which
/// are no more than a shortcut.
fn longcat(f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let dims = Dims::read(f, b)?;
    let style = Style { tied: f.flag_or("tie_word_embeddings", false)?, ..LLAMA };
    let mla = Mla::read(f, dims.heads)?;
    let width = f.need(&["ffn_hidden_size", "intermediate_size"], WIDTH)?;
    let count = f.need(&["n_routed_experts"], EXPERTS)?;
    let shortcuts = f.or("zero_expert_num", EXPERTS, 0)?;
    let expert = f.need(&["expert_ffn_hidden_size", "moe_intermediate_size"], WIDTH)?;
    let per_token = f.any(&["moe_topk", "num_experts_per_tok"], EXPERTS)?.unwrap_or(1).clamp(1, count);
    b.shape.experts = Some(Experts { count, per_token, intermediate_size: expert });
    style.open(b, &dims);
    let hidden = dims.hidden;
    for layer in 0..dims.layers {
        let prefix = format!("{}.{layer}.", style.layers);
        // Each half attends for itself: it is a layer of its own for the cache.
        b.begin_layer(prefix.clone(), 2 * layer);
        let choices = (count + shortcuts, hidden);
        let bias = f.flag_or("router_bias", false)?;
        b.linear("mlp.router.classifier", Role::Router, choices, Split::Replicated, bias);
        b.vector("mlp.router.e_score_correction_bias", count + shortcuts);
        for part in ["gate_proj", "up_proj"] {
            let name = format!("mlp.experts.*.{part}.weight");
            b.matrices(&name, Role::Expert, count, expert, hidden, Split::Rows);
        }
        b.matrices("mlp.experts.*.down_proj.weight", Role::Expert, count, hidden, expert, Split::Columns);
        for half in 0..2 {
            b.begin_layer(prefix.clone(), 2 * layer + half);
            mla.named(b, &format!("self_attn.{half}"), hidden);
            let mlp = Mlp { width, gated: true, bias: false };
            mlp.build(b, &LLAMA.mlp, &format!("mlps.{half}"), Role::Mlp, hidden);
            b.norm(&format!("input_layernorm.{half}"), hidden, false);
            b.norm(&format!("post_attention_layernorm.{half}"), hidden, false);
            b.keep(Layer { attention: Some(mla.kept()), state: None });
        }
    }
    style.close(b, &dims);
    Ok(())
}
