//! Why a model artefact could not be read.

use thiserror::Error;

/// Why an artefact is not a model shape.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ParseError {
    /// Not the format at all: truncated, not JSON, a wrong magic number.
    #[error("{what}: {problem}")]
    Malformed {
        /// What was read, such as `config.json`.
        what: &'static str,
        /// What is wrong, and where.
        problem: String,
    },
    /// A field is missing, of the wrong type, or out of range.
    #[error("{what}: {field}: {problem}")]
    Field {
        /// What was read.
        what: &'static str,
        /// The field.
        field: String,
        /// What is wrong with its value, and what would be right.
        problem: String,
    },
    /// An architecture that is not understood: refused by name rather than taken for a dense decoder.
    #[error("{what}: architecture \"{architecture}\" is not known to Loadline; {remedy}")]
    UnknownArchitecture {
        /// What was read.
        what: &'static str,
        /// Its name.
        architecture: String,
        /// What to do instead.
        remedy: &'static str,
    },
    /// Larger or more deeply nested than any real one.
    #[error("{what}: {problem}")]
    TooLarge {
        /// What was read.
        what: &'static str,
        /// What is too large, and the limit.
        problem: String,
    },
}
