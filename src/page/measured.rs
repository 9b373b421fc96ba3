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

/// The rows of a model, by its repository; a quantised copy of another organisation counts as the model.
pub(super) fn of(repository: &str) -> Vec<&'static MeasuredRow> {
    let name = |text: &str| text.rsplit('/').next().unwrap_or(text).to_ascii_lowercase();
    let wanted = name(repository.trim());
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
        assert!(of("").is_empty() && of("nobody/no-such-model").is_empty());
    }
}
