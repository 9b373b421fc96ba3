//! The fraction of a GPU that an engine plans with, so that on the smallest GPU that is picked the cache that was estimated has
//! room, and what the engine does not count has room beside it.

use super::arguments::Flag;
use super::combine::Managed;
use super::utilization::{DEFAULT, FLAG, needed, written};
use crate::estimate::Components;
use crate::units::{Bytes, Margin};

const SGLANG_FLAG: &str = "--mem-fraction-static";

/// vLLM plans with a fraction of the whole GPU, the profile's peak included. With the usual margin its default is more than
/// the estimate needs.
pub(super) fn vllm(margin: Margin, own: Option<&Flag<'_>>) -> Option<Managed> {
    let needed = needed(margin);
    (own.is_none() && needed > DEFAULT).then(|| Managed::of(FLAG, &[], written(needed), "safetyMargin"))
}

/// SGLang plans with a fraction for weights and cache, and works with the rest. What it would choose itself goes by the card
/// and by its batch, and can leave less than the weights: on an L4 with batches of 8192 tokens, 0.44.
pub(super) fn sglang(per_gpu: &Components, total: Bytes, own: Option<&Flag<'_>>) -> Option<Managed> {
    let held = u128::from(per_gpu.weights.0) + u128::from(per_gpu.kv_cache.0);
    let fraction = (held * 1000).checked_div(u128::from(total.0))?;
    let fraction = u64::try_from(fraction).ok()?.clamp(100, 990);
    own.is_none().then(|| Managed::of(SGLANG_FLAG, &[], written(fraction), "context"))
}

/// The user's own flag, if there is one. The last counts.
pub(super) fn own<'a>(flags: impl Iterator<Item = Flag<'a>>) -> Option<Flag<'a>> {
    flags.filter(|flag| flag.name == FLAG || flag.name == SGLANG_FLAG).last()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::arguments::flags;
    use crate::units::GIB;

    #[test]
    fn vllm_is_told_only_where_its_default_is_too_little() {
        for (margin, expected) in [
            ("1.2", None),
            ("1.15", None),
            ("1.1", Some("--gpu-memory-utilization 0.938")),
            ("1.0", Some("--gpu-memory-utilization 0.970")),
        ] {
            let margin = margin.parse().expect("a margin");
            assert_eq!(vllm(margin, None).map(|flag| flag.words()).as_deref(), expected, "{margin}");
            let own = ["--gpu-memory-utilization=0.98".to_owned()];
            assert!(vllm(margin, self::own(flags(&own)).as_ref()).is_none(), "{margin}");
        }
    }

    #[test]
    fn sglang_is_told_what_weights_and_cache_take() {
        let per_gpu = Components {
            weights: Bytes(15 * GIB),
            kv_cache: Bytes(GIB),
            activations: Bytes(GIB),
            overhead: Bytes(GIB),
            ..Components::default()
        };
        let told = |own| sglang(&per_gpu, Bytes(18 * GIB), own).map(|flag| flag.words());
        assert_eq!(told(None).as_deref(), Some("--mem-fraction-static 0.888"));
        let arguments = ["--mem-fraction-static=0.8".to_owned()];
        assert_eq!(told(own(flags(&arguments)).as_ref()), None);
        assert!(sglang(&Components::default(), Bytes::ZERO, None).is_none());
    }
}
