//! What fits a GPU, and which GPUs are on either side of a requirement.

use schemars::JsonSchema;
use serde::Serialize;

use crate::estimate::Sharding;
use crate::precision::Precision;
use crate::units::Bytes;

/// What fits a GPU, each with everything else as it is.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FitDocument {
    /// The GPU's name, if it was named.
    pub gpu: Option<String>,
    /// Its memory.
    pub memory: Bytes,
    /// Whether it has the memory that is required.
    pub fits: bool,
    /// The longest context, in tokens, of those that the model was made for. In training, the longest sequence.
    pub longest_context: Option<u64>,
    /// The most sequences at once. In training, the largest micro batch.
    pub most_sequences: Option<u64>,
    /// The fewest tensor-parallel ranks; not when training.
    pub fewest_ranks: Option<u64>,
    /// The largest of the smaller precisions; not when training.
    pub finest_precision: Option<Precision>,
    /// The fewest GPUs that a training run fits on with all of its state shared (ZeRO stage 3).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fewest_training_gpus: Option<u64>,
    /// The sharding that divides least and fits on the GPUs that a training run has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lightest_sharding: Option<Sharding>,
    /// The largest margin that there is room for; none if there is none even for the estimate itself.
    pub largest_margin: Option<String>,
    /// What would make it fit: the least change first. Empty if it fits.
    pub changes: Vec<ChangeDocument>,
}

/// A change that makes it fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChangeDocument {
    /// The flags to write, such as `--tensor 2`.
    pub flags: String,
    /// What a GPU then needs, with the margin.
    pub required_per_gpu: Bytes,
    /// How many GPUs it then takes.
    pub gpus: u64,
}

/// A GPU of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CardDocument {
    /// Its name.
    pub name: &'static str,
    /// Its memory.
    pub memory: Bytes,
}

/// The common GPUs on either side of a requirement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CardsDocument {
    /// The smallest that has the memory required.
    pub smallest: Option<CardDocument>,
    /// The largest that has less.
    pub too_small: Option<CardDocument>,
    /// How it could be shared among several, where one is not enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared: Option<SharedDocument>,
}

/// A model shared among several GPUs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SharedDocument {
    /// The flags that share it.
    #[serde(flatten)]
    pub change: ChangeDocument,
    /// The smallest common GPU that then has the memory required.
    pub smallest: CardDocument,
}

/// Whether a GPU has what is required.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CardFitDocument {
    /// Its name.
    pub name: &'static str,
    /// Its memory.
    pub memory: Bytes,
    /// Whether it has what is required of one GPU.
    pub fits: bool,
}
