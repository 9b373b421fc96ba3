//! How an object stands: what its Ready condition says, as data. `render` makes it words.

use super::deployment::Replacement;
use super::failure::{Failure, FailureKind, failure};
use super::rollout::{Child, Rollout};
use super::{Launch, Nothing};
use crate::api::conditions::WorkloadReason;
use crate::decide::{Decision, Reason, Verdict};
use crate::inventory::{PodFacts, Vendor};

/// How an object with a plan stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It asks for an estimate only, and has it.
    EstimateOnly(Nothing),
    /// What it asks for cannot be run.
    CannotRun(Nothing),
    /// No GPU that is made has the memory.
    NeverFits,
    /// A Deployment of the same name belongs to another.
    NameTaken,
    /// The Deployment of an object of the same name that is gone is being deleted.
    Predecessor,
    /// The API server refuses the Deployment, in its words.
    Rejected(String),
    /// Something denies the Deployment for now, in its words.
    Denied(String),
    /// No replica is wanted, and none runs.
    ScaledToZero,
    /// All replicas that are wanted are ready, and of the present spec.
    Available,
    /// Pods cannot be created, in the Deployment's words.
    CreationFailed(String),
    /// Pods do not come up.
    Failing {
        /// Why.
        failure: Failure,
        /// Whether the Deployment has given up waiting.
        is_overdue: bool,
    },
    /// The Deployment has given up waiting, and nothing says why.
    Overdue(String),
    /// No node has room now: the decision says why.
    NoRoom,
    /// Some replicas find room, and others do not.
    RoomForSome {
        /// How many find room.
        slots: u64,
    },
    /// New pods wait for the GPUs of old ones, which go first.
    Replacing(Replacement),
    /// Replicas are starting.
    Progressing,
}

impl Standing {
    /// How an object stands.
    #[must_use]
    pub fn of(
        launch: &Launch,
        decision: &Decision,
        rollout: &Rollout,
        pods: &[PodFacts],
        wanted: Wanted,
    ) -> Self {
        match launch {
            Launch::Nothing(nothing) if nothing.is_by_choice() => return Self::EstimateOnly(nothing.clone()),
            Launch::Nothing(nothing) => return Self::CannotRun(nothing.clone()),
            Launch::Run(_) if decision.reason() == Reason::NeverFits => return Self::NeverFits,
            Launch::Run(_) => {}
        }
        match rollout {
            Rollout::NameTaken => Self::NameTaken,
            Rollout::Predecessor => Self::Predecessor,
            Rollout::Rejected { why, .. } => Self::Rejected(why.clone()),
            Rollout::Denied { why, .. } => Self::Denied(why.clone()),
            Rollout::None | Rollout::AsItIs(_) => Self::Progressing,
            Rollout::Written(child) => Self::written(child, decision, pods, wanted),
        }
    }

    fn written(child: &Child, decision: &Decision, pods: &[PodFacts], wanted: Wanted) -> Self {
        if child.is_rolled_out(wanted.replicas) {
            return if wanted.replicas == 0 { Self::ScaledToZero } else { Self::Available };
        }
        if let Some(failure) = &child.failure {
            return Self::CreationFailed(failure.clone());
        }
        let failure = failure(pods);
        let finds_no_node = failure.as_ref().is_some_and(|failure| failure.kind == FailureKind::Scheduling);
        let is_overdue = child.overdue.is_some();
        match failure {
            // The decision says it better, node by node, with what would help; and the deadline all the same.
            Some(_) if finds_no_node && decision.verdict() != Verdict::Fits && !is_overdue => Self::NoRoom,
            Some(failure) if waits_for_a_gpu(&failure) && child.replicas > child.updated && !is_overdue => {
                Self::Replacing(wanted.replacement)
            }
            Some(failure)
                if waits_for_a_gpu(&failure) && !finds_room_for_all(decision, wanted) && !is_overdue =>
            {
                Self::RoomForSome { slots: decision.slots }
            }
            Some(failure) => Self::Failing { failure, is_overdue },
            None => match &child.overdue {
                Some(message) => Self::Overdue(message.clone()),
                None if decision.verdict() != Verdict::Fits => Self::NoRoom,
                None if !finds_room_for_all(decision, wanted) => Self::RoomForSome { slots: decision.slots },
                None => Self::Progressing,
            },
        }
    }

    /// Whether the object is ready: its replicas run, or it wants none.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        matches!(self, Self::EstimateOnly(_) | Self::ScaledToZero | Self::Available)
    }

    /// Whether nothing will change until the spec, or something outside of the cluster's doing, does.
    #[must_use]
    pub const fn is_stalled(&self) -> bool {
        matches!(
            self,
            Self::CannotRun(_)
                | Self::NeverFits
                | Self::Rejected(_)
                | Self::Overdue(_)
                | Self::Failing { is_overdue: true, .. }
        )
    }

    /// The one word for it.
    #[must_use]
    pub const fn reason(&self, decision: &Decision) -> &'static str {
        match self {
            Self::EstimateOnly(_) => WorkloadReason::EstimateOnly.as_str(),
            Self::CannotRun(_) => Reason::CannotRun.as_str(),
            Self::NeverFits | Self::NoRoom => decision.reason().as_str(),
            Self::NameTaken => WorkloadReason::NameTaken.as_str(),
            Self::Rejected(_) => WorkloadReason::WorkloadRejected.as_str(),
            Self::Denied(_) => WorkloadReason::WorkloadDenied.as_str(),
            Self::ScaledToZero => WorkloadReason::ScaledToZero.as_str(),
            Self::Available => WorkloadReason::Available.as_str(),
            Self::CreationFailed(_) => WorkloadReason::ReplicaFailure.as_str(),
            Self::Failing { is_overdue: true, .. } | Self::Overdue(_) => {
                WorkloadReason::DeadlineExceeded.as_str()
            }
            Self::Failing { failure, .. } => match failure.kind {
                FailureKind::GpuMemory => WorkloadReason::GpuOutOfMemory.as_str(),
                FailureKind::HostMemory => WorkloadReason::HostOutOfMemory.as_str(),
                FailureKind::Image => WorkloadReason::ImagePullFailed.as_str(),
                FailureKind::Creation => WorkloadReason::ContainerNotCreated.as_str(),
                FailureKind::Crash => WorkloadReason::CrashLooping.as_str(),
                FailureKind::Pod => WorkloadReason::PodFailed.as_str(),
                FailureKind::Scheduling => WorkloadReason::Unschedulable.as_str(),
            },
            Self::RoomForSome { .. } => Reason::GpusBusy.as_str(),
            Self::Replacing(_) => WorkloadReason::Replacing.as_str(),
            Self::Predecessor | Self::Progressing => WorkloadReason::Progressing.as_str(),
        }
    }
}

/// Whether it is GPUs that kube-scheduler finds too few of, and not CPU or host memory, which no old pod makes room for.
fn waits_for_a_gpu(failure: &Failure) -> bool {
    let lacking = failure.said.split("Insufficient ").skip(1);
    let mut lacking = lacking.filter_map(|rest| rest.split([',', ' ']).next()).peekable();
    failure.kind == FailureKind::Scheduling
        && lacking.peek().is_some()
        && lacking.all(|resource| Vendor::of_resource(resource.trim_end_matches('.')).is_some())
}

/// Whether all replicas that are wanted find room, the GPUs of the object's own pods included.
fn finds_room_for_all(decision: &Decision, wanted: Wanted) -> bool {
    decision.slots >= u64::try_from(wanted.replicas).unwrap_or(0)
}

/// What is wanted of the workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// How many replicas.
    pub replicas: i32,
    /// How new pods take the place of old ones.
    pub replacement: Replacement,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_old_pods_gpu_is_worth_waiting_for() {
        for (said, expected) in [
            ("0/1 nodes are available: 1 Insufficient nvidia.com/gpu.", true),
            (
                "0/9 nodes are available: 1 Insufficient amd.com/gpu, 8 node(s) had untolerated taint(s).",
                true,
            ),
            ("0/1 nodes are available: 1 Insufficient cpu.", false),
            ("0/2 nodes are available: 1 Insufficient cpu, 2 Insufficient nvidia.com/gpu.", false),
            ("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.", false),
        ] {
            let kind = FailureKind::Scheduling;
            let failure = Failure { kind, container: String::new(), said: said.to_owned() };
            assert_eq!(waits_for_a_gpu(&failure), expected, "{said}");
        }
        let failure = Failure {
            kind: FailureKind::Crash,
            container: "model".to_owned(),
            said: "Insufficient nvidia.com/gpu".to_owned(),
        };
        assert!(!waits_for_a_gpu(&failure));
    }
}
