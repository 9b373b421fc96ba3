//! How a command ends: its exit code, and an error with the remedy.

use std::process::ExitCode;

use thiserror::Error;

/// How a command ends, by its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExitStatus {
    /// 0: it fits, or all is well.
    Fine,
    /// 1: something is wrong with the input or the cluster.
    Error,
    /// 2: the command line is wrong.
    Usage,
    /// 3: it does not fit, or not now.
    DoesNotFit,
    /// 3: something is to be mended.
    Mend,
    /// 4: it cannot be said.
    Unknown,
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(match status {
            ExitStatus::Fine => 0,
            ExitStatus::Error => 1,
            ExitStatus::Usage => 2,
            ExitStatus::DoesNotFit | ExitStatus::Mend => 3,
            ExitStatus::Unknown => 4,
        })
    }
}

/// An error with what would help.
#[derive(Debug, Error)]
#[error("{message}")]
pub(crate) struct Failure {
    message: String,
    /// What would help.
    pub(crate) hint: Option<String>,
    /// The exit code.
    pub(crate) status: ExitStatus,
}

impl Failure {
    /// Something is wrong with the input or the cluster.
    pub(crate) fn error(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, status: ExitStatus::Error }
    }

    /// The command line is wrong in a way that only shows when it is put together.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, status: ExitStatus::Usage }
    }

    /// This error, with the file that what would help is about.
    pub(crate) fn in_file(self, file: &str) -> Self {
        Self { hint: self.hint.map(|hint| format!("{hint} ({file})")), ..self }
    }

    /// This error, with what would help.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}
