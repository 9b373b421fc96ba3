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

/// A value as JSON, mostly of a kind that does not belong.
fn any_json() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => Just("\"m.safetensors\"".to_owned()),
        1 => any::<i64>().prop_map(|number| number.to_string()),
        1 => prop::sample::select(vec!["null", "true", "[]", "{}", "[1]", "1e400", "\"\"", "\"../x\""]).prop_map(str::to_owned),
    ]
}

/// What stands for a tensor in a table.
fn any_entry() -> impl Strategy<Value = String> {
    let dtype = prop::sample::select(vec!["\"BF16\"", "\"F4\"", "\"U8\"", "\"X\"", "7"]);
    let number = || prop_oneof![4 => (0_u64..64).prop_map(|n| n.to_string()), 1 => any::<i64>().prop_map(|n| n.to_string())];
    let numbers = move |most| {
        prop::collection::vec(number(), 0..most).prop_map(|numbers| format!("[{}]", numbers.join(",")))
    };
    let whole = (dtype, numbers(4), 0_u64..64, 0_u64..64).prop_map(|(dtype, shape, from, size)| {
        format!("{{\"dtype\":{dtype},\"shape\":{shape},\"data_offsets\":[{from},{}]}}", from + size)
    });
    // One that is right where it is the only one.
    let right = (1_u64..8, 1_u64..8).prop_map(|(rows, columns)| {
        format!(
            "{{\"dtype\":\"BF16\",\"shape\":[{rows},{columns}],\"data_offsets\":[0,{}]}}",
            2 * rows * columns
        )
    });
    prop_oneof![2 => whole, 2 => right, 1 => any_json()]
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

    /// Tables whose every part may be of the wrong kind, out of order, twice there or not at all.
    #[test]
    fn no_table_makes_it_panic(
        tensors in prop::collection::vec((any_name(), any_entry()), 0..6),
        index in prop::collection::vec((any_name(), any_json()), 0..6),
        cut in proptest::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let object = |fields: Vec<String>| format!("{{{}}}", fields.join(","));
        let table = object(tensors.iter().map(|(name, entry)| format!("\"{name}\":{entry}")).collect());
        let map = object(index.iter().map(|(name, file)| format!("\"{name}\":{file}")).collect());
        let index = format!("{{\"metadata\":{{}},\"weight_map\":{map}}}");
        for text in [table, index] {
            let text = cut.map_or(text.as_str(), |cut| text.get(..cut.index(text.len())).unwrap_or(&text));
            match parse_header_json(text.as_bytes()) {
                Ok(header) => {
                    // No byte of the data is of two tensors.
                    let bytes = header.tensors.iter().map(|entry| entry.bytes).sum::<u64>();
                    prop_assert!(bytes <= header.data_bytes);
                    let _ = shape(&[header], None, "m");
                }
                Err(error) => prop_assert!((1..500).contains(&error.to_string().len()), "{error}"),
            }
            if let Err(error) = Index::parse(text.as_bytes()) {
                prop_assert!((1..500).contains(&error.to_string().len()), "{error}");
            }
        }
    }
}
