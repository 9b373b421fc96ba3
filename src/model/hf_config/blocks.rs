//! The building blocks that decoder layers are made of: attention, MLP, mixture of experts.

use super::builder::Builder;
use crate::model::{Attention, CacheKind, Experts, Role, Span, Split};

/// What the tensors of an attention block are called.
#[derive(Clone, Copy, Debug)]
pub(super) struct AttentionNames {
    /// The module, such as `self_attn`.
    pub(super) module: &'static str,
    /// The query projection.
    pub(super) query: &'static str,
    /// The key projection.
    pub(super) key: &'static str,
    /// The value projection.
    pub(super) value: &'static str,
    /// One matrix for all three instead.
    pub(super) fused: Option<&'static str>,
    /// The output projection.
    pub(super) out: &'static str,
    /// The norm of the queries.
    pub(super) query_norm: &'static str,
    /// The norm of the keys.
    pub(super) key_norm: &'static str,
}

/// Norms of queries and keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum QkNorm {
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
pub(super) struct Gqa {
    /// Query heads.
    pub(super) heads: u64,
    /// Key-value heads.
    pub(super) kv_heads: u64,
    /// Elements of a query and of a key.
    pub(super) key_dim: u64,
    /// Elements of a value.
    pub(super) value_dim: u64,
    /// Whether query, key and value projections have biases.
    pub(super) qkv_bias: bool,
    /// Whether the output projection has one.
    pub(super) out_bias: bool,
    /// Norms of queries and keys.
    pub(super) qk_norm: QkNorm,
    /// Whether the query projection also yields a gate for the output (Qwen3-Next).
    pub(super) gated: bool,
    /// Whether keys serve as values too, so that there is no value projection (Gemma 4).
    pub(super) key_is_value: bool,
    /// Whether another layer's keys and values are read, so that there is no projection for them.
    pub(super) shares_cache: bool,
    /// Whether each head has a sink logit (gpt-oss).
    pub(super) sinks: bool,
    /// Elements of an index key that is cached beside the keys (MiniMax-M3); 0 for none.
    pub(super) index_dim: u64,
}

impl Gqa {
    /// What a layer with this attention keeps.
    pub(super) fn kept(&self, span: Span) -> Attention {
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
    pub(super) fn build(&self, b: &mut Builder, names: &AttentionNames, hidden: u64) {
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
    }
}

/// What the tensors of an MLP are called.
#[derive(Clone, Copy, Debug)]
pub(super) struct MlpNames {
    /// The module, such as `mlp`; empty for none.
    pub(super) module: &'static str,
    /// The gate's projection.
    pub(super) gate: &'static str,
    /// The projection to the hidden layer.
    pub(super) up: &'static str,
    /// One matrix for both instead.
    pub(super) fused: Option<&'static str>,
    /// The projection back.
    pub(super) down: &'static str,
}

/// A dense MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mlp {
    /// Width of the hidden layer.
    pub(super) width: u64,
    /// Whether the hidden layer is multiplied by a gate.
    pub(super) gated: bool,
    /// Whether the projections have biases.
    pub(super) bias: bool,
}

impl Mlp {
    /// Adds the tensors; `module` replaces the module's name.
    pub(super) fn build(&self, b: &mut Builder, names: &MlpNames, module: &str, role: Role, hidden: u64) {
        if role != Role::Expert {
            b.shape.intermediate_size = b.shape.intermediate_size.max(self.width);
        }
        let name = |part: &str| if module.is_empty() { part.to_owned() } else { format!("{module}.{part}") };
        match names.fused {
            Some(fused) if self.gated => {
                b.linear(&name(fused), role, (2 * self.width, hidden), Split::Rows, self.bias);
            }
            _ => {
                if self.gated {
                    b.linear(&name(names.gate), role, (self.width, hidden), Split::Rows, self.bias);
                }
                b.linear(&name(names.up), role, (self.width, hidden), Split::Rows, self.bias);
            }
        }
        b.linear(&name(names.down), role, (hidden, self.width), Split::Columns, self.bias);
    }
}

/// What the tensors of a mixture of experts are called, below its module.
#[derive(Clone, Copy, Debug)]
pub(super) struct MoeNames {
    /// The module, such as `mlp` or `block_sparse_moe`.
    pub(super) module: &'static str,
    /// The router.
    pub(super) router: &'static str,
    /// The correction of the router's scores, where there is one.
    pub(super) correction: &'static str,
    /// Below `experts.N`.
    pub(super) expert: MlpNames,
    /// The module of the shared expert.
    pub(super) shared: &'static str,
}

/// A mixture of experts.
#[allow(clippy::struct_excessive_bools)] // each is a tensor that is there or not
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moe {
    /// Routed experts.
    pub(super) count: u64,
    /// Experts per token.
    pub(super) per_token: u64,
    /// Hidden width of a routed expert.
    pub(super) width: u64,
    /// Width of the experts' input and output, where it is not the residual stream's; 0 where it is.
    pub(super) input: u64,
    /// Hidden width of all shared experts together; 0 for none.
    pub(super) shared_width: u64,
    /// Whether the shared expert's output is multiplied by a gate of one feature (Qwen).
    pub(super) shared_gate: bool,
    /// Whether the hidden layers are multiplied by a gate.
    pub(super) gated: bool,
    /// Whether the experts' projections have biases (gpt-oss).
    pub(super) bias: bool,
    /// Whether the router has a bias.
    pub(super) router_bias: bool,
    /// Whether the router's scores are corrected by a vector (DeepSeek-V3).
    pub(super) correction: bool,
}

impl Moe {
    /// Adds the tensors.
    pub(super) fn build(&self, b: &mut Builder, names: &MoeNames, hidden: u64) {
        let input = if self.input == 0 { hidden } else { self.input };
        b.shape.experts =
            Some(Experts { count: self.count, per_token: self.per_token, intermediate_size: self.width });
        let name = |part: &str| {
            if names.module.is_empty() { part.to_owned() } else { format!("{}.{part}", names.module) }
        };
        b.linear(
            &name(names.router),
            Role::Router,
            (self.count, hidden),
            Split::Replicated,
            self.router_bias,
        );
        if self.correction {
            b.vector(&name(names.correction), self.count);
        }
        let fused = names.expert.fused.filter(|_| self.gated);
        let expert = |part: &str| match fused {
            // One tensor with a dimension for the experts.
            Some(_) => name(&format!("experts.{part}")),
            None => name(&format!("experts.*.{part}.weight")),
        };
        let (expert_role, count) = (Role::Expert, self.count);
        if let Some(fused) = fused {
            b.matrices(&expert(fused), expert_role, count, 2 * self.width, input, Split::Rows);
        } else {
            if self.gated {
                b.matrices(&expert(names.expert.gate), expert_role, count, self.width, input, Split::Rows);
            }
            b.matrices(&expert(names.expert.up), expert_role, count, self.width, input, Split::Rows);
        }
        b.matrices(&expert(names.expert.down), expert_role, count, input, self.width, Split::Columns);
        if self.bias {
            let up = self.width * if self.gated { 2 } else { 1 };
            b.matrices(&name("experts.*.up_bias"), Role::Norm, self.count, 1, up, Split::Columns);
            b.matrices(&name("experts.*.down_bias"), Role::Norm, self.count, 1, input, Split::Replicated);
        }
        if self.shared_width > 0 {
            let shared = Mlp { width: self.shared_width, gated: self.gated, bias: false };
            // Granite's shared expert is fused too, and stands beside the mixture.
            let module = if names.module == "block_sparse_moe" && names.shared == "shared_mlp" {
                names.shared.to_owned()
            } else {
                name(names.shared)
            };
            let shared_names = MlpNames {
                fused: names.expert.fused.filter(|_| names.expert.gate.is_empty()),
                ..names.expert
            };
            shared.build(b, &shared_names, &module, Role::SharedExpert, hidden);
            if self.shared_gate {
                let gate = name(&format!("{}_gate", names.shared));
                b.linear(&gate, Role::Router, (1, hidden), Split::Replicated, false);
            }
        }
    }
}
