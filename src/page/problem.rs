//! Why a request is not answered, as every endpoint says it.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

use crate::estimate::EstimateError;
use crate::plan::ResolveError;
use crate::refusal::Refusal;
use crate::render::plan_error;
use crate::sizing::QuestionError;
use crate::source::SourceError;

/// Why a request is not answered, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct Problem {
    /// The field below `spec` that is wrong, such as `context.length`; none where it is none of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) field: Option<String>,
    /// What is wrong, with the value and what would be right.
    #[serde(rename = "problem")]
    pub(super) message: String,
    #[serde(skip)]
    pub(super) status: u16,
}

impl Problem {
    /// What a request is refused for, with the status that says so.
    pub(super) fn new(status: StatusCode, problem: impl Into<String>) -> Self {
        Self { field: None, message: problem.into(), status: status.as_u16() }
    }

    /// It is no request that is understood.
    pub(super) fn malformed(problem: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, problem)
    }

    /// It is understood, and cannot be right.
    pub(super) fn of_field(field: &str, problem: impl Into<String>) -> Self {
        Self { field: Some(field.to_owned()), ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, problem) }
    }

    /// There is more to do than can be done now.
    pub(super) fn busy(problem: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, problem)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, super::json_text(&self)).into_response();
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let field = refusal.field().map(str::to_owned);
        Self { field, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, plan_error(&refusal)) }
    }
}

impl From<EstimateError> for Problem {
    fn from(error: EstimateError) -> Self {
        Refusal::from(error).into()
    }
}

impl From<QuestionError> for Problem {
    fn from(error: QuestionError) -> Self {
        match error {
            QuestionError::Refused(refusal) => refusal.into(),
            QuestionError::Incomparable(error) => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                format!("compare {}: {}; {}", error.by, error.problem, error.remedy),
            ),
        }
    }
}

impl From<ResolveError> for Problem {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::Spec(refusal) => refusal.into(),
            error @ ResolveError::Config(_) => Self::of_field("model.config", error.to_string()),
        }
    }
}

impl From<SourceError> for Problem {
    fn from(error: SourceError) -> Self {
        let status = match &error {
            SourceError::Network { .. } | SourceError::Status { .. } => StatusCode::BAD_GATEWAY,
            SourceError::RateLimited { .. } | SourceError::Busy { .. } | SourceError::StoreFull { .. } => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            SourceError::Broken { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self { field: Some("model".to_owned()), ..Self::new(status, error.to_string()) }
    }
}
