//! A GPU as a user names it: by its memory, or by its name.

use std::str::FromStr;

use crate::inventory::cards;
use crate::units::{Bytes, GIB, MIB, shorten};

pub(crate) use cards::{CARDS, Card, ladder};

/// Less is a number of GiB that lacks its unit.
const LEAST_MIB: u64 = 1024;
/// The same bound that the inventory has: a number of MiB beyond it must be bytes.
const MOST_MIB: u64 = 1 << 20;

/// A GPU to be fitted on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gpu {
    /// Its name, if it was named.
    pub(crate) name: Option<&'static str>,
    /// Its memory.
    pub(crate) memory: Bytes,
}

impl FromStr for Gpu {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let trimmed = text.trim();
        if let Some(memory) = memory(trimmed) {
            return match memory {
                Some(memory) if (LEAST_MIB..=MOST_MIB).contains(&memory.mib_ceil()) => {
                    Ok(Self { name: None, memory })
                }
                Some(few) if (1..LEAST_MIB).contains(&few.mib_ceil()) => Err(format!(
                    "\"{}\" is {} MiB, less than any GPU has: write {}GiB for so many GiB",
                    shorten(text),
                    few.mib_ceil(),
                    few.mib_ceil()
                )),
                _ => Err(format!(
                    "\"{}\" is not the memory of a GPU: it must be from {LEAST_MIB} to {MOST_MIB} MiB",
                    shorten(text)
                )),
            };
        }
        match cards::named(trimmed).as_slice() {
            [card] => Ok(Self::from(*card)),
            [] => Err(unknown(text)),
            several => Err(format!(
                "\"{}\" is sold with more than one memory: write {}",
                shorten(text),
                several.iter().map(|card| card.name).collect::<Vec<_>>().join(" or ")
            )),
        }
    }
}

impl From<&Card> for Gpu {
    fn from(card: &Card) -> Self {
        Self { name: Some(card.name), memory: card.memory() }
    }
}

impl Card {
    /// Its memory.
    pub(crate) const fn memory(&self) -> Bytes {
        Bytes(self.mib * MIB)
    }
}

/// What a text says in numbers: nothing if it is no number, `Some(None)` if the number is beyond all bounds.
// The outer answers "is it an amount", the inner "is it one that can be held".
#[expect(clippy::option_option)]
fn memory(text: &str) -> Option<Option<Bytes>> {
    let lower = text.to_ascii_lowercase();
    let unit = [("gib", GIB), ("gi", GIB), ("mib", MIB), ("mi", MIB), ("", MIB)]
        .into_iter()
        .find_map(|(unit, bytes)| Some((lower.strip_suffix(unit)?.trim(), bytes)));
    let (digits, bytes) = unit?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // A number of four digits may be a name: 4090. Memory of so few MiB is none that GPUs have had for a decade.
    if digits.len() == text.len() && !cards::named(digits).is_empty() {
        return None;
    }
    Some(digits.parse::<u64>().ok().and_then(|number| number.checked_mul(bytes)).map(Bytes))
}

fn unknown(text: &str) -> String {
    let gb = text.trim().to_ascii_lowercase();
    if let Some(number) = gb.strip_suffix("gb").or_else(|| gb.strip_suffix('g')).map(str::trim)
        && number.parse::<u64>().is_ok()
    {
        return format!(
            "\"{}\" may mean GB or GiB, and most cards have less than is on the box: write {number}GiB, its name (--list-gpus), or its memory in MiB",
            shorten(text)
        );
    }
    let near = crate::spelling::nearest(text, CARDS.iter().map(|card| card.name));
    let near = near.map_or_else(String::new, |near| format!("did you mean {near}? "));
    format!(
        "\"{}\" is not a GPU: {near}write a name that --list-gpus lists, or its memory in MiB, such as 23034, or with GiB, such as 24GiB",
        shorten(text)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_are_known_by_memory_and_name() {
        for (text, mib) in [
            ("23034", 23034),
            ("24GiB", 24576),
            ("24 GiB", 24576),
            ("L4", 23034),
            ("l4", 23034),
            ("NVIDIA-L4", 23034),
            ("Tesla-T4", 15360),
            ("NVIDIA GeForce RTX 4090", 24564),
            ("a100-80", 81920),
            ("A100-40GB", 40960),
            ("4090", 24564),
            ("4091", 4091),
            ("80Gi", 81920),
            ("80 gib", 81920),
            ("24576MiB", 24576),
            ("24576 Mi", 24576),
        ] {
            assert_eq!(text.parse::<Gpu>().map(|gpu| Some(gpu.memory)), Ok(Bytes::from_mib(mib)), "{text}");
        }
        for text in ["", "0", "-1", "24GB", "1e30", "99999999999999999999", "25769803776", "0GiB", "1.5GiB"] {
            let error = text.parse::<Gpu>().expect_err(text);
            assert!(error.contains(text) && (error.contains("MiB")), "{error}");
        }
    }

    #[test]
    fn what_was_probably_meant_is_said() {
        for (text, expected) in [
            ("80", &["\"80\" is 80 MiB", "write 80GiB"][..]),
            ("A100", &["\"A100\"", "write A100-40GB or A100-80GB"]),
            ("L40X", &["\"L40X\"", "did you mean L40? ", "--list-gpus"]),
            ("H100,A100", &["--list-gpus"]),
        ] {
            let error = text.parse::<Gpu>().expect_err(text);
            for part in expected {
                assert!(error.contains(part), "{text}: {error}");
            }
        }
    }
}
