//! What holds for every input.

use proptest::prelude::*;

use crate::model::gguf::{MAX_HEADER, Progress, parse_header, shape};
use crate::model::weights::llama_gguf;

fn length(items: usize) -> u64 {
    u64::try_from(items).expect("small")
}

fn text(text: &str) -> Vec<u8> {
    [&length(text.len()).to_le_bytes()[..], text.as_bytes()].concat()
}

/// A key that is known or not, with a value of any type, which may be cut off or too long.
fn any_pair() -> impl Strategy<Value = Vec<u8>> {
    let key = prop::sample::select(vec![
        "general.architecture",
        "llama.block_count",
        "llama.embedding_length",
        "llama.attention.head_count",
        "llama.attention.head_count_kv",
        "split.count",
        "general.alignment",
        "x",
        "",
    ]);
    let value = prop_oneof![
        (
            prop::sample::select(vec![
                (0_u32, 1_usize),
                (1, 1),
                (2, 2),
                (3, 2),
                (4, 4),
                (5, 4),
                (6, 4),
                (7, 1),
                (10, 8),
                (11, 8),
                (12, 8)
            ]),
            any::<u64>()
        )
            .prop_map(|((kind, width), number)| [
                &kind.to_le_bytes()[..],
                &number.to_le_bytes()[..width]
            ]
            .concat()),
        prop::sample::select(vec!["llama", "qwen2", "", "\u{fc}"]).prop_map(|word| [
            &8_u32.to_le_bytes()[..],
            &text(word)
        ]
        .concat()),
        (0_u32..14, 0_u64..5, prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(of, count, bytes)| {
            [&9_u32.to_le_bytes()[..], &of.to_le_bytes(), &count.to_le_bytes(), &bytes].concat()
        }),
        (any::<u32>(), any::<u64>()).prop_map(|(kind, bytes)| [
            &kind.to_le_bytes()[..],
            &bytes.to_le_bytes()
        ]
        .concat()),
    ];
    (key, value).prop_map(|(key, value)| [text(key), value].concat())
}

/// A tensor of any rank, type and place.
fn any_tensor() -> impl Strategy<Value = Vec<u8>> {
    let name =
        prop::sample::select(vec!["token_embd.weight", "blk.0.attn_k.weight", "output.weight", "x", ""]);
    let sizes = prop::collection::vec(prop_oneof![3 => 1_u64..300, 1 => any::<u64>()], 0..6);
    (name, sizes, 0_u32..45, prop_oneof![3 => Just(0_u64), 1 => any::<u64>()]).prop_map(
        |(name, sizes, kind, at)| {
            let rank = u32::try_from(sizes.len()).expect("small");
            let sizes: Vec<u8> = sizes.into_iter().flat_map(u64::to_le_bytes).collect();
            [
                text(name),
                rank.to_le_bytes().to_vec(),
                sizes,
                kind.to_le_bytes().to_vec(),
                at.to_le_bytes().to_vec(),
            ]
            .concat()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::default())]

    #[test]
    fn no_pairs_and_tensors_make_it_panic(
        pairs in prop::collection::vec(any_pair(), 0..12),
        tensors in prop::collection::vec(any_tensor(), 0..6),
        more in (0_u64..2, 0_u64..2),
        rest in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        // Now and then one more is promised than there is: what follows is then read as it.
        file.extend((length(tensors.len()) + more.0).to_le_bytes());
        file.extend((length(pairs.len()) + more.1).to_le_bytes());
        file.extend(pairs.concat());
        file.extend(tensors.concat());
        file.extend(rest);
        match parse_header(&file) {
            Ok(Progress::Complete(header)) => {
                prop_assert!(header.tensors.len() <= tensors.len() + 1);
                if let Err(error) = shape(&[*header], "m") {
                    prop_assert!((1..500).contains(&error.to_string().len()), "{error}");
                }
            }
            Ok(Progress::NeedsMore { at_least }) => prop_assert!(at_least > length(file.len())),
            Err(error) => prop_assert!((1..500).contains(&error.to_string().len()), "{error}"),
        }
    }

    #[test]
    fn changed_files_never_panic_and_never_ask_for_more_than_is_read(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        cuts in any::<bool>(),
    ) {
        let mut file = llama_gguf(1, 3).bytes();
        for (at, byte) in changes {
            let at = at.index(file.len());
            file.splice(at..=at, [byte]);
        }
        if cuts {
            file.truncate(cut.index(file.len()));
        }
        match parse_header(&file) {
            Ok(Progress::Complete(header)) => {
                if let Ok(shape) = shape(std::slice::from_ref(&header), "m") {
                    let stored = shape.tensors.iter().filter_map(|tensor| tensor.stored_bytes).sum::<u64>();
                    prop_assert!(stored <= header.data_bytes);
                }
            }
            Ok(Progress::NeedsMore { at_least }) => {
                prop_assert!(at_least <= MAX_HEADER);
                prop_assert!(at_least > u64::try_from(file.len()).expect("small"));
            }
            Err(error) => prop_assert!(error.to_string().len() < 500),
        }
    }
}
