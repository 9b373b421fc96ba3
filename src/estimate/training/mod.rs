//! Memory of a training run: weights, gradients, optimizer state, activations, overhead.
//!
//! The total is what `nvidia-smi` shows of the process at its peak: torch's peak of reserved memory and the CUDA context.
//! Every GPU of a data-parallel run needs the same.
//!
//! At the peak a GPU holds weights and optimizer state, and the larger of two: the activations just before the backward
//! pass, or the gradients and what the optimizer's step needs. The activations are shown as what they need beyond the
//! gradients, so that the parts add up to the peak.

mod activations;
mod base;
mod census;
mod lora;
mod optimizer;
mod report;
mod sharding;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use self::activations::{Batch, Demand, Width};
use self::base::Base;
use self::census::{Census, Group, product};
use self::sharding::State;
use super::{
    Checkpointing, Components, Estimate, EstimateError, Method, Offload, Sharding, Training, Workload,
};
use crate::model::ModelShape;
use crate::units::{Bytes, GIB, Overflow};

/// CUDA context, the kernels of torch and its libraries, cuBLAS workspaces: 0.5 to 1.3 GiB are reported.
pub const CONTEXT: Bytes = Bytes(GIB);
/// NCCL's buffers and channels, with more than one GPU.
pub const COMMUNICATION: Bytes = Bytes(GIB * 2 / 5);
/// The longest sequence that is assumed when none is given.
pub const DEFAULT_LENGTH: u64 = 2048;
/// Bytes of an adapter's element: frameworks keep adapters, their gradients and moments in 32 bits.
const ADAPTER_WIDTH: u64 = 4;

/// What a training run needs.
///
/// # Errors
/// A run that contradicts itself or the model: no GPU, a rank of 0, a target that is no layer of the model, a precision
/// that cannot be trained.
pub fn estimate(
    shape: &ModelShape,
    workload: &Workload,
    training: &Training,
) -> Result<Estimate, EstimateError> {
    let run = Run::new(shape, workload, training)?;
    let needs = Needs::of(shape, &run)?;
    Ok(report::estimate(shape, workload, &run, &needs)?)
}

/// A run with every default filled in.
struct Run {
    training: Training,
    batch: Batch,
    base: Base,
}

impl Run {
    fn new(shape: &ModelShape, workload: &Workload, training: &Training) -> Result<Self, EstimateError> {
        let positive = |value: u64, field, what: &str| match value {
            0 => Err(EstimateError::Invalid {
                field,
                problem: format!("{what} is 0"),
                remedy: "use at least 1".to_owned(),
            }),
            _ => Ok(()),
        };
        positive(workload.sequences, "training.microBatch", "the micro batch")?;
        positive(training.gpus, "training.gpus", "the number of GPUs")?;
        positive(shape.hidden_size, "model", "the model's hidden size")?;
        if training.method != Method::Full {
            positive(training.lora_rank, "training.loraRank", "the rank of the LoRA matrices")?;
        }
        if workload.tensor != 1 || workload.pipeline != 1 {
            return Err(EstimateError::Invalid {
                field: "parallelism",
                problem: format!(
                    "training is estimated for data parallelism, not for tensor {} and pipeline {}",
                    workload.tensor, workload.pipeline
                ),
                remedy: "set training.gpus and training.sharding instead".to_owned(),
            });
        }
        sharding::validate(training)?;
        let length = workload
            .context
            .unwrap_or_else(|| shape.max_context.map_or(DEFAULT_LENGTH, |most| most.min(DEFAULT_LENGTH)));
        positive(length, "training.sequenceLength", "the sequence length")?;
        let mut training = training.clone();
        if training.lora_targets.is_empty() {
            training.lora_targets.push("all-linear".to_owned());
        }
        if training.gpus > 1 && training.sharding == Sharding::None {
            training.sharding = Sharding::Ddp;
        }
        let base = Base::of(shape, training.method, workload.precision)?;
        Ok(Self { training, batch: Batch { sequences: workload.sequences, length }, base })
    }
}

/// What a run comes to, on one GPU.
struct Needs {
    /// By component.
    components: Components,
    /// Trained parameters.
    trained: u64,
    /// Parameters of the model.
    parameters: u64,
    /// The passes, as they are run.
    demand: Demand,
    /// What is gathered from other GPUs at a time.
    gathered: Bytes,
    /// Communication buffers.
    buffers: Bytes,
    /// What the allocator holds and cannot use.
    slack: Bytes,
    /// What the optimizer's step needs besides.
    step: Bytes,
    /// Whether recomputation is asked for and saves nothing.
    checkpointing_is_idle: bool,
}

impl Needs {
    fn of(shape: &ModelShape, run: &Run) -> Result<Self, EstimateError> {
        let training = &run.training;
        let census = Census::new(shape)?;
        let zero = sharding::is_zero(training.sharding);
        let (state, trained) = state(shape, run, &census, zero)?;
        let left = sharding::divide(state, training);
        let gathered = sharding::gathered(&census, run.base, training)?;
        let buffers = sharding::buffers(&census, training, trained, left.gradients)?;
        let dequantised = match run.base {
            Base::Quantised(_) => product(&[census.largest, 2])?,
            Base::Sixteen | Base::Mixed => Bytes::ZERO,
        };
        let width = width(run, &census)?;
        let ways = activations::demands(&census, shape, training, run.batch, width, dequantised)?;
        let mut best: Option<(Bytes, Bytes, Demand)> = None;
        for demand in ways {
            let activations = beyond_gradients(demand, &left)?.plus(gathered)?;
            let slack = slack(demand, run.base, &census, training)?;
            let better = match best {
                Some((least, spare, _)) => activations.plus(slack)? < least.plus(spare)?,
                None => true,
            };
            if better {
                best = Some((activations, slack, demand));
            }
        }
        let nothing = Demand { stored: Bytes::ZERO, transient: Bytes::ZERO, slack: 0 };
        let (activations, slack, demand) = best.unwrap_or((Bytes::ZERO, Bytes::ZERO, nothing));
        let communication = if training.gpus > 1 { COMMUNICATION } else { Bytes::ZERO };
        let overhead = CONTEXT.plus(communication)?.plus(slack)?.plus(buffers)?;
        let components = Components {
            weights: left.weights,
            kv_cache: Bytes::ZERO,
            activations,
            overhead,
            gradients: left.gradients,
            optimizer: left.optimizer,
        };
        let kept = census.kept.iter().any(|kept| kept.bytes > 0);
        Ok(Self {
            components,
            trained,
            parameters: census.parameters,
            demand,
            gathered,
            buffers,
            slack,
            step: left.step,
            checkpointing_is_idle: training.gradient_checkpointing == Checkpointing::Full && !kept,
        })
    }
}

/// State of the whole run, before it is divided, and the number of trained parameters.
fn state(shape: &ModelShape, run: &Run, census: &Census, zero: bool) -> Result<(State, u64), EstimateError> {
    let training = &run.training;
    let autocast = !zero && training.sharding != Sharding::Fsdp;
    // DeepSpeed holds the weights in 16 bits whatever the checkpoint's type, and a 32-bit copy with the optimizer.
    let base = if zero && run.base == Base::Mixed { Base::Sixteen } else { run.base };
    let base_weights = base.weights(census, autocast)?;
    let adapters: Vec<Group>;
    let (trained, weights, groups, width) = if training.method == Method::Full {
        let width = if zero { 4 } else { base.width() };
        (census.parameters, base_weights, census.groups.as_slice(), width)
    } else {
        adapters = lora::adapters(census, training.lora_rank, &training.lora_targets, &shape.name)?;
        let trained = lora::parameters(&adapters)?;
        let weights = base_weights.plus(product(&[trained, ADAPTER_WIDTH])?)?;
        (trained, weights, adapters.as_slice(), ADAPTER_WIDTH)
    };
    let mut need = optimizer::need(training.optimizer, groups, width)?;
    if zero {
        need.step = Bytes::ZERO;
        if training.method == Method::Full {
            need.state = need.state.plus(product(&[trained, 4])?)?;
        }
    }
    let gradients = product(&[trained, width])?;
    Ok((State { weights, gradients, optimizer: need.state, step: need.step }, trained))
}

/// How wide the activations are.
fn width(run: &Run, census: &Census) -> Result<Width, Overflow> {
    let training = &run.training;
    let sixteen = Width { residual: 2, most_beyond_16_bits: None, autocast: false };
    // Sharding casts the inputs of a layer to 16 bits, DeepSpeed the whole model.
    let cast = sharding::is_zero(training.sharding) || training.sharding == Sharding::Fsdp;
    Ok(match run.base {
        Base::Mixed if !cast => Width { residual: 4, autocast: true, ..sixteen },
        // PEFT's prepare_model_for_kbit_training casts the norms to 32 bits, and so the stream. That costs no more than
        // the quantisation saves: with a batch so large LoRA on the 16-bit base is what one runs.
        Base::Quantised(format) if base::is_cast_by_peft(format) => {
            let offloaded = training.offload.contains(&Offload::Parameters);
            let parts = if sharding::shards_weights(training.sharding) { training.gpus } else { 1 };
            let plain = Base::Sixteen.weights(census, false)?.share_of(parts);
            let quantised = run.base.weights(census, false)?.share_of(parts);
            let held = if offloaded { 0 } else { plain.0.saturating_sub(quantised.0) };
            let gathered =
                |base| sharding::gathered(census, base, training)?.plus(streams(base, census, training)?);
            let passing = gathered(Base::Sixteen)?.0.saturating_sub(gathered(run.base)?.0);
            let saved = Bytes(held).plus(Bytes(passing))?;
            // Less what a dequantised matrix and the allocator's share of it cost, rounded up.
            let dequantised = product(&[census.largest, 4])?;
            let most = Bytes(saved.0.saturating_sub(dequantised.0));
            Width { residual: 4, most_beyond_16_bits: Some(most), ..sixteen }
        }
        Base::Sixteen | Base::Mixed | Base::Quantised(_) => sixteen,
    })
}

/// What the passes, or the optimizer's step after them, need beyond weights, gradients and optimizer state.
fn beyond_gradients(demand: Demand, left: &State) -> Result<Bytes, Overflow> {
    let passes = demand.stored.plus(demand.transient)?;
    Ok(Bytes(passes.0.saturating_sub(left.gradients.0)).max(left.step))
}

/// What torch's allocator reserves and cannot use.
fn slack(demand: Demand, base: Base, census: &Census, training: &Training) -> Result<Bytes, Overflow> {
    demand.transient.scaled(demand.slack, 100)?.plus(streams(base, census, training)?)
}

/// FSDP's gathered layers, freed by another stream than the one that uses them, are held about three times over.
fn streams(base: Base, census: &Census, training: &Training) -> Result<Bytes, Overflow> {
    match training.sharding {
        Sharding::Fsdp => sharding::gathered(census, base, training)?.times(2),
        _ => Ok(Bytes::ZERO),
    }
}
