//! A Hugging Face `config.json` becomes a [`ModelShape`].
//!
//! `model_type` decides the family, and every family has its tensors written down here; a type that is not known is
//! refused by name. Names, defaults and shapes follow the public modelling code of Hugging Face transformers, and of
//! the model repositories where transformers has none.
//!
//! Tensors are called as in the checkpoint, so that lists of modules left unquantised match them; the routed experts of a
//! layer are one tensor with a count, in whose name a star stands for the expert: `model.layers.3.mlp.experts.*.up_proj.weight`.

mod block;
mod builder;
mod config;
mod decoder;
mod encoder;
mod families;
mod frame;
mod irregular;
mod measures;
mod mixed;
mod parts;
mod plan;
mod quantization;
mod rotary;
mod tower;

use serde_json::{Map, Value};

use self::builder::Builder;
use self::config::fields::{Fields, QUANT, WHAT};
use self::config::{classes, defaults, json};
use self::tower::vision;
use super::error::ParseError;
use super::pattern::Every;
use super::{Confidence, ModelShape};
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
    let map = json::object(config, WHAT)?;
    let quant = hf_quant.map(|bytes| json::object(bytes, QUANT)).transpose()?;
    build(&map, quant.as_ref(), name)
}

/// The period by which the layers of a `model_type` take turns, where its config need not say.
pub(crate) fn period(model_type: &str) -> Option<Every> {
    families::period(model_type)
}

/// Reads a config that is in the field `config` of another object, as in an entry of the catalog.
///
/// # Errors
/// See [`ParseError`].
pub(crate) fn parse_nested(json: &[u8], name: &str) -> Result<ModelShape, ParseError> {
    let outer = json::object(json, WHAT)?;
    let outer = Fields::root(&outer, WHAT);
    let map = outer.map("config")?.ok_or_else(|| outer.error("config", "is missing; write an object"))?;
    build(map, None, name)
}

fn build(
    map: &Map<String, Value>,
    quant: Option<&Map<String, Value>>,
    name: &str,
) -> Result<ModelShape, ParseError> {
    let root = Fields::root(map, WHAT);
    let (model_type, class) = model_type(&root)?;
    let mut b = Builder::new(name, &shorten(model_type));
    if let Some(class) = class {
        b.shape.weights_confidence = Confidence::Derived;
        b.note(format!("Read as \"{model_type}\", which its class {} says.", shorten(class)));
    }
    if vision::knows(model_type, &root) {
        vision::build(model_type, &root, &mut b)?;
    } else {
        let mut owned = root.owned();
        if let Some(kv_heads) = defaults::complete_secondary(&mut owned, model_type) {
            b.shape.cache_confidence = b.shape.cache_confidence.max(Confidence::Derived);
            b.shape.weights_confidence = b.shape.weights_confidence.max(Confidence::Derived);
            b.note(format!(
                "num_key_value_heads is not written: {kv_heads} is taken, the default of its class in transformers."
            ));
        }
        text(model_type, &owned.fields(), &mut b)?;
    }
    b.shape.stored_precision = stored_precision(&root)?;
    let quant = quant.map(|map| Fields::root(map, QUANT));
    quantization::read(&root, quant.as_ref(), &mut b)?;
    let mut shape = b.finish()?;
    shape.rotary_elements = rotary::elements(&root, &shape);
    Ok(shape)
}

/// The model's type: as it is written, else as its class says.
fn model_type<'a>(f: &Fields<'a>) -> Result<(&'a str, Option<&'a str>), ParseError> {
    let written = f.text("model_type")?;
    let architectures = f.texts("architectures")?.unwrap_or_default();
    // Grok's writes another model's.
    let by_class = architectures.iter().find_map(|class| Some((classes::model_type(class)?, *class)));
    match (written, by_class) {
        (Some(written), Some((own, _))) if own == "grok-1" && written == "git" => Ok((own, None)),
        (Some(written), Some((own, class))) if !known(written, f) => Ok((own, Some(class))),
        (Some(written), _) => Ok((written, None)),
        (None, Some((own, class))) => Ok((own, Some(class))),
        (None, None) => Err(f.error("model_type", "is missing; write the model's type, such as \"llama\"")),
    }
}

/// Whether there is a reader for a type.
fn known(model_type: &str, f: &Fields<'_>) -> bool {
    let own = without_suffix(model_type);
    vision::knows(model_type, f) || families::find(own).is_some() || reader(own).is_some()
}

/// The type that a text model has by itself, for that which it has inside a larger model.
fn without_suffix(model_type: &str) -> &str {
    match model_type {
        "qwen2_vl_text" | "qwen2_5_vl_text" | "qwen2_5_omni_text" => "qwen2",
        "qwen3_vl_text" | "qwen3_asr_text" | "molmo2_text" => "qwen3",
        "qwen3_vl_moe_text" | "qwen3_omni_moe_text" => "qwen3_moe",
        "llama4_text" => "llama4",
        "glm4v_text" | "glm46v_text" | "glm_ocr_text" => "glm4",
        "glm4v_moe_text" => "glm4_moe",
        "florence2_language" => "bart",
        "paddleocr_vl_text" => "ernie4_5",
        "gemma3n" => "gemma3n_text",
        "exaone4_5_text" => "exaone4",
        other => other,
    }
}

/// What reads the configs of some types.
type Reader = fn(&str, &Fields<'_>, &mut Builder) -> Result<(), ParseError>;

/// Those that are no family of a table.
const READERS: &[(&[&str], Reader)] = &[
    (encoder::dual::TYPES, encoder::dual::build),
    (encoder::TYPES, encoder::build),
    (irregular::seq2seq::TYPES, irregular::seq2seq::build),
    (irregular::t5::TYPES, irregular::t5::build),
    (irregular::mllama::TYPES, |_, f, b| irregular::mllama::text(f, b)),
    (irregular::deepseek_v4::TYPES, |_, f, b| irregular::deepseek_v4::build(f, b)),
    (irregular::gemma::TYPES, irregular::gemma::build),
    (irregular::jetmoe::TYPES, |_, f, b| irregular::jetmoe::build(f, b)),
    (irregular::longcat::TYPES, |_, f, b| irregular::longcat::build(f, b)),
    (irregular::nemotron_nas::TYPES, |_, f, b| irregular::nemotron_nas::build(f, b)),
    (irregular::rwkv::TYPES, irregular::rwkv::build),
    (irregular::zamba::TYPES, irregular::zamba::build),
];

/// The reader of a type that no table has.
fn reader(model_type: &str) -> Option<Reader> {
    READERS.iter().find(|(types, _)| types.contains(&model_type)).map(|(_, read)| *read)
}

/// Reads a text model.
fn text(model_type: &str, f: &Fields<'_>, b: &mut Builder) -> Result<(), ParseError> {
    let own = without_suffix(model_type);
    // DeepSeek-VL2's smallest has ordinary attention under the name of latent attention.
    let heads = own == "deepseek_v2" && f.flag("use_mla").unwrap_or_default() == Some(false);
    let own = if heads { "deepseek" } else { own };
    match (families::find(own), reader(own)) {
        (Some(family), _) => decoder::build(family, f, b),
        (None, Some(read)) => read(own, f, b),
        (None, None) => Err(unknown(own)),
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
    let nested = ["text_config", "llm_config", "language_config"];
    let nested = nested.iter().filter_map(|key| f.object(key).unwrap_or_default());
    let mut text = None;
    for holder in std::iter::once(f.clone()).chain(nested) {
        for key in ["dtype", "torch_dtype"] {
            text = text.or(holder.text(key)?);
        }
    }
    // Qwen 1 has a flag for each instead.
    for (flag, name) in [("bf16", "bfloat16"), ("fp16", "float16"), ("fp32", "float32")] {
        text = text.or((f.get(flag) == Some(&Value::Bool(true))).then_some(name));
    }
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
