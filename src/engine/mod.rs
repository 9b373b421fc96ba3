//! What serves a model: one file and one table per engine, by which its arguments are read and written, and how a container
//! of it is started so that it stays within the estimate. Pure.

pub(crate) mod arguments;
mod combine;
mod fraction;
mod llama_cpp;
mod loading;
mod named;
mod options;
mod read;
mod sglang;
mod start;
mod stated;
mod table;
mod tables;
mod tgi;
mod transformers;
mod version;
mod vllm;
mod write;

pub(crate) use fraction::{check as check_fraction, least_margin};
pub(crate) use loading::loaders;
pub(crate) use named::{Named, named};
pub(crate) use read::{Said, read};
pub use read::{remarks, uncounted};
pub use start::Nothing;
pub(crate) use start::{Launch, Question, Start, is_own_image, model_variables, start, stock_of};
pub(crate) use stated::{Stated, Weights, Word, flag_of_variable, is_only_of, model_flag, stated};
pub(crate) use version::version;
pub(crate) use write::{caps_each_group, check};

#[cfg(test)]
mod properties;
