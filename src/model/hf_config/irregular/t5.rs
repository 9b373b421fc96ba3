//! T5 and its descendants: relative positions, keys and values of a width of their own.

use crate::model::hf_config::block::attention::Gqa;
use crate::model::hf_config::builder::Builder;
use crate::model::hf_config::config::fields::{
    EXPERTS, FACTOR, Fields, HEADS, LAYERS, TOKENS, VOCABULARY, WIDTH,
};
use crate::model::{Experts, Layer, ParseError, Role, Span, Split};

/// The `model_type`s that are read here.
pub(crate) const TYPES: &[&str] = &["t5", "mt5", "umt5", "longt5", "switch_transformers"];

/// Tokens that T5 was trained on, where the config does not say.
const TRAINED: u64 = 512;

/// The measures.
#[derive(Clone, Copy, Debug)]
struct Measures {
    hidden: u64,
    heads: u64,
    dim: u64,
    width: u64,
    gated: bool,
    buckets: u64,
    /// Whether every layer has its table of relative positions, and not the first alone.
    every: bool,
    experts: u64,
    /// Whether the encoder also attends to summaries of blocks.
    summaries: bool,
}

impl Measures {
    fn read(model_type: &str, f: &Fields<'_>) -> Result<Self, ParseError> {
        let default = if matches!(model_type, "mt5" | "umt5") { "gated-gelu" } else { "relu" };
        let projection =
            f.text("feed_forward_proj")?.or(f.text("dense_act_fn").unwrap_or_default()).unwrap_or(default);
        let gated = f.flag("is_gated_act")?.unwrap_or(projection.starts_with("gated"));
        Ok(Self {
            hidden: f.need(&["d_model"], WIDTH)?,
            heads: f.need(&["num_heads"], HEADS)?,
            dim: f.need(&["d_kv"], WIDTH)?,
            width: f.need(&["d_ff"], WIDTH)?,
            gated,
            buckets: f.positive_or("relative_attention_num_buckets", FACTOR, 32)?,
            every: model_type == "umt5",
            experts: if model_type == "switch_transformers" {
                f.positive_or("num_experts", EXPERTS, 8)?
            } else {
                0
            },
            summaries: f.text("encoder_attention_type")? == Some("transient-global"),
        })
    }

    fn attention(&self, b: &mut Builder, module: &str, table: bool) {
        let inner = self.heads * self.dim;
        for part in ["q", "k", "v"] {
            b.linear(&format!("{module}.{part}"), Role::Attention, (inner, self.hidden), Split::Rows, false);
        }
        b.linear(&format!("{module}.o"), Role::Attention, (self.hidden, inner), Split::Columns, false);
        if table {
            let name = format!("{module}.relative_attention_bias.weight");
            b.embedding(&name, self.buckets, self.heads, Split::Replicated);
        }
        b.norm(&format!("{module}.layer_norm"), self.hidden, false);
    }

    fn mlp(&self, b: &mut Builder, sparse: bool) {
        b.norm("mlp.layer_norm", self.hidden, false);
        let (hidden, width) = (self.hidden, self.width);
        if sparse {
            b.shape.experts = Some(Experts { count: self.experts, per_token: 1, intermediate_size: width });
            b.linear("mlp.router.classifier", Role::Router, (self.experts, hidden), Split::Replicated, false);
            b.matrices("mlp.experts.*.wi.weight", Role::Expert, self.experts, width, hidden, Split::Rows);
            b.matrices("mlp.experts.*.wo.weight", Role::Expert, self.experts, hidden, width, Split::Columns);
            return;
        }
        if self.gated {
            b.linear("DenseReluDense.wi_0", Role::Mlp, (width, hidden), Split::Rows, false);
            b.linear("DenseReluDense.wi_1", Role::Mlp, (width, hidden), Split::Rows, false);
        } else {
            b.linear("DenseReluDense.wi", Role::Mlp, (width, hidden), Split::Rows, false);
        }
        b.linear("DenseReluDense.wo", Role::Mlp, (hidden, width), Split::Columns, false);
    }
}

/// The encoder and the decoder of a T5 config.
pub(crate) fn build(model_type: &str, f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let measures = Measures::read(model_type, f)?;
    let Measures { hidden, heads, dim, .. } = measures;
    let vocabulary = f.need(&["vocab_size"], VOCABULARY)?;
    let layers = f.need(&["num_layers"], LAYERS)?;
    // As many as the encoder has, where the config does not say.
    let decoder_layers = f.positive_or("num_decoder_layers", LAYERS, layers)?;
    let classes = f.texts("architectures")?.unwrap_or_default();
    let encoder_only = classes.iter().any(|class| class.contains("EncoderModel"));
    // Experts stand in every so many layers.
    let step = |sparse: u64, layers: u64| layers.checked_div(sparse).map_or(0, |step| step.max(1));
    let encoder_step = step(f.or("num_sparse_encoder_layers", LAYERS, 3)?, layers);
    let decoder_step = step(f.or("num_sparse_decoder_layers", LAYERS, 3)?, decoder_layers);
    let sparse = |layer: u64, step: u64| measures.experts > 0 && step > 0 && (step == 1 || layer % step == 1);
    let tokens = f.any(&["n_positions"], TOKENS)?.filter(|tokens| *tokens > 0);
    b.shape.hidden_size = hidden;
    b.shape.vocabulary = vocabulary;
    b.shape.intermediate_size = measures.width;
    b.shape.max_context = Some(tokens.unwrap_or(TRAINED));
    b.widest_attention(heads, dim);
    b.end_layers();
    b.embedding("shared.weight", vocabulary, hidden, Split::Vocabulary);
    for layer in 0..layers {
        let prefix = format!("encoder.block.{layer}.");
        if encoder_only {
            b.begin_layer(prefix, layer);
        } else {
            b.begin_block(prefix);
        }
        measures.attention(b, "SelfAttention", layer == 0 || measures.every);
        if measures.summaries {
            if layer == 0 {
                let name = "global_relative_attention_bias.weight";
                b.embedding(name, measures.buckets, heads, Split::Replicated);
            }
            b.norm("global_input_layer_norm", hidden, false);
        }
        measures.mlp(b, sparse(layer, encoder_step));
    }
    b.end_layers();
    b.norm("encoder.final_layer_norm", hidden, false);
    if encoder_only {
        b.shape.tied_embeddings = true;
        return Ok(());
    }
    let read = tokens.unwrap_or(TRAINED);
    b.shape.encoder_tokens = Some(read);
    b.note(format!("The encoder is taken to read {read} tokens per sequence."));
    let gqa = Gqa { heads, kv_heads: heads, key_dim: dim, value_dim: dim, ..Gqa::default() };
    for layer in 0..decoder_layers {
        b.begin_layer(format!("decoder.block.{layer}."), layer);
        measures.attention(b, "SelfAttention", layer == 0 || measures.every);
        measures.attention(b, "EncDecAttention", false);
        measures.mlp(b, sparse(layer, decoder_step));
        b.keep(Layer { attention: Some(gqa.kept(Span::Full)), state: None });
    }
    b.end_layers();
    b.norm("decoder.final_layer_norm", hidden, false);
    b.shape.tied_embeddings = f.flag_or("tie_word_embeddings", true)?;
    if !b.shape.tied_embeddings {
        b.linear("lm_head", Role::OutputHead, (vocabulary, hidden), Split::Vocabulary, false);
    }
    Ok(())
}
