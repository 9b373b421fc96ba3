//! The weights: which tensors the engine loads, at what size, on which GPU.

mod allocator;
pub(crate) mod format;
mod gguf_mix;
mod ignored;
pub(crate) mod loading;
mod pattern;
pub(crate) mod stage;
