//! A Hugging Face `config.json` becomes a [`ModelShape`].
//!
//! `model_type` decides the family, and every family has its tensors written down here; a type that is not known is
//! refused by name. Names, defaults and shapes follow the public modelling code of Hugging Face transformers, and of
//! the model repositories where transformers has none.

mod blocks;
mod builder;
mod decoder;
mod dense;
mod fields;
mod hybrid;
mod json;
mod mla;
mod moe;
mod nemotron;
mod recurrent;

use self::builder::Builder;
use self::fields::{Fields, WHAT};
use super::ModelShape;
use super::error::ParseError;
use crate::precision::Precision;
use crate::units::shorten;

/// Reads a `config.json`; `name` is what to call the model.
///
/// # Errors
/// See [`ParseError`].
pub fn parse(json: &[u8], name: &str) -> Result<ModelShape, ParseError> {
    parse_with_quant(json, None, name)
}

/// The same, with the `hf_quant_config.json` that NVIDIA's ModelOpt writes beside it.
///
/// # Errors
/// See [`ParseError`].
pub fn parse_with_quant(
    config: &[u8],
    hf_quant: Option<&[u8]>,
    name: &str,
) -> Result<ModelShape, ParseError> {
    let map = json::object(config)?;
    let root = Fields::root(&map);
    let quant = hf_quant.map(json::object).transpose()?;
    let _ = quant;
    let model_type = root
        .text("model_type")?
        .ok_or_else(|| root.error("model_type", "is missing; write the model's type, such as \"llama\""))?;
    let mut b = Builder::new(name, &shorten(model_type));
    text(model_type, &root, &mut b)?;
    b.shape.stored_precision = stored_precision(&root)?;
    b.finish()
}

/// Reads a text model.
fn text(model_type: &str, f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    match model_type {
        _ if dense::knows(model_type, f) => dense::build(model_type, f, b),
        _ if moe::TYPES.contains(&model_type) => moe::build(model_type, f, b),
        _ if mla::TYPES.contains(&model_type) => mla::build(model_type, f, b),
        _ if hybrid::TYPES.contains(&model_type) => hybrid::build(model_type, f, b),
        _ if nemotron::TYPES.contains(&model_type) => nemotron::build(model_type, f, b),
        _ => Err(unknown(model_type)),
    }
}

fn unknown(model_type: &str) -> ParseError {
    ParseError::UnknownArchitecture {
        what: WHAT,
        architecture: shorten(model_type),
        remedy: "give the safetensors or GGUF header, or the number of parameters",
    }
}

/// The type of the weights that are not quantised.
fn stored_precision(f: &Fields<'_>) -> Result<Option<Precision>, ParseError> {
    let text = match f.text("dtype")? {
        Some(text) => Some(text),
        None => f.text("torch_dtype")?,
    };
    Ok(match text.map(|text| text.trim_start_matches("torch.")) {
        Some("float32" | "float") => Some(Precision::Fp32),
        Some("float16" | "half") => Some(Precision::Fp16),
        Some("bfloat16") => Some(Precision::Bf16),
        Some("float8_e4m3fn") => Some(Precision::Fp8),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
