//! The hyperparameters of an architecture in a header's metadata, each below the architecture's name.

use super::header::field;
use super::metadata::{Metadata, Value};
use crate::model::ParseError;

/// The largest number that a hyperparameter is believed to be.
const MAX: u64 = 1 << 32;

/// The metadata of one architecture.
pub(super) struct Keys<'a> {
    pub(super) architecture: &'a str,
    metadata: &'a Metadata,
}

impl<'a> Keys<'a> {
    pub(super) const fn new(architecture: &'a str, metadata: &'a Metadata) -> Self {
        Self { architecture, metadata }
    }

    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    /// A value as it stands.
    pub(super) fn raw(&self, name: &str) -> Option<&'a Value> {
        self.metadata.get(&self.key(name))
    }

    /// An error about a key.
    pub(super) fn error(&self, name: &str, problem: String) -> ParseError {
        field(&self.key(name), problem)
    }

    fn checked(&self, name: &str, value: i128) -> Result<u64, ParseError> {
        u64::try_from(value)
            .ok()
            .filter(|&value| value <= MAX)
            .ok_or_else(|| self.error(name, format!("it is {value}; it must be a number from 0 to {MAX}")))
    }

    /// A number, if it is there. An array of one number repeated counts as that number.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, ParseError> {
        match self.raw(name) {
            None => Ok(None),
            Some(&Value::Integer(value)) => self.checked(name, value).map(Some),
            Some(Value::Integers(values)) if !values.is_empty() => {
                let largest = values.iter().copied().max().unwrap_or(0);
                self.checked(name, largest).map(Some)
            }
            Some(_) => Err(self.error(name, "it must be a number".to_owned())),
        }
    }

    /// A number that must be there, and be at least 1.
    pub(super) fn required(&self, name: &str) -> Result<u64, ParseError> {
        match self.number(name)? {
            Some(0) => Err(self.error(name, "it is 0; it must be at least 1".to_owned())),
            Some(value) => Ok(value),
            None => Err(self.error(name, "it is missing, and needed for the cache".to_owned())),
        }
    }

    /// A number for each layer: a scalar counts for all of them.
    pub(super) fn per_layer(&self, name: &str, layers: usize) -> Result<Option<Vec<u64>>, ParseError> {
        match self.raw(name) {
            None => Ok(None),
            Some(&Value::Integer(value)) => Ok(Some(vec![self.checked(name, value)?; layers])),
            Some(Value::Integers(values)) if values.len() >= layers => values
                .iter()
                .take(layers)
                .map(|&value| self.checked(name, value))
                .collect::<Result<_, _>>()
                .map(Some),
            Some(Value::Integers(values)) => {
                Err(self.error(name, format!("it has {} entries for {layers} layers", values.len())))
            }
            Some(_) => Err(self.error(name, "it must be a number, or an array of one per layer".to_owned())),
        }
    }
}
