//! When a model is read again. Pure.

use std::time::Duration;

use super::error::SourceError;

/// The first wait after a failure; every further one is twice as long.
const FIRST: Duration = Duration::from_secs(30);
/// The longest wait.
pub(super) const LONGEST: Duration = Duration::from_hours(1);

/// How long to wait before a read that has failed so often in a row is tried again; `None` where only another spec helps.
/// `is_pinned` is whether the reference stands for the same content for ever.
#[must_use]
pub fn again(error: &SourceError, is_pinned: bool, failures: u32) -> Option<Duration> {
    let grown = FIRST.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(LONGEST);
    match error {
        SourceError::Invalid { .. } => None,
        // A name may come to lead elsewhere; the settings of this process stay what they are.
        SourceError::Refused { .. } | SourceError::Offline { .. } => Some(LONGEST),
        // What was read is what it is: only another commit can be right.
        SourceError::Parse { .. } | SourceError::NoWeights { .. } | SourceError::TooLarge { .. } => {
            (!is_pinned).then_some(LONGEST)
        }
        SourceError::RateLimited { retry_after: Some(wait), .. } => Some(grown.max(*wait).min(LONGEST)),
        SourceError::RateLimited { .. }
        | SourceError::Network { .. }
        | SourceError::Status { .. }
        | SourceError::Busy { .. }
        | SourceError::StoreFull { .. }
        | SourceError::Broken { .. }
        | SourceError::File { .. }
        | SourceError::NotFound { .. }
        | SourceError::Unauthorized { .. } => Some(grown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ParseError;

    #[test]
    fn waits_grow_to_an_hour() {
        let outage = SourceError::Busy { of: "m".to_owned() };
        let waits: Vec<Option<u64>> =
            (1..=9).map(|failures| again(&outage, false, failures).map(|wait| wait.as_secs())).collect();
        assert_eq!(waits, [30, 60, 120, 240, 480, 960, 1920, 3600, 3600].map(Some));
        assert_eq!(again(&outage, false, u32::MAX), Some(LONGEST));
    }

    #[test]
    fn what_cannot_change_is_not_tried_again() {
        let of = || "m".to_owned();
        let parse = SourceError::Parse {
            of: of(),
            error: ParseError::Malformed { what: "config", problem: "it is not JSON".to_owned() },
        };
        let limited = |seconds| SourceError::RateLimited {
            of: of(),
            endpoint: of(),
            retry_after: Some(Duration::from_secs(seconds)),
        };
        for (error, pinned, expected) in [
            (SourceError::Invalid { field: "model", problem: of() }, false, None),
            (SourceError::Refused { of: of(), host: of(), problem: of() }, false, Some(LONGEST)),
            (parse.clone(), true, None),
            (parse, false, Some(LONGEST)),
            (limited(90), false, Some(Duration::from_secs(90))),
            (limited(90_000), false, Some(LONGEST)),
            (limited(1), false, Some(FIRST)),
        ] {
            assert_eq!(again(&error, pinned, 1), expected, "{error}");
        }
    }
}
