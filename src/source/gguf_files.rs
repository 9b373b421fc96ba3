//! GGUF files wherever they are: the header in growing ranges, and the files of a split model.

use crate::model::ParseError;
use crate::model::gguf::{self, Header, MAX_HEADER, Progress};

/// What is read at first: enough for a header without a tokenizer, or with a small one.
pub(super) const FIRST_RANGE: u64 = 1 << 20;
/// The most files of a split model; the largest have some hundred.
const MAX_FILES: u64 = 1024;

/// Why a header could not be read: the bytes could not be had, or they are wrong.
pub(super) enum Failed<E> {
    /// Reading failed.
    Read(E),
    /// The bytes are not a header.
    Parse(ParseError),
}

/// Reads a header from a source of ranges, which gives fewer bytes where the file ends.
pub(super) fn read_header<E>(
    mut bytes: Vec<u8>,
    mut range: impl FnMut(u64, u64) -> Result<Vec<u8>, E>,
) -> Result<Header, Failed<E>> {
    loop {
        let have = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let at_least = match gguf::parse_header(&bytes).map_err(Failed::Parse)? {
            Progress::Complete(header) => return Ok(*header),
            Progress::NeedsMore { at_least } => at_least,
        };
        let wanted = at_least.max(have.saturating_mul(2)).clamp(FIRST_RANGE.min(MAX_HEADER), MAX_HEADER);
        let more = if wanted > have { range(have, wanted).map_err(Failed::Read)? } else { Vec::new() };
        if more.is_empty() {
            // The file ends here: say what is missing in the words of the parser.
            return gguf::parse_whole(&bytes).map_err(Failed::Parse);
        }
        bytes.extend(more);
    }
}

/// The names of all files of a split model, from that of one: `x-00001-of-00003.gguf`.
pub(super) fn split_names(name: &str, count: u64) -> Option<Vec<String>> {
    let rest = name.strip_suffix(".gguf")?;
    let (rest, of) = rest.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(of) || !digits(number) || of.parse() != Ok(count) || !(1..=MAX_FILES).contains(&count) {
        return None;
    }
    Some((1..=count).map(|number| format!("{stem}-{number:05}-of-{of}.gguf")).collect())
}

/// The error about a split model whose files are not named so that the others could be found.
pub(super) fn not_named_as_split(name: &str, count: u64) -> ParseError {
    ParseError::Field {
        what: "GGUF header",
        field: "split.count".to_owned(),
        problem: format!(
            "it is {count}, and \"{}\" is not named as one of several files; its name must end in -00001-of-{count:05}.gguf",
            crate::units::shorten(name)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_split_model_are_found_by_name() {
        assert_eq!(
            split_names("q/m-00002-of-00003.gguf", 3).expect("named so"),
            ["q/m-00001-of-00003.gguf", "q/m-00002-of-00003.gguf", "q/m-00003-of-00003.gguf"]
        );
        for (name, count) in [
            ("m.gguf", 3),
            ("m-00001-of-00003.gguf", 4),
            ("m-1-of-3.gguf", 3),
            ("m-00001-of-99999.gguf", 99_999),
            ("00001-of-00003.gguf", 3),
        ] {
            assert_eq!(split_names(name, count), None, "{name}");
        }
    }
}
