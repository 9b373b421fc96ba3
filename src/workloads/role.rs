//! One part of an object: its pods, and what the object says of them outside of the pod.

use serde_json::{Map, Value, json};

use super::objects::text;
use super::start::Program;
use crate::engine::Word;

/// The pods of one part of an object.
#[derive(Clone, Debug, Default)]
pub(super) struct Role {
    /// Its name, where the object has several, such as `prefill`.
    pub(super) name: Option<String>,
    /// The pod's spec, as JSON.
    pub(super) pod: Value,
    /// That of the other pods of its group, where they differ.
    pub(super) worker: Option<Value>,
    /// How many copies there are; `None` where it is not stated.
    pub(super) replicas: Option<u64>,
    /// Pods that make up one copy; `None` where it is not stated.
    pub(super) ranks: Option<u64>,
    /// Whether several pods make up one copy.
    pub(super) is_group: bool,
    /// Whether its replicas have names of their own, so that they may be ranks of one copy.
    pub(super) is_ranked: bool,
    /// What a kind of KServe says outside of the pod.
    pub(super) serving: Option<Serving>,
    /// Environment variables that the kind's controller sets.
    pub(super) variables: Vec<(&'static str, String)>,
    /// What is missing, if that is known without looking at the pod.
    pub(super) faults: Vec<String>,
}

impl Role {
    pub(super) fn of(pod: &Value) -> Self {
        Self { pod: pod.clone(), ..Self::default() }
    }
}

/// What a kind says outside of the pod.
#[derive(Clone, Debug, Default)]
pub(super) struct Serving {
    /// Where the weights are downloaded from, to be found at `/mnt/models`.
    pub(super) place: Option<Word>,
    /// What runs, where the containers do not say it.
    pub(super) program: Option<Program>,
    /// Ranks, where the kind has fields of its own for them.
    pub(super) tensor: Option<u64>,
    pub(super) pipeline: Option<u64>,
    pub(super) data: Option<u64>,
    pub(super) data_here: Option<u64>,
}

/// Objects laid over one another: fields of the upper one go before those of the lower, and what is an object in both is laid
/// over in turn.
pub(super) fn laid_over(lower: &Value, upper: &Value) -> Value {
    match (lower, upper) {
        (Value::Object(low), Value::Object(up)) => {
            let mut fields: Map<String, Value> = low.clone();
            for (key, value) in up {
                let under = low.get(key).unwrap_or(&Value::Null);
                let merged = if key == "containers" || key == "initContainers" || key == "env" {
                    by_name(under, value)
                } else {
                    laid_over(under, value)
                };
                fields.insert(key.clone(), merged);
            }
            Value::Object(fields)
        }
        (low, Value::Null) => low.clone(),
        (_, up) => up.clone(),
    }
}

/// Lists of things with names, as a strategic merge has them.
fn by_name(lower: &Value, upper: &Value) -> Value {
    let (Some(low), Some(up)) = (lower.as_array(), upper.as_array()) else {
        return laid_over(&json!(null), upper);
    };
    let name = |value: &Value| text(value, "/name").map(str::to_owned);
    let mut merged: Vec<Value> = low.clone();
    for value in up {
        let same = merged.iter_mut().find(|under| name(under).is_some() && name(under) == name(value));
        match same {
            // A value stands for another way to say it.
            Some(under) if value.get("value").is_some() || value.get("valueFrom").is_some() => {
                *under = value.clone();
            }
            Some(under) => *under = laid_over(under, value),
            None => merged.push(value.clone()),
        }
    }
    Value::Array(merged)
}
