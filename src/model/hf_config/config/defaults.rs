//! What a field that a config leaves out means: the default of its class in Hugging Face transformers (5.24).
//!
//! transformers writes of a nested config only what differs from its class, so a field that is not there has a value all the same.
//! `class_defaults.json` has those that decide memory, by `model_type`.

use std::sync::OnceLock;

use serde_json::{Map, Value};

use crate::model::hf_config::config::fields::Owned;

/// The fields that a model's own config may leave out too. The measures of a model are never guessed: a config without
/// them is refused.
const SECONDARY: &[&str] = &[
    "head_dim",
    "global_head_dim",
    "tie_word_embeddings",
    "attention_bias",
    "mlp_bias",
    "use_qk_norm",
    "q_lora_rank",
    "qk_nope_head_dim",
    "qk_rope_head_dim",
    "v_head_dim",
    "n_shared_experts",
    "num_shared_experts",
    "relative_attention_num_buckets",
    "type_vocab_size",
];

fn all() -> &'static Map<String, Value> {
    static ALL: OnceLock<Map<String, Value>> = OnceLock::new();
    // A test holds the file to be an object of objects; were it not, nothing would have a default.
    ALL.get_or_init(|| serde_json::from_str(include_str!("class_defaults.json")).unwrap_or_default())
}

/// The defaults of a class, by its `model_type`.
fn of(model_type: &str) -> Option<&'static Map<String, Value>> {
    all().get(model_type).and_then(Value::as_object)
}

/// Every `model_type` that has defaults.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    all().keys().map(String::as_str)
}

/// The `model_type` of what a class nests under `key` (`text_config`, `vision_config`), where the config does not say.
pub(crate) fn nested_type(model_type: &str, key: &str) -> Option<&'static str> {
    of(model_type)?.get(key).and_then(Value::as_str)
}

/// Completes a nested config with all the defaults of its class. A field that is null is not left out: it is none.
pub(crate) fn complete(owned: &mut Owned, model_type: &str) {
    for (key, value) in of(model_type).into_iter().flatten().filter(|(key, _)| !key.ends_with("_config")) {
        owned.insert_absent(key, value);
    }
}

/// Completes a model's own config with those of its class that are no measures. Returns how many key-value heads it was given.
pub(crate) fn complete_secondary(owned: &mut Owned, model_type: &str) -> Option<u64> {
    let defaults = of(model_type)?;
    for key in SECONDARY {
        if let Some(value) = defaults.get(*key) {
            owned.insert_absent(key, value);
        }
    }
    let heads = owned.number("num_attention_heads")?;
    let kv_heads = defaults.get("num_key_value_heads").and_then(Value::as_u64)?;
    // Not where it cannot be meant.
    let fits = kv_heads > 0 && kv_heads < heads && heads.is_multiple_of(kv_heads);
    (fits && owned.insert_absent("num_key_value_heads", &Value::from(kv_heads))).then_some(kv_heads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_an_object_of_objects() {
        let text = include_str!("class_defaults.json");
        let read: Map<String, Value> = serde_json::from_str(text).expect("JSON");
        assert!(read.len() > 100 && read.values().all(Value::is_object), "{} classes", read.len());
        assert_eq!(of("llama").and_then(|llama| llama.get("hidden_size")), Some(&Value::from(4096)));
        assert_eq!(nested_type("llava", "vision_config"), Some("clip_vision_model"));
        assert_eq!(nested_type("gemma3", "text_config"), Some("gemma3_text"));
    }
}
