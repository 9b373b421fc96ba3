//! Why a model could not be resolved.

use std::time::Duration;

use thiserror::Error;

use crate::model::ParseError;

/// Why a model could not be resolved, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SourceError {
    /// The network may not be used.
    #[error(
        "{of}: offline mode is on, and it is not in the catalog; give model.config, model.configMapRef, model.catalog or model.parameters instead"
    )]
    Offline {
        /// What was to be read.
        of: String,
    },
    /// The server wants a token, or a better one.
    #[error("{of}: {endpoint} answered {status}: {}", unauthorized(of, endpoint, *with_token))]
    Unauthorized {
        /// The repository or address.
        of: String,
        /// The server.
        endpoint: String,
        /// 401 or 403.
        status: u16,
        /// Whether a token was sent.
        with_token: bool,
    },
    /// The server does not have it.
    #[error("{of}: {endpoint} has no {missing}; {remedy}")]
    NotFound {
        /// The repository or address.
        of: String,
        /// The server.
        endpoint: String,
        /// What is missing: the repository, the revision or a file.
        missing: String,
        /// What to check.
        remedy: &'static str,
    },
    /// The server asks to wait longer than is waited here.
    #[error("{of}: {endpoint} limits the rate of requests{}", wait(*retry_after))]
    RateLimited {
        /// The repository or address.
        of: String,
        /// The server.
        endpoint: String,
        /// How long it asks to wait, if it says.
        retry_after: Option<Duration>,
    },
    /// The server answered with an error that is not ours.
    #[error("{of}: {endpoint} answered {status}")]
    Status {
        /// The repository or address.
        of: String,
        /// The server.
        endpoint: String,
        /// The status.
        status: u16,
    },
    /// The server could not be reached, or the answer broke off.
    #[error("{of}: {endpoint}: {problem}")]
    Network {
        /// The repository or address.
        of: String,
        /// The server.
        endpoint: String,
        /// What went wrong.
        problem: String,
    },
    /// An address that must not be contacted.
    #[error("{of}: {host} is not contacted: {problem}")]
    Refused {
        /// The repository or address.
        of: String,
        /// The host.
        host: String,
        /// Why, and which setting would allow it.
        problem: String,
    },
    /// An answer that is larger than any real one.
    #[error("{of}: {what} is larger than {limit} bytes, and no more is read")]
    TooLarge {
        /// The repository or address.
        of: String,
        /// What is too large.
        what: String,
        /// The limit, in bytes.
        limit: u64,
    },
    /// The artefact was read, and is not a model shape.
    #[error("{of}: {error}")]
    Parse {
        /// The repository, file or ConfigMap.
        of: String,
        /// What is wrong with it.
        error: ParseError,
    },
    /// There are no weights that can be read.
    #[error("{of}: {problem}; {remedy}")]
    NoWeights {
        /// The repository or directory.
        of: String,
        /// What is there instead.
        problem: String,
        /// What to do.
        remedy: String,
    },
    /// Others are read first, and this one did not come to its turn in time.
    #[error("{of}: other large models are being read; it is read when they are done")]
    Busy {
        /// The repository or address.
        of: String,
    },
    /// Models that are in use take all the memory that there is for them.
    #[error(
        "{of}: no room is left for it: its description takes {bytes} bytes, and the models in use are bounded by {limit}; delete ModelDeployments of other models, or give model.parameters instead"
    )]
    StoreFull {
        /// The model's name.
        of: String,
        /// What it would take.
        bytes: u64,
        /// What may be taken, by its namespace or by all.
        limit: u64,
    },
    /// A defect of this program.
    #[error("{of}: reading it broke off, which is a defect of Loadline: {problem}")]
    Broken {
        /// The repository or address.
        of: String,
        /// What the panic said.
        problem: String,
    },
    /// A file could not be read.
    #[error("{path}: {problem}")]
    File {
        /// The path.
        path: String,
        /// What went wrong.
        problem: String,
    },
    /// A reference that cannot be right.
    #[error("{field}: {problem}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong with its value, and what would be right.
        problem: String,
    },
}

impl SourceError {
    /// Whether trying again later may help, without a change of the spec or the server's content.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::RateLimited { .. } | Self::Network { .. } | Self::Busy { .. } | Self::Broken { .. } => true,
            Self::Status { status, .. } => *status >= 500,
            _ => false,
        }
    }
}

fn unauthorized(of: &str, endpoint: &str, with_token: bool) -> String {
    if of.contains("://") {
        "the address is not public; name the file with model.gguf.huggingFace, which can have a token"
            .to_owned()
    } else if with_token {
        format!(
            "the token has no access; accept the model's terms at https://{endpoint}/{of} with its account, or set model.huggingFace.tokenSecretRef to a Secret with a token that has"
        )
    } else {
        format!(
            "the repository is gated, private or misspelt; accept its terms at https://{endpoint}/{of}, and set model.huggingFace.tokenSecretRef to a Secret with an access token"
        )
    }
}

fn wait(retry_after: Option<Duration>) -> String {
    retry_after.map_or(String::new(), |wait| format!(" and asks to wait {} s", wait.as_secs()))
}
