//! The integration tests, as one crate: it links once.

mod accuracy;
mod architecture;
mod cli;
mod generated;
mod training_accuracy;
