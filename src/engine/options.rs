//! What the engines' ways of saying an option have in common.

use super::arguments::Flag;
use super::table::{number, plain};
use crate::estimate::Adapters;
use crate::refusal::Refusal;

/// More than any engine takes.
const MOST_COUNT: u64 = 65_536;
/// The most tokens that are guessed per step.
pub(super) const MOST_GUESSES: u64 = 1024;

pub(super) const fn adapters(count: u64, rank: u64) -> Adapters {
    Adapters { count, rank }
}

/// A number of adapters, or of an adapter's dimensions.
pub(super) fn count(flag: &Flag<'_>, what: &str) -> Result<u64, Refusal> {
    number(flag, what, MOST_COUNT, plain)
}

/// A number of guessed tokens.
pub(super) fn guesses(flag: &Flag<'_>) -> Result<u64, Refusal> {
    number(flag, "tokens", MOST_GUESSES, plain)
}

/// Whether a flag is on: there, and not with a value that says no.
pub(super) fn is_on(flag: &Flag<'_>) -> bool {
    !flag
        .value
        .is_some_and(|value| ["false", "0", "off", "no"].iter().any(|no| value.eq_ignore_ascii_case(no)))
}
