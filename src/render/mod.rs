//! The only place that makes words: a decision becomes a condition's message, a table, a document.
//!
//! Invariants: the status, the command line and a CI job say the same because they all call this; a message
//! is at most 1,024 bytes; the numbers of a sum add up as printed; nothing from a label or a file can steer a terminal.

mod admission;
mod change;
pub mod hints;
pub mod json;
pub mod junit;
pub mod markdown;
mod message;
mod node;
mod outcome;
pub mod reasons;
pub mod sarif;
mod standing;
pub mod table;
pub mod text;
pub mod yaml;

pub use admission::Answer;
pub use change::{change, change_fields};
pub use message::{components, message, needs, plan_error};
pub use node::{fault_words, memory_problem, node_message, problem, product, sharing_word, vendor_name};
pub use outcome::{Found, Origin, Outcome, verdict_word};
pub use standing::{nothing, planned, serves_on, standing, up_to_date};

#[cfg(test)]
mod tests;
