//! Models that see or hear: towers, and what leads from them to a text model.

pub(super) mod audio;
mod florence;
mod nested;
pub(super) mod omni;
pub(super) mod projectors;
mod qformer;
mod qwen;
pub(super) mod transformer;
pub(super) mod vision;

pub(super) use nested::TEXT_KEYS;
