//! Node affinity: which nodes kube-scheduler may bind the pods to, and which of them it should prefer.
//!
//! The required terms say of labels what [`decide`](crate::decide) says of nodes, so that a pod is never bound to a node
//! that was not accepted. One term per label source; no host names, no `matchFields`, so that autoscalers can reason
//! with them. They depend on the spec alone: what nodes there are never rolls the pods.

use serde_json::{Value, json};

use crate::api::v1alpha1::{SharingMode, Strategy};
use crate::decide::Requirement;
use crate::units::{Bytes, Overflow};

/// Memory per GPU or slice in MiB: the resource's name and this (GPU Feature Discovery).
const MEMORY: &str = ".memory";
/// `none`, `time-slicing` or `mps` (GPU Feature Discovery).
const SHARING: &str = ".sharing-strategy";
/// How many clients one GPU is handed out to; 0 on a card that is cut into MIG slices (GPU Feature Discovery).
const REPLICAS: &str = ".replicas";
/// What the device plugin adds to the name of a resource that is shared, if it is told to rename it.
const SHARED_SUFFIX: &str = ".shared";
/// There only where a GPU is cut into MIG slices (GPU Feature Discovery).
const SLICES: &str = "nvidia.com/gpu.slices.gi";
/// `success`, or what MIG is being changed from (GPU operator).
const MIG_STATE: &str = "nvidia.com/mig.config.state";
/// From here on the label must be bytes (old releases of GPU Feature Discovery) or a mistake: no GPU has 1 TiB.
const NOT_MIB: u64 = 1 << 20;
/// MPS divides a GPU's memory evenly, and the label does not say so: one term for each number of clients up to this.
const MOST_MPS_CLIENTS: u64 = 8;

/// What the affinity follows from.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The resource that the pods request, such as `nvidia.com/gpu`.
    pub resource: &'a str,
    /// What a GPU must have, and how many a replica takes.
    pub requirement: Requirement,
    /// Whether shared GPUs will do.
    pub sharing: SharingMode,
    /// Which nodes are preferred.
    pub strategy: Strategy,
}

impl Wish<'_> {
    /// A label of the resource.
    fn label(&self, name: &str) -> String {
        format!("{}{name}", self.resource.strip_suffix(SHARED_SUFFIX).unwrap_or(self.resource))
    }
}

/// The node selector terms of which one must match: each a list of expressions that must all hold.
///
/// # Errors
/// A requirement that cannot be multiplied by a number of MPS clients without an overflow.
pub fn required(wish: Wish<'_>) -> Result<Vec<Vec<Value>>, Overflow> {
    // Other label sources append their terms here; one that an autoscaler itself sets goes last.
    nvidia(wish)
}

fn nvidia(wish: Wish<'_>) -> Result<Vec<Vec<Value>>, Overflow> {
    let Requirement { per_gpu, gpus } = wish.requirement;
    let (sharing, replicas) = (wish.label(SHARING), wish.label(REPLICAS));
    if wish.sharing == SharingMode::Shared && gpus == 1 {
        let mut whole = memory(wish, per_gpu);
        whole.push(json!({"key": sharing, "operator": "NotIn", "values": ["mps"]}));
        whole.push(json!({"key": replicas, "operator": "NotIn", "values": ["0"]}));
        let mut terms = vec![whole];
        for clients in 2..=MOST_MPS_CLIENTS {
            let mut term = memory(wish, per_gpu.times(clients)?);
            term.push(json!({"key": sharing, "operator": "In", "values": ["mps"]}));
            term.push(json!({"key": replicas, "operator": "In", "values": [clients.to_string()]}));
            terms.push(term);
        }
        return Ok(terms);
    }
    let mut own = memory(wish, per_gpu);
    own.push(json!({"key": sharing, "operator": "NotIn", "values": ["time-slicing", "mps"]}));
    if gpus > 1 {
        // A process sees one MIG slice only, however many the pod is given.
        own.push(json!({"key": SLICES, "operator": "DoesNotExist"}));
    }
    // Releases before the sharing strategy had a label say only how often a GPU is shared. `Lt` does not match a node
    // without the label: hence a term for either case, the one that a node template can meet last.
    let mut counted = own.clone();
    counted.push(json!({"key": replicas, "operator": "Gt", "values": ["0"]}));
    counted.push(json!({"key": replicas, "operator": "Lt", "values": ["2"]}));
    own.push(json!({"key": replicas, "operator": "DoesNotExist"}));
    Ok(vec![counted, own])
}

/// At least so much, in a unit that can be believed, and no MIG layout that is being changed.
fn memory(wish: Wish<'_>, least: Bytes) -> Vec<Value> {
    let key = wish.label(MEMORY);
    // `Gt` is strict, and whole numbers are all it takes: at least N is more than N - 1.
    let more_than = least.mib_ceil().saturating_sub(1);
    vec![
        json!({"key": key, "operator": "Gt", "values": [more_than.to_string()]}),
        json!({"key": key, "operator": "Lt", "values": [NOT_MIB.to_string()]}),
        json!({"key": MIG_STATE, "operator": "NotIn", "values": ["pending", "rebooting", "failed"]}),
    ]
}

/// Sizes that GPUs are made in, in MiB, each the upper bound of a class as the labels report it: 8, 12, 16, 24, 32, 40,
/// 48, 64, 80, 96, 141, 192 and 288 GB. Reported figures differ from the round ones by the driver's share and by ECC,
/// which makes two classes of 24 GB (L4 and A10 below RTX 4090) and of 48 GB (L40S below A6000).
const SIZES: &[u64] = &[
    8192, 12288, 16384, 23040, 24576, 32768, 40960, 46080, 49152, 65536, 81920, 98304, 147_456, 196_608,
    294_912,
];
/// The scheduler adds the weights of all terms that match: the smallest class matches every term. More terms would cost
/// an autoscaler a simulation each.
const WEIGHTS: &[i32] = &[100, 50, 25];

/// The preferred terms: the smallest classes of GPU that hold the requirement, or the largest there are.
#[must_use]
pub fn preferred(wish: Wish<'_>) -> Vec<Value> {
    let least = wish.requirement.per_gpu.mib_ceil();
    let key = wish.label(MEMORY);
    let above: Vec<u64> = SIZES.iter().copied().filter(|size| *size >= least).collect();
    let expressions: Vec<Value> = match wish.strategy {
        // One class too few: that the largest class is no larger says nothing.
        Strategy::SmallestFit => above
            .iter()
            .take(above.len().saturating_sub(1))
            .map(|size| json!({"key": key, "operator": "Lt", "values": [(size + 1).to_string()]}))
            .collect(),
        Strategy::LargestFit => above
            .iter()
            .rev()
            .skip(1)
            .map(|size| json!({"key": key, "operator": "Gt", "values": [size.to_string()]}))
            .collect(),
    };
    expressions
        .into_iter()
        .zip(WEIGHTS)
        .map(|(expression, weight)| json!({"weight": weight, "preference": {"matchExpressions": [expression]}}))
        .collect()
}
