//! The vision towers of the Qwen models, which others have taken over.

use crate::model::ParseError;
use crate::model::hf_config::builder::Builder;
use crate::model::hf_config::config::fields::{FACTOR, Fields, WIDTH};
use crate::model::hf_config::tower::transformer::{Tower, project, tower_heads};

/// The tower and the merger of Qwen2-VL and Qwen2.5-VL; the latter's is gated.
pub(crate) fn qwen2(
    vision: &Fields<'_>,
    b: &mut Builder,
    hidden: u64,
    gated: bool,
) -> Result<(), ParseError> {
    let mut tower = Tower::usual(vision)?;
    // In Qwen2-VL the width of the stream is `embed_dim`, and `hidden_size` is the text model's.
    let own = vision.positive_or("embed_dim", WIDTH, tower.hidden)?;
    let merge = vision.positive_or("spatial_merge_size", FACTOR, 2)?.min(64);
    let merged = own * merge * merge;
    tower.hidden = own;
    tower.width = match vision.number("intermediate_size", WIDTH)? {
        Some(width) => width,
        None => own * vision.positive_or("mlp_ratio", FACTOR, 4)?,
    };
    tower.positions = 0;
    tower.patch_bias = false;
    tower.gated = gated;
    tower.norm_bias = !gated;
    // EXAONE 4.5 has fewer key-value heads than heads.
    let heads = tower_heads(vision, 16)?;
    tower.kv = match vision.number("num_key_value_heads", WIDTH)? {
        Some(kv_heads) if kv_heads > 0 && kv_heads < heads => own / heads * kv_heads,
        _ => 0,
    };
    // Some configs leave the two frames of a patch unsaid.
    if !vision.has("temporal_patch_size") {
        tower.patch *= 2;
    }
    tower.build(b, "visual");
    b.norm("visual.merger.ln_q", own, tower.norm_bias);
    project(b, "visual.merger.mlp.0", (merged, merged), true);
    // Qwen2-VL writes the text model's width as the tower's `hidden_size`.
    let key = if gated { "out_hidden_size" } else { "hidden_size" };
    let out = if gated || vision.has("embed_dim") { vision.positive_or(key, WIDTH, hidden)? } else { hidden };
    project(b, "visual.merger.mlp.2", (out, merged), true);
    Ok(())
}

/// The tower of Qwen3-VL: learned positions, and features of several blocks that go deep into the text model.
pub(crate) fn qwen3(vision: &Fields<'_>, b: &mut Builder, hidden: u64) -> Result<(), ParseError> {
    let mut tower = Tower::usual(vision)?;
    let own = tower.hidden;
    let out = vision.positive_or("out_hidden_size", WIDTH, hidden)?;
    let merge = vision.positive_or("spatial_merge_size", FACTOR, 2)?.min(64);
    let merged = own * merge * merge;
    tower.positions = vision.or("num_position_embeddings", WIDTH, 0)?;
    tower.build(b, "model.visual");
    b.norm("model.visual.merger.norm", own, true);
    project(b, "model.visual.merger.linear_fc1", (merged, merged), true);
    project(b, "model.visual.merger.linear_fc2", (out, merged), true);
    let deep = vision.list("deepstack_visual_indexes")?.unwrap_or_default().len();
    for index in 0..deep.min(64) {
        let name = |part: &str| format!("model.visual.deepstack_merger_list.{index}.{part}");
        b.norm(&name("norm"), merged, true);
        project(b, &name("linear_fc1"), (merged, merged), true);
        project(b, &name("linear_fc2"), (out, merged), true);
    }
    Ok(())
}
