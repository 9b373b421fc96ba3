//! What no table describes.

pub(super) mod deepseek_v4;
pub(super) mod gemma;
pub(super) mod jetmoe;
pub(super) mod longcat;
pub(super) mod mllama;
pub(super) mod nemotron_nas;
pub(super) mod rwkv;
pub(super) mod seq2seq;
pub(super) mod t5;
pub(super) mod zamba;
