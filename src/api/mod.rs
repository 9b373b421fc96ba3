//! The custom resource, its conditions, and nothing that decides.

pub mod conditions;
pub mod crds;
pub mod limits;
pub mod v1alpha1;

pub use v1alpha1::{ModelDeployment, ModelDeploymentSpec, ModelDeploymentStatus, ModelRequirements};
