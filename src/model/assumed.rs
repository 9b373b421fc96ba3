//! The typical shape of a model of which only the size is known.

use super::ModelShape;
use crate::units::Parameters;

/// The shape that is assumed for a size.
#[must_use]
pub fn shape(parameters: Parameters) -> ModelShape {
    let _ = parameters;
    unimplemented!()
}
