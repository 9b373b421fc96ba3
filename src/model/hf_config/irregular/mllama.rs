//! Llama 3.2 Vision: cross-attention layers among the decoder's, and a tower of two stages.

use crate::model::hf_config::block::attention::{Gqa, QkNorm};
use crate::model::hf_config::block::mlp::{Ffn, Mlp};
use crate::model::hf_config::block::names::{AttentionNames, LLAMA, Style};
use crate::model::hf_config::builder::Builder;
use crate::model::hf_config::config::fields::{FACTOR, Fields, LAYERS, WIDTH};
use crate::model::hf_config::measures::Dims;
use crate::model::hf_config::tower::transformer::{Tower, project};
use crate::model::{Layer, ParseError, Role, Span, Split, State, StateKind};

/// The `model_type`s of text models that are read here.
pub(crate) const TYPES: &[&str] = &["mllama_text_model"];

/// Rows of the embedding beyond the vocabulary, for the image token and its like.
const EXTRA_TOKENS: u64 = 8;

/// Patches of the four tiles of an image: 40 x 40 and a class token each.
const IMAGE_TOKENS: u64 = 4 * 1601;

/// The decoder.
pub(crate) fn text(f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let dims = Dims::read(f, b)?;
    let style = Style { tied: f.flag_or("tie_word_embeddings", false)?, ..LLAMA };
    let crossed = f.numbers("cross_attention_layers", LAYERS)?.unwrap_or_default();
    let gqa = Gqa::plain(&dims);
    let mlp = Mlp { width: f.need(&["intermediate_size"], WIDTH)?, gated: true, bias: false };
    let with_extra = Dims { vocabulary: dims.vocabulary + EXTRA_TOKENS, ..dims };
    style.open(b, &with_extra);
    for layer in 0..dims.layers {
        b.begin_layer(format!("{}.{layer}.", style.layers), layer);
        style.layer_norms(b, dims.hidden);
        let mut kept = Layer::default();
        if crossed.contains(&layer) {
            let names = AttentionNames { module: "cross_attn", ..style.attention };
            Gqa { qk_norm: QkNorm::Head, ..gqa }.build(b, &names, dims.hidden);
            b.vector("cross_attn_attn_gate", 1);
            b.vector("cross_attn_mlp_gate", 1);
            // Keys and values of an image: as many as it has patches, however long the text is.
            kept.state = Some(State {
                kind: StateKind::Linear,
                conv_width: 0,
                conv_kernel: 1,
                matrix: (2 * IMAGE_TOKENS).saturating_mul(dims.kv_heads * dims.head_dim),
                heads: dims.kv_heads,
            });
        } else {
            gqa.build(b, &style.attention, dims.hidden);
            kept.attention = Some(gqa.kept(Span::Full));
        }
        style.ffn(b, dims.hidden, &Ffn::Dense(mlp));
        b.keep(kept);
    }
    style.close(b, &dims);
    b.note("Each sequence is taken to hold one image of four tiles in the cross-attention layers.");
    Ok(())
}

/// The tower and the projector.
pub(crate) fn vision(f: &Fields<'_>, b: &mut Builder, hidden: u64) -> Result<(), ParseError> {
    let mut tower = Tower::usual(f)?;
    let own = tower.hidden;
    let tiles = f.positive_or("max_num_tiles", FACTOR, 4)?;
    // One more than the supported arrangements of tiles.
    let ratios =
        f.list("supported_aspect_ratios")?.map_or(9, |list| u64::try_from(list.len()).unwrap_or(8) + 1);
    tower.positions += 1;
    let positions = tower.positions;
    tower.class = true;
    tower.patch_bias = false;
    tower.qkv_bias = false;
    tower.out_bias = false;
    tower.outer_norms = 2;
    let global = f.positive_or("num_global_layers", LAYERS, 8)?;
    tower.build(b, "vision_model.transformer");
    let second = Tower { layers: global, patch: 0, positions: 0, class: false, outer_norms: 0, ..tower };
    second.build(b, "vision_model.global_transformer");
    let table = |b: &mut Builder, name: &str, columns: u64| {
        b.matrices(&format!("vision_model.{name}"), Role::Vision, 1, ratios, columns, Split::Replicated);
    };
    table(b, "gated_positional_embedding.tile_embedding.weight", (tiles * positions).saturating_mul(own));
    table(b, "pre_tile_positional_embedding.embedding.weight", tiles * own);
    table(b, "post_tile_positional_embedding.embedding.weight", tiles * own);
    for part in ["gated", "pre_tile", "post_tile"] {
        b.vector(&format!("vision_model.{part}_positional_embedding.gate"), 1);
    }
    for layer in 0..global {
        for gate in ["gate_attn", "gate_ffn"] {
            b.vector(&format!("vision_model.global_transformer.layers.{layer}.{gate}"), 1);
        }
    }
    let out = f.positive_or("vision_output_dim", WIDTH, 7680)?;
    project(b, "multi_modal_projector", (hidden, out), true);
    Ok(())
}
