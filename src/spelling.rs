//! The name that was probably meant: for every list of names that a user writes one of.

/// Longer names are not slips, and comparing them would take time.
const LONGEST: usize = 80;

/// The nearest of the known names, if one is near enough to be a slip of the finger.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name: String = name.to_lowercase().chars().take(LONGEST).collect();
    let allowed = name.chars().count().div_ceil(3);
    known
        .into_iter()
        .map(|candidate| (strsim::levenshtein(&name, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The known names that are most like one, all as near as each other. Only letters and digits count, and a name of which
/// what was written is a part is near, however much else it has.
pub(crate) fn alike<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    /// A beginning may be all that was remembered; less than this says nothing.
    const TELLING: usize = 3;
    let name = plain(name);
    if name.is_empty() {
        return Vec::new();
    }
    let allowed = (name.len() / 3).max(2);
    let mut found = Vec::new();
    let mut least = allowed;
    for candidate in known {
        let other = plain(candidate);
        let mut distance = strsim::levenshtein(&name, &other);
        if name.len() >= TELLING {
            if other.starts_with(&name) || name.starts_with(&other) {
                distance = distance.min(1);
            } else if other.contains(&name) {
                distance = distance.min(2);
            }
        }
        if distance < least {
            found.clear();
            least = distance;
        }
        if distance == least {
            found.push(candidate);
        }
    }
    found
}

/// Letters and digits, in lower case.
fn plain(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).take(LONGEST).map(|c| c.to_ascii_lowercase()).collect()
}

/// `did you mean a?`, `did you mean a, b or c?`; nothing of no name.
pub(crate) fn did_you_mean(names: &[&str]) -> Option<String> {
    match names {
        [] => None,
        [only] => Some(format!("did you mean {only}?")),
        [first @ .., last] => Some(format!("did you mean {} or {last}?", first.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::{alike, did_you_mean, nearest};

    #[test]
    fn a_slip_of_the_finger_is_recognised() {
        let known = ["precision", "parallelism", "placement", "model"];
        for (name, expected) in [
            ("precison", Some("precision")),
            ("Precision", Some("precision")),
            ("paralelism", Some("parallelism")),
            ("modle", Some("model")),
            ("modal", Some("model")),
            ("gpu", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, known), expected, "{name}");
        }
        assert_eq!(nearest(&"x".repeat(1_000_000), known), None);
    }

    #[test]
    fn what_is_as_near_is_named_beside_it() {
        let known = ["llama-3-8b", "llama-3.1-8b", "llama-3.1-70b", "qwen3-32b"];
        for (name, expected) in [
            ("llama3.1:8b", &["llama-3.1-8b"][..]),
            ("llama-3.1", &["llama-3.1-8b", "llama-3.1-70b"]),
            ("lama-3-8b", &["llama-3-8b"]),
            ("Qwen3-32B-AWQ", &["qwen3-32b"]),
            ("32b", &["qwen3-32b"]),
            ("b", &[]),
            ("", &[]),
            ("---", &[]),
        ] {
            assert_eq!(alike(name, known), expected, "{name}");
        }
        assert_eq!(alike(&"x".repeat(1_000_000), known), [""; 0]);
        assert_eq!(did_you_mean(&["a", "b", "c"]).as_deref(), Some("did you mean a, b or c?"));
        assert_eq!(did_you_mean(&["a"]).as_deref(), Some("did you mean a?"));
        assert_eq!(did_you_mean(&[]), None);
    }
}
