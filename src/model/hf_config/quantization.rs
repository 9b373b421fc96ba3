//! The quantisation of a checkpoint: `quantization_config` in all its dialects, and ModelOpt's `hf_quant_config.json`.

use super::builder::Builder;
use super::mixed::{Mixed, Packing, Rule};
use crate::model::hf_config::config::fields::{FACTOR, Fields, WIDTH};
use crate::model::{Confidence, ParseError, Quantization, QuantizationGroup};
use crate::precision::{CachePrecision, Precision};
use crate::units::shorten;

/// The longest list of modules left alone that is kept; real ones have some thousands of entries.
const LONGEST_IGNORED: usize = 20_000;

/// Reads the quantisation into the shape.
pub(super) fn read(
    root: &Fields<'_>,
    hf_quant: Option<&Fields<'_>>,
    b: &mut Builder,
) -> Result<(), ParseError> {
    let beside = hf_quant.map(|file| file.object("quantization")).transpose()?.flatten();
    let own = own_config(root)?;
    let Some(config) = own.as_ref().or(beside.as_ref()) else { return Ok(()) };
    let Some(mut quantization) = method(root, config, b)? else {
        return Ok(());
    };
    for source in [Some(config), beside.as_ref()].into_iter().flatten() {
        if quantization.cache_precision.is_none() {
            quantization.cache_precision = cache_precision(source)?;
        }
        if quantization.ignored.is_empty() {
            quantization.ignored = ignored(source)?;
        }
    }
    b.shape.quantization = Some(quantization);
    Ok(())
}

/// Where the config keeps it.
fn own_config<'a>(root: &Fields<'a>) -> Result<Option<Fields<'a>>, ParseError> {
    for holder in [Some(root.clone()), root.object("text_config").unwrap_or_default()].into_iter().flatten() {
        for key in ["quantization_config", "compression_config"] {
            if let Some(config) = holder.object(key)? {
                return Ok(Some(config));
            }
        }
    }
    Ok(None)
}

/// A quantisation with nothing but its format.
fn of(precision: Precision) -> Quantization {
    Quantization {
        precision,
        group_size: None,
        zero_points: false,
        activation_order: false,
        double_quantized: false,
        ignored: Vec::new(),
        cache_precision: None,
        groups: Vec::new(),
    }
}

/// Reads the format; `None` where it is not known, with a note.
fn method(root: &Fields<'_>, f: &Fields<'_>, b: &mut Builder) -> Result<Option<Quantization>, ParseError> {
    let algorithm = f.text("quant_algo")?;
    let method = f.text("quant_method")?.unwrap_or(if algorithm.is_some() { "modelopt" } else { "" });
    if f.has("quantized_layers") || f.has("moe_quant_algo") {
        return mixed(f, b).map(Some);
    }
    let found = match method {
        "gptq" | "auto-round" | "autoround" | "intel/auto-round" => Some(gptq(f, b)?),
        "awq" => Some(Quantization {
            zero_points: f.flag_or("zero_point", true)?,
            group_size: Some(group_size(f)?.unwrap_or(128)),
            ..of(bits(f, b, Precision::AwqInt4, Precision::GptqInt8)?)
        }),
        "hqq" => Some(hqq(f, b)?),
        "eetq" | "experts_int8" => Some(Quantization { group_size: Some(0), ..of(Precision::Int8) }),
        "quanto" => quanto(f, b)?,
        "torchao" => torchao(f, b)?,
        "aqlm" => Some(aqlm(f, b)?),
        "bitnet" => Some(ternary(b)),
        "exl2" | "exl3" => Some(exllama(f, b)?),
        "fp_quant" => match f.text("forward_dtype")?.unwrap_or("nvfp4") {
            "mxfp4" => Some(Quantization { group_size: Some(32), ..of(Precision::Mxfp4) }),
            "nvfp4" => Some(Quantization { group_size: Some(16), ..of(Precision::Nvfp4) }),
            _ => None,
        },
        "higgs" => {
            let packing = Packing {
                bits: f.positive_or("bits", FACTOR, 4)?.min(16),
                weights: 1,
                group: f.positive_or("group_size", WIDTH, 256)?,
                group_bits: 16,
                matrix_bytes: 0,
            };
            Some(packed(b, packing, "HIGGS"))
        }
        "spqr" => {
            let packing = Packing {
                bits: f.positive_or("bits", FACTOR, 3)?.min(16),
                weights: 1,
                group: f.positive_or("beta1", WIDTH, 16)?,
                group_bits: 6,
                matrix_bytes: 0,
            };
            Some(packed(b, packing, "SpQR without its outliers"))
        }
        "mxfp8" => Some(Quantization { group_size: Some(32), ..of(Precision::Mxfp8) }),
        "bitsandbytes" => Some(bitsandbytes(f)?),
        "fp8" if root.text("expert_dtype")? == Some("fp4") => Some(four_bit_experts(b)),
        "fp8" => Some(if f.has("weight_block_size") {
            Quantization { group_size: block(f)?, ..of(Precision::Fp8Block) }
        } else {
            of(Precision::Fp8)
        }),
        "fbgemm_fp8" | "ptpc_fp8" => Some(of(Precision::Fp8)),
        "mxfp4" => Some(Quantization { group_size: Some(32), ..of(Precision::Mxfp4) }),
        "compressed-tensors" => compressed_tensors(f, b)?,
        _ => match algorithm {
            Some(name) => modelopt(name, f)?,
            None if f.has("config_groups") => compressed_tensors(f, b)?,
            None => None,
        },
    };
    if found.is_none() {
        let name = algorithm.unwrap_or(method);
        b.shape.weights_confidence = Confidence::Assumed;
        b.note(format!(
            "The checkpoint is quantised with \"{}\", which is not known to Loadline: its weights are counted at 16 bits, more than they take.",
            shorten(name)
        ));
    }
    Ok(found)
}

/// The group size; -1, for one group per row, is 0.
fn group_size(f: &Fields<'_>) -> Result<Option<u64>, ParseError> {
    let keys = ["group_size", "q_group_size"];
    let Some(key) = keys.into_iter().find(|key| f.has(key)) else { return Ok(None) };
    if f.get(key).and_then(serde_json::Value::as_i64) == Some(-1) {
        return Ok(Some(0));
    }
    f.number(key, WIDTH)
}

/// The first side of a block of scales.
fn block(f: &Fields<'_>) -> Result<Option<u64>, ParseError> {
    Ok(f.numbers("weight_block_size", WIDTH)?.and_then(|sides| sides.first().copied()))
}

/// Picks the format by `bits`: one with a name for 4 and 8, else as many as are written, packed.
fn bits(f: &Fields<'_>, b: &mut Builder, four: Precision, eight: Precision) -> Result<Precision, ParseError> {
    let key = if f.has("w_bit") { "w_bit" } else { "bits" };
    match f.or(key, FACTOR, 4)? {
        4 => Ok(four),
        8 => Ok(eight),
        bits @ (2 | 3 | 5 | 6 | 7) => {
            let group = group_size(f)?.unwrap_or(128);
            Packing { bits, weights: 1, group, group_bits: 16 + bits, matrix_bytes: 0 }.apply(b);
            b.note(format!(
                "Linear layers are counted at {bits} bits, with a scale and a zero point per group."
            ));
            Ok(four)
        }
        other => Err(f.error(key, format!("is {other}; write the bits of a weight, from 2 to 8"))),
    }
}

fn gptq(f: &Fields<'_>, b: &mut Builder) -> Result<Quantization, ParseError> {
    Ok(Quantization {
        group_size: Some(group_size(f)?.unwrap_or(128)),
        zero_points: true,
        activation_order: f.flag_or("desc_act", false)?,
        ..of(bits(f, b, Precision::GptqInt4, Precision::GptqInt8)?)
    })
}

/// A format that has no name here, counted by how it packs its weights.
fn packed(b: &mut Builder, packing: Packing, name: &str) -> Quantization {
    packing.apply(b);
    b.shape.weights_confidence = b.shape.weights_confidence.max(Confidence::Derived);
    b.note(format!(
        "Linear layers are counted as {name} packs them; the format shown is the nearest with a name."
    ));
    Quantization { group_size: Some(packing.group), ..of(Precision::AwqInt4) }
}

/// HQQ: a scale and a zero point of 16 bits per group.
fn hqq(f: &Fields<'_>, b: &mut Builder) -> Result<Quantization, ParseError> {
    let nested = f.object("quant_config")?;
    let weights = nested.as_ref().map(|config| config.object("weight_quant_params")).transpose()?.flatten();
    let params = weights.as_ref().or(nested.as_ref()).unwrap_or(f);
    let bits = params.any(&["nbits", "bits"], FACTOR)?.unwrap_or(4);
    if !(1..=8).contains(&bits) {
        return Err(params.error("nbits", format!("is {bits}; write the bits of a weight, from 1 to 8")));
    }
    let group = group_size(params)?.unwrap_or(64);
    Ok(packed(b, Packing { bits, weights: 1, group, group_bits: 32, matrix_bytes: 0 }, "HQQ"))
}

/// Quanto: by the name of the weights' type.
fn quanto(f: &Fields<'_>, b: &mut Builder) -> Result<Option<Quantization>, ParseError> {
    Ok(match f.text("weights")?.unwrap_or("int8") {
        "int8" | "qint8" => Some(Quantization { group_size: Some(0), ..of(Precision::Int8) }),
        "float8" | "qfloat8" => Some(of(Precision::Fp8)),
        name @ ("int4" | "qint4" | "int2" | "qint2") => {
            let bits = if name.ends_with('4') { 4 } else { 2 };
            let packing = Packing { bits, weights: 1, group: 128, group_bits: 32, matrix_bytes: 0 };
            Some(packed(b, packing, "Quanto"))
        }
        _ => None,
    })
}

/// TorchAO: the name of its configuration, as a string or as an object with the name inside.
fn torchao(f: &Fields<'_>, b: &mut Builder) -> Result<Option<Quantization>, ParseError> {
    let written = f.get("quant_type").map(ToString::to_string).unwrap_or_default().to_ascii_lowercase();
    let has = |name: &str| written.contains(name);
    // "int8_dynamic_activation_int4_weight": what stands before "weight" counts.
    Ok(if has("int4weight") || has("int4_weight") || has("uint4") {
        let group = f.positive_or("group_size", WIDTH, 128)?;
        let packing = Packing { bits: 4, weights: 1, group, group_bits: 32, matrix_bytes: 0 };
        Some(packed(b, packing, "TorchAO"))
    } else if has("float8") {
        Some(of(Precision::Fp8))
    } else if has("int8") {
        Some(Quantization { group_size: Some(0), ..of(Precision::Int8) })
    } else {
        None
    })
}

/// AQLM: codes into codebooks of 16-bit vectors, and a scale per row.
fn aqlm(f: &Fields<'_>, b: &mut Builder) -> Result<Quantization, ParseError> {
    let books = f.positive_or("num_codebooks", FACTOR, 1)?.min(64);
    let code = f.positive_or("nbits_per_codebook", FACTOR, 16)?.min(32);
    let vector = f.positive_or("in_group_size", FACTOR, 8)? * f.positive_or("out_group_size", FACTOR, 1)?;
    let packing = Packing {
        bits: books * code,
        weights: vector,
        group: 0,
        group_bits: 16,
        matrix_bytes: books.saturating_mul(vector).saturating_mul(2 << code),
    };
    Ok(packed(b, packing, "AQLM"))
}

/// `BitNet`: four weights of three values in a byte.
fn ternary(b: &mut Builder) -> Quantization {
    let packing = Packing { bits: 2, weights: 1, group: 0, group_bits: 0, matrix_bytes: 2 };
    packed(b, packing, "BitNet")
}

/// ExLlama: an average of bits per weight, which may be a fraction.
fn exllama(f: &Fields<'_>, b: &mut Builder) -> Result<Quantization, ParseError> {
    let thousandths = f.times("bits", 1000)?.unwrap_or(4000);
    if !(1000..=16_000).contains(&thousandths) {
        return Err(f.error("bits", "is outside 1 to 16; write the bits of a weight"));
    }
    let packing = Packing { bits: thousandths, weights: 1000, group: 0, group_bits: 0, matrix_bytes: 0 };
    Ok(packed(b, packing, "ExLlama"))
}

fn bitsandbytes(f: &Fields<'_>) -> Result<Quantization, ParseError> {
    let eight = f.flag_or("load_in_8bit", false)? || f.flag_or("_load_in_8bit", false)?;
    Ok(if eight {
        of(Precision::BnbInt8)
    } else {
        Quantization {
            group_size: Some(64),
            double_quantized: f.flag_or("bnb_4bit_use_double_quant", false)?,
            ..of(Precision::Nf4)
        }
    })
}

/// DeepSeek-V4: experts in four bits, the rest in eight.
fn four_bit_experts(b: &mut Builder) -> Quantization {
    let rules = Mixed {
        experts: Some(Rule { precision: Precision::Mxfp4, group: 32 }),
        others: Some(Rule { precision: Precision::Fp8Block, group: 128 }),
        ..Mixed::default()
    };
    let precision = rules.apply(b);
    Quantization { group_size: Some(32), ..of(precision) }
}

/// The algorithms of ModelOpt.
fn algorithm(name: &str) -> Option<Rule> {
    let (precision, group) = match name {
        "FP8" | "FP8_PER_CHANNEL_PER_TOKEN" => (Precision::Fp8, 0),
        "FP8_PB_WO" | "FP8_PB_REAL" => (Precision::Fp8Block, 128),
        "NVFP4" | "W4A16_NVFP4" | "NVFP4_AWQ" | "W4A8_NVFP4_FP8" => (Precision::Nvfp4, 16),
        "MXFP8" => (Precision::Mxfp8, 32),
        "MXFP4" | "W4A8_MXFP4_FP8" => (Precision::Mxfp4, 32),
        "W4A16_AWQ" | "W4A8_AWQ" | "INT4_AWQ" => (Precision::AwqInt4, 128),
        "W8A8_SQ_PER_CHANNEL" | "INT8_SQ" | "W8A16" => (Precision::Int8, 0),
        _ => return None,
    };
    Some(Rule { precision, group })
}

fn modelopt(name: &str, f: &Fields<'_>) -> Result<Option<Quantization>, ParseError> {
    let Some(rule) = algorithm(name) else { return Ok(None) };
    let group = group_size(f)?.unwrap_or(rule.group);
    Ok(Some(Quantization { group_size: Some(group), ..of(rule.precision) }))
}

/// A checkpoint of several formats: a list of modules says which has which.
fn mixed(f: &Fields<'_>, b: &mut Builder) -> Result<Quantization, ParseError> {
    let mut rules = Mixed::default();
    if f.text("quant_method")? == Some("fp8") {
        rules.others = Some(Rule {
            precision: if f.has("weight_block_size") { Precision::Fp8Block } else { Precision::Fp8 },
            group: 128,
        });
    }
    if let Some(rule) = f.text("moe_quant_algo")?.and_then(algorithm) {
        rules.experts = Some(rule);
    }
    if let Some(layers) = f.object("quantized_layers")? {
        for name in layers.keys() {
            let Some(layer) = layers.object(name)? else { continue };
            let Some(rule) = layer.text("quant_algo")?.and_then(algorithm) else {
                let problem = "is not one of FP8, NVFP4, W4A16_NVFP4, MXFP4, MXFP8, W4A16_AWQ or INT8_SQ";
                return Err(layer.error("quant_algo", problem));
            };
            rules.add(name, rule);
        }
    }
    let precision = rules.apply(b);
    let group = rules.group_of(precision);
    Ok(Quantization { group_size: Some(group), ..of(precision) })
}

/// Compressed-tensors: one format per group of modules.
fn compressed_tensors(f: &Fields<'_>, b: &mut Builder) -> Result<Option<Quantization>, ParseError> {
    let Some(groups) = f.object("config_groups")? else { return Ok(None) };
    let mut found: Vec<QuantizationGroup> = Vec::new();
    for name in groups.keys() {
        let Some(group) = groups.object(name)? else { continue };
        let Some(weights) = group.object("weights")? else { continue };
        let Some(format) = compressed_weights(f, &weights)? else { return Ok(None) };
        let targets = group.texts("targets")?.unwrap_or_default();
        let targets = targets.into_iter().take(LONGEST_IGNORED).map(ToOwned::to_owned).collect();
        found.push(QuantizationGroup { targets, format });
    }
    let Some(first) = found.first().map(|group| group.format.clone()) else { return Ok(None) };
    if found.iter().all(|group| group.format == first) {
        return Ok(Some(first));
    }
    // Each module has the format of the first group that names it; the one that is shown is the widest.
    let width = |group: &QuantizationGroup| {
        matches!(
            group.format.precision,
            Precision::Fp8 | Precision::Fp8Block | Precision::Int8 | Precision::GptqInt8 | Precision::Mxfp8
        )
    };
    let widest = found.iter().find(|group| width(group)).map_or(first, |group| group.format.clone());
    b.note("The checkpoint has modules of several formats: each is counted in its own.");
    Ok(Some(Quantization { groups: found, ..widest }))
}

fn compressed_weights(f: &Fields<'_>, weights: &Fields<'_>) -> Result<Option<Quantization>, ParseError> {
    let strategy = weights.text("strategy")?.unwrap_or_default();
    let float = weights.text("type")? == Some("float");
    let symmetric = weights.flag_or("symmetric", true)?;
    let format = f.text("format")?.unwrap_or_default();
    let group = group_size(weights)?.unwrap_or(0);
    let width = weights.number("num_bits", FACTOR)?;
    let activation_order = weights.text("actorder").unwrap_or_default() == Some("group");
    Ok(match (width, float) {
        (Some(8), true) if strategy == "block" => {
            Some(Quantization { group_size: Some(128), ..of(Precision::Fp8Block) })
        }
        (Some(8), true) if group == 32 => Some(Quantization { group_size: Some(32), ..of(Precision::Mxfp8) }),
        (Some(8), true) => Some(of(Precision::Fp8)),
        (Some(4), true) if group == 16 || format.contains("nvfp4") => {
            Some(Quantization { group_size: Some(16), ..of(Precision::Nvfp4) })
        }
        (Some(4), true) => Some(Quantization { group_size: Some(32), ..of(Precision::Mxfp4) }),
        (Some(8), false) if group == 0 => Some(Quantization { group_size: Some(0), ..of(Precision::Int8) }),
        (Some(bits @ (4 | 8)), false) => Some(Quantization {
            group_size: Some(group),
            zero_points: !symmetric,
            activation_order,
            // Packed like AWQ: scales, and zero points only where they are not all the same.
            ..of(if bits == 4 { Precision::AwqInt4 } else { Precision::GptqInt8 })
        }),
        _ => None,
    })
}

/// The cache type that the checkpoint asks for.
fn cache_precision(f: &Fields<'_>) -> Result<Option<CachePrecision>, ParseError> {
    let by_name = |name: &str| match name {
        "FP8" | "fp8" => Some(CachePrecision::Fp8),
        "INT8" | "int8" => Some(CachePrecision::Int8),
        _ => None,
    };
    if let Some(name) = f.text("kv_cache_quant_algo")? {
        return Ok(by_name(name));
    }
    match f.get("kv_cache_scheme") {
        Some(serde_json::Value::String(name)) => Ok(by_name(name)),
        Some(serde_json::Value::Object(_)) => {
            let scheme = f.need_object("kv_cache_scheme")?;
            let float = scheme.text("type")? == Some("float");
            Ok(match scheme.number("num_bits", FACTOR)? {
                Some(8) if float => Some(CachePrecision::Fp8),
                Some(8) => Some(CachePrecision::Int8),
                _ => None,
            })
        }
        _ => Ok(None),
    }
}

/// The modules left as they were.
fn ignored(f: &Fields<'_>) -> Result<Vec<String>, ParseError> {
    for key in
        ["ignore", "modules_to_not_convert", "ignored_layers", "exclude_modules", "llm_int8_skip_modules"]
    {
        if f.list(key)?.is_some() {
            let names = f.texts(key)?.unwrap_or_default();
            return Ok(names.into_iter().take(LONGEST_IGNORED).map(ToOwned::to_owned).collect());
        }
    }
    Ok(Vec::new())
}
