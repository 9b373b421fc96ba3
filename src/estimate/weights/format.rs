//! Bytes of one weight matrix in a storage format, scales and zero points included.
//!
//! A format is a layout of blocks; what a mix of formats (GGUF's `q4_k_m`) gives to which tensor is in `gguf_mix`.

use crate::model::Quantization;
use crate::precision::Precision;
use crate::units::Overflow;

/// How the elements of one matrix are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// So many bits per element, nothing else.
    Plain(u64),
    /// Elements of so many bits, with scales.
    Scaled {
        /// Bits per element.
        bits: u64,
        /// What the scales cover.
        scales: Scales,
        /// Bits of one scale.
        scale_bits: u64,
        /// Bits of one zero point; 0 if there are none.
        zero_bits: u64,
        /// GPTQ's activation order: a 32-bit index per input feature.
        activation_order: bool,
    },
    /// GGML blocks: so many elements of a row in so many bytes.
    Blocks {
        /// Elements per block.
        elements: u64,
        /// Bytes per block.
        bytes: u64,
    },
}

/// What one scale covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scales {
    /// One output feature.
    Row,
    /// So many consecutive input features of one output feature.
    Group(u64),
    /// A square of so many output and input features.
    Square(u64),
    /// So many elements, whatever the shape (bitsandbytes), and so many 8-bit scales under one 32-bit scale of scales.
    Flat {
        /// Elements per scale.
        block: u64,
        /// Scales per second-level scale; 0 for one level.
        nested: u64,
    },
}

/// 16 bits per element: what every format leaves alone.
pub(crate) const HALF: Format = Format::Plain(16);

/// bitsandbytes' NF4 with its scales quantised in turn.
pub(crate) const NF4_NESTED: Format = Format::Scaled {
    bits: 4,
    scales: Scales::Flat { block: 64, nested: 256 },
    scale_bits: 8,
    zero_bits: 0,
    activation_order: false,
};

impl Format {
    /// Bytes of a matrix of `rows` output and `columns` input features.
    pub(crate) fn bytes(self, rows: u64, columns: u64) -> Result<u128, Overflow> {
        let (rows, columns) = (u128::from(rows), u128::from(columns));
        let elements = rows * columns;
        match self {
            Self::Plain(bits) => bits_to_bytes(elements, bits),
            Self::Blocks { elements: block, bytes } => {
                let blocks = columns.div_ceil(u128::from(block.max(1)));
                rows.checked_mul(blocks).and_then(|n| n.checked_mul(u128::from(bytes))).ok_or(Overflow)
            }
            Self::Scaled { bits, scales, scale_bits, zero_bits, activation_order } => {
                let count = match scales {
                    Scales::Row => rows,
                    Scales::Group(group) => rows * columns.div_ceil(u128::from(group.max(1))),
                    Scales::Square(side) => {
                        let side = u128::from(side.max(1));
                        rows.div_ceil(side) * columns.div_ceil(side)
                    }
                    Scales::Flat { block, .. } => elements.div_ceil(u128::from(block.max(1))),
                };
                let second_level = match scales {
                    Scales::Flat { nested, .. } if nested > 0 => count.div_ceil(u128::from(nested)) * 4,
                    _ => 0,
                };
                let order = if activation_order { columns * 4 } else { 0 };
                [
                    bits_to_bytes(elements, bits)?,
                    bits_to_bytes(count, scale_bits)?,
                    bits_to_bytes(count, zero_bits)?,
                    second_level,
                    order,
                ]
                .into_iter()
                .try_fold(0_u128, u128::checked_add)
                .ok_or(Overflow)
            }
        }
    }

    /// Bits of an element beside its scales, where they are stored apart.
    pub(crate) const fn element_bits(self) -> Option<u64> {
        match self {
            Self::Plain(bits) | Self::Scaled { bits, .. } => Some(bits),
            Self::Blocks { .. } => None,
        }
    }
}

fn bits_to_bytes(elements: u128, bits: u64) -> Result<u128, Overflow> {
    elements.checked_mul(u128::from(bits)).map(|total| total.div_ceil(8)).ok_or(Overflow)
}

/// The format that a precision gives to the matrices it applies to. A GGUF mix has no single one: see `gguf_mix`.
///
/// Block layouts: each method's own documentation of its tensors (GPTQ, AWQ, bitsandbytes, OCP microscaling, NVFP4).
pub(crate) fn of(precision: Precision) -> Option<Format> {
    let scaled = |bits, scales, scale_bits, zero_bits| Format::Scaled {
        bits,
        scales,
        scale_bits,
        zero_bits,
        activation_order: false,
    };
    Some(match precision {
        Precision::Fp32 => Format::Plain(32),
        Precision::Fp16 | Precision::Bf16 => HALF,
        Precision::Fp8 | Precision::Int8 | Precision::BnbInt8 => scaled(8, Scales::Row, 32, 0),
        Precision::Fp8Block => scaled(8, Scales::Square(128), 32, 0),
        Precision::Int4 => Format::Plain(4),
        Precision::GptqInt8 => scaled(8, Scales::Group(128), 16, 8),
        Precision::GptqInt4 | Precision::AwqInt4 => scaled(4, Scales::Group(128), 16, 4),
        Precision::Nf4 => scaled(4, Scales::Flat { block: 64, nested: 0 }, 32, 0),
        Precision::Mxfp8 => scaled(8, Scales::Group(32), 8, 0),
        Precision::Mxfp4 => scaled(4, Scales::Group(32), 8, 0),
        Precision::Nvfp4 => scaled(4, Scales::Group(16), 8, 0),
        _ => return None,
    })
}

/// The format of the quantised matrices of a checkpoint, by its own group size and zero points.
pub(crate) fn of_checkpoint(quantization: &Quantization) -> Option<Format> {
    let (bits, default_group, scale_bits) = match quantization.precision {
        Precision::Int8 => (8, 0, 32),
        Precision::GptqInt8 => (8, 128, 16),
        Precision::Int4 | Precision::GptqInt4 | Precision::AwqInt4 => (4, 128, 16),
        Precision::Nf4 => {
            let nested = if quantization.double_quantized { 256 } else { 0 };
            let block = quantization.group_size.filter(|&group| group > 0).unwrap_or(64);
            let scale_bits = if quantization.double_quantized { 8 } else { 32 };
            let scales = Scales::Flat { block, nested };
            return Some(Format::Scaled {
                bits: 4,
                scales,
                scale_bits,
                zero_bits: 0,
                activation_order: false,
            });
        }
        Precision::Fp8Block => {
            let side = quantization.group_size.filter(|&group| group > 0).unwrap_or(128);
            let scales = Scales::Square(side);
            return Some(Format::Scaled {
                bits: 8,
                scales,
                scale_bits: 32,
                zero_bits: 0,
                activation_order: false,
            });
        }
        Precision::Mxfp8 | Precision::Mxfp4 | Precision::Nvfp4 => return of(quantization.precision),
        other => return of(other),
    };
    let scales = match quantization.group_size.unwrap_or(default_group) {
        0 => Scales::Row,
        group => Scales::Group(group),
    };
    Some(Format::Scaled {
        bits,
        scales,
        scale_bits,
        // vLLM registers GPTQ's packed zero points even where the checkpoint is symmetric.
        zero_bits: if quantization.zero_points || is_gptq(quantization.precision) { bits } else { 0 },
        activation_order: quantization.activation_order,
    })
}

const fn is_gptq(precision: Precision) -> bool {
    matches!(precision, Precision::GptqInt4 | Precision::GptqInt8 | Precision::AwqInt4)
}

/// Bits per parameter over a whole model of which only the size is known, as a fraction: the seed's bytes per
/// parameter, a format's blocks, or for a GGUF mix what `llama-quantize` documents for an 8B Llama.
pub(crate) fn bits_per_parameter(precision: Precision) -> (u64, u64) {
    match precision {
        Precision::Fp32 => (32, 1),
        Precision::Fp16 | Precision::Bf16 => (16, 1),
        Precision::Fp8 | Precision::Int8 | Precision::BnbInt8 => (8, 1),
        Precision::Fp8Block => (8 * 16_384 + 32, 16_384),
        Precision::Int4 | Precision::GptqInt4 | Precision::AwqInt4 => (4, 1),
        Precision::GptqInt8 => (8 * 128 + 16 + 8, 128),
        Precision::Nf4 | Precision::Nvfp4 | Precision::Q40 | Precision::Iq4Nl => (45, 10),
        Precision::Mxfp8 => (825, 100),
        Precision::Mxfp4 => (425, 100),
        Precision::Q2K => (335, 100),
        Precision::Q3KS => (364, 100),
        Precision::Q3KM => (400, 100),
        Precision::Q3KL => (430, 100),
        Precision::Q41 => (5, 1),
        Precision::Q4KS => (467, 100),
        Precision::Q4KM => (489, 100),
        Precision::Q50 => (55, 10),
        Precision::Q51 => (6, 1),
        Precision::Q5KS => (557, 100),
        Precision::Q5KM => (570, 100),
        Precision::Q6K => (659, 100),
        Precision::Q80 => (85, 10),
        Precision::Iq1S => (200, 100),
        Precision::Iq1M => (215, 100),
        Precision::Iq2Xxs => (238, 100),
        Precision::Iq2Xs => (259, 100),
        Precision::Iq2S => (274, 100),
        Precision::Iq2M => (293, 100),
        Precision::Iq3Xxs => (325, 100),
        Precision::Iq3Xs => (350, 100),
        Precision::Iq3S => (366, 100),
        Precision::Iq3M => (376, 100),
        Precision::Iq4Xs => (446, 100),
        Precision::Tq10 => (16_875, 10_000),
        Precision::Tq20 => (20_625, 10_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bits per weight over a matrix of 4096 x 4096, in thousandths, rounded up.
    fn thousandths(format: Format) -> u128 {
        (format.bytes(4096, 4096).expect("fits") * 8000).div_ceil(4096 * 4096)
    }

    #[test]
    fn scales_and_zero_points_are_counted() {
        for (precision, expected) in [
            (Precision::Fp32, 32_000),
            (Precision::Bf16, 16_000),
            (Precision::Fp8, 8008),
            (Precision::Fp8Block, 8002),
            (Precision::Int8, 8008),
            (Precision::Int4, 4000),
            (Precision::GptqInt4, 4157),
            (Precision::AwqInt4, 4157),
            (Precision::GptqInt8, 8188),
            (Precision::Nf4, 4500),
            (Precision::Mxfp8, 8250),
            (Precision::Mxfp4, 4250),
            (Precision::Nvfp4, 4500),
        ] {
            assert_eq!(of(precision).map(thousandths), Some(expected), "{precision}");
        }
    }

    #[test]
    fn a_checkpoint_brings_its_own_groups() {
        let base = Quantization {
            precision: Precision::GptqInt4,
            group_size: Some(32),
            zero_points: false,
            activation_order: false,
            double_quantized: false,
            ignored: Vec::new(),
            cache_precision: None,
            groups: Vec::new(),
        };
        let order = Quantization { activation_order: true, group_size: Some(128), ..base.clone() };
        let nested = Quantization {
            precision: Precision::Nf4,
            group_size: None,
            double_quantized: true,
            ..base.clone()
        };
        let per_row = Quantization { precision: Precision::Int8, group_size: Some(0), ..base.clone() };
        for (quantization, expected) in [(base, 4625), (order, 4165), (nested, 4127), (per_row, 8008)] {
            assert_eq!(of_checkpoint(&quantization).map(thousandths), Some(expected), "{quantization:?}");
        }
    }

    #[test]
    fn every_precision_has_bits_and_a_hostile_shape_is_an_error() {
        for &precision in Precision::ALL {
            let (bits, per) = bits_per_parameter(precision);
            assert!(bits >= per && bits <= 32 * per, "{precision}");
        }
        assert_eq!(Format::Plain(32).bytes(u64::MAX, u64::MAX), Err(Overflow));
        let blocks = Format::Blocks { elements: 1, bytes: u64::MAX };
        assert_eq!(blocks.bytes(u64::MAX, u64::MAX), Err(Overflow));
    }
}
