//! Which modules a quantised checkpoint leaves alone: the names, prefixes and patterns of its config.

/// Whether a tensor belongs to a module that one of the entries names.
pub(super) fn matches(entries: &[String], tensor: &str) -> bool {
    entries.iter().any(|entry| entry == tensor || tensor.starts_with(entry.as_str()))
}
