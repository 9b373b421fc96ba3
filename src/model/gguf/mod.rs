//! GGUF: the header of a model's files, and the [`ModelShape`](super::ModelShape) it gives.

mod header;
mod keys;
mod layers;
mod metadata;
mod names;
mod reader;
mod shape;
mod tensor_type;
#[cfg(test)]
mod tests;

pub use header::{Entry, Header, MAX_TENSORS, Progress, parse_header, parse_whole};
pub use metadata::{Metadata, Value};
pub use reader::MAX_HEADER;
pub use shape::{shape, split_count};
pub use tensor_type::TensorType;
