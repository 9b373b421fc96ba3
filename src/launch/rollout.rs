//! How far the workload of an object has come.

use k8s_openapi::api::apps::v1::Deployment;

const REPLICA_FAILURE: &str = "ReplicaFailure";
const PROGRESSING: &str = "Progressing";

/// What has come of the workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rollout {
    /// None is wanted, and none is there.
    None,
    /// Nothing could be made of the spec, and what is there was left as it is.
    AsItIs(Option<Child>),
    /// The Deployment is there, as it is wanted.
    Written(Child),
    /// A Deployment of the same name belongs to another.
    NameTaken,
    /// The Deployment of an object that had the same name is still there, and is being deleted.
    Predecessor,
    /// The API server refuses it: it is invalid.
    Rejected {
        /// Why, in the server's words.
        why: String,
        /// The Deployment as it was before.
        child: Option<Child>,
    },
    /// A quota, an admission policy or a missing permission is in its way.
    Denied {
        /// Why, in the server's words.
        why: String,
        /// The Deployment as it was before.
        child: Option<Child>,
    },
}

impl Rollout {
    /// The Deployment, where one is the object's own.
    #[must_use]
    pub const fn child(&self) -> Option<&Child> {
        match self {
            Self::Written(child) => Some(child),
            Self::AsItIs(child) | Self::Rejected { child, .. } | Self::Denied { child, .. } => child.as_ref(),
            Self::None | Self::NameTaken | Self::Predecessor => None,
        }
    }
}

/// How far a Deployment has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Child {
    /// Whether what follows is about the Deployment's present spec.
    pub is_current: bool,
    /// Pods there are.
    pub replicas: i32,
    /// Pods of the present template.
    pub updated: i32,
    /// Pods that are ready.
    pub ready: i32,
    /// Why pods cannot be created.
    pub failure: Option<String>,
    /// What the Deployment says when its deadline for progress has passed.
    pub overdue: Option<String>,
}

impl Child {
    /// The conditions of a Deployment that are read.
    pub const CONDITIONS: [&str; 2] = [REPLICA_FAILURE, PROGRESSING];

    /// Reads a Deployment.
    #[must_use]
    pub fn of(deployment: &Deployment) -> Self {
        let Some(status) = &deployment.status else { return Self::default() };
        let says = |kind: &str, value: &str, reason: Option<&str>| {
            let conditions = status.conditions.iter().flatten();
            let mut found = conditions.filter(|condition| {
                condition.type_ == kind
                    && condition.status == value
                    && reason.is_none_or(|reason| condition.reason.as_deref() == Some(reason))
            });
            found.next().map(|condition| condition.message.clone().unwrap_or_else(|| "no message".to_owned()))
        };
        Self {
            is_current: status.observed_generation >= deployment.metadata.generation,
            replicas: status.replicas.unwrap_or(0),
            updated: status.updated_replicas.unwrap_or(0),
            ready: status.ready_replicas.unwrap_or(0),
            failure: says(REPLICA_FAILURE, "True", None),
            overdue: says(PROGRESSING, "False", Some("ProgressDeadlineExceeded")),
        }
    }

    /// Whether all pods that are wanted are of the present template and ready, and no other is left: while pods of an
    /// earlier template run on, what is ready may be theirs.
    #[must_use]
    pub const fn is_rolled_out(&self, wanted: i32) -> bool {
        self.is_current && self.updated >= wanted && self.replicas <= self.updated && self.ready >= wanted
    }
}
