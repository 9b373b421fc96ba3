//! What can go wrong in a reconcile and may go right the next time. What is wrong with an object is no error but its
//! status.

use std::future::Future;
use std::time::Duration;

/// How long one call to the API server may take.
const DEADLINE: Duration = Duration::from_secs(15);

/// Why a reconcile is to be tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refuses a call, or cannot be reached.
    #[error("{what}: {}", said(source))]
    Api {
        /// What the call was about.
        what: &'static str,
        /// What it answered.
        source: Box<kube::Error>,
    },
    /// The API server does not answer in time.
    #[error("{what}: no answer from the API server within {} s", DEADLINE.as_secs())]
    TimedOut {
        /// What the call was about.
        what: &'static str,
    },
    /// An object cannot be written as JSON.
    #[error("{what}: {source}")]
    Json {
        /// What was to be written.
        what: &'static str,
        /// Why not.
        source: serde_json::Error,
    },
    /// The cluster has not been read, and will not be: the process is stopping.
    #[error("the process is stopping")]
    Stopping,
    /// A reconcile ended without a result.
    #[error("the reconcile broke off: {0}")]
    Broken(String),
}

/// The words of the API server alone: its answer is long, and says the same in its fields.
fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => other.to_string(),
    }
}

impl Error {
    /// Whether the API server does not allow the call.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        let Self::Api { source, .. } = self else { return false };
        matches!(source.as_ref(), kube::Error::Api(status) if status.code == 403)
    }

    /// Whether there is no such object, or no such kind.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        let Self::Api { source, .. } = self else { return false };
        matches!(source.as_ref(), kube::Error::Api(status) if status.code == 404)
    }

    /// Whether the namespace is being deleted, and everything in it soon gone.
    #[must_use]
    pub fn is_namespace_terminating(&self) -> bool {
        let Self::Api { source, .. } = self else { return false };
        let kube::Error::Api(status) = source.as_ref() else { return false };
        let causes = status.details.iter().flat_map(|details| &details.causes);
        causes.map(|cause| cause.reason.as_str()).any(|reason| reason == "NamespaceTerminating")
    }

    /// A word for metrics.
    #[must_use]
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Api { what, .. } | Self::TimedOut { what } | Self::Json { what, .. } => what,
            Self::Stopping => "stopping",
            Self::Broken(_) => "broken",
        }
    }
}

/// The answer of a call, unless it takes too long. The client itself has no deadline: its watches last.
pub(super) async fn within<T>(
    what: &'static str,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(DEADLINE, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(Error::Api { what, source: Box::new(source) }),
        Err(_) => Err(Error::TimedOut { what }),
    }
}
