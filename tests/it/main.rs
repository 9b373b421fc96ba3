//! The integration tests, as one crate: it links once.

// Clippy's own exception for tests covers functions with `#[test]` only, not what they call.
#![allow(clippy::expect_used, clippy::panic, clippy::print_stderr, clippy::unwrap_used)]

mod accuracy;
mod agreement;
mod architecture;
mod chart;
mod cli;
mod cluster;
mod controlplane;
mod e2e;
mod files;
mod fuzz;
mod generated;
mod hostile;
mod hub;
mod imports;
mod page;
mod server;
mod sweep;
mod training_accuracy;
mod vectors;
// Shared with the unit tests and benchmarks: not every one uses all of it.
#[allow(dead_code)]
mod weights;
mod workloads;
mod world;
