//! Integration tests: the command line, the chart, and the controller on a real control plane.

// Clippy's own exception for tests covers functions with `#[test]` only, not what they call.
#![allow(clippy::expect_used, clippy::panic, clippy::print_stderr, clippy::unwrap_used)]

mod chart;
mod controlplane;
