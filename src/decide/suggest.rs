//! What could be changed so that it fits: each suggestion is itself decided.

use super::{Alternative, Change, Policy, Suggestion, Verdict, count, node};
use crate::inventory::Group;

/// No more than people read.
const MOST: usize = 4;
/// No more that change the same fields: a third value of the same field tells nothing new.
const MOST_OF_ONE_KIND: usize = 2;

/// The alternatives that fit, in the order given. For an object that is only busy, those that fit now.
pub(super) fn suggestions(
    verdict: Verdict,
    policy: &Policy,
    groups: &[Group<'_>],
    alternatives: &[Alternative],
) -> Vec<Suggestion> {
    let mut found: Vec<Suggestion> = Vec::new();
    if verdict == Verdict::Fits {
        return found;
    }
    for alternative in alternatives {
        if found.len() == MOST {
            break;
        }
        let requirement = alternative.requirement;
        let alike = || found.iter().filter(|earlier| same_fields(&earlier.change, &alternative.change));
        // At least a quarter less, or it is no different to the user.
        let gains = |earlier: &Suggestion| {
            u128::from(requirement.per_gpu.0) * 4 <= u128::from(earlier.requirement.per_gpu.0) * 3
        };
        if alike().count() >= MOST_OF_ONE_KIND || !alike().all(gains) {
            continue;
        }
        let nodes = groups
            .iter()
            .filter(|group| match node::judge(group, &requirement, policy).verdict {
                Verdict::Fits => true,
                Verdict::Busy => verdict != Verdict::Busy,
                Verdict::Unknown | Verdict::Rejected => false,
            })
            .fold(0_u64, |sum, group| sum.saturating_add(count(group)));
        if nodes > 0 {
            found.push(Suggestion { change: alternative.change.clone(), requirement, nodes });
        }
    }
    found
}

fn same_fields(a: &Change, b: &Change) -> bool {
    a.fields.iter().map(|(field, _)| field).eq(b.fields.iter().map(|(field, _)| field))
}
