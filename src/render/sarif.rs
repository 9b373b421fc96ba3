//! SARIF 2.1.0 for `plan`: findings that code hosts show beside the line of the file.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::decide::{Reason, Verdict};

use super::outcome::Outcome;
use super::reasons;

/// What came of several objects, as findings: one for each that does not fit. `version` is Loadline's own.
#[must_use]
pub fn plan(outcomes: &[Outcome], version: &str) -> Value {
    let findings: Vec<&Outcome> =
        outcomes.iter().filter(|outcome| outcome.verdict() != Verdict::Fits).collect();
    let rules: Vec<Value> = Reason::ALL
        .iter()
        .filter(|reason| findings.iter().any(|outcome| outcome.reason() == **reason))
        .map(|reason| {
            json!({
                "id": reason.as_str(),
                "shortDescription": {"text": reasons::meaning(*reason)},
                "help": {"text": reasons::remedy(*reason)},
            })
        })
        .collect();
    let results: Vec<Value> = findings.into_iter().map(finding).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {"name": "loadline", "semanticVersion": version, "rules": rules}},
            "results": results,
        }],
    })
}

fn finding(outcome: &Outcome) -> Value {
    let level = match outcome.verdict() {
        Verdict::Busy => "warning",
        Verdict::Fits | Verdict::Unknown | Verdict::Rejected => "error",
    };
    let mut location = json!({
        "logicalLocations": [{"fullyQualifiedName": outcome.full_name(), "kind": "object"}],
    });
    if let (Some(file), Some(fields)) = (&outcome.origin.file, location.as_object_mut()) {
        let physical = json!({
            "artifactLocation": {"uri": uri(file)},
            "region": {"startLine": outcome.origin.line.max(1)},
        });
        fields.insert("physicalLocation".to_owned(), physical);
    }
    json!({
        "ruleId": outcome.reason().as_str(),
        "level": level,
        "message": {"text": outcome.message()},
        "locations": [location],
    })
}

/// A path as a relative URI reference.
fn uri(path: &str) -> String {
    let mut uri = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/.-_~".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            // Writing to a String does not fail.
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::uri;

    #[test]
    fn a_path_becomes_a_uri() {
        assert_eq!(uri("apps/team a/ü.yaml"), "apps/team%20a/%C3%BC.yaml");
    }
}
