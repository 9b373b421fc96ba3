//! The measures that every encoder's config has, under its names for them.

use crate::model::ParseError;
use crate::model::hf_config::builder::Builder;
use crate::model::hf_config::config::fields::{Fields, HEADS, LAYERS, TOKENS, VOCABULARY, WIDTH};

/// The measures of an encoder.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measures {
    pub(crate) hidden: u64,
    pub(crate) layers: u64,
    pub(crate) heads: u64,
    pub(crate) width: u64,
    pub(crate) vocabulary: u64,
}

impl Measures {
    /// Reads them, and writes what of them the shape holds.
    pub(crate) fn read(f: &Fields<'_>, b: &mut Builder) -> Result<Self, ParseError> {
        let hidden = f.need(&["hidden_size", "dim", "n_embd", "d_model"], WIDTH)?;
        let heads = f.need(&["num_attention_heads", "n_heads", "n_head"], HEADS)?;
        let widths = ["intermediate_size", "hidden_dim", "n_inner", "ffn_dim"];
        let measures = Self {
            hidden,
            layers: f.need(&["num_hidden_layers", "n_layers", "n_layer"], LAYERS)?,
            heads,
            width: f.need(&widths, WIDTH)?,
            vocabulary: f.need(&["vocab_size"], VOCABULARY)?,
        };
        b.shape.hidden_size = hidden;
        b.shape.vocabulary = measures.vocabulary;
        b.shape.intermediate_size = measures.width;
        b.shape.max_context = f
            .any(&["max_position_embeddings", "n_positions", "max_trained_positions"], TOKENS)?
            .filter(|n| *n > 0);
        // There is no output head: what a class adds is no projection onto the vocabulary of its own.
        b.shape.tied_embeddings = true;
        b.widest_attention(heads, hidden / heads.max(1));
        Ok(measures)
    }
}
