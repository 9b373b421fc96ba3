//! The integration tests, as one crate: it links once.

mod architecture;
mod cli;
mod generated;
