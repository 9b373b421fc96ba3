//! Recurrent blocks: their tensors, and the state that they keep per sequence.

use super::builder::Builder;
use super::fields::{FACTOR, Fields, HEADS, WIDTH};
use crate::model::{ParseError, Role, Split, State, StateKind};

/// A Mamba-2 block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mamba2 {
    /// Width of the inner stream: heads x width of a head.
    pub(super) inner: u64,
    /// Heads.
    pub(super) heads: u64,
    /// Groups that share a state projection.
    pub(super) groups: u64,
    /// State elements per channel.
    pub(super) state: u64,
    /// Taps of the convolution.
    pub(super) kernel: u64,
    /// Whether the convolution has a bias.
    pub(super) conv_bias: bool,
    /// Whether the projections have biases.
    pub(super) bias: bool,
    /// Whether the inner stream is normed before the output projection.
    pub(super) normed: bool,
}

impl Mamba2 {
    fn conv_width(&self) -> u64 {
        self.inner + 2 * self.groups * self.state
    }

    /// Adds the tensors below `module`.
    pub(super) fn build(&self, b: &mut Builder, module: &str, hidden: u64) {
        let name = |part: &str| format!("{module}.{part}");
        let conv = self.conv_width();
        let projected = self.inner + conv + self.heads;
        b.linear(&name("in_proj"), Role::Attention, (projected, hidden), Split::Rows, self.bias);
        b.state(&name("conv1d.weight"), conv, self.kernel, Split::Rows);
        if self.conv_bias {
            b.state(&name("conv1d.bias"), 1, conv, Split::Columns);
        }
        for part in ["A_log", "D", "dt_bias"] {
            b.state(&name(part), 1, self.heads, Split::Columns);
        }
        if self.normed {
            b.state(&name("norm.weight"), 1, self.inner, Split::Columns);
        }
        b.linear(&name("out_proj"), Role::Attention, (hidden, self.inner), Split::Columns, self.bias);
    }

    /// The state of one sequence.
    pub(super) fn kept(&self) -> State {
        State {
            kind: StateKind::Mamba2,
            conv_width: self.conv_width(),
            conv_kernel: self.kernel,
            matrix: self.inner.saturating_mul(self.state),
            heads: self.heads,
        }
    }
}

/// A Mamba-1 block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mamba1 {
    /// Width of the inner stream.
    pub(super) inner: u64,
    /// State elements per channel.
    pub(super) state: u64,
    /// Taps of the convolution.
    pub(super) kernel: u64,
    /// Rank of the time step's projection.
    pub(super) time_rank: u64,
    /// Whether the convolution has a bias.
    pub(super) conv_bias: bool,
    /// Whether the projections have biases.
    pub(super) bias: bool,
    /// Whether time step and state projections are normed (Jamba).
    pub(super) normed: bool,
}

impl Mamba1 {
    /// Reads it, with the keys that `prefix` begins (`mamba_` in Jamba).
    pub(super) fn read(f: &Fields<'_>, prefix: &str, hidden: u64) -> Result<Self, ParseError> {
        let key = |name: &str| format!("{prefix}{name}");
        let expand = f.positive_or(&key("expand"), FACTOR, 2)?;
        let state_key = if prefix.is_empty() { "state_size".to_owned() } else { key("d_state") };
        let kernel_key = if prefix.is_empty() { "conv_kernel".to_owned() } else { key("d_conv") };
        let rank_key = if prefix.is_empty() { "time_step_rank".to_owned() } else { key("dt_rank") };
        // "auto" is a sixteenth of the residual stream.
        let auto = matches!(f.get(&rank_key), None | Some(serde_json::Value::String(_)));
        Ok(Self {
            inner: f
                .positive_or("intermediate_size", WIDTH, hidden * expand)
                .map(|written| if prefix.is_empty() { written } else { hidden * expand })?,
            state: f.positive_or(&state_key, WIDTH, 16)?,
            kernel: f.positive_or(&kernel_key, FACTOR, 4)?,
            time_rank: if auto { hidden.div_ceil(16) } else { f.need(&[&rank_key], WIDTH)? },
            conv_bias: f
                .flag_or(if prefix.is_empty() { "use_conv_bias" } else { "mamba_conv_bias" }, true)?,
            bias: f.flag_or(if prefix.is_empty() { "use_bias" } else { "mamba_proj_bias" }, false)?,
            normed: !prefix.is_empty(),
        })
    }

    /// Adds the tensors below `module`.
    pub(super) fn build(&self, b: &mut Builder, module: &str, hidden: u64) {
        let name = |part: &str| format!("{module}.{part}");
        let Self { inner, state, time_rank, .. } = *self;
        b.linear(&name("in_proj"), Role::Attention, (2 * inner, hidden), Split::Rows, self.bias);
        b.state(&name("conv1d.weight"), inner, self.kernel, Split::Rows);
        if self.conv_bias {
            b.state(&name("conv1d.bias"), 1, inner, Split::Columns);
        }
        b.linear(&name("x_proj"), Role::Attention, (time_rank + 2 * state, inner), Split::Columns, false);
        b.linear(&name("dt_proj"), Role::Attention, (inner, time_rank), Split::Rows, true);
        b.state(&name("A_log"), inner, state, Split::Rows);
        b.state(&name("D"), 1, inner, Split::Columns);
        if self.normed {
            b.norm(&name("dt_layernorm"), time_rank, false);
            b.norm(&name("b_layernorm"), state, false);
            b.norm(&name("c_layernorm"), state, false);
        }
        b.linear(&name("out_proj"), Role::Attention, (hidden, inner), Split::Columns, self.bias);
    }

    /// The state of one sequence.
    pub(super) fn kept(&self) -> State {
        State {
            kind: StateKind::Mamba1,
            conv_width: self.inner,
            conv_kernel: self.kernel,
            matrix: self.inner.saturating_mul(self.state),
            heads: 0,
        }
    }
}

/// A gated delta net (Qwen3-Next, Qwen3.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GatedDelta {
    key_heads: u64,
    key_dim: u64,
    value_heads: u64,
    value_dim: u64,
    kernel: u64,
    /// Whether query, key, value and gate share one matrix (Qwen3-Next).
    fused: bool,
}

impl GatedDelta {
    /// Reads it.
    pub(super) fn read(f: &Fields<'_>, fused: bool) -> Result<Self, ParseError> {
        Ok(Self {
            key_heads: f.need(&["linear_num_key_heads"], HEADS)?,
            key_dim: f.need(&["linear_key_head_dim"], WIDTH)?,
            value_heads: f.need(&["linear_num_value_heads"], HEADS)?,
            value_dim: f.need(&["linear_value_head_dim"], WIDTH)?,
            kernel: f.need(&["linear_conv_kernel_dim"], FACTOR)?,
            fused,
        })
    }

    /// Adds the tensors.
    pub(super) fn build(&self, b: &mut Builder, hidden: u64) {
        let (keys, values) = (self.key_heads * self.key_dim, self.value_heads * self.value_dim);
        let conv = 2 * keys + values;
        let attention = Role::Attention;
        if self.fused {
            b.linear("linear_attn.in_proj_qkvz", attention, (conv + values, hidden), Split::Rows, false);
            let gates = (2 * self.value_heads, hidden);
            b.linear("linear_attn.in_proj_ba", attention, gates, Split::Rows, false);
        } else {
            b.linear("linear_attn.in_proj_qkv", attention, (conv, hidden), Split::Rows, false);
            b.linear("linear_attn.in_proj_z", attention, (values, hidden), Split::Rows, false);
            for gate in ["linear_attn.in_proj_b.weight", "linear_attn.in_proj_a.weight"] {
                b.state(gate, self.value_heads, hidden, Split::Rows);
            }
        }
        b.state("linear_attn.conv1d.weight", conv, self.kernel, Split::Rows);
        b.state("linear_attn.A_log", 1, self.value_heads, Split::Columns);
        b.state("linear_attn.dt_bias", 1, self.value_heads, Split::Columns);
        b.norm("linear_attn.norm", self.value_dim, false);
        b.linear("linear_attn.out_proj", attention, (hidden, values), Split::Columns, false);
    }

    /// The same, with a matrix for every part (OLMo Hybrid).
    pub(super) fn separate(&self, b: &mut Builder, hidden: u64) {
        let (keys, values) = (self.key_heads * self.key_dim, self.value_heads * self.value_dim);
        let attention = Role::Attention;
        for (part, rows) in [("q", keys), ("k", keys), ("v", values), ("g", values)] {
            b.linear(&format!("linear_attn.{part}_proj"), attention, (rows, hidden), Split::Rows, false);
        }
        for part in ["a", "b"] {
            b.state(&format!("linear_attn.{part}_proj.weight"), self.value_heads, hidden, Split::Rows);
        }
        b.state("linear_attn.conv1d.weight", 2 * keys + values, self.kernel, Split::Rows);
        b.state("linear_attn.A_log", 1, self.value_heads, Split::Columns);
        b.state("linear_attn.dt_bias", 1, self.value_heads, Split::Columns);
        b.norm("linear_attn.o_norm", self.value_dim, false);
        b.linear("linear_attn.o_proj", attention, (hidden, values), Split::Columns, false);
    }

    /// The state of one sequence.
    pub(super) fn kept(&self) -> State {
        let values = self.value_heads * self.value_dim;
        State {
            kind: StateKind::GatedDelta,
            conv_width: 2 * self.key_heads * self.key_dim + values,
            conv_kernel: self.kernel,
            matrix: values.saturating_mul(self.key_dim),
            heads: self.value_heads,
        }
    }
}

/// Kimi delta attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KimiDelta {
    heads: u64,
    dim: u64,
    kernel: u64,
    /// Whether the output gate is one whole matrix instead of two of low rank (Kimi K3).
    full_rank_gate: bool,
}

impl KimiDelta {
    /// Reads `linear_attn_config`.
    pub(super) fn read(f: &Fields<'_>) -> Result<Self, ParseError> {
        Ok(Self {
            heads: f.need(&["num_heads"], HEADS)?,
            dim: f.need(&["head_dim"], WIDTH)?,
            kernel: f.need(&["short_conv_kernel_size"], FACTOR)?,
            full_rank_gate: f.flag_or("use_full_rank_gate", false)?,
        })
    }

    /// The same, where its fields stand among the model's own.
    pub(super) fn flat(f: &Fields<'_>) -> Result<Self, ParseError> {
        Ok(Self {
            heads: f.need(&["linear_num_heads"], HEADS)?,
            dim: f.need(&["linear_head_dim"], WIDTH)?,
            kernel: f.need(&["linear_conv_kernel_dim", "short_conv_kernel_size"], FACTOR)?,
            full_rank_gate: f.flag_or("use_full_rank_gate", false)?,
        })
    }

    /// Adds the tensors.
    pub(super) fn build(&self, b: &mut Builder, hidden: u64) {
        let Self { heads, dim, kernel, .. } = *self;
        let width = heads * dim;
        let attention = Role::Attention;
        for part in ["q", "k", "v"] {
            let name = format!("self_attn.{part}_proj");
            b.linear(&name, attention, (width, hidden), Split::Rows, false);
            b.state(&format!("self_attn.{part}_conv1d.weight"), width, kernel, Split::Rows);
        }
        b.state("self_attn.A_log", 1, heads, Split::Columns);
        b.state("self_attn.dt_bias", 1, width, Split::Columns);
        b.linear("self_attn.f_a_proj", attention, (dim, hidden), Split::Replicated, false);
        b.linear("self_attn.f_b_proj", attention, (width, dim), Split::Rows, false);
        b.linear("self_attn.b_proj", attention, (heads, hidden), Split::Rows, false);
        if self.full_rank_gate {
            b.linear("self_attn.g_proj", attention, (width, hidden), Split::Rows, false);
        } else {
            b.linear("self_attn.g_a_proj", attention, (dim, hidden), Split::Replicated, false);
            b.linear("self_attn.g_b_proj", attention, (width, dim), Split::Rows, false);
        }
        b.norm("self_attn.o_norm", dim, false);
        b.linear("self_attn.o_proj", attention, (hidden, width), Split::Columns, false);
    }

    /// The state of one sequence.
    pub(super) fn kept(&self) -> State {
        State {
            kind: StateKind::KimiDelta,
            conv_width: 3 * self.heads * self.dim,
            conv_kernel: self.kernel,
            matrix: (self.heads * self.dim).saturating_mul(self.dim),
            heads: self.heads,
        }
    }
}

/// Lightning attention (MiniMax-Text-01).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lightning {
    /// Heads.
    pub(super) heads: u64,
    /// Width of a head.
    pub(super) dim: u64,
}

impl Lightning {
    /// Adds the tensors.
    pub(super) fn build(&self, b: &mut Builder, hidden: u64) {
        let width = self.heads * self.dim;
        let attention = Role::Attention;
        b.linear("self_attn.qkv_proj", attention, (3 * width, hidden), Split::Rows, false);
        b.linear("self_attn.output_gate", attention, (width, hidden), Split::Rows, false);
        b.linear("self_attn.out_proj", attention, (hidden, width), Split::Columns, false);
        b.norm("self_attn.norm", width, false);
    }

    /// The state of one sequence.
    pub(super) fn kept(&self) -> State {
        State {
            kind: StateKind::Linear,
            conv_width: 0,
            conv_kernel: 1,
            matrix: (self.heads * self.dim).saturating_mul(self.dim),
            heads: self.heads,
        }
    }
}
