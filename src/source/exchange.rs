//! One request for a part of a file, and what came of it.

use std::time::{Duration, Instant};

use super::error::SourceError;
use super::in_flight::Meter;
use super::settings::Token;

/// One request: what for, where, and how much of it.
pub(super) struct Request<'a> {
    /// What it is for, in messages: a repository or an address.
    pub(super) of: &'a str,
    /// The address.
    pub(super) url: String,
    /// Sent to the endpoint alone.
    pub(super) token: Option<&'a Token>,
    /// The part that is wanted: from a byte up to another, not included.
    pub(super) range: Option<(u64, u64)>,
    /// The most bytes of the body that are read. Of a range, no more than it has.
    pub(super) limit: u64,
    /// When to give up, retries and all.
    pub(super) deadline: Instant,
    /// Counts what is held.
    pub(super) meter: &'a Meter<'a>,
}

/// An answer: 200 or 206 with what was wanted, or 404.
#[derive(Debug)]
pub(super) enum Answer {
    /// The body.
    Found(Found),
    /// There is none; the code is the Hub's `X-Error-Code`, such as `EntryNotFound`.
    Missing {
        /// The Hub's word for what is missing.
        code: Option<String>,
    },
}

/// A body, or the part of it that was wanted.
#[derive(Debug)]
pub(super) struct Found {
    /// The bytes.
    pub(super) bytes: Vec<u8>,
    /// The size of the whole file, where the server says.
    pub(super) total: Option<u64>,
    /// `X-Repo-Commit`: the commit that the revision stood for.
    pub(super) commit: Option<String>,
    /// `ETag`: what the server calls this content of the file.
    pub(super) etag: Option<String>,
}

/// What came of one attempt.
pub(super) enum Attempt {
    /// An answer.
    Done(Answer),
    /// It is elsewhere.
    Redirect {
        /// Where, as the server writes it.
        location: String,
        /// `X-Repo-Commit`, which the Hub sends with the redirect, and the store that it leads to does not.
        commit: Option<String>,
    },
    /// Worth trying again, after so long if the server says.
    Again(SourceError, Option<Duration>),
    /// Not worth it.
    Failed(SourceError),
}
