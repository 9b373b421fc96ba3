//! The published number of parameters of a model, and whether a counted one agrees with it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ModelShape, Role};

/// What a published number counts otherwise than [`ModelShape::parameters`] does: the Hub adds up every tensor of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Counts {
    /// With the layers that are loaded only for speculation.
    Draft,
    /// With the copies of the embedding and of the output head that the draft layers have for themselves.
    DraftEmbeddings,
    /// With an output head that is stored although it is the embedding.
    TiedHead,
    /// Without an output head: the config speaks of one, but the files of an embedding model have none.
    NoHead,
}

/// A published number of parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Parameters. Of a rounded number, the digits that are not published are zero.
    pub parameters: u64,
    /// How many leading digits are published; `None` if all are.
    pub digits: Option<u32>,
    /// What it counts otherwise.
    pub counts: Vec<Counts>,
}

impl Published {
    /// The parameters of a shape, counted as the published number counts them; `None` if they do not fit 64 bits.
    #[must_use]
    pub fn count(&self, shape: &ModelShape) -> Option<u64> {
        let embedding = shape.vocabulary.checked_mul(shape.hidden_size)?;
        self.counts.iter().try_fold(shape.parameters, |count, otherwise| match otherwise {
            Counts::Draft => {
                let mut draft = shape.tensors.iter().filter(|tensor| tensor.role == Role::Draft);
                draft.try_fold(count, |sum, tensor| {
                    let elements = tensor.count.checked_mul(tensor.rows)?.checked_mul(tensor.columns)?;
                    sum.checked_add(elements)
                })
            }
            Counts::DraftEmbeddings => count.checked_add(embedding.checked_mul(2)?),
            Counts::TiedHead => count.checked_add(embedding),
            Counts::NoHead => count.checked_sub(embedding),
        })
    }

    /// Whether a counted number agrees: to one per cent, or to half of the last published digit where that is coarser.
    #[must_use]
    pub fn agrees(&self, counted: u64) -> bool {
        let off = u128::from(counted.abs_diff(self.parameters));
        off * 100 <= u128::from(self.parameters) || off * 2 <= self.unit()
    }

    /// One of the last published digit, in parameters.
    fn unit(&self) -> u128 {
        let length = self.parameters.checked_ilog10().map_or(1, |log| log + 1);
        let hidden = self.digits.map_or(0, |digits| length.saturating_sub(digits));
        10_u128.pow(hidden)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::catalog;

    fn published(parameters: u64, digits: Option<u32>) -> Published {
        Published { parameters, digits, counts: Vec::new() }
    }

    #[test]
    fn a_number_agrees_to_one_per_cent_or_half_of_the_last_published_digit() {
        for (parameters, digits, counted, expected) in [
            (1_000_000, None, 1_010_000, true),
            (1_000_000, None, 1_010_001, false),
            (1_000_000, None, 989_999, false),
            // "8B" says 7.5 to 8.5 billion.
            (8_000_000_000, Some(1), 8_500_000_000, true),
            (8_000_000_000, Some(1), 7_500_000_000, true),
            (8_000_000_000, Some(1), 8_500_000_001, false),
            (8_000_000_000, Some(1), 7_499_999_999, false),
            // "8.0B" says 7.95 to 8.05, and one per cent is more.
            (8_000_000_000, Some(2), 8_080_000_000, true),
            (8_000_000_000, Some(2), 8_080_000_001, false),
            // "70B" says 69.5 to 70.5, and one per cent is more.
            (70_000_000_000, Some(2), 70_700_000_000, true),
            (70_000_000_000, Some(2), 71_000_000_000, false),
            (0, None, 0, true),
            (0, None, 1, false),
            (u64::MAX, Some(1), u64::MAX, true),
            (9, Some(30), 10, false),
        ] {
            assert_eq!(
                published(parameters, digits).agrees(counted),
                expected,
                "{parameters} to {digits:?} digits, {counted}"
            );
        }
    }

    #[test]
    fn a_shape_is_counted_as_the_published_number_counts() {
        let count = |name: &str, counts: &[Counts]| {
            let shape = catalog::shape(name).unwrap_or_else(|| panic!("{name} is in the catalog"));
            Published { counts: counts.to_vec(), ..published(1, None) }.count(&shape)
        };
        for (name, counts, expected) in [
            ("qwen3-0.6b", &[] as &[Counts], 596_049_920),
            ("qwen3-0.6b", &[Counts::TiedHead], 751_632_384),
            ("qwen3-8b", &[Counts::NoHead], 8_190_735_360 - 151_936 * 4096),
            ("glm-5", &[Counts::Draft], 753_864_139_008),
            ("glm-4.5", &[Counts::Draft, Counts::DraftEmbeddings], 358_337_791_296),
        ] {
            assert_eq!(count(name, counts), Some(expected), "{name} with {counts:?}");
        }
        let mut shape = catalog::shape("qwen3-0.6b").expect("it is in the catalog");
        shape.vocabulary = u64::MAX;
        assert_eq!(published(1, None).count(&shape), None);
    }
}
