//! The machine-read output. A contract: camelCase, bytes as integers; fields may be added, not changed.

mod comparison;
mod fit;
mod workload;

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use crate::decide::{ClassVerdict, Requirement, Suggestion};
use crate::estimate::{Components, Estimate, Logged, Term, Workload};
use crate::inventory::{GpuPool, GpuSharing, Inventory, Memory, Node, Trust, Vendor};
use crate::model::catalog::Entry;
use crate::model::published::Counts;
use crate::model::{Confidence, ModelShape};
use crate::plan::Plan;
use crate::units::{Bytes, MIB, Margin};

use super::change::change;
use super::outcome::{Outcome, verdict_word};

pub use comparison::{
    ComparisonDocument, CurveDocument, CurvePoint, FittedCardDocument, LeftOutDocument, VariantDocument,
};
pub use fit::{CardDocument, CardFitDocument, CardsDocument, ChangeDocument, FitDocument, SharedDocument};
pub use workload::WorkloadDocument;

/// A model and what it needs: what `loadline estimate` prints.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EstimateDocument {
    /// The model.
    pub model: ModelDocument,
    /// The workload with every default filled in.
    pub workload: Workload,
    /// Bytes by component, summed over GPUs.
    pub components: ComponentsDocument,
    /// Bytes by component on the GPU that needs most.
    pub per_gpu: ComponentsDocument,
    /// GPUs of one replica.
    pub gpus: u64,
    /// Bytes summed over GPUs.
    pub total: Bytes,
    /// The safety margin.
    pub safety_margin: String,
    /// `total` times the margin.
    pub required: Bytes,
    /// The GPU that needs most, times the margin.
    pub required_per_gpu: Bytes,
    /// Growth of the KV cache per token of context and sequence, summed over GPUs.
    pub kv_cache_bytes_per_token: Bytes,
    /// exact, derived or assumed.
    pub confidence: Confidence,
    /// What the user should know.
    pub notes: Vec<String>,
    /// How wide each component may be, on the GPU that needs most.
    pub range: BTreeMap<&'static str, RangeDocument>,
    /// The arithmetic.
    pub terms: Vec<TermDocument>,
    /// What vLLM itself will log at its start, on the GPU that needs most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logged: Option<LoggedDocument>,
    /// What of it fits one GPU, where one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fit: Option<FitDocument>,
    /// The common GPUs on either side of the requirement; on the command line only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cards: Option<CardsDocument>,
    /// The same model otherwise, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comparison: Option<ComparisonDocument>,
}

/// What vLLM logs at its start.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoggedDocument {
    /// `Model loading took`.
    pub model: Bytes,
    /// `peak activation memory`.
    pub activations: Bytes,
    /// `non-torch memory`, without the CUDA context and the communicator.
    pub non_torch: Bytes,
    /// `Graph capturing finished`.
    pub graphs: Bytes,
}

impl From<Logged> for LoggedDocument {
    fn from(logged: Logged) -> Self {
        Self {
            model: logged.model,
            activations: logged.activations,
            non_torch: logged.non_torch,
            graphs: logged.graphs,
        }
    }
}

/// A model, for output.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelDocument {
    /// Its name.
    pub name: String,
    /// Where its shape came from.
    pub source: String,
    /// Its parameters.
    pub parameters: u64,
    /// Its architecture.
    pub architecture: String,
}

/// Bytes by component.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ComponentsDocument {
    pub(super) weights: Bytes,
    pub(super) kv_cache: Bytes,
    pub(super) activations: Bytes,
    pub(super) overhead: Bytes,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gradients: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) optimizer: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) total: Option<Bytes>,
}

impl ComponentsDocument {
    fn new(components: &Components, training: bool, total: Option<Bytes>) -> Self {
        Self {
            weights: components.weights,
            kv_cache: components.kv_cache,
            activations: components.activations,
            overhead: components.overhead,
            gradients: training.then_some(components.gradients),
            optimizer: training.then_some(components.optimizer),
            total,
        }
    }
}

/// How wide a component may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RangeDocument {
    /// The least it is likely to be.
    pub low: Bytes,
    /// What counts.
    pub expected: Bytes,
    /// The most it is likely to be.
    pub high: Bytes,
}

/// One component's arithmetic.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TermDocument {
    component: &'static str,
    formula: String,
    bytes: Bytes,
    confidence: Confidence,
    low: Bytes,
    high: Bytes,
}

impl From<&Term> for TermDocument {
    fn from(term: &Term) -> Self {
        Self {
            component: term.component,
            formula: term.formula.clone(),
            bytes: term.bytes,
            confidence: term.confidence,
            low: term.low,
            high: term.high,
        }
    }
}

/// The ranges of an estimate's components, on the GPU that needs most: of several terms the sums.
#[must_use]
pub fn ranges(terms: &[Term]) -> BTreeMap<&'static str, RangeDocument> {
    let mut ranges: BTreeMap<&'static str, RangeDocument> = BTreeMap::new();
    let sum = |left: Bytes, right: Bytes| Bytes(left.0.saturating_add(right.0));
    for term in terms {
        let range = ranges.entry(term.component).or_default();
        range.low = sum(range.low, term.low);
        range.expected = sum(range.expected, term.bytes);
        range.high = sum(range.high, term.high);
    }
    ranges
}

/// An estimate of a shape, for output.
#[must_use]
pub fn estimate(shape: &ModelShape, estimate: &Estimate, margin: Margin) -> EstimateDocument {
    let source =
        serde_json::to_value(shape.source).ok().and_then(|source| source.as_str().map(str::to_owned));
    let model = ModelDocument {
        name: shape.name.clone(),
        source: source.unwrap_or_default(),
        parameters: shape.parameters,
        architecture: shape.architecture.clone(),
    };
    document(model, estimate, margin)
}

/// The estimate of a plan, for output.
#[must_use]
pub fn planned_estimate(plan: &Plan) -> EstimateDocument {
    let model = ModelDocument {
        name: plan.model.clone(),
        source: plan.source.clone(),
        parameters: plan.parameters,
        architecture: plan.architecture.clone(),
    };
    document(model, &plan.estimate, plan.margin)
}

fn document(model: ModelDocument, estimate: &Estimate, margin: Margin) -> EstimateDocument {
    let training = estimate.workload.training.is_some();
    // More than 2^64 bytes is no GPU's memory either way: the largest number stands for it.
    let with_margin = |bytes: Bytes| margin.apply(bytes).unwrap_or(Bytes(u64::MAX));
    EstimateDocument {
        model,
        workload: estimate.workload.clone(),
        components: ComponentsDocument::new(&estimate.components, training, None),
        per_gpu: ComponentsDocument::new(&estimate.per_gpu, training, Some(estimate.total_per_gpu)),
        gpus: estimate.gpus,
        total: estimate.total,
        safety_margin: margin.to_string(),
        required: with_margin(estimate.total),
        required_per_gpu: with_margin(estimate.total_per_gpu),
        kv_cache_bytes_per_token: estimate.kv_cache_bytes_per_token,
        confidence: estimate.confidence,
        notes: estimate.notes.clone(),
        range: ranges(&estimate.terms),
        terms: estimate.terms.iter().map(TermDocument::from).collect(),
        logged: estimate.logged.map(LoggedDocument::from),
        fit: None,
        cards: None,
        comparison: None,
    }
}

/// What came of several objects: what `loadline plan` prints. It is made as it is written, object by object and node by
/// node: of many objects over many nodes it would be larger than all that it is made of.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
pub struct PlanDocument<'a> {
    /// One per object, in the order in which they were read.
    #[serde(serialize_with = "results")]
    #[schemars(with = "Vec<ResultDocument<'static>>")]
    results: &'a [Outcome],
}

fn results<S: Serializer>(outcomes: &&[Outcome], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(outcomes.iter().map(result))
}

/// What came of one object.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResultDocument<'a> {
    namespace: String,
    name: String,
    verdict: &'static str,
    reason: &'static str,
    message: String,
    estimate: Option<EstimateDocument>,
    #[schemars(with = "Vec<NodeDocument<'static>>")]
    nodes: Nodes<'a>,
    suggestions: Vec<SuggestionDocument>,
    slots: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    /// What a workload that is no ModelDeployment is and says.
    #[serde(skip_serializing_if = "Option::is_none")]
    workload: Option<WorkloadDocument>,
}

/// The answer for one node.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct NodeDocument<'a> {
    name: &'a str,
    verdict: &'static str,
    reason: &'static str,
    #[serde(serialize_with = "shared")]
    #[schemars(with = "String")]
    message: Arc<str>,
    product: Option<&'a str>,
    #[serde(rename = "memoryMiB")]
    memory_mib: Option<u64>,
    gpus: u64,
    free_gpus: u64,
    source: Option<&'a str>,
}

/// A change that would make it fit.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SuggestionDocument {
    change: String,
    required_per_gpu: Bytes,
    gpus: u64,
    nodes: u64,
}

impl From<&Suggestion> for SuggestionDocument {
    fn from(suggestion: &Suggestion) -> Self {
        Self {
            change: change(&suggestion.change),
            required_per_gpu: suggestion.requirement.per_gpu,
            gpus: suggestion.requirement.gpus,
            nodes: suggestion.nodes,
        }
    }
}

/// What came of several objects, for output.
#[must_use]
pub const fn plan(outcomes: &[Outcome]) -> PlanDocument<'_> {
    PlanDocument { results: outcomes }
}

/// What came of one object, for output.
#[must_use]
pub fn result(outcome: &Outcome) -> ResultDocument<'_> {
    let plan = outcome.plan();
    ResultDocument {
        namespace: outcome.namespace.clone(),
        name: outcome.name.clone(),
        verdict: verdict_word(outcome.verdict()),
        reason: outcome.reason().as_str(),
        message: outcome.message(),
        estimate: plan.map(planned_estimate),
        nodes: Nodes(plan),
        suggestions: plan
            .map(|plan| plan.decision.suggestions.iter().map(SuggestionDocument::from).collect())
            .unwrap_or_default(),
        slots: plan.map_or(0, |plan| plan.decision.slots),
        file: outcome.origin.file.clone(),
        workload: outcome.workload.as_deref().map(WorkloadDocument::from),
    }
}

/// One message of all nodes of a class.
fn shared<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

/// The nodes of a plan, made as they are printed; none without one.
#[derive(Clone, Copy, Debug)]
struct Nodes<'a>(Option<&'a Plan>);

impl Serialize for Nodes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let of_class = |plan| move |class| class_nodes(class, plan);
        let nodes =
            self.0.iter().flat_map(|plan| plan.decision.classes.iter().flat_map(of_class(&plan.requirement)));
        serializer.collect_seq(nodes)
    }
}

fn class_nodes<'a>(
    class: &'a ClassVerdict,
    requirement: &Requirement,
) -> impl Iterator<Item = NodeDocument<'a>> + use<'a> {
    let pool = class.pool.as_deref();
    let node = NodeDocument {
        name: "",
        verdict: verdict_word(class.verdict()),
        reason: class.reason().as_str(),
        message: super::node_message(class, requirement).into(),
        product: pool.and_then(|pool| pool.product.as_deref()),
        memory_mib: pool.and_then(memory_mib),
        gpus: pool.map_or(0, |pool| pool.allocatable),
        free_gpus: pool.map_or(0, |pool| pool.free),
        source: pool.and_then(memory_source),
    };
    class.nodes.iter().map(move |name| NodeDocument { name, ..node.clone() })
}

/// The nodes that have a label which is missing or cannot be believed, with those GPUs only.
#[must_use]
pub fn problems(inventory: &Inventory) -> NodesDocument {
    let mut document = nodes(inventory);
    for node in &mut document.nodes {
        node.pools.retain(|pool| pool.problem.is_some());
    }
    document.nodes.retain(|node| !node.pools.is_empty());
    document
}

/// What a pod gets of one GPU, in whole MiB; none where it is not known.
fn memory_mib(pool: &GpuPool) -> Option<u64> {
    pool.usable_memory().map(|memory| memory.0 / MIB)
}

/// The label that the memory is read from, where there is one.
fn memory_source(pool: &GpuPool) -> Option<&str> {
    match &pool.memory {
        Memory::Known { label, .. } | Memory::Untrusted { label, .. } => Some(label),
        Memory::Missing { .. } => None,
    }
}

/// Who says the memory, and how far that is to be trusted, where it is known.
fn known(pool: &GpuPool) -> Option<(String, Trust)> {
    match &pool.memory {
        Memory::Known { source, trust, .. } => Some((source.to_string(), *trust)),
        Memory::Missing { .. } | Memory::Untrusted { .. } => None,
    }
}

/// The nodes of a cluster: what `loadline nodes` prints.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodesDocument {
    /// The nodes, by name.
    pub nodes: Vec<NodeEntry>,
}

/// A node and its GPUs.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeEntry {
    name: String,
    ready: bool,
    cordoned: bool,
    pools: Vec<PoolEntry>,
}

/// The GPUs of one kind on a node.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolEntry {
    vendor: Vendor,
    product: Option<String>,
    resource: String,
    #[serde(rename = "memoryMiB")]
    memory_mib: Option<u64>,
    gpus: u64,
    free_gpus: u64,
    sharing: String,
    source: Option<String>,
    /// Who writes the label that the memory is read from.
    #[serde(skip_serializing_if = "Option::is_none")]
    labeller: Option<String>,
    trusted: bool,
    /// How far the memory is to be trusted, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    trust: Option<Trust>,
    /// Why the memory is not known, or what labels do not agree with what is taken, and what to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// The nodes of a cluster, for output.
#[must_use]
pub fn nodes(inventory: &Inventory) -> NodesDocument {
    let pool = |node: &Node, pool: &GpuPool| PoolEntry {
        vendor: pool.vendor,
        product: pool.product.clone(),
        resource: pool.resource.clone(),
        memory_mib: memory_mib(pool),
        gpus: pool.allocatable,
        free_gpus: pool.free,
        sharing: match pool.sharing {
            GpuSharing::Exclusive => "exclusive",
            GpuSharing::TimeSliced(_) => "time-slicing",
            GpuSharing::Mps(_) => "mps",
            GpuSharing::Mig => "mig",
        }
        .to_owned(),
        source: memory_source(pool).map(str::to_owned),
        labeller: known(pool).map(|(labeller, _)| labeller),
        trusted: matches!(pool.memory, Memory::Known { .. }),
        trust: known(pool).map(|(_, trust)| trust),
        problem: super::problem(node, pool, inventory.sources()),
    };
    let nodes = inventory
        .nodes()
        .iter()
        .map(|entry| NodeEntry {
            name: entry.node.name.clone(),
            ready: entry.node.ready,
            cordoned: entry.node.unschedulable,
            pools: entry.pools.iter().map(|of| pool(&entry.node, of)).collect(),
        })
        .collect();
    NodesDocument { nodes }
}

/// A model of the catalog, for output.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelEntry {
    name: String,
    repository: String,
    parameters: u64,
    architecture: String,
    max_context: Option<u64>,
    published: PublishedEntry,
}

/// The published number of parameters of a model of the catalog.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct PublishedEntry {
    parameters: u64,
    /// How many leading digits are published; null if all are.
    digits: Option<u32>,
    /// What it counts otherwise than `parameters` of the model.
    counts: Vec<Counts>,
    /// Where it was read; null if nothing but the name says it.
    source: Option<String>,
}

/// The catalog, for output: its entries and their shapes.
#[must_use]
pub fn models(models: &[(&Entry, ModelShape)]) -> Vec<ModelEntry> {
    let entry = |(entry, shape): &(&Entry, ModelShape)| ModelEntry {
        name: entry.name.clone(),
        repository: entry.repository.clone(),
        parameters: shape.parameters,
        architecture: shape.architecture.clone(),
        max_context: shape.max_context,
        published: PublishedEntry {
            parameters: entry.parameters,
            digits: entry.digits,
            counts: entry.counts.clone(),
            source: entry.verified.clone(),
        },
    };
    models.iter().map(entry).collect()
}

/// A document as it is printed: indented, with a newline at the end.
///
/// # Errors
/// None of these documents has a key that is not text, so it does not fail; the error is carried all the same.
pub fn print<T: Serialize>(document: &T) -> Result<String, serde_json::Error> {
    let mut text = serde_json::to_string_pretty(document)?;
    text.push('\n');
    Ok(text)
}
