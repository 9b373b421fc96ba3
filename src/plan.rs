//! From a ModelDeployment's spec and its model's shape to a decision: what the controller, the webhook and the command
//! line all call, so that they cannot disagree. Pure.

use crate::api::ModelDeploymentSpec;
use crate::decide::{Decision, Policy, Reason, Requirement};
use crate::estimate::{Estimate, EstimateError};
use crate::inventory::Inventory;
use crate::model::ModelShape;
use crate::units::Margin;

/// The object that is planned.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its spec.
    pub spec: &'a ModelDeploymentSpec,
}

/// What was found for one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The model's name, for output.
    pub model: String,
    /// Where the shape came from, for output, such as `catalog` or `config`.
    pub source: String,
    /// The shape's architecture.
    pub architecture: String,
    /// The shape's parameters.
    pub parameters: u64,
    /// What it needs.
    pub estimate: Estimate,
    /// The safety margin.
    pub margin: Margin,
    /// What the nodes must have.
    pub requirement: Requirement,
    /// Where it may run.
    pub policy: Policy,
    /// The answer.
    pub decision: Decision,
}

/// Why an object has no plan. Nothing changes it but a change of the spec, or of what the spec refers to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A field has a value that cannot be right.
    #[error("spec.{field}: {problem}; {remedy}")]
    Invalid {
        /// The field below `spec`.
        field: String,
        /// What is wrong, with the value.
        problem: String,
        /// What would be right.
        remedy: String,
    },
    /// A field asks for what this version does not do.
    #[error("spec.{field}: not supported yet; {remedy}")]
    NotSupported {
        /// The field below `spec`.
        field: String,
        /// What to do instead.
        remedy: String,
    },
    /// The workload contradicts the model.
    #[error("spec.{0}")]
    Estimate(EstimateError),
}

impl PlanError {
    /// The reason that stands for it.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Invalid { .. } | Self::Estimate(_) => Reason::InvalidSpec,
            Self::NotSupported { .. } => Reason::NotSupported,
        }
    }
}

/// Plans one object against a cluster.
///
/// # Errors
/// See [`PlanError`].
pub fn plan(subject: Subject<'_>, shape: &ModelShape, inventory: &Inventory) -> Result<Plan, PlanError> {
    let _ = (subject, shape, inventory);
    unimplemented!()
}
