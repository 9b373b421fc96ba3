//! What serves a model: the arguments that each engine takes, what they say of memory, and how a container of it is
//! started so that it stays within the estimate. Pure.

pub(crate) mod arguments;
mod combine;
mod fraction;
mod read;
mod start;
pub(crate) mod utilization;

pub use read::uncounted;
pub(crate) use read::{Said, read};
pub use start::Nothing;
pub(crate) use start::{Launch, Question, Start, start};
