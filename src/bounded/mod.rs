//! Readers of JSON and YAML that keep and repeat no more of the input than is wanted.
//!
//! The readers that serde derives quote a string of the wrong kind whole, escapes and all, in their error, and read a list to
//! its end before anyone can say that it is too long: with those, 32 MiB of input can take ten times as much.

mod value;

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};

use crate::units::shorten;

pub(crate) use value::{BoundedValue, Budget};

/// The error for a string where something else belongs.
pub(crate) fn not_text<T, E: Error>(text: &str, wanted: &str) -> Result<T, E> {
    Err(E::custom(format_args!("the string \"{}\" where {wanted} belongs", shorten(text))))
}

/// A whole number.
#[derive(Clone, Copy)]
pub(crate) struct Number;

impl<'de> DeserializeSeed<'de> for Number {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Number {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number from 0 to 2^64 - 1")
    }

    fn visit_u64<E>(self, number: u64) -> Result<u64, E> {
        Ok(number)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
        not_text(text, "a whole number")
    }
}

/// A list of whole numbers, at most so many.
#[derive(Clone, Copy)]
pub(crate) struct Numbers {
    pub(crate) most: usize,
}

impl<'de> DeserializeSeed<'de> for Numbers {
    type Value = Vec<u64>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<u64>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Numbers {
    type Value = Vec<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of whole numbers")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<u64>, E> {
        not_text(text, "a list of whole numbers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<u64>, A::Error> {
        let mut numbers = Vec::new();
        while let Some(number) = items.next_element_seed(Number)? {
            if numbers.len() >= self.most {
                return Err(A::Error::custom(format_args!("more than {} numbers in a list", self.most)));
            }
            numbers.push(number);
        }
        Ok(numbers)
    }
}

/// A string of at most so many bytes, given to a function while it is still the input's.
#[derive(Clone, Copy)]
pub(crate) struct Text<F> {
    pub(crate) most: usize,
    pub(crate) read: F,
}

impl<'de, T, F: FnOnce(&str) -> T> DeserializeSeed<'de> for Text<F> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<T, F: FnOnce(&str) -> T> Visitor<'_> for Text<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        if text.len() > self.most {
            return Err(E::custom(format_args!(
                "\"{}\" has {} bytes, and at most {} are read",
                shorten(text),
                text.len(),
                self.most
            )));
        }
        Ok((self.read)(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'a, S: DeserializeSeed<'a>>(seed: S, json: &'a str) -> Result<S::Value, String> {
        seed.deserialize(&mut serde_json::Deserializer::from_str(json)).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_too_much_or_of_another_kind_is_said_shortly() {
        let long = format!("\"{}\"", "\u{7f}".repeat(1 << 20));
        for (json, expect) in [
            ("-1", "-1"),
            ("1.5", "1.5"),
            ("1e400", "out of range"),
            ("[]", "sequence"),
            ("true", "true"),
            ("\"7\"", "the string \"7\" where a whole number belongs"),
            (long.as_str(), "where a whole number belongs"),
        ] {
            let error = read(Number, json).expect_err(expect);
            assert!(error.contains(expect) && error.len() < 400, "{error}");
        }
        let list = Numbers { most: 2 };
        assert_eq!(read(list, "[1, 18446744073709551615]"), Ok(vec![1, u64::MAX]));
        for (json, expect) in
            [("[1,2,3]", "more than 2"), ("[[]]", "sequence"), (long.as_str(), "where a list"), ("{}", "map")]
        {
            let error = read(list, json).expect_err(expect);
            assert!(error.contains(expect) && error.len() < 400, "{error}");
        }
        assert_eq!(read(Text { most: 3, read: str::len }, "\"\\u00e4x\""), Ok(3));
        let error = read(Text { most: 3, read: str::len }, &long).expect_err("long");
        assert!(error.contains("1048576 bytes, and at most 3") && error.len() < 400, "{error}");
    }
}
