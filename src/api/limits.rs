//! What a field of the custom resource may hold, once: the definition's schema, the check of a spec and the flags of the
//! command line are all made from these.

/// How many characters a text may have, or items a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length {
    /// At least so many.
    pub least: usize,
    /// At most so many.
    pub most: usize,
}

const fn length(least: usize, most: usize) -> Length {
    Length { least, most }
}

/// The most tokens of a context: ten times more than any model that is published takes.
pub const MOST_TOKENS: u64 = 100_000_000;
/// The most sequences held at once, micro batch and rank of LoRA matrices.
pub const MOST_SEQUENCES: u64 = 65_536;
/// The most ranks of one kind, and GPUs that train together.
pub const MOST_RANKS: u64 = 1024;
/// The most copies of a workload.
pub const MOST_REPLICAS: i32 = 10_000;

/// `model.parameters`, such as `8B`.
pub const SIZE: Length = length(1, 24);
/// A repository of the Hub, as `organisation/name`.
pub const REPOSITORY: Length = length(3, 200);
/// A branch, tag or commit.
pub const REVISION: Length = length(1, 200);
/// A file of a repository.
pub const FILE: Length = length(1, 500);
/// An https address.
pub const URL: Length = length(9, 2000);
/// The name of an object, or a key in it.
pub const NAME: Length = length(1, 253);
/// A name of the catalog.
pub const CATALOG: Length = length(1, 128);
/// `safetyMargin`, such as `1.2`.
pub const MARGIN: Length = length(0, 8);
/// A container image.
pub const IMAGE: Length = length(1, 1000);
/// `engine.version`, such as `0.19.0`.
pub const VERSION: Length = length(1, 40);
/// The engine's own arguments.
pub const ARGUMENTS: Length = length(0, 100);
/// One of them.
pub const ARGUMENT: Length = length(0, 4096);
/// `placement.vendors`.
pub const VENDORS: Length = length(1, 3);
/// `placement.tolerations`.
pub const TOLERATIONS: Length = length(0, 64);
/// `training.loraTargets`.
pub const LORA_TARGETS: Length = length(1, 64);
/// One of them.
pub const LORA_TARGET: Length = length(1, 100);
/// `training.offload`.
pub const OFFLOADS: Length = length(0, 2);

/// Whether a text is `organisation/name`, as the Hub has its repositories: nothing in it can lead elsewhere.
#[must_use]
pub fn is_repository(text: &str) -> bool {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
            && !part.contains("..")
    };
    let fits = (REPOSITORY.least..=REPOSITORY.most).contains(&text.chars().count());
    fits && text.split_once('/').is_some_and(|(organisation, name)| part(organisation) && part(name))
}

/// Whether a text can be the name of a ConfigMap or Secret: a DNS subdomain, as Kubernetes has it.
#[must_use]
pub fn is_object_name(text: &str) -> bool {
    let is_end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let part = |part: &str| {
        part.starts_with(is_end) && part.ends_with(is_end) && part.chars().all(|c| is_end(c) || c == '-')
    };
    text.len() <= NAME.most && text.split('.').all(part)
}

/// Whether a text can be a key of a ConfigMap or Secret.
#[must_use]
pub fn is_key(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let fits = (NAME.least..=NAME.most).contains(&text.len());
    fits && text.chars().all(is_part) && text != "." && !text.starts_with("..")
}

/// Whether a text is written as a version of an engine is: a release, a build or a date, as the definition's rule has it.
#[must_use]
pub fn is_version(text: &str) -> bool {
    let digits = |text: &str, most: usize| {
        (1..=most).contains(&text.len()) && text.chars().all(|c| c.is_ascii_digit())
    };
    let is_date = || {
        let parts: Vec<&str> = text.split('-').collect();
        let is_of = |year: &str, month: &str, day: &str| {
            digits(year, 4) && ("2020".."2100").contains(&year) && digits(month, 2) && digits(day, 2)
        };
        text.len() == 10 && matches!(parts[..], [year, month, day] if is_of(year, month, day))
    };
    let build = text.strip_prefix(['b', 'B']).unwrap_or(text);
    if is_date() || (digits(build, 9) && !build.starts_with('0')) {
        return true;
    }
    // Numbers with dots, and what follows the last of them: a word of its own.
    let release = text.strip_prefix(['v', 'V']).unwrap_or(text);
    let end = release.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(release.len());
    let (numbers, word) = release.split_at(end);
    let (numbers, word) = match numbers.strip_suffix('.') {
        Some(numbers) if !word.is_empty() => (numbers, word),
        _ => (numbers, word.strip_prefix(['+', '-']).unwrap_or(word)),
    };
    let mut parts = numbers.split('.');
    let is_numbers = parts.next().is_some_and(|major| digits(major, 6))
        && numbers.contains('.')
        && parts.all(|part| digits(part, 9));
    let is_word = word.starts_with(|c: char| c.is_ascii_alphabetic())
        && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '-'));
    is_numbers && (end == release.len() || is_word)
}

#[cfg(test)]
mod tests {
    use super::{is_key, is_object_name, is_repository};

    #[test]
    fn names_and_keys_are_as_kubernetes_has_them() {
        for (text, is_name, is_a_key) in [
            ("hub", true, true),
            ("hub-token.v1", true, true),
            ("0", true, true),
            ("Hub_Token", false, true),
            ("config.json", true, true),
            (".dockerconfigjson", false, true),
            ("a b", false, false),
            ("../../other/secrets/theirs", false, false),
            ("a..b", false, true),
            ("-a", false, true),
            ("a-", false, true),
            (".", false, false),
            ("..a", false, false),
            ("", false, false),
            ("ü", false, false),
        ] {
            assert_eq!((is_object_name(text), is_key(text)), (is_name, is_a_key), "{text}");
        }
        assert!(!is_object_name(&"a".repeat(254)) && !is_key(&"a".repeat(254)));
    }

    #[test]
    fn a_repository_is_an_organisation_and_a_name() {
        for (text, expected) in [
            ("meta-llama/Llama-3.1-8B-Instruct", true),
            ("a/b", true),
            ("a_b.c/0-1", true),
            ("llama", false),
            ("a/b/c", false),
            ("/b", false),
            ("a/", false),
            ("../b", false),
            ("a/..", false),
            ("a/b..c", false),
            ("a b/c", false),
            ("ü/b", false),
        ] {
            assert_eq!(is_repository(text), expected, "{text}");
        }
        assert!(!is_repository(&format!("a/{}", "b".repeat(199))));
    }
}
