//! JUnit XML for `plan`: a test case per object, which CI systems show.

use std::fmt::Write;

use crate::decide::Verdict;

use super::outcome::Outcome;
use super::text::length;

/// What came of several objects, as a test suite: what fits passes, what is busy or rejected fails, what is malformed or
/// unknown is an error. Unknown is never a pass.
#[must_use]
pub fn plan(outcomes: &[Outcome]) -> String {
    let count =
        |wanted: fn(&Outcome) -> bool| length(outcomes.iter().filter(|outcome| wanted(outcome)).count());
    let (failures, errors) = (count(is_failure), count(is_error));
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let tests = outcomes.len();
    // Writing to a String does not fail.
    let _ = writeln!(xml, "<testsuites tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\">");
    let _ = writeln!(
        xml,
        "  <testsuite name=\"loadline plan\" tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"0\">"
    );
    for outcome in outcomes {
        let file = outcome.origin.file.as_ref().map_or_else(String::new, |file| {
            format!(" file=\"{}\" line=\"{}\"", escape(file), outcome.origin.line)
        });
        let _ = write!(
            xml,
            "    <testcase classname=\"{}\" name=\"{}\"{file}>",
            escape(&outcome.namespace),
            escape(&outcome.name)
        );
        let message = escape(&outcome.message());
        let reason = outcome.reason();
        let element = if is_error(outcome) { "error" } else { "failure" };
        if is_error(outcome) || is_failure(outcome) {
            let _ = write!(xml, "\n      <{element} type=\"{reason}\" message=\"{message}\"/>\n    ");
        } else {
            let _ = write!(xml, "\n      <system-out>{message}</system-out>\n    ");
        }
        xml.push_str("</testcase>\n");
    }
    xml.push_str("  </testsuite>\n</testsuites>\n");
    xml
}

fn is_error(outcome: &Outcome) -> bool {
    outcome.is_malformed() || outcome.verdict() == Verdict::Unknown
}

fn is_failure(outcome: &Outcome) -> bool {
    !is_error(outcome) && outcome.verdict() != Verdict::Fits
}

/// Text for an attribute or an element; characters that XML 1.0 does not allow are replaced.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in super::text::printable(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn what_xml_does_not_allow_is_escaped() {
        assert_eq!(escape("a<b>&\"'\u{0}\u{ffff}"), "a&lt;b&gt;&amp;&quot;&apos;\u{fffd}\u{fffd}");
    }
}
