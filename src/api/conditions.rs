//! Condition types, and how a list of conditions is brought up to date without moving what has not changed.

/// All is well: the workload has the replicas that are wanted, or, with nothing to run, a node fits.
pub const READY: &str = "Ready";
/// The model was resolved and its memory estimated.
pub const ESTIMATED: &str = "Estimated";
/// At least one node fits now.
pub const PLACEABLE: &str = "Placeable";
/// kstatus: work is under way, or the cluster may still come to fit.
pub const RECONCILING: &str = "Reconciling";
/// kstatus: nothing will change until the spec does.
pub const STALLED: &str = "Stalled";
