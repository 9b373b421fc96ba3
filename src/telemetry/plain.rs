//! The text format of Prometheus, for readers that prefer it to OpenMetrics.

use std::fmt::{self, Write};

/// The media type of OpenMetrics.
pub(super) const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The media type of Prometheus' own format.
pub(super) const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whether a reader takes plain text rather than OpenMetrics, by its `Accept` header (RFC 9110, 12.5.1).
pub(super) fn is_wanted(accept: Option<&str>) -> bool {
    let Some(accept) = accept else { return false };
    // Thousandths, so that no float is needed: what is not named is not wanted.
    let quality = |kind: &str| {
        accept
            .split(',')
            .filter_map(|range| {
                let mut parts = range.split(';').map(str::trim);
                let named = parts.next()?.eq_ignore_ascii_case(kind);
                let quality = parts.find_map(|part| part.strip_prefix("q=")).map_or(1000, thousandths);
                named.then_some(quality)
            })
            .max()
    };
    let plain = quality("text/plain").or_else(|| quality("text/*")).unwrap_or(0);
    let open = quality("application/openmetrics-text").unwrap_or(0);
    plain > open
}

/// `0.75` as 750.
fn thousandths(text: &str) -> u32 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction.chars().chain("000".chars()).take(3).collect();
    let number = |digits: &str| digits.parse::<u32>().unwrap_or(0);
    number(whole).saturating_mul(1000).saturating_add(number(&digits)).min(1000)
}

/// What OpenMetrics says, in Prometheus' own format: a counter's samples carry the family's name there.
///
/// # Errors
/// None that a `String` has.
pub(super) fn of(openmetrics: &str) -> Result<String, fmt::Error> {
    let mut text = String::with_capacity(openmetrics.len());
    let mut help = None;
    for line in openmetrics.lines() {
        if let Some(said) = line.strip_prefix("# HELP ") {
            help = said.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|said| said.split_once(' '))
        {
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some((_, words)) = help.take() {
                writeln!(text, "# HELP {name}{suffix} {words}")?;
            }
            let kind = if kind == "unknown" { "untyped" } else { kind };
            writeln!(text, "# TYPE {name}{suffix} {kind}")?;
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::{is_wanted, of};

    #[test]
    fn the_header_says_which() {
        for (accept, plain) in [
            (None, false),
            (Some("*/*"), false),
            (Some("text/plain"), true),
            (Some("text/plain;version=0.0.4"), true),
            (Some("application/openmetrics-text"), false),
            // As Prometheus 3 asks.
            (
                Some(
                    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                ),
                false,
            ),
            (Some("application/openmetrics-text;q=0.2, text/plain;q=0.75"), true),
            (Some("application/openmetrics-text;q=0, text/*"), true),
            (Some("text/html"), false),
        ] {
            assert_eq!(is_wanted(accept), plain, "{accept:?}");
        }
    }

    #[test]
    fn counters_are_called_as_their_samples_are() {
        let openmetrics = "# HELP a_b Things.\n# TYPE a_b counter\na_b_total{c=\"d\"} 1\n# HELP e How many.\n# TYPE e gauge\n# UNIT e bytes\ne 2\n# EOF\n";
        let plain = "# HELP a_b_total Things.\n# TYPE a_b_total counter\na_b_total{c=\"d\"} 1\n# HELP e How many.\n# TYPE e gauge\ne 2\n";
        assert_eq!(of(openmetrics).unwrap(), plain);
    }
}
