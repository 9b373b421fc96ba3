//! What admission says of an object, in words.

use super::outcome::{Found, Origin, Outcome};
use super::text::clip;

/// What is said of an object that is to be created or changed.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Nothing.
    Passed,
    /// It is let through, and this is to be known.
    Warned {
        /// What was found.
        found: Found,
    },
    /// It is let through: the cluster has not been read.
    ClusterUnread,
    /// It is let through: its model is not in memory.
    ModelUnknown {
        /// Whether nothing is to be said of it.
        is_silent: bool,
    },
    /// It is refused.
    Denied {
        /// Why.
        found: Found,
        /// Whether it is wrong whatever the cluster.
        is_invalid: bool,
    },
}

impl Answer {
    /// A word for metrics.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Passed => "allowed",
            Self::Warned { .. } => "warned",
            Self::ClusterUnread => "cluster_unread",
            Self::ModelUnknown { .. } => "model_unknown",
            Self::Denied { .. } => "denied",
        }
    }

    /// Why it is refused, and whether it is wrong whatever the cluster; none where it is let through.
    #[must_use]
    pub fn denial(&self) -> Option<(String, bool)> {
        let Self::Denied { found, is_invalid } = self else { return None };
        let text = message(found);
        let said = if *is_invalid { text } else { format!("no node takes it now: {text}") };
        Some((clip(said), *is_invalid))
    }

    /// What is printed beside an object that is let through.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        match self {
            Self::Passed | Self::Denied { .. } | Self::ModelUnknown { is_silent: true } => None,
            Self::Warned { found: found @ (Found::Refused(_) | Found::Malformed(_)) } => Some(clip(format!(
                "it was wrong before, and is let through for that alone: {}",
                message(found)
            ))),
            Self::Warned { found } => Some(clip(format!("accepted, and its pods wait: {}", message(found)))),
            Self::ClusterUnread => Some(
                "Loadline has not read the cluster yet: whether it fits will be in the status".to_owned(),
            ),
            Self::ModelUnknown { .. } => {
                Some("its model has not been read yet: whether it fits will be in the status".to_owned())
            }
        }
    }
}

fn message(found: &Found) -> String {
    let (namespace, name) = (String::new(), String::new());
    Outcome { namespace, name, origin: Origin::default(), workload: None, found: found.clone() }.message()
}
