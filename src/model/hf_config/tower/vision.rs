//! Models that see or hear: a text model, a tower, and a projector between them.

use crate::model::hf_config::builder::Builder;
use crate::model::hf_config::config::defaults;
use crate::model::hf_config::config::fields::{FACTOR, Fields, WIDTH};
use crate::model::hf_config::irregular::mllama;
use crate::model::hf_config::tower::audio;
use crate::model::hf_config::tower::florence;
use crate::model::hf_config::tower::nested::{TEXT_KEYS, text};
use crate::model::hf_config::tower::omni;
use crate::model::hf_config::tower::projectors;
use crate::model::hf_config::tower::qwen;
use crate::model::hf_config::tower::transformer::{Tower, project, tower_heads};
use crate::model::{ParseError, Role, Split};

/// The `model_type`s that are read here.
pub(crate) const TYPES: &[&str] = &[
    "qwen2_vl",
    "qwen2_5_vl",
    "qwen3_vl",
    "qwen3_vl_moe",
    "qwen3_5",
    "qwen3_5_moe",
    "internvl_chat",
    "internvl",
    "mllama",
    "gemma3",
    "gemma3n",
    "gemma4",
    "mistral3",
    "ministral3",
    "llama4",
    "phi3_v",
    "molmo",
    "minicpmv",
    "glm4v",
    "glm4v_moe",
    "kimi_vl",
    "kimi_k25",
    "kimi_k3",
    "lfm2_vl",
    "fuyu",
    "florence2",
    "deepseek_vl_v2",
    "glm46v",
    "glm_ocr",
    "exaone4_5",
    "step3p7",
    "ernie4_5_moe_vl",
];

/// Whether the config is one of a tower with a text model.
pub(crate) fn knows(model_type: &str, f: &Fields<'_>) -> bool {
    let nested = TEXT_KEYS.iter().any(|key| f.has(key));
    // These names also stand for the text model alone.
    let needs_nesting = matches!(model_type, "llama4" | "ministral3" | "step3p7");
    let own = [TYPES, projectors::TYPES, audio::TYPES, omni::TYPES];
    own.iter().any(|types| types.contains(&model_type)) && (nested || !needs_nesting)
}

/// What goes before the names of the text model's tensors, and in the place of a leading `model.`.
fn prefixes(model_type: &str, flat: bool) -> (&'static str, Option<&'static str>) {
    match model_type {
        "qwen3_vl" | "qwen3_vl_moe" | "qwen3_5" | "qwen3_5_moe" | "gemma3n" | "gemma4" | "glm4v"
        | "glm4v_moe" | "glm46v" | "glm_ocr" | "lfm2_vl" | "internvl" | "exaone4_5" | "lighton_ocr"
        | "ovis2" => ("", Some("model.language_model.")),
        "minicpmv" => ("llm.", None),
        "deepseek_vl_v2" => ("language.", None),
        "idefics2" | "idefics3" | "smolvlm" => ("", Some("model.text_model.")),
        "qwen2_vl" | "qwen2_5_vl" | "phi3_v" | "molmo" | "molmo2" | "paddleocr_vl" | "ernie4_5_vl_moe" => {
            ("", None)
        }
        _ => (if flat { "" } else { "language_model." }, None),
    }
}

/// The text model, the tower and the projector of a config.
pub(crate) fn build(model_type: &str, f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let model_type = if model_type == "ernie4_5_moe_vl" { "ernie4_5_vl_moe" } else { model_type };
    if omni::TYPES.contains(&model_type) {
        return omni::build(model_type, f, b);
    }
    // The published Qwen3-ASR is a thinker without eyes.
    if let Some(thinker) = f.object("thinker_config")?.filter(|_| model_type == "qwen3_asr") {
        return build(model_type, &thinker, b);
    }
    let (prefix, model_prefix) = prefixes(model_type, !TEXT_KEYS.iter().any(|key| f.has(key)));
    prefix.clone_into(&mut b.prefix);
    b.model_prefix = model_prefix;
    let text_type = text(model_type, f, b)?;
    b.prefix.clear();
    b.model_prefix = None;
    b.shape.multimodal = true;
    let hidden = b.shape.hidden_size;
    if audio::TYPES.contains(&model_type) {
        return audio::build(model_type, f, b, hidden);
    }
    let mut owned = match f.object("vision_config")? {
        Some(vision) => vision.owned(),
        None => return without_description(model_type, f, b, (hidden, &text_type)),
    };
    // As for the text model: what is not there has the default of its class.
    let class = f.object("vision_config")?.map(|vision| vision.text("model_type")).transpose()?.flatten();
    if let Some(class) = class.or(defaults::nested_type(model_type, "vision_config")) {
        owned.insert_absent("model_type", &serde_json::Value::from(class));
        // Qwen2's towers are read by whichever of two spellings is there.
        if !model_type.starts_with("qwen2") {
            defaults::complete(&mut owned, class);
        }
    }
    let vision = owned.fields();
    match model_type {
        "phi3_v" | "molmo" | "gemma3n" => without_description(model_type, f, b, (hidden, &text_type)),
        "mllama" => mllama::vision(&vision, b, hidden),
        "florence2" => florence::build(&vision, b, hidden),
        "deepseek_vl_v2" => deepseek_vl2(f, &vision, b, hidden),
        _ if projectors::TYPES.contains(&model_type) => projectors::build(model_type, f, &vision, b, hidden),
        _ => tower(model_type, f, &vision, b, hidden),
    }
}

/// The tower of a family whose config does not describe it.
fn without_description(
    model_type: &str,
    f: &Fields<'_>,
    b: &mut Builder,
    (hidden, text_type): (u64, &str),
) -> Result<(), ParseError> {
    match model_type {
        "phi3_v" => phi3_vision(b, hidden),
        "molmo" => molmo(f, b, hidden)?,
        "llava" => {
            Tower::clip_large().build(b, "model.vision_tower.vision_model");
            project(b, "model.mm_projector.0", (hidden, 1024), true);
            project(b, "model.mm_projector.2", (hidden, hidden), true);
        }
        "fuyu" => {
            // Patches go straight into the stream.
            let side = f.positive_or("patch_size", FACTOR, 30)?.min(1024);
            let channels = f.positive_or("num_channels", FACTOR, 3)?.min(64);
            project(b, "vision_embed_tokens", (hidden, channels * side * side), true);
        }
        "gemma3n" => gemma3n(f, b)?,
        // The text model alone.
        "gemma4" | "gemma3" => b.shape.multimodal = false,
        "llama4" => llama4_default(b, hidden),
        _ => {
            let problem = format!("is missing; a {text_type} model that sees has one");
            return Err(f.error("vision_config", problem));
        }
    }
    Ok(())
}

/// DeepSeek-VL2: a SigLIP tower, and a projector that merges squares of patches.
fn deepseek_vl2(f: &Fields<'_>, vision: &Fields<'_>, b: &mut Builder, hidden: u64) -> Result<(), ParseError> {
    let own = vision.positive_or("width", WIDTH, 1152)?;
    let side = vision.positive_or("patch_size", FACTOR, 14)?.min(1024);
    let grid = vision.positive_or("image_size", FACTOR, 384)? / side;
    let width = vision.times("mlp_ratio", own)?.unwrap_or(4304);
    let tower = Tower {
        hidden: own,
        width,
        layers: vision.positive_or("layers", crate::model::hf_config::config::fields::LAYERS, 27)?,
        patch: 3 * side * side,
        positions: (grid * grid).min(1 << 20),
        patch_bias: true,
        qkv_bias: true,
        out_bias: true,
        mlp_bias: true,
        norm_bias: true,
        norms: 2,
        outer_norms: 1,
        ..Tower::default()
    };
    tower.build(b, "vision");
    projectors::attention_pool(b, "vision", own, width);
    let projector = f.need_object("projector_config")?;
    let from = projector.positive_or("input_dim", WIDTH, own)?;
    let out = projector.positive_or("n_embed", WIDTH, hidden)?;
    let factor = projector.positive_or("downsample_ratio", FACTOR, 2)?.min(64);
    let inner = out * projector.positive_or("mlp_ratio", FACTOR, 1)?.min(64);
    let depth = projector.positive_or("depth", FACTOR, 2)?.min(64);
    project(b, "projector.layers.0", (inner, from * factor * factor), true);
    for layer in 1..depth {
        let rows = if layer + 1 == depth { out } else { inner };
        project(b, &format!("projector.layers.{}", 2 * layer), (rows, inner), true);
    }
    b.vector("image_newline", out);
    b.vector("view_seperator", out);
    Ok(())
}

/// The tower and projector of a family that describes its tower.
#[allow(clippy::too_many_lines)] // one arm per family
fn tower(
    model_type: &str,
    f: &Fields<'_>,
    vision: &Fields<'_>,
    b: &mut Builder,
    hidden: u64,
) -> Result<(), ParseError> {
    let mut tower = Tower::usual(vision)?;
    let own = tower.hidden;
    match model_type {
        "qwen2_vl" | "qwen2_5_vl" | "exaone4_5" => {
            return qwen::qwen2(vision, b, hidden, model_type != "qwen2_vl");
        }
        "qwen3_vl" | "qwen3_vl_moe" | "qwen3_5" | "qwen3_5_moe" => {
            return qwen::qwen3(vision, b, hidden);
        }
        "internvl_chat" | "internvl" => {
            tower.positions += 1;
            tower.class = true;
            let bias = if model_type == "internvl" { "attention_bias" } else { "qkv_bias" };
            tower.qkv_bias = vision.flag_or(bias, model_type != "internvl")?;
            tower.norm_bias = vision.text("norm_type")? != Some("rms_norm");
            if vision.flag_or("qk_normalization", false)? || vision.flag_or("use_qk_norm", false)? {
                tower.qk_norm = own;
            }
            tower.build(b, "vision_model");
            // Two scales of each block's residuals.
            for layer in 0..tower.layers {
                b.vector(&format!("vision_model.encoder.layers.{layer}.ls1"), own);
                b.vector(&format!("vision_model.encoder.layers.{layer}.ls2"), own);
            }
            b.norm("mlp1.0", 4 * own, true);
            project(b, "mlp1.1", (hidden, 4 * own), true);
            project(b, "mlp1.3", (hidden, hidden), true);
        }
        "gemma3" => {
            projectors::typed(vision, b, "vision_tower.vision_model")?;
            project(b, "multi_modal_projector.mm_input_projection", (own, hidden), false);
            b.norm("multi_modal_projector.mm_soft_emb_norm", own, false);
        }
        "mistral3" | "ministral3" => {
            let merge = f.positive_or("spatial_merge_size", FACTOR, 2)?.min(64);
            projectors::typed(vision, b, "vision_tower")?;
            b.norm("multi_modal_projector.norm", own, false);
            project(b, "multi_modal_projector.patch_merger.merging_layer", (own, own * merge * merge), false);
            let bias = f.flag_or("multimodal_projector_bias", false)?;
            project(b, "multi_modal_projector.linear_1", (hidden, own), bias);
            project(b, "multi_modal_projector.linear_2", (hidden, hidden), bias);
        }
        "llama4" => {
            tower = Tower {
                positions: tower.positions + 1,
                class: true,
                patch_bias: false,
                outer_norms: 2,
                ..tower
            };
            let projected = vision.positive_or("projector_output_dim", WIDTH, 4096)?;
            let out = vision.positive_or("vision_output_dim", WIDTH, projected)?;
            llama4(b, &tower, hidden, (projected, out));
        }
        "minicpmv" => {
            tower.outer_norms = 1;
            tower.build(b, "vpm");
            minicpm_resampler(f, b, hidden, own)?;
        }
        "glm4v" | "glm4v_moe" | "glm46v" => glm4v(vision, b, &tower, hidden)?,
        "glm_ocr" => glm_ocr(vision, b, &tower, hidden)?,
        "step3p7" => step(vision, b, tower, hidden)?,
        "kimi_vl" | "kimi_k25" | "kimi_k3" => moon_vit(vision, b, tower, hidden)?,
        "lfm2_vl" => {
            projectors::typed(vision, b, "model.vision_tower.vision_model")?;
            let factor = f.positive_or("downsample_factor", FACTOR, 2)?.min(64);
            let width = f.positive_or("projector_hidden_size", WIDTH, hidden)?;
            let bias = f.flag_or("projector_bias", true)?;
            let merged = own * factor * factor;
            if f.flag_or("projector_use_layernorm", true)? {
                b.norm("model.multi_modal_projector.layer_norm", merged, true);
            }
            project(b, "model.multi_modal_projector.linear_1", (width, merged), bias);
            project(b, "model.multi_modal_projector.linear_2", (hidden, width), bias);
        }
        _ => gemma4(f, vision, b, tower, hidden)?,
    }
    Ok(())
}

/// Gemma 3n: a MobileNet-V5 tower, which its config only names, and an audio tower. Their parameters are those that
/// transformers makes, and come with the text model to the published 7,849,978,192 of E4B.
fn gemma3n(f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let hidden = b.shape.hidden_size;
    let towers = [
        ("vision", 294_126_912, 2048, f.object("vision_config")?),
        ("audio", 681_348_640, 1536, f.object("audio_config")?),
    ];
    for (kind, parameters, default, config) in towers {
        let Some(config) = config else { continue };
        let own = config.positive_or("hidden_size", WIDTH, default)?;
        let marks =
            config.positive_or("vocab_size", crate::model::hf_config::config::fields::VOCABULARY, 128)?;
        b.matrices(&format!("model.{kind}_tower"), Role::Vision, 1, parameters, 1, Split::Replicated);
        project(b, &format!("model.embed_{kind}.embedding"), (marks, own), false);
        project(b, &format!("model.embed_{kind}.embedding_projection"), (hidden, own), false);
        b.norm(&format!("model.embed_{kind}.hard_embedding_norm"), own, false);
        b.norm(&format!("model.embed_{kind}.soft_embedding_norm"), own, false);
    }
    Ok(())
}

/// GLM-OCR's tower: GLM-4V's without positions, with biases and norms of queries and keys.
fn glm_ocr(f: &Fields<'_>, b: &mut Builder, tower: &Tower, hidden: u64) -> Result<(), ParseError> {
    let own = tower.hidden;
    let out = f.positive_or("out_hidden_size", WIDTH, hidden)?;
    let merge = f.positive_or("spatial_merge_size", FACTOR, 2)?.min(64);
    let bias = f.flag_or("attention_bias", true)?;
    let heads = tower_heads(f, 16)?;
    let inner = out * f.any(&["in_channels", "num_channels"], FACTOR)?.unwrap_or(3).min(64);
    let tower = Tower {
        positions: 0,
        gated: true,
        outer_norms: 1,
        qk_norm: own / heads,
        qkv_bias: bias,
        out_bias: bias,
        norm_bias: false,
        ..*tower
    };
    tower.build(b, "model.visual");
    glm_merger(b, out, (out, own * merge * merge), inner);
    Ok(())
}

/// GLM's way from merged patches to the text model.
fn glm_merger(b: &mut Builder, out: u64, downsample: (u64, u64), inner: u64) {
    project(b, "model.visual.downsample", downsample, true);
    project(b, "model.visual.merger.proj", (out, out), false);
    b.norm("model.visual.merger.post_projection_norm", out, true);
    project(b, "model.visual.merger.gate_proj", (inner, out), false);
    project(b, "model.visual.merger.up_proj", (inner, out), false);
    project(b, "model.visual.merger.down_proj", (out, inner), false);
}

/// Step-3.7's tower: scaled residuals, and two convolutions that halve the sides.
fn step(f: &Fields<'_>, b: &mut Builder, tower: Tower, hidden: u64) -> Result<(), ParseError> {
    let own = tower.hidden;
    let positions = f.positive_or("max_position_embeddings", WIDTH, tower.positions.max(1))?;
    let width = f.times("mlp_ratio", own)?.filter(|_| !f.has("intermediate_size")).unwrap_or(tower.width);
    let tower = Tower { positions, width, patch_bias: false, outer_norms: 1, ..tower };
    tower.build(b, "vision_model");
    for layer in 0..tower.layers {
        b.vector(&format!("vision_model.layers.{layer}.ls_1"), own);
        b.vector(&format!("vision_model.layers.{layer}.ls_2"), own);
    }
    project(b, "vision_model.downsampler1", (2 * own, 9 * own), true);
    project(b, "vision_model.downsampler2", (4 * own, 18 * own), true);
    project(b, "vit_large_projector", (hidden, 4 * own), false);
    Ok(())
}

/// The tower of Kimi-VL, K2.5 and K3.
fn moon_vit(f: &Fields<'_>, b: &mut Builder, tower: Tower, hidden: u64) -> Result<(), ParseError> {
    let own = tower.hidden;
    let height = f.positive_or("init_pos_emb_height", FACTOR, 64)?;
    let width = f.positive_or("init_pos_emb_width", FACTOR, 64)?;
    let bias = f.flag_or("linear_bias", true)?;
    let tower = Tower {
        positions: (height * width).min(1 << 20),
        attention: f.or("qkv_hidden_size", WIDTH, 0)?,
        patch_bias: f.flag_or("patch_embed_proj_bias", true)?,
        qkv_bias: f.flag_or("attn_bias", true)?,
        out_bias: bias,
        mlp_bias: bias,
        norm_bias: f.text("norm_type")? != Some("rmsnorm"),
        outer_norms: 1,
        ..tower
    };
    tower.build(b, "vision_tower");
    let merged = 4 * own;
    b.norm("mm_projector.pre_norm", own, true);
    project(b, "mm_projector.proj.0", (merged, merged), true);
    project(b, "mm_projector.proj.2", (hidden, merged), true);
    Ok(())
}

/// The tower of GLM-4.1V and GLM-4.5V.
fn glm4v(f: &Fields<'_>, b: &mut Builder, tower: &Tower, hidden: u64) -> Result<(), ParseError> {
    let own = tower.hidden;
    let out = f.positive_or("out_hidden_size", WIDTH, hidden)?;
    let merge = f.positive_or("spatial_merge_size", FACTOR, 2)?.min(64);
    let inner = f.need(&["intermediate_size"], WIDTH)?;
    // The blocks' hidden layers have the text model's width; `intermediate_size` is the merger's.
    let tower = Tower { width: out, gated: true, outer_norms: 2, patch_bias: true, ..tower.without_biases() };
    tower.build(b, "model.visual");
    glm_merger(b, out, (out, own * merge * merge), inner);
    Ok(())
}

/// From SigLIP's patches to a fixed number of queries.
fn minicpm_resampler(f: &Fields<'_>, b: &mut Builder, hidden: u64, own: u64) -> Result<(), ParseError> {
    let queries = f.positive_or("query_num", WIDTH, 64)?;
    project(b, "resampler.query", (queries, hidden), false);
    project(b, "resampler.kv_proj", (hidden, own), false);
    project(b, "resampler.attn.in_proj", (3 * hidden, hidden), true);
    project(b, "resampler.attn.out_proj", (hidden, hidden), true);
    project(b, "resampler.proj", (hidden, hidden), false);
    for norm in ["resampler.ln_q", "resampler.ln_kv", "resampler.ln_post"] {
        b.norm(norm, hidden, true);
    }
    Ok(())
}

/// Llama 4's tower.
fn llama4(b: &mut Builder, tower: &Tower, hidden: u64, (projected, out): (u64, u64)) {
    tower.build(b, "vision_model");
    // Four patches become one, and its features are projected twice.
    project(b, "vision_model.vision_adapter.mlp.fc1", (projected, tower.width), false);
    project(b, "vision_model.vision_adapter.mlp.fc2", (projected, projected), false);
    project(b, "multi_modal_projector.linear_1", (hidden, out), false);
}

/// Llama 4's tower where the config does not describe it: transformers' defaults.
fn llama4_default(b: &mut Builder, hidden: u64) {
    let tower = Tower { hidden: 1408, width: 5632, layers: 34, ..Tower::clip_large() };
    llama4(b, &tower, hidden, (4096, 4096));
}

/// Phi-3-vision: CLIP, and a projector of four merged patches.
fn phi3_vision(b: &mut Builder, hidden: u64) {
    Tower::clip_large().build(b, "model.vision_embed_tokens.img_processor.vision_model");
    let name = |part: &str| format!("model.vision_embed_tokens.{part}");
    b.vector(&name("glb_GN"), 4096);
    b.vector(&name("sub_GN"), 4096);
    project(b, &name("img_projection.0"), (hidden, 4096), true);
    project(b, &name("img_projection.2"), (hidden, hidden), true);
}

/// Molmo: CLIP without its last block, pooled by attention over four patches of two layers.
fn molmo(f: &Fields<'_>, b: &mut Builder, hidden: u64) -> Result<(), ParseError> {
    let width = f.need(&["intermediate_size"], WIDTH)? / 2;
    b.embedding("model.transformer.wte.new_embedding", 128, hidden, Split::Replicated);
    let tower = Tower { layers: 23, outer_norms: 1, ..Tower::clip_large() };
    tower.build(b, "model.vision_backbone.image_vit");
    for part in ["wq", "wk", "wv"] {
        project(b, &format!("model.vision_backbone.image_pooling_2d.{part}"), (1024, 2048), true);
    }
    project(b, "model.vision_backbone.image_pooling_2d.wo", (1024, 1024), true);
    project(b, "model.vision_backbone.image_projector.w1", (width, 1024), false);
    project(b, "model.vision_backbone.image_projector.w3", (width, 1024), false);
    project(b, "model.vision_backbone.image_projector.w2", (hidden, width), false);
    b.vector("model.vision_backbone.pad_embed", 2048);
    Ok(())
}

/// Gemma 4's vision tower, and the audio tower of its small sizes.
fn gemma4(
    f: &Fields<'_>,
    vision: &Fields<'_>,
    b: &mut Builder,
    tower: Tower,
    hidden: u64,
) -> Result<(), ParseError> {
    let own = tower.hidden;
    let heads = tower_heads(vision, 16)?;
    let dim = vision.positive_or("head_dim", WIDTH, own / heads.max(1))?;
    let tower = Tower {
        attention: heads * dim,
        // One table for rows and one for columns.
        positions: 2 * vision.or("position_embedding_size", WIDTH, 10_240)?,
        gated: true,
        norms: 4,
        qk_norm: dim,
        ..tower.without_biases()
    };
    tower.build(b, "model.vision_tower");
    project(b, "model.embed_vision.embedding_projection", (hidden, own), false);
    let Some(audio) = f.object("audio_config")? else { return Ok(()) };
    let width = audio.need(&["hidden_size"], WIDTH)?;
    let layers = audio.need(&["num_hidden_layers"], crate::model::hf_config::config::fields::LAYERS)?;
    let kernel = audio.positive_or("conv_kernel_size", FACTOR, 5)?;
    let out = audio.positive_or("output_proj_dims", WIDTH, hidden)?;
    for layer in 0..layers {
        b.begin_block(format!("model.audio_tower.layers.{layer}."));
        let vision = Role::Vision;
        for part in ["feed_forward1", "feed_forward2"] {
            b.linear(&format!("{part}.ffw_layer_1"), vision, (4 * width, width), Split::Replicated, false);
            b.linear(&format!("{part}.ffw_layer_2"), vision, (width, 4 * width), Split::Replicated, false);
        }
        for part in ["q_proj", "k_proj", "v_proj", "post", "relative_k_proj"] {
            b.linear(&format!("self_attn.{part}"), vision, (width, width), Split::Replicated, false);
        }
        b.linear("lconv1d.linear_start", vision, (2 * width, width), Split::Replicated, false);
        b.linear("lconv1d.depthwise_conv1d", vision, (width, kernel), Split::Replicated, false);
        b.linear("lconv1d.linear_end", vision, (width, width), Split::Replicated, false);
    }
    b.end_layers();
    project(b, "model.audio_tower.subsample_conv_projection.input_proj_linear", (width, width), false);
    project(b, "model.audio_tower.output_proj", (out, width), true);
    project(b, "model.embed_audio.embedding_projection", (hidden, out), false);
    b.described("The audio tower");
    Ok(())
}
