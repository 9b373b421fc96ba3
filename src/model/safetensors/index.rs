//! `model.safetensors.index.json`: which files hold which tensors.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use crate::bounded::{Text, not_text};
use crate::model::ParseError;
use crate::units::shorten;

/// The largest index that is read; the largest real ones are some 10 MiB.
pub const MAX_INDEX: usize = 32 << 20;
/// The most files in one model; the largest real ones have some 200.
pub const MAX_FILES: usize = 4096;
/// The longest name of a file.
const MAX_NAME: usize = 255;
const WHAT: &str = "model.safetensors.index.json";

/// The files of a sharded model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// File names relative to the index, sorted, each once.
    pub files: Vec<String>,
    /// How many tensors the index names.
    pub tensors: usize,
}

impl Index {
    /// Reads an index. `metadata.total_size` is ignored: published values are stale often enough.
    ///
    /// # Errors
    /// If it is not one, or names a file outside its own directory.
    pub fn parse(json: &[u8]) -> Result<Self, ParseError> {
        if json.len() > MAX_INDEX {
            return Err(ParseError::TooLarge {
                what: WHAT,
                problem: format!("it has {} bytes, and at most {MAX_INDEX} are read", json.len()),
            });
        }
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let (files, tensors) = Root
            .deserialize(&mut deserializer)
            .and_then(|map| deserializer.end().map(|()| map))
            .map(|WeightMap { files, tensors }| (files, tensors))
            .map_err(|error| ParseError::Malformed {
                what: WHAT,
                problem: format!("it is not an index: {error}"),
            })?;
        if files.len() > MAX_FILES {
            return Err(ParseError::TooLarge {
                what: WHAT,
                problem: format!("it names more than {MAX_FILES} files"),
            });
        }
        for (file, tensor) in &files {
            if !is_plain_file(file) {
                return Err(ParseError::Field {
                    what: WHAT,
                    field: format!("weight_map[\"{}\"]", shorten(tensor)),
                    problem: format!(
                        "\"{}\" is not a file beside the index; it must be a plain name that ends in .safetensors",
                        shorten(file)
                    ),
                });
            }
        }
        if files.is_empty() {
            return Err(ParseError::Field {
                what: WHAT,
                field: "weight_map".to_owned(),
                problem: "it is empty; it must name the file of each tensor".to_owned(),
            });
        }
        Ok(Self { files: files.into_keys().collect(), tensors })
    }
}

/// The whole index, of which the map counts.
struct Root;

impl<'de> DeserializeSeed<'de> for Root {
    type Value = WeightMap;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<WeightMap, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Root {
    type Value = WeightMap;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a weight_map")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<WeightMap, E> {
        not_text(text, "an object with a weight_map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WeightMap, A::Error> {
        let mut found = None;
        let is_map = |key: &str| key == "weight_map";
        while let Some(is_map) = map.next_key_seed(Text { most: usize::MAX, read: is_map })? {
            if !is_map {
                map.next_value::<IgnoredAny>()?;
            } else if found.replace(map.next_value_seed(Pairs)?).is_some() {
                return Err(A::Error::custom("weight_map is there twice"));
            }
        }
        found.ok_or_else(|| A::Error::custom("it has no weight_map"))
    }
}

/// The files, each with the first tensor in it, and how many tensors there are: the names of all are not needed.
struct WeightMap {
    files: BTreeMap<String, String>,
    tensors: usize,
}

struct Pairs;

impl<'de> DeserializeSeed<'de> for Pairs {
    type Value = WeightMap;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<WeightMap, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Pairs {
    type Value = WeightMap;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of file names")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<WeightMap, E> {
        not_text(text, "an object of file names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WeightMap, A::Error> {
        let mut found = WeightMap { files: BTreeMap::new(), tensors: 0 };
        // A tensor's name is for a message only, which shows the beginning of a long one.
        let beginning = |name: &str| name.get(..name.floor_char_boundary(256)).unwrap_or_default().to_owned();
        while let Some(tensor) = map.next_key_seed(Text { most: usize::MAX, read: beginning })? {
            found.tensors += 1;
            let files = &mut found.files;
            map.next_value_seed(Text {
                most: MAX_NAME,
                read: |file: &str| {
                    // One more than is allowed is enough to say so.
                    if files.len() <= MAX_FILES && !files.contains_key(file) {
                        files.insert(file.to_owned(), tensor);
                    }
                },
            })?;
        }
        Ok(found)
    }
}

/// Whether it is the name of a safetensors file in the same directory or below it, and nothing that a path or an
/// address could make more of.
fn is_plain_file(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.ends_with(".safetensors")
        && name.split('/').all(|part| !part.is_empty() && !part.starts_with('.'))
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-+=@ /".contains(&byte))
}
