//! Durations and names of objects, as flags have them.

use std::time::Duration;

/// `NAMESPACE/NAME`.
pub(super) fn qualified(text: &str) -> Result<(String, String), String> {
    let parts = text
        .split_once('/')
        .filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty() && !name.contains('/'));
    let (namespace, name) =
        parts.ok_or_else(|| format!("\"{}\" is not NAMESPACE/NAME", crate::units::shorten(text)))?;
    Ok((namespace.to_owned(), name.to_owned()))
}

/// Whole hours, minutes, seconds or milliseconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_hours(24);
    let wrong = || {
        format!(
            "\"{}\" is not a duration; write a whole number with a unit, such as 30s, 5m or 1h",
            crate::units::shorten(text)
        )
    };
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let milliseconds = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => return Err(wrong()),
    };
    milliseconds
        .map(Duration::from_millis)
        .filter(|duration| *duration <= LONGEST)
        .ok_or_else(|| format!("\"{}\" is too long; at most 24h", crate::units::shorten(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_whole_numbers_with_a_unit() {
        for (text, seconds) in [("0s", 0), ("30s", 30), ("5m", 300), ("24h", 86400)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for text in ["", "s", "5", "-5s", "1.5h", "5 m", "5d", "25h", "99999999999999999999s"] {
            let error = duration(text).unwrap_err();
            assert!(
                error.contains(text) && (error.contains("such as") || error.contains("at most")),
                "{error}"
            );
        }
    }
}
