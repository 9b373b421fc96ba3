//! The JSON of a safetensors header, tensor by tensor: each is checked as it is read, and only what is kept takes memory.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use super::dtype::Dtype;
use super::entry::{Entry, MAX_TENSORS, elements, field, malformed};
use crate::bounded::{Numbers, Text, not_text};
use crate::model::ParseError;
use crate::units::shorten;

/// The most dimensions of a tensor.
const MAX_RANK: usize = 8;
/// The longest tensor name, and the longest name of a field.
const MAX_NAME: usize = 1024;

/// A tensor, and where its data begins.
pub(super) struct Placed {
    pub(super) begin: u64,
    pub(super) entry: Entry,
}

/// The tensors of a header, in the order of the JSON. A name may still be there twice.
///
/// # Errors
/// If it is not a table of tensors, or one of them contradicts itself.
pub(super) fn read(json: &[u8]) -> Result<Vec<Placed>, ParseError> {
    let mut problem = None;
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let table = Table { problem: &mut problem }
        .deserialize(&mut deserializer)
        .and_then(|table| deserializer.end().map(|()| table));
    table.map_err(|error| {
        problem.unwrap_or_else(|| malformed(format!("it is not a table of tensors: {error}")))
    })
}

/// The table, with `__metadata__` left out.
struct Table<'p> {
    /// What is wrong with a tensor, in words that name it.
    problem: &'p mut Option<ParseError>,
}

impl<'de> DeserializeSeed<'de> for Table<'_> {
    type Value = Vec<Placed>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Placed>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Table<'_> {
    type Value = Vec<Placed>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<Placed>, E> {
        not_text(text, "an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<Placed>, A::Error> {
        let mut tensors = Vec::new();
        let name =
            || Text { most: MAX_NAME, read: |name: &str| (name != "__metadata__").then(|| name.to_owned()) };
        while let Some(name) = map.next_key_seed(name())? {
            let Some(name) = name else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if tensors.len() >= MAX_TENSORS {
                return Err(A::Error::custom(format_args!("there are more than {MAX_TENSORS} tensors")));
            }
            let raw = map.next_value_seed(RawTensor { name: &name })?;
            match check(name, raw) {
                Ok(placed) => tensors.push(placed),
                Err(problem) => {
                    *self.problem = Some(problem);
                    return Err(A::Error::custom("a tensor is wrong"));
                }
            }
        }
        Ok(tensors)
    }
}

/// What a header says of one tensor.
struct Raw {
    /// The type, or what stands in its place.
    dtype: Result<Dtype, String>,
    shape: Vec<u64>,
    data_offsets: Vec<u64>,
}

#[derive(Clone, Copy)]
struct RawTensor<'n> {
    name: &'n str,
}

impl<'de> DeserializeSeed<'de> for RawTensor<'_> {
    type Value = Raw;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// The fields of a tensor.
#[derive(Clone, Copy)]
enum Field {
    Dtype,
    Shape,
    Offsets,
    Other,
}

impl<'de> Visitor<'de> for RawTensor<'_> {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with dtype, shape and data_offsets for \"{}\"", shorten(self.name))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Raw, E> {
        not_text(text, "an object with dtype, shape and data_offsets")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let field = |text: &str| match text {
            "dtype" => Field::Dtype,
            "shape" => Field::Shape,
            "data_offsets" => Field::Offsets,
            _ => Field::Other,
        };
        let (mut dtype, mut shape, mut offsets) = (None, None, None);
        let twice = |name: &str| A::Error::custom(format_args!("{name} is there twice"));
        while let Some(field) = map.next_key_seed(Text { most: usize::MAX, read: field })? {
            let again = match field {
                Field::Dtype => {
                    let read = |text: &str| Dtype::from_name(text).ok_or_else(|| shorten(text));
                    dtype.replace(map.next_value_seed(Text { most: usize::MAX, read })?).map(|_| "dtype")
                }
                Field::Shape => {
                    shape.replace(map.next_value_seed(Numbers { most: MAX_RANK })?).map(|_| "shape")
                }
                Field::Offsets => {
                    offsets.replace(map.next_value_seed(Numbers { most: 2 })?).map(|_| "data_offsets")
                }
                Field::Other => map.next_value::<IgnoredAny>().map(|_| None)?,
            };
            if let Some(name) = again {
                return Err(twice(name));
            }
        }
        let missing =
            |field: &str| A::Error::custom(format_args!("\"{}\" has no {field}", shorten(self.name)));
        Ok(Raw {
            dtype: dtype.ok_or_else(|| missing("dtype"))?,
            shape: shape.ok_or_else(|| missing("shape"))?,
            data_offsets: offsets.ok_or_else(|| missing("data_offsets"))?,
        })
    }
}

/// Checks one tensor.
fn check(name: String, raw: Raw) -> Result<Placed, ParseError> {
    let dtype = match raw.dtype {
        Ok(dtype) => dtype,
        Err(text) => {
            let problem = format!("dtype \"{text}\" is not one of the format's, such as BF16 or F8_E4M3");
            return Err(field(&name, problem));
        }
    };
    let &[begin, end] = raw.data_offsets.as_slice() else {
        let problem = format!("data_offsets has {} numbers; it must have two", raw.data_offsets.len());
        return Err(field(&name, problem));
    };
    let Some(bytes) = end.checked_sub(begin) else {
        return Err(field(&name, format!("data_offsets [{begin}, {end}] end before they begin")));
    };
    let expected = elements(&raw.shape)
        .and_then(|elements| elements.checked_mul(dtype.bits()))
        .filter(|bits| bits % 8 == 0)
        .map(|bits| bits / 8);
    if expected != Some(bytes) {
        let expected =
            expected.map_or("no whole number of bytes below 2^61".to_owned(), |bytes| bytes.to_string());
        return Err(field(
            &name,
            format!(
                "data_offsets [{begin}, {end}] hold {bytes} bytes, and {} x {:?} is {expected}",
                dtype.name(),
                raw.shape
            ),
        ));
    }
    // The list was grown as it was read.
    let mut shape = raw.shape;
    shape.shrink_to_fit();
    Ok(Placed { begin, entry: Entry { name, dtype, shape, bytes } })
}
