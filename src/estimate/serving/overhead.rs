//! What the process holds that is neither weights, caches nor activations: context, libraries, graphs.

use crate::estimate::parallelism::{Stage, holds, shard};
use crate::estimate::run::Run;
use crate::estimate::{EstimateError, bytes_of};
use crate::model::{CacheKind, Role};
use crate::units::{Bytes, MIB, Overflow};

/// The parts of the overhead on one GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Overhead {
    pub context: Bytes,
    pub libraries: Bytes,
    pub tables: Bytes,
    pub graphs: Bytes,
}

/// The overhead on one GPU of a stage.
pub(crate) fn gpu(run: &Run<'_>, stage: &Stage) -> Result<Overhead, EstimateError> {
    let Run { workload, profile, layout, .. } = *run;
    let connected = layout.ranks.are_connected();
    let alone = !connected && stage.of == 1;
    let captured = profile.graphs && !workload.options.eager;
    let graphs = if captured { graphs(run, stage)? } else { Bytes::ZERO };
    Ok(Overhead {
        context: Bytes(if alone { profile.context } else { profile.context_shared }),
        libraries: Bytes(if connected { profile.libraries_shared } else { profile.libraries }),
        tables: if profile.paged { tables(run, stage)? } else { Bytes::ZERO },
        graphs,
    })
}

/// What is made of the weights when they are loaded: the rotary tables of every position, and for latent attention a copy of
/// the second projection, whose halves are absorbed into queries and output (vLLM 0.19: Llama-3.1-8B loads 0.03 GiB more than
/// its tensors, DeepSeek-V2-Lite 0.17).
fn tables(run: &Run<'_>, stage: &Stage) -> Result<Bytes, EstimateError> {
    let Run { shape, layout, .. } = *run;
    let (engine, element) = (run.workload.engine, run.loading.element_bytes());
    let widths = stage.caches(&shape.layers).filter_map(|layer| layer.attention).map(|attention| {
        match attention.cache {
            CacheKind::Heads { key_dim, .. } => key_dim,
            CacheKind::Latent { rope_dim, .. } => rope_dim,
            CacheKind::Compressed { .. } => 64,
            CacheKind::Shared => 0,
        }
    });
    // Every stage has the whole tables, if it has a layer that rotates.
    let widest = widths.max().unwrap_or(0);
    let mut elements = match shape.rotary_elements {
        Some(elements) if widest > 0 => u128::from(elements),
        Some(_) => 0,
        None => u128::from(shape.max_context.unwrap_or(0)).checked_mul(u128::from(widest)).ok_or(Overflow)?,
    };
    for tensor in shape.tensors.iter().filter(|tensor| tensor.name.contains("kv_b_proj")) {
        if holds(engine, stage, tensor, shape.tied_embeddings) && tensor.role == Role::Attention {
            let (rows, columns) = shard(tensor, tensor.split, layout.tensor, 1);
            let copy = u128::from(rows) * u128::from(columns);
            elements = elements.checked_add(copy).ok_or(Overflow)?;
        }
    }
    Ok(bytes_of(elements.checked_mul(u128::from(element)).ok_or(Overflow)?)?)
}

/// CUDA graphs: one per batch size, each with its kernels' arguments, and a pool of the largest one's activations.
///
/// Calibrated on 33 complete logs of vLLM 0.19 on H100: 51 sizes cost 0.0165 GiB per layer, and 0.38 GiB whatever the
/// layers. Routed experts and latent attention launch more kernels per layer.
fn graphs(run: &Run<'_>, stage: &Stage) -> Result<Bytes, EstimateError> {
    /// What one layer's kernels take in the graph of one batch size, in KiB.
    const PER_LAYER: u128 = 340;
    let Run { shape, workload, .. } = *run;
    let step = workload.running().saturating_mul(workload.options.step());
    let largest = step.saturating_mul(2).min(512);
    let latent = stage.caches(&shape.layers).any(|layer| {
        layer.attention.is_some_and(|attention| {
            matches!(attention.cache, CacheKind::Latent { .. } | CacheKind::Compressed { .. })
        })
    });
    let quarters = if latent {
        10
    } else if shape.experts.is_some() {
        5
    } else {
        4
    };
    let layers = u128::from(stage.layers.end - stage.layers.start);
    let kernels = layers
        .checked_mul(u128::from(capture_sizes(largest)))
        .and_then(|count| count.checked_mul(PER_LAYER * 1024 * quarters / 4))
        .ok_or(Overflow)?;
    let pool = u128::from(100 * MIB + 290 * MIB * largest / 512);
    Ok(bytes_of(kernels.checked_add(pool).ok_or(Overflow)?)?)
}

/// The batch sizes that graphs are captured for: 1, 2, 4, then every 8th up to 248, then every 16th (vLLM 0.11 to 0.33).
const fn capture_sizes(largest: u64) -> u64 {
    let small = if largest >= 4 {
        3
    } else if largest < 2 {
        largest
    } else {
        2
    };
    let by_eight = (if largest < 248 { largest } else { 248 }) / 8;
    let by_sixteen = if largest < 256 { 0 } else { (largest - 256) / 16 + 1 };
    small + by_eight + by_sixteen
}

#[cfg(test)]
mod tests {
    use super::capture_sizes;

    #[test]
    fn graphs_are_captured_for_the_sizes_that_vllm_lists() {
        for (largest, expected) in [(1, 1), (2, 2), (4, 3), (8, 4), (16, 5), (256, 35), (512, 51)] {
            assert_eq!(capture_sizes(largest), expected, "{largest}");
        }
    }
}
