//! Element types of safetensors, as the format's own list spells them.

use crate::precision::Precision;

/// The element type of a tensor.
///
/// The list is that of the `Dtype` enum of huggingface/safetensors 0.8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dtype {
    /// `BOOL`, one byte.
    Bool,
    /// `F4`, two to a byte.
    F4,
    /// `F6_E2M3`, four to three bytes.
    F6E2m3,
    /// `F6_E3M2`, four to three bytes.
    F6E3m2,
    /// `U8`.
    U8,
    /// `I8`.
    I8,
    /// `F8_E5M2`.
    F8E5m2,
    /// `F8_E4M3`.
    F8E4m3,
    /// `F8_E8M0`, a scale.
    F8E8m0,
    /// `F8_E4M3FNUZ`.
    F8E4m3Fnuz,
    /// `F8_E5M2FNUZ`.
    F8E5m2Fnuz,
    /// `I16`.
    I16,
    /// `U16`.
    U16,
    /// `F16`.
    F16,
    /// `BF16`.
    Bf16,
    /// `I32`.
    I32,
    /// `U32`.
    U32,
    /// `F32`.
    F32,
    /// `C64`, a complex number of two 32-bit floats.
    C64,
    /// `F64`.
    F64,
    /// `I64`.
    I64,
    /// `U64`.
    U64,
}

/// Every type, as headers spell it.
const SPELLINGS: [(&str, Dtype); 22] = [
    ("BOOL", Dtype::Bool),
    ("F4", Dtype::F4),
    ("F6_E2M3", Dtype::F6E2m3),
    ("F6_E3M2", Dtype::F6E3m2),
    ("U8", Dtype::U8),
    ("I8", Dtype::I8),
    ("F8_E5M2", Dtype::F8E5m2),
    ("F8_E4M3", Dtype::F8E4m3),
    ("F8_E8M0", Dtype::F8E8m0),
    ("F8_E4M3FNUZ", Dtype::F8E4m3Fnuz),
    ("F8_E5M2FNUZ", Dtype::F8E5m2Fnuz),
    ("I16", Dtype::I16),
    ("U16", Dtype::U16),
    ("F16", Dtype::F16),
    ("BF16", Dtype::Bf16),
    ("I32", Dtype::I32),
    ("U32", Dtype::U32),
    ("F32", Dtype::F32),
    ("C64", Dtype::C64),
    ("F64", Dtype::F64),
    ("I64", Dtype::I64),
    ("U64", Dtype::U64),
];

impl Dtype {
    /// The type by its spelling in a header.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        SPELLINGS.iter().find(|(spelling, _)| *spelling == name).map(|&(_, dtype)| dtype)
    }

    /// Its spelling in a header.
    #[must_use]
    pub fn name(self) -> &'static str {
        SPELLINGS.iter().find(|(_, dtype)| *dtype == self).map_or("?", |&(spelling, _)| spelling)
    }

    /// Bits per element.
    #[must_use]
    pub const fn bits(self) -> u64 {
        match self {
            Self::F4 => 4,
            Self::F6E2m3 | Self::F6E3m2 => 6,
            Self::Bool
            | Self::U8
            | Self::I8
            | Self::F8E5m2
            | Self::F8E4m3
            | Self::F8E8m0
            | Self::F8E4m3Fnuz
            | Self::F8E5m2Fnuz => 8,
            Self::I16 | Self::U16 | Self::F16 | Self::Bf16 => 16,
            Self::I32 | Self::U32 | Self::F32 => 32,
            Self::C64 | Self::F64 | Self::I64 | Self::U64 => 64,
        }
    }

    /// Whether it is an 8-bit float that holds weights.
    #[must_use]
    pub const fn is_fp8(self) -> bool {
        matches!(self, Self::F8E5m2 | Self::F8E4m3 | Self::F8E4m3Fnuz | Self::F8E5m2Fnuz)
    }

    /// The precision of weights of this type that are not quantised; `None` for every other type.
    #[must_use]
    pub const fn unquantized(self) -> Option<Precision> {
        Some(match self {
            Self::F32 => Precision::Fp32,
            Self::F16 => Precision::Fp16,
            Self::Bf16 => Precision::Bf16,
            _ => return None,
        })
    }
}
