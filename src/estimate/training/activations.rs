//! What the forward pass leaves for the backward pass, and what the backward pass needs at its peak.

use super::census::{Census, Kept, product};
use crate::estimate::{AttentionKernel, Checkpointing, Training};
use crate::model::ModelShape;
use crate::units::{Bytes, Overflow};

/// Bytes per token and vocabulary entry when the loss is computed: 16-bit logits (2), their 32-bit copy (4), the log
/// probabilities (4) and the gradient (4). Slopes over the batch size in training.csv give 12 to 15 (fms-hf-tuning,
/// torchtitan, Gefen-X, Qwen's own script). A fused or chunked loss needs almost none of it.
const LOGITS: u64 = 2 + 4 + 4 + 4;
/// Bytes per score where attention writes them out: the 32-bit softmax and its 16-bit copy (5.0 measured, ms-swift).
const SCORES: u64 = 4 + 2;
/// The same under autocast, of the models of that time with dropout on the scores: softmax (4), mask (1), the scores that
/// are left (4) and their 16-bit copy (2).
const SCORES_AUTOCAST: u64 = 4 + 1 + 4 + 2;

/// Hundredths of the transient memory that torch's allocator reserves besides and cannot use. While layers are recomputed,
/// blocks of many sizes come and go between the large ones of the loss: 30 to 70 in the rows of training.csv that
/// state both the process's memory and the allocated peak, less with expandable segments. Where everything is kept the
/// backward pass frees in the order in which it was taken, and next to nothing is lost (PEFT's benchmark).
const SLACK: u64 = 10;
const SLACK_RECOMPUTING: u64 = 50;

/// Bytes that the passes need, per GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Demand {
    /// Held from the forward to the backward pass: many blocks of a few sizes.
    pub(super) stored: Bytes,
    /// Held at the peak only: a few large blocks.
    pub(super) transient: Bytes,
    /// Hundredths of the transient that the allocator reserves besides and cannot use.
    pub(super) slack: u64,
}

/// The tokens of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    /// Sequences.
    pub(super) sequences: u64,
    /// Tokens of each.
    pub(super) length: u64,
}

impl Batch {
    pub(super) fn tokens(self) -> Result<u64, Overflow> {
        self.sequences.checked_mul(self.length).ok_or(Overflow)
    }
}

/// How wide activations are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Width {
    /// Bytes of an element of the residual stream, the inputs of the layers.
    pub(super) residual: u64,
    /// The most that the residual stream may take beyond 16 bits, over all layers.
    pub(super) most_beyond_16_bits: Option<Bytes>,
    /// Whether autocast keeps 32-bit values (norms, residuals, softmax) beside 16-bit ones: half as much again, by
    /// BERT-large's rows of training.csv.
    pub(super) autocast: bool,
}

/// The ways in which the passes can be run: all kept, and, with checkpointing, only the layers' inputs. The smaller one
/// counts: for a model of one layer checkpointing saves nothing. `dequantised` is what one quantised matrix takes while
/// it is used.
pub(super) fn demands(
    census: &Census,
    shape: &ModelShape,
    training: &Training,
    batch: Batch,
    width: Width,
    dequantised: Bytes,
) -> Result<Vec<Demand>, Overflow> {
    let tokens = batch.tokens()?;
    let logits = product(&[LOGITS, census.logits, tokens])?;
    let (mut all, mut widest) = (Bytes::ZERO, Bytes::ZERO);
    for kept in &census.kept {
        let layer = layer(*kept, training.attention, batch, width.autocast)?;
        all = all.plus(layer)?;
        widest = widest.max(layer);
    }
    // Gradients on their way through a layer take about half of what it keeps.
    let work = widest.scaled(3, 2)?.plus(dequantised)?;
    let mut ways = vec![Demand { stored: all, transient: logits.max(dequantised), slack: SLACK }];
    if training.gradient_checkpointing == Checkpointing::Full {
        let layers = u64::try_from(census.kept.len()).map_err(|_| Overflow)?;
        let sixteen = product(&[2, layers, shape.hidden_size, tokens])?;
        let beyond = product(&[width.residual.saturating_sub(2), layers, shape.hidden_size, tokens])?;
        let stored = sixteen.plus(width.most_beyond_16_bits.map_or(beyond, |most| most.min(beyond)))?;
        ways.push(Demand { stored, transient: logits.max(work), slack: SLACK_RECOMPUTING });
    }
    Ok(ways)
}

fn layer(kept: Kept, kernel: AttentionKernel, batch: Batch, autocast: bool) -> Result<Bytes, Overflow> {
    let tokens = batch.tokens()?;
    let repeated = match kernel {
        AttentionKernel::Flash => Bytes::ZERO,
        AttentionKernel::Sdpa | AttentionKernel::Eager => product(&[kept.repeated, tokens])?,
    };
    let scores = match kernel {
        AttentionKernel::Eager => {
            let width = if autocast { SCORES_AUTOCAST } else { SCORES };
            product(&[width, kept.heads, tokens, batch.length])?
        }
        AttentionKernel::Sdpa | AttentionKernel::Flash => Bytes::ZERO,
    };
    let elements = product(&[kept.bytes, tokens])?.plus(repeated)?;
    let elements = if autocast { elements.scaled(3, 2)? } else { elements };
    elements.plus(scores)
}
