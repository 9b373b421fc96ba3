//! The families of decoders, as tables: a new ordinary one is one entry.

mod adjust;
mod classic;
mod dense;
pub(super) mod family;
mod hybrid;
mod latent;
pub(super) mod layers;
mod moe;

use self::family::{Family, LayerRule};
use crate::model::pattern::Every;

/// Every table.
const ALL: [&[Family]; 5] =
    [dense::FAMILIES, classic::FAMILIES, moe::FAMILIES, latent::FAMILIES, hybrid::FAMILIES];

/// The family of a `model_type`.
pub(super) fn find(model_type: &str) -> Option<&'static Family> {
    ALL.into_iter().flatten().find(|family| family.types.contains(&model_type))
}

/// The period by which the layers of a `model_type` take turns, where its config need not say.
pub(super) fn period(model_type: &str) -> Option<Every> {
    find(model_type)?.layers.iter().find_map(|rule| match rule {
        LayerRule::Every(every, ..) => Some(*every),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_type_is_in_one_entry() {
        let mut seen = BTreeSet::new();
        for model_type in ALL.into_iter().flatten().flat_map(|family| family.types) {
            assert!(seen.insert(model_type), "{model_type} is there twice");
        }
        assert!(seen.len() > 130, "{} types", seen.len());
    }
}
