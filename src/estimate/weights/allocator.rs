//! What PyTorch's caching allocator adds to the weights it holds.
//!
//! Source: PyTorch's `CUDACachingAllocator`. A block of 10 MiB or more is asked for in steps of 2 MiB, and what is left over is
//! given to others only where it is more than 1 MiB: a matrix of 43 MiB holds 44. Engines hold queries, keys and values
//! as one matrix, gate and up projection as another, and all experts of a layer as one more. Of Qwen2.5-3B that is
//! 36 MiB (one per layer), of Qwen3-4B 54 MiB: what vLLM logs for them beyond their tensors and rotary tables.

use crate::model::Tensor;
use crate::units::{Bytes, MIB, Overflow};

use crate::estimate::bytes_of;

/// From this size on, blocks are cut in steps.
const LARGE: u128 = 10 * MIB as u128;
/// A step.
const STEP: u128 = 2 * MIB as u128;
/// What is left over is given away only where it is more.
const KEPT: u128 = MIB as u128;

/// The matrices of one GPU, as the engine joins them.
#[derive(Debug, Default)]
pub(crate) struct Blocks<'a> {
    joined: Vec<(Key<'a>, u128)>,
    kept: u128,
}

/// A layer, what the matrices belong to, and which of its matrices are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key<'a> {
    layer: Option<u32>,
    owner: &'a str,
    group: &'static str,
}

impl<'a> Blocks<'a> {
    /// Adds a matrix, or all experts' of a kind, of so many bytes.
    ///
    /// # Errors
    /// An overflow.
    pub(crate) fn add(&mut self, tensor: &'a Tensor, bytes: u128) -> Result<(), Overflow> {
        let Some((owner, group)) = group(&tensor.name) else {
            self.kept = self.kept.checked_add(left_over(bytes)).ok_or(Overflow)?;
            return Ok(());
        };
        let key = Key { layer: tensor.layer, owner, group };
        // Those that are joined stand close together.
        if let Some((_, sum)) = self.joined.iter_mut().rev().take(8).find(|(other, _)| *other == key) {
            *sum = sum.checked_add(bytes).ok_or(Overflow)?;
        } else {
            self.joined.push((key, bytes));
        }
        Ok(())
    }

    /// What is held beyond the matrices.
    ///
    /// # Errors
    /// An overflow.
    pub(crate) fn rounding(&self) -> Result<Bytes, Overflow> {
        let mut joined = self.joined.iter().map(|(_, bytes)| left_over(*bytes));
        let total = joined.try_fold(self.kept, u128::checked_add).ok_or(Overflow)?;
        bytes_of(total)
    }
}

/// The part of a block beyond the bytes asked for.
fn left_over(bytes: u128) -> u128 {
    if bytes < LARGE {
        return 0;
    }
    let over = bytes.div_ceil(STEP).saturating_mul(STEP).saturating_sub(bytes);
    if over <= KEPT { over } else { 0 }
}

/// What a matrix is joined with; `None` for what stands alone.
fn group(name: &str) -> Option<(&str, &'static str)> {
    let (owner, last) = name.strip_suffix(".weight")?.rsplit_once('.')?;
    let group = match last {
        "q_proj" | "k_proj" | "v_proj" => "qkv",
        "gate_proj" | "up_proj" => "gate_up",
        "w1" | "w3" => "w13",
        "q_a_proj" | "kv_a_proj_with_mqa" => "qkv_a",
        _ => return None,
    };
    Some((owner, group))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Role, Split};

    fn tensor(name: &str) -> Tensor {
        Tensor {
            name: name.to_owned(),
            layer: Some(0),
            role: Role::Mlp,
            count: 1,
            rows: 1,
            columns: 1,
            split: Split::Replicated,
            quantizable: true,
            stored_bytes: None,
        }
    }

    #[test]
    fn a_block_keeps_what_is_too_little_to_give_away() {
        let mib = u128::from(MIB);
        for (bytes, expected) in [
            (0, 0),
            (9 * mib, 0),
            (10 * mib, 0),
            (43 * mib, mib),
            (44 * mib, 0),
            (44 * mib + mib / 2, 0),
            (45 * mib + mib / 2, mib / 2),
            (220 * mib + mib / 2, 0),
        ] {
            assert_eq!(left_over(bytes), expected, "{bytes}");
        }
    }

    #[test]
    fn matrices_that_an_engine_joins_are_rounded_as_one() {
        let mib = u128::from(MIB);
        let names = ["a.gate_proj.weight", "a.up_proj.weight", "a.down_proj.weight", "b.gate_proj.weight"];
        let tensors = names.map(tensor);
        let mut blocks = Blocks::default();
        for tensor in &tensors {
            blocks.add(tensor, 43 * mib).expect("small");
        }
        // Gate and up are 86 MiB, which is whole; down, and the gate of another owner, are 43 each.
        assert_eq!(blocks.rounding(), Ok(Bytes(2 * MIB)));
    }

    #[test]
    fn a_larger_matrix_never_takes_a_smaller_block() {
        let mut last = 0;
        for bytes in (0..64_u128).map(|step| 9 * u128::from(MIB) + step * u128::from(MIB) / 4) {
            let block = bytes + left_over(bytes);
            assert!(block >= last, "{bytes}");
            last = block;
        }
    }
}
