//! Safetensors: the headers of a model's weight files, its index, and the [`ModelShape`](super::ModelShape) they give.

mod cache;
mod dtype;
mod entry;
mod header;
mod index;
mod names;
mod pack;
mod shape;
mod table;
#[cfg(test)]
mod tests;

pub use dtype::Dtype;
pub use entry::{Entry, MAX_TENSORS};
pub use header::{Header, MAX_HEADER, header_length, parse_header, parse_header_json};
pub use index::{Index, MAX_FILES, MAX_INDEX};
pub use shape::{shape, shape_with_quant};
