//! What came of one object, whether or not it has a plan: what every format of `plan` prints.

use std::sync::Arc;

use crate::decide::{Reason, Verdict};
use crate::inventory::Inventory;
use crate::model::ModelShape;
use crate::plan::{Permits, Plan, ResolveError, Subject, check, permitted, plan};
use crate::refusal::Refusal;

use super::planned;
use super::text::{clip, printable};

/// Where an object was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The file, as it was named; none for an object of a cluster.
    pub file: Option<String>,
    /// The line on which the object begins, from 1.
    pub line: u64,
}

/// What came of one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Where it was read.
    pub origin: Origin,
    /// What was found.
    pub found: Found,
}

/// What was found for one object.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// It has a plan.
    Planned(Box<Plan>),
    /// Its spec is refused.
    Refused(Refusal),
    /// It is not a ModelDeployment as the schema wants it: every fault, with its path.
    Malformed(Vec<String>),
    /// Its model's shape could not be had.
    Unresolved(String),
    /// Its model is being read.
    Pending,
}

impl Found {
    /// What is found of an object whose model `shape` gives. What is wrong with the spec itself is told whether or not its
    /// model can be had.
    #[must_use]
    pub fn of(
        subject: Subject<'_>,
        permits: &Permits,
        inventory: &Inventory,
        shape: impl FnOnce() -> Result<Arc<ModelShape>, Self>,
    ) -> Self {
        if let Err(refusal) = check(subject.spec).and_then(|()| permitted(subject.spec, permits)) {
            return Self::Refused(refusal);
        }
        match shape().map(|shape| plan(subject, &shape, inventory)) {
            Ok(Ok(plan)) => Self::Planned(Box::new(plan)),
            Ok(Err(refusal)) => Self::Refused(refusal),
            Err(found) => found,
        }
    }
}

impl Found {
    /// The plan, if there is one.
    #[must_use]
    pub fn plan(&self) -> Option<&Plan> {
        match self {
            Self::Planned(plan) => Some(plan),
            _ => None,
        }
    }
}

impl From<ResolveError> for Found {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::Spec(refusal) => Self::Refused(refusal),
            // What was read and is no model will not become one by being read again.
            error @ ResolveError::Config(_) => Self::Malformed(vec![error.to_string()]),
        }
    }
}

impl Outcome {
    /// The answer for the object.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match &self.found {
            Found::Planned(plan) => plan.answer().0,
            Found::Refused(_) | Found::Malformed(_) => Verdict::Rejected,
            Found::Unresolved(_) | Found::Pending => Verdict::Unknown,
        }
    }

    /// The reason for it.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match &self.found {
            Found::Planned(plan) => plan.answer().1,
            Found::Refused(error) => error.reason(),
            Found::Malformed(_) => Reason::InvalidSpec,
            Found::Unresolved(_) => Reason::ModelNotResolved,
            Found::Pending => Reason::EstimatePending,
        }
    }

    /// The reason with its numbers.
    #[must_use]
    pub fn message(&self) -> String {
        match &self.found {
            Found::Planned(plan) => planned(plan),
            Found::Refused(error) => super::plan_error(error),
            Found::Malformed(faults) => clip(printable(&faults.join("; "))),
            Found::Unresolved(problem) => clip(printable(problem)),
            Found::Pending => "the model's config and headers are being read".to_owned(),
        }
    }

    /// Whether the object itself is wrong, whatever the cluster.
    #[must_use]
    pub const fn is_malformed(&self) -> bool {
        matches!(self.found, Found::Refused(_) | Found::Malformed(_))
    }

    /// The message as people are to see it where nothing else says which file is wrong: `models.yaml:7: spec.replicas: …`.
    #[must_use]
    pub fn located_message(&self) -> String {
        match &self.origin.file {
            Some(file) if self.is_malformed() => {
                clip(format!("{}:{}: {}", printable(file), self.origin.line, self.message()))
            }
            _ => self.message(),
        }
    }

    /// Its plan, if it has one.
    #[must_use]
    pub fn plan(&self) -> Option<&Plan> {
        self.found.plan()
    }

    /// `namespace/name`.
    #[must_use]
    pub fn full_name(&self) -> String {
        printable(&format!("{}/{}", self.namespace, self.name))
    }
}

/// The word for a verdict, in every output.
#[must_use]
pub const fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Fits => "fits",
        Verdict::Busy => "busy",
        Verdict::Unknown => "unknown",
        Verdict::Rejected => "rejected",
    }
}
