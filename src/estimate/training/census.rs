//! What a training run needs to know of a model: its weights by size and kind, and what one layer keeps for the backward pass.

use std::collections::BTreeMap;

use crate::model::{CacheKind, ModelShape, Role, Split, Tensor};
use crate::units::{Bytes, Overflow};

/// A product of counts, as bytes.
pub(super) fn product(factors: &[u64]) -> Result<Bytes, Overflow> {
    factors.iter().try_fold(Bytes(1), |product, &factor| product.times(factor))
}

/// What kind of parameter a group is, for quantisation and for optimizers that treat kinds apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A linear layer inside the blocks.
    Linear,
    /// An embedding or the output head.
    Table,
    /// A norm, a bias, a router, a state matrix, a tower: what stays in 16 bits.
    Other,
}

/// So many matrices of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) kind: Kind,
    pub(super) count: u64,
    pub(super) rows: u64,
    pub(super) columns: u64,
}

impl Group {
    /// Parameters of one of them.
    pub(super) fn each(&self) -> Result<u64, Overflow> {
        self.rows.checked_mul(self.columns).ok_or(Overflow)
    }

    /// Parameters of all of them.
    pub(super) fn elements(&self) -> Result<u64, Overflow> {
        self.each()?.checked_mul(self.count).ok_or(Overflow)
    }

    /// Whether it is a vector.
    pub(super) const fn is_vector(&self) -> bool {
        self.rows <= 1 || self.columns <= 1
    }
}

/// What one layer keeps for the backward pass, per token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    /// Bytes, whatever the attention kernel.
    pub(super) bytes: u64,
    /// Bytes more when keys and values are repeated for every query head, as all kernels but flash attention do.
    pub(super) repeated: u64,
    /// Heads whose scores a kernel without tiling writes out.
    pub(super) heads: u64,
}

/// A model, counted for training.
#[derive(Clone, Debug)]
pub(super) struct Census {
    /// All weights, merged by kind and size.
    pub(super) groups: Vec<Group>,
    /// The linear layers of the blocks with the checkpoint's names, for LoRA. One entry per name and size.
    pub(super) linears: Vec<(String, Role, Group)>,
    /// Parameters.
    pub(super) parameters: u64,
    /// Parameters of the embeddings and the output head.
    pub(super) tables: u64,
    /// Parameters of the largest layer, of its linear layers alone, and of the largest single matrix.
    pub(super) layer: u64,
    pub(super) layer_linear: u64,
    pub(super) largest: u64,
    /// What the layers keep.
    pub(super) kept: Vec<Kept>,
    /// Width of the output: the vocabulary, the classes, or 0 for a model that has no head.
    pub(super) logits: u64,
}

impl Census {
    /// Counts a model.
    pub(super) fn new(shape: &ModelShape) -> Result<Self, Overflow> {
        let weights: Vec<&Tensor> =
            shape.tensors.iter().filter(|tensor| tensor.role != Role::Draft).collect();
        if weights.is_empty() { Self::of_size(shape) } else { Self::of_tensors(shape, &weights) }
    }

    fn of_tensors(shape: &ModelShape, weights: &[&Tensor]) -> Result<Self, Overflow> {
        let mut merged: BTreeMap<(Kind, u64, u64), u64> = BTreeMap::new();
        let mut named: BTreeMap<(String, u64, u64), (Role, u64)> = BTreeMap::new();
        let mut layers: BTreeMap<u32, (u64, u64, Widths)> = BTreeMap::new();
        let (mut parameters, mut tables, mut largest) = (0_u64, 0_u64, 0_u64);
        for tensor in weights {
            let group =
                Group { kind: kind(tensor), count: tensor.count, rows: tensor.rows, columns: tensor.columns };
            let elements = group.elements()?;
            add(&mut parameters, elements)?;
            add(merged.entry((group.kind, group.rows, group.columns)).or_default(), group.count)?;
            if group.kind == Kind::Table {
                add(&mut tables, elements)?;
            } else {
                largest = largest.max(group.each()?);
            }
            if takes_adapters(tensor) && !group.is_vector() {
                let entry = named
                    .entry((without_layer(tensor), group.rows, group.columns))
                    .or_insert((tensor.role, 0));
                add(&mut entry.1, group.count)?;
            }
            if let Some(index) = tensor.layer {
                let (all, linear, widths) = layers.entry(index).or_default();
                add(all, elements)?;
                if group.kind == Kind::Linear {
                    add(linear, elements)?;
                }
                widths.take(tensor, shape)?;
            }
        }
        let mut kept = Vec::with_capacity(layers.len());
        for (index, (_, _, widths)) in &layers {
            let place = usize::try_from(*index).ok();
            kept.push(widths.kept(shape, place.and_then(|place| shape.layers.get(place)))?);
        }
        Ok(Self {
            groups: merged
                .into_iter()
                .map(|((kind, rows, columns), count)| Group { kind, count, rows, columns })
                .collect(),
            linears: named
                .into_iter()
                .map(|((name, rows, columns), (role, count))| {
                    (name, role, Group { kind: Kind::Linear, count, rows, columns })
                })
                .collect(),
            parameters,
            tables,
            layer: layers.values().map(|(all, _, _)| *all).max().unwrap_or(0),
            layer_linear: layers.values().map(|(_, linear, _)| *linear).max().unwrap_or(0),
            largest,
            kept,
            logits: logits(shape, weights),
        })
    }

    /// A model of which only the size and the assumed dimensions are known: the layers share what the embeddings leave.
    fn of_size(shape: &ModelShape) -> Result<Self, Overflow> {
        let hidden = shape.hidden_size.max(1);
        let layers = u64::try_from(shape.layers.len()).map_err(|_| Overflow)?.max(1);
        let copies = if shape.tied_embeddings { 1 } else { 2 };
        let table = shape.vocabulary.checked_mul(hidden).ok_or(Overflow)?;
        let tables = table.checked_mul(copies).ok_or(Overflow)?.min(shape.parameters);
        let body = shape.parameters - tables;
        let layer = body.div_ceil(layers);
        let mut groups = Vec::new();
        if tables > 0 {
            let (count, rows) = (copies, tables.div_ceil(copies).div_ceil(hidden));
            groups.push(Group { kind: Kind::Table, count, rows, columns: hidden });
        }
        if layer > 0 {
            groups.push(Group {
                kind: Kind::Linear,
                count: layers,
                rows: layer.div_ceil(hidden),
                columns: hidden,
            });
        }
        let query = shape.heads.checked_mul(shape.head_dim).ok_or(Overflow)?;
        let query = if query == 0 { hidden } else { query };
        let mut linears = Vec::new();
        let mut kept = Vec::new();
        let wide = if shape.intermediate_size == 0 {
            hidden.checked_mul(4).ok_or(Overflow)?
        } else {
            shape.intermediate_size
        };
        for index in 0..shape.layers.len().max(1) {
            let layer = shape.layers.get(index);
            let (key, value) = match layer.and_then(|layer| layer.attention).map(|attention| attention.cache)
            {
                Some(CacheKind::Heads { kv_heads, key_dim, value_dim }) => (
                    kv_heads.checked_mul(key_dim).ok_or(Overflow)?,
                    kv_heads.checked_mul(value_dim).ok_or(Overflow)?,
                ),
                _ => (query, query),
            };
            let mut widths = Widths { norms: hidden.checked_mul(2).ok_or(Overflow)?, ..Widths::default() };
            for (name, role, rows, columns, split) in [
                ("q_proj", Role::Attention, query, hidden, Split::Rows),
                ("k_proj", Role::Attention, key, hidden, Split::Rows),
                ("v_proj", Role::Attention, value, hidden, Split::Rows),
                ("o_proj", Role::Attention, hidden, query, Split::Columns),
                ("gate_proj", Role::Mlp, wide, hidden, Split::Rows),
                ("up_proj", Role::Mlp, wide, hidden, Split::Rows),
                ("down_proj", Role::Mlp, hidden, wide, Split::Columns),
            ] {
                widths.linear(role, rows, columns, split, 1)?;
                linears.push((name.to_owned(), role, Group { kind: Kind::Linear, count: 1, rows, columns }));
            }
            kept.push(widths.kept(shape, layer)?);
        }
        let largest = hidden.checked_mul(wide).ok_or(Overflow)?.min(layer);
        Ok(Self {
            groups,
            linears,
            parameters: shape.parameters,
            tables,
            layer,
            layer_linear: layer,
            largest,
            kept,
            logits: shape.vocabulary,
        })
    }
}

fn logits(shape: &ModelShape, weights: &[&Tensor]) -> u64 {
    if shape.tied_embeddings {
        return shape.vocabulary;
    }
    let heads = weights.iter().filter(|tensor| tensor.role == Role::OutputHead && tensor.columns > 1);
    heads.map(|tensor| tensor.rows).max().unwrap_or(0)
}

fn add(sum: &mut u64, more: u64) -> Result<(), Overflow> {
    *sum = sum.checked_add(more).ok_or(Overflow)?;
    Ok(())
}

fn kind(tensor: &Tensor) -> Kind {
    match tensor.role {
        Role::Embedding | Role::OutputHead => Kind::Table,
        _ if tensor.quantizable => Kind::Linear,
        _ => Kind::Other,
    }
}

/// Whether LoRA can be put on it: a linear layer of a block.
fn takes_adapters(tensor: &Tensor) -> bool {
    tensor.layer.is_some()
        && matches!(
            tensor.role,
            Role::Attention | Role::Mlp | Role::Expert | Role::SharedExpert | Role::State
        )
}

/// The module's name inside its layer: `model.layers.3.self_attn.q_proj.weight` is `self_attn.q_proj`.
fn without_layer(tensor: &Tensor) -> String {
    let module = tensor.name.strip_suffix(".weight").unwrap_or(&tensor.name);
    let number = tensor.layer.map(|layer| format!(".{layer}.")).unwrap_or_default();
    match module.split_once(&number) {
        Some((_, inside)) if !number.is_empty() => inside.to_owned(),
        _ => module.to_owned(),
    }
}

/// The widths in one layer, in elements per token.
#[derive(Clone, Copy, Debug, Default)]
struct Widths {
    norms: u64,
    attention_in: u64,
    attention_out: u64,
    up: u64,
    down: u64,
    expert_up: u64,
    expert_down: u64,
    state: u64,
}

impl Widths {
    fn take(&mut self, tensor: &Tensor, shape: &ModelShape) -> Result<(), Overflow> {
        if tensor.role == Role::Norm {
            let width = norm_width(tensor, shape)?;
            return add(&mut self.norms, width);
        }
        // Identical tensors other than routed experts are all used for every token.
        let uses = match (tensor.role, shape.experts) {
            (Role::Expert, Some(experts)) => experts.per_token.min(tensor.count.max(1)),
            (Role::Expert, None) => 1,
            _ => tensor.count,
        };
        self.linear(tensor.role, tensor.rows, tensor.columns, tensor.split, uses)
    }

    fn linear(
        &mut self,
        role: Role,
        rows: u64,
        columns: u64,
        split: Split,
        uses: u64,
    ) -> Result<(), Overflow> {
        let (rows, columns) =
            (rows.checked_mul(uses).ok_or(Overflow)?, columns.checked_mul(uses).ok_or(Overflow)?);
        // The matrix that returns to the residual stream is the one that is split by its input.
        let returns = split == Split::Columns;
        match role {
            Role::Attention if returns => add(&mut self.attention_out, columns),
            Role::Attention => add(&mut self.attention_in, rows),
            Role::Mlp | Role::SharedExpert if returns => add(&mut self.down, columns),
            Role::Mlp | Role::SharedExpert => add(&mut self.up, rows),
            Role::Expert if returns => add(&mut self.expert_down, columns),
            Role::Expert => add(&mut self.expert_up, rows),
            Role::State => add(&mut self.state, rows),
            _ => Ok(()),
        }
    }

    /// Bytes that 16-bit training keeps of one layer per token. Counted on transformers' Llama: a norm keeps its input
    /// in 32 bits and its output in 16; the linear layers their inputs; attention its queries, keys, values and twice
    /// its output (as computed, and contiguous for the output projection); a gated MLP the gate, its activation, the
    /// other half and their product. Checked against the rows of training.csv that run without checkpointing.
    fn kept(&self, shape: &ModelShape, layer: Option<&crate::model::Layer>) -> Result<Kept, Overflow> {
        let hidden = shape.hidden_size;
        let attends = self.attention_in > 0;
        let feeds = self.up > 0 || self.expert_up > 0;
        let inputs = hidden
            .checked_mul(u64::from(attends) + u64::from(feeds) + u64::from(self.state > 0))
            .ok_or(Overflow)?;
        let gated = |up: u64, down: u64| if up > down { down } else { 0 };
        let routed = if self.expert_up > 0 {
            shape.experts.map_or(1, |experts| experts.per_token).checked_mul(hidden).ok_or(Overflow)?
        } else {
            0
        };
        let mut bytes = Bytes::ZERO;
        for (elements, width) in [
            (self.norms, 6),
            (inputs, 2),
            (self.attention_in, 2),
            (self.attention_out, 4),
            (self.up, 2),
            (self.down, 2),
            (gated(self.up, self.down), 2),
            (self.expert_up, 2),
            (self.expert_down, 2),
            (gated(self.expert_up, self.expert_down), 2),
            // Routing copies each token once per expert on the way in.
            (routed, 2),
            // A recurrent layer keeps its projections, the convolution's output and the scan's input.
            (self.state, 6),
        ] {
            bytes = bytes.plus(product(&[elements, width])?)?;
        }
        let query = shape.heads.checked_mul(shape.head_dim).ok_or(Overflow)?;
        let repeated = match layer.and_then(|layer| layer.attention).map(|attention| attention.cache) {
            Some(CacheKind::Heads { kv_heads, key_dim, .. }) if attends => {
                query.saturating_sub(kv_heads.checked_mul(key_dim).ok_or(Overflow)?)
            }
            _ => 0,
        };
        let heads = if attends { shape.heads } else { 0 };
        Ok(Kept { bytes: bytes.0, repeated: product(&[repeated, 4])?.0, heads })
    }
}

/// Elements per token that pass a norm; 0 for a bias.
fn norm_width(tensor: &Tensor, shape: &ModelShape) -> Result<u64, Overflow> {
    let name = tensor.name.to_lowercase();
    if name.ends_with("bias") || tensor.rows > 1 || !(name.contains("norm") || name.contains("ln")) {
        return Ok(0);
    }
    let width = tensor.columns;
    if width != shape.head_dim || width == shape.hidden_size {
        return Ok(width);
    }
    // A norm over each head: its weight is as wide as one of them.
    let heads = if name.contains("k_norm") || name.contains("key") { kv_heads(shape) } else { shape.heads };
    width.checked_mul(heads.max(1)).ok_or(Overflow)
}

fn kv_heads(shape: &ModelShape) -> u64 {
    let heads = |layer: &crate::model::Layer| match layer.attention?.cache {
        CacheKind::Heads { kv_heads, .. } => Some(kv_heads),
        _ => None,
    };
    shape.layers.iter().filter_map(heads).max().unwrap_or(shape.heads)
}
