//! The header of one GGUF file: magic, version, metadata, and the table of tensors.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

use super::metadata::{Metadata, Value};
use super::reader::{Reader, Stop, WHAT, wrong};
use super::tensor_type::TensorType;
use crate::model::ParseError;
use crate::model::content::{Content, not_it};
use crate::units::shorten;

/// The most tensors in one file. Experts are fused in this format: the largest models have some 2,000.
pub const MAX_TENSORS: u64 = 65_536;
/// The longest tensor name; the format's own limit is 64 bytes.
const MAX_NAME: u64 = 128;
/// The most dimensions that GGML has.
const MAX_RANK: u32 = 4;

/// One tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its dimensions, the fastest first: input features, output features, experts.
    pub dimensions: [u64; 4],
    /// How many of the dimensions are given; the others are 1.
    pub rank: u32,
    /// Its type.
    pub kind: TensorType,
    /// Bytes in the file.
    pub bytes: u64,
    /// Where its data begins, from the start of the data.
    pub offset: u64,
}

/// The header of one file.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// The version of the format, 2 or 3.
    pub version: u32,
    /// The key-value pairs.
    pub metadata: Metadata,
    /// The tensors, in the order of their data.
    pub tensors: Vec<Entry>,
    /// Where the data begins in the file.
    pub data_start: u64,
    /// Bytes of the data.
    pub data_bytes: u64,
}

impl Header {
    /// Checks that the file is as long as the header says.
    ///
    /// # Errors
    /// If it is shorter: an interrupted download.
    pub fn check_file_size(&self, actual: u64) -> Result<(), ParseError> {
        let expected = self.data_start.saturating_add(self.data_bytes);
        if actual >= expected || self.tensors.is_empty() {
            return Ok(());
        }
        Err(malformed(format!(
            "the file has {actual} bytes, and its header describes {expected}; the download is incomplete"
        )))
    }
}

/// What came of an attempt to read a header from the bytes that are there.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// All of it.
    Complete(Box<Header>),
    /// It goes on: at least so many bytes from the start of the file are needed.
    NeedsMore {
        /// How many.
        at_least: u64,
    },
}

/// Reads the header at the start of a file, or says how many bytes more that takes. It never asks for more than
/// [`MAX_HEADER`]; to read a file in growing ranges, ask for twice as much each time, and at least for what is asked.
///
/// # Errors
/// If it is not the format, is of a version or type that is not known, is larger than any real one, or contradicts itself.
pub fn parse_header(bytes: &[u8]) -> Result<Progress, ParseError> {
    match read(bytes) {
        Ok(header) => Ok(Progress::Complete(Box::new(header))),
        Err(Stop::Needs(at_least)) => Ok(Progress::NeedsMore { at_least }),
        Err(Stop::Wrong(error)) => Err(error),
    }
}

/// Reads a header of which all bytes are there.
///
/// # Errors
/// As [`parse_header`], and if the bytes end before the header does.
pub fn parse_whole(bytes: &[u8]) -> Result<Header, ParseError> {
    match parse_header(bytes)? {
        Progress::Complete(header) => Ok(*header),
        Progress::NeedsMore { at_least } => Err(malformed(format!(
            "it is cut off: at least {at_least} bytes are needed, and {} are there",
            bytes.len()
        ))),
    }
}

fn read(bytes: &[u8]) -> Result<Header, Stop> {
    let mut reader = Reader::new(bytes);
    let magic = reader.take(4, "the magic number")?;
    if magic != b"GGUF" {
        let problem = match magic {
            b"FUGG" => "it is big-endian; only little-endian files are read".to_owned(),
            _ => not_it(Content::of("", bytes), "a GGUF file"),
        };
        return Err(wrong(problem));
    }
    let version = reader.u32("the version")?;
    match version {
        2 | 3 => {}
        1 => {
            return Err(wrong(
                "it is of version 1, which llama.cpp no longer reads; convert the model again for version 3"
                    .to_owned(),
            ));
        }
        _ if (1..=3).contains(&version.swap_bytes()) => {
            return Err(wrong("it is big-endian; only little-endian files are read".to_owned()));
        }
        _ => return Err(wrong(format!("it is of version {version}; versions 2 and 3 are read"))),
    }
    let count = reader.u64("the number of tensors")?;
    if count > MAX_TENSORS {
        return Err(Stop::Wrong(ParseError::TooLarge {
            what: WHAT,
            problem: format!("it announces {count} tensors, and at most {MAX_TENSORS} are read"),
        }));
    }
    let pairs = reader.u64("the number of metadata pairs")?;
    let metadata = Metadata::read(&mut reader, pairs)?;
    let alignment = alignment(&metadata)?;
    // Name, rank, one dimension, type, offset: the least that a tensor takes.
    reader.require(count.saturating_mul(33), "the table of tensors")?;
    let mut tensors = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
    for _ in 0..count {
        tensors.push(entry(&mut reader, alignment)?);
    }
    let data_bytes = check_layout(&mut tensors)?;
    let data_start = reader.position().next_multiple_of(alignment);
    Ok(Header { version, metadata, tensors, data_start, data_bytes })
}

/// The alignment of tensor data: 32, unless the metadata says otherwise.
fn alignment(metadata: &Metadata) -> Result<u64, Stop> {
    match metadata.get("general.alignment") {
        None => Ok(32),
        Some(&Value::Integer(alignment)) => u64::try_from(alignment)
            .ok()
            .filter(|alignment| alignment.is_power_of_two() && *alignment <= 1 << 20)
            .ok_or_else(|| {
                Stop::Wrong(field(
                    "general.alignment",
                    format!("it is {alignment}; it must be a power of two"),
                ))
            }),
        Some(_) => Err(Stop::Wrong(field("general.alignment", "it must be a number".to_owned()))),
    }
}

fn entry(reader: &mut Reader<'_>, alignment: u64) -> Result<Entry, Stop> {
    let length = reader.u64("a tensor's name")?;
    if length > MAX_NAME {
        return Err(wrong(format!("a tensor's name has {length} bytes, and at most {MAX_NAME} are read")));
    }
    let name = String::from_utf8_lossy(reader.take(length, "a tensor's name")?).into_owned();
    let rank = reader.u32("a tensor's number of dimensions")?;
    if rank > MAX_RANK {
        return Err(of_tensor(&name, format!("it has {rank} dimensions, and at most {MAX_RANK} exist")));
    }
    let mut dimensions = [1_u64; 4];
    for dimension in dimensions.iter_mut().take(usize::try_from(rank).unwrap_or(0)) {
        let length = reader.i64("a tensor's dimension")?;
        *dimension = u64::try_from(length)
            .map_err(|_| of_tensor(&name, format!("a dimension is {length}; it must not be negative")))?;
    }
    let id = reader.u32("a tensor's type")?;
    let Some(kind) = TensorType::from_id(id) else {
        return Err(of_tensor(
            &name,
            format!("its type {id} is not known to this version; its size cannot be told"),
        ));
    };
    let offset = reader.u64("a tensor's offset")?;
    if !offset.is_multiple_of(alignment) {
        return Err(of_tensor(&name, format!("its offset {offset} is not a multiple of {alignment}")));
    }
    let [columns, rest @ ..] = dimensions;
    if !columns.is_multiple_of(kind.block_elements) {
        return Err(of_tensor(
            &name,
            format!(
                "its rows have {columns} elements, and {} packs {} to a block",
                kind.name, kind.block_elements
            ),
        ));
    }
    // The elements must fit, too: they are counted as parameters.
    let bytes = rest
        .iter()
        .try_fold(columns, |product, &length| product.checked_mul(length))
        .and_then(|elements| (elements / kind.block_elements).checked_mul(kind.block_bytes))
        .filter(|&bytes| offset.checked_add(bytes).is_some_and(|end| end <= i64::MAX.cast_unsigned()));
    let Some(bytes) = bytes else {
        return Err(of_tensor(&name, format!("its dimensions {dimensions:?} come to more than 2^63 bytes")));
    };
    Ok(Entry { name, dimensions, rank, kind, bytes, offset })
}

/// Sorts the tensors by their data, checks that none overlap, and returns where the data ends.
fn check_layout(tensors: &mut [Entry]) -> Result<u64, Stop> {
    tensors.sort_by(|a, b| a.offset.cmp(&b.offset).then(a.bytes.cmp(&b.bytes)));
    let mut end = 0_u64;
    let mut before = "";
    for entry in tensors.iter() {
        if entry.offset < end && entry.bytes > 0 {
            return Err(of_tensor(&entry.name, format!("its data overlaps that of \"{}\"", shorten(before))));
        }
        end = end.max(entry.offset.saturating_add(entry.bytes));
        before = &entry.name;
    }
    Ok(end)
}

pub(super) fn malformed(problem: String) -> ParseError {
    ParseError::Malformed { what: WHAT, problem }
}

pub(super) fn field(key: &str, problem: String) -> ParseError {
    ParseError::Field { what: WHAT, field: shorten(key), problem }
}

fn of_tensor(name: &str, problem: String) -> Stop {
    Stop::Wrong(field(&format!("tensor \"{}\"", shorten(name)), problem))
}
