//! The header of one safetensors file: eight bytes of length, then JSON.
//!
//! Format: <https://github.com/huggingface/safetensors#format>.

use super::entry::{Entry, WHAT, field, malformed};
use super::table::{self, Placed};
use crate::model::ParseError;
use crate::model::content::{Content, not_it};
use crate::units::shorten;

/// The largest header that is read. The format allows 100 MB; the largest real ones are below 2 MiB.
pub const MAX_HEADER: u64 = 16 << 20;

/// The header of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its tensors, in the order of their data.
    pub tensors: Vec<Entry>,
    /// Bytes of the header, with the eight of its length.
    pub header_bytes: u64,
    /// Bytes of the data that follows.
    pub data_bytes: u64,
}

impl Header {
    /// Bytes of the whole file.
    #[must_use]
    pub const fn file_bytes(&self) -> u64 {
        self.header_bytes.saturating_add(self.data_bytes)
    }

    /// Checks that the file is as long as the header says.
    ///
    /// # Errors
    /// If it is not: an interrupted download or another file.
    pub fn check_file_size(&self, actual: u64) -> Result<(), ParseError> {
        if actual == self.file_bytes() {
            return Ok(());
        }
        Err(malformed(format!(
            "the file has {actual} bytes, and its header describes {}; the download is incomplete or the file is another's",
            self.file_bytes()
        )))
    }
}

/// The length of the whole header, from the first eight bytes of the file: what a range read must fetch.
///
/// # Errors
/// If there are fewer than eight bytes, or the header is larger than [`MAX_HEADER`].
pub fn header_length(bytes: &[u8]) -> Result<u64, ParseError> {
    let Some(first) = bytes.first_chunk::<8>() else {
        return Err(malformed(format!(
            "the file has {} bytes; a safetensors file begins with eight bytes of header length",
            bytes.len()
        )));
    };
    let length = u64::from_le_bytes(*first);
    if length > MAX_HEADER {
        // A GGUF, pickle or HTML file read as a length is astronomically large: say so rather than quote the number.
        if length > 1 << 40 {
            return Err(malformed(not_it(Content::of("", bytes), "a safetensors file")));
        }
        return Err(ParseError::TooLarge {
            what: WHAT,
            problem: format!("its length is {length} bytes, and at most {MAX_HEADER} are read"),
        });
    }
    if length < 2 {
        return Err(malformed(format!("its length is {length} bytes; the smallest header is {{}}")));
    }
    Ok(length + 8)
}

/// Reads the header at the start of a file; what follows the header may be missing.
///
/// # Errors
/// If it is cut off, is not the format, or contradicts itself: a size that is not shape times type, or tensors that overlap.
pub fn parse_header(bytes: &[u8]) -> Result<Header, ParseError> {
    let header_bytes = header_length(bytes)?;
    let json = usize::try_from(header_bytes).ok().and_then(|end| bytes.get(8..end)).ok_or_else(|| {
        malformed(format!("it is cut off: it is {header_bytes} bytes long, and {} are there", bytes.len()))
    })?;
    parse_json(json, header_bytes)
}

/// Reads the JSON of a header by itself, as kept in a ConfigMap.
///
/// # Errors
/// As [`parse_header`].
pub fn parse_header_json(json: &[u8]) -> Result<Header, ParseError> {
    let length = u64::try_from(json.len()).unwrap_or(u64::MAX);
    if length > MAX_HEADER {
        return Err(ParseError::TooLarge {
            what: WHAT,
            problem: format!("it has {length} bytes, and at most {MAX_HEADER} are read"),
        });
    }
    parse_json(json, length.saturating_add(8))
}

fn parse_json(json: &[u8], header_bytes: u64) -> Result<Header, ParseError> {
    let mut placed = table::read(json)?;
    // By name first: the same one twice would be counted twice.
    placed.sort_unstable_by(|a, b| a.entry.name.cmp(&b.entry.name));
    if let Some([one, _]) =
        placed.array_windows().find(|[one, next]: &&[Placed; 2]| one.entry.name == next.entry.name)
    {
        return Err(field(&one.entry.name, "it is there twice".to_owned()));
    }
    placed.sort_by(|a, b| a.begin.cmp(&b.begin).then(a.entry.bytes.cmp(&b.entry.bytes)));
    let mut data_bytes = 0;
    let mut tensors: Vec<Entry> = Vec::with_capacity(placed.len());
    for Placed { begin, entry } in placed {
        if begin < data_bytes && entry.bytes > 0 {
            let before = tensors.last().map_or("", |entry| entry.name.as_str());
            return Err(field(&entry.name, format!("its data overlaps that of \"{}\"", shorten(before))));
        }
        // Cannot overflow: it is the end offset in the header.
        data_bytes = data_bytes.max(begin.saturating_add(entry.bytes));
        tensors.push(entry);
    }
    Ok(Header { tensors, header_bytes, data_bytes })
}
