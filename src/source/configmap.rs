//! The content of a ConfigMap's key, or of a file without a telling name: what it is, is seen from what it holds.

use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;

use crate::model::{ModelShape, ParseError, catalog, gguf, hf_config, safetensors};

const WHAT: &str = "ConfigMap key";
/// The longest text that is taken for a catalog's name.
const MAX_NAME: usize = 200;

/// Only what tells the formats apart; their own parsers do the rest.
#[derive(Deserialize)]
struct Telling {
    weight_map: Option<IgnoredAny>,
    /// A catalog entry has the config in it.
    config: Option<serde_json::Value>,
    model_type: Option<IgnoredAny>,
    architectures: Option<IgnoredAny>,
    #[serde(flatten)]
    rest: BTreeMap<String, Field>,
}

/// Any field: a tensor of a safetensors header, or another.
#[derive(Deserialize)]
#[serde(untagged)]
enum Field {
    Tensor { data_offsets: [IgnoredAny; 2] },
    Other(IgnoredAny),
}

/// Reads it.
///
/// # Errors
/// If it is none of the formats, or a wrong one.
pub(super) fn read(bytes: &[u8], name: &str) -> Result<ModelShape, ParseError> {
    if bytes.starts_with(b"GGUF") {
        return gguf::shape(&[gguf::parse_whole(bytes)?], name);
    }
    // The header of a safetensors file: its length, then its JSON.
    if bytes.get(8) == Some(&b'{') && bytes.first() != Some(&b'{') {
        return safetensors::shape(&[safetensors::parse_header(bytes)?], None, name);
    }
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim();
    if !text.starts_with('{') {
        return match (text.len() <= MAX_NAME).then(|| catalog::shape(text)).flatten() {
            Some(shape) => Ok(shape),
            None => Err(malformed(
                "it is neither a config.json, nor a safetensors or GGUF header, nor the name of a model of the catalog",
            )),
        };
    }
    let telling: Telling = serde_json::from_str(text).map_err(|error| ParseError::Malformed {
        what: WHAT,
        problem: format!("it is not JSON: {}", crate::units::shorten(&error.to_string())),
    })?;
    if telling.weight_map.is_some() {
        return Err(malformed(
            "it is a safetensors index, which names tensors without their sizes; give the config.json, or the JSON of the headers",
        ));
    }
    if telling.model_type.is_some() || telling.architectures.is_some() {
        return hf_config::parse(bytes, name);
    }
    if let Some(config @ serde_json::Value::Object(_)) = telling.config {
        return hf_config::parse(config.to_string().as_bytes(), name);
    }
    if telling.rest.values().any(|field| matches!(field, Field::Tensor { data_offsets: [_, _] })) {
        return safetensors::shape(&[safetensors::parse_header_json(bytes)?], None, name);
    }
    // The config's own parser says what is missing.
    hf_config::parse(bytes, name)
}

fn malformed(problem: &str) -> ParseError {
    ParseError::Malformed { what: WHAT, problem: problem.to_owned() }
}
