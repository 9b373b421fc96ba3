//! What decoder layers are made of, each with its tensors and what it keeps per token or per sequence.

pub(super) mod attention;
pub(super) mod mamba;
pub(super) mod mlp;
pub(super) mod names;
pub(super) mod state;
