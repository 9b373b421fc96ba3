//! What the layers of a family are put together from, as a config has it.

use super::block::attention::{Gqa, Mla, QkNorm};
use super::block::mamba::{Mamba1, Mamba2};
use super::block::mlp::{Ffn, Mlp, Moe};
use super::block::state::{Convolution, GatedDelta, Griffin, KimiDelta, Lightning, Ling, Recurrent};
use super::families::family::{
    Experts as ExpertsRule, Family, Heads, Inner, Mamba2Keys, Mixer, Number, Recurrence, Shared,
};
use super::families::layers::{alike, sparse};
use super::measures::Dims;
use super::plan::{Attends, Planned};
use crate::model::hf_config::config::fields::{EXPERTS, FACTOR, Fields, HEADS, Limit, WIDTH};
use crate::model::pattern::Kind;
use crate::model::{ParseError, Span};

/// What the layers are put together from.
pub(super) struct Parts {
    pub(super) mixer: Option<Attends>,
    pub(super) state: Option<Recurrent>,
    pub(super) dense: Option<Mlp>,
    pub(super) moe: Option<Moe>,
    /// Which layers have the experts.
    pub(super) sparse: Vec<bool>,
    pub(super) alone: bool,
}

impl Parts {
    pub(super) fn read(
        family: &Family,
        f: &Fields<'_>,
        dims: &Dims,
        kinds: &[Kind],
    ) -> Result<Self, ParseError> {
        let rule = &family.ffn;
        let moe = rule.experts.map(|experts| experts_of(&experts, f)).transpose()?.flatten();
        let sparse = match (rule.experts, moe) {
            (Some(experts), Some(_)) if !rule.alone => sparse(&experts.sparse, f, dims.layers)?,
            _ => Vec::new(),
        };
        let has_dense = match moe {
            _ if rule.alone => kinds.contains(&Kind::Mlp),
            Some(_) => sparse.iter().take(kinds.len()).any(|sparse| !sparse),
            None => !rule.width.is_empty(),
        };
        // A wrong width is said, needed or not.
        f.any(rule.width, WIDTH)?;
        let dense = if has_dense {
            let width = width(family, f, dims.hidden)?;
            let (gated, bias) = (rule.gated.holds(f)?, rule.bias.holds(f)?);
            Some(Mlp { width: if rule.halved { width / 2 } else { width }, gated, bias })
        } else {
            None
        };
        let mixer = match &family.mixer {
            Mixer::None => None,
            Mixer::Heads(heads) => Some(Attends::Heads(heads_of(heads, f, dims)?)),
            Mixer::Latent => Some(Attends::Latent(Mla::read(f, dims.heads)?)),
        };
        let state = state(&family.state, f, dims)?;
        Ok(Self { mixer, state, dense, moe, sparse, alone: rule.alone })
    }

    /// A layer of a kind, with experts or without.
    pub(super) fn layer(
        &self,
        f: &Fields<'_>,
        kind: Kind,
        is_sparse: bool,
        span: Span,
    ) -> Result<Planned, ParseError> {
        let attends = matches!(kind, Kind::Full | Kind::Sliding | Kind::Chunked | Kind::Both);
        let recurs = matches!(kind, Kind::State | Kind::Both);
        let dense = self.dense.map_or(Ffn::None, Ffn::Dense);
        let ffn = match (kind, self.moe) {
            (Kind::Experts, None) => {
                let problem = "is missing, but the pattern has layers with experts";
                return Err(f.error("n_routed_experts", problem));
            }
            (Kind::Experts, Some(moe)) => Ffn::Moe(moe),
            (Kind::Mlp, _) => dense,
            _ if self.alone => Ffn::None,
            (_, Some(moe)) if is_sparse => Ffn::Moe(moe),
            _ => dense,
        };
        Ok(Planned {
            mixer: self.mixer.filter(|_| attends).map(|mixer| (mixer, span)),
            state: self.state.filter(|_| recurs),
            ffn,
            eyes: None,
        })
    }
}

/// The width of the dense MLP, as it is written or by the family's rule.
fn width(family: &Family, f: &Fields<'_>, hidden: u64) -> Result<u64, ParseError> {
    let rule = &family.ffn;
    let widen = rule.widen.read(f, FACTOR)?;
    match f.any(rule.width, WIDTH)? {
        Some(width) if width > 0 => Ok(width),
        _ if widen > 0 => Ok(widen * hidden),
        _ => f.need(rule.width, WIDTH),
    }
}

/// Attention over heads.
fn heads_of(rule: &Heads, f: &Fields<'_>, dims: &Dims) -> Result<Gqa, ParseError> {
    let value_dim =
        if rule.own_values { f.number("v_head_dim", WIDTH)?.filter(|dim| *dim > 0) } else { None };
    Ok(Gqa {
        heads: dims.heads,
        kv_heads: dims.kv_heads,
        key_dim: dims.head_dim,
        value_dim: value_dim.unwrap_or(dims.head_dim),
        qkv_bias: rule.qkv_bias.holds(f)?,
        out_bias: rule.out_bias.holds(f)?,
        qk_norm: if rule.normed.holds(f)? { rule.norm } else { QkNorm::None },
        gated: rule.gated.holds(f)?,
        sinks: rule.sinks.holds(f)?,
        ..Gqa::default()
    })
}

/// The block that keeps a state.
fn state(rule: &Recurrence, f: &Fields<'_>, dims: &Dims) -> Result<Option<Recurrent>, ParseError> {
    let hidden = dims.hidden;
    Ok(Some(match *rule {
        Recurrence::None => return Ok(None),
        Recurrence::Mamba1(prefix) => Recurrent::Mamba1(Mamba1::read(f, prefix, hidden)?),
        Recurrence::Mamba2(keys) => Recurrent::Mamba2(mamba2(&keys, f, hidden)?),
        Recurrence::Delta(form) => Recurrent::Delta(GatedDelta::read(f, form)?),
        Recurrence::Kimi => Recurrent::Kimi(KimiDelta::read(f)?),
        Recurrence::Lightning => Recurrent::Lightning(Lightning { heads: dims.heads, dim: dims.head_dim }),
        Recurrence::Ling(delta) => Recurrent::Ling(Ling::read(f, delta, (dims.heads, dims.head_dim))?),
        Recurrence::Convolution(taps) => Recurrent::Convolution(Convolution {
            kernel: f.positive_or("conv_L_cache", FACTOR, taps)?,
            bias: f.flag_or("conv_bias", false)?,
            hidden,
        }),
        Recurrence::Griffin => Recurrent::Griffin(Griffin::read(f, hidden, dims.heads)?),
    }))
}

fn mamba2(keys: &Mamba2Keys, f: &Fields<'_>, hidden: u64) -> Result<Mamba2, ParseError> {
    let wide = || f.positive_or(keys.expand, FACTOR, 2).map(|expand| hidden * expand);
    let (inner, heads) = match keys.inner {
        Inner::OfHeads(dim) => {
            let heads = f.need(&[keys.heads], HEADS)?;
            (heads * f.need(&[dim], WIDTH)?, heads)
        }
        Inner::Own(key) => (f.positive_or(key, WIDTH, wide()?)?, f.need(&[keys.heads], HEADS)?),
        Inner::Wide(dim) => {
            let (wide, dim) = (wide()?, dim.positive(f, WIDTH)?);
            (wide, f.positive_or(keys.heads, HEADS, (wide / dim).max(1))?)
        }
    };
    Ok(Mamba2 {
        inner,
        heads,
        groups: keys.groups.positive(f, HEADS)?,
        state: keys.state.positive(f, WIDTH)?,
        kernel: f.positive_or(keys.kernel, FACTOR, 4)?,
        conv_bias: f.flag_or(keys.conv_bias, true)?,
        bias: f.flag_or(keys.bias, false)?,
        normed: keys.normed.holds(f)?,
    })
}

/// A number that may be written once per layer.
fn per_layer(number: Number, f: &Fields<'_>, limit: Limit) -> Result<Option<u64>, ParseError> {
    number.0.iter().find(|key| f.has(key)).map_or(Ok(None), |key| alike(f, key, limit))
}

/// The experts; `None` where the config has none.
fn experts_of(rule: &ExpertsRule, own: &Fields<'_>) -> Result<Option<Moe>, ParseError> {
    let below = if rule.below.is_empty() { None } else { Some(own.need_object(rule.below)?) };
    let f = below.as_ref().unwrap_or(own);
    let written = per_layer(rule.count, f, EXPERTS)?;
    let count = match (written, rule.more_than) {
        (None, _) if rule.count.1 > 0 => rule.count.1,
        (written, Some(most)) if written.unwrap_or(0) <= most => return Ok(None),
        (Some(count), _) if count > 0 => count,
        _ => f.need(rule.count.0, EXPERTS)?,
    };
    if rule.more_than.is_some_and(|most| count <= most) {
        return Ok(None);
    }
    let width = match per_layer(Number(rule.width, 0), f, WIDTH)? {
        Some(width) if width > 0 => width,
        _ => f.need(rule.width, WIDTH)?,
    };
    let most = |keys: &[&str], default: u64| {
        let read = |most: Option<u64>, key: &&str| Ok(most.max(alike(f, key, EXPERTS)?));
        keys.iter().try_fold(None, read).map(|most: Option<u64>| most.unwrap_or(default))
    };
    let shared_width = match rule.shared {
        Shared::Routed => width,
        Shared::Width(key, default) => f.or(key, WIDTH, default)?,
        Shared::Times(keys, default, when) if when.holds(f)? => width * most(keys, default)?,
        Shared::None | Shared::Times(..) => 0,
        Shared::WidthOrTimes(key, keys) => f.or(key, WIDTH, width * most(keys, 0)?)?,
        Shared::TimesWidth(times, key) => f.or(times, EXPERTS, 0)? * f.or(key, WIDTH, width)?,
    };
    let input = if rule.latent.is_empty() { 0 } else { f.or(rule.latent, WIDTH, 0)? };
    Ok(Some(Moe {
        count,
        per_token: per_layer(rule.per_token, f, EXPERTS)?.unwrap_or(rule.per_token.1).clamp(1, count),
        width,
        input,
        shared_width,
        shared_gate: rule.shared_gate,
        gated: rule.gated,
        bias: rule.bias,
        router_bias: rule.bias,
        correction: rule.correction.holds(f)?,
    }))
}
