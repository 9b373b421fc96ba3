//! Decoders that no table describes.

pub(super) mod deepseek_v4;
pub(super) mod gemma;
pub(super) mod jetmoe;
pub(super) mod longcat;
pub(super) mod nemotron_nas;
pub(super) mod rwkv;
pub(super) mod zamba;
