//! GGML's tensor types: how many elements a block has, and how many bytes.

use crate::precision::Precision;

/// A tensor type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TensorType {
    /// Its number in a file.
    pub id: u32,
    /// Its name, as llama.cpp prints it.
    pub name: &'static str,
    /// Elements of a block: a row is a whole number of them.
    pub block_elements: u64,
    /// Bytes of a block.
    pub block_bytes: u64,
}

/// Every type that a file can have. Numbers 4, 5, 31 to 33 and 36 to 38 were of types that are gone.
///
/// Source: `enum ggml_type` in ggml/include/ggml.h and the block structures in ggml/src/ggml-common.h of
/// ggml-org/llama.cpp.
const TYPES: &[(u32, &str, u64, u64)] = &[
    (0, "F32", 1, 4),
    (1, "F16", 1, 2),
    (2, "Q4_0", 32, 18),
    (3, "Q4_1", 32, 20),
    (6, "Q5_0", 32, 22),
    (7, "Q5_1", 32, 24),
    (8, "Q8_0", 32, 34),
    (9, "Q8_1", 32, 36),
    (10, "Q2_K", 256, 84),
    (11, "Q3_K", 256, 110),
    (12, "Q4_K", 256, 144),
    (13, "Q5_K", 256, 176),
    (14, "Q6_K", 256, 210),
    (15, "Q8_K", 256, 292),
    (16, "IQ2_XXS", 256, 66),
    (17, "IQ2_XS", 256, 74),
    (18, "IQ3_XXS", 256, 98),
    (19, "IQ1_S", 256, 50),
    (20, "IQ4_NL", 32, 18),
    (21, "IQ3_S", 256, 110),
    (22, "IQ2_S", 256, 82),
    (23, "IQ4_XS", 256, 136),
    (24, "I8", 1, 1),
    (25, "I16", 1, 2),
    (26, "I32", 1, 4),
    (27, "I64", 1, 8),
    (28, "F64", 1, 8),
    (29, "IQ1_M", 256, 56),
    (30, "BF16", 1, 2),
    (34, "TQ1_0", 256, 54),
    (35, "TQ2_0", 256, 66),
    (39, "MXFP4", 32, 17),
    (40, "NVFP4", 64, 36),
    (41, "Q1_0", 128, 18),
    (42, "Q2_0", 64, 18),
];

impl TensorType {
    /// The type of a number.
    #[must_use]
    pub fn from_id(id: u32) -> Option<Self> {
        TYPES.iter().find(|entry| entry.0 == id).map(|&(id, name, block_elements, block_bytes)| Self {
            id,
            name,
            block_elements,
            block_bytes,
        })
    }

    /// The precision of a file that is mostly of this type. A K type is taken for its medium mix.
    pub(super) fn precision(self) -> Option<Precision> {
        Some(match self.name {
            "F32" => Precision::Fp32,
            "F16" => Precision::Fp16,
            "BF16" => Precision::Bf16,
            "Q4_0" => Precision::Q40,
            "Q4_1" => Precision::Q41,
            "Q5_0" => Precision::Q50,
            "Q5_1" => Precision::Q51,
            "Q8_0" => Precision::Q80,
            "Q2_K" => Precision::Q2K,
            "Q3_K" => Precision::Q3KM,
            "Q4_K" => Precision::Q4KM,
            "Q5_K" => Precision::Q5KM,
            "Q6_K" => Precision::Q6K,
            "IQ2_XXS" => Precision::Iq2Xxs,
            "IQ2_XS" => Precision::Iq2Xs,
            "IQ2_S" => Precision::Iq2S,
            "IQ3_XXS" => Precision::Iq3Xxs,
            "IQ3_S" => Precision::Iq3S,
            "IQ1_S" => Precision::Iq1S,
            "IQ1_M" => Precision::Iq1M,
            "IQ4_NL" => Precision::Iq4Nl,
            "IQ4_XS" => Precision::Iq4Xs,
            "TQ1_0" => Precision::Tq10,
            "TQ2_0" => Precision::Tq20,
            "MXFP4" => Precision::Mxfp4,
            "NVFP4" => Precision::Nvfp4,
            _ => return None,
        })
    }
}

/// The precision of a file by its `general.file_type`.
///
/// Source: `enum llama_ftype` in include/llama.h of ggml-org/llama.cpp.
pub(super) fn file_type(number: u64) -> Option<Precision> {
    Some(match number {
        0 => Precision::Fp32,
        1 => Precision::Fp16,
        2 => Precision::Q40,
        3 => Precision::Q41,
        7 => Precision::Q80,
        8 => Precision::Q50,
        9 => Precision::Q51,
        10 | 21 => Precision::Q2K,
        11 => Precision::Q3KS,
        12 => Precision::Q3KM,
        13 => Precision::Q3KL,
        14 => Precision::Q4KS,
        15 => Precision::Q4KM,
        16 => Precision::Q5KS,
        17 => Precision::Q5KM,
        18 => Precision::Q6K,
        19 => Precision::Iq2Xxs,
        20 => Precision::Iq2Xs,
        22 => Precision::Iq3Xs,
        23 => Precision::Iq3Xxs,
        24 => Precision::Iq1S,
        25 => Precision::Iq4Nl,
        26 => Precision::Iq3S,
        27 => Precision::Iq3M,
        28 => Precision::Iq2S,
        29 => Precision::Iq2M,
        30 => Precision::Iq4Xs,
        31 => Precision::Iq1M,
        32 => Precision::Bf16,
        36 => Precision::Tq10,
        37 => Precision::Tq20,
        38 => Precision::Mxfp4,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_per_weight_are_those_of_the_block_structures() {
        // Thousandths of a bit per weight, as published with each type.
        for (name, millibits) in [
            ("Q4_0", 4500),
            ("Q4_1", 5000),
            ("Q5_0", 5500),
            ("Q5_1", 6000),
            ("Q8_0", 8500),
            ("Q2_K", 2625),
            ("Q3_K", 3437),
            ("Q4_K", 4500),
            ("Q5_K", 5500),
            ("Q6_K", 6562),
            ("Q8_K", 9125),
            ("IQ1_S", 1562),
            ("IQ1_M", 1750),
            ("IQ2_XXS", 2062),
            ("IQ2_XS", 2312),
            ("IQ2_S", 2562),
            ("IQ3_XXS", 3062),
            ("IQ3_S", 3437),
            ("IQ4_NL", 4500),
            ("IQ4_XS", 4250),
            ("TQ1_0", 1687),
            ("TQ2_0", 2062),
            ("MXFP4", 4250),
            ("NVFP4", 4500),
            ("Q1_0", 1125),
            ("Q2_0", 2250),
        ] {
            let found = TYPES.iter().find(|entry| entry.1 == name).expect(name);
            assert_eq!(found.3 * 8000 / found.2, millibits, "{name}");
        }
    }

    #[test]
    fn types_that_are_gone_are_not_read() {
        for id in [4, 5, 31, 32, 33, 36, 37, 38, 43, u32::MAX] {
            assert_eq!(TensorType::from_id(id), None, "{id}");
        }
    }
}
