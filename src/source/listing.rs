//! The list of a repository's files, as the Hub's API gives it: of thousands of names, those of weights are kept.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor,
};

use crate::bounded::{Text, not_text};
use crate::model::ParseError;

/// The most names of weight files that are kept.
const MAX_FILES: usize = 16_384;
/// The longest name.
const MAX_NAME: usize = 1024;

/// The names of the safetensors and GGUF files.
///
/// # Errors
/// If it is not such a list, or longer than any real one.
pub(super) fn weight_files(json: &[u8]) -> Result<Vec<String>, ParseError> {
    let mut names = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    Part { names: &mut names, of: Level::Answer }
        .deserialize(&mut deserializer)
        .and_then(|()| deserializer.end())
        .map_err(|error| ParseError::Malformed {
            what: "list of the repository's files",
            problem: error.to_string(),
        })?;
    Ok(names)
}

/// `{"siblings": [{"rfilename": "a.safetensors"}]}`.
#[derive(Clone, Copy)]
enum Level {
    Answer,
    Siblings,
    Sibling,
}

struct Part<'n> {
    names: &'n mut Vec<String>,
    of: Level,
}

impl<'de> DeserializeSeed<'de> for Part<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Part<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.of {
            Level::Answer => "an object with siblings",
            Level::Siblings => "a list of files",
            Level::Sibling => "an object with an rfilename",
        })
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        not_text(text, "a list of files")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        if !matches!(self.of, Level::Siblings) {
            return Err(A::Error::invalid_type(Unexpected::Seq, &self));
        }
        while items.next_element_seed(Part { names: self.names, of: Level::Sibling })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if matches!(self.of, Level::Siblings) {
            return Err(A::Error::invalid_type(Unexpected::Map, &self));
        }
        let wanted = if matches!(self.of, Level::Answer) { "siblings" } else { "rfilename" };
        let is_wanted = |key: &str| key == wanted;
        while let Some(is_wanted) = map.next_key_seed(Text { most: usize::MAX, read: is_wanted })? {
            match self.of {
                _ if !is_wanted => drop(map.next_value::<IgnoredAny>()?),
                Level::Answer => map.next_value_seed(Part { names: self.names, of: Level::Siblings })?,
                Level::Sibling | Level::Siblings => {
                    let read = |name: &str| {
                        let weights = [".safetensors", ".gguf"].iter().any(|end| name.ends_with(end));
                        weights.then(|| name.to_owned())
                    };
                    self.names.extend(map.next_value_seed(Text { most: MAX_NAME, read })?);
                    if self.names.len() > MAX_FILES {
                        return Err(A::Error::custom(format_args!(
                            "it has more than {MAX_FILES} weight files"
                        )));
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_kept_and_the_rest_is_not() {
        let names = |json: &str| weight_files(json.as_bytes()).map_err(|error| error.to_string());
        let listing = r#"{"id":"a/b","siblings":[{"rfilename":"README.md","size":1},{"rfilename":"q/m.gguf"},{"rfilename":"m.safetensors"},{}]}"#;
        assert_eq!(names(listing), Ok(vec!["q/m.gguf".to_owned(), "m.safetensors".to_owned()]));
        assert_eq!(names("{}"), Ok(vec![]));
        let many = format!("{{\"siblings\":[{}{{}}]}}", "{\"rfilename\":\".gguf\"},".repeat(MAX_FILES + 1));
        for (json, expect) in [
            ("[]", "invalid type"),
            ("\"\"", "the string"),
            ("{\"siblings\":{}}", "invalid type"),
            ("{\"siblings\":[7]}", "invalid type"),
            ("{\"siblings\":[{\"rfilename\":7}]}", "invalid type"),
            ("{}x", "trailing"),
            (many.as_str(), "more than 16384"),
        ] {
            let error = names(json).expect_err(expect);
            assert!(error.contains(expect), "{error}");
        }
    }

    #[test]
    fn a_hostile_list_takes_little_memory() {
        let long = "\u{7f}".repeat(8 << 20);
        for json in [
            format!("\"{long}\""),
            format!("{{\"siblings\":[\"{long}\"]}}"),
            format!("{{\"siblings\":[{{\"rfilename\":\"{long}\"}}]}}"),
            format!("{{\"siblings\":[{}0]}}", "{\"rfilename\":\"\"},".repeat(200_000)),
            format!("{{\"siblings\":{}", "[".repeat(1 << 20)),
        ] {
            let taken = allocation_counter::measure(|| assert!(weight_files(json.as_bytes()).is_err()));
            assert!(taken.bytes_max < 64 << 20, "{} bytes", taken.bytes_max);
        }
    }
}
