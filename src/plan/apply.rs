//! A change, made in a spec: what a user does who follows a suggestion.

use crate::api::ModelDeploymentSpec;
use crate::api::v1alpha1::{ContextSpec, ParallelismSpec, TensorParallel, TrainingSpec};
use crate::decide::Change;

/// The spec with a change made in it. A change of training leaves a spec that serves as it is.
#[must_use]
pub fn apply(change: &Change, spec: &ModelDeploymentSpec) -> ModelDeploymentSpec {
    let mut spec = spec.clone();
    match *change {
        Change::Precision(precision) => spec.precision = Some(precision),
        Change::Tensor(tensor) => divide(&mut spec, tensor),
        Change::PrecisionAndTensor { precision, tensor } => {
            spec.precision = Some(precision);
            divide(&mut spec, tensor);
        }
        Change::Context(length) => context(&mut spec).length = Some(signed(length)),
        Change::CachePrecision(precision) => context(&mut spec).cache_precision = Some(precision),
        Change::Sequences(sequences) => context(&mut spec).sequences = Some(signed(sequences)),
        Change::Checkpointing(checkpointing) => {
            train(&mut spec, |training| training.gradient_checkpointing = Some(checkpointing));
        }
        Change::MicroBatch(sequences) => {
            train(&mut spec, |training| training.micro_batch = Some(signed(sequences)));
        }
        Change::Optimizer(optimizer) => train(&mut spec, |training| training.optimizer = Some(optimizer)),
        Change::Method(method) => train(&mut spec, |training| training.method = method),
        Change::SequenceLength(length) => {
            train(&mut spec, |training| training.sequence_length = Some(signed(length)));
        }
        Change::Sharding { gpus, sharding } => train(&mut spec, |training| {
            training.gpus = Some(signed(gpus));
            training.sharding = Some(sharding);
        }),
    }
    spec
}

fn context(spec: &mut ModelDeploymentSpec) -> &mut ContextSpec {
    spec.context.get_or_insert_default()
}

fn divide(spec: &mut ModelDeploymentSpec, tensor: u64) {
    let parallelism: &mut ParallelismSpec = spec.parallelism.get_or_insert_default();
    parallelism.tensor = Some(TensorParallel::Ranks(signed(tensor)));
}

fn train(spec: &mut ModelDeploymentSpec, change: impl FnOnce(&mut TrainingSpec)) {
    spec.training.as_mut().map(change);
}

/// As the API has numbers. What is too large for it is refused for its size.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
