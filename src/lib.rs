//! Loadline estimates the VRAM that a model needs, adds the safety margin, and lets it only onto Kubernetes nodes whose GPUs have it.

pub mod admission;
pub mod api;
mod bounded;
pub mod cli;
pub mod cluster;
pub mod controller;
pub mod decide;
pub mod digest;
pub mod engine;
pub mod estimate;
pub mod inventory;
pub mod launch;
pub mod model;
pub mod page;
pub mod plan;
pub mod precision;
pub mod refusal;
pub mod render;
mod sizing;
pub mod source;
mod spelling;
pub mod telemetry;
pub mod units;
pub mod workloads;
pub mod world;
