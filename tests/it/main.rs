//! Loadline as a whole.

// What helps a test may fail like one.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod files;
mod fuzz;
mod hub;
mod server;
// Shared with the unit tests and benchmarks: not every one uses all of it.
#[allow(dead_code)]
mod weights;
