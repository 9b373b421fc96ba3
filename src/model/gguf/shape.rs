//! From the headers of a model's files to a [`ModelShape`].

use std::collections::BTreeMap;

use super::header::{Header, malformed};
use super::keys::Keys;
use super::layers;
use super::metadata::{Metadata, Value};
use super::names;
use super::reader::WHAT;
use super::tensor_type::{TensorType, file_type};
use crate::model::{
    CacheKind, Confidence, Experts, Layer, ModelShape, ParseError, Role, ShapeSource, Split, Tensor,
};
use crate::precision::Precision;

/// How many files the model is split into, by the header of one of them.
#[must_use]
pub fn split_count(header: &Header) -> u64 {
    unsigned(&header.metadata, "split.count").unwrap_or(1).max(1)
}

fn unsigned(metadata: &Metadata, key: &str) -> Option<u64> {
    match metadata.get(key)? {
        &Value::Integer(value) => u64::try_from(value).ok(),
        _ => None,
    }
}

/// The shape of a model: its tensors from the headers of all its files, the rest from the metadata of the first.
///
/// Of an architecture that is not known the weights are exact all the same, and the cache is an upper bound: every layer
/// attends to the whole context.
///
/// # Errors
/// If a file of a split model is missing, the file is no language model, or a key that the cache depends on is missing or wrong.
pub fn shape(headers: &[Header], name: &str) -> Result<ModelShape, ParseError> {
    let Some(first) = headers
        .iter()
        .find(|header| header.metadata.get("general.architecture").is_some())
        .or_else(|| headers.first())
    else {
        return Err(malformed("there is no file".to_owned()));
    };
    check_split(first, headers)?;
    let Some(architecture) = first.metadata.text("general.architecture").filter(|name| !name.is_empty())
    else {
        return Err(super::header::field(
            "general.architecture",
            "it is missing; it must name the model's architecture, such as llama".to_owned(),
        ));
    };
    let keys = Keys::new(architecture, &first.metadata);
    let entries = || headers.iter().flat_map(|header| &header.tensors);
    if entries().next().is_none() {
        return Err(malformed("there are no tensors in it; is it a vocabulary alone?".to_owned()));
    }
    let has_latent_tensors = entries().any(|entry| entry.name.ends_with(".attn_k_b.weight"));
    let found = layers::read(&keys, has_latent_tensors)?;
    let mut notes = Vec::new();
    if !found.known {
        notes.push(format!(
            "The architecture \"{architecture}\" is not known: the weights are counted from the file, and the cache is an upper bound, as if every layer attended to the whole context."
        ));
    }
    let layer_count = if found.decoder.is_empty() {
        u32::try_from(keys.number("block_count")?.unwrap_or(0)).unwrap_or(u32::MAX)
    } else {
        u32::try_from(found.decoder.len()).unwrap_or(u32::MAX)
    };
    let (tensors, parameters) = tensors(headers, layer_count, &found.decoder)?;
    let tied_embeddings = !tensors.iter().any(|tensor| tensor.role == Role::OutputHead);
    let vocabulary = tensors
        .iter()
        .find(|tensor| tensor.name == "token_embd.weight")
        .map(|tensor| tensor.rows)
        .or_else(|| first.metadata.length("tokenizer.ggml.tokens"))
        .unwrap_or(0);
    let hidden_size = keys.required("embedding_length")?;
    let heads = keys.number("attention.head_count")?.unwrap_or(0);
    let head_dim = match keys.number("attention.key_length_mla")?.or(keys.number("attention.key_length")?) {
        Some(length) => length,
        None => hidden_size.checked_div(heads).unwrap_or(0),
    };
    let experts = experts(&keys)?;
    let cache_confidence = if found.known { Confidence::Exact } else { Confidence::Assumed };
    Ok(ModelShape {
        name: name.to_owned(),
        source: ShapeSource::Gguf,
        architecture: architecture.to_owned(),
        parameters,
        layers: found.decoder,
        draft_layers: found.draft,
        hidden_size,
        intermediate_size: intermediate_size(&keys)?,
        heads,
        head_dim,
        experts,
        vocabulary,
        max_context: keys.number("context_length")?.filter(|&tokens| tokens > 0),
        tied_embeddings,
        stored_precision: stored_precision(first, headers),
        quantization: None,
        state_precision: None,
        rotary_elements: None,
        encoder_tokens: None,
        multimodal: tensors.iter().any(|tensor| tensor.role == Role::Vision),
        tensors,
        weights_confidence: Confidence::Exact,
        cache_confidence,
        notes,
    })
}

/// Are all files of a split model there, and all their tensors?
fn check_split(first: &Header, headers: &[Header]) -> Result<(), ParseError> {
    let expected = split_count(first);
    let given = u64::try_from(headers.len()).unwrap_or(u64::MAX);
    if expected != given {
        return Err(ParseError::Field {
            what: WHAT,
            field: "split.count".to_owned(),
            problem: format!(
                "the model is split into {expected} files, and {given} are given; give all of them"
            ),
        });
    }
    let tensors = headers.iter().map(|header| header.tensors.len()).fold(0_usize, usize::saturating_add);
    match unsigned(&first.metadata, "split.tensors.count") {
        Some(expected) if u64::try_from(tensors).ok() != Some(expected) && given > 1 => {
            Err(ParseError::Field {
                what: WHAT,
                field: "split.tensors.count".to_owned(),
                problem: format!(
                    "it is {expected}, and the files have {tensors} tensors; a file is there twice or is another's"
                ),
            })
        }
        _ => Ok(()),
    }
}

fn tensors(headers: &[Header], layers: u32, kept: &[Layer]) -> Result<(Vec<Tensor>, u64), ParseError> {
    let too_many = || malformed("the tensors come to more than 2^64 parameters".to_owned());
    let mut parameters = 0_u64;
    let mut all = Vec::new();
    for entry in headers.iter().flat_map(|header| &header.tensors) {
        let vector = entry.rank < 2;
        let class = names::classify(&entry.name, vector, layers);
        let [columns, rows, third, fourth] = entry.dimensions;
        let stack = third.checked_mul(fourth).ok_or_else(too_many)?;
        let experts = matches!(class.role, Role::Expert | Role::SharedExpert);
        let (count, rows) =
            if experts { (stack, rows) } else { (1, rows.checked_mul(stack).ok_or_else(too_many)?) };
        let elements = rows.checked_mul(columns).and_then(|n| n.checked_mul(count)).ok_or_else(too_many)?;
        if class.role != Role::Draft {
            parameters = parameters.checked_add(elements).ok_or_else(too_many)?;
        }
        let split = match class.split {
            Split::KeyValueHeads(0) => {
                kv_heads(class.layer, kept).map_or(Split::Replicated, Split::KeyValueHeads)
            }
            split => split,
        };
        all.push(Tensor {
            name: entry.name.clone(),
            layer: class.layer,
            role: class.role,
            count,
            rows,
            columns,
            split,
            quantizable: class.quantizable,
            stored_bytes: Some(entry.bytes),
        });
    }
    Ok((all, parameters))
}

fn kv_heads(layer: Option<u32>, kept: &[Layer]) -> Option<u64> {
    match kept.get(usize::try_from(layer?).ok()?)?.attention?.cache {
        CacheKind::Heads { kv_heads, .. } => Some(kv_heads),
        _ => None,
    }
}

fn experts(keys: &Keys<'_>) -> Result<Option<Experts>, ParseError> {
    let Some(count) = keys.number("expert_count")?.filter(|&count| count > 0) else { return Ok(None) };
    let width =
        keys.number("expert_feed_forward_length")?.or(keys.number("feed_forward_length")?).unwrap_or(0);
    Ok(Some(Experts {
        count,
        per_token: keys.number("expert_used_count")?.unwrap_or(count),
        intermediate_size: width,
    }))
}

/// The widest MLP that every token passes.
fn intermediate_size(keys: &Keys<'_>) -> Result<u64, ParseError> {
    let dense = keys.number("feed_forward_length")?.unwrap_or(0);
    Ok(dense.max(keys.number("expert_shared_feed_forward_length")?.unwrap_or(0)))
}

/// The mix that the file says it is; else the type that holds most of its bytes.
fn stored_precision(first: &Header, headers: &[Header]) -> Option<Precision> {
    if let Some(precision) = unsigned(&first.metadata, "general.file_type").and_then(file_type) {
        return Some(precision);
    }
    let mut by_type: BTreeMap<TensorType, u64> = BTreeMap::new();
    for entry in headers.iter().flat_map(|header| &header.tensors) {
        let sum = by_type.entry(entry.kind).or_default();
        *sum = sum.saturating_add(entry.bytes);
    }
    by_type.into_iter().max_by_key(|&(_, bytes)| bytes).and_then(|(kind, _)| kind.precision())
}
