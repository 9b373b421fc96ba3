//! What the forward pass leaves for the backward pass, and what the backward pass needs at its peak.

use super::base::Cast;
use super::census::{Census, Kept, product};
use super::sharding;
use crate::estimate::{AttentionKernel, Checkpointing, Loss, Techniques, Training};
use crate::model::ModelShape;
use crate::units::{Bytes, Overflow};

/// Bytes per token and vocabulary entry when the loss is computed: 16-bit logits (2), their 32-bit copy (4), the log
/// probabilities (4) and the gradient (4). Slopes over the batch size in training.csv give 12 to 15 (fms-hf-tuning,
/// torchtitan, Gefen-X, Qwen's own script).
const LOGITS: u64 = 2 + 4 + 4 + 4;
/// The same of a kernel that writes no log probabilities.
const LOGITS_IN_PLACE: u64 = 2 + 4 + 4;
/// The same, in halves of a byte, over eight chunks of the tokens: all logits and their gradients in 16 bits, the rest of one
/// chunk (torchtune's `CEWithChunkedOutputLoss`).
const LOGITS_CHUNKED_HALVES: u64 = 2 * (2 + 2) + 2 * (4 + 4 + 4) / 8;
/// Bytes per score where attention writes them out: the 32-bit softmax and its 16-bit copy (5.0 measured, ms-swift).
const SCORES: u64 = 4 + 2;
/// The same under autocast, of the models of that time with dropout on the scores: softmax (4), mask (1), the scores that
/// are left (4) and their 16-bit copy (2).
const SCORES_AUTOCAST: u64 = 4 + 1 + 4 + 2;

/// Hundredths of the transient memory that torch's allocator reserves besides and cannot use. Where everything is kept the
/// backward pass frees in the order in which it was taken, and next to nothing is lost (PEFT's benchmark).
const SPARE_KEPT: u64 = 10;
/// The same while layers are recomputed: blocks of many sizes come and go between the few large ones. Of batches of one
/// length 37 to 76 are lost (fms-hf-tuning's benchmark, which states both the process's memory and the allocated peak).
/// Batches of differing lengths, replayed by the allocator's rules (best fit, split, merged, emptied when full), get
/// through with 30 to 50, by emptying the cache at each longer one; with 100 that is rare.
const SPARE_LOSS: u64 = 85;
/// The same of batches packed to one length: the middle of those 37 to 76.
const SPARE_LOSS_PACKED: u64 = 55;
/// The same with sharded weights, where the gathered layers' share is counted apart: 0 to 85, all of batches of one length.
const SPARE_LOSS_SHARDED: u64 = 50;
/// The same where a layer's pass is the largest: 20 to 70.
const SPARE_LAYER: u64 = 75;
/// The same of batches packed to one length.
const SPARE_LAYER_PACKED: u64 = 45;
/// The most that is reserved and not used: batches of differing lengths on a GPU with memory to spare. ms-swift's table has
/// two to four and a half times the peak of the loss, the replay three to five. It is cache, given back when the GPU is full.
const SPARE_MOST: u64 = 300;

/// Bytes that the passes need, per GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Demand {
    /// Held from the forward to the backward pass: many blocks of a few sizes.
    pub(super) stored: Bytes,
    /// Held at the peak only: a few large blocks.
    pub(super) transient: Bytes,
    /// What the allocator reserves besides and cannot use.
    pub(super) spare: Bytes,
}

impl Demand {
    /// The most that the allocator reserves besides, where the GPU has it.
    pub(super) fn most_spare(&self, packed: bool) -> Result<Bytes, Overflow> {
        self.transient.scaled(if packed { SPARE_LOSS } else { SPARE_MOST }, 100)
    }
}

/// The tokens of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    /// Sequences.
    pub(super) sequences: u64,
    /// Tokens of each.
    pub(super) length: u64,
    /// GPUs that share each.
    pub(super) shared: u64,
}

impl Batch {
    /// Tokens on one GPU.
    pub(super) fn tokens(self) -> Result<u64, Overflow> {
        let each = self.length.div_ceil(self.shared.max(1));
        self.sequences.checked_mul(each).ok_or(Overflow)
    }
}

/// What the loss needs at its peak.
fn loss(census: &Census, hidden: u64, techniques: Techniques, tokens: u64) -> Result<Bytes, Overflow> {
    match techniques.loss.unwrap_or(Loss::Plain) {
        Loss::Plain => product(&[LOGITS, census.logits, tokens]),
        Loss::InPlace => product(&[LOGITS_IN_PLACE, census.logits, tokens]),
        Loss::Chunked => product(&[LOGITS_CHUNKED_HALVES, census.logits, tokens])?.scaled(1, 2),
        // Liger's chunks are as many tokens as make the logits no larger than the hidden states; their gradient is held beside.
        Loss::Fused => {
            let chunks = census.logits.div_ceil(hidden.max(1)).max(1);
            let chunk = tokens.div_ceil(chunks).checked_next_power_of_two().ok_or(Overflow)?.min(tokens);
            let states = product(&[4, hidden, tokens])?;
            Ok(product(&[2 + 4, census.logits, chunk])?.plus(states)?.min(product(&[
                LOGITS,
                census.logits,
                tokens,
            ])?))
        }
    }
}

/// How wide activations are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Width {
    /// Bytes of an element of the residual stream, the inputs of the layers.
    pub(super) residual: u64,
    /// Hundredths that layers keep besides their 16-bit values, where all is kept.
    pub(super) kept: u64,
    /// The same while one layer is recomputed.
    pub(super) recomputed: u64,
    /// Bytes per score where attention writes them out.
    pub(super) scores: u64,
    /// The most that all of it may take beyond 16 bits, over all layers.
    pub(super) most: Option<Bytes>,
    /// A 16-bit copy of the output head.
    pub(super) head: Bytes,
}

impl Width {
    /// 16 bits throughout.
    pub(super) const SIXTEEN: Self =
        Self { residual: 2, kept: 0, recomputed: 0, scores: SCORES, most: None, head: Bytes::ZERO };
    /// Autocast keeps 32-bit values (norms, residuals, softmax) beside 16-bit ones: half as much again, by BERT-large's
    /// rows of training.csv.
    pub(super) const AUTOCAST: Self =
        Self { residual: 4, kept: 50, recomputed: 50, scores: SCORES_AUTOCAST, ..Self::SIXTEEN };

    /// On a base that is quantised by bitsandbytes and cast by PEFT. Without recomputation its layers keep 1.2 to 1.5 times
    /// what the same layers keep in 16 bits (litgpt's pairs of rows that differ in the base only); recomputing one takes no
    /// more than in 16 bits (fms-hf-tuning's benchmark).
    pub(super) const fn cast(cast: Cast) -> Self {
        Self { residual: 4, kept: 25, most: Some(cast.activations), head: cast.head, ..Self::SIXTEEN }
    }

    fn within(self, bytes: Bytes) -> Bytes {
        self.most.map_or(bytes, |most| most.min(bytes))
    }
}

/// The ways in which the passes can be run: all kept, and, with checkpointing, only the layers' inputs. The smaller one
/// counts: for a model of one layer checkpointing saves nothing. `dequantised` is what one quantised matrix takes while
/// it is used.
pub(super) fn demands(
    census: &Census,
    shape: &ModelShape,
    training: &Training,
    techniques: Techniques,
    batch: Batch,
    width: Width,
    dequantised: Bytes,
) -> Result<Vec<Demand>, Overflow> {
    let tokens = batch.tokens()?;
    let loss = loss(census, shape.hidden_size, techniques, tokens)?;
    let (mut elements, mut scores, mut widest) = (Bytes::ZERO, Bytes::ZERO, Bytes::ZERO);
    for kept in &census.kept {
        let layer = layer(*kept, training.attention, batch, width)?;
        elements = elements.plus(layer.elements)?;
        scores = scores.plus(layer.scores)?;
        widest = widest.max(layer.elements.scaled(100 + width.recomputed, 100)?.plus(layer.scores)?);
    }
    let beyond = width.within(elements.scaled(width.kept, 100)?);
    let transient = loss.plus(width.head)?.max(dequantised);
    let mut ways = vec![Demand {
        stored: elements.plus(beyond)?.plus(scores)?,
        transient,
        spare: loss.max(dequantised).scaled(SPARE_KEPT, 100)?,
    }];
    if training.gradient_checkpointing == Checkpointing::Full {
        let layers = u64::try_from(census.kept.len()).map_err(|_| Overflow)?;
        let inputs = product(&[2, layers, shape.hidden_size, tokens])?;
        let beyond = product(&[width.residual.saturating_sub(2), layers, shape.hidden_size, tokens])?;
        // Gradients on their way through a layer take about half of what it keeps.
        let work = widest.scaled(3, 2)?.plus(dequantised)?;
        let hundredths = if sharding::shards_weights(training.sharding) {
            SPARE_LOSS_SHARDED
        } else if techniques.packed {
            SPARE_LOSS_PACKED
        } else {
            SPARE_LOSS
        };
        // Gathered layers come and go whatever the batches are.
        let of_layer = if techniques.packed && !sharding::shards_weights(training.sharding) {
            SPARE_LAYER_PACKED
        } else {
            SPARE_LAYER
        };
        ways.push(Demand {
            stored: inputs.plus(width.within(beyond))?,
            transient: loss.plus(width.head)?.max(work),
            spare: loss.scaled(hundredths, 100)?.max(work.scaled(of_layer, 100)?),
        });
    }
    Ok(ways)
}

/// Bytes that one layer keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layer {
    /// Activations in 16 bits, and norms' inputs in 32.
    elements: Bytes,
    /// Scores, where attention writes them out.
    scores: Bytes,
}

fn layer(kept: Kept, kernel: AttentionKernel, batch: Batch, width: Width) -> Result<Layer, Overflow> {
    let tokens = batch.tokens()?;
    let repeated = match kernel {
        AttentionKernel::Flash => Bytes::ZERO,
        AttentionKernel::Sdpa | AttentionKernel::Eager => product(&[kept.repeated, tokens])?,
    };
    let scores = match kernel {
        AttentionKernel::Eager => product(&[width.scores, kept.heads, tokens, batch.length])?,
        AttentionKernel::Sdpa | AttentionKernel::Flash => Bytes::ZERO,
    };
    Ok(Layer { elements: product(&[kept.bytes, tokens])?.plus(repeated)?, scores })
}
