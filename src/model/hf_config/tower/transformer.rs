//! Vision towers: patches, blocks of attention and MLP, and what leads from them to the text model.

use crate::model::hf_config::builder::Builder;
use crate::model::hf_config::config::fields::{FACTOR, Fields, HEADS, LAYERS, WIDTH};
use crate::model::{ParseError, Role, Split};

/// The largest number of positions a tower learns.
const POSITIONS: u64 = 1 << 20;

/// A vision transformer.
#[allow(clippy::struct_excessive_bools)] // each is a tensor that is there or not
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tower {
    /// Width of its stream.
    pub(crate) hidden: u64,
    /// Width of the MLPs.
    pub(crate) width: u64,
    /// Blocks.
    pub(crate) layers: u64,
    /// Width of queries, keys and values, where it is not that of the stream; 0 where it is.
    pub(crate) attention: u64,
    /// Width of keys and of values, where it is not that of the queries; 0 where it is.
    pub(crate) kv: u64,
    /// Elements of a patch: channels x frames x height x width.
    pub(crate) patch: u64,
    /// Learned positions.
    pub(crate) positions: u64,
    /// Whether the patch embedding has a bias.
    pub(crate) patch_bias: bool,
    /// Whether there is a class embedding.
    pub(crate) class: bool,
    /// Whether query, key and value projections have biases.
    pub(crate) qkv_bias: bool,
    /// Whether the output projection has one.
    pub(crate) out_bias: bool,
    /// Whether the MLPs' hidden layers are multiplied by a gate.
    pub(crate) gated: bool,
    /// Whether the MLPs have biases.
    pub(crate) mlp_bias: bool,
    /// Whether norms have biases.
    pub(crate) norm_bias: bool,
    /// Norms or scales of the stream's width per block.
    pub(crate) norms: u64,
    /// The same outside the blocks.
    pub(crate) outer_norms: u64,
    /// Elements of the norms of queries and of keys; 0 for none.
    pub(crate) qk_norm: u64,
}

impl Tower {
    /// The usual form: layer norms and biases everywhere.
    pub(crate) fn usual(f: &Fields<'_>) -> Result<Self, ParseError> {
        let hidden = f.need(&["hidden_size", "embed_dim", "vt_hidden_size"], WIDTH)?;
        let width = match f.any(&["intermediate_size", "vt_intermediate_size"], WIDTH)? {
            Some(width) => width,
            None => hidden * f.positive_or("mlp_ratio", FACTOR, 4)?,
        };
        let side = match side(f, "patch_size")? {
            0 => f.positive_or("spatial_patch_size", FACTOR, 14)?,
            side => side,
        };
        let side = side.min(1024);
        let frames = f.positive_or("temporal_patch_size", FACTOR, 1)?.min(64);
        let channels = f.any(&["num_channels", "in_channels", "in_chans"], FACTOR)?.unwrap_or(3).min(64);
        let grid = self::side(f, "image_size")? / side.max(1);
        Ok(Self {
            hidden,
            width,
            layers: f.need(&["num_hidden_layers", "depth", "vt_num_hidden_layers"], LAYERS)?,
            patch: channels * frames * side * side,
            positions: (grid * grid).min(POSITIONS),
            patch_bias: true,
            qkv_bias: true,
            out_bias: true,
            mlp_bias: true,
            norm_bias: true,
            norms: 2,
            ..Self::default()
        })
    }

    /// The same without biases anywhere.
    pub(crate) const fn without_biases(self) -> Self {
        Self {
            patch_bias: false,
            qkv_bias: false,
            out_bias: false,
            mlp_bias: false,
            norm_bias: false,
            ..self
        }
    }

    /// CLIP ViT-L/14 at 336 pixels, which Phi-3-vision and LLaVA name instead of describing.
    pub(crate) const fn clip_large() -> Self {
        Self {
            hidden: 1024,
            width: 4096,
            layers: 24,
            attention: 0,
            kv: 0,
            patch: 3 * 14 * 14,
            positions: 577,
            patch_bias: false,
            class: true,
            qkv_bias: true,
            out_bias: true,
            gated: false,
            mlp_bias: true,
            norm_bias: true,
            norms: 2,
            outer_norms: 2,
            qk_norm: 0,
        }
    }

    /// Adds the tensors.
    pub(crate) fn build(&self, b: &mut Builder, module: &str) {
        b.shape.multimodal = true;
        let (hidden, width, vision) = (self.hidden, self.width, Role::Vision);
        let attention = if self.attention == 0 { hidden } else { self.attention };
        let whole = Split::Replicated;
        b.begin_block(format!("{module}."));
        b.linear("patch_embed.proj", vision, (hidden, self.patch), whole, self.patch_bias);
        b.matrices("pos_embed", vision, 1, self.positions, hidden, whole);
        if self.class {
            b.matrices("class_embedding", vision, 1, 1, hidden, whole);
        }
        for norm in 0..self.outer_norms.min(8) {
            b.norm(&format!("norm.{norm}"), hidden, self.norm_bias);
        }
        for layer in 0..self.layers {
            b.begin_block(format!("{module}.blocks.{layer}."));
            for norm in 0..self.norms.min(8) {
                b.norm(&format!("norm{}", norm + 1), hidden, self.norm_bias);
            }
            let kv = if self.kv == 0 { attention } else { self.kv };
            b.linear("attn.qkv", vision, (attention + 2 * kv, hidden), whole, self.qkv_bias);
            b.linear("attn.proj", vision, (hidden, attention), whole, self.out_bias);
            b.norm("attn.q_norm", self.qk_norm, false);
            b.norm("attn.k_norm", self.qk_norm, false);
            if self.gated {
                b.linear("mlp.gate_proj", vision, (width, hidden), whole, self.mlp_bias);
            }
            b.linear("mlp.fc1", vision, (width, hidden), whole, self.mlp_bias);
            b.linear("mlp.fc2", vision, (hidden, width), whole, self.mlp_bias);
        }
        b.end_layers();
    }
}

/// The side of a square: a number, or a list of height and width; 0 where it is absent.
fn side(f: &Fields<'_>, key: &str) -> Result<u64, ParseError> {
    Ok(match f.get(key) {
        Some(serde_json::Value::Array(_)) => {
            f.numbers(key, FACTOR)?.unwrap_or_default().first().copied().unwrap_or(0)
        }
        _ => f.or(key, FACTOR, 0)?,
    })
}

/// One linear layer on the way to the text model.
pub(crate) fn project(b: &mut Builder, name: &str, (rows, columns): (u64, u64), bias: bool) {
    b.linear(name, Role::Projector, (rows, columns), Split::Replicated, bias);
}

/// Width of the heads of a tower.
pub(crate) fn tower_heads(f: &Fields<'_>, default: u64) -> Result<u64, ParseError> {
    Ok(f.any(&["num_attention_heads", "num_heads", "attention_heads", "vt_num_attention_heads"], HEADS)?
        .filter(|heads| *heads > 0)
        .unwrap_or(default))
}
