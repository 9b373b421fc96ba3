//! The same model run otherwise, or on other GPUs: one row each.

use schemars::JsonSchema;
use serde::Serialize;

use super::ComponentsDocument;
use crate::estimate::Estimate;
use crate::units::{Bytes, Margin};

/// The same model otherwise.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ComparisonDocument {
    /// What differs: the flag's name, or `gpu`.
    pub by: &'static str,
    /// A row for each value of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<VariantDocument>,
    /// A row for each common GPU.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<FittedCardDocument>,
    /// The values that are not possible, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOutDocument>,
}

/// The model with one value changed.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VariantDocument {
    /// The value.
    pub value: String,
    /// Whether it is the value of the estimate itself.
    pub as_asked: bool,
    /// GPUs that it takes.
    pub gpus: u64,
    /// Bytes by component on the GPU that needs most.
    pub per_gpu: ComponentsDocument,
    /// Bytes summed over GPUs.
    pub total: Bytes,
    /// The GPU that needs most, times the margin.
    pub required_per_gpu: Bytes,
    /// The smallest common GPU that has this much.
    pub smallest_gpu: Option<&'static str>,
    /// Whether the GPU that was asked about has this much.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fits: Option<bool>,
}

impl VariantDocument {
    /// The row of an estimate; `fits` and the rest that needs a table of GPUs is the caller's.
    #[must_use]
    pub fn new(value: String, as_asked: bool, estimate: &Estimate, margin: Margin) -> Self {
        let training = estimate.workload.training.is_some();
        Self {
            value,
            as_asked,
            gpus: estimate.gpus,
            per_gpu: ComponentsDocument::new(&estimate.per_gpu, training, Some(estimate.total_per_gpu)),
            total: estimate.total,
            required_per_gpu: margin.apply(estimate.total_per_gpu).unwrap_or(Bytes(u64::MAX)),
            smallest_gpu: None,
            fits: None,
        }
    }
}

/// What the model takes of one kind of GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FittedCardDocument {
    /// The GPU.
    pub gpu: &'static str,
    /// Its memory.
    pub memory: Bytes,
    /// Whether it fits as it was asked for.
    pub fits: bool,
    /// The fewest of them that the model can be shared among and fits.
    pub fewest_gpus: Option<u64>,
    /// What each of so many needs, with the margin.
    pub required_per_gpu: Option<Bytes>,
    /// The longest context, or sequence in training, that fits so many.
    pub longest_context: Option<u64>,
    /// The most sequences, or the largest micro batch in training, that fit so many.
    pub most_sequences: Option<u64>,
}

/// A value that is not possible.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LeftOutDocument {
    /// The value.
    pub value: String,
    /// Why.
    pub problem: String,
}

/// Memory over context.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CurveDocument {
    /// From the shortest context to the longest.
    pub points: Vec<CurvePoint>,
}

/// What the model needs at one context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CurvePoint {
    /// Tokens per sequence.
    pub context: u64,
    /// Bytes on the GPU that needs most.
    pub total_per_gpu: Bytes,
    /// The same times the margin.
    pub required_per_gpu: Bytes,
}
