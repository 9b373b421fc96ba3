//! What a server's answer means, and as much of its body as is wanted.

use std::io::Read;
use std::time::Duration;

use jiff::Timestamp;
use ureq::http::{HeaderMap, Response, StatusCode};

use super::error::SourceError;
use super::http::{Answer, Attempt, Found, Request};
use crate::units::shorten;

/// Reads an answer of a host.
pub(super) fn read(request: &Request<'_>, host: &str, response: Response<ureq::Body>) -> Attempt {
    match failure(request, host, response.status(), response.headers()) {
        Some(attempt) => attempt,
        None => body(request, host, response),
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
            Attempt::Done(Answer::Found(Found { bytes: Vec::new(), total, commit: None }))
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
fn body(request: &Request<'_>, host: &str, mut response: Response<ureq::Body>) -> Attempt {
    let network = |problem: String| SourceError::Network {
        of: request.of.to_owned(),
        endpoint: host.to_owned(),
        problem,
    };
    let partial = response.status() == StatusCode::PARTIAL_CONTENT;
    let content_range = text(response.headers(), "content-range").map(str::to_owned);
    let commit = text(response.headers(), "x-repo-commit").map(str::to_owned);
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
    if let Err(error) = read_part(reader, skip, to.saturating_sub(from), &mut bytes) {
        return Attempt::Again(
            network(format!("the answer broke off: {}", shorten(&error.to_string()))),
            None,
        );
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
    Attempt::Done(Answer::Found(Found { bytes, total, commit }))
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

/// Reads so many bytes after so many others; fewer if the body ends.
fn read_part(mut reader: impl Read, skip: u64, wanted: u64, to: &mut Vec<u8>) -> std::io::Result<()> {
    let mut skipped = 0;
    let mut scratch = [0_u8; 8192];
    while skipped < skip {
        let most = usize::try_from(skip - skipped).unwrap_or(usize::MAX).min(scratch.len());
        let read = reader.read(scratch.get_mut(..most).unwrap_or_default())?;
        if read == 0 {
            return Ok(());
        }
        skipped += u64::try_from(read).unwrap_or(u64::MAX);
    }
    reader.take(wanted).read_to_end(to).map(|_| ())
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
