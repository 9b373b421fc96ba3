//! The measures that every decoder's config has, under its names for them.

use super::builder::Builder;
use crate::model::ParseError;
use crate::model::hf_config::config::fields::{Fields, HEADS, LAYERS, TOKENS, VOCABULARY, WIDTH};

/// The measures that every decoder has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dims {
    /// Width of the residual stream.
    pub(crate) hidden: u64,
    /// Decoder layers.
    pub(crate) layers: u64,
    /// Query heads.
    pub(crate) heads: u64,
    /// Key-value heads.
    pub(crate) kv_heads: u64,
    /// Width of a head.
    pub(crate) head_dim: u64,
    /// Rows of the embedding.
    pub(crate) vocabulary: u64,
}

/// The spellings of the layer count.
const LAYER_KEYS: [&str; 4] = ["num_hidden_layers", "num_layers", "n_layer", "n_layers"];
/// The spellings of the number of query heads.
const HEAD_KEYS: [&str; 5] = ["num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads"];
/// The spellings of the residual width.
const HIDDEN_KEYS: [&str; 3] = ["hidden_size", "n_embd", "d_model"];
/// The spellings of the vocabulary.
const VOCABULARY_KEYS: [&str; 3] = ["padded_vocab_size", "vocab_size", "embedding_size"];
impl Dims {
    /// Reads them, and writes what of them the shape holds.
    pub(super) fn read(f: &Fields<'_>, b: &mut Builder) -> Result<Self, ParseError> {
        let layers = f.need(&LAYER_KEYS, LAYERS)?;
        Self::read_with_layers(f, b, layers)
    }

    /// Those of a model without attention.
    pub(super) fn without_heads(f: &Fields<'_>, b: &mut Builder) -> Result<Self, ParseError> {
        let hidden = f.need(&HIDDEN_KEYS, WIDTH)?;
        let layers = f.need(&LAYER_KEYS, LAYERS)?;
        let vocabulary = f.need(&["vocab_size"], VOCABULARY)?;
        b.shape.hidden_size = hidden;
        b.shape.vocabulary = vocabulary;
        Ok(Self { hidden, layers, heads: 0, kv_heads: 0, head_dim: 0, vocabulary })
    }

    /// The same, where the number of layers is known otherwise.
    pub(super) fn read_with_layers(f: &Fields<'_>, b: &mut Builder, layers: u64) -> Result<Self, ParseError> {
        let hidden = f.need(&HIDDEN_KEYS, WIDTH)?;
        let heads = f.need(&HEAD_KEYS, HEADS)?;
        let kv_keys = ["num_key_value_heads", "num_kv_heads", "n_head_kv", "n_kv_heads"];
        let kv_heads = match kv_keys.iter().find(|key| f.has(key)) {
            Some(key) => f.need(&[key], HEADS)?,
            None => heads,
        };
        check_groups(f, kv_keys.iter().find(|key| f.has(key)).unwrap_or(&kv_keys[0]), heads, kv_heads)?;
        let head_dim = head_dim(f, hidden, heads)?;
        let vocabulary = f.need(&VOCABULARY_KEYS, VOCABULARY)?;
        b.shape.hidden_size = hidden;
        b.shape.vocabulary = vocabulary;
        b.shape.max_context = max_context(f)?;
        Ok(Self { hidden, layers, heads, kv_heads, head_dim, vocabulary })
    }
}

/// Refuses key-value heads that do not divide the query heads.
pub(super) fn check_groups(f: &Fields<'_>, key: &str, heads: u64, kv_heads: u64) -> Result<(), ParseError> {
    if kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
        return Err(f.error(
            key,
            format!(
                "is {kv_heads}, which does not divide the {heads} attention heads; write a divisor of {heads}"
            ),
        ));
    }
    Ok(())
}

/// Width of a head: as written, else an even share of the residual stream.
fn head_dim(f: &Fields<'_>, hidden: u64, heads: u64) -> Result<u64, ParseError> {
    let keys = ["head_dim", "kv_channels", "attention_head_dim"];
    if keys.iter().any(|key| f.has(key)) {
        return f.need(&keys, WIDTH);
    }
    if hidden < heads {
        let problem =
            format!("is missing, and {hidden} hidden features are no {heads} heads; write head_dim");
        return Err(f.error("head_dim", problem));
    }
    Ok(hidden / heads)
}

/// The longest context: as written, times the factor of a RoPE scaling that is not counted in it. Gemma 3 counts it (128K are
/// its 16K eightfold), though its kind of scaling is one that is not counted elsewhere.
pub(super) fn max_context(f: &Fields<'_>) -> Result<Option<u64>, ParseError> {
    let keys = [
        "max_position_embeddings",
        "n_positions",
        "max_sequence_length",
        "max_seq_len",
        "model_max_length",
        "seq_length",
        "n_ctx",
    ];
    let Some(written) = f.any(&keys, TOKENS)?.filter(|tokens| *tokens > 0) else { return Ok(None) };
    let kind = f.text("model_type").unwrap_or_default().unwrap_or_default();
    if kind.starts_with("gemma3") || f.has("rope_local_base_freq") {
        return Ok(Some(written));
    }
    let Some(scaling) = f.object("rope_scaling").unwrap_or_default() else { return Ok(Some(written)) };
    let kind = scaling.text("rope_type").unwrap_or_default().or(scaling.text("type").unwrap_or_default());
    // A fractional factor, or one that is no number, scales nothing here: it does not change memory per token.
    let factor = scaling.number("factor", TOKENS).unwrap_or_default().unwrap_or(1).max(1);
    let original = scaling.number("original_max_position_embeddings", TOKENS).unwrap_or_default();
    Ok(Some(match (kind, original) {
        (Some("yarn"), Some(original)) => written.max(original.saturating_mul(factor)),
        (Some("linear" | "dynamic"), _) => written.saturating_mul(factor),
        _ => written,
    }))
}
