//! The content of a ConfigMap's key, or of a file without a telling name: what it is, is seen from what it holds.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::bounded::{Text, not_text};
use crate::model::content::{Content, not_it};
use crate::model::{ModelShape, ParseError, catalog, gguf, hf_config, safetensors};

/// The longest text that is taken for a catalog's name.
const MAX_NAME: usize = 200;

/// Reads it; `what` is what to call it in messages.
///
/// # Errors
/// If it is none of the formats, or a wrong one.
pub(super) fn read(bytes: &[u8], what: &'static str, name: &str) -> Result<ModelShape, ParseError> {
    let malformed = |problem: &str| ParseError::Malformed { what, problem: problem.to_owned() };
    if bytes.starts_with(b"GGUF") {
        return gguf::shape(&[gguf::parse_whole(bytes)?], name);
    }
    let content = Content::of("", bytes);
    // The header of a safetensors file: its length, then its JSON.
    if bytes.get(8) == Some(&b'{') && bytes.first() != Some(&b'{') {
        return safetensors::shape(&[safetensors::parse_header(bytes)?], None, name);
    }
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim();
    if !text.starts_with('{') {
        return match (text.len() <= MAX_NAME).then(|| catalog::shape(text)).flatten() {
            Some(shape) => Ok(shape),
            None if content != Content::Empty && content.remedy().is_some() => {
                Err(malformed(&not_it(content, "a description of a model")))
            }
            None => Err(malformed(
                "it is neither a config.json, nor a safetensors or GGUF header, nor the name of a model of the catalog",
            )),
        };
    }
    let telling = match Telling::of(text) {
        Ok(telling) => telling,
        // A config may have Python's NaN in it, which its own parser knows.
        Err(error) => {
            return hf_config::parse(bytes, name).map_err(|_| malformed(&format!("it is not JSON: {error}")));
        }
    };
    if telling.weight_map {
        return Err(malformed(
            "it is a safetensors index, which names tensors without their sizes; give the config.json, or the JSON of the headers",
        ));
    }
    if telling.is_config {
        return hf_config::parse(bytes, name);
    }
    if telling.has_config {
        return hf_config::parse_nested(bytes, name);
    }
    if telling.has_tensors {
        return safetensors::shape(&[safetensors::parse_header_json(bytes)?], None, name);
    }
    // The config's own parser says what is missing.
    hf_config::parse(bytes, name)
}

/// Only what tells the formats apart; their own parsers do the rest.
#[derive(Clone, Copy, Default)]
// Each is a fact of its own.
#[allow(clippy::struct_excessive_bools)]
struct Telling {
    /// It is an index.
    weight_map: bool,
    /// It is a config.
    is_config: bool,
    /// There is a config in it, as in an entry of the catalog.
    has_config: bool,
    /// A field is a tensor of a safetensors header.
    has_tensors: bool,
}

impl Telling {
    fn of(json: &str) -> Result<Self, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let telling = Root.deserialize(&mut deserializer)?;
        deserializer.end().map(|()| telling)
    }
}

struct Root;

impl<'de> DeserializeSeed<'de> for Root {
    type Value = Telling;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Telling, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Root {
    type Value = Telling;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Telling, E> {
        not_text(text, "an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Telling, A::Error> {
        let mut telling = Telling::default();
        let no_field = Telling::default();
        let field = |key: &str| match key {
            "weight_map" => Telling { weight_map: true, ..no_field },
            "model_type" | "architectures" => Telling { is_config: true, ..no_field },
            "config" => Telling { has_config: true, ..no_field },
            _ => no_field,
        };
        while let Some(field) = map.next_key_seed(Text { most: usize::MAX, read: field })? {
            let kind = map.next_value_seed(Kind)?;
            telling.weight_map |= field.weight_map && kind != Seen::Null;
            telling.is_config |= field.is_config && kind != Seen::Null;
            telling.has_config |= field.has_config && kind != Seen::Null && kind != Seen::Other;
            telling.has_tensors |= kind == Seen::Tensor;
        }
        Ok(telling)
    }
}

/// What a field's value is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Null,
    Tensor,
    Object,
    Other,
}

struct Kind;

impl<'de> DeserializeSeed<'de> for Kind {
    type Value = Seen;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Seen, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Kind {
    type Value = Seen;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Seen, E> {
        Ok(Seen::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Seen, E> {
        Ok(Seen::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Seen, E> {
        Ok(Seen::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Seen, E> {
        Ok(Seen::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Seen, E> {
        Ok(Seen::Other)
    }

    fn visit_str<E>(self, _: &str) -> Result<Seen, E> {
        Ok(Seen::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Seen, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Seen::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Seen, A::Error> {
        let mut seen = Seen::Object;
        let is_offsets = |key: &str| key == "data_offsets";
        while let Some(is_offsets) = map.next_key_seed(Text { most: usize::MAX, read: is_offsets })? {
            if is_offsets {
                seen = Seen::Tensor;
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(seen)
    }
}
