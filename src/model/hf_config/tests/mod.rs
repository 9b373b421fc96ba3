//! Tests over real configs.

mod accuracy;
mod errors;
mod golden;
mod quantized;
mod variants;

use std::path::PathBuf;

use super::*;

/// A real config under the fixtures.
pub(super) struct Fixture {
    /// The file's name without `.json`.
    pub(super) stem: String,
    /// The Hugging Face repository.
    pub(super) repository: String,
    /// The config.
    pub(super) config: Vec<u8>,
    /// ModelOpt's file beside it.
    pub(super) quant: Option<Vec<u8>>,
}

impl Fixture {
    pub(super) fn parse(&self) -> Result<ModelShape, ParseError> {
        parse_with_quant(&self.config, self.quant.as_deref(), &self.repository)
    }
}

fn directory() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/configs"))
}

/// Every real config.
pub(super) fn fixtures() -> Vec<Fixture> {
    let mut stems: Vec<String> = std::fs::read_dir(directory())
        .expect("the fixtures are there")
        .map(|entry| entry.expect("a directory entry").file_name().to_string_lossy().into_owned())
        .filter_map(|name| name.strip_suffix(".json").map(ToOwned::to_owned))
        .filter(|stem| !stem.ends_with(".hf_quant_config"))
        .collect();
    stems.sort();
    stems.iter().map(|stem| fixture(stem)).collect()
}

/// The real config of a file's name without `.json`.
pub(super) fn fixture(stem: &str) -> Fixture {
    let read = |name: String| std::fs::read(directory().join(name));
    Fixture {
        stem: stem.to_owned(),
        repository: stem.trim_end_matches(".partial").replacen("__", "/", 1),
        config: read(format!("{stem}.json")).unwrap_or_else(|error| panic!("{stem}: {error}")),
        quant: read(format!("{stem}.hf_quant_config.json")).ok(),
    }
}

/// The shape of a real config.
pub(super) fn shape(stem: &str) -> ModelShape {
    fixture(stem).parse().unwrap_or_else(|error| panic!("{stem}: {error}"))
}
