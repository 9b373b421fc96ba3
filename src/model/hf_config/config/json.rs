//! JSON as it is found in model repositories, read with limits: size, depth, no duplicate keys.

use std::fmt;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::model::ParseError;
use crate::model::content::{Content, not_it};
use crate::units::shorten;

/// The largest file that is read; real ones are below 200 KiB.
pub(crate) const MAX_BYTES: usize = 4 << 20;
/// The deepest nesting that is read; real ones stay below 8.
const MAX_DEPTH: usize = 64;
/// The most values that are read: those of a classifier of 22,000 classes, which has two tables of them, are some 44,000.
const MAX_VALUES: usize = 100_000;

/// The JSON object in `bytes`; `what` is what to call it in messages.
pub(crate) fn object(bytes: &[u8], what: &'static str) -> Result<Map<String, Value>, ParseError> {
    if bytes.len() > MAX_BYTES {
        return Err(ParseError::TooLarge {
            what,
            problem: format!("{} bytes; a {what} has at most {MAX_BYTES}", bytes.len()),
        });
    }
    let malformed = |problem: String| ParseError::Malformed { what, problem };
    let content = Content::of("", bytes);
    if content.remedy().is_some() {
        return Err(malformed(not_it(content, &format!("a {what}"))));
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|error| malformed(format!("is not UTF-8 text at byte {}", error.valid_up_to())))?;
    let (deepest, values) = extent(text);
    // The limit of serde_json is deeper than ours, and its message does not say what would be right.
    if deepest > MAX_DEPTH {
        return Err(ParseError::TooLarge {
            what,
            problem: format!("is nested more than {MAX_DEPTH} levels deep; real ones stay below 8"),
        });
    }
    if values > MAX_VALUES {
        return Err(ParseError::TooLarge {
            what,
            problem: format!("has some {values} values; at most {MAX_VALUES} are read"),
        });
    }
    let text = quote_non_numbers(text);
    let value = match serde_json::from_str::<Unique>(&text) {
        Ok(Unique(value)) => value,
        Err(error) => return Err(malformed(shorten_message(&error.to_string()))),
    };
    match value {
        Value::Object(map) => Ok(map),
        other => Err(malformed(format!("holds {}, not a JSON object", kind(&other)))),
    }
}

/// What a value is, in words.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The message of `serde_json` with its position kept: it may quote the input.
fn shorten_message(message: &str) -> String {
    match message.rsplit_once(" at line ") {
        Some((problem, position)) => format!("{} at line {position}", shorten(problem)),
        None => shorten(message),
    }
}

/// The deepest level of brackets outside strings, and how many values there are at most.
fn extent(text: &str) -> (usize, usize) {
    let (mut depth, mut most, mut values, mut quoted, mut escaped) = (0_usize, 0, 1_usize, false, false);
    for byte in text.bytes() {
        if quoted {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => quoted = false,
                _ => {}
            }
        } else {
            match byte {
                b'"' => quoted = true,
                b',' => values += 1,
                b'{' | b'[' => {
                    values += 1;
                    depth += 1;
                    most = most.max(depth);
                }
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
    }
    (most, values)
}

/// Python writes `NaN`, `Infinity` and `-Infinity`, which JSON does not have, and published configs have them in fields
/// that do not concern memory. As strings they are refused only where a number is needed, with the field's name.
fn quote_non_numbers(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut quoted, mut escaped) = (false, false);
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        if quoted {
            match next {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => quoted = false,
                _ => {}
            }
        } else if let Some(word) = ["NaN", "Infinity", "-Infinity"].into_iter().find(|w| rest.starts_with(w))
        {
            out.push('"');
            out.push_str(word);
            out.push('"');
            rest = rest.get(word.len()..).unwrap_or_default();
            continue;
        } else if next == '"' {
            quoted = true;
        }
        out.push(next);
        rest = rest.get(next.len_utf8()..).unwrap_or_default();
    }
    out
}

/// A value in whose objects no key occurs twice: which one counts would depend on the reader.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        UniqueSeed.deserialize(deserializer).map(Self)
    }
}

#[derive(Clone, Copy)]
struct UniqueSeed;

impl<'de> DeserializeSeed<'de> for UniqueSeed {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for UniqueSeed {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(self)?;
            if map.contains_key(&key) {
                return Err(de::Error::custom(format!("{} occurs twice; keep one of them", shorten(&key))));
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}
