//! A figure with how it was worked out.

use crate::units::Bytes;

/// A figure and its arithmetic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Figure {
    pub bytes: Bytes,
    /// The most it is likely to be.
    pub high: Bytes,
    pub formula: String,
}
