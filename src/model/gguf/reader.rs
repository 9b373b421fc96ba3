//! A cursor over the bytes that are there so far, which says how many more it would take.

use crate::model::ParseError;

/// The largest header that is read; those of models with 260,000 tokens are some 16 MiB.
pub const MAX_HEADER: u64 = 32 << 20;
/// What is read, for messages.
pub(super) const WHAT: &str = "GGUF header";

/// Why reading stopped.
pub(super) enum Stop {
    /// The bytes end too soon: at least so many from the start of the file are needed.
    Needs(u64),
    /// The file is wrong.
    Wrong(ParseError),
}

impl From<ParseError> for Stop {
    fn from(error: ParseError) -> Self {
        Self::Wrong(error)
    }
}

pub(super) fn wrong(problem: String) -> Stop {
    Stop::Wrong(ParseError::Malformed { what: WHAT, problem })
}

/// A position in the bytes.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub(super) fn position(&self) -> u64 {
        u64::try_from(self.at).unwrap_or(u64::MAX)
    }

    /// Fails unless so many bytes more can be in a header at all; asks for them if they are not there yet.
    pub(super) fn require(&self, length: u64, what: &str) -> Result<usize, Stop> {
        let end = self.position().saturating_add(length);
        if end > MAX_HEADER {
            return Err(Stop::Wrong(ParseError::TooLarge {
                what: WHAT,
                problem: format!(
                    "{what} would end at byte {end}, and a header of at most {MAX_HEADER} bytes is read"
                ),
            }));
        }
        match usize::try_from(end) {
            Ok(end) if end <= self.bytes.len() => Ok(end),
            _ => Err(Stop::Needs(end)),
        }
    }

    pub(super) fn skip(&mut self, length: u64, what: &str) -> Result<(), Stop> {
        self.at = self.require(length, what)?;
        Ok(())
    }

    pub(super) fn take(&mut self, length: u64, what: &str) -> Result<&'a [u8], Stop> {
        let end = self.require(length, what)?;
        let taken =
            self.bytes.get(self.at..end).ok_or(Stop::Needs(self.position().saturating_add(length)))?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Stop> {
        let length = u64::try_from(N).unwrap_or(u64::MAX);
        let taken = self.take(length, what)?;
        taken.first_chunk::<N>().copied().ok_or(Stop::Needs(self.position()))
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, Stop> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64, Stop> {
        self.array(what).map(u64::from_le_bytes)
    }

    pub(super) fn i64(&mut self, what: &str) -> Result<i64, Stop> {
        self.array(what).map(i64::from_le_bytes)
    }
}
