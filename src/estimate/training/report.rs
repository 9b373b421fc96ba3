//! The estimate of a training run: sums, the arithmetic in words, notes.

use super::base::Base;
use super::{CONTEXT, Needs, Setup, sharding};
use crate::estimate::{
    Checkpointing, Components, Estimate, Method, Offload, Optimizer, Sharding, Term, Workload,
};
use crate::model::{Confidence, ModelShape};
use crate::precision::Precision;
use crate::units::{Bytes, Overflow, Parameters};

pub(super) fn estimate(
    shape: &ModelShape,
    workload: &Workload,
    run: &Setup,
    needs: &Needs,
) -> Result<Estimate, Overflow> {
    let per_gpu = needs.components;
    let gpus = run.training.gpus;
    let components = Components {
        weights: per_gpu.weights.times(gpus)?,
        kv_cache: Bytes::ZERO,
        activations: per_gpu.activations.times(gpus)?,
        overhead: per_gpu.overhead.times(gpus)?,
        gradients: per_gpu.gradients.times(gpus)?,
        optimizer: per_gpu.optimizer.times(gpus)?,
    };
    let total_per_gpu = sum(&per_gpu)?;
    let confidence = Confidence::Derived.max(shape.weights_confidence).max(passes_confidence(shape));
    Ok(Estimate {
        logged: None,
        components,
        per_gpu,
        gpus,
        total: total_per_gpu.times(gpus)?,
        total_per_gpu,
        kv_cache_bytes_per_token: Bytes::ZERO,
        workload: filled(workload, run),
        confidence,
        terms: terms(shape, run, needs)?,
        notes: notes(shape, run, needs),
    })
}

fn sum(components: &Components) -> Result<Bytes, Overflow> {
    [components.gradients, components.optimizer, components.activations, components.overhead]
        .into_iter()
        .try_fold(components.weights, Bytes::plus)
}

fn passes_confidence(shape: &ModelShape) -> Confidence {
    if shape.multimodal || shape.tensors.is_empty() { Confidence::Assumed } else { Confidence::Derived }
}

fn filled(workload: &Workload, run: &Setup) -> Workload {
    let precision = match run.base {
        Base::Sixteen => Precision::Bf16,
        Base::Mixed => workload.precision.unwrap_or(Precision::Fp32),
        Base::Quantised(format) => format,
    };
    Workload {
        precision: Some(precision),
        context: Some(run.batch.length),
        training: Some(run.training.clone()),
        ..workload.clone()
    }
}

fn terms(shape: &ModelShape, run: &Setup, needs: &Needs) -> Result<Vec<Term>, Overflow> {
    let per_gpu = &needs.components;
    let training = &run.training;
    let divided = |is: bool| {
        if is && training.gpus > 1 { format!(" over {} GPUs", training.gpus) } else { String::new() }
    };
    let whole = shape.weights_confidence;
    let shards = sharding::shards_weights(training.sharding);
    let exact = |component, formula, bytes| Term {
        component,
        formula,
        bytes,
        confidence: whole,
        low: bytes,
        high: bytes,
    };
    let spread = |component, formula, bytes: Bytes, confidence, low: u64, high: u64| {
        Ok::<_, Overflow>(Term {
            component,
            formula,
            bytes,
            confidence,
            low: bytes.scaled(low, 100)?,
            high: bytes.scaled(high, 100)?,
        })
    };
    let held = match run.base {
        Base::Sixteen => "in 16 bits".to_owned(),
        Base::Mixed if sharding::is_zero(training.sharding) => "in 16 bits".to_owned(),
        Base::Mixed => "in 32 bits, with 16-bit copies for the arithmetic".to_owned(),
        Base::Quantised(format) if needs.cast => format!("in {format}, embeddings and head in 32 bits"),
        Base::Quantised(format) => format!("in {format}, embeddings and head in 16 bits"),
    };
    let (parameters, trained) = (Parameters(needs.parameters), Parameters(needs.trained));
    let adapters = match training.method {
        Method::Full => String::new(),
        Method::Lora | Method::Qlora if sharding::is_zero(training.sharding) => {
            format!(" + {trained} of adapters in 16 bits")
        }
        Method::Lora | Method::Qlora => format!(" + {trained} of adapters in 32 bits"),
    };
    let state_divided = divided(!matches!(training.sharding, Sharding::None | Sharding::Ddp));
    let gradients_divided =
        divided(!matches!(training.sharding, Sharding::None | Sharding::Ddp | Sharding::Zero1));
    Ok(vec![
        Term {
            component: "weights",
            formula: format!("{parameters} parameters {held}{adapters}{}", divided(shards)),
            bytes: per_gpu.weights,
            confidence: whole,
            low: needs.weights.0,
            high: needs.weights.1,
        },
        exact("gradients", format!("{trained} trained parameters{gradients_divided}"), per_gpu.gradients),
        exact(
            "optimizer",
            format!("{} state of {trained} trained parameters{state_divided}", training.optimizer),
            per_gpu.optimizer,
        ),
        spread(
            "activations",
            format!(
                "{} x {} tokens: {} kept for the backward pass, {} at its peak, less the gradients that come after; at least {} for the optimizer's step; {} gathered from other GPUs",
                run.batch.sequences,
                run.batch.length,
                needs.demand.stored,
                needs.demand.transient,
                needs.step,
                needs.gathered
            ),
            per_gpu.activations,
            passes_confidence(shape),
            70,
            150,
        )?,
        overhead(needs, run.techniques.packed)?,
    ])
}

/// The overhead and its range: from next to nothing lost, as with expandable segments, to what batches of differing lengths
/// make torch reserve where the GPU has it.
fn overhead(needs: &Needs, packed: bool) -> Result<Term, Overflow> {
    let spare = needs.demand.spare.plus(needs.streams)?;
    let bytes = needs.components.overhead;
    let most = needs.demand.most_spare(packed)?.plus(needs.streams.times(2)?)?;
    let libraries = Bytes(bytes.0.saturating_sub(spare.0).saturating_sub(needs.buffers.0));
    Ok(Term {
        component: "overhead",
        formula: format!(
            "{CONTEXT} of CUDA context and libraries, {spare} that the allocator cannot reuse, {} of communication buffers",
            needs.buffers
        ),
        bytes,
        confidence: Confidence::Derived,
        low: libraries.plus(needs.buffers)?.scaled(1, 2)?,
        high: libraries.scaled(3, 2)?.plus(needs.buffers.times(2)?)?.plus(most)?,
    })
}

fn notes(shape: &ModelShape, run: &Setup, needs: &Needs) -> Vec<String> {
    let training = &run.training;
    let zero = sharding::is_zero(training.sharding);
    let mut notes = shape.notes.clone();
    if let Some(stored) = shape.quantization.as_ref().map(|quantization| quantization.precision)
        && run.base != Base::Quantised(stored)
    {
        notes.push(format!("The checkpoint's {stored} weights are dequantised for training."));
    }
    if let Some(most) = shape.max_context.filter(|most| run.batch.length > *most) {
        notes.push(format!(
            "A sequence of {} tokens is longer than the {most} that the model was made for.",
            run.batch.length
        ));
    }
    let mut note = |text: &str| notes.push(text.to_owned());
    note(match (training.method, run.base, zero) {
        (_, _, true) => {
            "DeepSpeed keeps 16-bit weights, and of what is trained 32-bit gradients and a 32-bit copy with the optimizer state."
        }
        (Method::Full, Base::Sixteen, false) => {
            "Weights, gradients and optimizer state are all in bf16, as frameworks train a checkpoint loaded in bf16; precision fp32 estimates mixed precision with 32-bit weights."
        }
        (Method::Full, _, false) => {
            "Mixed precision: weights, gradients and optimizer state in 32 bits, the arithmetic in 16. Without autocast the activations take about twice as much."
        }
        (Method::Lora | Method::Qlora, _, _) => "Adapters, their gradients and moments are in 32 bits.",
    });
    if needs.cast {
        note(
            "Embeddings, output head and residual stream are counted in 32 bits, as PEFT's prepare_model_for_kbit_training makes them for bitsandbytes formats, as long as that costs less than quantisation saves; a trainer that leaves it out needs less.",
        );
    }
    if training.method == Method::Full && training.optimizer == Optimizer::Adamw && !zero {
        note(
            "The step of torch's default AdamW needs one more copy of the trained parameters; a fused step does not.",
        );
    }
    if shape.experts.is_some()
        && training.method != Method::Full
        && training.lora_targets.iter().any(|target| target == "all-linear")
    {
        note(
            "Adapters are counted for every routed expert; where the experts are one fused parameter, PEFT's all-linear leaves them out.",
        );
    }
    if training.optimizer == Optimizer::PagedAdamw8bit {
        note(
            "Paged optimizer state is not counted: it moves to host memory when the GPU is full, about 2 bytes per trained parameter.",
        );
    }
    if needs.demand.spare.0 > 0 && !run.techniques.packed {
        note(
            "The allocator's share allows for batches of differing lengths. On a GPU with memory to spare torch may reserve several times as much for them, up to the high end of the range; it gives that back when the GPU is full. Packed or padded batches, or expandable_segments:True, need less.",
        );
    }
    if run.techniques.loss.is_none() {
        note(
            "The loss is counted with full 32-bit logits and padding to the full sequence length; a fused or chunked cross entropy needs less.",
        );
    }
    if needs.components.gradients.0 > 0 && needs.components.activations > needs.step {
        note(
            "With gradient accumulation the gradients stay while the next batch is computed, which can add as much as they take.",
        );
    }
    if needs.checkpointing_is_idle {
        note("The model has no layers that gradient checkpointing could recompute.");
    }
    if training.gradient_checkpointing == Checkpointing::None
        && training.offload.contains(&Offload::Parameters)
    {
        note("Activations are kept on the GPU; gradient checkpointing would reduce them.");
    }
    if shape.multimodal {
        note("Activations of the vision or audio tower are not counted.");
    }
    if shape.tensors.is_empty() {
        note("Activations are those of the assumed layers, hidden size and vocabulary.");
    }
    notes
}
