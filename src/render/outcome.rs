//! What came of one object, whether or not it has a plan: what every format of `plan` prints.

use std::sync::Arc;

use crate::api::ModelDeploymentSpec;
use crate::decide::{Reason, Verdict};
use crate::inventory::Inventory;
use crate::model::ModelShape;
use crate::plan::{Permits, Plan, ResolveError, Subject, check, check_pods, permitted, plan, plan_pods};
use crate::refusal::Refusal;
use crate::workloads::{Ask, Workload};

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
    /// What it is and says, where it is no ModelDeployment.
    pub workload: Option<Box<Workload>>,
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
    /// It is somebody else's workload, which does not say all that a verdict needs.
    Unread {
        /// What is missing, and what to give.
        why: String,
        /// Whether that is the model.
        is_model: bool,
    },
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
    /// What is found of a workload that somebody else wrote, whose model `shape` gives. What is said of it that no estimate can
    /// follow is a gap in what is known, and no fault of its author.
    #[must_use]
    pub fn of_workload(
        workload: &Workload,
        namespace: &str,
        inventory: &Inventory,
        shape: impl FnOnce(&ModelDeploymentSpec) -> Result<Arc<ModelShape>, Self>,
    ) -> Self {
        let facts = &workload.facts;
        let is_model = facts.model.fault().is_some();
        let unread = |why: String| Self::Unread { why, is_model };
        if let Some(why) = facts.why() {
            return unread(why);
        }
        let Some(Ask { spec, taken }) = facts.ask() else {
            return unread("what it says is more than can be planned: plan a ModelDeployment".to_owned());
        };
        if let Err(refusal) = check_pods(&spec) {
            return unread(without_field(&refusal));
        }
        let subject = Subject { namespace, name: "", spec: &spec, roll: None, running: None };
        match shape(&spec).map(|shape| plan_pods(subject, &shape, inventory, &taken)) {
            Ok(Ok(plan)) => Self::Planned(Box::new(plan)),
            Ok(Err(refusal)) => Self::Refused(refusal),
            Err(found) => found,
        }
    }

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
            Found::Unresolved(_) | Found::Pending | Found::Unread { .. } => Verdict::Unknown,
        }
    }

    /// The reason for it.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match &self.found {
            Found::Planned(plan) => plan.answer().1,
            Found::Refused(error) => error.reason(),
            Found::Malformed(_) => Reason::InvalidSpec,
            Found::Unresolved(_) | Found::Unread { is_model: true, .. } => Reason::ModelNotResolved,
            Found::Unread { .. } => Reason::NotSupported,
            Found::Pending => Reason::EstimatePending,
        }
    }

    /// The reason with its numbers.
    #[must_use]
    pub fn message(&self) -> String {
        let message = self.words();
        if self.workload.is_some() { of_workload(&message) } else { message }
    }

    fn words(&self) -> String {
        match &self.found {
            Found::Planned(plan) => planned(plan),
            // Its fields are none of the workload's.
            Found::Refused(error) if self.workload.is_some() => clip(printable(&without_field(error))),
            Found::Refused(error) => super::plan_error(error),
            Found::Malformed(faults) => clip(printable(&faults.join("; "))),
            Found::Unresolved(problem) | Found::Unread { why: problem, .. } => clip(printable(problem)),
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

/// A refusal without the field of the spec that a workload does not have: what of it is no field is in the words that follow.
fn without_field(refusal: &Refusal) -> String {
    let text = refusal.to_string();
    let field = refusal.field().map(|field| format!("spec.{field}: ")).unwrap_or_default();
    let text = text.strip_prefix(&field).unwrap_or(&text);
    text.replace("engine.args", "its arguments").replace("template.spec.", "")
}

/// What is said of a ModelDeployment's fields, for an object that has none of them.
const OF_A_WORKLOAD: &[(&str, &str)] = &[
    ("spec.placement.nodeSelector", "its nodeSelector"),
    ("lower spec.parallelism", "give the engine fewer ranks"),
    (
        "give model.config, model.configMapRef, model.catalog or model.parameters instead",
        "plan with the network at hand, or a ModelDeployment with model.config or model.parameters",
    ),
];

fn of_workload(message: &str) -> String {
    OF_A_WORKLOAD
        .iter()
        .fold(message.to_owned(), |text, (of_ours, of_others)| text.replace(of_ours, of_others))
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
