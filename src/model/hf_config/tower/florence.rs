//! Florence-2: a DaViT tower, whose blocks attend over windows and over channels, before BART.

use crate::model::hf_config::builder::Builder;
use crate::model::hf_config::config::fields::{FACTOR, Fields, LAYERS, WIDTH};
use crate::model::hf_config::tower::transformer::project;
use crate::model::{ParseError, Role, Split};

/// The tower and the projector.
pub(crate) fn build(f: &Fields<'_>, b: &mut Builder, hidden: u64) -> Result<(), ParseError> {
    let key = if f.has("dim_embed") { "dim_embed" } else { "embed_dim" };
    let widths = f.numbers(key, WIDTH)?.unwrap_or_else(|| vec![128, 256, 512, 1024]);
    let depths = f.numbers("depths", LAYERS)?.unwrap_or_else(|| vec![1, 1, 9, 1]);
    let sides = f.numbers("patch_size", FACTOR)?.unwrap_or_else(|| vec![7, 3, 3, 3]);
    let mut into = f.any(&["in_channels", "in_chans"], FACTOR)?.unwrap_or(3).clamp(1, 64);
    let whole = Split::Replicated;
    let last = widths.last().copied().unwrap_or(1);
    for (stage, ((own, depth), side)) in widths.iter().zip(&depths).zip(&sides).enumerate().take(16) {
        let own = *own;
        let side = (*side).min(64);
        b.begin_block(format!("vision_tower.convs.{stage}."));
        b.linear("conv", Role::Vision, (own, into * side * side), whole, true);
        // The first stage norms what the convolution yields, the others what it reads.
        b.norm("norm", if stage == 0 { own } else { into }, true);
        for block in 0..*depth {
            for kind in ["spatial_block", "channel_block"] {
                b.begin_block(format!("vision_tower.blocks.{stage}.{block}.{kind}."));
                for half in ["1", "2"] {
                    b.linear(&format!("conv{half}"), Role::Vision, (own, 9), whole, true);
                    b.norm(&format!("norm{half}"), own, true);
                }
                b.linear("attn.qkv", Role::Vision, (3 * own, own), whole, true);
                b.linear("attn.proj", Role::Vision, (own, own), whole, true);
                b.linear("ffn.fc1", Role::Vision, (4 * own, own), whole, true);
                b.linear("ffn.fc2", Role::Vision, (own, 4 * own), whole, true);
            }
        }
        into = own;
    }
    b.end_layers();
    b.shape.multimodal = true;
    let out = f.positive_or("projection_dim", WIDTH, hidden)?;
    let positions = match f.object("image_pos_embed")? {
        Some(table) => table.positive_or("max_pos_embeddings", WIDTH, 50)?,
        None => f.positive_or("max_position_embeddings", WIDTH, 50)?,
    };
    project(b, "image_projection", (out, last), false);
    b.norm("image_proj_norm", out, true);
    project(b, "image_pos_embed.row_embeddings", (positions, last / 2), false);
    project(b, "image_pos_embed.column_embeddings", (positions, last - last / 2), false);
    Ok(())
}
