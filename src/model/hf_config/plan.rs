//! A decoder whose config has been read, before its tensors are written.

use super::block::attention::{Gqa, Mla};
use super::block::mlp::{Ffn, Moe};
use super::block::names::Style;
use super::block::state::Recurrent;
use super::builder::Builder;
use super::measures::Dims;
use crate::model::{Attention, Span};

/// A decoder layer by layer.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Measures.
    pub(crate) dims: Dims,
    /// Names.
    pub(crate) style: Style,
    /// The layers.
    pub(crate) layers: Vec<Planned>,
}

/// One layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planned {
    /// What attends, and to which tokens.
    pub(crate) mixer: Option<(Attends, Span)>,
    /// What keeps a state.
    pub(crate) state: Option<Recurrent>,
    /// The MLP.
    pub(crate) ffn: Ffn,
    /// The experts that tokens of an image pass instead, and their module.
    pub(crate) eyes: Option<(Moe, &'static str)>,
}

impl Planned {
    /// The attention over heads, if that is what the layer has.
    pub(crate) fn heads(&mut self) -> Option<&mut Gqa> {
        match &mut self.mixer {
            Some((Attends::Heads(gqa), _)) => Some(gqa),
            _ => None,
        }
    }

    /// Whether it has experts.
    pub(crate) const fn is_sparse(&self) -> bool {
        matches!(self.ffn, Ffn::Moe(_))
    }
}

/// What attends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Attends {
    /// Keys and values by heads.
    Heads(Gqa),
    /// A latent of them.
    Latent(Mla),
}

impl Attends {
    /// Adds the tensors.
    pub(crate) fn build(&self, b: &mut Builder, style: &Style, hidden: u64) {
        match self {
            Self::Heads(gqa) => gqa.build(b, &style.attention, hidden),
            Self::Latent(mla) => mla.build(b, hidden),
        }
    }

    /// What a layer with it keeps.
    pub(crate) fn kept(&self, span: Span) -> Attention {
        match self {
            Self::Heads(gqa) => gqa.kept(span),
            Self::Latent(mla) => Attention { span, ..mla.kept() },
        }
    }
}
