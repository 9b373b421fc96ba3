//! The objects of a file: how fields of them are found, and what of others they may refer to.

use std::collections::BTreeMap;

use serde_json::Value;

/// Everything that was read, for what objects name of each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Objects<'a>(pub(super) &'a [Value]);

impl<'a> Objects<'a> {
    /// An object by kind and name, of a namespace or of none.
    pub(super) fn find(self, kinds: &[&str], name: &str, namespace: Option<&str>) -> Option<&'a Value> {
        self.0.iter().find(|object| {
            let of = text(object, "/metadata/namespace");
            text(object, "/kind").is_some_and(|kind| kinds.contains(&kind))
                && text(object, "/metadata/name") == Some(name)
                && (of.is_none() || namespace.is_none() || of == namespace)
        })
    }

    /// What a ConfigMap of the file holds.
    pub(super) fn config_map(self, name: &str, namespace: Option<&str>) -> Option<BTreeMap<String, String>> {
        let map = self.find(&["ConfigMap"], name, namespace)?;
        let data = map.get("data").and_then(Value::as_object);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Some(
            data.into_iter().flatten().filter_map(|(key, value)| Some((key.clone(), text(value)?))).collect(),
        )
    }
}

/// A field by its path; `None` for one that is null.
pub(super) fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    value.pointer(path).filter(|found| !found.is_null())
}

/// A text by its path.
pub(super) fn text<'a>(value: &'a Value, path: &str) -> Option<&'a str> {
    at(value, path)?.as_str()
}

/// A whole number by its path, also one in quotes.
pub(super) fn number(value: &Value, path: &str) -> Option<u64> {
    let found = at(value, path)?;
    found.as_u64().or_else(|| found.as_str()?.trim().parse().ok())
}

/// The items of a list by its path.
pub(super) fn items<'a>(value: &'a Value, path: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    at(value, path).and_then(Value::as_array).into_iter().flatten()
}

/// A scalar as text: what YAML takes for a number was meant as one word of a command line.
pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(bool) => Some(bool.to_string()),
        _ => None,
    }
}

/// Whether a path ends as the names of such files do.
pub(super) fn has_extension(path: &str, extensions: &[&str]) -> bool {
    path.rsplit_once('.').is_some_and(|(_, extension)| extensions.contains(&extension))
}
