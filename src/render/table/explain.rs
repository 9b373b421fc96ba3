//! The arithmetic of an estimate, component by component, and what the model is made of.

use crate::estimate::{Estimate, Term};
use crate::model::{Attention, CacheKind, Layer, ModelShape, Role, Span, State, StateKind};
use crate::render::json::ranges;
use crate::render::message::components;
use crate::render::text::{adding_up, counted, listed, printable, wrapped};
use crate::units::{Bytes, Parameters};

use super::Style;
use super::estimate::{key, sure, word};

/// Blanks before what belongs to a component.
const INDENT: usize = 4;

/// The arithmetic of an estimate.
#[must_use]
pub fn explain(shape: &ModelShape, estimate: &Estimate, style: Style) -> String {
    let training = estimate.workload.training.is_some();
    let per_gpu = components(&estimate.per_gpu, training);
    let amounts: Vec<Bytes> = per_gpu.iter().map(|(_, bytes)| *bytes).collect();
    let ranges = ranges(&estimate.terms);
    let mut text = String::new();
    for ((name, _), shown) in per_gpu.iter().zip(adding_up(&amounts, estimate.total_per_gpu)) {
        let terms: Vec<&Term> = estimate.terms.iter().filter(|term| term.component == key(name)).collect();
        let Some(confidence) = sure(estimate, key(name)) else { continue };
        let range = ranges.get(key(name)).map(|range| between(range.low, range.high)).unwrap_or_default();
        let head = format!("{name:<11} {shown:>8} GiB  {}{range}\n", word(confidence));
        text.push_str(&head);
        for term in &terms {
            let formula = printable(&term.formula);
            let line = if terms.len() == 1 {
                formula
            } else {
                format!("{}{}: {formula}", term.bytes, between(term.low, term.high))
            };
            text.push_str(&wrapped(&line, INDENT, style.width));
        }
        let details = match *name {
            "weights" => roles(shape),
            "KV cache" => growth(estimate).into_iter().chain(kinds(shape)).collect(),
            _ => Vec::new(),
        };
        for detail in &details {
            text.push_str(&wrapped(detail, INDENT, style.width));
        }
    }
    if let Some(logged) = &estimate.logged {
        let parts = [
            ("model loading", logged.model),
            ("activation peak", logged.activations),
            ("non-torch", logged.non_torch),
            ("graphs", logged.graphs),
        ];
        let parts = parts.map(|(what, bytes)| format!("{what} {bytes}"));
        text.push_str("vLLM will log, per GPU\n");
        text.push_str(&wrapped(&parts.join(", "), INDENT, style.width));
    }
    text
}

/// `, 0.5 GiB to 1.4 GiB`; nothing where there is no more to be said than the figure.
fn between(low: Bytes, high: Bytes) -> String {
    if low == high { String::new() } else { format!(", {low} to {high}") }
}

/// What the parameters are for, the most first.
fn roles(shape: &ModelShape) -> Vec<String> {
    let mut sums: Vec<(&str, u64)> = Vec::new();
    for tensor in &shape.tensors {
        let parameters = tensor.count.saturating_mul(tensor.rows).saturating_mul(tensor.columns);
        let name = role(tensor.role);
        match sums.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum = sum.saturating_add(parameters),
            None => sums.push((name, parameters)),
        }
    }
    sums.retain(|(_, sum)| *sum > 0);
    sums.sort_by_key(|(_, sum)| std::cmp::Reverse(*sum));
    let parts: Vec<String> =
        sums.into_iter().map(|(name, sum)| format!("{name} {}", Parameters(sum))).collect();
    if parts.is_empty() { Vec::new() } else { vec![format!("of which {}", listed(&parts))] }
}

const fn role(role: Role) -> &'static str {
    match role {
        Role::Embedding => "embeddings",
        Role::OutputHead => "output head",
        Role::Attention => "attention",
        Role::Mlp => "MLP",
        Role::Expert => "experts",
        Role::SharedExpert => "shared experts",
        Role::Router => "routers",
        Role::Norm => "norms",
        Role::State => "recurrent layers",
        Role::Vision => "vision or audio tower",
        Role::Projector => "projector",
        Role::Draft => "draft head (not loaded)",
    }
}

/// How much of the cache grows with the context, where not all of it does.
fn growth(estimate: &Estimate) -> Option<String> {
    let workload = &estimate.workload;
    let tokens = workload.context?.checked_mul(workload.sequences)?;
    let grows = estimate.kv_cache_bytes_per_token.times(tokens).ok()?;
    let all = estimate.components.kv_cache;
    let constant = Bytes(all.0.checked_sub(grows.0)?);
    (grows.0 > 0 && constant.0 > all.0 / 20).then(|| {
        format!(
            "over all GPUs {grows} grow with the context, {} bytes per token; {constant} are windows with what is in flight, states and whole blocks",
            estimate.kv_cache_bytes_per_token.0
        )
    })
}

/// What each kind of layer keeps, in the order of the layers.
fn kinds(shape: &ModelShape) -> Vec<String> {
    let mut kinds: Vec<(&Layer, u64)> = Vec::new();
    for layer in &shape.layers {
        match kinds.iter_mut().find(|(known, _)| *known == layer) {
            Some((_, count)) => *count += 1,
            None => kinds.push((layer, 1)),
        }
    }
    kinds
        .into_iter()
        .map(|(layer, count)| {
            let kept: Vec<String> =
                layer.attention.map(attention).into_iter().chain(layer.state.map(state)).collect();
            let layers = counted(count, "layer");
            match (kept.is_empty(), count) {
                (false, _) => format!("{layers} of {}", listed(&kept)),
                (true, 1) => format!("{layers} keeps nothing"),
                (true, _) => format!("{layers} keep nothing"),
            }
        })
        .collect()
}

fn attention(attention: Attention) -> String {
    let span = match attention.span {
        Span::Full => "of every token".to_owned(),
        Span::Sliding(window) => format!("of the last {}", counted(window, "token")),
        Span::Chunked(chunk) => format!("of a chunk of {}", counted(chunk, "token")),
    };
    match attention.cache {
        CacheKind::Heads { kv_heads, key_dim, value_dim } => {
            let elements = kv_heads.saturating_mul(key_dim.saturating_add(value_dim));
            format!(
                "attention: {} x ({key_dim} key + {value_dim} value) = {elements} elements {span}",
                counted(kv_heads, "KV head")
            )
        }
        CacheKind::Latent { rank, rope_dim, index_dim } => {
            let indexer = if index_dim > 0 { format!(", an indexer of {index_dim}") } else { String::new() };
            let elements = rank.saturating_add(rope_dim);
            format!(
                "latent attention: {rank} latent + {rope_dim} rotary = {elements} elements {span}{indexer}"
            )
        }
        CacheKind::Compressed { head_dim, ratio: 0, window, .. } => {
            format!("attention: {head_dim} elements of the last {}", counted(window, "token"))
        }
        CacheKind::Compressed { head_dim, ratio, window, .. } => format!(
            "compressed attention: {head_dim} elements of every {ratio} tokens, and of the last {}",
            counted(window, "token")
        ),
        CacheKind::Shared => "attention that reads another layer's cache".to_owned(),
    }
}

fn state(state: State) -> String {
    let kind = match state.kind {
        StateKind::Mamba1 => "Mamba-1",
        StateKind::Mamba2 => "Mamba-2",
        StateKind::GatedDelta => "gated delta net",
        StateKind::KimiDelta => "Kimi delta attention",
        StateKind::Linear => "linear attention",
        StateKind::ShortConvolution => "short convolution",
        StateKind::Rwkv => "RWKV",
    };
    let convolution = state.conv_width.saturating_mul(state.conv_kernel.saturating_sub(1));
    let elements = state.matrix.saturating_add(convolution);
    format!("{kind}: {elements} elements per sequence")
}
