//! Mamba's blocks, of both generations.

use crate::model::hf_config::builder::Builder;
use crate::model::hf_config::config::fields::{FACTOR, Fields, WIDTH};
use crate::model::{ParseError, Role, Split, State, StateKind};

/// A Mamba-2 block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mamba2 {
    /// Width of the inner stream: heads x width of a head.
    pub(crate) inner: u64,
    /// Heads.
    pub(crate) heads: u64,
    /// Groups that share a state projection.
    pub(crate) groups: u64,
    /// State elements per channel.
    pub(crate) state: u64,
    /// Taps of the convolution.
    pub(crate) kernel: u64,
    /// Whether the convolution has a bias.
    pub(crate) conv_bias: bool,
    /// Whether the projections have biases.
    pub(crate) bias: bool,
    /// Whether the inner stream is normed before the output projection.
    pub(crate) normed: bool,
}

impl Mamba2 {
    fn conv_width(&self) -> u64 {
        self.inner + 2 * self.groups * self.state
    }

    /// Adds the tensors below `module`.
    pub(crate) fn build(&self, b: &mut Builder, module: &str, hidden: u64) {
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
    pub(crate) fn kept(&self) -> State {
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
pub(crate) struct Mamba1 {
    /// Width of the inner stream.
    pub(crate) inner: u64,
    /// State elements per channel.
    pub(crate) state: u64,
    /// Taps of the convolution.
    pub(crate) kernel: u64,
    /// Rank of the time step's projection.
    pub(crate) time_rank: u64,
    /// Whether the convolution has a bias.
    pub(crate) conv_bias: bool,
    /// Whether the projections have biases.
    pub(crate) bias: bool,
    /// Whether time step and state projections are normed (Jamba).
    pub(crate) normed: bool,
}

impl Mamba1 {
    /// Reads it, with the keys that `prefix` begins (`mamba_` in Jamba).
    pub(crate) fn read(f: &Fields<'_>, prefix: &str, hidden: u64) -> Result<Self, ParseError> {
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
    pub(crate) fn build(&self, b: &mut Builder, module: &str, hidden: u64) {
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
    pub(crate) fn kept(&self) -> State {
        State {
            kind: StateKind::Mamba1,
            conv_width: self.inner,
            conv_kernel: self.kernel,
            matrix: self.inner.saturating_mul(self.state),
            heads: 0,
        }
    }
}
