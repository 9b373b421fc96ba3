//! Models that hear: audio towers, and what leads from them to the text model.

use crate::model::hf_config::builder::Builder;
use crate::model::hf_config::config::fields::{FACTOR, Fields, HEADS, LAYERS, TOKENS, WIDTH};
use crate::model::hf_config::irregular::seq2seq::audio_encoder;
use crate::model::hf_config::tower::qformer;
use crate::model::hf_config::tower::transformer::project;
use crate::model::{ParseError, Role, Split};

/// The `model_type`s that are read here.
pub(crate) const TYPES: &[&str] = &[
    "qwen2_audio",
    "voxtral",
    "ultravox",
    "granite_speech",
    "granite_speech_plus",
    "audioflamingo3",
    "musicflamingo",
    "qwen3_asr",
];

/// The tower and the projector of one.
pub(crate) fn build(
    model_type: &str,
    f: &Fields<'_>,
    b: &mut Builder,
    hidden: u64,
) -> Result<(), ParseError> {
    b.shape.multimodal = true;
    if model_type.starts_with("granite_speech") {
        return granite(f, b, hidden);
    }
    let audio = f.need_object("audio_config")?;
    if model_type == "qwen3_asr" {
        let width = convolved_encoder(&audio, b, "audio_tower.")?;
        let out = audio.positive_or("output_dim", WIDTH, hidden)?;
        project(b, "audio_tower.proj1", (width, width), true);
        project(b, "audio_tower.proj2", (out, width), true);
        return Ok(());
    }
    audio_encoder(&audio, b, "audio_tower.")?;
    let own = audio.need(&["d_model", "hidden_size"], WIDTH)?;
    let name = |part: &str| format!("multi_modal_projector.{part}");
    match model_type {
        "qwen2_audio" => project(b, &name("linear"), (hidden, own), true),
        "voxtral" => {
            // Four frames become one, as wide as the tower's MLPs.
            let merged = audio.need(&["intermediate_size", "encoder_ffn_dim"], WIDTH)?;
            project(b, &name("linear_1"), (hidden, merged), false);
            project(b, &name("linear_2"), (hidden, hidden), false);
        }
        "ultravox" => {
            let stacked = own * f.positive_or("stack_factor", FACTOR, 8)?;
            let width = f.positive_or("hidden_size", WIDTH, 4096)?;
            let gated = f.text("projector_act")?.unwrap_or("swiglu") == "swiglu";
            let inner = if gated { width / 2 } else { width };
            b.norm(&name("ln_pre"), stacked, false);
            project(b, &name("linear_1"), (width, stacked), false);
            project(b, &name("linear_2"), (hidden, inner), false);
            let mid = f.flag_or("projector_ln_mid", false)?;
            b.norm(&name(if mid { "ln_mid" } else { "ln_post" }), if mid { inner } else { hidden }, false);
        }
        _ => {
            let bias = f.flag_or("projector_bias", true)?;
            project(b, &name("linear_1"), (hidden, own), bias);
            project(b, &name("linear_2"), (hidden, hidden), bias);
        }
    }
    Ok(())
}

/// The encoder of Qwen3-Omni and Qwen3-ASR: three convolutions over the spectrum, then Whisper's layers. Yields its width.
pub(crate) fn convolved_encoder(f: &Fields<'_>, b: &mut Builder, prefix: &str) -> Result<u64, ParseError> {
    let hidden = f.need(&["d_model"], WIDTH)?;
    let layers = f.need(&["encoder_layers", "num_hidden_layers"], LAYERS)?;
    let width = f.need(&["encoder_ffn_dim"], WIDTH)?;
    let channels = f.positive_or("downsample_hidden_size", WIDTH, 480)?;
    let mel = f.positive_or("num_mel_bins", FACTOR, 128)?;
    let vision = Role::Vision;
    let whole = Split::Replicated;
    b.begin_block(prefix);
    for (index, into) in (1..).zip([1, channels, channels]) {
        b.linear(&format!("conv2d{index}"), vision, (channels, 9 * into), whole, true);
    }
    // Each convolution halves the bins of the spectrum.
    let bins = mel.div_ceil(2).div_ceil(2).div_ceil(2);
    b.linear("conv_out", vision, (hidden, channels * bins), whole, false);
    b.norm("ln_post", hidden, true);
    for layer in 0..layers {
        b.begin_block(format!("{prefix}layers.{layer}."));
        for part in ["q_proj", "k_proj", "v_proj", "out_proj"] {
            b.linear(&format!("self_attn.{part}"), vision, (hidden, hidden), whole, true);
        }
        b.norm("self_attn_layer_norm", hidden, true);
        b.linear("fc1", vision, (width, hidden), whole, true);
        b.linear("fc2", vision, (hidden, width), whole, true);
        b.norm("final_layer_norm", hidden, true);
    }
    b.end_layers();
    b.shape.multimodal = true;
    Ok(hidden)
}

/// Granite Speech: a conformer, a querying transformer, and adapters of low rank for the text model.
fn granite(f: &Fields<'_>, b: &mut Builder, hidden: u64) -> Result<(), ParseError> {
    let encoder = f.need_object("encoder_config")?;
    let own = encoder.positive_or("hidden_dim", WIDTH, 1024)?;
    let layers = encoder.positive_or("num_layers", LAYERS, 10)?;
    let features = encoder.positive_or("input_dim", WIDTH, 160)?;
    let wide = own * encoder.positive_or("feedforward_mult", FACTOR, 4)?;
    let dim = encoder.positive_or("dim_head", WIDTH, 128)?;
    let inner = dim * encoder.positive_or("num_heads", HEADS, 8)?;
    let reach = 2 * encoder.positive_or("max_pos_emb", TOKENS, 512)? + 1;
    let conv = own * encoder.positive_or("conv_expansion_factor", FACTOR, 2)?;
    let taps = encoder.positive_or("conv_kernel_size", FACTOR, 15)?;
    let letters = encoder.positive_or("output_dim", WIDTH, 42)?;
    let whole = Split::Replicated;
    let linear = |b: &mut Builder, name: &str, shape: (u64, u64), bias: bool| {
        b.linear(name, Role::Vision, shape, whole, bias);
    };
    b.begin_block("encoder.");
    linear(b, "input_linear", (own, features), true);
    linear(b, "out", (letters, own), true);
    linear(b, "out_mid", (own, letters), true);
    for layer in 0..layers {
        b.begin_block(format!("encoder.layers.{layer}."));
        for part in ["ff1", "ff2"] {
            b.norm(&format!("{part}.pre_norm"), own, true);
            linear(b, &format!("{part}.up_proj"), (wide, own), true);
            linear(b, &format!("{part}.down_proj"), (own, wide), true);
        }
        b.norm("attn.pre_norm", own, true);
        linear(b, "attn.to_q", (inner, own), false);
        linear(b, "attn.to_kv", (2 * inner, own), false);
        linear(b, "attn.to_out", (own, inner), true);
        linear(b, "attn.rel_pos_emb", (reach, dim), false);
        b.norm("conv.norm", own, true);
        linear(b, "conv.up_conv", (2 * conv, own), true);
        linear(b, "conv.depth_conv.conv", (conv, taps), false);
        b.norm("conv.batch_norm", conv, true);
        linear(b, "conv.down_conv", (own, conv), true);
        b.norm("post_norm", own, true);
    }
    b.end_layers();
    let former = f.need_object("projector_config")?;
    let width = qformer::build("granite_speech", &former, b, "projector.qformer", own)?;
    let window = f.positive_or("window_size", FACTOR, 15)?;
    let queries = window / f.positive_or("downsample_rate", FACTOR, 5)?;
    project(b, "projector.query", (queries.max(1), width), false);
    project(b, "projector.linear", (hidden, width), true);
    if f.flag_or("has_lora_adapter", true)? {
        b.note("The adapter for speech is a file of its own, and is not counted.");
    }
    Ok(())
}
