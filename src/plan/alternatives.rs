//! What a user could change so that a model needs less per GPU, the cheapest change first. Which of them fit is for
//! `decide` to say.

use super::requirement_of;
use crate::decide::{Alternative, Change, Requirement};
use crate::estimate::{Checkpointing, Estimate, Method, Optimizer, Sharding, Training, Workload};
use crate::model::ModelShape;
use crate::precision::{CachePrecision, Engine, Precision};
use crate::units::Margin;

/// A shorter context is no use to anyone.
const SHORTEST_CONTEXT: u64 = 2048;
/// A shorter training sequence is no use to anyone.
const SHORTEST_SEQUENCE: u64 = 512;
/// GPUs per node that clusters are made of.
const GPU_COUNTS: [u64; 4] = [1, 2, 4, 8];

/// A change and the workload it makes.
type Variant = (Change, Workload);

/// Every change worth trying that needs less memory per GPU, or fewer GPUs, than the workload does as it is. `revised`
/// says what an object with the change in it, and so with this workload, would need; `None` where it could not be run.
#[must_use]
pub fn alternatives(
    shape: &ModelShape,
    workload: &Workload,
    estimate: &Estimate,
    margin: Margin,
    revised: &dyn Fn(&Change, Workload) -> Option<Requirement>,
) -> Vec<Alternative> {
    let variants = match &workload.training {
        Some(training) => training_variants(workload, training, estimate),
        None => serving_variants(shape, workload, estimate),
    };
    let current = requirement_of(shape, workload, margin);
    let helps = |requirement: &Requirement| {
        current.is_none_or(|current| requirement.per_gpu < current.per_gpu || requirement.gpus < current.gpus)
    };
    variants
        .into_iter()
        .filter_map(|(change, workload)| {
            let requirement = revised(&change, workload).filter(helps)?;
            Some(Alternative { change, requirement })
        })
        .collect()
}

fn serving_variants(shape: &ModelShape, workload: &Workload, estimate: &Estimate) -> Vec<Variant> {
    let complete = &estimate.workload;
    let precisions = smaller(complete.precision.unwrap_or(Precision::Bf16), workload.engine, shape);
    let tensors: Vec<u64> = GPU_COUNTS.into_iter().filter(|tensor| *tensor != workload.tensor).collect();
    let with_precision = |precision: &Precision| Workload { precision: Some(*precision), ..workload.clone() };
    let with_tensor = |tensor: u64, base: &Workload| Workload { tensor, ..base.clone() };

    let mut variants: Vec<Variant> = Vec::new();
    for precision in &precisions {
        variants.push((Change::Precision(*precision), with_precision(precision)));
    }
    for tensor in &tensors {
        variants.push((Change::Tensor(*tensor), with_tensor(*tensor, workload)));
    }
    for length in halvings(complete.context.unwrap_or(0), SHORTEST_CONTEXT) {
        let shorter = Workload { context: Some(length), ..workload.clone() };
        variants.push((Change::Context(length), shorter));
    }
    if let Some(cache_precision) = smaller_cache(complete.cache_precision, workload.engine) {
        let smaller = Workload { cache_precision, ..workload.clone() };
        variants.push((Change::CachePrecision(cache_precision), smaller));
    }
    for sequences in halvings(workload.sequences, 1) {
        let fewer = Workload { sequences, ..workload.clone() };
        variants.push((Change::Sequences(sequences), fewer));
    }
    for precision in &precisions {
        for tensor in &tensors {
            let both = Change::PrecisionAndTensor { precision: *precision, tensor: *tensor };
            variants.push((both, with_tensor(*tensor, &with_precision(precision))));
        }
    }
    variants
}

/// The formats below one, the closest first. Of a size alone the bare formats of the quick rules are named; of a model
/// whose tensors are known the ones that are published, with their scales.
fn smaller(current: Precision, engine: Engine, shape: &ModelShape) -> Vec<Precision> {
    let four_bit = if shape.tensors.is_empty() { Precision::Int4 } else { Precision::AwqInt4 };
    let is_wide = matches!(current, Precision::Fp32 | Precision::Fp16 | Precision::Bf16);
    if engine == Engine::LlamaCpp {
        return match current {
            _ if is_wide => vec![Precision::Q80, Precision::Q4KM],
            Precision::Q80
            | Precision::Q6K
            | Precision::Q5KM
            | Precision::Q5KS
            | Precision::Q51
            | Precision::Q50 => {
                vec![Precision::Q4KM]
            }
            _ => vec![],
        };
    }
    match current {
        Precision::Fp32 => vec![Precision::Bf16, Precision::Fp8, Precision::Int8, four_bit],
        _ if is_wide => vec![Precision::Fp8, Precision::Int8, four_bit],
        Precision::Fp8
        | Precision::Fp8Block
        | Precision::Int8
        | Precision::GptqInt8
        | Precision::BnbInt8
        | Precision::Mxfp8 => vec![four_bit],
        _ => vec![],
    }
}

/// The 8-bit cache of an engine that has one.
fn smaller_cache(current: CachePrecision, engine: Engine) -> Option<CachePrecision> {
    let is_wide = matches!(
        current,
        CachePrecision::Auto | CachePrecision::Fp32 | CachePrecision::Fp16 | CachePrecision::Bf16
    );
    match engine {
        _ if !is_wide => None,
        Engine::LlamaCpp => Some(CachePrecision::Q80),
        Engine::Vllm | Engine::Sglang | Engine::Tgi | Engine::None => Some(CachePrecision::Fp8),
        Engine::Transformers => None,
    }
}

fn training_variants(workload: &Workload, training: &Training, estimate: &Estimate) -> Vec<Variant> {
    let with = |training: Training| Workload { training: Some(training), ..workload.clone() };
    let mut variants: Vec<Variant> = Vec::new();
    if training.gradient_checkpointing == Checkpointing::None {
        let gradient_checkpointing = Checkpointing::Full;
        let change = Change::Checkpointing(gradient_checkpointing);
        variants.push((change, with(Training { gradient_checkpointing, ..training.clone() })));
    }
    for sequences in halvings(workload.sequences, 1) {
        let fewer = Workload { sequences, ..workload.clone() };
        variants.push((Change::MicroBatch(sequences), fewer));
    }
    if training.optimizer == Optimizer::Adamw {
        let optimizer = Optimizer::Adamw8bit;
        variants.push((Change::Optimizer(optimizer), with(Training { optimizer, ..training.clone() })));
    }
    let methods: &[Method] = match training.method {
        Method::Full => &[Method::Lora, Method::Qlora],
        Method::Lora => &[Method::Qlora],
        Method::Qlora => &[],
    };
    for method in methods {
        variants.push((Change::Method(*method), with(Training { method: *method, ..training.clone() })));
    }
    for length in halvings(estimate.workload.context.unwrap_or(0), SHORTEST_SEQUENCE) {
        let shorter = Workload { context: Some(length), ..workload.clone() };
        variants.push((Change::SequenceLength(length), shorter));
    }
    for gpus in GPU_COUNTS.into_iter().filter(|gpus| *gpus > training.gpus) {
        let sharding = Sharding::Zero3;
        variants.push((
            Change::Sharding { gpus, sharding },
            with(Training { sharding, gpus, ..training.clone() }),
        ));
    }
    variants
}

/// Half of a number, a quarter and so on, down to a least.
fn halvings(from: u64, least: u64) -> impl Iterator<Item = u64> {
    std::iter::successors(Some(from / 2), |value| Some(value / 2))
        .take_while(move |value| *value >= least.max(1))
}
