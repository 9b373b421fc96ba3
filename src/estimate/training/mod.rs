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
use self::base::{Base, Cast};
use self::census::{Census, Group, product};
use self::sharding::State;
use super::{
    Checkpointing, Components, Estimate, EstimateError, Method, Offload, Sharding, Techniques, Training,
    Workload,
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
    let run = Setup::new(shape, workload, training)?;
    let needs = Needs::of(shape, &run)?;
    Ok(report::estimate(shape, workload, &run, &needs)?)
}

/// A run with every default filled in.
struct Setup {
    training: Training,
    techniques: Techniques,
    batch: Batch,
    base: Base,
}

impl Setup {
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
        let techniques = workload.options.training;
        let shared = techniques.sequence_parallel.unwrap_or(1);
        positive(shared, "training.sequenceParallel", "the number of GPUs that share a sequence")?;
        if !training.gpus.is_multiple_of(shared) {
            return Err(EstimateError::Invalid {
                field: "training.sequenceParallel",
                problem: format!("{shared} GPUs cannot share a sequence of a run on {}", training.gpus),
                remedy: "use a divisor of training.gpus".to_owned(),
            });
        }
        let base = Base::of(shape, training.method, workload.precision)?;
        let batch = Batch { sequences: workload.sequences, length, shared };
        Ok(Self { training, techniques, batch, base })
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
    /// What the allocator holds of gathered layers and cannot use.
    streams: Bytes,
    /// The least and the most that the weights take.
    weights: (Bytes, Bytes),
    /// Whether embeddings and head are cast to 32 bits.
    cast: bool,
    /// What the optimizer's step needs besides.
    step: Bytes,
    /// Whether recomputation is asked for and saves nothing.
    checkpointing_is_idle: bool,
}

impl Needs {
    fn of(shape: &ModelShape, run: &Setup) -> Result<Self, EstimateError> {
        let training = &run.training;
        let census = Census::new(shape)?;
        let cast = if run.techniques.unprepared {
            None
        } else {
            run.base.cast(&census, shape.hidden_size, training)?
        };
        let (state, trained) = state(shape, run, &census, cast)?;
        let left = sharding::divide(state, training);
        let gathered = run.base.held_whole(&census, training)?;
        let buffers = sharding::buffers(&census, training, trained, left.gradients)?;
        let dequantised = match run.base {
            Base::Quantised(_) => product(&[census.largest, 2])?,
            Base::Sixteen | Base::Mixed => Bytes::ZERO,
        };
        let width = width(run, cast);
        let ways =
            activations::demands(&census, shape, training, run.techniques, run.batch, width, dequantised)?;
        let streams = streams(run.base, &census, training)?;
        let mut best: Option<(Bytes, Demand)> = None;
        for demand in ways {
            let activations = beyond_gradients(demand, &left)?.plus(gathered)?;
            let better = match best {
                Some((least, other)) => activations.plus(demand.spare)? < least.plus(other.spare)?,
                None => true,
            };
            if better {
                best = Some((activations, demand));
            }
        }
        let nothing = Demand { stored: Bytes::ZERO, transient: Bytes::ZERO, spare: Bytes::ZERO };
        let (activations, demand) = best.unwrap_or((Bytes::ZERO, nothing));
        let communication = if training.gpus > 1 { COMMUNICATION } else { Bytes::ZERO };
        let overhead = CONTEXT.plus(communication)?.plus(streams)?.plus(demand.spare)?.plus(buffers)?;
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
            streams,
            weights: weights_range(run, &census, cast, &left)?,
            cast: cast.is_some(),
            step: left.step,
            checkpointing_is_idle: training.gradient_checkpointing == Checkpointing::Full && !kept,
        })
    }
}

/// State of the whole run, before it is divided, and the number of trained parameters.
fn state(
    shape: &ModelShape,
    run: &Setup,
    census: &Census,
    cast: Option<Cast>,
) -> Result<(State, u64), EstimateError> {
    let training = &run.training;
    let zero = sharding::is_zero(training.sharding);
    let autocast = !zero && training.sharding != Sharding::Fsdp;
    // DeepSpeed holds the weights in 16 bits whatever the checkpoint's type, and a 32-bit copy with the optimizer.
    let base = if zero && run.base == Base::Mixed { Base::Sixteen } else { run.base };
    let tables = cast.map_or(Bytes::ZERO, |cast| cast.tables);
    let base_weights = base.weights(census, autocast)?.plus(tables)?;
    let adapters: Vec<Group>;
    let (trained, weights, groups, width) = if training.method == Method::Full {
        let width = if zero { 4 } else { base.width() };
        (census.parameters, base_weights, census.groups.as_slice(), width)
    } else {
        adapters = lora::adapters(census, training.lora_rank, &training.lora_targets, &shape.name)?;
        let trained = lora::parameters(&adapters)?;
        // DeepSpeed holds the whole module in 16 bits.
        let width = if zero { 2 } else { ADAPTER_WIDTH };
        let weights = base_weights.plus(product(&[trained, width])?)?;
        (trained, weights, adapters.as_slice(), ADAPTER_WIDTH)
    };
    let mut need = optimizer::need(training.optimizer, groups, width)?;
    if zero {
        need.step = Bytes::ZERO;
        need.state = need.state.plus(product(&[trained, 4])?)?;
    }
    let gradients = product(&[trained, width])?;
    Ok((State { weights, gradients, optimizer: need.state, step: need.step }, trained))
}

/// How wide the activations are.
fn width(run: &Setup, cast: Option<Cast>) -> Width {
    let training = &run.training;
    // Sharding casts the inputs of a layer to 16 bits, DeepSpeed the whole model.
    let sixteen = sharding::is_zero(training.sharding) || training.sharding == Sharding::Fsdp;
    match (run.base, cast) {
        (_, Some(cast)) => Width::cast(cast),
        (Base::Mixed, None) if !sixteen => Width::AUTOCAST,
        (Base::Sixteen | Base::Mixed | Base::Quantised(_), None) => Width::SIXTEEN,
    }
}

/// The weights on one GPU without the cast to 32 bits that is assumed, and with the scales that are not.
fn weights_range(
    run: &Setup,
    census: &Census,
    cast: Option<Cast>,
    left: &State,
) -> Result<(Bytes, Bytes), Overflow> {
    let training = &run.training;
    let tables = cast.map_or(Bytes::ZERO, |cast| cast.tables);
    let beyond = if training.offload.contains(&Offload::Parameters) {
        Bytes::ZERO
    } else if sharding::shards_weights(training.sharding) {
        run.base.beyond(census)?.share_of(training.gpus)
    } else {
        run.base.beyond(census)?
    };
    Ok((Bytes(left.weights.0.saturating_sub(tables.0)), left.weights.plus(beyond)?))
}

/// What the passes, or the optimizer's step after them, need beyond weights, gradients and optimizer state.
fn beyond_gradients(demand: Demand, left: &State) -> Result<Bytes, Overflow> {
    let passes = demand.stored.plus(demand.transient)?;
    Ok(Bytes(passes.0.saturating_sub(left.gradients.0)).max(left.step))
}

/// FSDP's gathered layers, freed by another stream than the one that uses them, are held about three times over.
fn streams(base: Base, census: &Census, training: &Training) -> Result<Bytes, Overflow> {
    match training.sharding {
        Sharding::Fsdp => base.held_whole(census, training)?.times(2),
        _ => Ok(Bytes::ZERO),
    }
}
