//! Kubernetes quantities of extended resources: whole numbers, in any of the notations that the API server accepts.

/// A whole number, such as `4`, `1k` or `1e3`; `None` if the text is not a quantity, or not a whole non-negative one.
///
/// The grammar is that of `k8s.io/apimachinery/pkg/api/resource`: digits with an optional fraction, then a decimal
/// suffix (n u m k M G T P E), a binary one (Ki to Ei) or a decimal exponent.
pub(super) fn whole(text: &str) -> Option<u64> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits_end);
    let (integer, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = integer.len() + fraction.len();
    if fraction.contains('.') || !(1..=20).contains(&digits) {
        return None;
    }
    let mantissa: u128 = format!("{integer}{fraction}").parse().ok()?;
    let (multiplier, exponent): (u128, i32) = match suffix {
        "" => (1, 0),
        "n" => (1, -9),
        "u" => (1, -6),
        "m" => (1, -3),
        "k" => (1, 3),
        "M" => (1, 6),
        "G" => (1, 9),
        "T" => (1, 12),
        "P" => (1, 15),
        "E" => (1, 18),
        "Ki" => (1 << 10, 0),
        "Mi" => (1 << 20, 0),
        "Gi" => (1 << 30, 0),
        "Ti" => (1 << 40, 0),
        "Pi" => (1 << 50, 0),
        "Ei" => (1 << 60, 0),
        _ => (1, suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    let scaled = mantissa.checked_mul(multiplier)?;
    let shift = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let power = 10_u128.checked_pow(shift.unsigned_abs());
    let value = match power {
        Some(power) if shift >= 0 => scaled.checked_mul(power)?,
        Some(power) if scaled % power == 0 => scaled / power,
        // A power that does not fit: zero stays zero whatever it is multiplied with.
        None if scaled == 0 => 0,
        _ => return None,
    };
    u64::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_the_api_server_does() {
        for (text, expected) in [
            ("4", Some(4)),
            ("0", Some(0)),
            ("1k", Some(1000)),
            ("1e3", Some(1000)),
            ("1E3", Some(1000)),
            ("2Ki", Some(2048)),
            ("4000m", Some(4)),
            ("1.5k", Some(1500)),
            ("4.0", Some(4)),
            (".5k", Some(500)),
            ("1E", Some(1_000_000_000_000_000_000)),
            ("0e99", Some(0)),
            ("1500m", None),
            ("0.5", None),
            ("-1", None),
            ("+", None),
            ("", None),
            (".", None),
            ("four", None),
            (" 4", None),
            ("4 ", None),
            ("4Q", None),
            ("1e", None),
            ("1e99", None),
            ("1e-99", None),
            ("1e2147483647", None),
            ("1e-2147483648", None),
            ("1..2", None),
            ("99999999999999999999", None),
            ("999999999999999999999999", None),
            ("20Ei", None),
        ] {
            assert_eq!(whole(text), expected, "{text:?}");
        }
    }
}
