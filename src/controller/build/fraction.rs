//! The fraction of a GPU that an engine plans with, so that on the smallest GPU that is picked the cache that was estimated has
//! room, and what the engine does not count has room beside it.

use super::arguments::Managed;
use crate::estimate::Components;
use crate::plan::PlanError;
use crate::plan::arguments::Flag;
use crate::units::{Bytes, Margin, shorten};

/// `--gpu-memory-utilization`, untold (vLLM 0.19).
const VLLM_DEFAULT: u64 = 900;
/// What CUDA sees of a GPU, in thousandths of what the label says: 14.56 GiB of a T4's 15, 79.1 of an H100's 79.65.
const VISIBLE: u64 = 970;
/// The context stays outside of what vLLM plans with, and needs some of the GPU.
const VLLM_MOST: u64 = 970;

const VLLM_FLAG: &str = "--gpu-memory-utilization";
const SGLANG_FLAG: &str = "--mem-fraction-static";

/// vLLM plans with a fraction of the whole GPU, the profile's peak included. With the usual margin its default is more than
/// the estimate needs.
///
/// # Errors
/// A fraction of the user's that is less than the estimate needs on the smallest GPU that may be picked.
pub(super) fn vllm(margin: Margin, own: Option<&Flag<'_>>) -> Result<Option<Managed>, PlanError> {
    // The smallest GPU is `margin` times the estimate: so much of what is visible of it is needed.
    let needed =
        (1_000_000_000 / (u64::from(margin.thousandths()) * VISIBLE)).saturating_add(1).min(VLLM_MOST);
    let Some(flag) = own else {
        return Ok(
            (needed > VLLM_DEFAULT).then(|| Managed::of(VLLM_FLAG, &[], written(needed), "safetyMargin"))
        );
    };
    let written_value = flag.value.unwrap_or_default();
    let Some(told) = thousandths(written_value) else {
        return Err(PlanError::Invalid {
            field: "engine.args".to_owned(),
            problem: format!("{} has \"{}\", which is not a fraction", flag.name, shorten(written_value)),
            remedy: "write a decimal from 0.1 to 1.0, such as 0.9".to_owned(),
        });
    };
    if told >= needed {
        return Ok(None);
    }
    Err(PlanError::Invalid {
        field: "engine.args".to_owned(),
        problem: format!(
            "{} {} is less than what was estimated, on the smallest GPU that may be picked",
            flag.name,
            shorten(written_value)
        ),
        remedy: format!("write {} or more, or leave it out", written(needed)),
    })
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
    flags.filter(|flag| flag.name == VLLM_FLAG || flag.name == SGLANG_FLAG).last()
}

fn written(thousandths: u64) -> String {
    format!("0.{thousandths:03}")
}

/// A decimal from 0 to 1, in thousandths, rounded down.
fn thousandths(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let three: String = fraction.chars().chain("000".chars()).take(3).collect();
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let value = whole.checked_mul(1000)?.checked_add(three.parse().ok()?)?;
    (1..=1000).contains(&value).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::arguments::flags;
    use crate::units::GIB;

    fn told(arguments: &[&str], margin: &str) -> Result<Option<String>, String> {
        let arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
        let own = own(flags(&arguments));
        let margin = margin.parse().expect("a margin");
        vllm(margin, own.as_ref())
            .map(|flag| flag.map(|flag| flag.words()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn vllm_is_told_only_where_its_default_is_too_little() {
        for (margin, expected) in [
            ("1.2", None),
            ("1.15", None),
            ("1.1", Some("--gpu-memory-utilization 0.938")),
            ("1.0", Some("--gpu-memory-utilization 0.970")),
        ] {
            assert_eq!(told(&[], margin).expect("valid").as_deref(), expected, "{margin}");
        }
    }

    #[test]
    fn less_than_the_estimate_is_refused() {
        for (value, margin, refused) in [
            ("0.95", "1.2", None),
            ("0.86", "1.2", None),
            ("0.5", "2.5", None),
            ("0.5", "1.2", Some("write 0.860 or more")),
            (".9", "1.0", Some("write 0.970 or more")),
            ("lots", "1.2", Some("is not a fraction")),
            ("-1", "1.2", Some("is not a fraction")),
            ("1.5", "1.2", Some("is not a fraction")),
        ] {
            let found = told(&["--gpu-memory-utilization", value], margin);
            match refused {
                None => assert_eq!(found, Ok(None), "{value}"),
                Some(part) => assert!(found.expect_err("refused").contains(part), "{value}"),
            }
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
