//! Quantised checkpoints of models of the catalog: `checkpoints.tsv` has the repository that was quantised, the format, the
//! repository that holds it, and where that was seen. It names what is known to be there; it is no list of all there is.

use std::sync::OnceLock;

use super::find;
use crate::precision::Precision;

/// What a publisher adds to a name for a model that answers, and takes away for its base.
const TUNED: [&str; 3] = ["-instruct", "-it", "-chat"];

/// A repository that holds another one's model in some format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The repository that was quantised.
    pub base: &'static str,
    /// The format.
    pub precision: Precision,
    /// The repository that holds it.
    pub repository: &'static str,
    /// Where that was seen.
    pub source: &'static str,
}

/// Every checkpoint that is known.
#[must_use]
pub fn checkpoints() -> &'static [Checkpoint] {
    static CHECKPOINTS: OnceLock<Vec<Checkpoint>> = OnceLock::new();
    CHECKPOINTS.get_or_init(|| include_str!("checkpoints.tsv").lines().skip(1).filter_map(row).collect())
}

fn row(line: &'static str) -> Option<Checkpoint> {
    let mut cells = line.split('\t');
    let (base, format) = (cells.next()?, cells.next()?);
    let (repository, source) = (cells.next()?, cells.next()?);
    Some(Checkpoint { base, precision: format.parse().ok()?, repository, source })
}

/// A checkpoint of a repository's model in a format: its own, or else that of the same model trained to answer, or of the
/// base of one that is.
#[must_use]
pub fn checkpoint(repository: &str, precision: Precision) -> Option<&'static Checkpoint> {
    let of_format = || checkpoints().iter().filter(move |known| known.precision == precision);
    let exact = of_format().find(|known| known.base.eq_ignore_ascii_case(repository));
    exact.or_else(|| {
        let entry = find(repository)?;
        of_format().find(|known| {
            is_kin(known.base, repository) && find(known.base).is_some_and(|base| base.name == entry.name)
        })
    })
}

/// Whether two repositories are of one model, but for being trained to answer.
fn is_kin(left: &str, right: &str) -> bool {
    let plain = |name: &str| {
        let name = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
        let name = name.strip_prefix("meta-").unwrap_or(&name);
        TUNED.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name).to_owned()
    };
    plain(left) == plain(right)
}

/// Whether a repository is known to hold a format.
#[must_use]
pub fn is_checkpoint(repository: &str, precision: Precision) -> bool {
    let is_it = |known: &Checkpoint| {
        known.precision == precision && known.repository.eq_ignore_ascii_case(repository)
    };
    checkpoints().iter().any(is_it)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::hf_config;

    #[test]
    fn every_line_is_a_checkpoint_of_a_model_of_the_catalog_and_says_where_it_was_seen() {
        let lines: Vec<&str> = include_str!("checkpoints.tsv").lines().collect();
        assert_eq!(checkpoints().len() + 1, lines.len(), "a line is no checkpoint");
        assert!(lines.iter().skip(1).is_sorted());
        for known in checkpoints() {
            assert!(find(known.base).is_some(), "{known:?}");
            assert!(known.source.starts_with("https://"), "{known:?}");
            assert_eq!(known.repository.matches('/').count(), 1, "{known:?}");
        }
    }

    /// Those whose configs are among the fixtures are of the format that they are said to be of.
    #[test]
    fn a_checkpoint_is_of_the_format_that_its_config_says() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/configs");
        let mut read = 0;
        for known in checkpoints() {
            let name = known.repository.replace('/', "__");
            let Ok(text) = std::fs::read(format!("{folder}/{name}.json")) else { continue };
            let shape = hf_config::parse(&text, known.repository).expect("understood");
            if let Some(own) = shape.quantization {
                assert_eq!(own.precision, known.precision, "{}", known.repository);
            } else {
                // NVIDIA's have it in a file of its own.
                let own = format!("{folder}/{name}.hf_quant_config.json");
                let own: serde_json::Value =
                    serde_json::from_slice(&std::fs::read(own).expect("a file")).unwrap();
                let algorithm = own.pointer("/quantization/quant_algo").and_then(serde_json::Value::as_str);
                let format = algorithm.and_then(|name| name.parse::<Precision>().ok());
                assert_eq!(format, Some(known.precision), "{}", known.repository);
            }
            read += 1;
        }
        assert!(read >= 10, "only {read} were read");
    }

    #[test]
    fn a_repository_is_named_for_the_same_model_alone() {
        for (repository, precision, expected) in [
            (
                "meta-llama/Llama-3.1-8B-Instruct",
                Precision::AwqInt4,
                Some("hugging-quants/Meta-Llama-3.1-8B-Instruct-AWQ-INT4"),
            ),
            (
                "meta-llama/Llama-3.1-8B",
                Precision::AwqInt4,
                Some("hugging-quants/Meta-Llama-3.1-8B-Instruct-AWQ-INT4"),
            ),
            ("Qwen/Qwen2.5-7B-Instruct", Precision::AwqInt4, Some("Qwen/Qwen2.5-7B-Instruct-AWQ")),
            // Another model of the same shape.
            ("Qwen/Qwen2.5-Coder-7B-Instruct", Precision::AwqInt4, None),
            ("meta-llama/Llama-3.1-8B", Precision::Nvfp4, None),
            ("nobody/nothing", Precision::AwqInt4, None),
        ] {
            let found = checkpoint(repository, precision).map(|known| known.repository);
            assert_eq!(found, expected, "{repository} {precision}");
        }
    }
}
