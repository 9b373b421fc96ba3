//! Which GGML type each tensor gets in a GGUF mix such as `q4_k_m`.

use super::format::Format;
use crate::model::{ModelShape, Tensor};
use crate::precision::Precision;

pub(super) fn format(precision: Precision, tensor: &Tensor, shape: &ModelShape) -> Format {
    let _ = (tensor, shape);
    let (bits, per) = super::format::bits_per_parameter(precision);
    let _ = per;
    Format::Plain(bits)
}
