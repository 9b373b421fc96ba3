//! What a newcomer should know of what was left out or slipped in.

use crate::precision::Precision;
use crate::units::{Bytes, Parameters};

use super::text::counted;

/// The context is the model's longest, since none was given, and takes much of the memory.
#[must_use]
pub fn longest_context(longest: u64, usual: u64, required: Bytes) -> String {
    format!(
        "No context was given: the model's own longest, {}, is what is counted. A GPU needs {required} with --context {usual}.",
        counted(longest, "token")
    )
}

/// A size of which the unit was forgotten.
#[must_use]
pub fn so_few_parameters(parameters: u64) -> String {
    let few = Parameters(parameters);
    format!(
        "{few} parameters are fewer than any model that is served has: {few}B is {few} billion, and {few}M is {few} million."
    )
}

/// A base that is quantised whatever wide precision was asked for.
#[must_use]
pub fn quantised_base(asked: Precision, held: Precision) -> String {
    format!(
        "QLoRA keeps its base quantised: {held} is counted, and {asked} taken for the type that it computes in."
    )
}

/// Arguments of an engine of which nothing is known.
#[must_use]
pub fn uncounted(arguments: &[String]) -> String {
    format!("Not counted, as nothing is known of it that changes memory: {}.", arguments.join(", "))
}
