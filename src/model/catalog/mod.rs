//! The built-in catalog: widely used open models, for use with no network.
//!
//! `models.jsonl` has one model per line: its name, its Hugging Face repository, other names for the same shape, the
//! published number of parameters and where it was read, the model's page, and those fields of its `config.json` that
//! decide memory.
//!
//! The published numbers are none of ours: nearly all are what the Hub adds up over the tensors of the repository, as public
//! lists quote it; the rest are of the publisher's paper, card or files. A number without `verified` was not found: it is
//! the single digit that the name or the publisher's page says.

mod checkpoints;

use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::Value;

use super::published::{Counts, Published};
use super::{ModelShape, ShapeSource, hf_config};
use crate::spelling;

pub use checkpoints::{Checkpoint, checkpoint, checkpoints, is_checkpoint};

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
    /// The published number of parameters; [`Entry::published`] says what it counts.
    pub parameters: u64,
    /// How many leading digits of it are published; `None` if all are.
    pub digits: Option<u32>,
    /// What it counts otherwise than [`ModelShape::parameters`] does.
    #[serde(default)]
    pub counts: Vec<Counts>,
    /// The page of the model.
    pub source: String,
    /// Where the number was read; `None` if no more than a single digit was found.
    pub verified: Option<String>,
    config: Value,
}

impl Entry {
    /// The published number of parameters.
    #[must_use]
    pub fn published(&self) -> Published {
        Published { parameters: self.parameters, digits: self.digits, counts: self.counts.clone() }
    }

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

    fn names(&self) -> impl Iterator<Item = &String> {
        [&self.name, &self.repository].into_iter().chain(&self.aliases)
    }

    fn is_called(&self, name: &str) -> bool {
        self.names().any(|own| own.eq_ignore_ascii_case(name))
    }

    /// A repository may be named without its organisation.
    fn is_called_for_short(&self, name: &str) -> bool {
        self.names().filter_map(|own| own.rsplit('/').next()).any(|last| last.eq_ignore_ascii_case(name))
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
    // A full name goes before a short one: a base model may be called for short what a chat model is called here.
    let full = entries().iter().find(|entry| entry.is_called(name));
    full.or_else(|| entries().iter().find(|entry| entry.is_called_for_short(name)))
}

/// The shape of a model of the catalog, by its name or by its Hugging Face repository; `None` if it is not there.
#[must_use]
pub fn shape(name: &str) -> Option<ModelShape> {
    find(name).and_then(Entry::shape)
}

/// The model whose weights a repository holds, by its full name.
#[must_use]
pub fn of_repository(repository: &str) -> Option<&'static Entry> {
    let is_full = |name: &String| name.contains('/') && name.eq_ignore_ascii_case(repository);
    entries().iter().find(|entry| is_full(&entry.repository) || entry.aliases.iter().any(is_full))
}

/// Every name, sorted.
#[must_use]
pub fn names() -> Vec<&'static str> {
    entries().iter().map(|entry| entry.name.as_str()).collect()
}

/// The names that are most like `name`, at most three; none if nothing is like it.
#[must_use]
pub fn suggest(name: &str) -> Vec<&'static str> {
    /// No more than people read.
    const MOST: usize = 3;
    // A repository is compared by its last part.
    let name = name.rsplit('/').next().unwrap_or(name);
    let mut found = spelling::alike(name, names());
    found.truncate(MOST);
    found
}

/// What would be right where `name` is not in the catalog: what was perhaps meant, and where the names are.
#[must_use]
pub fn remedy(name: &str) -> String {
    let near = spelling::did_you_mean(&suggest(name)).map_or_else(String::new, |near| format!("{near} "));
    format!("{near}`loadline estimate --list-models` lists the names")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Models whose published number counts what their config does not declare, or the other way round, and what that is.
    const EXPLAINED: &[(&str, &str)] = &[
        ("ernie-4.5-21b-a3b", "a draft layer that the config does not declare"),
        ("florence-2-large", "a table of cosines and the zeroes that are added to the logits"),
        ("gemma-4-e2b", "keys and values of layers that use those of others"),
        ("longcat-flash", "a draft layer that the config does not declare"),
        ("mimo-v2-flash", "draft layers that the config does not declare"),
    ];

    /// Models of which nothing more precise than one digit was found, and what says it.
    const UNVERIFIED: &[(&str, &str)] = &[
        (
            "granite-speech-3.3-8b",
            "the publisher's collection on the Hub says 9B, of which the name has the text model",
        ),
        ("xverse-7b", "the name"),
    ];

    #[test]
    fn every_line_is_an_entry_and_every_entry_a_model_of_its_published_size() {
        let lines = include_str!("models.jsonl").lines().count();
        assert_eq!(entries().len(), lines, "a line is not an entry");
        assert!(lines >= 200, "{lines} models");
        let mut wrong = Vec::new();
        for entry in entries() {
            let Some(shape) = entry.shape() else {
                wrong.push(format!("{}: not understood", entry.name));
                continue;
            };
            let published = entry.published();
            match published.count(&shape) {
                Some(counted) if published.agrees(counted) => {}
                counted => wrong.push(format!("{}: counted {counted:?}, {published:?}", entry.name)),
            }
            assert_eq!(shape.source, ShapeSource::Catalog);
            assert!(entry.source.starts_with("https://"), "{}", entry.name);
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn a_size_that_is_published_to_the_parameter_is_counted_to_two_hundredths_of_a_per_cent() {
        let (mut exact, mut wrong) = (0, Vec::new());
        for entry in entries().iter().filter(|entry| entry.verified.is_some() && entry.digits.is_none()) {
            let shape = entry.shape().expect("understood");
            let counted = entry.published().count(&shape).expect("it fits");
            let near = u128::from(counted.abs_diff(entry.parameters)) * 5000 <= u128::from(entry.parameters);
            let explained = EXPLAINED.iter().any(|(name, _)| *name == entry.name);
            if near == explained {
                let own = if explained { ", yet explained" } else { "" };
                wrong.push(format!("{}: counted {counted}, published {}{own}", entry.name, entry.parameters));
            }
            exact += usize::from(counted == entry.parameters);
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(exact >= 180, "only {exact} are counted to the parameter");
    }

    #[test]
    fn every_published_size_says_where_it_was_read() {
        for entry in entries() {
            let name = &entry.name;
            match &entry.verified {
                Some(place) => {
                    assert!(place.starts_with("https://"), "{name}: {place}");
                    assert!(entry.digits.is_none_or(|digits| (2..=4).contains(&digits)), "{name}");
                    // No model has a round number of parameters: what ends so was rounded.
                    assert!(entry.digits.is_some() || !entry.parameters.is_multiple_of(100_000), "{name}");
                }
                // One or two digits are said, and no more is known.
                None => assert!(entry.digits.is_some_and(|digits| digits <= 2), "{name}"),
            }
        }
        let unknown: Vec<_> = entries().iter().filter(|entry| entry.verified.is_none()).collect();
        let unknown: Vec<_> = unknown.iter().map(|entry| entry.name.as_str()).collect();
        let said: Vec<_> = UNVERIFIED.iter().map(|(name, _)| *name).collect();
        assert_eq!(unknown, said);
    }

    #[test]
    fn names_are_sorted_and_every_full_name_means_its_own_model() {
        assert!(names().is_sorted());
        for entry in entries() {
            for name in entry.names() {
                let found: Vec<_> =
                    entries().iter().filter(|other| other.is_called(name)).map(|other| &other.name).collect();
                assert_eq!(found, [&entry.name], "{name}");
                assert_eq!(find(name).map(|found| &found.name), Some(&entry.name), "{name}");
            }
        }
    }

    /// The longest context is what is estimated for when none is given: a base model's is not always that of its chat model.
    #[test]
    fn the_longest_context_is_that_of_the_repository() {
        for (name, tokens) in [
            ("Qwen/Qwen2.5-14B-Instruct", 32_768),
            ("Qwen/Qwen2.5-14B", 131_072),
            ("Qwen/Qwen2.5-Coder-14B", 32_768),
            ("qwen2.5-14b", 32_768),
            ("Qwen2.5-14B", 32_768),
            ("Qwen/Qwen2-7B", 131_072),
            ("Qwen/Qwen3-30B-A3B-Instruct-2507", 262_144),
            ("Qwen/QwQ-32B", 40_960),
            ("01-ai/Yi-6B-Chat", 4096),
            ("meta-llama/Llama-2-70b-hf", 4096),
            ("THUDM/glm-4-9b-chat", 131_072),
            ("mistralai/Mistral-7B-Instruct-v0.2", 32_768),
            ("openbmb/MiniCPM-V-2_6", 32_768),
            ("Qwen/Qwen2.5-VL-3B-Instruct", 128_000),
        ] {
            assert_eq!(shape(name).and_then(|shape| shape.max_context), Some(tokens), "{name}");
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
