//! What a server's answer means, and as much of its body as is wanted.

use std::io::Read;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use ureq::http::{HeaderMap, Response, StatusCode};

use super::error::SourceError;
use super::exchange::{Answer, Attempt, Found, Request};
use super::settings::Settings;
use crate::units::shorten;

/// Reads an answer of a host.
pub(super) fn read(
    request: &Request<'_>,
    host: &str,
    response: Response<ureq::Body>,
    settings: &Settings,
) -> Attempt {
    match failure(request, host, response.status(), response.headers()) {
        Some(attempt) => attempt,
        None => body(request, host, response, settings),
    }
}

/// What a status without a usable body means; `None` for one with.
fn failure(request: &Request<'_>, host: &str, status: StatusCode, headers: &HeaderMap) -> Option<Attempt> {
    let of = request.of.to_owned();
    let endpoint = host.to_owned();
    let code = status.as_u16();
    let retry_after = || wait_of(text(headers, "retry-after")?, Timestamp::now());
    Some(match code {
        200 | 206 => return None,
        301 | 302 | 303 | 307 | 308 => match text(headers, "location") {
            Some(location) => Attempt::Redirect {
                location: location.to_owned(),
                commit: text(headers, "x-repo-commit").map(str::to_owned),
            },
            None => Attempt::Failed(SourceError::Status { of, endpoint, status: code }),
        },
        401 | 403 => Attempt::Failed(SourceError::Unauthorized {
            of,
            endpoint,
            status: code,
            with_token: request.token.is_some(),
        }),
        404 => Attempt::Done(Answer::Missing { code: text(headers, "x-error-code").map(str::to_owned) }),
        // The range begins after the end: the file is shorter than its header says.
        416 => {
            let total = text(headers, "content-range").and_then(total_of);
            Attempt::Done(Answer::Found(Found { bytes: Vec::new(), total, commit: None, etag: None }))
        }
        429 => {
            let wait = retry_after();
            Attempt::Again(SourceError::RateLimited { of, endpoint, retry_after: wait }, wait)
        }
        408 | 500 | 502 | 503 | 504 => {
            Attempt::Again(SourceError::Status { of, endpoint, status: code }, retry_after())
        }
        _ => Attempt::Failed(SourceError::Status { of, endpoint, status: code }),
    })
}

/// The part of the body that is wanted.
fn body(
    request: &Request<'_>,
    host: &str,
    mut response: Response<ureq::Body>,
    settings: &Settings,
) -> Attempt {
    let network = |problem: String| SourceError::Network {
        of: request.of.to_owned(),
        endpoint: host.to_owned(),
        problem,
    };
    let partial = response.status() == StatusCode::PARTIAL_CONTENT;
    let content_range = text(response.headers(), "content-range").map(str::to_owned);
    let commit = text(response.headers(), "x-repo-commit").map(str::to_owned);
    let etag = text(response.headers(), "etag").map(shorten);
    let total = match &content_range {
        Some(range) if partial => total_of(range),
        _ => response.body().content_length(),
    };
    let (from, to) = request.range.unwrap_or((0, request.limit.saturating_add(1)));
    if let (true, Some(range)) = (partial, &content_range)
        && start_of(range).is_some_and(|start| start != from)
    {
        let sent = shorten(range);
        return Attempt::Failed(network(format!(
            "asked for the bytes from {from} on, it sends others: {sent}"
        )));
    }
    if request.range.is_none() && total.is_some_and(|total| total > request.limit) {
        return Attempt::Failed(too_large(request));
    }
    // A server that does not know ranges sends the whole file: what is wanted is read, and no more.
    let skip = if partial { 0 } else { from };
    let mut bytes = Vec::new();
    let reader = response.body_mut().with_config().limit(u64::MAX).reader();
    let mut pace = Pace::new(settings);
    match read_part(reader, skip, to.saturating_sub(from), &mut bytes, |read, is_kept| {
        if is_kept {
            request.meter.take(request.of, read).map_err(Stop::Held)?;
        }
        pace.is_kept_after(read).then_some(()).ok_or(Stop::Slow)
    }) {
        Ok(()) => {}
        Err(Stop::Held(error)) => return Attempt::Failed(error),
        // It would be as slow the next moment.
        Err(Stop::Slow) => {
            return Attempt::Failed(network(format!(
                "it sends less than {} KiB a second",
                settings.least_throughput >> 10
            )));
        }
        Err(Stop::Broken(error)) => {
            return Attempt::Again(
                network(format!("the answer broke off: {}", shorten(&error.to_string()))),
                None,
            );
        }
    }
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if request.range.is_none() && length > request.limit {
        return Attempt::Failed(too_large(request));
    }
    let expected = total.map_or(0, |total| to.min(total).saturating_sub(from));
    if length < expected {
        return Attempt::Again(
            network(format!("the answer broke off after {length} of {expected} bytes")),
            None,
        );
    }
    Attempt::Done(Answer::Found(Found { bytes, total, commit, etag }))
}

/// The longest wait that a server is believed to mean.
const LONGEST_WAIT: Duration = Duration::from_hours(24);

/// What `Retry-After` says: seconds, or the time of day after which to come back.
fn wait_of(retry_after: &str, now: Timestamp) -> Option<Duration> {
    let text = retry_after.trim();
    if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
        // A number that does not fit is still one.
        return Some(text.parse().map_or(LONGEST_WAIT, Duration::from_secs).min(LONGEST_WAIT));
    }
    let until = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    // A time that is past means now.
    let wait = Duration::try_from(until.duration_since(now)).unwrap_or(Duration::ZERO);
    Some(wait.min(LONGEST_WAIT))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn too_large(request: &Request<'_>) -> SourceError {
    SourceError::TooLarge {
        of: request.of.to_owned(),
        what: shorten(request.url.rsplit('/').next().unwrap_or_default()),
        limit: request.limit,
    }
}

/// Why a body is not read to its end.
enum Stop {
    /// What is read already is too much.
    Held(SourceError),
    /// It comes too slowly.
    Slow,
    /// The connection broke.
    Broken(std::io::Error),
}

/// Whether a body comes fast enough.
struct Pace {
    since: Instant,
    bytes: u64,
    least: u64,
    slow_for: Duration,
}

impl Pace {
    fn new(settings: &Settings) -> Self {
        Self {
            since: Instant::now(),
            bytes: 0,
            least: settings.least_throughput,
            slow_for: settings.slow_for,
        }
    }

    /// Counts bytes that have come; whether the server still has its time.
    fn is_kept_after(&mut self, bytes: u64) -> bool {
        self.bytes = self.bytes.saturating_add(bytes);
        is_fast_enough(self.bytes, self.since.elapsed(), self.least, self.slow_for)
    }
}

/// Whether so many bytes in such a time are enough.
fn is_fast_enough(bytes: u64, took: Duration, least: u64, slow_for: Duration) -> bool {
    took < slow_for || u128::from(bytes) * 1000 >= u128::from(least) * took.as_millis()
}

/// Reads so many bytes after so many others; fewer if the body ends. Each piece is counted, and whether it is kept.
fn read_part(
    mut reader: impl Read,
    skip: u64,
    wanted: u64,
    to: &mut Vec<u8>,
    mut counted: impl FnMut(u64, bool) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let mut scratch = [0_u8; 16 << 10];
    for (length, is_kept) in [(skip, false), (wanted, true)] {
        let mut left = length;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(scratch.len());
            let read = match reader.read(scratch.get_mut(..most).unwrap_or_default()) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Stop::Broken(error)),
            };
            let piece = u64::try_from(read).unwrap_or(u64::MAX);
            counted(piece, is_kept)?;
            if is_kept {
                to.extend_from_slice(scratch.get(..read).unwrap_or_default());
            }
            left = left.saturating_sub(piece);
        }
    }
    Ok(())
}

/// The first byte of `bytes 0-99/1000`.
fn start_of(content_range: &str) -> Option<u64> {
    content_range.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

/// The size of the file in `bytes 0-99/1000` or `bytes */1000`.
fn total_of(content_range: &str) -> Option<u64> {
    content_range.rsplit('/').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_must_send_enough_after_a_while() {
        let second = Duration::from_secs(1);
        for (bytes, took, expected) in [
            (1, second, true),
            (4, 4 * second, true),
            (5, 5 * second, false),
            (5000, 5 * second, true),
            (5999, 6 * second, false),
            (u64::MAX, 600 * second, true),
        ] {
            assert_eq!(is_fast_enough(bytes, took, 1000, 5 * second), expected, "{bytes} in {took:?}");
        }
    }

    #[test]
    fn the_wait_is_read_as_seconds_or_as_a_time() {
        let now = "2015-10-21T07:28:00Z".parse().expect("a time");
        for (text, expect) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("86400", Some(86_400)),
            ("86401", Some(86_400)),
            ("99999999999999999999999", Some(86_400)),
            ("Wed, 21 Oct 2015 07:28:30 GMT", Some(30)),
            ("Wed, 21 Oct 2015 07:27:30 GMT", Some(0)),
            ("Fri, 21 Oct 2050 07:28:00 GMT", Some(86_400)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("-1", None),
            ("1.5", None),
            ("", None),
            ("soon", None),
            ("Wed, 99 Oct 2015 07:28:30 GMT", None),
        ] {
            assert_eq!(wait_of(text, now).map(|wait| wait.as_secs()), expect, "{text:?}");
        }
    }
}
