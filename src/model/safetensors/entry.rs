//! One tensor of a safetensors file, and what may be wrong with it.

use super::dtype::Dtype;
use crate::model::ParseError;
use crate::units::shorten;

/// The most tensors in one file; the largest models have some 200,000 in all of their files together.
pub const MAX_TENSORS: usize = 100_000;
/// What is read, for messages.
pub(super) const WHAT: &str = "safetensors header";

/// One tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: Dtype,
    /// Its dimensions, the slowest first; none for a scalar.
    pub shape: Vec<u64>,
    /// Bytes in the file.
    pub bytes: u64,
}

impl Entry {
    /// The number of elements as stored: of containers, for packed types.
    #[must_use]
    pub fn elements(&self) -> u64 {
        // Checked when the header was read.
        self.shape.iter().product()
    }
}

/// The product of the dimensions. A zero makes it zero, whatever the others are.
pub(super) fn elements(shape: &[u64]) -> Option<u64> {
    if shape.contains(&0) {
        // A product of the others must not overflow later, either.
        return shape
            .iter()
            .try_fold(1_u64, |product, &dimension| product.checked_mul(dimension.max(1)))
            .map(|_| 0);
    }
    shape.iter().try_fold(1_u64, |product, &dimension| product.checked_mul(dimension))
}

pub(super) fn malformed(problem: String) -> ParseError {
    ParseError::Malformed { what: WHAT, problem }
}

pub(super) fn field(name: &str, problem: String) -> ParseError {
    ParseError::Field { what: WHAT, field: format!("tensor \"{}\"", shorten(name)), problem }
}
