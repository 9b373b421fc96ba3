//! The number formats that weights and caches are stored in, by the names users write.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::units::shorten;

/// Declares an enum of names: the variants, their spelling in the API, what else people call them, and every conversion.
macro_rules! named {
    ($(#[$meta:meta])* $name:ident ($what:literal) {
        $($(#[$variant_meta:meta])* $variant:ident = $text:literal $(| $alias:literal)*,)+
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
        pub enum $name { $($(#[$variant_meta])* #[serde(rename = $text)] $variant,)+ }

        impl $name {
            /// Every value, in the order in which it is listed to users.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The spelling in the API and on the command line.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// What engines and their logs call it besides. The API knows only [`Self::as_str`].
            const fn aliases(self) -> &'static [&'static str] {
                match self { $(Self::$variant => &[$($alias),*],)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownName;

            /// In any case, with `-`, `_` and `.` taken for one another.
            fn from_str(text: &str) -> Result<Self, UnknownName> {
                let means = |name: &&str| $crate::precision::same_name(name, text.trim());
                let named = |value: &Self| means(&value.as_str()) || value.aliases().iter().any(|name| means(name));
                Self::ALL.iter().copied().find(named).ok_or_else(|| UnknownName {
                    what: $what,
                    value: shorten(text),
                    known: Self::ALL.iter().map(|value| value.as_str()).collect::<Vec<_>>().join(", "),
                })
            }
        }
    };
}
pub(crate) use named;

/// Whether two spellings differ only in case and in what separates their words.
pub(crate) fn same_name(left: &str, right: &str) -> bool {
    let plain = |byte: u8| if matches!(byte, b'_' | b'.') { b'-' } else { byte.to_ascii_lowercase() };
    left.bytes().map(plain).eq(right.bytes().map(plain))
}

/// A name that is not one of a closed list.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("\"{value}\" is not a known {what}; known are {known}")]
pub struct UnknownName {
    /// What the name was to be, such as `precision`.
    pub what: &'static str,
    /// What was written.
    pub value: String,
    /// The list, separated by commas.
    pub known: String,
}

named! {
    /// How the weights are stored in GPU memory.
    Precision ("precision") {
        /// 32-bit floating point.
        Fp32 = "fp32" | "float32" | "f32",
        /// 16-bit IEEE floating point.
        Fp16 = "fp16" | "float16" | "f16" | "half",
        /// 16-bit brain floating point.
        Bf16 = "bf16" | "bfloat16",
        /// 8-bit floating point with one scale per tensor or row.
        Fp8 = "fp8" | "fp8-e4m3" | "fp8-e5m2",
        /// 8-bit floating point with a scale per block of 128 x 128 (DeepSeek, Qwen).
        Fp8Block = "fp8-block",
        /// 8-bit integer: a byte per parameter of a size alone; of a known model the linear layers, one scale per row (W8A8).
        Int8 = "int8",
        /// 4-bit integer, the bare half byte per parameter.
        Int4 = "int4",
        /// GPTQ, 8 bits, groups of 128.
        GptqInt8 = "gptq-int8" | "w8a16",
        /// GPTQ, 4 bits, groups of 128.
        GptqInt4 = "gptq-int4" | "gptq" | "w4a16",
        /// AWQ, 4 bits, groups of 128.
        AwqInt4 = "awq-int4" | "awq",
        /// 8-bit integer linear layers with one scale per row: bitsandbytes, and W8A8 checkpoints.
        BnbInt8 = "bnb-int8" | "w8a8" | "llm-int8",
        /// bitsandbytes NF4, blocks of 64.
        Nf4 = "nf4" | "bnb-nf4" | "bnb-4bit",
        /// Microscaling FP8, groups of 32.
        Mxfp8 = "mxfp8",
        /// Microscaling FP4, groups of 32.
        Mxfp4 = "mxfp4",
        /// NVIDIA FP4, groups of 16.
        Nvfp4 = "nvfp4",
        /// GGUF mix Q2_K.
        Q2K = "q2_k",
        /// GGUF mix Q3_K_S.
        Q3KS = "q3_k_s",
        /// GGUF mix Q3_K_M.
        Q3KM = "q3_k_m",
        /// GGUF mix Q3_K_L.
        Q3KL = "q3_k_l",
        /// GGUF type Q4_0.
        Q40 = "q4_0",
        /// GGUF type Q4_1.
        Q41 = "q4_1",
        /// GGUF mix Q4_K_S.
        Q4KS = "q4_k_s",
        /// GGUF mix Q4_K_M.
        Q4KM = "q4_k_m",
        /// GGUF type Q5_0.
        Q50 = "q5_0",
        /// GGUF type Q5_1.
        Q51 = "q5_1",
        /// GGUF mix Q5_K_S.
        Q5KS = "q5_k_s",
        /// GGUF mix Q5_K_M.
        Q5KM = "q5_k_m",
        /// GGUF type Q6_K.
        Q6K = "q6_k",
        /// GGUF type Q8_0.
        Q80 = "q8_0",
        /// GGUF mix IQ1_S.
        Iq1S = "iq1_s",
        /// GGUF mix IQ1_M.
        Iq1M = "iq1_m",
        /// GGUF mix IQ2_XXS.
        Iq2Xxs = "iq2_xxs",
        /// GGUF mix IQ2_XS.
        Iq2Xs = "iq2_xs",
        /// GGUF mix IQ2_S.
        Iq2S = "iq2_s",
        /// GGUF mix IQ2_M.
        Iq2M = "iq2_m",
        /// GGUF mix IQ3_XXS.
        Iq3Xxs = "iq3_xxs",
        /// GGUF mix IQ3_XS.
        Iq3Xs = "iq3_xs",
        /// GGUF mix IQ3_S.
        Iq3S = "iq3_s",
        /// GGUF mix IQ3_M.
        Iq3M = "iq3_m",
        /// GGUF type IQ4_NL.
        Iq4Nl = "iq4_nl",
        /// GGUF mix IQ4_XS.
        Iq4Xs = "iq4_xs",
        /// GGUF type TQ1_0.
        Tq10 = "tq1_0",
        /// GGUF type TQ2_0.
        Tq20 = "tq2_0",
    }
}

named! {
    /// How the KV cache is stored in GPU memory.
    CachePrecision ("cache precision") {
        /// What the engine picks: the model's own 16-bit type, unless the checkpoint says otherwise.
        Auto = "auto",
        /// 32-bit floating point.
        Fp32 = "fp32" | "float32" | "f32",
        /// 16-bit IEEE floating point.
        Fp16 = "fp16" | "float16" | "f16" | "half",
        /// 16-bit brain floating point.
        Bf16 = "bf16" | "bfloat16",
        /// 8-bit floating point.
        Fp8 = "fp8" | "fp8-e4m3" | "fp8-e5m2",
        /// 8-bit integer.
        Int8 = "int8",
        /// llama.cpp Q8_0: 34 bytes for 32 elements.
        Q80 = "q8_0",
        /// llama.cpp Q5_1: 24 bytes for 32 elements.
        Q51 = "q5_1",
        /// llama.cpp Q5_0: 22 bytes for 32 elements.
        Q50 = "q5_0",
        /// llama.cpp Q4_1: 20 bytes for 32 elements.
        Q41 = "q4_1",
        /// llama.cpp Q4_0: 18 bytes for 32 elements.
        Q40 = "q4_0",
    }
}

named! {
    /// The engine that serves the model: its allocator, kernels and defaults decide activations and overhead.
    Engine ("engine") {
        /// vLLM.
        Vllm = "vllm",
        /// SGLang.
        Sglang = "sglang",
        /// llama.cpp's server.
        LlamaCpp = "llama-cpp" | "llamacpp",
        /// Hugging Face text-generation-inference.
        Tgi = "tgi" | "text-generation-inference",
        /// Hugging Face transformers.
        Transformers = "transformers",
        /// No engine: estimate only, unless the object has a pod template.
        None = "none",
    }
}

impl Precision {
    /// Whether it is a type that arithmetic is done in, not one that weights are only held in.
    #[must_use]
    pub const fn is_wide(self) -> bool {
        matches!(self, Self::Fp32 | Self::Fp16 | Self::Bf16)
    }

    /// Whether llama.cpp has the format: its own types, 16 and 32 bits, MXFP4; bare 4 and 8 bits stand for its nearest.
    #[must_use]
    pub const fn is_gguf(self) -> bool {
        !matches!(
            self,
            Self::Fp8
                | Self::Fp8Block
                | Self::GptqInt8
                | Self::GptqInt4
                | Self::AwqInt4
                | Self::BnbInt8
                | Self::Nf4
                | Self::Mxfp8
        )
    }
}

impl Engine {
    /// The cache precisions that the engine can be asked for, by its own documentation of `--kv-cache-dtype` (vLLM, SGLang,
    /// TGI) or `--cache-type-k` (llama.cpp). Every one where there is no engine, or where the code that uses it decides.
    #[must_use]
    pub const fn cache_precisions(self) -> &'static [CachePrecision] {
        use CachePrecision::{Auto, Bf16, Fp8, Fp16, Fp32, Int8, Q40, Q41, Q50, Q51, Q80};
        match self {
            Self::Vllm => &[Auto, Fp16, Bf16, Fp8, Int8],
            Self::Sglang | Self::Tgi => &[Auto, Fp16, Bf16, Fp8],
            Self::LlamaCpp => &[Auto, Fp32, Fp16, Bf16, Q80, Q51, Q50, Q41, Q40],
            Self::Transformers | Self::None => CachePrecision::ALL,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_understood_as_logs_and_files_spell_them() {
        for (text, expected) in [
            ("bf16", Some(Precision::Bf16)),
            ("bfloat16", Some(Precision::Bf16)),
            ("F16", Some(Precision::Fp16)),
            ("FP8_block", Some(Precision::Fp8Block)),
            ("bnb-nf4", Some(Precision::Nf4)),
            ("W8A8", Some(Precision::BnbInt8)),
            (" Q4_K_M ", Some(Precision::Q4KM)),
            ("q4-k-m", Some(Precision::Q4KM)),
            ("q4km", None),
            ("", None),
            ("int3", None),
        ] {
            assert_eq!(text.parse::<Precision>().ok(), expected, "{text}");
        }
        for (text, expected) in [
            ("fp8_e4m3", Some(CachePrecision::Fp8)),
            ("float16", Some(CachePrecision::Fp16)),
            ("f16", Some(CachePrecision::Fp16)),
            ("fp4", None),
        ] {
            assert_eq!(text.parse::<CachePrecision>().ok(), expected, "{text}");
        }
        for text in ["llama.cpp", "llamacpp", "llama_cpp", "LLAMA-CPP"] {
            assert_eq!(text.parse::<Engine>().ok(), Some(Engine::LlamaCpp), "{text}");
        }
    }

    #[test]
    fn no_spelling_means_two_things() {
        let spellings =
            |value: Precision| std::iter::once(value.as_str()).chain(value.aliases().iter().copied());
        for &value in Precision::ALL {
            for name in spellings(value) {
                assert_eq!(name.parse::<Precision>().ok(), Some(value), "{name}");
            }
        }
        for &value in CachePrecision::ALL {
            for name in value.aliases() {
                assert_eq!(name.parse::<CachePrecision>().ok(), Some(value), "{name}");
            }
        }
    }
}
