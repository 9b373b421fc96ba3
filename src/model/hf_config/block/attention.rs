//! Attention: over keys and values by heads, or over a latent of them.

use super::names::AttentionNames;
use crate::model::hf_config::builder::Builder;
use crate::model::hf_config::config::fields::{Fields, HEADS, WIDTH};
use crate::model::hf_config::measures::Dims;
use crate::model::{Attention, CacheKind, ParseError, Role, Span, Split};

/// Norms of queries and keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum QkNorm {
    /// None.
    #[default]
    None,
    /// One weight per element of a head, shared by the heads.
    Head,
    /// One weight per element of all heads.
    Full,
}

/// Multi-head, grouped-query or multi-query attention.
#[allow(clippy::struct_excessive_bools)] // each is a tensor that is there or not
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gqa {
    /// Query heads.
    pub(crate) heads: u64,
    /// Key-value heads.
    pub(crate) kv_heads: u64,
    /// Elements of a query and of a key.
    pub(crate) key_dim: u64,
    /// Elements of a value.
    pub(crate) value_dim: u64,
    /// Whether query, key and value projections have biases.
    pub(crate) qkv_bias: bool,
    /// Whether the output projection has one.
    pub(crate) out_bias: bool,
    /// Norms of queries and keys.
    pub(crate) qk_norm: QkNorm,
    /// Whether the query projection also yields a gate for the output (Qwen3-Next).
    pub(crate) gated: bool,
    /// Whether keys serve as values too, so that there is no value projection (Gemma 4).
    pub(crate) key_is_value: bool,
    /// Whether another layer's keys and values are read, so that there is no projection for them.
    pub(crate) shares_cache: bool,
    /// Whether each head has a sink logit (gpt-oss).
    pub(crate) sinks: bool,
    /// Heads of an index that picks the blocks to attend to (MiniMax-M3).
    pub(crate) index_heads: u64,
    /// Elements of its key, which is cached beside the keys; 0 for none.
    pub(crate) index_dim: u64,
}

impl Gqa {
    /// Attention as the measures have it.
    pub(crate) fn plain(dims: &Dims) -> Self {
        let Dims { heads, kv_heads, head_dim, .. } = *dims;
        Self { heads, kv_heads, key_dim: head_dim, value_dim: head_dim, ..Self::default() }
    }

    /// What a layer with this attention keeps.
    pub(crate) fn kept(&self, span: Span) -> Attention {
        let cache = if self.shares_cache {
            CacheKind::Shared
        } else {
            // An index key is one per token, and is spread over the heads here: rounded up, so never too small.
            let key_dim = self.key_dim + self.index_dim.div_ceil(self.kv_heads.max(1));
            CacheKind::Heads { kv_heads: self.kv_heads, key_dim, value_dim: self.value_dim }
        };
        Attention { cache, span }
    }

    /// Adds the tensors.
    pub(crate) fn build(&self, b: &mut Builder, names: &AttentionNames, hidden: u64) {
        let Self { heads, kv_heads, key_dim, value_dim, .. } = *self;
        b.widest_attention(heads, key_dim);
        let name = |part: &str| {
            if names.module.is_empty() { part.to_owned() } else { format!("{}.{part}", names.module) }
        };
        let kv = Split::KeyValueHeads(kv_heads);
        let query_rows = heads * key_dim * if self.gated { 2 } else { 1 };
        let (key_rows, value_rows) = (kv_heads * key_dim, kv_heads * value_dim);
        match names.fused {
            Some(fused) if heads == kv_heads => {
                let rows = query_rows + key_rows + value_rows;
                b.linear(&name(fused), Role::Attention, (rows, hidden), Split::Rows, self.qkv_bias);
            }
            Some(fused) => {
                // One matrix in the file, but the engine divides its parts differently.
                b.linear(&name(fused), Role::Attention, (query_rows, hidden), Split::Rows, self.qkv_bias);
                b.linear(&name(fused), Role::Attention, (key_rows + value_rows, hidden), kv, self.qkv_bias);
            }
            None => {
                b.linear(
                    &name(names.query),
                    Role::Attention,
                    (query_rows, hidden),
                    Split::Rows,
                    self.qkv_bias,
                );
                if !self.shares_cache {
                    b.linear(&name(names.key), Role::Attention, (key_rows, hidden), kv, self.qkv_bias);
                    if !self.key_is_value {
                        b.linear(
                            &name(names.value),
                            Role::Attention,
                            (value_rows, hidden),
                            kv,
                            self.qkv_bias,
                        );
                    }
                }
            }
        }
        b.linear(
            &name(names.out),
            Role::Attention,
            (hidden, heads * value_dim),
            Split::Columns,
            self.out_bias,
        );
        let (query_norm, key_norm) = match self.qk_norm {
            QkNorm::None => (0, 0),
            QkNorm::Head => (key_dim, key_dim),
            QkNorm::Full => (heads * key_dim, key_rows),
        };
        b.norm(&name(names.query_norm), query_norm, false);
        if !self.shares_cache {
            b.norm(&name(names.key_norm), key_norm, false);
        }
        if self.sinks {
            b.vector(&name("sinks"), heads);
        }
        if self.index_heads > 0 {
            let whole = Split::Replicated;
            let queries = (self.index_heads.saturating_mul(self.index_dim), hidden);
            b.linear(&name("index_q_proj"), Role::Attention, queries, whole, false);
            b.linear(&name("index_k_proj"), Role::Attention, (self.index_dim, hidden), whole, false);
        }
    }
}

/// Latent attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mla {
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
    pub(crate) index: (u64, u64),
    /// Whether the output is multiplied by a gate (Kimi K3).
    output_gate: bool,
}

impl Mla {
    /// Reads it.
    pub(crate) fn read(f: &Fields<'_>, heads: u64) -> Result<Self, ParseError> {
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
    pub(crate) fn kept(&self) -> Attention {
        let cache = CacheKind::Latent { rank: self.kv_rank, rope_dim: self.rope, index_dim: self.index.1 };
        Attention { cache, span: Span::Full }
    }

    /// Adds the tensors.
    pub(crate) fn build(&self, b: &mut Builder, hidden: u64) {
        self.named(b, "self_attn", hidden);
    }

    /// The same, of a module with another name.
    pub(crate) fn named(&self, b: &mut Builder, module: &str, hidden: u64) {
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
