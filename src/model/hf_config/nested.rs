//! The text model inside a larger one, and what its config leaves unsaid.

use serde_json::{Map, Value};

use super::builder::Builder;
use super::fields::{Fields, WIDTH};
use super::mllama;
use crate::model::ParseError;

/// Where a config keeps its text model.
pub(super) const TEXT_KEYS: [&str; 3] = ["text_config", "llm_config", "language_config"];

/// The text model, and its `model_type`.
pub(super) fn text(model_type: &str, f: &Fields<'_>, b: &mut Builder) -> Result<String, ParseError> {
    let Some(key) = TEXT_KEYS.iter().find(|key| f.has(key)) else {
        // Older configs keep the text model's fields beside the tower's.
        let own = match model_type {
            "qwen2_vl" | "qwen2_5_vl" | "minicpmv" => "qwen2",
            "glm4v" => "glm4",
            "phi3_v" => "phi3",
            "llava" => "llama",
            "molmo" => "molmo",
            _ => return Err(f.error("text_config", "is missing; write an object")),
        };
        super::text(if own == "molmo" { "qwen2" } else { own }, &flat(own, f)?.fields(), b)?;
        return Ok(own.to_owned());
    };
    let nested = f.need_object(key)?;
    let own = nested.text("model_type")?.unwrap_or(match model_type {
        "gemma3" => "gemma3_text",
        "qwen2_vl" | "qwen2_5_vl" => "qwen2",
        "llava" | "llava_next" => "llama",
        "mistral3" => "mistral",
        "kimi_vl" => "deepseek_v3",
        _ => "",
    });
    let own = super::without_suffix(own);
    let mut owned = nested.owned();
    for (field, value) in defaults(own) {
        owned.insert_missing(field, Value::from(*value));
    }
    if let Some(tied) = f.flag("tie_word_embeddings")? {
        owned.insert_missing("tie_word_embeddings", Value::Bool(tied));
    }
    if own == "mllama_text_model" {
        mllama::text(&owned.fields(), b)?;
    } else {
        super::text(own, &owned.fields(), b)?;
    }
    Ok(own.to_owned())
}

/// An object that a config's own fields are completed in.
pub(super) struct Owned {
    map: Map<String, Value>,
    path: String,
}

impl Owned {
    pub(super) fn new(map: Map<String, Value>, path: String) -> Self {
        Self { map, path }
    }

    pub(super) fn insert_missing(&mut self, key: &str, value: Value) {
        if self.map.get(key).is_none_or(Value::is_null) {
            self.map.insert(key.to_owned(), value);
        }
    }

    pub(super) fn fields(&self) -> Fields<'_> {
        Fields::at(&self.map, self.path.clone())
    }
}

/// A flat config, with what its family writes otherwise.
fn flat(own: &str, f: &Fields<'_>) -> Result<Owned, ParseError> {
    let mut owned = f.owned();
    match own {
        "glm4" => owned.insert_missing("attention_bias", Value::Bool(true)),
        "molmo" => {
            // The written width is that of gate and up projection together.
            let width = f.need(&["intermediate_size"], WIDTH)?;
            owned.map.insert("intermediate_size".to_owned(), Value::from(width / 2));
            if let Some(tied) = f.flag("weight_tying")? {
                owned.insert_missing("tie_word_embeddings", Value::Bool(tied));
            }
        }
        _ => {}
    }
    Ok(owned)
}

/// What a nested text config that leaves a field out means by it: the defaults of its class in transformers.
fn defaults(model_type: &str) -> &'static [(&'static str, u64)] {
    match model_type {
        "llama" => &[
            ("vocab_size", 32_000),
            ("hidden_size", 4096),
            ("intermediate_size", 11_008),
            ("num_hidden_layers", 32),
            ("num_attention_heads", 32),
            ("max_position_embeddings", 2048),
        ],
        "mistral" => &[
            ("vocab_size", 32_000),
            ("hidden_size", 4096),
            ("intermediate_size", 14_336),
            ("num_hidden_layers", 32),
            ("num_attention_heads", 32),
            ("num_key_value_heads", 8),
            ("max_position_embeddings", 131_072),
        ],
        "qwen2" => &[
            ("vocab_size", 151_936),
            ("hidden_size", 4096),
            ("intermediate_size", 22_016),
            ("num_hidden_layers", 32),
            ("num_attention_heads", 32),
            ("max_position_embeddings", 32_768),
        ],
        "gemma3_text" => &[
            ("vocab_size", 262_208),
            ("hidden_size", 2304),
            ("intermediate_size", 9216),
            ("num_hidden_layers", 26),
            ("num_attention_heads", 8),
            ("num_key_value_heads", 4),
            ("head_dim", 256),
            ("sliding_window", 4096),
            ("max_position_embeddings", 131_072),
        ],
        _ => &[],
    }
}
