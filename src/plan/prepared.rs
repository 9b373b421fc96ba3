//! What a plan takes from the spec, the model and what runs already: made once, and decided anew with every change of the
//! cluster.

use std::sync::{Arc, OnceLock};

use super::{
    Plan, Subject, alternatives, apply, check, placement, pods, repository, required, source_name, tensor,
    workload,
};
use crate::decide::{
    Alternative, Change, Decision, LARGEST_GPU_MADE, Policy, Request, Requirement, Room, decide_lazily,
};
use crate::estimate::{Estimate, Workload, estimate};
use crate::inventory::{Inventory, Sources};
use crate::launch::{self, Launch, Record, Template};
use crate::model::ModelShape;
use crate::refusal::Refusal;
use crate::units::Margin;
use crate::workloads::Taken;

/// An object's plan but for the cluster.
#[derive(Clone, Debug)]
pub struct Prepared {
    margin: Margin,
    policy: Policy,
    template: Option<Template>,
    repository: Option<String>,
    /// `parallelism.tensor` is `auto`.
    tensor_auto: bool,
    /// With `tensor: auto` a workload for every number of ranks, the smallest first; else none.
    choices: Vec<Arc<Choice>>,
    /// The workload that was asked for, or the one where no node has room for any of those.
    otherwise: Result<Arc<Choice>, Refusal>,
    /// The workload of the pods that run, where they stay as they were written, and where these may be.
    kept: Option<(Arc<Choice>, Policy)>,
    /// What the pods take, where somebody else wrote them.
    taken: Option<Taken>,
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
    /// The pods that run stay as they were written, and the decision is about what these demand.
    is_kept: bool,
}

/// Reads a spec, and estimates what it asks for.
///
/// # Errors
/// See [`Refusal`].
pub fn prepare(subject: Subject<'_>, shape: &ModelShape) -> Result<Prepared, Refusal> {
    prepare_for(subject, shape, None)
}

/// The same, for pods that take what somebody else wrote.
pub(super) fn prepare_for(
    subject: Subject<'_>,
    shape: &ModelShape,
    taken: Option<&Taken>,
) -> Result<Prepared, Refusal> {
    let spec = subject.spec;
    super::check(spec)?;
    let margin = check::margin(spec)?;
    let template = Template::read(spec)?;
    let mut policy = placement::policy(spec, template.as_ref())?;
    policy.resource = taken.map(|taken| taken.resource.clone());
    let workload::Asked { workload: asked, tensor_auto } = workload::read(spec, Some(shape))?;
    let choice = |workload: Workload| Choice::new(shape, workload, margin, taken).map(Arc::new);
    let kept = subject.kept().map(|record| {
        let tensor = if tensor_auto { record.demand.tensor } else { asked.tensor };
        let policy = Policy { written: record.terms(), ..policy.clone() };
        choice(Workload { tensor, ..asked.clone() }).map(|choice| (choice, policy))
    });
    let kept = kept.transpose()?;
    let (choices, otherwise) = if tensor_auto {
        let most = tensor::MOST_GPUS.max(asked.pipeline.saturating_mul(asked.data));
        let choices: Vec<Arc<Choice>> = tensor::candidates(shape)
            .filter_map(|tensor| choice(Workload { tensor, ..asked.clone() }).ok())
            .filter(|choice| choice.requirement.gpus <= most)
            .collect();
        // The smallest that a GPU of any make would do, for an autoscaler to bring; else one.
        let made = choices.iter().find(|choice| choice.requirement.per_gpu <= LARGEST_GPU_MADE);
        let otherwise = made.map(|made| Ok(Arc::clone(made)));
        (choices, otherwise.unwrap_or_else(|| choice(Workload { tensor: asked.fewest_tensor(), ..asked })))
    } else {
        (Vec::new(), Ok(choice(asked)?))
    };
    let repository = repository(spec);
    let taken = taken.cloned();
    Ok(Prepared { margin, policy, template, repository, tensor_auto, choices, otherwise, kept, taken })
}

impl Choice {
    fn new(
        shape: &ModelShape,
        workload: Workload,
        margin: Margin,
        taken: Option<&Taken>,
    ) -> Result<Self, Refusal> {
        let estimate = estimate(shape, &workload)?;
        let requirement = required(&estimate, margin)?;
        let requirement = match taken {
            Some(taken) => pods::requirement(requirement, taken)?,
            None => requirement,
        };
        Ok(Self { workload, estimate, requirement, alternatives: OnceLock::new() })
    }
}

impl Prepared {
    /// Decides, for a cluster. `subject` and `shape` are those that it was prepared for.
    ///
    /// What was written stays as it was written. Only what the cluster had decided (a resource's name, `tensor: auto`) is
    /// decided anew, and only where no pod is ready and the present choice has no room anywhere.
    ///
    /// # Errors
    /// A model that no number of ranks divides.
    pub fn decide(
        &self,
        subject: Subject<'_>,
        shape: &ModelShape,
        inventory: &Inventory,
    ) -> Result<Decided, Refusal> {
        let (Some((kept, policy)), Some(record)) = (&self.kept, subject.kept()) else {
            return self.anew(subject, shape, inventory);
        };
        let demand = &record.demand;
        let decision = self.decided(subject, shape, inventory, kept, (demand.requirement(), policy));
        let kept = Decided { decision, choice: Arc::clone(kept), is_kept: true };
        let is_any_ready = subject.running.is_some_and(|running| running.is_any_ready);
        if is_any_ready || launch::suits(&kept.decision, Some(&demand.resource)) {
            return Ok(kept);
        }
        let anew = self.anew(subject, shape, inventory)?;
        let is_of_the_cluster = Self::resource(subject, &anew.decision) != demand.resource
            || (self.tensor_auto && anew.choice.workload.tensor != demand.tensor);
        Ok(if is_of_the_cluster && launch::suits(&anew.decision, None) { anew } else { kept })
    }

    /// Decides for the spec as it is, whatever runs.
    fn anew(
        &self,
        subject: Subject<'_>,
        shape: &ModelShape,
        inventory: &Inventory,
    ) -> Result<Decided, Refusal> {
        let choice = self.choice(subject, inventory)?;
        super::judge(subject.spec, &choice.estimate, self.margin)?;
        let decision = self.decided(subject, shape, inventory, &choice, (choice.requirement, &self.policy));
        Ok(Decided { decision, choice, is_kept: false })
    }

    fn decided(
        &self,
        subject: Subject<'_>,
        shape: &ModelShape,
        inventory: &Inventory,
        choice: &Choice,
        (requirement, policy): (Requirement, &Policy),
    ) -> Decision {
        let request = Request { requirement, policy, owner: Some(subject.owner()) };
        decide_lazily(&request, inventory, || {
            choice.alternatives.get_or_init(|| {
                // Where nothing would run in any case, what is suggested is about memory alone.
                let asked = self.launched(
                    subject,
                    shape,
                    (inventory.sources(), ""),
                    &choice.estimate,
                    choice.requirement,
                );
                let is_free = launch::would_run_nothing(asked);
                // Of the spec as it would be: its arguments or its template may contradict the change.
                let revised = |change: &Change, variant: Workload| {
                    let spec = apply(change, subject.spec);
                    let asked = workload::read(&spec, Some(shape)).ok()?;
                    let tensor = if asked.tensor_auto { variant.tensor } else { asked.workload.tensor };
                    let estimate = estimate(shape, &Workload { tensor, ..asked.workload }).ok()?;
                    let requirement = required(&estimate, self.margin).ok()?;
                    let requirement = match &self.taken {
                        Some(taken) => pods::changed(requirement, choice.estimate.gpus, taken)?,
                        None => requirement,
                    };
                    let changed = Subject { spec: &spec, ..subject };
                    let would_run = || {
                        let sources = (inventory.sources(), "");
                        launch::would_run(self.launched(changed, shape, sources, &estimate, requirement))
                    };
                    (is_free || would_run()).then_some(requirement)
                };
                alternatives(shape, &choice.workload, &choice.estimate, self.margin, &revised)
            })
        })
    }

    /// The workload that some node of the cluster has room for, in use or not: what runs there changes by the minute, and
    /// the pods must not be rolled for it.
    fn choice(&self, subject: Subject<'_>, inventory: &Inventory) -> Result<Arc<Choice>, Refusal> {
        if !self.choices.is_empty() {
            let room = Room::new(&self.policy, Some(subject.owner()), inventory);
            if let Some(choice) = self.choices.iter().find(|choice| room.holds(choice.requirement)) {
                return Ok(Arc::clone(choice));
            }
        }
        self.otherwise.clone()
    }

    /// The resource that the pods of a decision are to request.
    fn resource<'a>(subject: Subject<'a>, decision: &'a Decision) -> &'a str {
        let running = subject.running;
        let present = running.and_then(|running| running.requested.as_ref());
        launch::resource(
            decision,
            present.map(|(resource, _)| resource.as_str()),
            running.is_some_and(|running| running.is_any_ready),
        )
    }

    /// The plan that a decision makes of it.
    ///
    /// # Errors
    /// A template that asks for other GPUs than were counted, a name that is no label's value, arguments that contradict.
    pub fn plan(
        &self,
        subject: Subject<'_>,
        shape: &ModelShape,
        decided: Decided,
        sources: &Sources,
    ) -> Result<Plan, Refusal> {
        let Decided { decision, choice, is_kept } = decided;
        let record = subject.kept().filter(|_| is_kept);
        let launch = if let Some(record) = record {
            Launch::Run(Box::new(record.pods()))
        } else {
            let resource = Self::resource(subject, &decision);
            launch::launch(self.launched(
                subject,
                shape,
                (sources, resource),
                &choice.estimate,
                choice.requirement,
            ))?
        };
        Ok(Plan {
            model: shape.name.clone(),
            source: source_name(shape.source).to_owned(),
            architecture: shape.architecture.clone(),
            parameters: shape.parameters,
            estimate: choice.estimate.clone(),
            margin: self.margin,
            requirement: choice.requirement,
            policy: self.kept.as_ref().filter(|_| is_kept).map_or(&self.policy, |(_, policy)| policy).clone(),
            decision,
            replicas: u64::try_from(subject.spec.replicas).unwrap_or(0),
            launch,
            kept: record.map(|record| record.demand.requirement()),
        })
    }

    fn launched<'a>(
        &'a self,
        subject: Subject<'a>,
        shape: &'a ModelShape,
        (sources, resource): (&'a Sources, &'a str),
        estimate: &'a Estimate,
        requirement: Requirement,
    ) -> launch::Inputs<'a> {
        launch::Inputs {
            name: subject.name,
            spec: subject.spec,
            template: self.template.as_ref(),
            shape,
            repository: self.repository.as_deref(),
            sources,
            resource,
            estimate,
            margin: self.margin,
            requirement,
        }
    }
}

impl<'a> Subject<'a> {
    /// The record of the pods that run, where they are of this spec: then they stay as they were written.
    fn kept(&self) -> Option<&'a Record> {
        let record = self.running.filter(|running| !running.is_at_rest)?.record.as_ref()?;
        record.is_of(self.spec, self.roll).then_some(record)
    }
}
