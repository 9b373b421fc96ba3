//! Which files of a repository or directory are the model's weights: never twice the same, and no adapter.

use crate::model::safetensors::{Dtype, Header};

/// The index of a sharded model.
pub(super) const INDEX: &str = "model.safetensors.index.json";
/// The weights of a model in one file.
pub(super) const SINGLE: &str = "model.safetensors";
/// What ModelOpt writes beside the config.
pub(super) const QUANT_CONFIG: &str = "hf_quant_config.json";

/// The safetensors files at the root that are the model's, sorted. `consolidated*` repeats `model*` in Mistral's own format,
/// and counts only where there is nothing else.
pub(super) fn safetensors_of(names: &[String]) -> Vec<String> {
    let mut root: Vec<String> = names
        .iter()
        .filter(|name| !name.contains('/') && name.strip_suffix(".safetensors").is_some())
        .filter(|name| !name.starts_with("adapter_") && !name.starts_with("optimizer"))
        .cloned()
        .collect();
    root.sort();
    root.dedup();
    if root.iter().any(|name| !name.starts_with("consolidated")) {
        root.retain(|name| !name.starts_with("consolidated"));
    }
    // A model in one file and in shards is there twice.
    if root.iter().any(|name| name == SINGLE) {
        root.retain(|name| name == SINGLE);
    }
    root
}

/// Whether ModelOpt's file may be there: the config names ModelOpt, or says nothing of a quantisation that the tensors show.
pub(super) fn may_have_quant_config(config: &[u8], headers: &[Header]) -> bool {
    let mentions = |word: &[u8]| config.windows(word.len()).any(|window| window == word);
    let quantised = || {
        headers
            .iter()
            .flat_map(|header| &header.tensors)
            .any(|entry| entry.dtype.is_fp8() || matches!(entry.dtype, Dtype::U8 | Dtype::I8 | Dtype::F4))
    };
    mentions(b"modelopt") || (!mentions(b"quantization_config") && quantised())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twins_are_not_counted() {
        for (names, expect) in [
            (
                vec!["model.safetensors", "consolidated.safetensors", "original/model.safetensors"],
                vec![SINGLE],
            ),
            (vec!["consolidated.00.safetensors", "params.json"], vec!["consolidated.00.safetensors"]),
            (vec!["adapter_model.safetensors", "pytorch_model.bin"], vec![]),
            (
                vec!["b.safetensors", "a.safetensors", "onnx/a.safetensors"],
                vec!["a.safetensors", "b.safetensors"],
            ),
            (vec!["model.safetensors", "model-00001-of-00002.safetensors"], vec![SINGLE]),
        ] {
            let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
            assert_eq!(safetensors_of(&names), expect, "{names:?}");
        }
    }
}
