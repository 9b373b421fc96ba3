//! A GPU as a flag names it: by its memory, or by its name.

use std::str::FromStr;

use crate::units::{Bytes, GIB, shorten};

/// Memory in MiB by name, as the driver reports it and GPU Feature Discovery labels it (`nvidia-smi --query-gpu=memory.total`):
/// less than the number on the box for most.
const KNOWN: &[(&str, u64)] = &[
    ("T4", 15360),
    ("L4", 23034),
    ("A10", 23028),
    ("A10G", 23028),
    ("L40S", 46068),
    ("A100-40GB", 40960),
    ("A100-80GB", 81920),
    ("H100", 81559),
    ("H200", 143_771),
    ("B200", 183_359),
    ("RTX-3090", 24576),
    ("RTX-4060", 8188),
    ("RTX-4090", 24564),
];

/// The same bound that the inventory has: a number of MiB beyond it must be bytes.
const MOST_MIB: u64 = 1 << 20;

/// A GPU to be fitted on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gpu {
    /// Its name, if it was named.
    pub(super) name: Option<&'static str>,
    /// Its memory.
    pub(super) memory: Bytes,
}

impl FromStr for Gpu {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || {
            let names: Vec<&str> = KNOWN.iter().map(|(name, _)| *name).collect();
            format!(
                "\"{}\" is not a GPU: write its memory in MiB, such as 23034, or with GiB, such as 24GiB, or one of {}",
                shorten(text),
                names.join(", ")
            )
        };
        let trimmed = text.trim();
        let memory = if let Some(gib) = trimmed.strip_suffix("GiB") {
            gib.trim().parse::<u64>().ok().and_then(|gib| gib.checked_mul(GIB)).map(Bytes)
        } else {
            trimmed.parse::<u64>().ok().and_then(Bytes::from_mib)
        };
        match memory {
            Some(memory) if (1..=MOST_MIB).contains(&memory.mib_ceil()) => Ok(Self { name: None, memory }),
            Some(_) => Err(format!(
                "\"{}\" is not the memory of a GPU: it must be from 1 to {MOST_MIB} MiB",
                shorten(text)
            )),
            None => {
                let wanted = plain(trimmed);
                let found = KNOWN
                    .iter()
                    .find(|(name, _)| plain(name) == wanted || plain(name) == format!("{wanted}gb"));
                let (name, mib) = found.ok_or_else(unknown)?;
                Ok(Self { name: Some(name), memory: Bytes::from_mib(*mib).ok_or_else(unknown)? })
            }
        }
    }
}

/// A name without what the same GPU is called with and without.
fn plain(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    let words = name.split(['-', ' ', '_']).filter(|word| !matches!(*word, "nvidia" | "tesla" | "geforce"));
    words.collect()
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
        ] {
            assert_eq!(text.parse::<Gpu>().map(|gpu| Some(gpu.memory)), Ok(Bytes::from_mib(mib)), "{text}");
        }
        for text in ["", "0", "-1", "A100", "24GB", "1e30", "99999999999999999999", "25769803776", "0GiB"] {
            let error = text.parse::<Gpu>().expect_err(text);
            assert!(error.contains(text) && (error.contains("MiB")), "{error}");
        }
    }
}
