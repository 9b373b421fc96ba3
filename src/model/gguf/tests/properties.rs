//! What holds for every input.

use proptest::prelude::*;

use crate::model::gguf::{MAX_HEADER, Progress, parse_header, shape};
use crate::model::weights::llama_gguf;

proptest! {
    #![proptest_config(ProptestConfig::default())]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        file.extend(bytes);
        if let Ok(Progress::Complete(header)) = parse_header(&file) {
            let _ = shape(&[*header], "m");
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
