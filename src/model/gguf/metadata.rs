//! The key-value pairs of a GGUF header. Kept: scalars, short strings, and short arrays of numbers; of a long array only its length.

use std::collections::BTreeMap;

use super::reader::{Reader, Stop, WHAT, wrong};
use crate::model::ParseError;
use crate::units::shorten;

/// The longest key that the format allows.
const MAX_KEY: u64 = 65_535;
/// The most pairs; real files have some 60.
const MAX_PAIRS: u64 = 16_384;
/// The longest array of numbers that is kept: one per layer.
const MAX_KEPT: u64 = 4096;
/// The most numbers that are kept of all arrays together.
const MAX_KEPT_IN_ALL: u64 = 65_536;
/// The longest string that is kept.
const MAX_STRING: u64 = 1024;
/// The most bytes of strings that are kept together.
const MAX_STRINGS_IN_ALL: u64 = 1 << 20;
/// The deepest arrays of arrays; none is known.
const MAX_DEPTH: u32 = 4;

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// An integer of any width.
    Integer(i128),
    /// True or false.
    Bool(bool),
    /// A float of any width; Loadline uses none.
    Float,
    /// A string; cut off where it is long.
    Text(String),
    /// An array of integers, as many as there are layers.
    Integers(Vec<i128>),
    /// An array of flags.
    Bools(Vec<bool>),
    /// Any other array: its length.
    Array(u64),
}

/// The pairs of a header.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata(BTreeMap<String, Value>);

/// The sizes of the value types by number; `None` is a string or an array.
///
/// Source: `enum gguf_metadata_value_type` in docs/gguf.md of ggml-org/ggml.
const fn fixed_size(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

const STRING: u32 = 8;
const ARRAY: u32 = 9;

impl Metadata {
    /// Reads so many pairs.
    pub(super) fn read(reader: &mut Reader<'_>, pairs: u64) -> Result<Self, Stop> {
        if pairs > MAX_PAIRS {
            return Err(Stop::Wrong(ParseError::TooLarge {
                what: WHAT,
                problem: format!("it announces {pairs} metadata pairs, and at most {MAX_PAIRS} are read"),
            }));
        }
        let mut kept = BTreeMap::new();
        let mut budget = Budget { numbers: MAX_KEPT_IN_ALL, text: MAX_STRINGS_IN_ALL };
        for _ in 0..pairs {
            let length = reader.u64("a metadata key")?;
            if length > MAX_KEY {
                return Err(wrong(format!(
                    "a metadata key has {length} bytes, and the format allows {MAX_KEY}"
                )));
            }
            let key = String::from_utf8_lossy(reader.take(length, "a metadata key")?).into_owned();
            let kind = reader.u32("a metadata type")?;
            let value = value(reader, kind, &key, &mut budget)?;
            // Tokens, merges and chat templates are most of a header and of no use here.
            let kept_key = key.len() <= 128;
            if kept_key && kept.insert(key.clone(), value).is_some() {
                return Err(wrong(format!("the metadata key \"{}\" is there twice", shorten(&key))));
            }
        }
        Ok(Self(kept))
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// A string.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.0.get(key)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The length of an array.
    #[must_use]
    pub fn length(&self, key: &str) -> Option<u64> {
        match self.0.get(key)? {
            Value::Array(length) => Some(*length),
            Value::Integers(values) => u64::try_from(values.len()).ok(),
            Value::Bools(values) => u64::try_from(values.len()).ok(),
            _ => None,
        }
    }
}

/// What may still be kept: an array of bytes takes sixteen times as much here as in the file.
struct Budget {
    numbers: u64,
    text: u64,
}

impl Budget {
    /// Takes so much, if it is there.
    fn take(left: &mut u64, wanted: u64, most: u64) -> bool {
        match left.checked_sub(wanted) {
            Some(rest) if wanted <= most => {
                *left = rest;
                true
            }
            _ => false,
        }
    }
}

fn value(reader: &mut Reader<'_>, kind: u32, key: &str, budget: &mut Budget) -> Result<Value, Stop> {
    Ok(match kind {
        STRING => {
            let length = reader.u64("a string")?;
            if Budget::take(&mut budget.text, length, MAX_STRING) {
                Value::Text(String::from_utf8_lossy(reader.take(length, "a string")?).into_owned())
            } else {
                reader.skip(length, "a string")?;
                Value::Text(String::new())
            }
        }
        ARRAY => array(reader, key, 0, budget)?,
        _ => {
            let Some(size) = fixed_size(kind) else { return Err(unknown(kind, key)) };
            scalar(kind, reader.take(size, "a metadata value")?)
        }
    })
}

fn array(reader: &mut Reader<'_>, key: &str, depth: u32, budget: &mut Budget) -> Result<Value, Stop> {
    if depth >= MAX_DEPTH {
        return Err(wrong(format!(
            "the metadata key \"{}\" has arrays more than {MAX_DEPTH} deep",
            shorten(key)
        )));
    }
    let kind = reader.u32("an array's type")?;
    let length = reader.u64("an array's length")?;
    if let Some(size) = fixed_size(kind) {
        if depth > 0 || !Budget::take(&mut budget.numbers, length, MAX_KEPT) {
            reader.skip(length.saturating_mul(size), "an array")?;
            return Ok(Value::Array(length));
        }
        let bytes = reader.take(length.saturating_mul(size), "an array")?;
        let values = bytes.chunks_exact(usize::try_from(size).unwrap_or(1)).map(|chunk| scalar(kind, chunk));
        return Ok(collect(values, length));
    }
    // The smallest string is its length; the smallest array is its type and length. This stops a count of 2^60 at once.
    let smallest = match kind {
        STRING => 8,
        ARRAY => 12,
        _ => return Err(unknown(kind, key)),
    };
    reader.require(length.saturating_mul(smallest), "an array")?;
    for _ in 0..length {
        if kind == STRING {
            let length = reader.u64("a string")?;
            reader.skip(length, "a string")?;
        } else {
            array(reader, key, depth + 1, budget)?;
        }
    }
    Ok(Value::Array(length))
}

fn collect(values: impl Iterator<Item = Value>, length: u64) -> Value {
    let mut integers = Vec::new();
    let mut bools = Vec::new();
    for value in values {
        match value {
            Value::Integer(integer) => integers.push(integer),
            Value::Bool(flag) => bools.push(flag),
            _ => return Value::Array(length),
        }
    }
    if bools.is_empty() { Value::Integers(integers) } else { Value::Bools(bools) }
}

fn scalar(kind: u32, bytes: &[u8]) -> Value {
    let mut wide = [0_u8; 8];
    for (to, from) in wide.iter_mut().zip(bytes) {
        *to = *from;
    }
    let unsigned = u64::from_le_bytes(wide);
    let [b0, b1, b2, b3, ..] = wide;
    match kind {
        0 | 2 | 4 | 10 => Value::Integer(i128::from(unsigned)),
        1 => Value::Integer(i128::from(i8::from_le_bytes([b0]))),
        3 => Value::Integer(i128::from(i16::from_le_bytes([b0, b1]))),
        5 => Value::Integer(i128::from(i32::from_le_bytes([b0, b1, b2, b3]))),
        11 => Value::Integer(i128::from(i64::from_le_bytes(wide))),
        7 => Value::Bool(unsigned != 0),
        _ => Value::Float,
    }
}

fn unknown(kind: u32, key: &str) -> Stop {
    wrong(format!("the metadata key \"{}\" has type {kind}; the format's types are 0 to 12", shorten(key)))
}
