//! How the weights of a training run are held.

use super::census::{Census, Kind, product};
use super::sharding;
use crate::estimate::{EstimateError, Method, Training};
use crate::model::ModelShape;
use crate::precision::Precision;
use crate::units::{Bytes, Overflow};

/// How the weights are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    /// 16 bits, and so are gradients and moments: what frameworks do with a checkpoint loaded in bf16.
    Sixteen,
    /// 32 bits, with the arithmetic in 16 (automatic mixed precision).
    Mixed,
    /// Frozen, and quantised; what the format leaves alone stays in 16 bits.
    Quantised(Precision),
}

/// What a cast to 32 bits costs beyond 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cast {
    /// Embeddings and output head.
    pub(super) tables: Bytes,
    /// The 16-bit copy of the output head that autocast makes, from the loss to its gradient.
    pub(super) head: Bytes,
    /// The most that activations may.
    pub(super) activations: Bytes,
}

impl Base {
    /// What a run asks for.
    pub(super) fn of(
        shape: &ModelShape,
        method: Method,
        asked: Option<Precision>,
    ) -> Result<Self, EstimateError> {
        // PEFT trains on what GPTQ, AWQ and bitsandbytes have quantised. FP8, MXFP4 and GGUF checkpoints are dequantised.
        let stored =
            shape.quantization.as_ref().map(|quantization| quantization.precision).filter(|format| {
                matches!(
                    format,
                    Precision::GptqInt4
                        | Precision::GptqInt8
                        | Precision::AwqInt4
                        | Precision::BnbInt8
                        | Precision::Nf4
                )
            });
        let wanted = match method {
            Method::Full => asked,
            Method::Lora | Method::Qlora => asked.or(stored),
        };
        match (method, wanted) {
            (Method::Full | Method::Lora, None | Some(Precision::Bf16))
            | (Method::Lora, Some(Precision::Fp16)) => Ok(Self::Sixteen),
            // fp16 has too small a range to be trained without a 32-bit copy.
            (Method::Full, Some(Precision::Fp16)) | (Method::Full | Method::Lora, Some(Precision::Fp32)) => {
                Ok(Self::Mixed)
            }
            (Method::Full, Some(other)) => Err(EstimateError::Invalid {
                field: "precision",
                problem: format!("{other} weights cannot be trained in full"),
                remedy: "use bf16, fp16 or fp32, or the method qlora, which keeps the base quantised".to_owned(),
            }),
            (Method::Qlora, None | Some(Precision::Fp32 | Precision::Fp16 | Precision::Bf16)) => {
                Ok(Self::Quantised(Precision::Nf4))
            }
            (Method::Lora | Method::Qlora, Some(format)) => match rate(format) {
                Some(_) => Ok(Self::Quantised(format)),
                None => Err(EstimateError::Invalid {
                    field: "precision",
                    problem: format!("adapters cannot be trained on a base in {format}"),
                    remedy: "use nf4, int4, gptq-int4, awq-int4, bnb-int8, int8, fp8, mxfp4 or nvfp4, or bf16 for LoRA on a 16-bit base"
                        .to_owned(),
                }),
            },
        }
    }

    /// Bytes of the whole base.
    pub(super) fn weights(self, census: &Census, autocast: bool) -> Result<Bytes, Overflow> {
        let linear = linear(census)?;
        match self {
            Self::Sixteen => product(&[census.parameters, 2]),
            // Autocast keeps a 16-bit copy of each matrix from the forward pass to the backward pass.
            Self::Mixed if autocast => product(&[census.parameters, 4])?.plus(product(&[linear, 2])?),
            Self::Mixed => product(&[census.parameters, 4]),
            Self::Quantised(format) => {
                quantised(format, linear)?.plus(product(&[census.parameters - linear, 2])?)
            }
        }
    }

    /// What of sharded weights is held whole at a time: two layers (one in use, one on its way), the embeddings and the
    /// output head, and in full fine-tuning the gradients of a layer.
    pub(super) fn held_whole(self, census: &Census, training: &Training) -> Result<Bytes, Overflow> {
        if !sharding::shards_weights(training.sharding) {
            return Ok(Bytes::ZERO);
        }
        let layer = self.gathered(census.layer, census.layer_linear)?;
        let held = layer.times(2)?.plus(product(&[census.tables, 2])?)?;
        match training.method {
            Method::Full => held.plus(layer),
            Method::Lora | Method::Qlora => Ok(held),
        }
    }

    /// Bytes of `elements` weights of a layer as they are gathered from other ranks: 16 bits, or as they are stored.
    fn gathered(self, elements: u64, linear: u64) -> Result<Bytes, Overflow> {
        match self {
            Self::Sixteen | Self::Mixed => product(&[elements, 2]),
            Self::Quantised(format) => {
                quantised(format, linear)?.plus(product(&[elements.saturating_sub(linear), 2])?)
            }
        }
    }

    /// What PEFT makes of the base before adapters are trained on it, if anything.
    ///
    /// Its `prepare_model_for_kbit_training` casts all that bitsandbytes has not quantised to 32 bits: embeddings, output
    /// head and norms, and so the residual stream. Trainers leave it out where the weights are sharded, for one flat
    /// parameter has one type: fms-hf-tuning's runs with and without it need the same under FSDP, and 6 to 13 GiB less
    /// without it on one GPU.
    pub(super) fn cast(
        self,
        census: &Census,
        hidden: u64,
        training: &Training,
    ) -> Result<Option<Cast>, Overflow> {
        let Self::Quantised(format) = self else { return Ok(None) };
        if !is_cast_by_peft(format) || sharding::shards_weights(training.sharding) {
            return Ok(None);
        }
        // No more than quantisation saves, less what a dequantised matrix and the allocator's share of it cost, rounded
        // up: where the cast costs more, LoRA on the 16-bit base is what one runs.
        let linear = linear(census)?;
        let saved = product(&[linear, 2])?.0.saturating_sub(quantised(format, linear)?.0);
        let most = Bytes(saved.saturating_sub(product(&[census.largest, 4])?.0));
        let tables = product(&[census.tables, 2])?.min(most);
        let head = product(&[census.logits, hidden, 2])?.min(Bytes(most.0 - tables.0));
        Ok(Some(Cast { tables, head, activations: Bytes(most.0 - tables.0 - head.0) }))
    }

    /// What the weights may take beyond the estimate: bitsandbytes without double quantisation has a 32-bit scale per 64
    /// weights.
    pub(super) fn beyond(self, census: &Census) -> Result<Bytes, Overflow> {
        match self {
            Self::Quantised(Precision::Nf4) => {
                let linear = linear(census)?;
                Ok(Bytes(Bytes(linear).scaled(9, 16)?.0.saturating_sub(quantised(Precision::Nf4, linear)?.0)))
            }
            Self::Sixteen | Self::Mixed | Self::Quantised(_) => Ok(Bytes::ZERO),
        }
    }

    /// Bytes of an element where gradients and moments follow the weights.
    pub(super) const fn width(self) -> u64 {
        match self {
            Self::Mixed => 4,
            Self::Sixteen | Self::Quantised(_) => 2,
        }
    }
}

fn linear(census: &Census) -> Result<u64, Overflow> {
    let mut sum = 0_u64;
    for group in census.groups.iter().filter(|group| group.kind == Kind::Linear) {
        sum = sum.checked_add(group.elements()?).ok_or(Overflow)?;
    }
    Ok(sum.min(census.parameters))
}

/// Bytes of quantised weights with their scales and zero points.
fn quantised(format: Precision, elements: u64) -> Result<Bytes, Overflow> {
    match rate(format) {
        Some((bytes, weights)) => Bytes(elements).scaled(bytes, weights),
        None => product(&[elements, 2]),
    }
}

/// Whether PEFT casts what a format leaves alone: for bitsandbytes' formats, not for GPTQ and the like.
const fn is_cast_by_peft(format: Precision) -> bool {
    matches!(format, Precision::Nf4 | Precision::Int4 | Precision::BnbInt8 | Precision::Int8)
}

/// Bytes for so many weights; `None` for a format that no training framework takes as a base.
const fn rate(format: Precision) -> Option<(u64, u64)> {
    Some(match format {
        // bitsandbytes with double quantisation: per 64 weights an 8-bit scale, per 256 of those a 32-bit one.
        Precision::Nf4 => (8_192 + 256 + 4, 16_384),
        Precision::Int4 => (1, 2),
        // Groups of 128 with a 16-bit scale and a 4-bit zero point.
        Precision::GptqInt4 | Precision::AwqInt4 => (64 * 2 + 5, 256),
        Precision::GptqInt8 => (128 + 3, 128),
        Precision::Mxfp4 => (16 + 1, 32),
        Precision::Nvfp4 => (8 + 1, 16),
        Precision::Mxfp8 => (32 + 1, 32),
        // A scale per row or block: less than one part in a thousand.
        Precision::Int8 | Precision::BnbInt8 | Precision::Fp8 | Precision::Fp8Block => (1_001, 1_000),
        _ => return None,
    })
}
