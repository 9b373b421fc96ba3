//! The integration tests, as one crate: it links once.

// Clippy's own exception for tests covers functions with `#[test]` only, not what they call.
#![allow(clippy::expect_used, clippy::panic, clippy::print_stderr, clippy::unwrap_used)]

mod architecture;
mod chart;
mod cli;
mod cluster;
mod controlplane;
mod e2e;
mod generated;
