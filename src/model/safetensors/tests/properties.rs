//! What holds for every input.

use proptest::prelude::*;

use super::LLAMA;
use crate::model::safetensors::{Index, pack, parse_header, parse_header_json, shape};
use crate::model::weights::safetensors;

/// Names that meet in every way: weights, companions, and companions without a weight.
fn any_name() -> impl Strategy<Value = String> {
    let stem = prop::sample::select(vec![
        "model.layers.0.self_attn.k_proj",
        "model.layers.1.mlp.experts.3.up_proj",
        "x",
        "lm_head",
    ]);
    let suffix = prop::sample::select(vec![
        "",
        ".weight",
        ".qweight",
        ".qzeros",
        ".scales",
        ".weight_scale",
        ".weight.absmax",
        "_blocks",
        "_scales",
        ".biases",
        ".bias",
        ".SCB",
        ".weight_packed",
        ".scale.weight",
    ]);
    (stem, suffix).prop_map(|(stem, suffix)| format!("{stem}{suffix}"))
}

proptest! {
    #![proptest_config(ProptestConfig::default())]

    #[test]
    fn no_byte_is_lost_or_counted_twice(
        tensors in prop::collection::btree_map(
            any_name(),
            (
                prop::sample::select(vec!["U8", "I8", "I32", "U32", "F8_E4M3", "F8_E8M0", "BF16", "F32"]),
                prop::collection::vec(0_u64..40, 0..4),
            ),
            1..12,
        ),
    ) {
        let table: Vec<(&str, &str, &[u64])> =
            tensors.iter().map(|(name, (dtype, shape))| (name.as_str(), *dtype, shape.as_slice())).collect();
        let header = parse_header(&safetensors(&table)).expect("valid");
        let entries = header.tensors.iter().map(|entry| (entry.name.as_str(), entry)).collect();
        let (weights, _) = pack::weights(&entries, None);
        prop_assert_eq!(weights.iter().map(|weight| weight.bytes).sum::<u64>(), header.data_bytes);
        if let Ok(shape) = shape(std::slice::from_ref(&header), None, "m") {
            let stored = shape.tensors.iter().filter_map(|tensor| tensor.stored_bytes).sum::<u64>();
            prop_assert_eq!(stored, header.data_bytes);
        }
    }

    #[test]
    fn changed_files_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        digits in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let mut file = safetensors(LLAMA);
        for (at, byte) in changes {
            let at = at.index(file.len());
            file.splice(at..=at, [byte]);
        }
        // Longer numbers, which random bytes rarely make.
        for at in digits {
            let at = at.index(file.len());
            if file.get(at).is_some_and(u8::is_ascii_digit) {
                file.splice(at..at, *b"99999");
            }
        }
        match parse_header(&file) {
            Ok(header) => {
                let _ = shape(&[header], None, "m");
            }
            Err(error) => prop_assert!(error.to_string().len() < 500),
        }
    }

    #[test]
    fn random_json_never_panics(text in "[\\[\\]{}\":,0-9a-zF_.]{0,200}") {
        let _ = parse_header_json(text.as_bytes());
        let _ = Index::parse(text.as_bytes());
    }
}
