//! Condition types, and how a list of conditions is brought up to date without moving what has not changed.

use std::fmt;
use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde::{Deserialize, Serialize};

use crate::precision::{UnknownName, named};
use crate::units::shorten;

/// All is well: the workload has the replicas that are wanted, or, with nothing to run, a node fits.
pub const READY: &str = "Ready";
/// The model was resolved and its memory estimated.
pub const ESTIMATED: &str = "Estimated";
/// At least one node fits now.
pub const PLACEABLE: &str = "Placeable";
/// The pods that run were made of the estimate as it is now. Absent where none run.
pub const UP_TO_DATE: &str = "UpToDate";
/// kstatus: work is under way, or the cluster may still come to fit.
pub const RECONCILING: &str = "Reconciling";
/// kstatus: nothing will change until the spec does.
pub const STALLED: &str = "Stalled";

/// The conditions that the controller writes; others may set others.
pub const OURS: [&str; 6] = [READY, ESTIMATED, PLACEABLE, UP_TO_DATE, RECONCILING, STALLED];

named! {
    /// Reasons of conditions beside those of [`decide`](crate::decide::Reason): how far the workload has come.
    WorkloadReason ("reason") {
        /// The estimate is made.
        Estimated = "Estimated",
        /// All replicas that are wanted are ready.
        Available = "Available",
        /// The workload is written, a node fits, and replicas are not ready yet.
        Progressing = "Progressing",
        /// The Deployment's pods cannot be created: a quota, or an admission webhook of somebody else.
        ReplicaFailure = "ReplicaFailure",
        /// The object asks for an estimate only, and has it.
        EstimateOnly = "EstimateOnly",
        /// No replica is wanted, and none runs.
        ScaledToZero = "ScaledToZero",
        /// New pods wait for the GPUs of the old ones, which go first.
        Replacing = "Replacing",
        /// A pod ran out of GPU memory: the estimate was exceeded.
        GpuOutOfMemory = "GpuOutOfMemory",
        /// A container ran out of host memory.
        HostOutOfMemory = "HostOutOfMemory",
        /// An image cannot be pulled.
        ImagePullFailed = "ImagePullFailed",
        /// A container cannot be created.
        ContainerNotCreated = "ContainerNotCreated",
        /// A container ends again and again.
        CrashLooping = "CrashLooping",
        /// A pod was ended as a whole, such as by an eviction.
        PodFailed = "PodFailed",
        /// kube-scheduler finds no node, for a reason that is not the GPUs.
        Unschedulable = "Unschedulable",
        /// The Deployment has given up waiting for its pods.
        DeadlineExceeded = "DeadlineExceeded",
        /// The pods that run were made of the estimate as it is.
        AsEstimated = "AsEstimated",
        /// The pods that run were given less than the estimate comes to by now.
        EstimateGrown = "EstimateGrown",
        /// A Deployment of the same name belongs to another.
        NameTaken = "NameTaken",
        /// The API server refuses the Deployment that the template comes to.
        WorkloadRejected = "WorkloadRejected",
        /// A quota, an admission policy or a missing permission is in the way of the Deployment.
        WorkloadDenied = "WorkloadDenied",
    }
}

/// The status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not.
    False,
    /// It cannot be said.
    Unknown,
}

impl Truth {
    /// `True` or `False`.
    #[must_use]
    pub const fn of(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }

    /// The spelling in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// What one condition is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionFinding {
    /// The condition's type.
    pub kind: &'static str,
    /// Whether it holds.
    pub status: Truth,
    /// Why, in one word.
    pub reason: String,
    /// Why, with the numbers.
    pub message: String,
}

/// The new list: `findings` in their order, then the conditions that others have set, as they were.
///
/// `lastTransitionTime` is `now` for a condition that is new or whose status flips, and stays for every other.
#[must_use]
pub fn merge(
    previous: &[Condition],
    findings: &[ConditionFinding],
    generation: Option<i64>,
    now: jiff::Timestamp,
) -> Vec<Condition> {
    let ours = findings.iter().map(|finding| {
        let since = previous
            .iter()
            .find(|old| old.type_ == finding.kind && old.status == finding.status.as_str())
            .map_or(Time(to_second(now)), |old| old.last_transition_time.clone());
        Condition {
            type_: finding.kind.to_owned(),
            status: finding.status.as_str().to_owned(),
            reason: finding.reason.clone(),
            message: finding.message.clone(),
            observed_generation: generation,
            last_transition_time: since,
        }
    });
    let theirs = previous.iter().filter(|old| !OURS.contains(&old.type_.as_str())).cloned();
    ours.chain(theirs).collect()
}

/// The condition of a type.
#[must_use]
pub fn find<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// The API keeps whole seconds: a fraction would make what is read back differ from what was written.
fn to_second(time: jiff::Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(status: Truth, reason: &str) -> ConditionFinding {
        ConditionFinding {
            kind: READY,
            status,
            reason: reason.to_owned(),
            message: format!("because {reason}"),
        }
    }

    fn at(second: i64) -> jiff::Timestamp {
        jiff::Timestamp::new(second, 123_456_789).unwrap()
    }

    #[test]
    fn the_time_moves_only_when_the_status_flips() {
        let first = merge(&[], &[finding(Truth::False, "GpusBusy")], Some(1), at(100));
        assert_eq!(first[0].last_transition_time.0, jiff::Timestamp::from_second(100).unwrap());

        let same = merge(&first, &[finding(Truth::False, "GpuMemoryTooSmall")], Some(2), at(200));
        assert_eq!(same[0].last_transition_time, first[0].last_transition_time);
        assert_eq!((same[0].reason.as_str(), same[0].observed_generation), ("GpuMemoryTooSmall", Some(2)));

        let flipped = merge(&same, &[finding(Truth::True, "FitsNow")], Some(2), at(300));
        assert_eq!(flipped[0].last_transition_time.0, jiff::Timestamp::from_second(300).unwrap());
    }

    #[test]
    fn the_same_finding_twice_gives_the_same_list() {
        let once = merge(&[], &[finding(Truth::True, "FitsNow")], Some(1), at(1));
        assert_eq!(merge(&once, &[finding(Truth::True, "FitsNow")], Some(1), at(99)), once);
    }

    #[test]
    fn conditions_of_others_stay_as_they_are() {
        let theirs = Condition {
            type_: "example.com/Audited".to_owned(),
            status: "True".to_owned(),
            reason: "Audited".to_owned(),
            message: String::new(),
            observed_generation: None,
            last_transition_time: Time(at(1)),
        };
        let merged = merge(std::slice::from_ref(&theirs), &[finding(Truth::True, "FitsNow")], Some(1), at(9));
        assert_eq!(merged.len(), 2);
        assert_eq!(find(&merged, "example.com/Audited"), Some(&theirs));
    }
}
