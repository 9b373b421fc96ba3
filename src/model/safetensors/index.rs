//! `model.safetensors.index.json`: which files hold which tensors.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use crate::model::ParseError;
use crate::units::shorten;

/// The largest index that is read; the largest real ones are some 10 MiB.
pub const MAX_INDEX: usize = 32 << 20;
/// The most files in one model; the largest real ones have some 200.
pub const MAX_FILES: usize = 4096;
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
        let Raw { weight_map: WeightMap { files, tensors } } =
            serde_json::from_slice(json).map_err(|error| ParseError::Malformed {
                what: WHAT,
                problem: format!("it is not an index: {}", shorten(&error.to_string())),
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

#[derive(Deserialize)]
struct Raw {
    weight_map: WeightMap,
}

/// The files, each with the first tensor in it, and how many tensors there are: the names of all are not needed.
struct WeightMap {
    files: BTreeMap<String, String>,
    tensors: usize,
}

impl<'de> Deserialize<'de> for WeightMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = WeightMap;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of file names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WeightMap, A::Error> {
                let mut found = WeightMap { files: BTreeMap::new(), tensors: 0 };
                while let Some((tensor, file)) = map.next_entry::<Cow<'_, str>, Cow<'_, str>>()? {
                    found.tensors += 1;
                    // One more than is allowed is enough to say so.
                    if found.files.len() <= MAX_FILES && !found.files.contains_key(file.as_ref()) {
                        found.files.insert(file.into_owned(), tensor.into_owned());
                    }
                }
                Ok(found)
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// Whether it is the name of a safetensors file in the same directory or below it, and nothing that a path or an
/// address could make more of.
fn is_plain_file(name: &str) -> bool {
    name.len() <= 255
        && name.ends_with(".safetensors")
        && name.split('/').all(|part| !part.is_empty() && !part.starts_with('.'))
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-+=@ /".contains(&byte))
}
