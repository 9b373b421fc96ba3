//! vLLM's cache pool: fixed pages, layers of a kind in groups that share one table of blocks.
//!
//! Source: vLLM's `kv_cache_utils` and `kv_cache_planning` (0.19 to 0.33): layers are bucketed by kind, buckets cut into groups of
//! equal size, and a request takes `group size x page x blocks of every group`. Layers of several page sizes are another matter:
//! see `packed`.

use super::by_layer::Cache;
use crate::model::{CacheKind, Layer, ModelShape, Span};
use crate::units::Overflow;

/// Layers that are sized alike.
struct Bucket {
    kind: Kind,
    /// Bytes per token and layer on a rank, or of one state.
    unit: u128,
    layers: u128,
}

/// Which tokens of a sequence a layer keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Full,
    Sliding(u64),
    Chunked(u64),
    State,
}

/// Bytes of the pool, on one rank, that holds the sequences of `cache`: of layers whose pages are of one size.
pub(crate) fn pool(cache: &Cache, shape: &ModelShape, layers: &[&Layer]) -> Result<u128, Overflow> {
    let mut buckets: Vec<Bucket> = Vec::new();
    let mut add = |kind: Kind, unit: u128| {
        if unit == 0 {
            return;
        }
        match buckets.iter_mut().find(|bucket| bucket.kind == kind && bucket.unit == unit) {
            Some(bucket) => bucket.layers += 1,
            None => buckets.push(Bucket { kind, unit, layers: 1 }),
        }
    };
    for layer in layers {
        let of_one_page =
            layer.attention.filter(|attention| !matches!(attention.cache, CacheKind::Compressed { .. }));
        if let Some(attention) = of_one_page {
            let kind = match attention.span {
                Span::Full => Kind::Full,
                Span::Sliding(window) => Kind::Sliding(window),
                Span::Chunked(chunk) => Kind::Chunked(chunk),
            };
            add(kind, cache.tokens(shape, attention.cache, 1)?);
        }
        if let Some(state) = layer.state {
            add(Kind::State, cache.state(shape, state)?);
        }
    }
    grouped(cache, &buckets)
}

fn grouped(cache: &Cache, buckets: &[Bucket]) -> Result<u128, Overflow> {
    let block = u128::from(cache.block.max(1));
    // One page size for all: the widest attention layer's block, grown until it holds a state.
    let widest = buckets.iter().filter(|bucket| bucket.kind != Kind::State).map(|bucket| bucket.unit).max();
    let state = buckets.iter().filter(|bucket| bucket.kind == Kind::State).map(|bucket| bucket.unit).max();
    let page = match (widest, state) {
        (None, None) => return Ok(0),
        (None, Some(state)) => state,
        (Some(widest), state) => {
            let tokens = state.unwrap_or(0).div_ceil(widest).div_ceil(block).max(1);
            widest.checked_mul(block).and_then(|page| page.checked_mul(tokens)).ok_or(Overflow)?
        }
    };
    let least = buckets.iter().map(|bucket| bucket.layers).min().unwrap_or(1);
    let most = buckets.iter().map(|bucket| bucket.layers).max().unwrap_or(1);
    let group = if most * 2 < least * 3 { most } else { least };
    let mut blocks: u128 = 0;
    for bucket in buckets {
        let groups = bucket.layers.div_ceil(group.max(1));
        // A narrower layer's page holds more tokens.
        let tokens = (page / bucket.unit).max(1);
        let of_bucket = match bucket.kind {
            Kind::State => {
                // Qwen3.6-27B with prefix caching takes 174 pages of 1568 tokens for 262144 tokens: 168 for attention, two for
                // each of three groups of states. One more for every guessed token, to return to where it is refused.
                let states = u128::from(cache.vllm.states);
                let states = states.checked_add(u128::from(cache.guessed)).ok_or(Overflow)?;
                u128::from(cache.sequences).checked_mul(states).ok_or(Overflow)?
            }
            kind => blocks_of(cache, kind, tokens)?,
        };
        let of_bucket = of_bucket.checked_mul(groups).ok_or(Overflow)?;
        blocks = blocks.checked_add(of_bucket).ok_or(Overflow)?;
    }
    if state.is_some() {
        // It does not start with fewer blocks than sequences may run: each takes a state's block of every group in turn
        // (`max_num_seqs exceeds available Mamba cache blocks`).
        blocks = blocks.max(u128::from(cache.running));
    }
    blocks.checked_mul(page).and_then(|bytes| bytes.checked_mul(group)).ok_or(Overflow)
}

/// Tokens in flight: those of every batch that is scheduled and not yet settled.
fn in_flight(cache: &Cache) -> u128 {
    u128::from(cache.batched_tokens).saturating_mul(u128::from(cache.vllm.batches))
}

/// Tokens of one sequence that a kind of layer may hold at once.
fn held_tokens(cache: &Cache, kind: Kind) -> u128 {
    let context = u128::from(cache.context);
    match kind {
        Kind::Full | Kind::State => context,
        Kind::Sliding(window) => {
            u128::from(window.saturating_sub(1)).saturating_add(in_flight(cache)).min(context)
        }
        Kind::Chunked(chunk) => u128::from(chunk).saturating_add(in_flight(cache)).min(context),
    }
}

/// Blocks that the sequences take of one group. What is in flight is shared among them: it counts once.
pub(crate) fn blocks_of(cache: &Cache, kind: Kind, tokens: u128) -> Result<u128, Overflow> {
    let context = u128::from(cache.context);
    let sequences = u128::from(cache.sequences);
    let whole = context.div_ceil(tokens);
    let first = held_tokens(cache, kind).div_ceil(tokens);
    let (first, other) = match kind {
        Kind::Full | Kind::State => (whole, whole),
        // A window seldom begins at a block's edge: one block more.
        Kind::Sliding(window) => {
            let other = u128::from(window.saturating_sub(1)).min(context).div_ceil(tokens) + 1;
            (first + 1, other)
        }
        Kind::Chunked(chunk) => (first, u128::from(chunk).min(context).div_ceil(tokens)),
    };
    // No sequence is longer than the context.
    let cap = |blocks: u128| blocks.min(whole);
    let rest = sequences.saturating_sub(1).checked_mul(cap(other).min(cap(first))).ok_or(Overflow)?;
    cap(first).checked_add(rest).ok_or(Overflow)
}
