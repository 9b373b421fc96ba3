//! Families that describe their tower by its `model_type`: what leads from it to the text model.

use crate::model::hf_config::builder::Builder;
use crate::model::hf_config::config::fields::{FACTOR, Fields, LAYERS, VOCABULARY, WIDTH};
use crate::model::hf_config::tower::qformer;
use crate::model::hf_config::tower::transformer::{Tower, project};
use crate::model::{ParseError, Role, Split};

/// The `model_type`s that are read here.
pub(crate) const TYPES: &[&str] = &[
    "paligemma",
    "aya_vision",
    "cohere2_vision",
    "llava",
    "llava_next",
    "llava_next_video",
    "llava_onevision",
    "vipllava",
    "video_llava",
    "idefics2",
    "idefics3",
    "smolvlm",
    "ovis2",
    "blip-2",
    "instructblip",
    "instructblipvideo",
    "deepseek_vl",
    "paddleocr_vl",
    "aria",
    "molmo2",
    "lighton_ocr",
    "ernie4_5_vl_moe",
    "minimax_m3_vl",
];

/// A tower of a `model_type` that transformers knows by itself; the usual form where it is not known.
pub(crate) fn typed(vision: &Fields<'_>, b: &mut Builder, module: &str) -> Result<Tower, ParseError> {
    let usual = Tower::usual(vision)?;
    let kind = vision.text("model_type")?.unwrap_or_default();
    let tower = match kind {
        "clip_vision_model" => {
            Tower { positions: usual.positions + 1, class: true, patch_bias: false, outer_norms: 2, ..usual }
        }
        "pixtral" => {
            let heads = crate::model::hf_config::tower::transformer::tower_heads(vision, 16)?;
            Tower {
                positions: 0,
                gated: true,
                outer_norms: 1,
                attention: vision.number("head_dim", WIDTH)?.map_or(0, |dim| heads * dim),
                ..usual.without_biases()
            }
        }
        "aimv2" | "ovis2_vision" => Tower {
            gated: true,
            outer_norms: 2,
            patch_bias: true,
            qkv_bias: vision.flag_or("qkv_bias", false)?,
            out_bias: vision.flag_or("qkv_bias", false)?,
            mlp_bias: vision.flag_or("mlp_bias", false)?,
            ..usual.without_biases()
        },
        // EVA, as BLIP-2 has it: one norm, behind the blocks.
        "blip_2_vision_model" | "instructblip_vision_model" | "instructblipvideo_vision_model" => {
            Tower { positions: usual.positions + 1, class: true, outer_norms: 1, ..usual }
        }
        "siglip2_vision_model" => {
            Tower { positions: vision.or("num_patches", WIDTH, 256)?, outer_norms: 1, ..usual }
        }
        "molmo2_vision" => Tower {
            positions: vision.positive_or("num_position_embeddings", WIDTH, 729)?,
            qkv_bias: vision.flag_or("attention_bias", true)?,
            out_bias: vision.flag_or("attention_bias", true)?,
            ..usual
        },
        "ernie4_5_vl_moe_vision" | "minimax_m3_vl_vision" => {
            Tower { positions: 0, patch_bias: false, outer_norms: 1, ..usual }
        }
        _ => Tower { outer_norms: 1, ..usual },
    };
    tower.build(b, module);
    // SigLIP has a head that pools, unless the config says otherwise.
    if kind.starts_with("siglip") && vision.flag_or("vision_use_head", true)? {
        attention_pool(b, module, tower.hidden, tower.width);
    }
    Ok(tower)
}

/// SigLIP's pooling head: one learned query that attends to the patches, and an MLP.
pub(crate) fn attention_pool(b: &mut Builder, module: &str, own: u64, width: u64) {
    let name = |part: &str| format!("{module}.head.{part}");
    let vision = |b: &mut Builder, part: &str, shape: (u64, u64), bias: bool| {
        b.linear(&name(part), Role::Vision, shape, Split::Replicated, bias);
    };
    b.matrices(&name("probe"), Role::Vision, 1, 1, own, Split::Replicated);
    vision(b, "attention.in_proj", (3 * own, own), true);
    vision(b, "attention.out_proj", (own, own), true);
    b.norm(&name("layernorm"), own, true);
    vision(b, "mlp.fc1", (width, own), true);
    vision(b, "mlp.fc2", (own, width), true);
}

/// The tower and the projector of one.
#[allow(clippy::too_many_lines)] // one arm per family
pub(crate) fn build(
    model_type: &str,
    f: &Fields<'_>,
    vision: &Fields<'_>,
    b: &mut Builder,
    hidden: u64,
) -> Result<(), ParseError> {
    let module = match model_type {
        "blip-2" | "instructblip" | "instructblipvideo" | "idefics2" | "idefics3" | "smolvlm"
        | "deepseek_vl" => "vision_model",
        "paddleocr_vl" => "visual.vision_model",
        "lighton_ocr" => "vision_encoder",
        "video_llava" => "image_tower.vision_model",
        "llava" | "llava_next" | "llava_next_video" | "llava_onevision" | "vipllava" => {
            "vision_tower.vision_model"
        }
        _ => "vision_tower",
    };
    let tower = typed(vision, b, module)?;
    let own = tower.hidden;
    let name = |part: &str| format!("multi_modal_projector.{part}");
    match model_type {
        "paligemma" => project(b, &name("linear"), (hidden, own), true),
        "llava" | "llava_next" | "llava_next_video" | "llava_onevision" | "video_llava" => {
            if model_type == "video_llava" {
                typed(vision, b, "video_tower.vision_model")?;
            }
            let bias = f.flag_or("multimodal_projector_bias", true)?;
            // Several layers' features may stand side by side.
            let layers = f.list("vision_feature_layer").unwrap_or_default().map_or(1, <[_]>::len);
            let features = own.saturating_mul(u64::try_from(layers).unwrap_or(1).clamp(1, 64));
            project(b, &name("linear_1"), (hidden, features), bias);
            project(b, &name("linear_2"), (hidden, hidden), bias);
            if !matches!(model_type, "llava" | "video_llava") {
                b.vector("image_newline", hidden);
            }
        }
        "vipllava" => {
            let key =
                if f.has("vision_feature_layers") { "vision_feature_layers" } else { "vision_feature_layer" };
            let layers = f.list(key).unwrap_or_default().map_or(5, <[_]>::len);
            let features = own.saturating_mul(u64::try_from(layers).unwrap_or(5).clamp(1, 64));
            b.norm(&name("projector_layernorm"), features, true);
            project(b, &name("linear_1"), (hidden, features), true);
            project(b, &name("linear_2"), (hidden, hidden), true);
        }
        "aya_vision" | "cohere2_vision" => {
            let factor = f.positive_or("downsample_factor", FACTOR, 2)?.min(64);
            let merged = own * factor * factor;
            let default = if model_type == "aya_vision" { 28_672 } else { 36_864 };
            let width = f.positive_or("alignment_intermediate_size", WIDTH, default)?;
            if model_type == "aya_vision" {
                b.norm(&name("layernorm"), merged, true);
            }
            project(b, &name("linear_1"), (width, merged), true);
            project(b, &name("linear_2"), (hidden, width / 2), true);
        }
        "idefics3" | "smolvlm" => {
            let factor = f.positive_or("scale_factor", FACTOR, 2)?.min(64);
            project(b, "model.connector.modality_projection.proj", (hidden, own * factor * factor), false);
        }
        "idefics2" => idefics2(f, b, (hidden, own))?,
        "ovis2" => {
            let words = vision.positive_or("vocab_size", VOCABULARY, 16_384)?;
            let marks = vision.or("num_visual_indicator_tokens", FACTOR, 5)?;
            let stride = vision.positive_or("hidden_stride", FACTOR, 1)?.min(64);
            let rows = words.saturating_sub(marks);
            b.linear(
                "vision_tower.head_linear",
                Role::Vision,
                (rows, own * stride * stride),
                Split::Replicated,
                false,
            );
            b.norm("vision_tower.head_norm", rows, true);
            project(b, "visual_embeddings_table", (words, hidden), false);
        }
        "blip-2" | "instructblip" | "instructblipvideo" => {
            let former = f.need_object("qformer_config")?;
            let queries = f.positive_or("num_query_tokens", WIDTH, 32)?;
            let width = qformer::build(model_type, &former, b, "qformer", own)?;
            project(b, "query_tokens", (queries, width), false);
            project(b, "language_projection", (hidden, width), true);
        }
        "deepseek_vl" => {
            project(b, "aligner.linear1", (hidden, own), true);
            project(b, "aligner.linear2", (hidden, hidden), true);
        }
        "paddleocr_vl" => {
            let merge = vision.positive_or("spatial_merge_size", FACTOR, 2)?.min(64);
            let merged = own * merge * merge;
            b.norm("projector.pre_norm", own, true);
            project(b, "projector.linear_1", (merged, merged), true);
            project(b, "projector.linear_2", (hidden, merged), true);
        }
        "lighton_ocr" => {
            let merge = f.positive_or("spatial_merge_size", FACTOR, 2)?.min(64);
            b.norm("vision_projection.norm", own, false);
            project(b, "vision_projection.patch_merger.merging_layer", (own, own * merge * merge), false);
            project(b, "vision_projection.linear_1", (hidden, own), false);
            project(b, "vision_projection.linear_2", (hidden, hidden), false);
        }
        "aria" => aria(f, b, (hidden, own))?,
        "molmo2" => molmo2(f, b, own)?,
        "ernie4_5_vl_moe" => {
            let merge = vision.positive_or("spatial_merge_size", FACTOR, 2)?.min(64);
            let frames = vision.positive_or("temporal_merge_size", FACTOR, 2)?.min(64);
            let merged = own * merge * merge;
            for (part, columns) in [("spatial_linear", merged), ("temporal_linear", merged * frames)] {
                let name = |layer: &str| format!("resampler_model.{part}.{layer}");
                project(b, &name("fc1"), (merged, columns), true);
                project(b, &name("fc2"), (merged, merged), true);
                b.norm(&name("ln"), merged, true);
            }
            project(b, "resampler_model.mlp", (hidden, merged), true);
            b.norm("resampler_model.after_norm", hidden, false);
        }
        _ => {
            // MiniMax-M3.
            let width = f.positive_or("projector_hidden_size", WIDTH, hidden)?;
            let merge = vision.positive_or("spatial_merge_size", FACTOR, 2)?.min(64);
            project(b, &name("linear_1"), (width, own), true);
            project(b, &name("linear_2"), (hidden, width), true);
            project(b, &name("merge_linear_1"), (width, hidden * merge * merge), true);
            project(b, &name("merge_linear_2"), (hidden, width), true);
        }
    }
    Ok(())
}

/// Idefics 2: a gated MLP, and a perceiver that reads the patches into a fixed number of latents.
fn idefics2(f: &Fields<'_>, b: &mut Builder, (hidden, own): (u64, u64)) -> Result<(), ParseError> {
    let perceiver = f.need_object("perceiver_config")?;
    let inner = b.shape.intermediate_size;
    let name = |part: &str| format!("model.connector.modality_projection.{part}");
    project(b, &name("gate_proj"), (inner, own), false);
    project(b, &name("up_proj"), (inner, own), false);
    project(b, &name("down_proj"), (hidden, inner), false);
    let latents = perceiver.positive_or("resampler_n_latents", WIDTH, 64)?;
    let depth = perceiver.positive_or("resampler_depth", LAYERS, 3)?;
    let heads = perceiver.positive_or("resampler_n_heads", FACTOR, 16)?;
    let kv_heads = perceiver.positive_or("num_key_value_heads", FACTOR, 4)?;
    let dim = perceiver.positive_or("resampler_head_dim", WIDTH, 96)?;
    project(b, "model.connector.perceiver_resampler.latents", (latents, hidden), false);
    for layer in 0..depth {
        let name = |part: &str| format!("model.connector.perceiver_resampler.layers.{layer}.{part}");
        for norm in ["input_latents_norm", "input_context_norm", "post_attention_layernorm"] {
            b.norm(&name(norm), hidden, false);
        }
        project(b, &name("self_attn.q_proj"), (heads * dim, hidden), false);
        project(b, &name("self_attn.k_proj"), (kv_heads * dim, hidden), false);
        project(b, &name("self_attn.v_proj"), (kv_heads * dim, hidden), false);
        project(b, &name("self_attn.o_proj"), (hidden, heads * dim), false);
        for part in ["mlp.gate_proj", "mlp.up_proj"] {
            project(b, &name(part), (4 * hidden, hidden), false);
        }
        project(b, &name("mlp.down_proj"), (hidden, 4 * hidden), false);
    }
    b.norm("model.connector.perceiver_resampler.norm", hidden, false);
    Ok(())
}

/// Aria: as many queries as an image's size asks for, and one attention to the patches.
fn aria(f: &Fields<'_>, b: &mut Builder, (hidden, own): (u64, u64)) -> Result<(), ParseError> {
    let sizes = f.object("projector_patch_to_query_dict")?;
    let mut queries = f.positive_or("max_value_projector_patch_to_query_dict", WIDTH, 128)?;
    for key in sizes.iter().flat_map(Fields::keys) {
        if let Some(sizes) = &sizes {
            queries = queries.max(sizes.or(key, WIDTH, 0)?);
        }
    }
    let inner = b.shape.experts.map_or(b.shape.intermediate_size, |experts| experts.intermediate_size);
    let name = |part: &str| format!("multi_modal_projector.{part}");
    project(b, &name("query"), (queries, own), false);
    for part in ["q_proj", "k_proj", "v_proj"] {
        project(b, &name(&format!("cross_attn.{part}")), (own, own), false);
    }
    project(b, &name("cross_attn.multihead_attn.in_proj"), (3 * own, own), true);
    project(b, &name("cross_attn.multihead_attn.out_proj"), (own, own), true);
    project(b, &name("cross_attn.linear"), (own, own), true);
    for norm in ["cross_attn.layer_norm", "cross_attn.layer_norm_kv", "layer_norm"] {
        b.norm(&name(norm), own, true);
    }
    project(b, &name("feed_forward.linear_in"), (inner, own), false);
    project(b, &name("feed_forward.linear_out"), (hidden, inner), false);
    Ok(())
}

/// Molmo 2: patches of two layers, pooled by attention.
fn molmo2(f: &Fields<'_>, b: &mut Builder, own: u64) -> Result<(), ParseError> {
    let adapter = f.need_object("adapter_config")?;
    let width = adapter.positive_or("hidden_size", WIDTH, own)?;
    let features = own
        * adapter
            .list("vision_feature_layer")
            .unwrap_or_default()
            .map_or(2, |layers| u64::try_from(layers.len()).unwrap_or(2).clamp(1, 64));
    let inner = adapter.need(&["intermediate_size"], WIDTH)?;
    let out = adapter.need(&["text_hidden_size"], WIDTH)?;
    let bias = adapter.flag_or("attention_bias", true)?;
    let name = |part: &str| format!("multi_modal_projector.{part}");
    for part in ["q_proj", "k_proj", "v_proj"] {
        project(b, &name(&format!("image_pooling_2d.{part}")), (width, features), bias);
    }
    project(b, &name("image_pooling_2d.o_proj"), (width, width), bias);
    project(b, &name("image_projector.gate_proj"), (inner, width), false);
    project(b, &name("image_projector.up_proj"), (inner, width), false);
    project(b, &name("image_projector.down_proj"), (out, inner), false);
    Ok(())
}
