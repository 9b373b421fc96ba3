//! The fraction of a GPU that vLLM plans with: enough for the estimate on the smallest GPU that may be picked.

use super::arguments::flags;
use crate::precision::Engine;
use crate::refusal::Refusal;
use crate::units::{Margin, shorten};

/// `--gpu-memory-utilization`, untold (vLLM 0.19).
pub(crate) const DEFAULT: u64 = 900;
/// The flag that tells it.
pub(crate) const FLAG: &str = "--gpu-memory-utilization";
/// What CUDA sees of a GPU, in thousandths of what the label says: 14.56 GiB of a T4's 15, 79.1 of an H100's 79.65.
const VISIBLE: u64 = 970;
/// The context stays outside of what vLLM plans with, and needs some of the GPU.
const MOST: u64 = 970;

/// The thousandths that the estimate needs: the smallest GPU is `margin` times as large, and not all of it is visible.
pub(crate) fn needed(margin: Margin) -> u64 {
    (1_000_000_000 / (u64::from(margin.thousandths()) * VISIBLE)).saturating_add(1).min(MOST)
}

/// A fraction as vLLM takes it.
pub(crate) fn written(thousandths: u64) -> String {
    format!("0.{thousandths:03}")
}

/// Refuses a fraction that is none, or less than the estimate needs.
pub(crate) fn check(engine: Engine, arguments: &[String], margin: Margin) -> Result<(), Refusal> {
    // The last one counts.
    let Some(flag) = flags(arguments).filter(|flag| engine == Engine::Vllm && flag.name == FLAG).last()
    else {
        return Ok(());
    };
    let text = flag.value.unwrap_or_default();
    let field = format!("engine.args[{}]", flag.at);
    match thousandths(text) {
        None => Err(Refusal::invalid(
            field,
            format!("{FLAG} has \"{}\", which is not a fraction", shorten(text)),
            "write a decimal from 0.1 to 1.0, such as 0.9",
        )),
        Some(told) if told < needed(margin) => Err(Refusal::invalid(
            field,
            format!(
                "{FLAG} {} is less than what was estimated, on the smallest GPU that may be picked",
                shorten(text)
            ),
            format!("write {} or more, or leave it out", written(needed(margin))),
        )),
        Some(_) => Ok(()),
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
            let arguments = [FLAG.to_owned(), value.to_owned()];
            let margin = margin.parse().expect("a margin");
            let found = check(Engine::Vllm, &arguments, margin).map_err(|error| error.to_string());
            match refused {
                None => assert_eq!(found, Ok(()), "{value}"),
                Some(part) => assert!(found.expect_err("refused").contains(part), "{value}"),
            }
            assert_eq!(check(Engine::Sglang, &arguments, margin), Ok(()), "no flag of its");
        }
    }
}
