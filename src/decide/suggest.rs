//! What could be changed so that it fits: each suggestion is itself decided.

use super::node::{self, Offer};
use super::{Alternative, Policy, Requirement, Suggestion, Verdict};
use crate::inventory::{Group, Inventory, Owner};

/// No more than people read.
const MOST: usize = 4;
/// No more that change the same fields: a third value of the same field tells nothing new.
const MOST_OF_ONE_KIND: usize = 2;

/// What the nodes that are open to a policy offer: many requirements can be tried on it.
#[derive(Clone, Debug)]
pub struct Room(Vec<(u64, Vec<Offer>)>);

impl Room {
    /// The room of a cluster. What the owner's pods hold counts as free.
    #[must_use]
    pub fn new(policy: &Policy, owner: Option<Owner<'_>>, inventory: &Inventory) -> Self {
        Self::of(policy, &inventory.groups(owner, &policy.labels(), &policy.requests))
    }

    /// The room of groups of nodes. What the policy says does not change with the requirement: it is asked once.
    fn of(policy: &Policy, groups: &[Group<'_>]) -> Self {
        let offers = groups.iter().map(|group| (group.count(), node::offers(group, policy)));
        Self(offers.filter(|(_, offers)| !offers.is_empty()).collect())
    }

    /// Whether some node has room, in use or not.
    #[must_use]
    pub fn holds(&self, requirement: Requirement) -> bool {
        self.nodes(requirement, false) > 0
    }

    /// How many nodes have room, in use or not, or now.
    fn nodes(&self, requirement: Requirement, now: bool) -> u64 {
        let suits = |offer: &Offer| match offer.verdict(requirement) {
            Some(Verdict::Fits) => true,
            Some(Verdict::Busy) => !now,
            _ => false,
        };
        let suited = self.0.iter().filter(|(_, offers)| offers.iter().any(suits));
        suited.fold(0_u64, |sum, (count, _)| sum.saturating_add(*count))
    }
}

/// The alternatives that fit, in the order given. For an object that is only busy, those that fit now.
pub(super) fn suggestions(
    verdict: Verdict,
    policy: &Policy,
    groups: &[Group<'_>],
    alternatives: &[Alternative],
) -> Vec<Suggestion> {
    let mut found: Vec<Suggestion> = Vec::new();
    let room = Room::of(policy, groups);
    for Alternative { change, requirement } in alternatives.iter().copied() {
        if found.len() == MOST {
            break;
        }
        let alike = || found.iter().filter(|earlier| earlier.change.is_like(&change));
        // At least a quarter less, or it is no different to the user.
        let gains = |earlier: &Suggestion| {
            u128::from(requirement.per_gpu.0) * 4 <= u128::from(earlier.requirement.per_gpu.0) * 3
        };
        if alike().count() >= MOST_OF_ONE_KIND || !alike().all(gains) {
            continue;
        }
        let nodes = room.nodes(requirement, verdict == Verdict::Busy);
        if nodes > 0 {
            found.push(Suggestion { change, requirement, nodes });
        }
    }
    found
}
