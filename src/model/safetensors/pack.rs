//! From the tensors of a checkpoint to its weights: a packed matrix, its scales and its zero points are one weight.
//!
//! The layouts are those of AutoGPTQ, AutoAWQ, compressed-tensors, ModelOpt, bitsandbytes, MLX, and the MXFP4
//! checkpoints of gpt-oss and DeepSeek-V4, as vLLM's loaders read them.

use std::collections::BTreeMap;

use super::dtype::Dtype;
use super::entry::Entry;
use crate::precision::Precision;

/// One weight, as the model sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Weight {
    /// The checkpoint's name for it, with `.weight` where the packed form had its own suffix.
    pub(super) name: String,
    /// How many matrices are in it (fused experts).
    pub(super) count: u64,
    /// Output features; 1 for a vector.
    pub(super) rows: u64,
    /// Input features.
    pub(super) columns: u64,
    /// Bytes in the file, with scales and zero points.
    pub(super) bytes: u64,
    /// How it is stored; `None` where it is packed.
    pub(super) dtype: Option<Dtype>,
    /// Whether it has one dimension or none.
    pub(super) vector: bool,
}

/// The quantisation that the tensors themselves show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
// Each is a fact of its own.
#[allow(clippy::struct_excessive_bools)]
pub(super) struct Seen {
    /// The format of the packed tensors.
    pub(super) precision: Option<Precision>,
    /// Weights per scale, where it can be told.
    pub(super) group_size: Option<u64>,
    /// Whether there are zero points.
    pub(super) zero_points: bool,
    /// Whether there is an index of channels.
    pub(super) activation_order: bool,
    /// Whether scales are quantised again.
    pub(super) double_quantized: bool,
    /// Packed tensors whose layout is not known: counted by their bytes.
    pub(super) unknown_packing: bool,
}

/// Suffixes of what accompanies a weight. The longer come first where one ends in another.
const COMPANIONS: &[&str] = &[
    ".qzeros",
    ".scales",
    ".biases",
    ".g_idx",
    ".weight_scale_inv",
    ".weight_scale_2",
    ".weight_scale",
    ".weight_global_scale",
    ".weight_zero_point",
    ".weight_shape",
    ".weight_g_idx",
    ".input_global_scale",
    ".input_scale",
    ".output_scale",
    ".k_scale",
    ".v_scale",
    ".q_scale",
    ".scale",
    ".SCB",
    ".weight_format",
    ".weight.absmax",
    ".weight.quant_map",
    ".weight.nested_absmax",
    ".weight.nested_quant_map",
    ".weight.quant_state.bitsandbytes__nf4",
    ".weight.quant_state.bitsandbytes__fp4",
    "_weight_scale_2",
    "_weight_scale",
    "_input_scale",
    "_scale_inv",
    "_scales",
    "_scale",
];

/// Suffixes of a weight itself.
const MAINS: &[&str] = &[".weight", ".qweight", ".weight_packed", "_blocks"];

/// The companions of one weight, by suffix.
type Companions<'a> = BTreeMap<&'static str, &'a Entry>;

/// Puts weights and their companions together. `bits` is what the config says of packed integers, where it does.
pub(super) fn weights(entries: &BTreeMap<&str, &Entry>, bits: Option<u64>) -> (Vec<Weight>, Seen) {
    let mut mains: BTreeMap<&str, (&Entry, Companions<'_>)> = BTreeMap::new();
    let mut companions = Vec::new();
    let mut alone: Vec<&Entry> = Vec::new();
    for (&name, &entry) in entries {
        if let Some((stem, suffix)) = split_suffix(name, COMPANIONS) {
            companions.push((stem, suffix, entry));
            continue;
        }
        let stem = split_suffix(name, MAINS).map_or(name, |(stem, _)| stem);
        // Two forms of one weight, as `x.weight` and `x.qweight`: both are kept, the second by itself.
        if mains.contains_key(stem) {
            alone.push(entry);
        } else {
            mains.insert(stem, (entry, Companions::new()));
        }
    }
    for (stem, suffix, entry) in companions {
        // A `logit_scale` accompanies nothing: it is a weight.
        match mains.get_mut(stem) {
            Some((_, found)) if !found.contains_key(suffix) => {
                found.insert(suffix, entry);
            }
            _ => alone.push(entry),
        }
    }
    let mut seen = Seen::default();
    let alone = alone.into_iter().map(|entry| (entry, Companions::new()));
    let weights = mains
        .into_values()
        .chain(alone)
        .map(|(entry, companions)| weight(entry, &companions, bits, &mut seen))
        .collect();
    (weights, seen)
}

fn split_suffix<'a>(name: &'a str, suffixes: &[&'static str]) -> Option<(&'a str, &'static str)> {
    suffixes.iter().find_map(|&suffix| {
        name.strip_suffix(suffix).filter(|stem| !stem.is_empty()).map(|stem| (stem, suffix))
    })
}

fn weight(entry: &Entry, companions: &Companions<'_>, bits: Option<u64>, seen: &mut Seen) -> Weight {
    let bytes = companions.values().fold(entry.bytes, |sum, companion| sum.saturating_add(companion.bytes));
    let packing = packing(entry, companions, bits, seen);
    let experts = entry.name.contains("experts");
    let (count, rows, columns) = match *entry.shape.as_slice() {
        [] => (1, 1, 1),
        [length] => (1, 1, length),
        [rows, columns] => (1, rows, columns),
        [count, rows, ref rest @ ..] if experts => (count, rows, rest.iter().product()),
        [rows, ref rest @ ..] => (1, rows, rest.iter().product()),
    };
    let (rows, columns) = match packing {
        Packing::None => (rows, columns),
        Packing::Columns { numerator, denominator } => {
            (rows, columns.saturating_mul(numerator) / denominator.max(1))
        }
        Packing::Rows { numerator, denominator } => {
            // The input features are packed along the first dimension: turn it to output x input.
            (columns, rows.saturating_mul(numerator) / denominator.max(1))
        }
        Packing::Transposed { numerator, denominator } => {
            (columns.saturating_mul(numerator) / denominator.max(1), rows)
        }
        Packing::Flat => (1, rows.saturating_mul(columns).saturating_mul(2)),
    };
    let name = match split_suffix(&entry.name, MAINS) {
        Some((stem, "_blocks")) => stem.to_owned(),
        Some((stem, _)) => format!("{stem}.weight"),
        None => entry.name.clone(),
    };
    Weight {
        name,
        count,
        rows,
        columns,
        bytes,
        dtype: matches!(packing, Packing::None).then_some(entry.dtype),
        vector: entry.shape.len() < 2,
    }
}

/// How the values of a matrix are packed into the elements that are stored.
enum Packing {
    /// One value in each.
    None,
    /// Several values along the last dimension: its length times the fraction.
    Columns { numerator: u64, denominator: u64 },
    /// Stored as input x output, several values along the input.
    Rows { numerator: u64, denominator: u64 },
    /// Stored as input x output, several values along the output.
    Transposed { numerator: u64, denominator: u64 },
    /// Two values in each byte of a vector.
    Flat,
}

fn packing(entry: &Entry, companions: &Companions<'_>, bits: Option<u64>, seen: &mut Seen) -> Packing {
    let last = |entry: &Entry| entry.shape.last().copied().unwrap_or(0);
    let get = |suffix: &str| companions.get(suffix).copied();
    if entry.name.ends_with(".qweight") && matches!(entry.dtype, Dtype::I32 | Dtype::U32) {
        return auto_gptq_or_awq(entry, companions, bits, seen);
    }
    if entry.name.ends_with(".weight_packed") {
        if entry.dtype == Dtype::U8 {
            let group = get(".weight_scale")
                .map_or(0, |scale| last(entry).saturating_mul(2).checked_div(last(scale)).unwrap_or(0));
            let precision = if group == 32 { Precision::Mxfp4 } else { Precision::Nvfp4 };
            *seen = Seen {
                precision: Some(precision),
                group_size: Some(group).filter(|&group| group > 0),
                ..*seen
            };
            return Packing::Columns { numerator: 2, denominator: 1 };
        }
        let bits = bits.filter(|bits| (1..=8).contains(bits)).unwrap_or(4);
        seen.precision = Some(if bits > 4 { Precision::GptqInt8 } else { Precision::GptqInt4 });
        seen.zero_points |= get(".weight_zero_point").is_some();
        return Packing::Columns { numerator: 32, denominator: bits };
    }
    if entry.name.ends_with("_blocks") && entry.dtype == Dtype::U8 {
        *seen = Seen { precision: Some(Precision::Mxfp4), group_size: Some(32), ..*seen };
        return Packing::Columns { numerator: 2, denominator: 1 };
    }
    if companions.keys().any(|suffix| suffix.starts_with(".weight.quant_state")) {
        seen.precision = Some(Precision::Nf4);
        seen.double_quantized |= get(".weight.nested_absmax").is_some();
        return Packing::Flat;
    }
    if let (Dtype::U32, Some(scales)) = (entry.dtype, get(".scales")) {
        // MLX does not store its group; 64 is its default, and a multiple of it that gives a whole number of bits is one.
        let columns = last(scales).saturating_mul(64);
        let bits = last(entry).saturating_mul(32).checked_div(columns).unwrap_or(0);
        let bits = if (2..=8).contains(&bits) { bits } else { 4 };
        seen.precision = Some(if bits > 4 { Precision::Int8 } else { Precision::Int4 });
        return Packing::Columns { numerator: 32, denominator: bits };
    }
    one_byte(entry, companions, seen)
}

/// Matrices of one-byte elements: FP8, INT8, or two FP4 values in each byte, which the type of the scale tells.
fn one_byte(entry: &Entry, companions: &Companions<'_>, seen: &mut Seen) -> Packing {
    let scale =
        [".weight_scale", ".scale", ".weight_scale_inv", "_weight_scale", "_scale_inv", "_scale", "_scales"]
            .iter()
            .find_map(|suffix| companions.get(suffix).copied());
    if entry.dtype.is_fp8() {
        let blocks =
            scale.is_some_and(|scale| scale.shape.len() >= 2 && scale.shape.iter().all(|&side| side > 1));
        seen.precision.get_or_insert(if blocks { Precision::Fp8Block } else { Precision::Fp8 });
        return Packing::None;
    }
    if companions.contains_key(".SCB") {
        seen.precision = Some(Precision::BnbInt8);
        return Packing::None;
    }
    if !matches!(entry.dtype, Dtype::U8 | Dtype::I8) {
        if matches!(entry.dtype, Dtype::I32 | Dtype::U32 | Dtype::I16 | Dtype::I64) && entry.shape.len() >= 2
        {
            seen.unknown_packing = true;
        }
        return Packing::None;
    }
    match scale.map(|scale| scale.dtype) {
        Some(Dtype::F8E4m3) => {
            *seen = Seen { precision: Some(Precision::Nvfp4), group_size: Some(16), ..*seen };
            Packing::Columns { numerator: 2, denominator: 1 }
        }
        Some(Dtype::F8E8m0 | Dtype::U8) => {
            *seen = Seen { precision: Some(Precision::Mxfp4), group_size: Some(32), ..*seen };
            Packing::Columns { numerator: 2, denominator: 1 }
        }
        Some(_) => {
            seen.precision.get_or_insert(Precision::Int8);
            Packing::None
        }
        None => {
            seen.unknown_packing |= entry.shape.len() >= 2;
            Packing::None
        }
    }
}

/// GPTQ packs along the input features and AWQ along the output features: the width of the scales tells which.
fn auto_gptq_or_awq(
    entry: &Entry,
    companions: &Companions<'_>,
    bits: Option<u64>,
    seen: &mut Seen,
) -> Packing {
    let width = |suffix: &str| companions.get(suffix).and_then(|entry| entry.shape.last().copied());
    let [rows, columns] = *entry.shape.as_slice() else {
        seen.unknown_packing = true;
        return Packing::None;
    };
    seen.zero_points |= companions.contains_key(".qzeros");
    let outputs = width(".scales").filter(|&outputs| outputs > 0).unwrap_or(columns);
    if outputs == 0 {
        return Packing::None;
    }
    let groups =
        companions.get(".scales").and_then(|scales| scales.shape.first().copied()).filter(|&n| n > 0);
    let plausible = |bits: &u64| (2..=8).contains(bits);
    if outputs == columns {
        let shown = width(".qzeros").and_then(|zeros| zeros.checked_mul(32)).map(|zeros| zeros / outputs);
        let bits = shown.filter(plausible).or(bits.filter(plausible)).unwrap_or(4);
        seen.activation_order |= companions.contains_key(".g_idx");
        seen.precision = Some(if bits > 4 { Precision::GptqInt8 } else { Precision::GptqInt4 });
        seen.group_size = groups.map(|groups| rows.saturating_mul(32) / bits / groups);
        return Packing::Rows { numerator: 32, denominator: bits };
    }
    let bits = columns.checked_mul(32).map(|packed| packed / outputs).filter(plausible).unwrap_or(4);
    seen.precision = Some(Precision::AwqInt4);
    seen.group_size = groups.map(|groups| rows / groups);
    Packing::Transposed { numerator: 32, denominator: bits }
}
