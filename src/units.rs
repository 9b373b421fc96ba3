//! Quantities: bytes of memory, parameter counts and the safety margin.
//!
//! Memory is an integer number of bytes with checked arithmetic; floats appear only in printing.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// One mebibyte, the unit of NVIDIA's memory label.
pub const MIB: u64 = 1 << 20;
/// One gibibyte.
pub const GIB: u64 = 1 << 30;

/// An amount of memory, in bytes.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(transparent)]
pub struct Bytes(pub u64);

/// A sum or product of memory that does not fit in 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the result is larger than 2^64 bytes; no model or GPU is")]
pub struct Overflow;

impl Bytes {
    /// No memory.
    pub const ZERO: Self = Self(0);

    /// A whole number of MiB.
    #[must_use]
    pub const fn from_mib(mib: u64) -> Option<Self> {
        match mib.checked_mul(MIB) {
            Some(bytes) => Some(Self(bytes)),
            None => None,
        }
    }

    /// The whole MiB that hold this much: rounded up, so that a threshold made of it is never too small.
    #[must_use]
    pub const fn mib_ceil(self) -> u64 {
        self.0.div_ceil(MIB)
    }

    /// The sum.
    pub const fn plus(self, other: Self) -> Result<Self, Overflow> {
        match self.0.checked_add(other.0) {
            Some(sum) => Ok(Self(sum)),
            None => Err(Overflow),
        }
    }

    /// The product.
    pub const fn times(self, factor: u64) -> Result<Self, Overflow> {
        match self.0.checked_mul(factor) {
            Some(product) => Ok(Self(product)),
            None => Err(Overflow),
        }
    }

    /// An even share, rounded up.
    #[must_use]
    pub const fn share_of(self, parts: u64) -> Self {
        Self(self.0.div_ceil(if parts == 0 { 1 } else { parts }))
    }

    /// `self × numerator / denominator`, rounded up.
    pub fn scaled(self, numerator: u64, denominator: u64) -> Result<Self, Overflow> {
        let product = u128::from(self.0) * u128::from(numerator);
        u64::try_from(product.div_ceil(u128::from(denominator.max(1)))).map(Self).map_err(|_| Overflow)
    }

    /// GiB with one decimal, rounded to the nearest.
    #[must_use]
    pub fn gib(self) -> String {
        // Integers all the way: tenths of a GiB.
        let tenths = (u128::from(self.0) * 10 + u128::from(GIB) / 2) / u128::from(GIB);
        format!("{}.{}", tenths / 10, tenths % 10)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 || self.0 >= GIB / 10 {
            write!(f, "{} GiB", self.gib())
        } else if self.0 >= MIB {
            write!(f, "{} MiB", self.0.div_ceil(MIB))
        } else {
            write!(f, "{} B", self.0)
        }
    }
}

/// The largest parameter count that is believed: a thousand times the largest open model.
pub const MAX_PARAMETERS: u64 = 10_u64.pow(15);

/// A number of model parameters, written `8B`, `1.2B`, `500M` or `8030261248`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Parameters(pub u64);

/// Why a parameter count could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ParametersError {
    /// Not a number followed by an optional K, M, B or T.
    #[error(
        "\"{0}\" is not a parameter count; write a number with an optional suffix K, M, B or T, such as 8B, 1.2B, 500M or 8030261248"
    )]
    Syntax(String),
    /// Zero, or a fraction of one parameter.
    #[error("\"{0}\" is not a parameter count: it must be a whole number of at least 1, such as 8B")]
    NotPositive(String),
    /// More than [`MAX_PARAMETERS`].
    #[error("\"{0}\" parameters is more than any model has (at most 1000T)")]
    TooLarge(String),
}

impl FromStr for Parameters {
    type Err = ParametersError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let syntax = || ParametersError::Syntax(shorten(text));
        let trimmed = text.trim();
        let (digits, exponent) = match trimmed.char_indices().last() {
            Some((at, 'k' | 'K')) => (&trimmed[..at], 3),
            Some((at, 'm' | 'M')) => (&trimmed[..at], 6),
            Some((at, 'b' | 'B')) => (&trimmed[..at], 9),
            Some((at, 't' | 'T')) => (&trimmed[..at], 12),
            Some(_) => (trimmed, 0),
            None => return Err(syntax()),
        };
        let (mantissa, places) = decimal(digits).ok_or_else(syntax)?;
        let too_large = || ParametersError::TooLarge(shorten(text));
        let scaled = mantissa.checked_mul(10_u128.pow(exponent)).ok_or_else(too_large)?;
        let divisor = 10_u128.pow(places);
        if scaled % divisor != 0 || scaled == 0 {
            return Err(ParametersError::NotPositive(shorten(text)));
        }
        match u64::try_from(scaled / divisor) {
            Ok(count) if count <= MAX_PARAMETERS => Ok(Self(count)),
            _ => Err(too_large()),
        }
    }
}

impl fmt::Display for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, suffix) = match self.0 {
            count if count >= 10_u64.pow(12) => (10_u64.pow(12), "T"),
            count if count >= 10_u64.pow(9) => (10_u64.pow(9), "B"),
            count if count >= 10_u64.pow(6) => (10_u64.pow(6), "M"),
            count => return write!(f, "{count}"),
        };
        let hundredths = (u128::from(self.0) * 100 + u128::from(unit) / 2) / u128::from(unit);
        let (whole, fraction) = (hundredths / 100, hundredths % 100);
        match (fraction, fraction % 10) {
            (0, _) => write!(f, "{whole}{suffix}"),
            (_, 0) => write!(f, "{whole}.{}{suffix}", fraction / 10),
            _ => write!(f, "{whole}.{fraction:02}{suffix}"),
        }
    }
}

/// The factor by which a GPU must be larger than the estimate, in thousandths: `1.2` is 1200.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Margin(u32);

/// Why a safety margin could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "safety margin \"{0}\" must be a decimal number from 1.0 to 10.0 with at most three decimals, such as 1.2"
)]
pub struct MarginError(String);

impl Margin {
    /// The seed rule: a GPU of at least 1.2 times the estimate.
    pub const DEFAULT: Self = Self(1200);

    /// A margin of so many thousandths, from 1000 to 10000.
    #[must_use]
    pub fn from_thousandths(thousandths: u32) -> Option<Self> {
        (1000..=10_000).contains(&thousandths).then_some(Self(thousandths))
    }

    /// The margin in thousandths.
    #[must_use]
    pub const fn thousandths(self) -> u32 {
        self.0
    }

    /// The memory a GPU must have for an estimate of so much, rounded up.
    pub fn apply(self, estimate: Bytes) -> Result<Bytes, Overflow> {
        estimate.scaled(u64::from(self.0), 1000)
    }
}

impl Default for Margin {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl FromStr for Margin {
    type Err = MarginError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || MarginError(shorten(text));
        let (mantissa, places) = decimal(text.trim()).ok_or_else(error)?;
        let mantissa = u64::try_from(mantissa).map_err(|_| error())?;
        if places > 3 {
            return Err(error());
        }
        let thousandths = mantissa.checked_mul(10_u64.pow(3 - places)).ok_or_else(error)?;
        u32::try_from(thousandths).ok().and_then(Self::from_thousandths).ok_or_else(error)
    }
}

impl fmt::Display for Margin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fraction = format!("{:03}", self.0 % 1000);
        let fraction = fraction.trim_end_matches('0');
        write!(f, "{}.{}", self.0 / 1000, if fraction.is_empty() { "0" } else { fraction })
    }
}

/// A non-negative decimal number as an integer and its number of decimals; at most 20 digits.
fn decimal(text: &str) -> Option<(u128, u32)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let well_formed = !whole.is_empty() && !text.ends_with('.') && all_digits(whole) && all_digits(fraction);
    if !well_formed || whole.len() + fraction.len() > 20 {
        return None;
    }
    let mantissa = format!("{whole}{fraction}").parse().ok()?;
    Some((mantissa, u32::try_from(fraction.len()).ok()?))
}

/// A value as quoted in a message: a hostile one must not fill the screen or a status field.
#[must_use]
pub fn shorten(text: &str) -> String {
    const LONGEST: usize = 60;
    let printable: String =
        text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(LONGEST + 1).collect();
    if printable.chars().count() > LONGEST {
        printable.chars().take(LONGEST - 1).chain(['…']).collect()
    } else {
        printable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_in_every_notation() {
        for (text, expected) in [
            ("8B", 8_000_000_000),
            ("8b", 8_000_000_000),
            ("8030261248", 8_030_261_248),
            ("1.2B", 1_200_000_000),
            ("500M", 500_000_000),
            ("0.5B", 500_000_000),
            ("1T", 1_000_000_000_000),
            (" 7B ", 7_000_000_000),
        ] {
            assert_eq!(text.parse(), Ok(Parameters(expected)), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_parameter_count_says_what_would_be() {
        for text in [
            "",
            "8Q",
            "B",
            "-8B",
            "8 B B",
            "1e9",
            "NaN",
            "8..1B",
            "8.B",
            ".5B",
            "0",
            "0B",
            "0.0000000001B",
            "1001T",
            "99999999999999999999B",
            "9223372036854775808",
            "１B",
        ] {
            let error = text.parse::<Parameters>().expect_err(text).to_string();
            assert!(
                error.contains(text) && (error.contains("such as 8B") || error.contains("at most 1000T")),
                "{error}"
            );
        }
    }

    #[test]
    fn margins_below_one_or_not_decimal_are_refused() {
        for text in [
            "0.5",
            "0",
            "NaN",
            "1,2",
            "",
            "-1.2",
            "inf",
            "1.2x",
            "10.001",
            "1e1",
            "1.23456",
            "999999999999999999999",
        ] {
            assert!(text.parse::<Margin>().is_err(), "{text}");
        }
        for (text, shown) in [
            ("1", "1.0"),
            ("1.0", "1.0"),
            ("1.2", "1.2"),
            ("1.25", "1.25"),
            ("1.205", "1.205"),
            ("10", "10.0"),
        ] {
            assert_eq!(text.parse::<Margin>().map(|margin| margin.to_string()), Ok(shown.to_owned()));
        }
    }

    #[test]
    fn the_margin_rounds_up() {
        assert_eq!(Margin::DEFAULT.apply(Bytes(1)), Ok(Bytes(2)));
        assert_eq!(Margin::DEFAULT.apply(Bytes(10)), Ok(Bytes(12)));
        assert_eq!(Margin::DEFAULT.apply(Bytes(u64::MAX)), Err(Overflow));
    }

    #[test]
    fn memory_prints_in_the_unit_people_read() {
        for (bytes, shown) in [
            (0, "0.0 GiB"),
            (512, "512 B"),
            (5 * MIB, "5 MiB"),
            (GIB, "1.0 GiB"),
            (GIB * 178 / 10, "17.8 GiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), shown);
        }
        assert_eq!(Parameters(8_030_261_248).to_string(), "8.03B");
        assert_eq!(Parameters(500_000_000).to_string(), "500M");
        assert_eq!(Parameters(1_200_000_000).to_string(), "1.2B");
    }
}
