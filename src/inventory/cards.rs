//! The memory of GPUs by name: the one table for flags that name a GPU, for suggestions, and for nodes whose labels say what
//! their GPUs are and not how much memory they have.
//!
//! A figure is the total that the vendor's own tool prints (`nvidia-smi --query-gpu=memory.total`, `rocm-smi --showmeminfo vram`,
//! `hl-smi`), as it stands in public issue logs and machine listings; for NVIDIA that is also what GPU Feature Discovery writes
//! into `nvidia.com/gpu.memory`. It is less than the number on the box for most. Of a card whose error correction takes a part
//! (Turing Quadros, P40), the figure with it on counts: the smaller. Drivers before about 515 print less by what they reserve
//! (T4 15109, A100-40GB 39538).

use crate::units::Bytes;

/// What a figure may be off the card that it is of, in percent. Drivers reserve less or more than others did.
const TOLERANCE: u128 = 8;

/// A GPU that can be named.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Card {
    /// What it is called here.
    pub(crate) name: &'static str,
    /// What else it is called, where that differs by more than separators and the words that carry no meaning.
    pub(crate) aliases: &'static [&'static str],
    /// Memory in MiB.
    pub(crate) mib: u64,
    /// Whether it stands in comparisons and headlines: those that clusters are made of, and one desktop card per size.
    pub(crate) common: bool,
    /// Whether error correction takes a sixteenth of its memory and can be turned off.
    ecc_takes_part: bool,
    /// What GPU Feature Discovery calls it: NVML's name with `-` for spaces. None where one name is of cards with more than
    /// one memory.
    products: &'static [&'static str],
}

const fn common(name: &'static str, aliases: &'static [&'static str], mib: u64) -> Card {
    Card { common: true, ..other(name, aliases, mib) }
}

const fn other(name: &'static str, aliases: &'static [&'static str], mib: u64) -> Card {
    Card { name, aliases, mib, common: false, ecc_takes_part: false, products: &[] }
}

impl Card {
    const fn products(self, products: &'static [&'static str]) -> Self {
        Self { products, ..self }
    }

    /// The figure is the one with error correction on.
    const fn ecc(self) -> Self {
        Self { ecc_takes_part: true, ..self }
    }

    /// The most that one of them reports: what it has with error correction off.
    pub(crate) const fn most_mib(&self) -> u64 {
        if self.ecc_takes_part { (self.mib * 16).div_ceil(15) } else { self.mib }
    }

    /// Whether a figure is further off this card than a driver's share and error correction can make it.
    pub(crate) const fn is_far(&self, figure: Bytes) -> bool {
        let (mib, less, more) = (figure.mib_ceil() as u128, 100 - TOLERANCE, 100 + TOLERANCE);
        mib * 100 < self.mib as u128 * less || mib * 100 > self.most_mib() as u128 * more
    }
}

/// The card that GPU Feature Discovery calls so, if its memory is one.
pub(crate) fn by_product(product: &str) -> Option<&'static Card> {
    CARDS.iter().find(|card| card.products.contains(&product))
}

/// The card of a name in this table.
pub(crate) fn by_name(name: &str) -> Option<&'static Card> {
    CARDS.iter().find(|card| card.name == name)
}

/// What GPU Feature Discovery calls the cards of which this is true.
pub(crate) fn products_of(is: impl Fn(&Card) -> bool) -> impl Iterator<Item = &'static str> {
    CARDS.iter().filter(move |card| is(card)).flat_map(|card| card.products.iter().copied())
}

/// Every card, by vendor and line.
pub(crate) const CARDS: &[Card] = &[
    // NVIDIA, data centre.
    other("P40", &[], 23_040).ecc().products(&["Tesla-P40"]),
    other("P100-16GB", &["P100"], 16_384).products(&["Tesla-P100-PCIE-16GB", "Tesla-P100-SXM2-16GB"]),
    other("V100-16GB", &[], 16_384).products(&["Tesla-V100-PCIE-16GB", "Tesla-V100-SXM2-16GB"]),
    other("V100-32GB", &[], 32_768).products(&[
        "Tesla-V100-PCIE-32GB",
        "Tesla-V100-SXM2-32GB",
        "Tesla-V100-SXM3-32GB",
    ]),
    common("T4", &[], 15_360).ecc().products(&["Tesla-T4"]),
    other("A2", &[], 15_356).ecc().products(&["NVIDIA-A2"]),
    common("A10", &[], 23_028).ecc().products(&["NVIDIA-A10"]),
    other("A10G", &[], 23_028).ecc().products(&["NVIDIA-A10G"]),
    other("A16", &[], 15_356).ecc().products(&["NVIDIA-A16"]),
    other("A30", &[], 24_576).products(&["NVIDIA-A30"]),
    other("A40", &[], 46_068).ecc().products(&["NVIDIA-A40"]),
    common("A100-40GB", &[], 40_960).products(&[
        "NVIDIA-A100-SXM4-40GB",
        "NVIDIA-A100-PCIE-40GB",
        "A100-SXM4-40GB",
        "A100-PCIE-40GB",
    ]),
    common("A100-80GB", &[], 81_920).products(&[
        "NVIDIA-A100-SXM4-80GB",
        "NVIDIA-A100-80GB-PCIe",
        "A100-SXM4-80GB",
    ]),
    other("A800-80GB", &[], 81_920).products(&["NVIDIA-A800-SXM4-80GB", "NVIDIA-A800-80GB-PCIe"]),
    common("L4", &[], 23_034).ecc().products(&["NVIDIA-L4"]),
    other("L40", &[], 46_068).ecc().products(&["NVIDIA-L40"]),
    common("L40S", &[], 46_068).ecc().products(&["NVIDIA-L40S"]),
    common("H100", &["H100-80GB"], 81_559).products(&["NVIDIA-H100-80GB-HBM3", "NVIDIA-H100-PCIe"]),
    other("H100-NVL", &["H100-94GB"], 95_830).products(&["NVIDIA-H100-NVL"]),
    other("H800", &["H800-80GB"], 81_559).products(&["NVIDIA-H800", "NVIDIA-H800-PCIe"]),
    other("H20", &["H20-96GB"], 97_871).products(&["NVIDIA-H20"]),
    common("H200", &["H200-141GB", "H200-NVL"], 143_771).products(&["NVIDIA-H200", "NVIDIA-H200-NVL"]),
    other("GH200-96GB", &["GH200", "GH200-480GB", "GH200-120GB"], 97_871)
        .products(&["NVIDIA-GH200-480GB", "NVIDIA-GH200-120GB"]),
    common("B200", &["B200-180GB"], 183_359).products(&["NVIDIA-B200"]),
    other("GB200", &[], 189_471).products(&["NVIDIA-GB200"]),
    common("B300", &[], 275_040).products(&["NVIDIA-B300-SXM6-AC"]),
    other("GB300", &[], 284_208).products(&["NVIDIA-GB300"]),
    // NVIDIA, workstation.
    other("Quadro-RTX-6000", &[], 23_040).ecc().products(&["Quadro-RTX-6000"]),
    other("Quadro-RTX-8000", &[], 46_080).ecc().products(&["Quadro-RTX-8000"]),
    other("RTX-A2000-12GB", &[], 12_282),
    other("RTX-A4000", &[], 16_376).products(&["NVIDIA-RTX-A4000"]),
    other("RTX-A4500", &[], 20_470).products(&["NVIDIA-RTX-A4500"]),
    other("RTX-A5000", &[], 24_564).products(&["NVIDIA-RTX-A5000"]),
    other("RTX-A6000", &[], 49_140).products(&["NVIDIA-RTX-A6000"]),
    other("RTX-2000-Ada", &[], 16_380),
    other("RTX-4000-Ada", &["RTX-4000-SFF-Ada"], 20_475)
        .products(&["NVIDIA-RTX-4000-Ada-Generation", "NVIDIA-RTX-4000-SFF-Ada-Generation"]),
    other("RTX-4500-Ada", &[], 24_570).products(&["NVIDIA-RTX-4500-Ada-Generation"]),
    other("RTX-5000-Ada", &[], 32_760).products(&["NVIDIA-RTX-5000-Ada-Generation"]),
    common("RTX-6000-Ada", &[], 49_140).products(&["NVIDIA-RTX-6000-Ada-Generation"]),
    other("RTX-PRO-4000", &[], 24_467),
    other("RTX-PRO-4500", &[], 32_623),
    other("RTX-PRO-5000", &[], 48_935),
    common("RTX-PRO-6000", &["RTX-PRO-6000-Max-Q"], 97_887).products(&[
        "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition",
        "NVIDIA-RTX-PRO-6000-Blackwell-Workstation-Edition",
        "NVIDIA-RTX-PRO-6000-Blackwell-Max-Q-Workstation-Edition",
    ]),
    // NVIDIA, desktop.
    other("GTX-1080-Ti", &[], 11_264).products(&["GeForce-GTX-1080-Ti", "NVIDIA-GeForce-GTX-1080-Ti"]),
    other("RTX-2080-Ti", &[], 11_264).products(&["GeForce-RTX-2080-Ti", "NVIDIA-GeForce-RTX-2080-Ti"]),
    other("TITAN-RTX", &[], 24_576).products(&["TITAN-RTX", "NVIDIA-TITAN-RTX"]),
    common("RTX-3060", &["RTX-3060-12GB"], 12_288),
    other("RTX-3060-Ti", &[], 8192).products(&["NVIDIA-GeForce-RTX-3060-Ti"]),
    other("RTX-3070", &[], 8192).products(&["NVIDIA-GeForce-RTX-3070"]),
    other("RTX-3080", &["RTX-3080-10GB"], 10_240),
    other("RTX-3080-Ti", &[], 12_288).products(&["NVIDIA-GeForce-RTX-3080-Ti"]),
    common("RTX-3090", &[], 24_576).products(&["NVIDIA-GeForce-RTX-3090"]),
    other("RTX-3090-Ti", &[], 24_564).products(&["NVIDIA-GeForce-RTX-3090-Ti"]),
    common("RTX-4060", &[], 8188).products(&["NVIDIA-GeForce-RTX-4060"]),
    other("RTX-4060-Ti-8GB", &[], 8188),
    other("RTX-4060-Ti-16GB", &[], 16_380),
    other("RTX-4070", &[], 12_282).products(&["NVIDIA-GeForce-RTX-4070"]),
    other("RTX-4070-SUPER", &[], 12_282).products(&["NVIDIA-GeForce-RTX-4070-SUPER"]),
    other("RTX-4070-Ti", &[], 12_282).products(&["NVIDIA-GeForce-RTX-4070-Ti"]),
    other("RTX-4070-Ti-SUPER", &[], 16_376).products(&["NVIDIA-GeForce-RTX-4070-Ti-SUPER"]),
    other("RTX-4080", &[], 16_376).products(&["NVIDIA-GeForce-RTX-4080"]),
    other("RTX-4080-SUPER", &[], 16_376).products(&["NVIDIA-GeForce-RTX-4080-SUPER"]),
    common("RTX-4090", &[], 24_564).products(&["NVIDIA-GeForce-RTX-4090"]),
    other("RTX-4090-D", &[], 24_564).products(&["NVIDIA-GeForce-RTX-4090-D"]),
    other("RTX-5060", &[], 8151),
    other("RTX-5060-Ti-16GB", &[], 16_311),
    other("RTX-5070", &[], 12_227).products(&["NVIDIA-GeForce-RTX-5070"]),
    other("RTX-5070-Ti", &[], 16_303).products(&["NVIDIA-GeForce-RTX-5070-Ti"]),
    other("RTX-5080", &[], 16_303).products(&["NVIDIA-GeForce-RTX-5080"]),
    common("RTX-5090", &[], 32_607).products(&["NVIDIA-GeForce-RTX-5090"]),
    // AMD. Of the MI250 each half is a GPU of its own. The tool's figure is the round one less 16 MiB.
    other("MI210", &[], 65_520),
    other("MI250", &["MI250X"], 65_520),
    common("MI300X", &[], 196_592),
    other("MI325X", &[], 262_128),
    other("MI355X", &["MI350X"], 294_896),
    // Intel.
    other("Gaudi2", &["HL-225"], 98_304),
    other("Gaudi3", &["HL-325", "HL-325L"], 131_072),
];

/// Words that the same card is called with and without.
const EMPTY: &[&str] = &[
    "nvidia",
    "tesla",
    "geforce",
    "amd",
    "instinct",
    "intel",
    "habana",
    "sxm",
    "sxm2",
    "sxm3",
    "sxm4",
    "sxm5",
    "sxm6",
    "pcie",
    "oam",
    "hbm2",
    "hbm2e",
    "hbm3",
    "hbm3e",
    "ac",
    "mega",
    "blackwell",
    "generation",
    "workstation",
    "server",
    "edition",
];

/// A name without separators, case and the words that carry no meaning.
fn plain(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    name.split(['-', ' ', '_', '/']).filter(|word| !EMPTY.contains(word)).collect()
}

/// The cards that a name may mean: one that is called so, or those of which it names the line but not the memory.
pub(crate) fn named(name: &str) -> Vec<&'static Card> {
    let wanted = plain(name);
    let is = |known: &str| {
        let known = plain(known);
        // "4090" and "A6000" are names too, and memory is written with and without its unit.
        let short = known.strip_prefix("rtx").or_else(|| known.strip_prefix("gtx")).unwrap_or(&known);
        [known.as_str(), short]
            .into_iter()
            .any(|known| known == wanted || known.strip_suffix("gb") == Some(wanted.as_str()))
    };
    let names = |card: &&Card| std::iter::once(&card.name).chain(card.aliases).any(|known| is(known));
    let called: Vec<&Card> = CARDS.iter().filter(names).collect();
    if !called.is_empty() {
        return called;
    }
    let is_of_line = |card: &&Card| {
        let line = card.name.rsplit_once('-').filter(|(_, memory)| memory.ends_with("GB"));
        line.is_some_and(|(line, _)| is(line))
    };
    CARDS.iter().filter(is_of_line).collect()
}

/// The cards of comparisons, the smallest first.
pub(crate) fn ladder() -> Vec<&'static Card> {
    let mut cards: Vec<&Card> = CARDS.iter().filter(|card| card.common).collect();
    cards.sort_by_key(|card| card.mib);
    cards
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<&'static str> {
        named(text).into_iter().map(|card| card.name).collect()
    }

    #[test]
    fn cards_are_known_by_what_tools_labels_and_people_call_them() {
        for (text, expected) in [
            ("T4", "T4"),
            ("Tesla-T4", "T4"),
            ("nvidia-tesla-t4", "T4"),
            ("NVIDIA A10G", "A10G"),
            ("NVIDIA-A100-SXM4-40GB", "A100-40GB"),
            ("NVIDIA-A100-PCIE-40GB", "A100-40GB"),
            ("NVIDIA A100 80GB PCIe", "A100-80GB"),
            ("nvidia-a100-80gb", "A100-80GB"),
            ("a100_80", "A100-80GB"),
            ("Tesla V100-SXM2-16GB", "V100-16GB"),
            ("Tesla P100-PCIE-16GB", "P100-16GB"),
            ("h100", "H100"),
            ("NVIDIA-H100-80GB-HBM3", "H100"),
            ("NVIDIA H100 PCIe", "H100"),
            ("nvidia-h100-mega-80gb", "H100"),
            ("NVIDIA H100 NVL", "H100-NVL"),
            ("nvidia-h200-141gb", "H200"),
            ("NVIDIA GH200 480GB", "GH200-96GB"),
            ("NVIDIA B300 SXM6 AC", "B300"),
            ("RTX 4090", "RTX-4090"),
            ("4090", "RTX-4090"),
            ("NVIDIA GeForce RTX 3090 Ti", "RTX-3090-Ti"),
            ("GeForce GTX 1080 Ti", "GTX-1080-Ti"),
            ("2080ti", "RTX-2080-Ti"),
            ("A6000", "RTX-A6000"),
            ("NVIDIA RTX 6000 Ada Generation", "RTX-6000-Ada"),
            ("Quadro RTX 6000", "Quadro-RTX-6000"),
            ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX-PRO-6000"),
            ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", "RTX-PRO-6000"),
            ("AMD_Instinct_MI300X_OAM", "MI300X"),
            ("mi300x", "MI300X"),
            ("HL-225", "Gaudi2"),
            ("Intel Gaudi 3", "Gaudi3"),
            ("RTX A2000", "RTX-A2000-12GB"),
        ] {
            assert_eq!(names(text), [expected], "{text}");
        }
    }

    #[test]
    fn a_line_that_is_sold_with_two_memories_means_both() {
        for (text, expected) in [
            ("A100", &["A100-40GB", "A100-80GB"][..]),
            ("nvidia-tesla-a100", &["A100-40GB", "A100-80GB"]),
            ("V100", &["V100-16GB", "V100-32GB"]),
            ("RTX 4060 Ti", &["RTX-4060-Ti-8GB", "RTX-4060-Ti-16GB"]),
            ("A1", &[]),
            ("RTX 6000", &[]),
            ("NVIDIA", &[]),
            ("", &[]),
        ] {
            assert_eq!(names(text), expected, "{text}");
        }
    }

    #[test]
    fn every_name_and_alias_means_its_own_card() {
        for card in CARDS {
            for name in std::iter::once(&card.name).chain(card.aliases) {
                assert_eq!(names(name), [card.name], "{name}");
            }
        }
        assert!(ladder().is_sorted_by_key(|card| card.mib));
    }

    #[test]
    fn a_product_is_of_one_card_and_can_be_a_label() {
        let mut seen = std::collections::BTreeSet::new();
        for card in CARDS {
            for product in card.products {
                assert!(seen.insert(product), "{product} is of two cards");
                assert!(crate::inventory::is_label_value(product), "{product}");
                // What is read of the name by its words is the same card, but where words are all that tells it.
                assert!(named(product).iter().any(|named| named.mib == card.mib), "{product}");
                assert_eq!(by_product(product), Some(card));
            }
            assert_eq!(by_name(card.name), Some(card));
        }
        for (product, most) in
            [("Tesla-T4", 16_384), ("NVIDIA-A10G", 24_564), ("NVIDIA-L40S", 49_140), ("NVIDIA-H200", 143_771)]
        {
            assert_eq!(by_product(product).map(Card::most_mib), Some(most), "{product}");
        }
        for product in
            ["NVIDIA-A100-SXM4-80GB-MIG-1g.10gb", "NVIDIA-A10-4Q", "NVIDIA-GeForce-RTX-3080", "", "nvidia-l4"]
        {
            assert_eq!(by_product(product), None, "{product}");
        }
    }

    /// A figure is never more than the gibibytes on the box, and less by what error correction takes at most.
    #[test]
    fn figures_are_those_of_the_box() {
        for card in CARDS {
            let in_name = card.name.rsplit_once('-').and_then(|(_, tail)| tail.strip_suffix("GB"));
            if let Some(gb) = in_name.and_then(|gb| gb.parse::<u64>().ok()) {
                let box_mib = gb * 1024;
                assert!((box_mib * 94 / 100..=box_mib).contains(&card.mib), "{}", card.name);
            }
        }
    }
}
