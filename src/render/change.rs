//! A change in words: the fields as a spec spells them, and the value that each would take.

use crate::decide::Change;

/// The fields that a change sets, such as `precision`, each with its value as a spec has it.
#[must_use]
pub fn change_fields(change: &Change) -> Vec<(&'static str, String)> {
    match change {
        Change::Precision(precision) => vec![("precision", precision.to_string())],
        Change::Tensor(tensor) => vec![("tensor", tensor.to_string())],
        Change::PrecisionAndTensor { precision, tensor } => {
            vec![("precision", precision.to_string()), ("tensor", tensor.to_string())]
        }
        Change::Context(length) => vec![("context", length.to_string())],
        Change::CachePrecision(precision) => vec![("cachePrecision", precision.to_string())],
        Change::Sequences(sequences) => vec![("sequences", sequences.to_string())],
        Change::Checkpointing(checkpointing) => vec![("gradientCheckpointing", checkpointing.to_string())],
        Change::MicroBatch(sequences) => vec![("microBatch", sequences.to_string())],
        Change::Optimizer(optimizer) => vec![("optimizer", optimizer.to_string())],
        Change::Method(method) => vec![("method", method.to_string())],
        Change::SequenceLength(length) => vec![("sequenceLength", length.to_string())],
        Change::Sharding { gpus, sharding } => {
            vec![("gpus", gpus.to_string()), ("sharding", sharding.to_string())]
        }
    }
}

/// The words for a change: `precision int4 and tensor 2`.
#[must_use]
pub fn change(change: &Change) -> String {
    let fields: Vec<String> =
        change_fields(change).iter().map(|(field, value)| format!("{field} {value}")).collect();
    super::text::listed(&fields)
}
