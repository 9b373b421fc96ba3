//! How a model is divided among GPUs: tensor-parallel ranks share each layer, pipeline stages share the layers.

use std::ops::Range;

use super::ranks::Ranks;
use super::{EstimateError, Workload, divisibility};
use crate::model::{Layer, ModelShape, Role, Split, Tensor};
use crate::precision::Engine;

/// The most pipeline stages that are worked out.
const MOST_STAGES: u64 = 4096;

/// The division of a model among GPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Ranks that share the attention of a layer; all are alike.
    pub tensor: u64,
    /// Ranks that share everything else, and how many there are of a stage.
    pub ranks: Ranks,
    /// The stages, in order.
    pub stages: Vec<Stage>,
    /// What the user should know of it.
    pub notes: Vec<String>,
}

/// One stage of the pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stage {
    /// Its place among the stages.
    pub index: u64,
    /// How many stages there are.
    pub of: u64,
    /// The decoder layers that it holds.
    pub layers: Range<u64>,
    /// How many layers there are in all.
    pub all_layers: u64,
}

impl Stage {
    /// Whether the embeddings live here.
    pub(super) const fn first(&self) -> bool {
        self.index == 0
    }

    /// Whether the output head lives here.
    pub(super) const fn last(&self) -> bool {
        self.index + 1 == self.of
    }

    /// Its layers' caches.
    pub(super) fn caches<'a>(&self, layers: &'a [Layer]) -> impl Iterator<Item = &'a Layer> {
        let start = usize::try_from(self.layers.start).unwrap_or(usize::MAX);
        let count = usize::try_from(self.layers.end - self.layers.start).unwrap_or(usize::MAX);
        layers.iter().skip(start).take(count)
    }
}

/// Whether the engine gives whole layers to each GPU instead of sharing each layer: llama.cpp's `--split-mode layer`
/// and transformers' `device_map="auto"`.
const fn splits_by_layer(engine: Engine) -> bool {
    matches!(engine, Engine::LlamaCpp | Engine::Transformers)
}

/// How the workload divides the model.
///
/// # Errors
/// A parallelism of 0, more stages than layers, or a tensor parallelism that does not divide the heads.
pub(super) fn layout(shape: &ModelShape, workload: &Workload) -> Result<Layout, EstimateError> {
    for (field, value) in [
        ("parallelism.tensor", workload.tensor),
        ("parallelism.pipeline", workload.pipeline),
        ("parallelism.data", workload.data),
    ] {
        if value == 0 {
            return Err(EstimateError::Invalid {
                field,
                problem: "0 GPUs cannot hold a model".to_owned(),
                remedy: "write 1 or more".to_owned(),
            });
        }
    }
    let gpus = workload.tensor.checked_mul(workload.pipeline).ok_or(crate::units::Overflow)?;
    let mut notes = Vec::new();
    let (tensor, stages, field) = if splits_by_layer(workload.engine) {
        if workload.tensor > 1 {
            notes.push(format!(
                "{} gives whole layers to each GPU, so tensor {} is counted as {gpus} stages.",
                workload.engine, workload.tensor
            ));
        }
        (1, gpus, if workload.pipeline > 1 { "parallelism.pipeline" } else { "parallelism.tensor" })
    } else {
        (workload.tensor, workload.pipeline, "parallelism.pipeline")
    };
    let all_layers = layer_count(shape);
    let on_host = layers_on_host(workload, all_layers)?;
    if on_host > 0 {
        notes.push(format!(
            "{on_host} of {all_layers} layers stay in host memory, with their cache; they are not counted."
        ));
    }
    let on_gpus = all_layers - on_host;
    if stages > on_gpus.max(1) {
        return Err(EstimateError::Invalid {
            field,
            problem: format!("{stages} stages cannot share {on_gpus} layers"),
            remedy: format!("write at most {}", on_gpus.max(1)),
        });
    }
    if stages > MOST_STAGES {
        return Err(EstimateError::Invalid {
            field,
            problem: format!("{stages} stages are more than any cluster runs"),
            remedy: format!("write at most {MOST_STAGES}"),
        });
    }
    let ranks = Ranks::of(shape, workload, tensor)?;
    if tensor > 1 || ranks.experts > 1 {
        notes.extend(divisibility::check(shape, workload)?);
    }
    let stages = (0..stages)
        .map(|index| {
            let own = stage_layers(on_gpus, index, stages);
            Stage { index, of: stages, layers: own.start + on_host..own.end + on_host, all_layers }
        })
        .collect();
    Ok(Layout { tensor: ranks.attention, ranks, stages, notes })
}

/// Layers that llama.cpp leaves in host memory: the first ones. The output counts as a layer (`-ngl`, b8133).
fn layers_on_host(workload: &Workload, all_layers: u64) -> Result<u64, EstimateError> {
    let Some(on_gpus) = workload.options.gpu_layers.filter(|_| workload.engine == Engine::LlamaCpp) else {
        return Ok(0);
    };
    if on_gpus == 0 {
        return Err(EstimateError::Invalid {
            field: "engine.args",
            problem: "-ngl 0 puts no layer on a GPU".to_owned(),
            remedy: "write 1 or more, or leave it out for all layers".to_owned(),
        });
    }
    Ok(all_layers.saturating_add(1).saturating_sub(on_gpus).min(all_layers))
}

/// Decoder (or encoder) layers, by the caches and by the tensors.
fn layer_count(shape: &ModelShape) -> u64 {
    let by_tensor =
        shape.tensors.iter().filter_map(|tensor| tensor.layer).max().map_or(0, |last| u64::from(last) + 1);
    by_tensor.max(u64::try_from(shape.layers.len()).unwrap_or(u64::MAX))
}

/// The layers of one stage: an even share, and one more on the last stages but the very last, which has the output head
/// (vLLM's rule, as of 0.11).
fn stage_layers(layers: u64, index: u64, stages: u64) -> Range<u64> {
    let (share, rest) = (layers / stages, layers % stages);
    // Stages that hold one more: the `rest` ones before the last.
    let first_larger = stages - 1 - rest;
    let before = |stage: u64| stage * share + stage.saturating_sub(first_larger).min(rest);
    before(index)..before(index + 1)
}

/// How an engine divides a tensor: a vision or audio tower is split like the rest by those that do not say otherwise
/// (`--mm-encoder-tp-mode weights`, vLLM's default: Llama-4-Scout, Mistral-Small and Qwen3-VL load so).
pub(super) fn split_by(engine: Engine, tensor: &Tensor) -> Split {
    let tower = matches!(engine, Engine::Vllm | Engine::Sglang) && tensor.role == Role::Vision;
    if tower && tensor.split == Split::Replicated && tensor.rows > 1 { Split::Rows } else { tensor.split }
}

/// The rows and columns of a tensor that one rank holds: those of the rank that holds most.
pub(super) fn shard(tensor: &Tensor, split: Split, ranks: u64, vocabulary_multiple: u64) -> (u64, u64) {
    let (rows, columns) = (tensor.rows, tensor.columns);
    // A vector lies along its columns, whatever it is split by.
    let along_rows = |share: u64| if rows == 1 { (1, columns.min(share)) } else { (share, columns) };
    let long = if rows == 1 { columns } else { rows };
    match split {
        Split::Replicated => (rows, columns),
        Split::Rows => along_rows(long.div_ceil(ranks)),
        Split::Columns => (rows, columns.div_ceil(ranks)),
        Split::KeyValueHeads(heads) => {
            let heads = heads.max(1);
            let held = heads.div_ceil(ranks);
            let share = u128::from(long) * u128::from(held);
            along_rows(u64::try_from(share.div_ceil(u128::from(heads))).unwrap_or(long))
        }
        Split::Vocabulary => {
            let multiple = vocabulary_multiple.max(1);
            let padded = rows.div_ceil(multiple).checked_mul(multiple).unwrap_or(rows);
            (padded.div_ceil(ranks), columns)
        }
    }
}

/// Whether a stage holds a tensor. A tied embedding is the output head too, so both ends hold it.
pub(super) fn holds(engine: Engine, stage: &Stage, tensor: &Tensor, tied: bool) -> bool {
    if let Some(layer) = tensor.layer {
        return stage.layers.contains(&u64::from(layer));
    }
    match tensor.role {
        Role::Embedding => stage.first() || (tied && stage.last()),
        Role::OutputHead | Role::Norm => stage.last(),
        // Every stage of vLLM builds the tower, though only the first runs it.
        Role::Vision | Role::Projector => stage.first() || !splits_by_layer(engine),
        _ => stage.first(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_cover_every_layer_once() {
        for (layers, stages) in [(32, 1), (32, 2), (32, 4), (61, 4), (5, 5), (7, 3), (80, 64)] {
            let mut next = 0;
            let mut sizes = Vec::new();
            for index in 0..stages {
                let range = stage_layers(layers, index, stages);
                assert_eq!(range.start, next, "{layers} over {stages}");
                sizes.push(range.end - range.start);
                next = range.end;
            }
            assert_eq!(next, layers, "{layers} over {stages}");
            let (least, most) = (sizes.iter().min().copied(), sizes.iter().max().copied());
            assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 1), "{sizes:?}");
        }
    }
}
