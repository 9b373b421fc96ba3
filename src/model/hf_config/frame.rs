//! What all decoders share around their layers: the embedding, norms, and the output head.

use super::block::mlp::Ffn;
use super::block::names::{NormKind, Style};
use super::builder::Builder;
use super::measures::Dims;
use crate::model::{Role, Split};

impl Style {
    /// The embedding.
    pub(super) fn open(&self, b: &mut Builder, dims: &Dims) {
        b.end_layers();
        let name = format!("{}.weight", self.embed);
        b.embedding(&name, dims.vocabulary, dims.hidden, Split::Vocabulary);
    }

    /// The norms of a layer.
    pub(super) fn layer_norms(&self, b: &mut Builder, hidden: u64) {
        if self.norm_kind != NormKind::None {
            for norm in self.norms {
                b.norm(norm, hidden, self.norm_kind == NormKind::WeightAndBias);
            }
        }
    }

    /// The MLP of a layer.
    pub(super) fn ffn(&self, b: &mut Builder, hidden: u64, ffn: &Ffn) {
        match ffn {
            Ffn::None => {}
            Ffn::Dense(mlp) => mlp.build(b, &self.mlp, self.mlp.module, Role::Mlp, hidden),
            Ffn::Moe(moe) => moe.build(b, &self.moe, hidden),
        }
    }

    /// The last norm and the output head.
    pub(super) fn close(&self, b: &mut Builder, dims: &Dims) {
        b.end_layers();
        if self.norm_kind != NormKind::None && !self.norm.is_empty() {
            b.norm(self.norm, dims.hidden, self.norm_kind == NormKind::WeightAndBias);
        }
        b.shape.tied_embeddings = self.tied;
        if !self.tied {
            let shape = (dims.vocabulary, dims.hidden);
            b.linear(self.head, Role::OutputHead, shape, Split::Vocabulary, self.head_bias);
        }
    }
}
