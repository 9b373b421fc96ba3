//! One container: its environment, its command line as Kubernetes makes it, and the files that ConfigMaps of the file give it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::objects::{Objects, at, items, scalar, text};
use super::role::Role;
use super::shell::Variables;
use super::start::{Started, started};
use crate::engine::Word;

/// A container, read.
#[derive(Debug)]
pub(super) struct Container<'a> {
    pub(super) name: &'a str,
    pub(super) image: Option<String>,
    pub(super) started: Started,
    pub(super) variables: Variables,
    pub(super) arguments: Vec<Word>,
    pub(super) has_command: bool,
}

/// What a container refers to outside of itself.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    pub(super) pod: &'a Value,
    pub(super) objects: Objects<'a>,
    pub(super) namespace: Option<&'a str>,
}

/// The containers of a pod that run beside each other: sidecars among the init containers are of them.
pub(super) fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    let sidecar = |container: &&Value| text(container, "/restartPolicy") == Some("Always");
    items(pod, "/containers").chain(items(pod, "/initContainers").filter(sidecar))
}

impl<'a> Container<'a> {
    pub(super) fn read(container: &'a Value, role: &Role, around: Around<'a>) -> Self {
        let variables = variables(container, role, around);
        let words = |path: &str| -> Vec<Word> {
            items(container, path).filter_map(scalar).map(|word| expand(&word, &variables)).collect()
        };
        let (command, arguments) = (words("/command"), words("/args"));
        let image = text(container, "/image").filter(|image| !image.contains("{{")).map(str::to_owned);
        let mounted = |path: &str| mounted(path, container, around);
        let started = started(image.as_deref(), &command, &arguments, &variables, &mounted);
        let name = text(container, "/name").unwrap_or_default();
        Self { name, image, started, variables, arguments, has_command: !command.is_empty() }
    }
}

/// What the environment of a container holds.
fn variables(container: &Value, role: &Role, around: Around<'_>) -> Variables {
    let mut found = Variables::default();
    for (name, value) in &role.variables {
        found.values.insert((*name).to_owned(), Word::of(value.clone()));
    }
    for source in items(container, "/envFrom") {
        let prefix = text(source, "/prefix").unwrap_or_default();
        let map = text(source, "/configMapRef/name");
        match map.and_then(|name| around.objects.config_map(name, around.namespace)) {
            Some(data) => {
                let named = data.into_iter().map(|(key, value)| (format!("{prefix}{key}"), Word::of(value)));
                found.values.extend(named);
            }
            None => found.open = true,
        }
    }
    for variable in items(container, "/env") {
        let Some(name) = text(variable, "/name") else { continue };
        let value = match at(variable, "/valueFrom") {
            None => {
                let written = at(variable, "/value").and_then(scalar).unwrap_or_default();
                expand(&written, &found)
            }
            Some(from) => from_map(from, around)
                .map_or_else(|| Word { text: format!("$({name})"), known: false }, Word::of),
        };
        found.values.insert(name.to_owned(), value);
    }
    found
}

/// A variable's value from a ConfigMap of the file. What is in a Secret stays there.
fn from_map(from: &Value, around: Around<'_>) -> Option<String> {
    let name = text(from, "/configMapKeyRef/name")?;
    let key = text(from, "/configMapKeyRef/key")?;
    around.objects.config_map(name, around.namespace)?.remove(key)
}

/// `$(NAME)` as Kubernetes expands it: one that is not set stays as it is, and `$$` is a dollar.
pub(super) fn expand(text: &str, variables: &Variables) -> Word {
    let mut expanded = Word::of("");
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        expanded.text.push_str(before);
        let after = from.get(1..).unwrap_or_default();
        if let Some(after) = after.strip_prefix('$') {
            expanded.text.push('$');
            rest = after;
            continue;
        }
        let Some((name, after)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) else {
            expanded.text.push('$');
            rest = after;
            continue;
        };
        match variables.get(name) {
            Some(word) if word.known => expanded.text.push_str(&word.text),
            // Without it the words stay as they are, for the shell or for nobody.
            _ => {
                expanded.text.extend(["$(", name, ")"]);
                expanded.known = false;
            }
        }
        rest = after;
    }
    expanded.text.push_str(rest);
    expanded.known &= !expanded.text.contains("{{");
    expanded
}

/// The text of a file that a ConfigMap of the file puts there.
fn mounted(path: &str, container: &Value, around: Around<'_>) -> Option<String> {
    let mounts = items(container, "/volumeMounts").filter_map(|mount| {
        let under = text(mount, "/mountPath")?;
        let rest = path.strip_prefix(under)?;
        Some((mount, rest))
    });
    for (mount, rest) in mounts {
        let volume = text(mount, "/name")?;
        let volume = items(around.pod, "/volumes").find(|found| text(found, "/name") == Some(volume))?;
        let Some(map) = text(volume, "/configMap/name") else { continue };
        let data: BTreeMap<String, String> = around.objects.config_map(map, around.namespace)?;
        let file = match (text(mount, "/subPath"), rest.strip_prefix('/').unwrap_or(rest)) {
            (Some(part), "") => part,
            (_, file) => file,
        };
        let renamed = items(volume, "/configMap/items").find(|item| text(item, "/path") == Some(file));
        let key = renamed.and_then(|item| text(item, "/key")).unwrap_or(file);
        if let Some(found) = data.get(key) {
            return Some(found.clone());
        }
    }
    None
}

/// The text of a file that a ConfigMap of the file puts into one of a pod's containers.
pub(super) fn file(path: &str, around: Around<'_>) -> Option<String> {
    containers(around.pod).find_map(|container| mounted(path, container, around))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_expanded_as_kubernetes_does() {
        let mut variables = Variables::default();
        variables.values.insert("A".to_owned(), Word::of("x"));
        variables.values.insert("S".to_owned(), Word { text: String::new(), known: false });
        for (text, expected, known) in [
            ("a$(A)b", "axb", true),
            ("$$(A) $A ${A}", "$(A) $A ${A}", true),
            ("$(S)", "$(S)", false),
            ("$(N)", "$(N)", false),
            ("$(A", "$(A", true),
            ("{{ .x }}", "{{ .x }}", false),
            ("$", "$", true),
        ] {
            assert_eq!(expand(text, &variables), Word { text: expected.to_owned(), known }, "{text}");
        }
    }
}
