//! Which modules a quantised checkpoint leaves alone: the names, prefixes and patterns of its config.
//!
//! Compressed-tensors writes module names and `re:` patterns, ModelOpt names with `*`, AWQ, FP8 and bitsandbytes parts of names.

use std::collections::HashSet;

use crate::estimate::weights::pattern::Pattern;

/// The modules that are left alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Ignored {
    names: HashSet<String>,
    globs: Vec<String>,
    patterns: Vec<Pattern>,
}

impl Ignored {
    /// Reads the entries of a config. A pattern that cannot be read matches nothing.
    pub(crate) fn new(entries: &[String]) -> Self {
        let mut ignored = Self::default();
        for entry in entries {
            if let Some(pattern) = entry.strip_prefix("re:") {
                ignored.patterns.extend(Pattern::new(pattern));
            } else if entry.contains('*') {
                ignored.globs.push(normal(entry).to_owned());
            } else {
                ignored.names.insert(normal(entry).to_owned());
            }
        }
        ignored
    }

    /// Whether a tensor belongs to one of them.
    pub(crate) fn matches(&self, tensor: &str) -> bool {
        let module = tensor.strip_suffix(".weight").unwrap_or(tensor);
        let module = normal(module);
        self.names_match(module)
            || self.globs.iter().any(|glob| glob_matches(glob, module))
            || self.patterns.iter().any(|pattern| {
                pattern.matches(tensor)
                    || pattern.matches(module)
                    || pattern.matches(&format!("model.{module}"))
            })
    }

    /// Whether whole components of the path, in a row, are one of the names: `gate` is in `mlp.gate`, not in `mlp.gate_proj`.
    fn names_match(&self, module: &str) -> bool {
        if self.names.is_empty() {
            return false;
        }
        let starts = std::iter::once(0).chain(module.match_indices('.').map(|(at, _)| at + 1));
        starts.into_iter().any(|start| {
            let rest = module.get(start..).unwrap_or("");
            let ends = rest.match_indices('.').map(|(at, _)| at).chain(std::iter::once(rest.len()));
            ends.into_iter().any(|end| rest.get(..end).is_some_and(|part| self.names.contains(part)))
        })
    }
}

/// A path without the wrappers that one tool writes and another does not: `model.`, `language_model.`.
fn normal(path: &str) -> &str {
    let mut path = path;
    while let Some(rest) = path.strip_prefix("model.").or_else(|| path.strip_prefix("language_model.")) {
        path = rest;
    }
    path
}

/// Whether a name, or a module that it is in, matches a pattern whose `*` stands for anything.
fn glob_matches(glob: &str, name: &str) -> bool {
    let mut parts = glob.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    for part in parts {
        if part.is_empty() {
            continue;
        }
        match rest.find(part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or(""),
            None => return false,
        }
    }
    glob.ends_with('*') || rest.is_empty() || rest.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_match_as_their_tools_match_them() {
        for (entry, tensor, expected) in [
            ("lm_head", "lm_head.weight", true),
            ("lm_head", "language_model.lm_head.weight", true),
            ("gate", "model.layers.1.block_sparse_moe.gate.weight", true),
            ("gate", "model.layers.1.mlp.gate_proj.weight", false),
            ("model.layers.1", "model.layers.1.mlp.gate_proj.weight", true),
            ("model.layers.1", "model.layers.11.mlp.gate_proj.weight", false),
            ("visual", "model.visual.blocks.0.attn.qkv.weight", true),
            ("model.layers.*.self_attn", "model.layers.7.self_attn.q_proj.weight", true),
            ("model.layers.*.self_attn", "model.layers.7.mlp.experts.gate_up_proj", false),
            ("*.attn.*", "layers.4.attn.wq_a.weight", true),
            ("*.attn.*", "layers.4.ffn.experts.w1.weight", false),
            ("mtp*", "mtp.layers.0.mlp.up_proj.weight", true),
            ("model.language_model.layers.3.linear_attn*", "model.layers.3.linear_attn.in_proj.weight", true),
            ("language_model.model.layers.0*", "language_model.model.layers.0.self_attn.o_proj.weight", true),
            ("re:.*lm_head.*", "lm_head.weight", true),
            (r"re:.*mlp\.(gate|up|gate_up|down)_proj.*", "model.layers.0.mlp.up_proj.weight", true),
            (r"re:.*mlp\.(gate|up|gate_up|down)_proj.*", "model.layers.1.mlp.experts.up_proj.weight", false),
            (r"re:vision_tower.*", "vision_tower.encoder.0.wqkv.weight", true),
            (r"re:vision_tower.*", "model.layers.0.self_attn.o_proj.weight", false),
            (r"re:model\.layers\.\d+\.mlp\.gate$", "model.layers.12.mlp.gate.weight", true),
            (r"re:^(?!.*experts).*$", "model.layers.12.self_attn.q_proj.weight", true),
            (r"re:^(?!.*experts).*$", "model.layers.12.mlp.experts.w1.weight", false),
        ] {
            assert_eq!(Ignored::new(&[entry.to_owned()]).matches(tensor), expected, "{entry} on {tensor}");
        }
    }
}
