//! Recurrent blocks: their tensors, and the state that they keep per sequence.

use super::mamba::{Mamba1, Mamba2};
use crate::model::hf_config::builder::Builder;
use crate::model::hf_config::config::fields::{FACTOR, Fields, HEADS, WIDTH};
use crate::model::{ParseError, Role, Split, State, StateKind};

/// How the projections of a gated delta net are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeltaForm {
    /// Query, key, value and gate share one matrix (Qwen3-Next).
    Fused,
    /// The gate has one of its own (Qwen3.5).
    Halves,
    /// Every part has (OLMo Hybrid).
    Parts,
}

/// A gated delta net (Qwen3-Next, Qwen3.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GatedDelta {
    key_heads: u64,
    key_dim: u64,
    value_heads: u64,
    value_dim: u64,
    kernel: u64,
    form: DeltaForm,
}

impl GatedDelta {
    /// Reads it.
    pub(crate) fn read(f: &Fields<'_>, form: DeltaForm) -> Result<Self, ParseError> {
        Ok(Self {
            key_heads: f.need(&["linear_num_key_heads"], HEADS)?,
            key_dim: f.need(&["linear_key_head_dim"], WIDTH)?,
            value_heads: f.need(&["linear_num_value_heads"], HEADS)?,
            value_dim: f.need(&["linear_value_head_dim"], WIDTH)?,
            kernel: f.need(&["linear_conv_kernel_dim"], FACTOR)?,
            form,
        })
    }

    /// Adds the tensors.
    pub(crate) fn build(&self, b: &mut Builder, hidden: u64) {
        let (keys, values) = (self.key_heads * self.key_dim, self.value_heads * self.value_dim);
        let conv = 2 * keys + values;
        let name = |part: &str| format!("linear_attn.{part}");
        let rows = |b: &mut Builder, part: &str, rows: u64| {
            b.linear(&name(part), Role::Attention, (rows, hidden), Split::Rows, false);
        };
        let gates = |b: &mut Builder, parts: [&str; 2]| {
            for part in parts {
                b.state(&name(part), self.value_heads, hidden, Split::Rows);
            }
        };
        match self.form {
            DeltaForm::Fused => {
                rows(b, "in_proj_qkvz", conv + values);
                rows(b, "in_proj_ba", 2 * self.value_heads);
            }
            DeltaForm::Halves => {
                rows(b, "in_proj_qkv", conv);
                rows(b, "in_proj_z", values);
                gates(b, ["in_proj_b.weight", "in_proj_a.weight"]);
            }
            DeltaForm::Parts => {
                for (part, width) in
                    [("q_proj", keys), ("k_proj", keys), ("v_proj", values), ("g_proj", values)]
                {
                    rows(b, part, width);
                }
                gates(b, ["a_proj.weight", "b_proj.weight"]);
            }
        }
        b.state("linear_attn.conv1d.weight", conv, self.kernel, Split::Rows);
        b.state("linear_attn.A_log", 1, self.value_heads, Split::Columns);
        b.state("linear_attn.dt_bias", 1, self.value_heads, Split::Columns);
        let (norm, out) =
            if self.form == DeltaForm::Parts { ("o_norm", "o_proj") } else { ("norm", "out_proj") };
        b.norm(&name(norm), self.value_dim, false);
        b.linear(&name(out), Role::Attention, (hidden, values), Split::Columns, false);
    }

    /// The state of one sequence.
    pub(crate) fn kept(&self) -> State {
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
pub(crate) struct KimiDelta {
    heads: u64,
    dim: u64,
    kernel: u64,
    /// Whether the output gate is one whole matrix instead of two of low rank (Kimi K3).
    full_rank_gate: bool,
}

impl KimiDelta {
    /// Reads `linear_attn_config`, or the model's own fields where it has its measures there.
    pub(crate) fn read(f: &Fields<'_>) -> Result<Self, ParseError> {
        match f.object("linear_attn_config")? {
            Some(linear) => Self::nested(&linear),
            None if f.has("layer_types") => Self::flat(f),
            None => Self::nested(&f.need_object("linear_attn_config")?),
        }
    }

    fn nested(f: &Fields<'_>) -> Result<Self, ParseError> {
        Ok(Self {
            heads: f.need(&["num_heads"], HEADS)?,
            dim: f.need(&["head_dim"], WIDTH)?,
            kernel: f.need(&["short_conv_kernel_size"], FACTOR)?,
            full_rank_gate: f.flag_or("use_full_rank_gate", false)?,
        })
    }

    fn flat(f: &Fields<'_>) -> Result<Self, ParseError> {
        Ok(Self {
            heads: f.need(&["linear_num_heads"], HEADS)?,
            dim: f.need(&["linear_head_dim"], WIDTH)?,
            kernel: f.need(&["linear_conv_kernel_dim", "short_conv_kernel_size"], FACTOR)?,
            full_rank_gate: f.flag_or("use_full_rank_gate", false)?,
        })
    }

    /// Adds the tensors.
    pub(crate) fn build(&self, b: &mut Builder, hidden: u64) {
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
    pub(crate) fn kept(&self) -> State {
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
pub(crate) struct Lightning {
    /// Heads.
    pub(crate) heads: u64,
    /// Width of a head.
    pub(crate) dim: u64,
}

impl Lightning {
    /// Adds the tensors.
    pub(crate) fn build(&self, b: &mut Builder, hidden: u64) {
        let width = self.heads * self.dim;
        let attention = Role::Attention;
        b.linear("self_attn.qkv_proj", attention, (3 * width, hidden), Split::Rows, false);
        b.linear("self_attn.output_gate", attention, (width, hidden), Split::Rows, false);
        b.linear("self_attn.out_proj", attention, (hidden, width), Split::Columns, false);
        b.norm("self_attn.norm", width, false);
    }

    /// The state of one sequence.
    pub(crate) fn kept(&self) -> State {
        State {
            kind: StateKind::Linear,
            conv_width: 0,
            conv_kernel: 1,
            matrix: (self.heads * self.dim).saturating_mul(self.dim),
            heads: self.heads,
        }
    }
}

/// The linear attention of a layer: its heads, their width, and the taps of its convolution (0 for none).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ling {
    heads: u64,
    dim: u64,
    taps: u64,
    is_delta: bool,
}

impl Ling {
    /// Reads it; `delta` says whether it has Kimi's delta attention.
    pub(crate) fn read(
        f: &Fields<'_>,
        delta: bool,
        (heads, head_dim): (u64, u64),
    ) -> Result<Self, ParseError> {
        let taps = if delta {
            f.any(&["linear_conv_kernel_dim", "short_conv_kernel_size"], FACTOR)?.unwrap_or(4)
        } else {
            0
        };
        Ok(Self {
            heads: f.positive_or("linear_num_heads", HEADS, heads)?,
            dim: f.positive_or("linear_head_dim", WIDTH, head_dim)?,
            taps,
            is_delta: delta,
        })
    }

    /// Kimi's delta attention, with gates of full rank.
    fn delta(self, b: &mut Builder, hidden: u64) {
        let width = self.heads * self.dim;
        let attention = Role::Attention;
        for part in ["q_proj", "k_proj", "v_proj", "f_proj", "g_proj"] {
            b.linear(&format!("self_attn.{part}"), attention, (width, hidden), Split::Rows, false);
        }
        b.state("self_attn.conv1d.weight", 3 * width, self.taps, Split::Rows);
        b.state("self_attn.A_log", 1, self.heads, Split::Columns);
        b.state("self_attn.dt_bias", 1, width, Split::Columns);
        b.linear("self_attn.b_proj", attention, (self.heads, hidden), Split::Rows, false);
        b.norm("self_attn.o_norm", self.dim, false);
        b.linear("self_attn.o_proj", attention, (hidden, width), Split::Columns, false);
    }

    /// Lightning attention, with a gate and norms.
    fn lightning(self, b: &mut Builder, hidden: u64) {
        let width = self.heads * self.dim;
        let attention = Role::Attention;
        b.linear("attention.query_key_value", attention, (3 * width, hidden), Split::Rows, false);
        b.linear("attention.g_proj", attention, (width, hidden), Split::Rows, false);
        b.linear("attention.dense", attention, (hidden, width), Split::Columns, false);
        b.norm("attention.g_norm", width, false);
        b.norm("attention.query_layernorm", self.dim, false);
        b.norm("attention.key_layernorm", self.dim, false);
    }

    fn kept(self) -> State {
        State {
            kind: if self.taps > 0 { StateKind::KimiDelta } else { StateKind::Linear },
            conv_width: if self.taps > 0 { 3 * self.heads * self.dim } else { 0 },
            conv_kernel: self.taps.max(1),
            matrix: (self.heads * self.dim).saturating_mul(self.dim),
            heads: self.heads,
        }
    }
}

/// Griffin's gated linear recurrence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Griffin {
    width: u64,
    taps: u64,
    heads: u64,
}

impl Griffin {
    /// Reads it.
    pub(crate) fn read(f: &Fields<'_>, hidden: u64, heads: u64) -> Result<Self, ParseError> {
        let width = f.positive_or("lru_width", WIDTH, hidden)?;
        Ok(Self { width, taps: f.positive_or("conv1d_width", FACTOR, 4)?, heads })
    }

    fn build(self, b: &mut Builder, hidden: u64) {
        let Self { width, taps, heads } = self;
        for part in ["linear_y", "linear_x"] {
            let name = format!("temporal_block.{part}");
            b.linear(&name, Role::Attention, (width, hidden), Split::Rows, true);
        }
        b.linear("temporal_block.linear_out", Role::Attention, (hidden, width), Split::Columns, true);
        b.state("temporal_block.conv_1d.weight", width, taps, Split::Rows);
        b.vector("temporal_block.conv_1d.bias", width);
        b.vector("temporal_block.rg_lru.recurrent_param", width);
        for gate in ["input_gate", "recurrent_gate"] {
            // One square block per head.
            let side = (width / heads).max(1);
            b.state(&format!("temporal_block.rg_lru.{gate}_weight"), width, side, Split::Rows);
            b.vector(&format!("temporal_block.rg_lru.{gate}_bias"), width);
        }
    }

    const fn kept(self) -> State {
        let Self { width, taps, .. } = self;
        State { kind: StateKind::Mamba1, conv_width: width, conv_kernel: taps, matrix: width, heads: 0 }
    }
}

/// A short convolution between two projections (LFM2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Convolution {
    /// Taps.
    pub(crate) kernel: u64,
    /// Whether the projections have biases.
    pub(crate) bias: bool,
    /// Channels: the residual stream.
    pub(crate) hidden: u64,
}

impl Convolution {
    fn build(self, b: &mut Builder) {
        let Self { kernel, bias, hidden } = self;
        b.linear("conv.in_proj", Role::Attention, (3 * hidden, hidden), Split::Rows, bias);
        b.state("conv.conv.weight", hidden, kernel, Split::Rows);
        b.linear("conv.out_proj", Role::Attention, (hidden, hidden), Split::Columns, bias);
    }

    const fn kept(self) -> State {
        let Self { kernel, hidden, .. } = self;
        let kind = StateKind::ShortConvolution;
        State { kind, conv_width: hidden, conv_kernel: kernel, matrix: 0, heads: 0 }
    }
}

/// Whatever block keeps a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recurrent {
    Mamba1(Mamba1),
    Mamba2(Mamba2),
    Delta(GatedDelta),
    Kimi(KimiDelta),
    Lightning(Lightning),
    Ling(Ling),
    Convolution(Convolution),
    Griffin(Griffin),
}

impl Recurrent {
    /// Adds the tensors; a Mamba block's stand below `module`.
    pub(crate) fn build(&self, b: &mut Builder, module: &str, hidden: u64) {
        match self {
            Self::Mamba1(block) => block.build(b, module, hidden),
            Self::Mamba2(block) => block.build(b, module, hidden),
            Self::Delta(block) => block.build(b, hidden),
            Self::Kimi(block) => block.build(b, hidden),
            Self::Lightning(block) => block.build(b, hidden),
            Self::Ling(block) if block.is_delta => block.delta(b, hidden),
            Self::Ling(block) => block.lightning(b, hidden),
            Self::Convolution(block) => block.build(b),
            Self::Griffin(block) => block.build(b, hidden),
        }
    }

    /// The state of one sequence.
    pub(crate) fn kept(&self) -> State {
        match self {
            Self::Mamba1(block) => block.kept(),
            Self::Mamba2(block) => block.kept(),
            Self::Delta(block) => block.kept(),
            Self::Kimi(block) => block.kept(),
            Self::Lightning(block) => block.kept(),
            Self::Ling(block) => block.kept(),
            Self::Convolution(block) => block.kept(),
            Self::Griffin(block) => block.kept(),
        }
    }
}
