//! Node affinity: which nodes kube-scheduler may bind the pods to, and which of them it should prefer. What is demanded
//! of labels is the label sources' affair ([`Sources`]); here it is asked of them, and put into the API's form.
//!
//! The required terms say of labels what [`decide`](crate::decide) says of nodes, so that a pod is never bound to a node
//! that was not accepted. No host names, no `matchFields`, so that autoscalers can reason with them. They depend on the
//! spec and on what label sources the cluster's nodes may have; what runs keeps those that it was written with.

use serde_json::{Value, json};

use crate::api::v1alpha1::{SharingMode, Strategy};
use crate::decide::Requirement;
use crate::inventory::{Preference, Sources, Term, Wish};
use crate::units::Overflow;

/// What the affinity follows from.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Where labels come from.
    pub sources: &'a Sources,
    /// The resource that the pods request, such as `nvidia.com/gpu`.
    pub resource: &'a str,
    /// What a GPU must have, and how many a replica takes.
    pub requirement: Requirement,
    /// Whether shared GPUs will do.
    pub sharing: SharingMode,
    /// Which nodes are preferred.
    pub strategy: Strategy,
}

impl Question<'_> {
    fn wish(&self) -> Wish<'_> {
        Wish {
            resource: self.resource,
            per_gpu: self.requirement.per_gpu,
            gpus: self.requirement.gpus,
            shared: self.sharing == SharingMode::Shared,
        }
    }
}

/// The node selector terms of which one must match.
///
/// # Errors
/// A requirement that cannot be multiplied by a number of MPS clients without an overflow.
pub fn required(question: Question<'_>) -> Result<Vec<Term>, Overflow> {
    question.sources.required(&question.wish())
}

/// The preferred terms, as the API has them: the smallest classes of GPU that hold the requirement, or the largest there
/// are.
#[must_use]
pub fn preferred(question: Question<'_>) -> Vec<Value> {
    let preference = match question.strategy {
        Strategy::SmallestFit => Preference::Smallest,
        Strategy::LargestFit => Preference::Largest,
    };
    let preferred = question.sources.preferred(&question.wish(), preference);
    preferred
        .into_iter()
        .map(|preferred| json!({"weight": preferred.weight, "preference": preferred.term.to_api()}))
        .collect()
}
