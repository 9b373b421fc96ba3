//! Encoders with a decoder that attends to them, after BART: translation, summaries, and Whisper for speech.

use crate::model::hf_config::block::attention::Gqa;
use crate::model::hf_config::builder::Builder;
use crate::model::hf_config::config::fields::{
    EXPERTS, FACTOR, Fields, HEADS, LAYERS, TOKENS, VOCABULARY, WIDTH,
};
use crate::model::{Experts, Layer, ParseError, Role, Span, Split};

/// The `model_type`s that are read here.
pub(crate) const TYPES: &[&str] = &[
    "bart",
    "mbart",
    "pegasus",
    "pegasus_x",
    "marian",
    "m2m_100",
    "nllb-moe",
    "blenderbot",
    "blenderbot-small",
    "plbart",
    "mvp",
    "led",
    "whisper",
    "speech_to_text",
];

/// What differs between the families.
#[allow(clippy::struct_excessive_bools)] // each is a tensor that is there or not
#[derive(Clone, Copy, Debug)]
struct Family {
    /// Rows of the table of positions beyond the positions; `None` where positions are computed.
    positions: Option<u64>,
    /// Whether the embedding's output is normed.
    embedding_norm: bool,
    /// Whether the last layer's output is.
    final_norm: bool,
    /// Whether the projections of attention have biases.
    bias: bool,
    /// Whether that of the keys has one.
    key_bias: bool,
}

impl Family {
    fn of(model_type: &str) -> Self {
        let bart =
            Self { positions: Some(2), embedding_norm: true, final_norm: false, bias: true, key_bias: true };
        match model_type {
            "mbart" => Self { final_norm: true, ..bart },
            "pegasus" | "blenderbot" => {
                Self { positions: Some(0), embedding_norm: false, final_norm: true, ..bart }
            }
            "pegasus_x" => Self {
                positions: None,
                embedding_norm: false,
                final_norm: true,
                bias: false,
                key_bias: false,
            },
            "marian" => Self { positions: Some(0), embedding_norm: false, ..bart },
            "blenderbot-small" | "led" => Self { positions: Some(0), ..bart },
            "m2m_100" | "nllb-moe" | "speech_to_text" => {
                Self { positions: None, embedding_norm: false, final_norm: true, ..bart }
            }
            "whisper" => Self {
                positions: Some(0),
                embedding_norm: false,
                final_norm: true,
                bias: true,
                key_bias: false,
            },
            _ => bart,
        }
    }

    /// The four projections of one attention, and its norm.
    fn attention(self, b: &mut Builder, module: &str, role: Role, hidden: u64, split: Split) {
        for (part, bias) in [("q_proj", self.bias), ("k_proj", self.key_bias), ("v_proj", self.bias)] {
            b.linear(&format!("{module}.{part}"), role, (hidden, hidden), split, bias);
        }
        let out = if split == Split::Rows { Split::Columns } else { Split::Replicated };
        b.linear(&format!("{module}.out_proj"), role, (hidden, hidden), out, self.bias);
        b.norm(&format!("{module}_layer_norm"), hidden, true);
    }
}

/// One side: its layers, and the width of their MLPs.
#[derive(Clone, Copy, Debug)]
struct Side {
    layers: u64,
    width: u64,
    /// A mixture of experts in every so many layers; 0 for none.
    sparse_step: u64,
    experts: u64,
}

impl Side {
    fn read(f: &Fields<'_>, side: &str) -> Result<Self, ParseError> {
        Ok(Self {
            layers: f.need(&[&format!("{side}_layers"), "num_hidden_layers"], LAYERS)?,
            width: f.need(&[&format!("{side}_ffn_dim")], WIDTH)?,
            sparse_step: f.or(&format!("{side}_sparse_step"), FACTOR, 0)?,
            experts: f.or("num_experts", EXPERTS, 0)?,
        })
    }

    fn mlp(&self, b: &mut Builder, layer: u64, role: Role, hidden: u64) {
        let (rows, columns) = if role == Role::Vision {
            (Split::Replicated, Split::Replicated)
        } else {
            (Split::Rows, Split::Columns)
        };
        let sparse = self.experts > 0 && self.sparse_step > 0 && (layer + 1).is_multiple_of(self.sparse_step);
        if sparse {
            b.shape.experts = Some(Experts {
                count: self.experts,
                per_token: 2.min(self.experts),
                intermediate_size: self.width,
            });
            b.linear("ffn.router.classifier", Role::Router, (self.experts, hidden), Split::Replicated, false);
            let (expert, count) = (Role::Expert, self.experts);
            b.matrices("ffn.experts.*.fc1.weight", expert, count, self.width, hidden, rows);
            b.matrices("ffn.experts.*.fc1.bias", Role::Norm, count, 1, self.width, Split::Columns);
            b.matrices("ffn.experts.*.fc2.weight", expert, count, hidden, self.width, columns);
            b.matrices("ffn.experts.*.fc2.bias", Role::Norm, count, 1, hidden, Split::Replicated);
        } else {
            b.linear("fc1", role, (self.width, hidden), rows, true);
            b.linear("fc2", role, (hidden, self.width), columns, true);
        }
        b.norm("final_layer_norm", hidden, true);
    }
}

/// The encoder and the decoder of a config after BART, with the cache of both attentions.
pub(crate) fn build(model_type: &str, f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let family = Family::of(model_type);
    let hidden = f.need(&["d_model"], WIDTH)?;
    let heads = f.need(&["decoder_attention_heads", "num_attention_heads"], HEADS)?;
    let vocabulary = f.need(&["vocab_size"], VOCABULARY)?;
    let decoder = Side::read(f, "decoder")?;
    let speech = matches!(model_type, "whisper" | "speech_to_text");
    let positions = if speech {
        f.positive_or("max_target_positions", WIDTH, 448)?
    } else {
        f.any(&["max_decoder_position_embeddings", "max_position_embeddings"], WIDTH)?.unwrap_or(1024)
    };
    b.shape.hidden_size = hidden;
    b.shape.vocabulary = vocabulary;
    b.shape.intermediate_size = decoder.width;
    b.shape.max_context = Some(positions).filter(|positions| *positions > 0);
    let dim = (hidden / heads).max(1);
    b.widest_attention(heads, dim);
    b.shape.encoder_tokens = Some(match model_type {
        "whisper" => audio_encoder(f, b, "model.encoder.")?,
        "speech_to_text" => speech_encoder(f, b)?,
        _ => text_encoder(model_type, f, b, (hidden, positions, vocabulary))?,
    });
    b.end_layers();
    if speech || !f.flag_or("share_encoder_decoder_embeddings", true)? {
        b.embedding("model.decoder.embed_tokens.weight", vocabulary, hidden, Split::Vocabulary);
    }
    if let Some(extra) = family.positions {
        let rows = positions + extra;
        b.embedding("model.decoder.embed_positions.weight", rows, hidden, Split::Replicated);
    }
    if family.embedding_norm {
        b.norm("model.decoder.layernorm_embedding", hidden, true);
    }
    let gqa = Gqa { heads, kv_heads: heads, key_dim: dim, value_dim: dim, ..Gqa::default() };
    for layer in 0..decoder.layers {
        b.begin_layer(format!("model.decoder.layers.{layer}."), layer);
        family.attention(b, "self_attn", Role::Attention, hidden, Split::Rows);
        family.attention(b, "encoder_attn", Role::Attention, hidden, Split::Rows);
        decoder.mlp(b, layer, Role::Mlp, hidden);
        b.keep(Layer { attention: Some(gqa.kept(Span::Full)), state: None });
    }
    b.end_layers();
    if family.final_norm {
        b.norm("model.decoder.layer_norm", hidden, true);
    }
    b.shape.tied_embeddings = f.flag_or("tie_word_embeddings", true)?;
    if !b.shape.tied_embeddings {
        b.linear("lm_head", Role::OutputHead, (vocabulary, hidden), Split::Vocabulary, false);
    }
    Ok(())
}

/// The encoder of text, whose embedding the decoder shares; yields the tokens that it reads.
fn text_encoder(
    model_type: &str,
    f: &Fields<'_>,
    b: &mut Builder,
    (hidden, positions, vocabulary): (u64, u64, u64),
) -> Result<u64, ParseError> {
    let family = Family::of(model_type);
    let encoder = Side::read(f, "encoder")?;
    let tokens = f.any(&["max_encoder_position_embeddings"], TOKENS)?.unwrap_or(positions).max(1);
    b.end_layers();
    let shared = f.flag_or("share_encoder_decoder_embeddings", true)?;
    let name = if shared { "model.shared.weight" } else { "model.encoder.embed_tokens.weight" };
    b.embedding(name, vocabulary, hidden, Split::Vocabulary);
    if let Some(extra) = family.positions {
        b.embedding("model.encoder.embed_positions.weight", tokens + extra, hidden, Split::Replicated);
    }
    if model_type == "pegasus_x" {
        let global = f.positive_or("num_global_tokens", WIDTH, 32)?;
        b.embedding("model.encoder.embed_global.weight", global, hidden, Split::Replicated);
    }
    if family.embedding_norm {
        b.norm("model.encoder.layernorm_embedding", hidden, true);
    }
    for layer in 0..encoder.layers {
        b.begin_block(format!("model.encoder.layers.{layer}."));
        family.attention(b, "self_attn", Role::Attention, hidden, Split::Rows);
        if model_type == "led" {
            // Some tokens attend to all of a long document, through matrices of their own.
            for part in ["query_global", "key_global", "value_global"] {
                let name = format!("self_attn.longformer_self_attn.{part}");
                b.linear(&name, Role::Attention, (hidden, hidden), Split::Rows, true);
            }
        }
        if model_type == "pegasus_x" {
            b.norm("global_self_attn_layer_norm", hidden, true);
        }
        encoder.mlp(b, layer, Role::Mlp, hidden);
    }
    b.end_layers();
    if family.final_norm {
        b.norm("model.encoder.layer_norm", hidden, true);
    }
    b.note(format!("The encoder is taken to read {tokens} tokens per sequence."));
    Ok(tokens)
}

/// An audio encoder as Whisper has it; also the tower of Qwen2-Audio, Voxtral and Ultravox.
pub(crate) fn audio_encoder(f: &Fields<'_>, b: &mut Builder, prefix: &str) -> Result<u64, ParseError> {
    audio_tower(f, b, prefix, true)
}

/// The same; whether its positions are a table in the checkpoint.
pub(crate) fn audio_tower(
    f: &Fields<'_>,
    b: &mut Builder,
    prefix: &str,
    table: bool,
) -> Result<u64, ParseError> {
    let hidden = f.need(&["d_model", "hidden_size"], WIDTH)?;
    let layers = f.need(&["encoder_layers", "num_hidden_layers"], LAYERS)?;
    let width = f.need(&["encoder_ffn_dim", "intermediate_size"], WIDTH)?;
    let mel = f.positive_or("num_mel_bins", FACTOR, 80)?;
    let tokens = f.positive_or("max_source_positions", WIDTH, 1500)?;
    let vision = Role::Vision;
    b.begin_block(prefix);
    b.linear("conv1", vision, (hidden, 3 * mel), Split::Replicated, true);
    b.linear("conv2", vision, (hidden, 3 * hidden), Split::Replicated, true);
    if table {
        b.embedding("embed_positions.weight", tokens, hidden, Split::Replicated);
    }
    b.norm("layer_norm", hidden, true);
    let side = Side { layers, width, sparse_step: 0, experts: 0 };
    for layer in 0..layers {
        b.begin_block(format!("{prefix}layers.{layer}."));
        Family::of("whisper").attention(b, "self_attn", vision, hidden, Split::Replicated);
        side.mlp(b, layer, vision, hidden);
    }
    b.end_layers();
    b.shape.multimodal = true;
    Ok(tokens)
}

/// Speech to Text: two convolutions that halve the frames, then a text encoder's layers.
fn speech_encoder(f: &Fields<'_>, b: &mut Builder) -> Result<u64, ParseError> {
    let hidden = f.need(&["d_model"], WIDTH)?;
    let encoder = Side::read(f, "encoder")?;
    let channels = f.positive_or("conv_channels", WIDTH, 1024)?;
    let features =
        f.positive_or("input_feat_per_channel", WIDTH, 80)? * f.positive_or("input_channels", FACTOR, 1)?;
    let kernels = f.numbers("conv_kernel_sizes", FACTOR)?.unwrap_or_else(|| vec![5, 5]);
    let frames = f.positive_or("max_source_positions", TOKENS, 6000)?;
    let count = kernels.len().min(16);
    let vision = Role::Vision;
    let mut into = features;
    for (index, taps) in kernels.iter().take(count).enumerate() {
        let out = if index + 1 < count { channels } else { 2 * hidden };
        b.begin_block("model.encoder.");
        b.linear(&format!("conv.conv_layers.{index}"), vision, (out, into * taps), Split::Replicated, true);
        // A gate halves the channels.
        into = out / 2;
    }
    for layer in 0..encoder.layers {
        b.begin_block(format!("model.encoder.layers.{layer}."));
        Family::of("speech_to_text").attention(b, "self_attn", vision, hidden, Split::Replicated);
        encoder.mlp(b, layer, vision, hidden);
    }
    b.end_layers();
    b.norm("model.encoder.layer_norm", hidden, true);
    b.shape.multimodal = true;
    Ok(frames >> count.min(16))
}
