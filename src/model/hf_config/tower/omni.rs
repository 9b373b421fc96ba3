//! Models that see and hear: Qwen's Omni, of which the part that thinks is counted, and Phi-4-multimodal.

use crate::model::hf_config::builder::Builder;
use crate::model::hf_config::config::fields::{FACTOR, Fields, HEADS, LAYERS, WIDTH};
use crate::model::hf_config::irregular::seq2seq::audio_tower;
use crate::model::hf_config::tower::audio::convolved_encoder;
use crate::model::hf_config::tower::nested;
use crate::model::hf_config::tower::qwen;
use crate::model::hf_config::tower::transformer::{Tower, project};
use crate::model::{ParseError, Role, Split};

/// The `model_type`s that are read here.
pub(crate) const TYPES: &[&str] = &[
    "qwen2_5_omni",
    "qwen2_5_omni_thinker",
    "qwen3_omni_moe",
    "qwen3_omni_moe_thinker",
    "phi4_multimodal",
    "phi4mm",
];

/// The thinker of an omni config: text model and towers.
pub(crate) fn build(model_type: &str, f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    b.shape.multimodal = true;
    match model_type {
        "phi4_multimodal" | "phi4mm" => phi4(model_type, f, b),
        "qwen2_5_omni" | "qwen3_omni_moe" => {
            let thinker = f.need_object("thinker_config")?;
            if f.has("talker_config") && f.flag_or("enable_audio_output", true)? {
                b.note(
                    "The talker and the vocoder, which speak, are not counted: vLLM and SGLang load the thinker alone.",
                );
            }
            qwen(model_type, &thinker, b)
        }
        _ => qwen(model_type.trim_end_matches("_thinker"), f, b),
    }
}

/// Qwen's thinker.
fn qwen(model_type: &str, f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    "thinker.".clone_into(&mut b.prefix);
    nested::text(&format!("{model_type}_thinker"), f, b)?;
    let hidden = b.shape.hidden_size;
    let audio = f.need_object("audio_config")?;
    let eyes = f.need_object("vision_config")?;
    let out = audio.positive_or("output_dim", WIDTH, hidden)?;
    if model_type == "qwen2_5_omni" {
        // Its positions are computed.
        audio_tower(&audio, b, "audio_tower.", false)?;
        let own = audio.need(&["d_model"], WIDTH)?;
        project(b, "audio_tower.audio_bos_eos_token", (2, out), false);
        project(b, "audio_tower.proj", (out, own), true);
        qwen::qwen2(&eyes, b, hidden, true)?;
    } else {
        let own = convolved_encoder(&audio, b, "audio_tower.")?;
        project(b, "audio_tower.proj1", (own, own), true);
        project(b, "audio_tower.proj2", (out, own), true);
        qwen::qwen3(&eyes, b, hidden)?;
    }
    b.prefix.clear();
    Ok(())
}

/// Phi-4-multimodal: a SigLIP tower, a conformer, and in the published checkpoint two adapters of low rank for the text model.
fn phi4(model_type: &str, f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    nested::text(model_type, f, b)?;
    let hidden = b.shape.hidden_size;
    let side = 448 / 14;
    let (own, width, layers) = match f.object("vision_config")? {
        Some(eyes) => (
            eyes.positive_or("hidden_size", WIDTH, 1152)?,
            eyes.positive_or("intermediate_size", WIDTH, 4304)?,
            eyes.positive_or("num_hidden_layers", LAYERS, 27)?,
        ),
        None => (1152, 4304, 27),
    };
    let tower = Tower {
        hidden: own,
        width,
        layers,
        patch: 3 * 14 * 14,
        positions: side * side,
        patch_bias: true,
        qkv_bias: true,
        out_bias: true,
        mlp_bias: true,
        norm_bias: true,
        norms: 2,
        outer_norms: 1,
        ..Tower::default()
    };
    let module = "model.embed_tokens_extend.image_embed";
    tower.build(b, &format!("{module}.img_processor"));
    crate::model::hf_config::tower::projectors::attention_pool(
        b,
        &format!("{module}.img_processor"),
        own,
        width,
    );
    project(b, &format!("{module}.glb_GN"), (1, own), false);
    project(b, &format!("{module}.sub_GN"), (1, own), false);
    project(b, &format!("{module}.img_projection.0"), (hidden, own), true);
    project(b, &format!("{module}.img_projection.2"), (hidden, hidden), true);
    conformer(f.object("audio_config")?.as_ref(), b, hidden, model_type == "phi4mm")?;
    for key in ["vision_lora", "speech_lora"] {
        if let Some(lora) = f.object(key)? {
            let rank = lora.need(&["r"], WIDTH)?;
            adapters(b, key, rank);
        }
    }
    Ok(())
}

/// Phi-4's audio tower: its published config names none of its measures, which are those of its class.
fn conformer(
    f: Option<&Fields<'_>>,
    b: &mut Builder,
    hidden: u64,
    published: bool,
) -> Result<(), ParseError> {
    let measure = |key: &str, limit, default| f.map_or(Ok(default), |f| f.positive_or(key, limit, default));
    let own = measure("hidden_size", WIDTH, 1024)?;
    let width = measure("intermediate_size", WIDTH, 1536)?;
    let blocks = measure("num_blocks", LAYERS, 24)?;
    let heads = measure("num_attention_heads", HEADS, 16)?;
    let taps = measure("kernel_size", FACTOR, 3)?;
    let whole = Split::Replicated;
    let linear = |b: &mut Builder, name: &str, shape: (u64, u64), bias: bool| {
        b.linear(name, Role::Vision, shape, whole, bias);
    };
    let module = "model.embed_tokens_extend.audio_embed";
    b.begin_block(format!("{module}.encoder.embed."));
    for (index, columns) in [(0, 9), (2, 9), (3, own), (5, 9), (6, own)] {
        linear(b, &format!("conv.{index}"), (own, columns), true);
    }
    // Eighty bins are halved three times.
    linear(b, "out", (own, 10 * own), true);
    b.begin_block(format!("{module}.encoder."));
    // The published checkpoint reaches half as far as the class does, and has the spectrum's mean and deviation.
    let reach = if published { 1000 } else { 2000 };
    linear(b, "relative_attention_bias_layer.bias_values", (reach, heads), false);
    if published {
        b.vector("encoder_embedding.global_mean", 80);
        b.vector("encoder_embedding.global_invstd", 80);
    }
    for block in 0..blocks {
        b.begin_block(format!("{module}.encoder.encoders.{block}."));
        for part in ["feed_forward_in", "feed_forward_out"] {
            b.norm(&format!("{part}.layer_norm"), own, true);
            linear(b, &format!("{part}.gate_up_proj"), (2 * width, own), true);
            linear(b, &format!("{part}.down_proj"), (own, width), true);
        }
        for part in ["q_proj", "k_proj", "v_proj", "o_proj"] {
            linear(b, &format!("self_attn.{part}"), (own, own), true);
        }
        b.norm("conv.layer_norm", own, true);
        b.vector("conv.glu.b1", own);
        b.vector("conv.glu.b2", own);
        linear(b, "conv.glu.ext_pw_conv_1d", (2 * own, own), true);
        linear(b, "conv.dw_sep_conv_1d.dw_conv", (own, taps), true);
        linear(b, "conv.dw_sep_conv_1d.pw_conv", (own, own), true);
        linear(b, "conv.ext_pw_conv_1d", (own, own), true);
        b.norm("layer_norm_att", own, true);
        b.norm("layer_norm", own, true);
    }
    b.end_layers();
    for kind in ["speech", "vision"] {
        project(b, &format!("{module}.audio_projection.{kind}.0"), (hidden, own), true);
        project(b, &format!("{module}.audio_projection.{kind}.2"), (hidden, hidden), true);
    }
    Ok(())
}

/// An adapter of low rank for every linear layer of the text model's blocks.
fn adapters(b: &mut Builder, name: &str, rank: u64) {
    let linear = |tensor: &&crate::model::Tensor| {
        tensor.layer.is_some() && matches!(tensor.role, Role::Attention | Role::Mlp)
    };
    let mut shapes: Vec<(String, Option<u32>, u64, u64)> = Vec::new();
    for tensor in b.shape.tensors.iter().filter(linear) {
        // A fused matrix is one linear layer, whatever number of tensors it is here.
        match shapes.iter_mut().find(|shape| shape.0 == tensor.name) {
            Some(shape) => shape.2 += tensor.rows,
            None => shapes.push((tensor.name.clone(), tensor.layer, tensor.rows, tensor.columns)),
        }
    }
    for (tensor, layer, rows, columns) in shapes {
        let layer = layer.map(u64::from).unwrap_or_default();
        b.begin_layer("", layer);
        let module = tensor.trim_end_matches(".weight");
        b.state(&format!("{module}.lora_A.{name}.weight"), rank, columns, Split::Replicated);
        b.state(&format!("{module}.lora_B.{name}.weight"), rows, rank, Split::Replicated);
    }
    b.end_layers();
}
