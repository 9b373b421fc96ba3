//! Encoders, which keep no cache, and Whisper, whose decoder attends to an encoder.

use super::blocks::Gqa;
use super::builder::Builder;
use super::fields::{FACTOR, Fields, HEADS, LAYERS, TOKENS, VOCABULARY, WIDTH};
use crate::model::{Layer, ParseError, Role, Span, Split};

/// The `model_type`s that are read here.
pub(super) const TYPES: &[&str] = &["bert", "roberta", "xlm-roberta", "camembert", "modernbert", "whisper"];

/// Reads one.
pub(super) fn build(model_type: &str, f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    match model_type {
        "whisper" => whisper(f, b),
        "modernbert" => modernbert(f, b),
        _ => bert(f, b),
    }
}

/// BERT and RoBERTa.
fn bert(f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let hidden = f.need(&["hidden_size"], WIDTH)?;
    let layers = f.need(&["num_hidden_layers"], LAYERS)?;
    let heads = f.need(&["num_attention_heads"], HEADS)?;
    let width = f.need(&["intermediate_size"], WIDTH)?;
    let vocabulary = f.need(&["vocab_size"], VOCABULARY)?;
    let positions = f.need(&["max_position_embeddings"], WIDTH)?;
    head(b, hidden, heads, vocabulary, width, Some(positions));
    b.end_layers();
    b.embedding("embeddings.word_embeddings.weight", vocabulary, hidden, Split::Vocabulary);
    b.embedding("embeddings.position_embeddings.weight", positions, hidden, Split::Replicated);
    let types = f.positive_or("type_vocab_size", FACTOR, 2)?;
    b.embedding("embeddings.token_type_embeddings.weight", types, hidden, Split::Replicated);
    b.norm("embeddings.LayerNorm", hidden, true);
    for layer in 0..layers {
        b.begin_layer(format!("encoder.layer.{layer}."), layer);
        for part in ["query", "key", "value"] {
            let name = format!("attention.self.{part}");
            b.linear(&name, Role::Attention, (hidden, hidden), Split::Rows, true);
        }
        b.linear("attention.output.dense", Role::Attention, (hidden, hidden), Split::Columns, true);
        b.norm("attention.output.LayerNorm", hidden, true);
        b.linear("intermediate.dense", Role::Mlp, (width, hidden), Split::Rows, true);
        b.linear("output.dense", Role::Mlp, (hidden, width), Split::Columns, true);
        b.norm("output.LayerNorm", hidden, true);
    }
    b.end_layers();
    b.linear("pooler.dense", Role::Mlp, (hidden, hidden), Split::Replicated, true);
    Ok(())
}

/// ModernBERT: gated MLPs and rotary positions.
fn modernbert(f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let hidden = f.need(&["hidden_size"], WIDTH)?;
    let layers = f.need(&["num_hidden_layers"], LAYERS)?;
    let heads = f.need(&["num_attention_heads"], HEADS)?;
    let width = f.need(&["intermediate_size"], WIDTH)?;
    let vocabulary = f.need(&["vocab_size"], VOCABULARY)?;
    head(b, hidden, heads, vocabulary, width, f.number("max_position_embeddings", TOKENS)?);
    b.end_layers();
    b.embedding("model.embeddings.tok_embeddings.weight", vocabulary, hidden, Split::Vocabulary);
    b.norm("model.embeddings.norm", hidden, false);
    for layer in 0..layers {
        b.begin_layer(format!("model.layers.{layer}."), layer);
        if layer > 0 {
            b.norm("attn_norm", hidden, false);
        }
        b.linear("attn.Wqkv", Role::Attention, (3 * hidden, hidden), Split::Rows, false);
        b.linear("attn.Wo", Role::Attention, (hidden, hidden), Split::Columns, false);
        b.norm("mlp_norm", hidden, false);
        b.linear("mlp.Wi", Role::Mlp, (2 * width, hidden), Split::Rows, false);
        b.linear("mlp.Wo", Role::Mlp, (hidden, width), Split::Columns, false);
    }
    b.end_layers();
    b.norm("model.final_norm", hidden, false);
    Ok(())
}

/// The measures of an encoder; it has no output head.
fn head(b: &mut Builder, hidden: u64, heads: u64, vocabulary: u64, width: u64, positions: Option<u64>) {
    b.shape.hidden_size = hidden;
    b.shape.vocabulary = vocabulary;
    b.shape.intermediate_size = width;
    b.shape.max_context = positions;
    b.shape.tied_embeddings = true;
    b.widest_attention(heads, hidden / heads.max(1));
}

/// One block of Whisper's encoder or decoder: only the key projections have no bias.
fn whisper_attention(b: &mut Builder, module: &str, role: Role, hidden: u64, split: Split) {
    for (part, bias) in [("q_proj", true), ("k_proj", false), ("v_proj", true)] {
        b.linear(&format!("{module}.{part}"), role, (hidden, hidden), split, bias);
    }
    let out = if split == Split::Rows { Split::Columns } else { Split::Replicated };
    b.linear(&format!("{module}.out_proj"), role, (hidden, hidden), out, true);
    b.norm(&format!("{module}_layer_norm"), hidden, true);
}

/// An audio encoder as Whisper has it; also the tower of Qwen2-Audio.
pub(super) fn audio_encoder(f: &Fields<'_>, b: &mut Builder, prefix: &str) -> Result<u64, ParseError> {
    let hidden = f.need(&["d_model"], WIDTH)?;
    let layers = f.need(&["encoder_layers"], LAYERS)?;
    let width = f.need(&["encoder_ffn_dim"], WIDTH)?;
    let mel = f.positive_or("num_mel_bins", FACTOR, 80)?;
    let tokens = f.positive_or("max_source_positions", WIDTH, 1500)?;
    let vision = Role::Vision;
    b.begin_block(prefix);
    b.linear("conv1", vision, (hidden, 3 * mel), Split::Replicated, true);
    b.linear("conv2", vision, (hidden, 3 * hidden), Split::Replicated, true);
    b.embedding("embed_positions.weight", tokens, hidden, Split::Replicated);
    b.norm("layer_norm", hidden, true);
    for layer in 0..layers {
        b.begin_block(format!("{prefix}layers.{layer}."));
        whisper_attention(b, "self_attn", vision, hidden, Split::Replicated);
        b.linear("fc1", vision, (width, hidden), Split::Replicated, true);
        b.linear("fc2", vision, (hidden, width), Split::Replicated, true);
        b.norm("final_layer_norm", hidden, true);
    }
    b.end_layers();
    b.shape.multimodal = true;
    Ok(tokens)
}

/// Whisper.
fn whisper(f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let hidden = f.need(&["d_model"], WIDTH)?;
    let layers = f.need(&["decoder_layers"], LAYERS)?;
    let heads = f.need(&["decoder_attention_heads"], HEADS)?;
    let width = f.need(&["decoder_ffn_dim"], WIDTH)?;
    let vocabulary = f.need(&["vocab_size"], VOCABULARY)?;
    let positions = f.positive_or("max_target_positions", WIDTH, 448)?;
    let tokens = audio_encoder(f, b, "model.encoder.")?;
    head(b, hidden, heads, vocabulary, width, Some(positions));
    b.shape.encoder_tokens = Some(tokens);
    b.embedding("model.decoder.embed_tokens.weight", vocabulary, hidden, Split::Vocabulary);
    b.embedding("model.decoder.embed_positions.weight", positions, hidden, Split::Replicated);
    let dim = hidden / heads.max(1);
    let gqa = Gqa { heads, kv_heads: heads, key_dim: dim, value_dim: dim, ..Gqa::default() };
    for layer in 0..layers {
        b.begin_layer(format!("model.decoder.layers.{layer}."), layer);
        whisper_attention(b, "self_attn", Role::Attention, hidden, Split::Rows);
        whisper_attention(b, "encoder_attn", Role::Attention, hidden, Split::Rows);
        b.linear("fc1", Role::Mlp, (width, hidden), Split::Rows, true);
        b.linear("fc2", Role::Mlp, (hidden, width), Split::Columns, true);
        b.norm("final_layer_norm", hidden, true);
        b.keep(Layer { attention: Some(gqa.kept(Span::Full)), state: None });
    }
    b.end_layers();
    b.norm("model.decoder.layer_norm", hidden, true);
    Ok(())
}
