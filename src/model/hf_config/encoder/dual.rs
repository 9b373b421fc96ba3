//! CLIP and SigLIP: a tower for text and one for images, whose embeddings are compared.

use crate::model::hf_config::builder::Builder;
use crate::model::hf_config::config::defaults;
use crate::model::hf_config::config::fields::{Fields, HEADS, LAYERS, Owned, VOCABULARY, WIDTH};
use crate::model::hf_config::tower::projectors::typed;
use crate::model::hf_config::tower::transformer::project;
use crate::model::{ParseError, Role, Split};

/// The `model_type`s that are read here.
pub(crate) const TYPES: &[&str] = &["clip", "siglip"];

/// One of the two towers' configs, completed with the defaults of its class.
fn completed(model_type: &str, f: &Fields<'_>, key: &str) -> Result<Owned, ParseError> {
    let nested = f.need_object(key)?;
    let mut owned = nested.owned();
    let class = defaults::nested_type(model_type, key).unwrap_or_default();
    owned.insert_absent("model_type", &serde_json::Value::from(class));
    defaults::complete(&mut owned, class);
    Ok(owned)
}

/// Both towers of a CLIP or SigLIP config, neither of which keeps a cache.
pub(crate) fn build(model_type: &str, f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let text = completed(model_type, f, "text_config")?;
    let text = text.fields();
    let hidden = text.need(&["hidden_size"], WIDTH)?;
    let heads = text.need(&["num_attention_heads"], HEADS)?;
    let width = text.need(&["intermediate_size"], WIDTH)?;
    let siglip = model_type == "siglip";
    let vocabulary = text.positive_or("vocab_size", VOCABULARY, if siglip { 32_000 } else { 49_408 })?;
    let positions = text.positive_or("max_position_embeddings", WIDTH, if siglip { 64 } else { 77 })?;
    b.shape.hidden_size = hidden;
    b.shape.intermediate_size = width;
    b.shape.vocabulary = vocabulary;
    b.shape.max_context = Some(positions);
    b.shape.tied_embeddings = true;
    b.widest_attention(heads, (hidden / heads).max(1));
    b.end_layers();
    b.embedding("text_model.embeddings.token_embedding.weight", vocabulary, hidden, Split::Vocabulary);
    b.embedding("text_model.embeddings.position_embedding.weight", positions, hidden, Split::Replicated);
    for layer in 0..text.need(&["num_hidden_layers"], LAYERS)? {
        b.begin_layer(format!("text_model.encoder.layers.{layer}."), layer);
        for part in ["q_proj", "k_proj", "v_proj"] {
            let name = format!("self_attn.{part}");
            b.linear(&name, Role::Attention, (hidden, hidden), Split::Rows, true);
        }
        b.linear("self_attn.out_proj", Role::Attention, (hidden, hidden), Split::Columns, true);
        b.norm("layer_norm1", hidden, true);
        b.linear("mlp.fc1", Role::Mlp, (width, hidden), Split::Rows, true);
        b.linear("mlp.fc2", Role::Mlp, (hidden, width), Split::Columns, true);
        b.norm("layer_norm2", hidden, true);
    }
    b.end_layers();
    b.norm("text_model.final_layer_norm", hidden, true);
    let vision = completed(model_type, f, "vision_config")?;
    let tower = typed(&vision.fields(), b, "vision_model")?;
    b.vector("logit_scale", 1);
    if siglip {
        let out = text.positive_or("projection_size", WIDTH, hidden)?;
        b.vector("logit_bias", 1);
        project(b, "text_model.head", (out, hidden), true);
    } else {
        let out = f.positive_or("projection_dim", WIDTH, 512)?;
        project(b, "visual_projection", (out, tower.hidden), false);
        project(b, "text_projection", (out, hidden), false);
    }
    Ok(())
}
