//! The number formats that weights and caches are stored in, by the names users write.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::units::shorten;

/// Declares an enum of names: the variants, their spelling in the API, and every conversion between the two.
macro_rules! named {
    ($(#[$meta:meta])* $name:ident ($what:literal) { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)+ }) => {
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
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownName;

            fn from_str(text: &str) -> Result<Self, UnknownName> {
                let wanted = text.trim().to_ascii_lowercase();
                Self::ALL.iter().copied().find(|value| value.as_str() == wanted).ok_or_else(|| UnknownName {
                    what: $what,
                    value: shorten(text),
                    known: Self::ALL.iter().map(|value| value.as_str()).collect::<Vec<_>>().join(", "),
                })
            }
        }
    };
}
pub(crate) use named;

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
        Fp32 = "fp32",
        /// 16-bit IEEE floating point.
        Fp16 = "fp16",
        /// 16-bit brain floating point.
        Bf16 = "bf16",
        /// 8-bit floating point with one scale per tensor or row.
        Fp8 = "fp8",
        /// 8-bit floating point with a scale per block of 128 x 128 (DeepSeek, Qwen).
        Fp8Block = "fp8-block",
        /// 8-bit integer.
        Int8 = "int8",
        /// 4-bit integer, the bare half byte per parameter.
        Int4 = "int4",
        /// GPTQ, 8 bits, groups of 128.
        GptqInt8 = "gptq-int8",
        /// GPTQ, 4 bits, groups of 128.
        GptqInt4 = "gptq-int4",
        /// AWQ, 4 bits, groups of 128.
        AwqInt4 = "awq-int4",
        /// bitsandbytes 8-bit integer.
        BnbInt8 = "bnb-int8",
        /// bitsandbytes NF4, blocks of 64.
        Nf4 = "nf4",
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
        Fp32 = "fp32",
        /// 16-bit IEEE floating point.
        Fp16 = "fp16",
        /// 16-bit brain floating point.
        Bf16 = "bf16",
        /// 8-bit floating point.
        Fp8 = "fp8",
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
        LlamaCpp = "llama-cpp",
        /// Hugging Face text-generation-inference.
        Tgi = "tgi",
        /// Hugging Face transformers.
        Transformers = "transformers",
        /// No engine: estimate only, unless the object has a pod template.
        None = "none",
    }
}
