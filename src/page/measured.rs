//! What real engines were measured to take: the rows that the estimate is held to, for beside the estimate.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Bytes;

/// Made from `tests/fixtures/measured/` by `tests/it/page`.
const ROWS: &str = include_str!("measured.jsonl");
/// The most rows of one answer.
const MOST_ROWS: usize = 12;

/// One run of a real engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MeasuredRow {
    /// The model's repository.
    pub model: String,
    /// The engine, or the framework that trained.
    pub engine: String,
    /// Its version, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The GPU, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu: Option<String>,
    /// How the weights were held; in training, the method.
    pub format: String,
    /// Whether it was trained.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub training: bool,
    /// GPUs that shared it.
    pub gpus: u64,
    /// Tokens per sequence, where they are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<u64>,
    /// Sequences at once, or the micro batch, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequences: Option<u64>,
    /// Bytes of the weights on one GPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<Bytes>,
    /// Bytes of the KV cache on one GPU; vLLM fills with it what is free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_cache: Option<Bytes>,
    /// Bytes of activations on one GPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activations: Option<Bytes>,
    /// The most bytes that one GPU held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak: Option<Bytes>,
    /// Where it is to be read.
    pub source: String,
}

static ALL: LazyLock<Vec<MeasuredRow>> =
    LazyLock::new(|| ROWS.lines().filter_map(|line| serde_json::from_str(line).ok()).collect());

/// Every row.
#[must_use]
pub fn rows() -> &'static [MeasuredRow] {
    &ALL
}

/// What a model is called by that was trained further and is as large as before.
const TUNED: &[&str] = &["-instruct", "-it", "-chat", "-hf", "-base"];

/// A model's name without its organisation, and without what makes no difference to its memory.
fn name(repository: &str) -> String {
    let name = repository.trim().rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let mut name = name.strip_prefix("meta-").unwrap_or(&name);
    while let Some(shorter) = TUNED.iter().find_map(|tuned| name.strip_suffix(tuned)) {
        name = shorter;
    }
    name.to_owned()
}

/// The rows of a model, by its repository: those of its copies, and of what it was tuned from or to, count.
pub(super) fn of(repository: &str) -> Vec<&'static MeasuredRow> {
    let wanted = name(repository);
    if wanted.is_empty() {
        return Vec::new();
    }
    rows().iter().filter(|row| name(&row.model) == wanted).take(MOST_ROWS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_row_with_a_source() {
        assert_eq!(rows().len(), ROWS.lines().count());
        assert!(rows().iter().all(|row| row.source.starts_with("https://")));
        assert!(!of("google/gemma-2-27b-it").is_empty());
        assert_eq!(of("meta-llama/Llama-3.1-8B"), of("unsloth/Meta-Llama-3.1-8B-Instruct"));
        assert!(of("").is_empty() && of("nobody/no-such-model").is_empty());
    }
}
