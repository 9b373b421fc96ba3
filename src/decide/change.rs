//! What a user could change of an object.

use crate::estimate::{Checkpointing, Method, Optimizer, Sharding};
use crate::precision::{CachePrecision, Precision};

/// A change to an object that makes it need less, with the value that the field would take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// Other weights.
    Precision(Precision),
    /// More or fewer ranks.
    Tensor(u64),
    /// Both at once.
    PrecisionAndTensor {
        /// The weights.
        precision: Precision,
        /// The ranks.
        tensor: u64,
    },
    /// A shorter context.
    Context(u64),
    /// Another KV cache.
    CachePrecision(CachePrecision),
    /// Fewer sequences at once.
    Sequences(u64),
    /// Activations that are made anew in training.
    Checkpointing(Checkpointing),
    /// Fewer sequences per step of training.
    MicroBatch(u64),
    /// An optimizer that keeps less.
    Optimizer(Optimizer),
    /// Fewer weights that are trained.
    Method(Method),
    /// Shorter sequences in training.
    SequenceLength(u64),
    /// State that is divided over more GPUs.
    Sharding {
        /// How many.
        gpus: u64,
        /// How it is divided.
        sharding: Sharding,
    },
}

impl Change {
    /// Whether both change the same fields.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}
