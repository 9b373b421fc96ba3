//! The same documents as JSON, in YAML.

use serde::Serialize;

/// A document as it is printed.
///
/// # Errors
/// As for JSON: none that these documents can meet.
pub fn print<T: Serialize>(document: &T) -> Result<String, serde_yaml::Error> {
    serde_yaml::to_string(document)
}
