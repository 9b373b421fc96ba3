//! Events: one for each transition that a status makes, none for one that stays. Pure, but for the publishing.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::api::conditions::{self, PLACEABLE, READY};

/// What an event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Whether it is a warning.
    pub is_warning: bool,
    /// The reason, in one word.
    pub reason: String,
    /// The reason with its numbers.
    pub message: String,
}

/// The events of the step from one list of conditions to the next.
///
/// A change of reason or status of Ready is one; so is one of Placeable, unless Ready tells of the same.
#[must_use]
pub fn transitions(before: &[Condition], after: &[Condition]) -> Vec<Note> {
    let mut notes: Vec<Note> = Vec::new();
    for kind in [READY, PLACEABLE] {
        let (old, new) = (conditions::find(before, kind), conditions::find(after, kind));
        let Some(new) = new else { continue };
        let stays = old.is_some_and(|old| old.reason == new.reason && old.status == new.status);
        if stays || notes.iter().any(|note| note.reason == new.reason) {
            continue;
        }
        // What was never placeable is told by Ready alone.
        if kind == PLACEABLE && old.is_none() {
            continue;
        }
        notes.push(Note {
            is_warning: new.status != "True"
                && new.reason != "Progressing"
                && new.reason != "EstimatePending",
            reason: new.reason.clone(),
            message: new.message.clone(),
        });
    }
    notes
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn conditions(ready: (&str, &str), placeable: (&str, &str)) -> Vec<Condition> {
        [(READY, ready), (PLACEABLE, placeable)]
            .into_iter()
            .map(|(kind, (status, reason))| Condition {
                type_: kind.to_owned(),
                status: status.to_owned(),
                reason: reason.to_owned(),
                message: format!("{kind} because {reason}"),
                observed_generation: Some(1),
                last_transition_time: Time(jiff::Timestamp::UNIX_EPOCH),
            })
            .collect()
    }

    #[test]
    fn an_event_for_each_transition_and_none_for_what_stays() {
        let busy = conditions(("False", "GpusBusy"), ("False", "GpusBusy"));
        let starts = conditions(("False", "Progressing"), ("True", "FitsNow"));
        let runs = conditions(("True", "Available"), ("True", "FitsNow"));
        let shrinks = conditions(("True", "Available"), ("False", "NodeCordoned"));
        for (before, after, expected) in [
            (&[][..], &busy, &[("GpusBusy", true)][..]),
            (&[], &runs, &[("Available", false)]),
            (&busy, &busy, &[]),
            (&busy, &starts, &[("Progressing", false), ("FitsNow", false)]),
            (&starts, &runs, &[("Available", false)]),
            (&runs, &runs, &[]),
            (&runs, &shrinks, &[("NodeCordoned", true)]),
            (&shrinks, &runs, &[("FitsNow", false)]),
        ] {
            let notes = transitions(before, after);
            let found: Vec<(&str, bool)> =
                notes.iter().map(|note| (note.reason.as_str(), note.is_warning)).collect();
            assert_eq!(found, expected);
        }
    }
}
