//! Kubernetes quantities, in any of the notations that the API server accepts, as whole numbers.

/// What becomes of a fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rounding {
    /// There must be none.
    Exact,
    /// The next whole number: what is requested.
    Up,
    /// None of it counts: what there is.
    Down,
}

/// A whole number, such as `4`, `1k` or `1e3`; `None` if the text is not a quantity, or not a whole non-negative one.
pub(super) fn whole(text: &str) -> Option<u64> {
    read(text, 0, Rounding::Exact)
}

/// A quantity times ten to some power, such as 500 for `0.5` and 3; `None` if the text is not a non-negative quantity.
///
/// The grammar is that of `k8s.io/apimachinery/pkg/api/resource`: digits with an optional fraction, then a decimal
/// suffix (n u m k M G T P E), a binary one (Ki to Ei) or a decimal exponent.
pub(super) fn read(text: &str, power_of_ten: i32, rounding: Rounding) -> Option<u64> {
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
    let shift = exponent.checked_add(power_of_ten)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let power = 10_u128.checked_pow(shift.unsigned_abs());
    let value = match power {
        Some(power) if shift >= 0 => scaled.checked_mul(power)?,
        Some(power) if scaled % power == 0 => scaled / power,
        // A power that does not fit: zero stays zero whatever it is multiplied with.
        None if scaled == 0 => 0,
        Some(power) if rounding != Rounding::Exact => scaled / power + u128::from(rounding == Rounding::Up),
        None if shift < 0 && rounding != Rounding::Exact => u128::from(rounding == Rounding::Up),
        _ => return None,
    };
    u64::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};

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

    #[test]
    fn what_is_requested_is_rounded_up_and_what_there_is_down() {
        for (text, power, up, down) in [
            ("500m", 3, Some(500), Some(500)),
            ("2", 3, Some(2000), Some(2000)),
            ("0.0001", 3, Some(1), Some(0)),
            ("1500u", 3, Some(2), Some(1)),
            ("1n", 0, Some(1), Some(0)),
            ("1e-99", 0, Some(1), Some(0)),
            ("0e-99", 0, Some(0), Some(0)),
            ("1.5Gi", 0, Some(1_610_612_736), Some(1_610_612_736)),
            ("0.3Ki", 0, Some(308), Some(307)),
            ("20E", 3, None, None),
            ("-500m", 3, None, None),
            ("two", 3, None, None),
        ] {
            assert_eq!(
                (read(text, power, Rounding::Up), read(text, power, Rounding::Down)),
                (up, down),
                "{text}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::default())]

        #[test]
        fn a_whole_number_is_read_as_itself_in_every_notation(number in any::<u64>(), small in 0_u64..1_000_000) {
            prop_assert_eq!(whole(&number.to_string()), Some(number));
            prop_assert_eq!(whole(&format!("{small}k")), Some(small * 1000));
            prop_assert_eq!(whole(&format!("{small}e3")), Some(small * 1000));
            prop_assert_eq!(whole(&format!("{small}000m")), Some(small));
            prop_assert_eq!(whole(&format!("{small}Mi")), Some(small << 20));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9.]{0,24}[-+eEkKMGTPinum0-9]{0,6}", any_text in any::<String>()) {
            for text in [text, any_text] {
                let signed = text.starts_with(['-', '+']);
                prop_assert!(!(signed && whole(&text).is_some()), "{}", text);
            }
        }
    }
}
