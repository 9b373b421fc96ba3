//! The text model inside a larger one, and what its config leaves unsaid.

use serde_json::Value;

use crate::model::hf_config::builder::Builder;
use crate::model::hf_config::config::defaults;
use crate::model::hf_config::config::fields::{Fields, Owned, WIDTH};
use crate::model::{ParseError, Split};

/// Where a config keeps its text model.
pub(crate) const TEXT_KEYS: [&str; 3] = ["text_config", "llm_config", "language_config"];

/// The text model, and its `model_type`.
pub(crate) fn text(model_type: &str, f: &Fields<'_>, b: &mut Builder) -> Result<String, ParseError> {
    let Some(key) = TEXT_KEYS.iter().find(|key| f.has(key)) else {
        // Older configs keep the text model's fields beside the tower's.
        let own = match model_type {
            "qwen2_vl" | "qwen2_5_vl" | "minicpmv" => "qwen2",
            "glm4v" | "glm46v" => "glm4",
            "phi3_v" | "phi4mm" | "phi4_multimodal" => "phi3",
            "llava" => "llama",
            "fuyu" => "persimmon",
            "ernie4_5_vl_moe" => "ernie4_5_vl_moe_text",
            "molmo" => "molmo",
            _ => return Err(f.error("text_config", "is missing; write an object")),
        };
        crate::model::hf_config::text(
            if own == "molmo" { "qwen2" } else { own },
            &flat(own, f)?.fields(),
            b,
        )?;
        return Ok(own.to_owned());
    };
    let nested = f.need_object(key)?;
    let written = nested.text("model_type")?;
    let class = written.or(defaults::nested_type(model_type, key)).unwrap_or(match model_type {
        "kimi_vl" => "deepseek_v3",
        "deepseek_vl_v2" => "deepseek_v2",
        _ => "",
    });
    if class.is_empty() {
        return Err(nested.error("model_type", "is missing; write the text model's type, such as \"llama\""));
    }
    let own = crate::model::hf_config::without_suffix(class);
    let mut owned = nested.owned();
    if let Some(tied) = f.flag("tie_word_embeddings")? {
        owned.insert_missing("tie_word_embeddings", Value::Bool(tied));
    }
    if class.starts_with("glm4") && class.ends_with("v_text") {
        // Its class has them whatever the config says.
        owned.insert_absent("attention_bias", &Value::Bool(true));
    }
    defaults::complete(&mut owned, class);
    crate::model::hf_config::text(own, &owned.fields(), b)?;
    if class == "molmo2_text" {
        let rows = owned.number("additional_vocab_size").unwrap_or(128).min(1 << 20);
        b.end_layers();
        b.embedding("model.embed_tokens.new_embedding", rows, b.shape.hidden_size, Split::Replicated);
    }
    Ok(own.to_owned())
}

/// A flat config, with what its family writes otherwise.
fn flat(own: &str, f: &Fields<'_>) -> Result<Owned, ParseError> {
    let mut owned = f.owned();
    match own {
        "glm4" => owned.insert_missing("attention_bias", Value::Bool(true)),
        "molmo" => {
            // The written width is that of gate and up projection together.
            let width = f.need(&["intermediate_size"], WIDTH)?;
            owned.insert("intermediate_size", Value::from(width / 2));
            if let Some(tied) = f.flag("weight_tying")? {
                owned.insert_missing("tie_word_embeddings", Value::Bool(tied));
            }
        }
        _ => {}
    }
    Ok(owned)
}
