//! The frame that decoder-only transformers share: embeddings, layers of attention and MLP, output head.

use super::blocks::{AttentionNames, Gqa, Mlp, MlpNames, Moe, MoeNames};
use super::builder::Builder;
use super::fields::{Fields, HEADS, LAYERS, TOKENS, VOCABULARY, WIDTH};
use crate::model::{Layer, ParseError, Role, Span, Split};

/// The measures that every decoder has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dims {
    /// Width of the residual stream.
    pub(super) hidden: u64,
    /// Decoder layers.
    pub(super) layers: u64,
    /// Query heads.
    pub(super) heads: u64,
    /// Key-value heads.
    pub(super) kv_heads: u64,
    /// Width of a head.
    pub(super) head_dim: u64,
    /// Rows of the embedding.
    pub(super) vocabulary: u64,
}

/// The spellings of the layer count.
const LAYER_KEYS: [&str; 4] = ["num_hidden_layers", "num_layers", "n_layer", "n_layers"];
/// The spellings of the number of query heads.
const HEAD_KEYS: [&str; 5] = ["num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads"];
/// The spellings of the residual width.
pub(super) const HIDDEN_KEYS: [&str; 3] = ["hidden_size", "n_embd", "d_model"];
/// The spellings of the vocabulary.
const VOCABULARY_KEYS: [&str; 3] = ["padded_vocab_size", "vocab_size", "embedding_size"];
/// The spellings of the width of a dense MLP.
pub(super) const INTERMEDIATE_KEYS: [&str; 6] =
    ["intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim", "ff_intermediate_size", "mlp_hidden_size"];

impl Dims {
    /// Reads them, and writes what of them the shape holds.
    pub(super) fn read(f: &Fields<'_>, b: &mut Builder) -> Result<Self, ParseError> {
        let layers = f.need(&LAYER_KEYS, LAYERS)?;
        Self::read_with_layers(f, b, layers)
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

/// Which tokens each layer keeps, from `layer_types`; `None` where the config has no such list.
pub(super) fn spans_by_type(f: &Fields<'_>, layers: u64) -> Result<Option<Vec<Span>>, ParseError> {
    let Some(types) = f.texts("layer_types")? else { return Ok(None) };
    let short = |have: usize| {
        f.error("layer_types", format!("has {have} entries for {layers} layers; write one per layer"))
    };
    let wanted = usize::try_from(layers).map_err(|_| short(types.len()))?;
    if types.len() < wanted {
        return Err(short(types.len()));
    }
    let window = f.number("sliding_window", TOKENS)?.filter(|tokens| *tokens > 0);
    let chunk = f.number("attention_chunk_size", TOKENS)?.filter(|tokens| *tokens > 0);
    let read = |kind: &&str| match (*kind, window, chunk) {
        ("sliding_attention", Some(window), _) => Ok(Span::Sliding(window)),
        ("chunked_attention", _, Some(chunk)) => Ok(Span::Chunked(chunk)),
        ("full_attention" | "attention" | "sliding_attention" | "chunked_attention", _, _) => Ok(Span::Full),
        (other, _, _) => Err(f.error(
            "layer_types",
            format!(
                "has the entry \"{}\"; known are full_attention, sliding_attention and chunked_attention",
                crate::units::shorten(other)
            ),
        )),
    };
    types.iter().take(wanted).map(read).collect::<Result<_, _>>().map(Some)
}

/// How the norms of a model are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NormKind {
    /// No weights (OLMo 1).
    None,
    /// A weight.
    Weight,
    /// A weight and a bias.
    WeightAndBias,
}

/// What the tensors of a family are called, and which of them it has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    /// The token embedding.
    pub(super) embed: &'static str,
    /// What the layers' numbers follow, such as `model.layers`.
    pub(super) layers: &'static str,
    /// The last norm; empty for none.
    pub(super) norm: &'static str,
    /// The output head.
    pub(super) head: &'static str,
    /// The norms of a layer.
    pub(super) norms: &'static [&'static str],
    /// How they are made.
    pub(super) norm_kind: NormKind,
    /// Attention.
    pub(super) attention: AttentionNames,
    /// Dense MLPs.
    pub(super) mlp: MlpNames,
    /// Mixtures of experts.
    pub(super) moe: MoeNames,
    /// Whether the output head is the embedding.
    pub(super) tied: bool,
    /// Whether the output head has a bias.
    pub(super) head_bias: bool,
}

/// The MLP of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ffn {
    /// None (a no-op layer of a searched architecture).
    None,
    /// A dense one.
    Dense(Mlp),
    /// A mixture of experts.
    Moe(Moe),
}

/// What one layer is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// Attention, and which tokens it keeps.
    pub(super) attention: Option<(Gqa, Span)>,
    /// The MLP.
    pub(super) ffn: Ffn,
}

impl Style {
    /// The embedding.
    pub(super) fn open(&self, b: &mut Builder, dims: &Dims) {
        b.end_layers();
        let name = format!("{}.weight", self.embed);
        b.embedding(&name, dims.vocabulary, dims.hidden, Split::Vocabulary);
    }

    /// The tensors of one layer, and what it keeps.
    pub(super) fn block(&self, b: &mut Builder, dims: &Dims, block: &Block) {
        self.layer_norms(b, dims.hidden);
        let mut layer = Layer::default();
        if let Some((attention, span)) = &block.attention {
            attention.build(b, &self.attention, dims.hidden);
            layer.attention = Some(attention.kept(*span));
        }
        self.ffn(b, dims.hidden, &block.ffn);
        b.keep(layer);
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
