//! Which table is which engine's. A new engine is its file, and a line here.

use super::table::Table;
use super::{llama_cpp, sglang, tgi, transformers, vllm};
use crate::precision::Engine;

/// The table of an engine.
pub(super) const fn of(engine: Engine) -> &'static Table {
    match engine {
        Engine::Vllm => &vllm::TABLE,
        Engine::Sglang => &sglang::TABLE,
        Engine::LlamaCpp => &llama_cpp::TABLE,
        Engine::Tgi => &tgi::TABLE,
        Engine::Transformers => &transformers::TABLE,
        Engine::None => &transformers::NONE,
    }
}
