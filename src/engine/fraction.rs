//! The part of a GPU that an engine plans with, so that on the smallest GPU that is picked the cache that was estimated has
//! room, and what the engine does not count has room beside it.

use super::arguments::{Flag, flags};
use super::combine::Managed;
use super::table::{Entry, Fraction, Says, Table, field};
use super::tables;
use crate::estimate::{Components, Estimate};
use crate::precision::Engine;
use crate::refusal::Refusal;
use crate::units::{Bytes, Margin, shorten};

/// What CUDA sees of a GPU, in thousandths of what the label says: 14.56 GiB of a T4's 15, 79.1 of an H100's 79.65.
const VISIBLE: u64 = 970;
/// The context stays outside of what an engine plans with, and needs some of the GPU.
const MOST: u64 = 970;

/// The thousandths that all of the estimate needs: the smallest GPU is `margin` times as large, and not all of it is visible.
fn whole(margin: Margin) -> u64 {
    (1_000_000_000 / (u64::from(margin.thousandths()) * VISIBLE)).saturating_add(1).min(MOST)
}

/// The thousandths that weights and caches need of the smallest GPU.
fn fixed(estimate: &Estimate, margin: Margin) -> Option<u64> {
    let held = held(&estimate.per_gpu);
    let visible = u128::from(estimate.total_per_gpu.0)
        .checked_mul(u128::from(margin.thousandths()))?
        .checked_mul(u128::from(VISIBLE))?;
    let needed = held.checked_mul(1_000_000_000)?.checked_div(visible)?;
    Some(u64::try_from(needed).ok()?.saturating_add(1).min(990))
}

fn held(per_gpu: &Components) -> u128 {
    u128::from(per_gpu.weights.0) + u128::from(per_gpu.kv_cache.0)
}

/// A fraction as the engines take it.
fn written(thousandths: u64) -> String {
    format!("0.{thousandths:03}")
}

/// The flag that says the fraction, and what it is to hold.
fn flag_of(table: &Table) -> Option<(&'static Entry, Fraction)> {
    table.flags.iter().find_map(|entry| match entry.says {
        Says::MemoryFraction(fraction) => Some((entry, fraction)),
        _ => None,
    })
}

/// The user's own flag, if there is one. The last counts.
fn own<'a>(entry: &Entry, arguments: &'a [String]) -> Option<Flag<'a>> {
    flags(arguments).filter(|flag| entry.is_named(&flag.name)).last()
}

/// Refuses a fraction that is none, or less than the estimate needs. What does not depend on the model is known before it.
pub(crate) fn check(
    engine: Engine,
    arguments: &[String],
    margin: Margin,
    estimate: Option<&Estimate>,
) -> Result<(), Refusal> {
    let Some((entry, fraction)) = flag_of(tables::of(engine)) else { return Ok(()) };
    let Some(flag) = own(entry, arguments) else { return Ok(()) };
    let text = flag.value.unwrap_or_default();
    let Some(told) = thousandths(text) else {
        return Err(Refusal::invalid(
            field(&flag),
            format!("{} has \"{}\", which is not a fraction", flag.name, shorten(text)),
            "write a decimal from 0.1 to 1.0, such as 0.9",
        ));
    };
    let needed = match fraction {
        Fraction::Whole(_) => Some(whole(margin)),
        Fraction::Static => estimate.and_then(|estimate| fixed(estimate, margin)),
    };
    let what = match fraction {
        Fraction::Whole(_) => "what was estimated",
        Fraction::Static => "the weights and the cache that were estimated",
    };
    match needed.filter(|needed| told < *needed) {
        None => Ok(()),
        Some(needed) => Err(Refusal::invalid(
            field(&flag),
            format!(
                "{} {} is less than {what}, on the smallest GPU that may be picked",
                flag.name,
                shorten(text)
            ),
            format!("write {} or more, or leave it out", written(needed)),
        )),
    }
}

/// The smallest margin with which the part of a GPU that the arguments state is enough; `None` where they state none, or where
/// none is. `estimate` is needed where the part is that of weights and caches alone.
pub(crate) fn least_margin(
    engine: Engine,
    arguments: &[String],
    estimate: Option<&Estimate>,
) -> Option<Margin> {
    let (entry, fraction) = flag_of(tables::of(engine))?;
    let told = thousandths(own(entry, arguments)?.value.unwrap_or_default())?;
    let needs = |margin: Margin| match fraction {
        Fraction::Whole(_) => Some(whole(margin)),
        Fraction::Static => fixed(estimate?, margin),
    };
    // Each is a quotient by the margin: the one that is asked for follows from that of 1.
    let of_one = match fraction {
        Fraction::Whole(_) => 1_000_000_000_u64.checked_div(VISIBLE)?,
        Fraction::Static => {
            let estimate = estimate?;
            let visible = u128::from(estimate.total_per_gpu.0).checked_mul(u128::from(VISIBLE))?;
            u64::try_from(held(&estimate.per_gpu).checked_mul(1_000_000_000)?.checked_div(visible)?).ok()?
        }
    };
    let guess = of_one.checked_div(told.checked_sub(1)?)?.max(1000);
    // Rounded the way that the check rounds.
    (guess..=guess.saturating_add(2))
        .filter_map(|thousandths| Margin::from_thousandths(u32::try_from(thousandths).ok()?))
        .find(|margin| needs(*margin).is_some_and(|needed| needed <= told))
}

/// What the engine is told, unless the user tells it.
pub(super) fn told(
    table: &Table,
    arguments: &[String],
    margin: Margin,
    per_gpu: &Components,
    total: Bytes,
) -> Option<Managed> {
    let (entry, fraction) = flag_of(table)?;
    if own(entry, arguments).is_some() {
        return None;
    }
    match fraction {
        // With the usual margin the default is more than the estimate needs.
        Fraction::Whole(default) => {
            let needed = whole(margin);
            (needed > default).then(|| Managed::of(entry, written(needed), "safetyMargin"))
        }
        // What SGLang would choose itself goes by the card and by its batch, and can leave less than the weights: on an L4 with
        // batches of 8192 tokens, 0.44.
        Fraction::Static => {
            let fraction = held(per_gpu).checked_mul(1000)?.checked_div(u128::from(total.0))?;
            let fraction = u64::try_from(fraction).ok()?.clamp(100, 990);
            Some(Managed::of(entry, written(fraction), "context"))
        }
    }
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
    use crate::estimate::{Workload, estimate};
    use crate::model::catalog;
    use crate::precision::CachePrecision;
    use crate::units::GIB;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn told_to(engine: Engine, margin: &str, arguments: &str) -> Option<String> {
        let per_gpu = Components {
            weights: Bytes(15 * GIB),
            kv_cache: Bytes(GIB),
            activations: Bytes(GIB),
            overhead: Bytes(GIB),
            ..Components::default()
        };
        let margin = margin.parse().expect("a margin");
        let told = told(tables::of(engine), &words(arguments), margin, &per_gpu, Bytes(18 * GIB));
        told.map(|flag| flag.words())
    }

    #[test]
    fn vllm_is_told_only_where_its_default_is_too_little() {
        for (margin, expected) in [
            ("1.2", None),
            ("1.15", None),
            ("1.1", Some("--gpu-memory-utilization 0.938")),
            ("1.0", Some("--gpu-memory-utilization 0.970")),
        ] {
            assert_eq!(told_to(Engine::Vllm, margin, "").as_deref(), expected, "{margin}");
            assert_eq!(told_to(Engine::Vllm, margin, "--gpu-memory-utilization=0.98"), None, "{margin}");
        }
    }

    #[test]
    fn sglang_is_told_what_weights_and_cache_take() {
        let told = |arguments| told_to(Engine::Sglang, "1.2", arguments);
        assert_eq!(told("").as_deref(), Some("--mem-fraction-static 0.888"));
        assert_eq!(told("--mem-fraction-static=0.8"), None);
        let none = Components::default();
        assert!(super::told(tables::of(Engine::Sglang), &[], Margin::DEFAULT, &none, Bytes::ZERO).is_none());
    }

    #[test]
    fn less_than_the_estimate_is_refused() {
        let flag = "--gpu-memory-utilization";
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
            let arguments = [flag.to_owned(), value.to_owned()];
            let margin = margin.parse().expect("a margin");
            let found = |engine| check(engine, &arguments, margin, None).map_err(|error| error.to_string());
            match refused {
                None => assert_eq!(found(Engine::Vllm), Ok(()), "{value}"),
                Some(part) => assert!(found(Engine::Vllm).expect_err("refused").contains(part), "{value}"),
            }
            assert_eq!(found(Engine::Sglang), Ok(()), "no flag of its");
        }
    }

    /// The number that is named is right, and the next one below it is not.
    #[test]
    fn less_than_weights_and_cache_is_refused_of_sglang() {
        let shape = catalog::shape("llama-3.1-8b").expect("a model of the catalog");
        let workload = Workload {
            precision: None,
            context: Some(8192),
            sequences: 1,
            cache_precision: CachePrecision::Auto,
            tensor: 1,
            pipeline: 1,
            data: 1,
            engine: Engine::Sglang,
            batched_tokens: None,
            options: crate::estimate::Options::default(),
            training: None,
        };
        let estimate = estimate(&shape, &workload).expect("an estimate");
        let found = |value: &str, estimate| {
            check(
                Engine::Sglang,
                &words(&format!("--mem-fraction-static {value}")),
                Margin::DEFAULT,
                estimate,
            )
            .map_err(|error| error.to_string())
        };
        let error = found("0.1", Some(&estimate)).expect_err("a tenth of the GPU cannot hold it");
        assert!(error.starts_with("spec.engine.args[0]: --mem-fraction-static 0.1 is less than"), "{error}");
        let named = error.split("write ").nth(1).and_then(|rest| rest.split(' ').next()).expect("a number");
        assert_eq!(found(named, Some(&estimate)), Ok(()), "{named}");
        let below = thousandths(named).expect("a fraction") - 1;
        assert!(found(&written(below), Some(&estimate)).is_err(), "{below}");
        assert_eq!(found("0.1", None), Ok(()), "before the model is known");
        assert!(found("much", None).is_err(), "a word is none, whatever the model");
    }
}
