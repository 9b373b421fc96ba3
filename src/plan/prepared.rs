//! What a plan takes from the spec and the model alone: made once, and decided anew with every change of the cluster.

use std::sync::{Arc, OnceLock};

use super::{Plan, Subject, alternatives, check, placement, required, source_name, tensor, workload};
use crate::decide::{
    Alternative, Decision, LARGEST_GPU_MADE, Policy, Request, Requirement, Room, decide_lazily,
};
use crate::estimate::{Estimate, Workload, estimate};
use crate::inventory::{Inventory, Owner};
use crate::model::ModelShape;
use crate::refusal::Refusal;
use crate::units::Margin;

/// An object's plan but for the cluster.
#[derive(Clone, Debug)]
pub struct Prepared {
    margin: Margin,
    policy: Policy,
    /// With `tensor: auto` a workload for every number of ranks, the smallest first; else none.
    choices: Vec<Arc<Choice>>,
    /// The workload that was asked for, or the one where no node has room for any of those.
    otherwise: Result<Arc<Choice>, Refusal>,
}

/// One way to run the model.
#[derive(Clone, Debug)]
struct Choice {
    workload: Workload,
    estimate: Estimate,
    requirement: Requirement,
    /// What could be changed, worked out when it first does not fit.
    alternatives: OnceLock<Vec<Alternative>>,
}

/// A decision, and which of the workloads it is about.
#[derive(Clone, Debug)]
pub struct Decided {
    /// The decision.
    pub decision: Decision,
    choice: Arc<Choice>,
}

/// Reads a spec, and estimates what it asks for.
///
/// # Errors
/// See [`Refusal`].
pub fn prepare(subject: Subject<'_>, shape: &ModelShape) -> Result<Prepared, Refusal> {
    let spec = subject.spec;
    super::check(spec)?;
    let margin = check::margin(spec)?;
    let policy = placement::policy(spec)?;
    let asked = workload::read(spec, Some(shape))?;
    let choice = |workload: Workload| Choice::new(shape, workload, margin).map(Arc::new);
    if !asked.tensor_auto {
        let otherwise = Ok(choice(asked.workload)?);
        return Ok(Prepared { margin, policy, choices: Vec::new(), otherwise });
    }
    let asked = asked.workload;
    let most = tensor::MOST_GPUS.max(asked.pipeline);
    let choices: Vec<Arc<Choice>> = tensor::candidates(shape)
        .filter_map(|tensor| choice(Workload { tensor, ..asked.clone() }).ok())
        .filter(|choice| choice.requirement.gpus <= most)
        .collect();
    // The smallest that a GPU of any make would do, for an autoscaler to bring; else one.
    let made = choices.iter().find(|choice| choice.requirement.per_gpu <= LARGEST_GPU_MADE);
    let otherwise = made.map_or_else(|| choice(Workload { tensor: 1, ..asked }), |made| Ok(Arc::clone(made)));
    Ok(Prepared { margin, policy, choices, otherwise })
}

impl Choice {
    fn new(shape: &ModelShape, workload: Workload, margin: Margin) -> Result<Self, Refusal> {
        let estimate = estimate(shape, &workload)?;
        let requirement = required(&estimate, margin)?;
        Ok(Self { workload, estimate, requirement, alternatives: OnceLock::new() })
    }
}

impl Prepared {
    /// Decides, for a cluster. `shape` and `owner` are those that it was prepared for.
    ///
    /// # Errors
    /// A model that no number of ranks divides.
    pub fn decide(
        &self,
        shape: &ModelShape,
        owner: Owner<'_>,
        inventory: &Inventory,
    ) -> Result<Decided, Refusal> {
        let choice = self.choice(owner, inventory)?;
        let request = Request { requirement: choice.requirement, policy: &self.policy, owner: Some(owner) };
        let decision = decide_lazily(&request, inventory, || {
            let make = || alternatives(shape, &choice.workload, &choice.estimate, self.margin);
            choice.alternatives.get_or_init(make)
        });
        Ok(Decided { decision, choice })
    }

    /// The workload that some node of the cluster has room for, in use or not: what runs there changes by the minute, and
    /// the pods must not be rolled for it.
    fn choice(&self, owner: Owner<'_>, inventory: &Inventory) -> Result<Arc<Choice>, Refusal> {
        if !self.choices.is_empty() {
            let room = Room::new(&self.policy, Some(owner), inventory);
            if let Some(choice) = self.choices.iter().find(|choice| room.holds(choice.requirement)) {
                return Ok(Arc::clone(choice));
            }
        }
        self.otherwise.clone()
    }

    /// The plan that a decision makes of it.
    #[must_use]
    pub fn plan(&self, shape: &ModelShape, decided: Decided) -> Plan {
        let Decided { decision, choice } = decided;
        Plan {
            model: shape.name.clone(),
            source: source_name(shape.source).to_owned(),
            architecture: shape.architecture.clone(),
            parameters: shape.parameters,
            estimate: choice.estimate.clone(),
            margin: self.margin,
            requirement: choice.requirement,
            policy: self.policy.clone(),
            decision,
        }
    }
}
