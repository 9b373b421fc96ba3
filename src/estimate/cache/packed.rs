//! vLLM's pool where layers have pages of several sizes: DeepSeek-V4, whose every layer keeps a window, entries compressed along the
//! sequence, an index of them, and the 32-bit states that the compressor works on.
//!
//! Source: vLLM 0.25 to 0.33: `models/deepseek_v4/{attention,compressor}.py` and `mla/sparse_swa.py` for the specs,
//! `kv_cache_utils._get_kv_cache_groups_uniform_groups` (up to 0.28) and `kv_cache_planning._get_packed_kv_cache_groups` (since) for
//! the groups. The states are windows of 8 and 128 tokens in blocks of 4 and 8, and every group's block is as large as the widest
//! group's: what is in flight of them outweighs all else (vllm-project/vllm#54703, #44376).

use super::by_layer::Cache;
use super::paged::{Kind, blocks_of};
use crate::model::CacheKind;
use crate::precision::CachePrecision;
use crate::units::Overflow;

/// Tokens of a block of compressed entries, and of the window.
const BLOCK: u128 = 256;
const WINDOW_BLOCK: u128 = 64;

/// Layers that need the same number of blocks: so many pages of each size.
struct Bucket {
    kind: Kind,
    /// Tokens of a block.
    block: u128,
    /// Size of a page, and how many layers have one of it.
    pages: Vec<(u128, u128)>,
}

impl Bucket {
    const fn new(kind: Kind, block: u128) -> Self {
        Self { kind, block, pages: Vec::new() }
    }

    fn add(&mut self, page: u128) {
        match self.pages.iter_mut().find(|(size, _)| *size == page) {
            Some((_, layers)) => *layers += 1,
            None => self.pages.push((page, 1)),
        }
    }

    /// Layers of the size that most have: how often the pattern repeats.
    fn repeats(&self) -> u128 {
        self.pages.iter().map(|(_, layers)| *layers).max().unwrap_or(0)
    }

    fn is_balanced(&self) -> bool {
        self.pages.iter().all(|(_, layers)| *layers == self.repeats())
    }

    /// Bytes of one block of the largest of so many groups.
    fn width(&self, groups: u128) -> Option<u128> {
        self.pages.iter().try_fold(0_u128, |sum, (page, layers)| {
            sum.checked_add(page.checked_mul(layers.div_ceil(groups.max(1)))?)
        })
    }
}

/// Bytes of the pool, on one rank, for compressed caches; none is none.
pub(crate) fn pool(cache: &Cache, layers: &[CacheKind]) -> Result<u128, Overflow> {
    let buckets = buckets(cache, layers)?;
    let Some(first) = buckets.first() else { return Ok(0) };
    // One pattern for all groups: the number of repeats that pads least.
    let (most, least) = if cache.vllm.packed {
        let mixed = buckets.iter().filter(|bucket| bucket.is_balanced() && bucket.pages.len() > 1);
        let counts = buckets.iter().filter(|bucket| bucket.is_balanced()).map(Bucket::repeats);
        (counts.collect::<Vec<_>>(), mixed.map(Bucket::repeats).max().unwrap_or(0))
    } else {
        (buckets.iter().map(Bucket::repeats).collect(), first.repeats())
    };
    let repeats = (least > 0).then(|| least_padding(&most, least));
    let groups_of = |bucket: &Bucket| match repeats {
        Some(repeats) if bucket.is_balanced() => bucket.repeats().div_ceil(repeats.max(1)),
        _ => 1,
    };
    let per_block = if cache.vllm.packed {
        let widths = buckets.iter().map(|bucket| bucket.width(groups_of(bucket)));
        widths.collect::<Option<Vec<_>>>().and_then(|widths| widths.into_iter().max()).ok_or(Overflow)?
    } else {
        // Every group has as many slots of every size of the first bucket as the largest group has layers.
        let slots = buckets.iter().map(|bucket| bucket.repeats().div_ceil(groups_of(bucket))).max();
        let sizes = first.pages.iter().try_fold(0_u128, |sum, (page, _)| sum.checked_add(*page));
        sizes.and_then(|sizes| sizes.checked_mul(slots.unwrap_or(0))).ok_or(Overflow)?
    };
    let mut blocks: u128 = 0;
    for bucket in &buckets {
        let of_one = blocks_of(cache, bucket.kind, bucket.block)?;
        let of_all = of_one.checked_mul(groups_of(bucket)).ok_or(Overflow)?;
        blocks = blocks.checked_add(of_all).ok_or(Overflow)?;
    }
    blocks.checked_mul(per_block).ok_or(Overflow)
}

/// The specs of these layers, those that keep all of the sequence first.
fn buckets(cache: &Cache, layers: &[CacheKind]) -> Result<Vec<Bucket>, Overflow> {
    let mut whole = Bucket::new(Kind::Full, BLOCK);
    let mut windows: Vec<Bucket> = Vec::new();
    let mut of_window = |kind: Kind, block: u128, page: u128| {
        let known = windows.iter_mut().find(|bucket| bucket.kind == kind && bucket.block == block);
        if let Some(bucket) = known {
            bucket.add(page);
        } else {
            let mut bucket = Bucket::new(kind, block);
            bucket.add(page);
            windows.push(bucket);
        }
    };
    for layer in layers {
        let CacheKind::Compressed { head_dim, ratio, window, index_dim } = *layer else { continue };
        let entry = cache.compressed_entry(head_dim, 0);
        let page =
            |tokens: u128, bytes: u128| tokens.checked_mul(bytes).and_then(|page| aligned(cache, page));
        of_window(Kind::Sliding(window), WINDOW_BLOCK, page(WINDOW_BLOCK, entry).ok_or(Overflow)?);
        if ratio == 0 {
            continue;
        }
        let entries = BLOCK / u128::from(ratio);
        whole.add(page(entries, entry).ok_or(Overflow)?);
        // Keys and scores of 32 bits; both halves overlap where the ratio is 4.
        let overlap: u64 = if ratio == 4 { 2 } else { 1 };
        let block = if ratio == 4 { 4 } else { 8 };
        let kind = Kind::Sliding(ratio.checked_mul(overlap).ok_or(Overflow)?);
        let state = |width: u64| u128::from(width) * u128::from(overlap) * 8;
        of_window(kind, block, page(block, state(head_dim)).ok_or(Overflow)?);
        if index_dim > 0 {
            let indexed = cache.compressed_entry(0, index_dim).saturating_sub(cache.compressed_entry(0, 0));
            whole.add(page(entries, indexed).ok_or(Overflow)?);
            of_window(kind, block, page(block, state(index_dim)).ok_or(Overflow)?);
        }
    }
    if whole.pages.is_empty() {
        return Ok(windows);
    }
    Ok(std::iter::once(whole).chain(windows).collect())
}

/// A page in multiples of what the kernels want: 576 bytes of the 8-bit layout, 512 of the others.
fn aligned(cache: &Cache, page: u128) -> Option<u128> {
    let multiple = if cache.precision == CachePrecision::Fp8 { 576 } else { 512 };
    page.div_ceil(multiple).checked_mul(multiple)
}

/// The number of at least `least` to whose multiples the counts are rounded up with the least padding; the larger of several
/// (vLLM's `_approximate_gcd`).
fn least_padding(counts: &[u128], least: u128) -> u128 {
    let padding = |size: u128| {
        counts.iter().map(|count| count.div_ceil(size) * size - count).fold(0_u128, u128::saturating_add)
    };
    let most = counts.iter().copied().max().unwrap_or(least);
    (least.max(1)..=most).min_by_key(|size| (padding(*size), u128::MAX - size)).unwrap_or(least.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_repeat_the_pattern_that_pads_least() {
        // DeepSeek-V4-Flash: 21 indexed layers, 43 windows, 20 of ratio 128.
        assert_eq!(least_padding(&[21, 43, 21, 20], 21), 22);
        assert_eq!(least_padding(&[43, 21, 20], 21), 22);
        assert_eq!(least_padding(&[10, 20], 10), 10);
        assert_eq!(least_padding(&[5], 9), 9);
    }
}
