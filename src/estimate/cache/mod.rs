//! The caches: keys, values and recurrent state, as the engine sizes them.

pub(crate) mod by_layer;
pub(crate) mod element;
mod packed;
mod paged;
mod pool;
