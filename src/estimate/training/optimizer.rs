//! What an optimizer keeps per trained parameter, and what one step needs besides.

use super::census::{Group, Kind, product};
use crate::estimate::Optimizer;
use crate::units::{Bytes, Overflow};

/// Elements that share one scale of an 8-bit state (bitsandbytes, torchao).
const BLOCK: u64 = 256;
/// Tensors smaller than this keep 32-bit state in bitsandbytes (`min_8bit_size`).
const SMALLEST_8BIT: u64 = 4096;
/// Rank of GaLore's projection, the default of transformers.
const GALORE_RANK: u64 = 128;

/// What an optimizer takes on one GPU, before sharding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Need {
    /// Kept between steps.
    pub(super) state: Bytes,
    /// Needed during a step, when no activations are held.
    pub(super) step: Bytes,
}

/// The need for trained tensors whose state has `width` bytes per element.
pub(super) fn need(optimizer: Optimizer, trained: &[Group], width: u64) -> Result<Need, Overflow> {
    let (mut state, mut elements, mut largest) = (Bytes::ZERO, 0_u64, 0_u64);
    for group in trained {
        state = state.plus(kept(optimizer, group, width)?)?;
        elements = elements.checked_add(group.elements()?).ok_or(Overflow)?;
        largest = largest.max(group.each()?);
    }
    let step = match optimizer {
        // torch's default multi-tensor step holds one more copy of everything it updates: the denominators. Full
        // fine-tuning of Mistral-7B and PowerLM-3B peaks at exactly 10 bytes per parameter for it (fms-hf-tuning's
        // benchmark). The fused step does not.
        Optimizer::Adamw | Optimizer::Galore => product(&[elements, width])?,
        // Managed memory: what the step touches must be on the GPU, the rest may be on the host.
        Optimizer::PagedAdamw8bit => product(&[largest, 2])?,
        // One tensor at a time, its update in 32 bits.
        Optimizer::Adafactor => product(&[largest, 4])?,
        // The orthogonalisation works on three 16-bit copies of one matrix.
        Optimizer::Muon => product(&[largest, 6])?,
        Optimizer::Adamw8bit | Optimizer::Sgd | Optimizer::Lion => Bytes::ZERO,
    };
    Ok(Need { state, step })
}

fn kept(optimizer: Optimizer, group: &Group, width: u64) -> Result<Bytes, Overflow> {
    let (count, each, elements) = (group.count, group.each()?, group.elements()?);
    match optimizer {
        Optimizer::Adamw8bit if each < SMALLEST_8BIT => product(&[elements, 2, 4]),
        Optimizer::Adamw8bit => {
            let scales = product(&[count, each.div_ceil(BLOCK), 2, 4])?;
            // A tensor just above the limit takes no less than one just below: more parameters never need less.
            let least = product(&[count, SMALLEST_8BIT, 2, 4])?;
            Ok(product(&[elements, 2])?.plus(scales)?.max(least))
        }
        Optimizer::PagedAdamw8bit => Ok(Bytes::ZERO),
        Optimizer::Sgd | Optimizer::Lion => product(&[elements, width]),
        Optimizer::Adafactor if group.is_vector() => product(&[elements, 4]),
        Optimizer::Adafactor => {
            let sides = group.rows.checked_add(group.columns).ok_or(Overflow)?;
            product(&[count, sides, 4])
        }
        Optimizer::Muon if group.kind == Kind::Linear => product(&[elements, width]),
        Optimizer::Galore if group.kind == Kind::Linear => {
            let (short, long) = (group.rows.min(group.columns), group.rows.max(group.columns));
            let rank = GALORE_RANK.min(short);
            // Two moments of rank x the long side, and the projection itself.
            let moments = product(&[count, 2, rank, long, width])?;
            let low_rank = moments.plus(product(&[count, rank, short, width])?)?;
            Ok(low_rank.min(product(&[elements, 2, width])?))
        }
        // AdamW, also for what Muon and GaLore leave to it: embeddings, the output head, vectors.
        Optimizer::Adamw | Optimizer::Muon | Optimizer::Galore => product(&[elements, 2, width]),
    }
}
