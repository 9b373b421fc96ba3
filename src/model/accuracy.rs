//! How the counted parameters of models compare with the published ones: for a test, and for a table in the docs.

use std::fmt::Write as _;

use super::{ParseError, catalog};

/// Where a published number of parameters was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// The publisher states it, as the catalog or the caller knows.
    Stated,
    /// It is part of the model's name, and rounded there.
    Name,
}

/// A published number of parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Parameters.
    pub parameters: u64,
    /// Where it was found.
    pub basis: Basis,
}

impl Published {
    /// What is known of a repository; `stated` is a number that the caller knows.
    #[must_use]
    pub fn of(repository: &str, stated: Option<u64>) -> Option<Self> {
        let known = || {
            // A quantised copy has the parameters of its original.
            let suffixes = ["", "-FP8", "-NVFP4", "-FP8-dynamic", "-FP8-Static-PerTensor", "-BF16"];
            let last = repository.rsplit('/').next().unwrap_or(repository);
            suffixes.iter().filter_map(|suffix| last.strip_suffix(suffix)).find_map(|original| {
                let same = |name: &str| {
                    name.rsplit('/').next().is_some_and(|last| last.eq_ignore_ascii_case(original))
                };
                let mut entries = catalog::entries().iter();
                entries.find(|entry| same(&entry.repository) || entry.aliases.iter().any(|alias| same(alias)))
            })
        };
        let stated = stated.or_else(|| known().map(|entry| entry.parameters));
        match stated {
            Some(parameters) => Some(Self { parameters, basis: Basis::Stated }),
            None => in_name(repository).map(|parameters| Self { parameters, basis: Basis::Name }),
        }
    }

    /// How far the counted number may be off, in thousandths of the published one. A name is rounded, and rounded
    /// names leave embeddings or towers out.
    #[must_use]
    pub const fn tolerance(self) -> u64 {
        match self.basis {
            Basis::Stated => 10,
            Basis::Name => 150,
        }
    }
}

/// The number in a model's name, such as 8.03 billion in `Llama-8.03B`.
fn in_name(name: &str) -> Option<u64> {
    let last = name.rsplit('/').next()?;
    // Of `30B-A3B` the first is the whole model, and `8x7B` is no sum.
    last.split('-').find_map(|part| {
        let unit = match part.chars().last()? {
            'b' | 'B' => 1_000_000_000_u64,
            'm' | 'M' => 1_000_000,
            _ => return None,
        };
        let digits = part.get(..part.len() - 1)?;
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let whole: u64 = whole.parse().ok()?;
        let tenths: u64 = if fraction.is_empty() { 0 } else { fraction.get(..1)?.parse().ok()? };
        whole.checked_mul(unit)?.checked_add(tenths * (unit / 10))
    })
}

/// One model of the comparison.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The repository.
    pub repository: String,
    /// The counted parameters, or why the model is refused.
    pub counted: Result<u64, ParseError>,
    /// The published parameters, where known.
    pub published: Option<Published>,
}

impl Comparison {
    /// Whether the counted number is as near to the published one as it must be: so is a model that is refused by
    /// name, or one that nothing is published of.
    #[must_use]
    pub fn holds(&self) -> bool {
        match (&self.counted, self.published) {
            (Ok(counted), Some(published)) => {
                let off = u128::from(counted.abs_diff(published.parameters)) * 1000;
                off <= u128::from(published.parameters) * u128::from(published.tolerance())
            }
            (Ok(_), None) | (Err(ParseError::UnknownArchitecture { .. }), _) => true,
            (Err(_), _) => false,
        }
    }

    /// The difference in per cent with two decimals, such as `-0.27 %`.
    fn difference(&self) -> Option<String> {
        let (Ok(counted), Some(published)) = (&self.counted, self.published) else { return None };
        let hundredths = u128::from(counted.abs_diff(published.parameters)) * 10_000
            / u128::from(published.parameters.max(1));
        let sign = if *counted < published.parameters { "-" } else { "+" };
        Some(format!("{sign}{}.{:02} %", hundredths / 100, hundredths % 100))
    }
}

/// The comparison as a Markdown table.
#[must_use]
pub fn markdown(rows: &[Comparison]) -> String {
    let mut table = "| model | counted | published | difference |\n| --- | ---: | ---: | ---: |\n".to_owned();
    for row in rows {
        let counted = match &row.counted {
            Ok(count) => count.to_string(),
            Err(error) => error.to_string(),
        };
        let published = match row.published {
            Some(Published { parameters, basis: Basis::Stated }) => parameters.to_string(),
            Some(Published { parameters, basis: Basis::Name }) => format!("about {parameters}"),
            None => "unknown".to_owned(),
        };
        let difference = row.difference().unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = writeln!(table, "| {} | {counted} | {published} | {difference} |", row.repository);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_in_a_name_is_that_of_the_whole_model() {
        for (name, expected) in [
            ("Qwen/Qwen3-30B-A3B", Some(30_000_000_000)),
            ("LGAI-EXAONE/EXAONE-3.5-7.8B-Instruct", Some(7_800_000_000)),
            ("HuggingFaceTB/SmolLM-135M", Some(135_000_000)),
            ("mistralai/Mixtral-8x7B-v0.1", None),
            ("openai-community/gpt2", None),
            ("", None),
        ] {
            assert_eq!(in_name(name), expected, "{name}");
        }
    }

    #[test]
    fn a_difference_beyond_the_tolerance_does_not_hold() {
        let compare = |counted, basis| Comparison {
            repository: "a/b".to_owned(),
            counted: Ok(counted),
            published: Some(Published { parameters: 1_000_000, basis }),
        };
        assert!(compare(1_010_000, Basis::Stated).holds());
        assert!(!compare(1_010_001, Basis::Stated).holds());
        assert!(!compare(989_999, Basis::Stated).holds());
        assert!(compare(1_150_000, Basis::Name).holds());
        assert!(!compare(1_150_001, Basis::Name).holds());
        let table = markdown(&[compare(990_000, Basis::Stated)]);
        assert!(table.ends_with("| a/b | 990000 | 1000000 | -1.00 % |\n"), "{table}");
    }
}
