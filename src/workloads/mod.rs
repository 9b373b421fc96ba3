//! The workloads that people have: what a Deployment, a Job or an InferenceService says of the model that it runs, read from the
//! file alone. Pure.
//!
//! A fact is what a careful reader gets from the file. What is not stated is unsaid, and no default stands in its place; what
//! cannot be known is said, with the facts that can. Every flag is read by the engines' own tables ([`crate::engine`]).

mod ask;
mod container;
mod facts;
mod gpus;
mod kinds;
mod kserve;
mod model;
mod objects;
mod role;
mod shell;
mod start;
#[cfg(test)]
mod tests;
mod training;

use serde_json::Value;

use objects::{Objects, text};

pub use ask::{Ask, Taken};
pub use facts::Facts;
pub use gpus::Gpus;
pub use model::Model;
pub use start::Program;

/// A workload that runs a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// Its kind, such as `Deployment`.
    pub kind: String,
    /// Its namespace, where it states one.
    pub namespace: Option<String>,
    /// Its name; empty where it has none.
    pub name: String,
    /// Which of its parts, where it has several, such as `prefill`.
    pub role: Option<String>,
    /// What is known of it.
    pub facts: Facts,
}

/// Whether an object is of a kind that is read. What another object makes, and a pod that is on a node already, is none: it is
/// the cluster's, as a snapshot of it has them.
#[must_use]
pub fn is_read(object: &Value) -> bool {
    let is_made = objects::items(object, "/metadata/ownerReferences").next().is_some();
    let is_bound = text(object, "/spec/nodeName").is_some();
    !is_made && !is_bound && kinds::roles(object, &Objects(&[])).is_some()
}

/// Whether an object is one that others are read with: a ConfigMap, a runtime, a base, a claim's template.
#[must_use]
pub fn is_referred_to(object: &Value) -> bool {
    const KINDS: &[&str] = &[
        "ConfigMap",
        "ServingRuntime",
        "ClusterServingRuntime",
        "LLMInferenceServiceConfig",
        "ResourceClaimTemplate",
        "ResourceClaim",
    ];
    text(object, "/kind").is_some_and(|kind| KINDS.contains(&kind))
}

/// The parts of an object that run a model, one each; none for an object that runs none, or of another kind. `around` are the
/// objects of the same file or files, which it may refer to.
#[must_use]
pub fn read(object: &Value, around: &[Value]) -> Vec<Workload> {
    let objects = Objects(around);
    let namespace = text(object, "/metadata/namespace");
    let found = |role: role::Role| {
        Some(Workload {
            kind: text(object, "/kind")?.to_owned(),
            namespace: namespace.map(str::to_owned),
            name: text(object, "/metadata/name").unwrap_or_default().to_owned(),
            facts: facts::read(&role, objects, namespace)?,
            role: role.name,
        })
    };
    kinds::roles(object, &objects).into_iter().flatten().filter_map(found).collect()
}
