//! Small pieces of text that the rest of render is made of.

use crate::units::{Bytes, GIB, MIB, shorten};

/// The longest message that a condition or an event carries.
pub const LONGEST_MESSAGE: usize = 1024;

/// Text from a label, a file or a user with everything taken out that could steer a terminal or hide in a line: control
/// characters, bidirectional overrides and characters of no width.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || hides(c) { '\u{fffd}' } else { c }).collect()
}

/// Harmless text as [`printable`] makes it, cut to what a line of a message bears.
#[must_use]
pub fn quoted(text: &str) -> String {
    shorten(&printable(text))
}

const fn hides(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// `1 node`, `2 nodes`.
#[must_use]
pub fn counted(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// A thing with its article, by how its first letter is spoken: `an L4`, `a T4`.
#[must_use]
pub fn one(name: &str) -> String {
    let vowel = name.starts_with(['A', 'E', 'F', 'H', 'I', 'L', 'M', 'N', 'O', 'R', 'S', 'X']);
    format!("{} {name}", if vowel { "an" } else { "a" })
}

/// Words in lines of at most so many columns, each indented by so many. A word that is longer has a line of its own.
#[must_use]
pub fn wrapped(text: &str, indent: usize, width: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last().map_or(0, |line| line.chars().count());
        let blank = usize::from(line > 0);
        if line > 0 && indent + line + blank + word.chars().count() > width {
            lines.push(word.to_owned());
        } else if let Some(line) = lines.last_mut() {
            if blank > 0 {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    let margin = " ".repeat(indent);
    lines.iter().flat_map(|line| [margin.as_str(), line.as_str(), "\n"]).collect()
}

/// A length as a number that cannot be wrong in a message.
#[must_use]
pub fn length(items: usize) -> u64 {
    u64::try_from(items).unwrap_or(u64::MAX)
}

/// Cuts a message to `LONGEST_MESSAGE` bytes, at a character.
#[must_use]
pub fn clip(message: String) -> String {
    if message.len() <= LONGEST_MESSAGE {
        return message;
    }
    let ellipsis = '…';
    let room = LONGEST_MESSAGE - ellipsis.len_utf8();
    let end = message.char_indices().map(|(at, _)| at).take_while(|at| *at <= room).last().unwrap_or(0);
    let mut clipped: String = message.get(..end).unwrap_or_default().trim_end().to_owned();
    clipped.push(ellipsis);
    clipped
}

/// The most characters of a clause.
pub const LONGEST_CLAUSE: usize = 80;

/// The clause of a message that says where something stands, for one column of a table: what it needs has a column of its own, and
/// what would help is for those who look closer.
#[must_use]
pub fn clause(message: &str) -> String {
    let stands = message.split("; ").find(|clause| !clause.starts_with("needs ")).unwrap_or(message);
    let stands = stands.split(". ").next().unwrap_or(stands);
    if stands.chars().count() <= LONGEST_CLAUSE {
        return stands.to_owned();
    }
    let stands = stands.split(" (").next().unwrap_or(stands);
    if stands.chars().count() <= LONGEST_CLAUSE {
        return stands.to_owned();
    }
    let cut: String = stands.chars().take(LONGEST_CLAUSE - 1).collect();
    let whole = cut.rsplit_once(' ').map_or(cut.as_str(), |(words, _)| words);
    format!("{}…", whole.trim_end_matches([',', ':', ';']))
}

/// Two amounts that are compared, in the coarsest unit in which different ones look different.
#[must_use]
pub fn compared(needed: Bytes, has: Bytes) -> (String, String) {
    let unlike = |left: &String, right: &String| needed == has || left != right;
    let gib = (needed.to_string(), has.to_string());
    if unlike(&gib.0, &gib.1) {
        return gib;
    }
    // What is needed is rounded up and what is there down, so that the printed figures never claim a fit.
    let mib = (format!("{} MiB", needed.mib_ceil()), format!("{} MiB", has.0 / MIB));
    if unlike(&mib.0, &mib.1) { mib } else { (format!("{} B", needed.0), format!("{} B", has.0)) }
}

/// Tenths of a GiB, rounded to the nearest, as [`Bytes::gib`] prints them.
fn tenths(bytes: Bytes) -> u128 {
    (u128::from(bytes.0) * 10 + u128::from(GIB) / 2) / u128::from(GIB)
}

/// The parts of a sum in GiB with one decimal, rounded so that they add up to the sum as printed: every part is cut to
/// tenths, and what is missing goes to those that lost most.
#[must_use]
pub fn adding_up(parts: &[Bytes], sum: Bytes) -> Vec<String> {
    let mut rounded: Vec<(u128, u128)> = parts
        .iter()
        .map(|part| {
            let scaled = u128::from(part.0) * 10;
            (scaled / u128::from(GIB), scaled % u128::from(GIB))
        })
        .collect();
    let printed: u128 = rounded.iter().map(|(whole, _)| whole).sum();
    let missing = usize::try_from(tenths(sum).saturating_sub(printed)).unwrap_or(0).min(rounded.len());
    let mut order: Vec<usize> = (0..rounded.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(rounded.get(*index).map(|(_, lost)| *lost)));
    for index in order.into_iter().take(missing) {
        if let Some((whole, _)) = rounded.get_mut(index) {
            *whole += 1;
        }
    }
    rounded.into_iter().map(|(whole, _)| format!("{}.{}", whole / 10, whole % 10)).collect()
}

/// `a`, `a and b`, `a, b and c`.
#[must_use]
pub fn listed(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// The first few names, and how many more there are.
#[must_use]
pub fn names<'a>(mut names: impl Iterator<Item = &'a str>, shown: usize) -> String {
    let listed: Vec<String> = names.by_ref().take(shown).map(printable).collect();
    let more = names.count();
    if more == 0 { listed.join(", ") } else { format!("{} (+{more})", listed.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hostile_text_is_made_harmless() {
        assert_eq!(quoted("Tesla-T4\u{1b}[2J\u{202e}x\n"), "Tesla-T4\u{fffd}[2J\u{fffd}x\u{fffd}");
        assert_eq!(quoted(&"x".repeat(100)).chars().count(), 60);
    }

    #[test]
    fn amounts_that_differ_look_different() {
        for (needed, has, shown) in [
            (GIB * 21, GIB * 15, ("21.0 GiB", "15.0 GiB")),
            (15361 * MIB, 15360 * MIB, ("15361 MiB", "15360 MiB")),
            (15360 * MIB + 1, 15360 * MIB, ("15361 MiB", "15360 MiB")),
            (15360 * MIB - 1, 15360 * MIB - 2, ("15360 MiB", "15359 MiB")),
            (15360 * MIB, 15360 * MIB, ("15.0 GiB", "15.0 GiB")),
        ] {
            let (left, right) = compared(Bytes(needed), Bytes(has));
            assert_eq!((left.as_str(), right.as_str()), shown);
        }
    }

    #[test]
    fn text_is_wrapped_between_words() {
        for (text, indent, width, expected) in [
            ("a few words", 0, 80, "a few words\n"),
            ("a few words", 2, 8, "  a few\n  words\n"),
            ("a few words", 2, 7, "  a few\n  words\n"),
            ("a few words", 2, 6, "  a\n  few\n  words\n"),
            ("unbreakable", 4, 8, "    unbreakable\n"),
            ("", 1, 8, " \n"),
        ] {
            assert_eq!(wrapped(text, indent, width), expected, "{text} at {width}");
        }
        assert_eq!((one("L4").as_str(), one("T4").as_str()), ("an L4", "a T4"));
        assert_eq!((one("H100").as_str(), one("Gaudi3").as_str()), ("an H100", "a Gaudi3"));
    }

    #[test]
    fn names_are_counted_when_there_are_many() {
        let four: Vec<String> = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
        let names = |shown| names(four.iter().map(String::as_str), shown);
        assert_eq!(names(3), "a, b, c (+1)");
        assert_eq!(names(4), "a, b, c, d");
        assert_eq!(listed(&four), "a, b, c and d");
        assert_eq!(counted(1, "node"), "1 node");
        assert_eq!(counted(0, "node"), "0 nodes");
    }

    proptest! {
        #![proptest_config(ProptestConfig::default())]

        #[test]
        fn the_parts_add_up_to_the_printed_sum(parts in prop::collection::vec(0_u64..(1 << 40), 1..7)) {
            let sum = Bytes(parts.iter().sum());
            let parts: Vec<Bytes> = parts.into_iter().map(Bytes).collect();
            let as_tenths = |text: &str| text.replace('.', "").parse::<u128>().unwrap();
            let printed: u128 = adding_up(&parts, sum).iter().map(|part| as_tenths(part)).sum();
            prop_assert_eq!(printed, as_tenths(&sum.gib()));
            for (part, shown) in parts.iter().zip(adding_up(&parts, sum)) {
                prop_assert!(as_tenths(&shown).abs_diff(tenths(*part)) <= 1);
            }
        }

        #[test]
        fn wrapped_text_keeps_to_its_width_and_loses_no_word(
            words in prop::collection::vec("[a-z]{1,9}", 0..20), indent in 0_usize..8, width in 20_usize..60,
        ) {
            let text = words.join(" ");
            let lines = wrapped(&text, indent, width);
            prop_assert!(lines.lines().all(|line| line.len() <= width), "{lines}");
            prop_assert!(lines.lines().all(|line| line.starts_with(&" ".repeat(indent))));
            prop_assert_eq!(lines.split_whitespace().collect::<Vec<_>>(), words);
        }

        #[test]
        fn a_clipped_message_is_within_bounds(text in "\\PC{0,1500}") {
            let clipped = clip(text.clone());
            prop_assert!(clipped.len() <= LONGEST_MESSAGE);
            prop_assert!(text.len() > LONGEST_MESSAGE || clipped == text);
        }

        #[test]
        fn a_comparison_never_claims_a_fit(needed in 1_u64..(1 << 45), short in 1_u64..(1 << 35)) {
            let (left, right) = compared(Bytes(needed), Bytes(needed.saturating_sub(short)));
            prop_assert_ne!(left, right);
        }
    }

    #[test]
    fn a_clause_says_where_it_stands() {
        let long = format!("the image {} cannot be pulled", "x".repeat(100));
        for (message, expect) in [
            (
                "fits 3 nodes, best L4 22.5 GiB on l4; needs 9.1 GiB per GPU (weights 7.5 + KV cache 1.6 = 9.1, x1.2)",
                "fits 3 nodes, best L4 22.5 GiB on l4",
            ),
            (
                "needs 21.4 GiB per GPU (weights 15.0 = 17.8, x1.2); largest GPU is T4 15.0 GiB on 3 nodes. Would fit: int4",
                "largest GPU is T4 15.0 GiB on 3 nodes",
            ),
            (
                "needs 21.4 GiB per GPU (weights 15.0 + KV cache 1.0 + activations 1.1 + overhead 0.8 = 17.8, x1.2)",
                "needs 21.4 GiB per GPU",
            ),
            ("", ""),
            (long.as_str(), "the image…"),
        ] {
            assert_eq!(clause(message), expect);
        }
        let words = "many words ".repeat(40);
        assert!(clause(&words).chars().count() <= LONGEST_CLAUSE && clause(&words).ends_with("words…"));
    }
}
