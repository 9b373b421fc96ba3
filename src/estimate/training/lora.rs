//! Low-rank adapters: which matrices get them, and how large they are.

use super::census::{Census, Group, Kind};
use crate::estimate::EstimateError;
use crate::model::Role;
use crate::units::{Overflow, shorten};

/// Every attention projection.
const ATTENTION: &str = "attention";
/// Every linear layer of the blocks.
const ALL_LINEAR: &str = "all-linear";

/// The two matrices of each adapter: rank x inputs, and outputs x rank.
pub(super) fn adapters(
    census: &Census,
    rank: u64,
    targets: &[String],
    model: &str,
) -> Result<Vec<Group>, EstimateError> {
    let mut chosen = vec![false; census.linears.len()];
    for target in targets {
        let mut found = false;
        for (slot, (name, role, _)) in chosen.iter_mut().zip(&census.linears) {
            if matches(target, name, *role) {
                *slot = true;
                found = true;
            }
        }
        if !found {
            return Err(EstimateError::Invalid {
                field: "training.loraTargets",
                problem: format!("\"{}\" is no linear layer of {}", shorten(target), shorten(model)),
                remedy: format!("use {ATTENTION}, {ALL_LINEAR}, or names of {}", names(census)),
            });
        }
    }
    let mut groups = Vec::new();
    for (_, (_, _, group)) in chosen.iter().zip(&census.linears).filter(|(chosen, _)| **chosen) {
        let adapter = |rows, columns| Group { kind: Kind::Other, count: group.count, rows, columns };
        groups.push(adapter(rank, group.columns));
        groups.push(adapter(group.rows, rank));
    }
    Ok(groups)
}

/// Trained parameters of adapters.
pub(super) fn parameters(adapters: &[Group]) -> Result<u64, Overflow> {
    adapters.iter().try_fold(0_u64, |sum, group| sum.checked_add(group.elements()?).ok_or(Overflow))
}

fn matches(target: &str, name: &str, role: Role) -> bool {
    match target.trim() {
        ALL_LINEAR => true,
        ATTENTION => role == Role::Attention,
        // As PEFT matches: the whole name, or its end at a dot.
        part => {
            name == part
                || name.strip_suffix(part).is_some_and(|before| !part.is_empty() && before.ends_with('.'))
        }
    }
}

/// The last parts of the names, each once.
fn names(census: &Census) -> String {
    let mut names: Vec<&str> =
        census.linears.iter().filter_map(|(name, _, _)| name.rsplit('.').next()).collect();
    names.sort_unstable();
    names.dedup();
    names.truncate(16);
    names.join(", ")
}
