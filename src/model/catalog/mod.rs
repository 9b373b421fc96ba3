//! The built-in catalog: widely used open models, for use with no network.
//!
//! `models.jsonl` has one model per line: its name, its Hugging Face repository, other names for the same shape, the
//! number of parameters, the model's page, and those fields of its `config.json` that decide memory.
//!
//! The numbers have not been checked against the pages one by one, and some were counted from the config itself: they guard
//! against a slip in the parsers, and are no independent evidence of them. That is `class_sizes.jsonl` of the parser's tests.

use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::Value;

use super::{ModelShape, ShapeSource, hf_config};

/// A model of the catalog.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The name in the catalog, such as `llama-3.1-8b`.
    pub name: String,
    /// The Hugging Face repository.
    pub repository: String,
    /// Other names and repositories of the same shape.
    pub aliases: Vec<String>,
    /// The number of parameters: see the module's own words for how far it is to be trusted.
    pub parameters: u64,
    /// The page of the model.
    pub source: String,
    config: Value,
}

impl Entry {
    /// The fields of its `config.json` that decide memory, as JSON.
    #[must_use]
    pub fn config(&self) -> String {
        self.config.to_string()
    }

    /// The shape that its config describes; `None` if the config is not understood, which a test rules out.
    #[must_use]
    pub fn shape(&self) -> Option<ModelShape> {
        let mut shape = hf_config::parse(self.config().as_bytes(), &self.name).ok()?;
        shape.source = ShapeSource::Catalog;
        Some(shape)
    }

    fn is_called(&self, name: &str) -> bool {
        let own = [&self.name, &self.repository];
        own.into_iter().chain(&self.aliases).any(|own| {
            // A repository may be named without its organisation.
            let last = own.rsplit('/').next().unwrap_or(own);
            own.eq_ignore_ascii_case(name) || last.eq_ignore_ascii_case(name)
        })
    }
}

/// Every model, sorted by name.
#[must_use]
pub fn entries() -> &'static [Entry] {
    static ENTRIES: OnceLock<Vec<Entry>> = OnceLock::new();
    ENTRIES.get_or_init(|| {
        include_str!("models.jsonl").lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    })
}

/// The model of a name, a Hugging Face repository or an alias, in upper or lower case.
#[must_use]
pub fn find(name: &str) -> Option<&'static Entry> {
    let name = name.trim();
    entries().iter().find(|entry| entry.is_called(name))
}

/// The shape of a model of the catalog, by its name or by its Hugging Face repository; `None` if it is not there.
#[must_use]
pub fn shape(name: &str) -> Option<ModelShape> {
    find(name).and_then(Entry::shape)
}

/// Every name, sorted.
#[must_use]
pub fn names() -> Vec<&'static str> {
    entries().iter().map(|entry| entry.name.as_str()).collect()
}

/// The names that are most like `name`, the closest first; at most three, none if nothing is like it.
#[must_use]
pub fn suggest(name: &str) -> Vec<&'static str> {
    const LONGEST: usize = 80;
    // A repository is compared by its last part.
    let wanted: String = name.rsplit('/').next().unwrap_or(name).trim().chars().take(LONGEST).collect();
    let wanted = wanted.to_ascii_lowercase();
    if wanted.is_empty() {
        return Vec::new();
    }
    let mut scored: Vec<(usize, &'static str)> = entries()
        .iter()
        .map(|entry| {
            let mut distance = edits(&wanted, &entry.name);
            // A name that the other begins with is close, however much follows.
            if entry.name.starts_with(&wanted) || wanted.starts_with(&entry.name) {
                distance = distance.min(1);
            }
            (distance, entry.name.as_str())
        })
        .filter(|(distance, _)| *distance <= (wanted.len() / 3).max(2))
        .collect();
    scored.sort_unstable();
    scored.into_iter().take(3).map(|(_, name)| name).collect()
}

/// The number of letters that differ: Levenshtein's distance.
fn edits(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (at, letter) in left.chars().enumerate() {
        let mut diagonal = at;
        let mut before = at + 1;
        for (cell, other) in row.iter_mut().skip(1).zip(&right) {
            let best = (diagonal + usize::from(letter != *other)).min(before + 1).min(*cell + 1);
            diagonal = *cell;
            *cell = best;
            before = best;
        }
        if let Some(first) = row.first_mut() {
            *first = at + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_an_entry_and_every_entry_a_model_of_its_published_size() {
        let lines = include_str!("models.jsonl").lines().count();
        assert_eq!(entries().len(), lines, "a line is not an entry");
        assert!(lines >= 80, "{lines} models");
        let mut wrong = Vec::new();
        for entry in entries() {
            let Some(shape) = entry.shape() else {
                wrong.push(format!("{}: not understood", entry.name));
                continue;
            };
            let (counted, published) = (shape.parameters, entry.parameters);
            if counted.abs_diff(published) * 100 > published {
                wrong.push(format!("{}: counted {counted}, published {published}", entry.name));
            }
            assert_eq!(shape.source, ShapeSource::Catalog);
            assert!(entry.source.starts_with("https://"), "{}", entry.name);
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn names_are_sorted_and_no_name_means_two_models() {
        assert!(names().is_sorted());
        for entry in entries() {
            for name in [&entry.name, &entry.repository].into_iter().chain(&entry.aliases) {
                let found: Vec<_> =
                    entries().iter().filter(|other| other.is_called(name)).map(|other| &other.name).collect();
                assert_eq!(found, [&entry.name], "{name}");
            }
        }
    }

    #[test]
    fn models_are_found_by_name_and_repository_in_any_case() {
        for (name, found) in [
            ("llama-3.1-8b", Some("llama-3.1-8b")),
            ("LLAMA-3.1-8B", Some("llama-3.1-8b")),
            ("meta-llama/llama-3.1-8b-instruct", Some("llama-3.1-8b")),
            (" Qwen/Qwen3-32B ", Some("qwen3-32b")),
            ("deepseek-v3", Some("deepseek-v3")),
            ("Mistral-7B-Instruct-v0.3", Some("mistral-7b-v0.3")),
            ("gpt-oss-120b", Some("gpt-oss-120b")),
            ("gemma-3-27b", Some("gemma-3-27b")),
            ("mixtral-8x7b", Some("mixtral-8x7b")),
            ("no-such-model", None),
            ("", None),
        ] {
            assert_eq!(find(name).map(|entry| entry.name.as_str()), found, "{name}");
            assert_eq!(shape(name).map(|shape| shape.name), found.map(ToOwned::to_owned), "{name}");
        }
    }

    #[test]
    fn quantised_models_have_their_format() {
        use crate::precision::Precision;
        for (name, precision) in [
            ("deepseek-v3", Some(Precision::Fp8Block)),
            ("deepseek-v4-flash", Some(Precision::Mxfp4)),
            ("kimi-k2", Some(Precision::Fp8Block)),
            ("gpt-oss-20b", Some(Precision::Mxfp4)),
            ("llama-3.1-8b", None),
        ] {
            let found = shape(name).and_then(|shape| shape.quantization).map(|found| found.precision);
            assert_eq!(found, precision, "{name}");
        }
        assert_eq!(shape("llama-3.1-8b").and_then(|shape| shape.stored_precision), Some(Precision::Bf16));
    }

    #[test]
    fn a_mistyped_name_is_answered_with_the_closest() {
        for (name, closest) in [
            ("lama-3.1-8b", Some("llama-3.1-8b")),
            ("llama-3.1-8", Some("llama-3.1-8b")),
            ("Qwen/Qwen3-32", Some("qwen3-32b")),
            ("gemma3-27b", Some("gemma-3-27b")),
            ("mixtral-8x7", Some("mixtral-8x7b")),
            ("zzzzzzzzzzzzzzzz", None),
            ("", None),
        ] {
            assert_eq!(suggest(name).first().copied(), closest, "{name}: {:?}", suggest(name));
            assert!(suggest(name).len() <= 3);
        }
    }
}
