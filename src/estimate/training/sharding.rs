//! How training state is divided over data-parallel GPUs, and the buffers that dividing it takes.

use super::census::{Census, product};
use crate::estimate::{EstimateError, Offload, Sharding, Training};
use crate::units::{Bytes, Overflow};

/// One of DeepSpeed's communication buffers: 5e8 elements of 16 bits (`reduce_bucket_size`, `allgather_bucket_size`).
const BUCKET: Bytes = Bytes(1_000_000_000);

/// State of one run before it is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) weights: Bytes,
    pub(super) gradients: Bytes,
    pub(super) optimizer: Bytes,
    pub(super) step: Bytes,
}

/// Whether DeepSpeed trains: it keeps a 32-bit copy of what it trains, and has an optimizer step of its own.
pub(super) const fn is_zero(sharding: Sharding) -> bool {
    matches!(sharding, Sharding::Zero1 | Sharding::Zero2 | Sharding::Zero3)
}

/// Whether every GPU holds only its part of the weights.
pub(super) const fn shards_weights(sharding: Sharding) -> bool {
    matches!(sharding, Sharding::Zero3 | Sharding::Fsdp)
}

/// What is left on one GPU.
pub(super) fn divide(state: State, training: &Training) -> State {
    let share = |bytes: Bytes, divided: bool| if divided { bytes.share_of(training.gpus) } else { bytes };
    let (weights, gradients, optimizer) = match training.sharding {
        Sharding::None | Sharding::Ddp => (false, false, false),
        Sharding::Zero1 => (false, false, true),
        Sharding::Zero2 => (false, true, true),
        Sharding::Zero3 | Sharding::Fsdp => (true, true, true),
    };
    let mut left = State {
        weights: share(state.weights, weights),
        gradients: share(state.gradients, gradients),
        optimizer: share(state.optimizer, optimizer),
        step: share(state.step, optimizer),
    };
    if training.offload.contains(&Offload::Parameters) {
        left.weights = Bytes::ZERO;
        // FSDP's CPU offload takes the gradients along, and steps on the host.
        if training.sharding == Sharding::Fsdp {
            left = State { gradients: Bytes::ZERO, optimizer: Bytes::ZERO, step: Bytes::ZERO, ..left };
        }
    }
    if training.offload.contains(&Offload::Optimizer) {
        left.optimizer = Bytes::ZERO;
        left.step = Bytes::ZERO;
    }
    left
}

/// Communication buffers. `trained` is the number of trained parameters, `gradients` their gradients on one GPU.
pub(super) fn buffers(
    census: &Census,
    training: &Training,
    trained: u64,
    gradients: Bytes,
) -> Result<Bytes, Overflow> {
    let bucket = |elements: u64| Ok::<_, Overflow>(product(&[elements, 2])?.min(BUCKET));
    match training.sharding {
        Sharding::None | Sharding::Fsdp => Ok(Bytes::ZERO),
        // The reducer's buckets are a second copy of the gradients.
        Sharding::Ddp => Ok(gradients),
        Sharding::Zero1 | Sharding::Zero2 => bucket(trained)?.times(2),
        Sharding::Zero3 => bucket(census.parameters.max(trained))?.times(2),
    }
}

/// Refuses what no framework can do.
pub(super) fn validate(training: &Training) -> Result<(), EstimateError> {
    if training.offload.contains(&Offload::Parameters) && !shards_weights(training.sharding) {
        return Err(EstimateError::Invalid {
            field: "training.offload",
            problem: format!("parameters cannot be offloaded with sharding {}", training.sharding),
            remedy: "use sharding fsdp or zero3, or offload the optimizer only".to_owned(),
        });
    }
    Ok(())
}
