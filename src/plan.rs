//! From a ModelDeployment's spec and its model's shape to a decision: what the controller, the webhook and the command
//! line all call, so that they cannot disagree. Pure.

mod alternatives;
mod check;
mod placement;
mod source;
mod tensor;
#[cfg(test)]
mod tests;
mod workload;

use crate::api::ModelDeploymentSpec;
use crate::decide::{Decision, Policy, Reason, Request, Requirement, Verdict, decide};
use crate::estimate::{Estimate, EstimateError, Workload, estimate};
use crate::inventory::{Inventory, Owner};
use crate::launch::{self, Launch, Record, Running, Template};
use crate::model::{ModelShape, ShapeSource};
use crate::refusal::Refusal;
use crate::units::Margin;

pub use alternatives::alternatives;
pub use source::{ResolveError, SourceRef, published_size, repository, resolve_pure, spec_source};

/// The object that is planned.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its spec.
    pub spec: &'a ModelDeploymentSpec,
    /// The value of its annotation that asks for a roll.
    pub roll: Option<&'a str>,
    /// What runs for it already, where that is known.
    pub running: Option<&'a Running>,
}

/// What was found for one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The model's name, for output.
    pub model: String,
    /// Where the shape came from, for output, such as `catalog` or `config`.
    pub source: String,
    /// The shape's architecture.
    pub architecture: String,
    /// The shape's parameters.
    pub parameters: u64,
    /// What it needs.
    pub estimate: Estimate,
    /// The safety margin.
    pub margin: Margin,
    /// What the nodes must have.
    pub requirement: Requirement,
    /// Where it may run.
    pub policy: Policy,
    /// The answer. Where pods run that stay as they were written, it is about what these demand.
    pub decision: Decision,
    /// What runs, or why nothing does.
    pub launch: Launch,
    /// What the pods that run were given, where they stay as they were written.
    pub kept: Option<Requirement>,
}

impl Plan {
    /// The answer for the object: the cluster's, unless what is asked for can never be run as it is.
    #[must_use]
    pub fn answer(&self) -> (Verdict, Reason) {
        self.decision.answer(self.launch.impossibility().is_none())
    }

    /// Whether the pods that run were given less than is needed by now.
    #[must_use]
    pub fn is_outgrown(&self) -> bool {
        let needs = self.requirement;
        self.kept.is_some_and(|given| needs.per_gpu > given.per_gpu || needs.gpus > given.gpus)
    }
}

/// Checks what a spec says by itself, without its model: all that the CRD's schema and rules refuse is refused here too,
/// and what this version does not do.
///
/// # Errors
/// See [`Refusal`].
pub fn check(spec: &ModelDeploymentSpec) -> Result<(), Refusal> {
    spec_source(spec)?;
    check::unsupported(spec)?;
    check::fields(spec)?;
    placement::policy(spec, Template::read(spec)?.as_ref())?;
    workload::read(spec, None)?;
    check::margin(spec).map(|_| ())
}

/// Plans one object against a cluster: what every front end calls.
///
/// What was written for a spec stays as it was written, whatever the estimate comes to by now, until the spec changes or a
/// roll is asked for. Only what the cluster had decided (a resource's name, `tensor: auto`) is decided anew, and only
/// where no pod is ready and the present choice has no room anywhere.
///
/// # Errors
/// See [`Refusal`].
pub fn plan(subject: Subject<'_>, shape: &ModelShape, inventory: &Inventory) -> Result<Plan, Refusal> {
    let Subject { spec, roll, running, .. } = subject;
    check(spec)?;
    let template = Template::read(spec)?;
    let planner = Planner {
        subject,
        shape,
        inventory,
        margin: check::margin(spec)?,
        policy: placement::policy(spec, template.as_ref())?,
        template: template.as_ref(),
        asked: workload::read(spec, Some(shape))?,
        repository: repository(spec),
    };
    let Some(record) =
        running.and_then(|running| running.record.as_ref()).filter(|record| record.is_of(spec, roll))
    else {
        return planner.anew();
    };
    let kept = planner.kept(record)?;
    let is_any_ready = running.is_some_and(|running| running.is_any_ready);
    if is_any_ready || launch::suits(&kept.decision, Some(&record.demand.resource)) {
        return Ok(kept);
    }
    let anew = planner.anew()?;
    let is_of_the_cluster = anew.launch.pods().is_some_and(|pods| {
        pods.demand.resource != record.demand.resource
            || (planner.asked.tensor_auto && pods.demand.tensor != record.demand.tensor)
    });
    Ok(if is_of_the_cluster && launch::suits(&anew.decision, None) { anew } else { kept })
}

/// Replicas that would find room beside the object's own pods, which count as the others' do.
#[must_use]
pub fn slots_beside_its_own(plan: &Plan, inventory: &Inventory) -> u64 {
    let request = Request { requirement: plan.decision.requirement, policy: &plan.policy, owner: None };
    decide(&request, inventory, &[]).slots
}

/// What a plan is made of, once the spec has been read.
struct Planner<'a> {
    subject: Subject<'a>,
    shape: &'a ModelShape,
    inventory: &'a Inventory,
    margin: Margin,
    policy: Policy,
    template: Option<&'a Template>,
    asked: workload::Asked,
    repository: Option<String>,
}

impl Planner<'_> {
    /// The plan of the spec as it is.
    fn anew(&self) -> Result<Plan, Refusal> {
        let workload = if self.asked.tensor_auto {
            let question = tensor::Question {
                shape: self.shape,
                margin: self.margin,
                policy: &self.policy,
                owner: Some(self.owner()),
                inventory: self.inventory,
            };
            tensor::smallest(&self.asked.workload, &question)
        } else {
            self.asked.workload.clone()
        };
        let estimate = estimate(self.shape, &workload)?;
        let requirement = required(&estimate, self.margin)?;
        let request = Request { requirement, policy: &self.policy, owner: Some(self.owner()) };
        let decision = decide(&request, self.inventory, &[]);
        let running = self.subject.running;
        let present = running.and_then(|running| running.requested.as_ref());
        let resource = launch::resource(
            &decision,
            present.map(|(resource, _)| resource.as_str()),
            running.is_some_and(|running| running.is_any_ready),
        )
        .to_owned();
        let launch = launch::launch(self.launched(&resource, &estimate, requirement))?;
        Ok(self.made(&workload, estimate, requirement, decision, launch, None))
    }

    /// The plan of an object whose pods stay as they were written.
    fn kept(&self, record: &Record) -> Result<Plan, Refusal> {
        let mut workload = self.asked.workload.clone();
        if self.asked.tensor_auto {
            workload.tensor = record.demand.tensor;
        }
        let estimate = estimate(self.shape, &workload)?;
        let requirement = required(&estimate, self.margin)?;
        let given = record.demand.requirement();
        let request = Request { requirement: given, policy: &self.policy, owner: Some(self.owner()) };
        let decision = decide(&request, self.inventory, &[]);
        let launch = Launch::Run(Box::new(record.pods()));
        Ok(self.made(&workload, estimate, requirement, decision, launch, Some(given)))
    }

    /// The plan, with what could be changed where it does not fit.
    fn made(
        &self,
        workload: &Workload,
        estimate: Estimate,
        requirement: Requirement,
        mut decision: Decision,
        launch: Launch,
        kept: Option<Requirement>,
    ) -> Plan {
        // Where nothing would run in any case, what is suggested is about memory alone.
        let chosen = matches!(launch, Launch::Nothing(_)) && launch.impossibility().is_none();
        if decision.verdict != Verdict::Fits || launch.impossibility().is_some() {
            let resource = decision.resource().to_owned();
            let runs = |estimate: &Estimate, requirement: Requirement| {
                chosen || launch::would_run(self.launched(&resource, estimate, requirement))
            };
            let alternatives = alternatives(self.shape, workload, &estimate, self.margin, &runs);
            let request = Request {
                requirement: decision.requirement,
                policy: &self.policy,
                owner: Some(self.owner()),
            };
            decision = decide(&request, self.inventory, &alternatives);
        }
        Plan {
            model: self.shape.name.clone(),
            source: source_name(self.shape.source).to_owned(),
            architecture: self.shape.architecture.clone(),
            parameters: self.shape.parameters,
            estimate,
            margin: self.margin,
            requirement,
            policy: self.policy.clone(),
            decision,
            launch,
            kept,
        }
    }

    fn owner(&self) -> Owner<'_> {
        Owner { namespace: self.subject.namespace, name: self.subject.name }
    }

    fn launched<'a>(
        &'a self,
        resource: &'a str,
        estimate: &'a Estimate,
        requirement: Requirement,
    ) -> launch::Subject<'a> {
        launch::Subject {
            name: self.subject.name,
            spec: self.subject.spec,
            template: self.template,
            shape: self.shape,
            repository: self.repository.as_deref(),
            resource,
            estimate,
            margin: self.margin,
            requirement,
        }
    }
}

/// The workload that a spec asks for, with what the model's shape fills in. `tensor: auto` is 1: only a cluster can tell.
///
/// # Errors
/// [`Refusal::Invalid`] for a number that cannot be right.
pub fn workload(spec: &ModelDeploymentSpec, shape: &ModelShape) -> Result<Workload, Refusal> {
    Ok(workload::read(spec, Some(shape))?.workload)
}

/// What the nodes must have for an estimate.
fn required(estimate: &Estimate, margin: Margin) -> Result<Requirement, Refusal> {
    let per_gpu = margin.apply(estimate.total_per_gpu).map_err(EstimateError::Overflow)?;
    Ok(Requirement { per_gpu, gpus: estimate.gpus })
}

/// The same for a workload that may be impossible.
fn requirement_of(shape: &ModelShape, workload: &Workload, margin: Margin) -> Option<Requirement> {
    required(&estimate(shape, workload).ok()?, margin).ok()
}

/// Where a shape came from, as the output spells it.
const fn source_name(source: ShapeSource) -> &'static str {
    match source {
        ShapeSource::Parameters => "parameters",
        ShapeSource::Config => "config",
        ShapeSource::Safetensors => "safetensors",
        ShapeSource::Gguf => "gguf",
        ShapeSource::Catalog => "catalog",
    }
}
