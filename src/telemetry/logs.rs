//! Logs, to standard error.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use crate::precision::{UnknownName, named};
use crate::units::shorten;

named! {
    /// How a log line is written.
    LogFormat ("log format") {
        /// For people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

/// Starts logging. What is logged is set by `LOADLINE_LOG`, in the syntax of `RUST_LOG`; by default, from `info` up.
///
/// Does nothing if a subscriber is there already.
pub fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_env("LOADLINE_LOG")
        .unwrap_or_else(|_| EnvFilter::new("info,kube_client=warn,kube_runtime=warn"));
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // An error means that there is a subscriber already, as in tests.
    let _ = match format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}
