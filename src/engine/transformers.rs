//! Hugging Face transformers, which is a library: what runs it has arguments of its own. And no engine at all, of which nothing
//! is known either. What transformers loads: huggingface.co/docs/transformers (Quantization).

use super::table::{Files, Loads, Table};
use crate::estimate::Options;
use crate::precision::{CachePrecision, Precision};

/// The library.
pub(super) const TABLE: Table = Table {
    image: None,
    stock: &[],
    command: &[],
    endpoint: None,
    model_variables: &[],
    variables: &[],
    positional_model: false,
    flags: &[],
    untold_caches: CachePrecision::ALL,
    stages: true,
    cap_of_group: None,
    options: |_| Ok(Options::default()),
    loads: Loads {
        files: Files::Safetensors,
        casts: &[Precision::Fp32, Precision::Fp16, Precision::Bf16],
        in_flight: &[(Precision::Nf4, "bitsandbytes"), (Precision::BnbInt8, "bitsandbytes")],
        checkpoints: &[
            Precision::Fp8,
            Precision::Fp8Block,
            Precision::Int8,
            Precision::Int4,
            Precision::GptqInt8,
            Precision::GptqInt4,
            Precision::AwqInt4,
            Precision::BnbInt8,
            Precision::Nf4,
            Precision::Mxfp4,
        ],
    },
};

/// No engine: what the image does is its own affair.
pub(super) const NONE: Table = Table { loads: Loads { files: Files::Any, ..TABLE.loads }, ..TABLE };
