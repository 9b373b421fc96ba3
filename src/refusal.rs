//! Why a spec is refused: one error for everything that reads a spec, from the engine's arguments to the pod template.

use crate::decide::Reason;
use crate::estimate::EstimateError;

/// Why an object is refused. Nothing changes it but a change of the spec, or of what the spec refers to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
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
    /// The object's name cannot be the name of what is made of it.
    #[error("metadata.name: {problem}; {remedy}")]
    Name {
        /// What is wrong, with the name.
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
    /// A field asks for what the cluster's settings do not let specs ask for.
    #[error("spec.{field}: {problem}; {remedy}")]
    NotAllowed {
        /// The field below `spec`.
        field: String,
        /// What is not allowed, with the value.
        problem: String,
        /// What would be, or who could allow it.
        remedy: String,
    },
    /// An argument of the engine says otherwise than another field does.
    #[error(
        "spec.{field}: {said} contradicts {other}, which is {value}; remove one of the two; {other} alone is enough"
    )]
    Contradiction {
        /// The field below `spec` that the argument stands in.
        field: String,
        /// The argument, as it is written.
        said: String,
        /// The other field below `spec`.
        other: String,
        /// What that says.
        value: String,
    },
    /// The workload contradicts the model.
    #[error("spec.{0}")]
    Estimate(EstimateError),
}

impl Refusal {
    /// The field below `spec` that is wrong; none where it is the whole of them.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Invalid { field, .. }
            | Self::NotSupported { field, .. }
            | Self::NotAllowed { field, .. }
            | Self::Contradiction { field, .. } => Some(field),
            Self::Estimate(EstimateError::Invalid { field, .. }) => Some(field),
            Self::Name { .. } | Self::Estimate(EstimateError::Overflow(_)) => None,
        }
    }

    /// The reason that stands for it.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Invalid { .. } | Self::Name { .. } | Self::Contradiction { .. } | Self::Estimate(_) => {
                Reason::InvalidSpec
            }
            Self::NotSupported { .. } => Reason::NotSupported,
            Self::NotAllowed { .. } => Reason::NotAllowed,
        }
    }
}

impl Refusal {
    /// A field with a value that cannot be right.
    pub(crate) fn invalid(
        field: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::Invalid { field: field.into(), problem: problem.into(), remedy: remedy.into() }
    }

    /// An argument that says otherwise than another field.
    pub(crate) fn contradiction(
        field: impl Into<String>,
        said: impl Into<String>,
        other: impl Into<String>,
        value: impl std::fmt::Display,
    ) -> Self {
        Self::Contradiction {
            field: field.into(),
            said: said.into(),
            other: other.into(),
            value: value.to_string(),
        }
    }

    /// A name that cannot be right.
    pub(crate) fn name(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Name { problem: problem.into(), remedy: remedy.into() }
    }

    /// A field that this version does not act on.
    pub(crate) fn not_supported(field: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::NotSupported { field: field.into(), remedy: remedy.into() }
    }
}

impl Refusal {
    /// A field that the cluster's settings rule out.
    pub(crate) fn not_allowed(
        field: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::NotAllowed { field: field.into(), problem: problem.into(), remedy: remedy.into() }
    }
}

impl From<EstimateError> for Refusal {
    fn from(error: EstimateError) -> Self {
        match error {
            EstimateError::Invalid { .. } => Self::Estimate(error),
            EstimateError::Overflow(_) => Self::invalid(
                "model",
                "the estimate is larger than 2^64 bytes",
                "no GPU has that much: check the model's size and the context's length and sequences",
            ),
        }
    }
}

/// A whole number of a range, as a field of the API has it.
pub(crate) fn whole(field: &str, value: i64, what: &str, largest: u64) -> Result<u64, Refusal> {
    match u64::try_from(value) {
        Ok(value) if (1..=largest).contains(&value) => Ok(value),
        _ => Err(Refusal::invalid(
            field,
            format!("{value} is not a number of {what}"),
            format!("write a whole number from 1 to {largest}"),
        )),
    }
}
