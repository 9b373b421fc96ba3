//! What of a model fits a GPU, and which GPUs it fits: the questions of `--fit` and of the first lines.

use crate::api::limits::{MOST_SEQUENCES, MOST_TOKENS};
use crate::decide::{Change, Requirement};
use crate::estimate::inverse::{Room, largest_margin, shared};
use crate::estimate::{Estimate, Method, Sharding, Training, Workload, estimate};
use crate::model::ModelShape;
use crate::plan::{alternatives, requirement_of};
use crate::precision::Precision;
use crate::render::change_fields;
use crate::render::json::{
    CardDocument, CardFitDocument, CardsDocument, ChangeDocument, FitDocument, SharedDocument,
};
use crate::units::{Bytes, Margin};

use super::gpu::{Card, Gpu, ladder};

/// More ranks than any node has GPUs.
const MOST_RANKS: u64 = 64;
/// More GPUs than are in a node that is sold as one.
pub(crate) const MOST_OF_A_NODE: u64 = 16;
/// A shorter context is no use to anyone.
const SHORTEST_CONTEXT: u64 = 512;

/// A model, how it is to be run, and the margin: what every question here is about.
#[derive(Clone, Copy)]
pub(crate) struct Sizing<'a> {
    pub(crate) shape: &'a ModelShape,
    /// The workload as it was asked for, defaults open.
    pub(crate) asked: &'a Workload,
    /// What it needs so.
    pub(crate) estimate: &'a Estimate,
    pub(crate) margin: Margin,
}

impl Sizing<'_> {
    pub(crate) fn room(&self, memory: Bytes) -> Room {
        Room { per_gpu: memory, margin: self.margin }
    }

    /// What a workload needs per GPU, with the margin.
    fn change(&self, flags: String, workload: &Workload) -> Option<ChangeDocument> {
        let estimate = estimate(self.shape, workload).ok()?;
        let required_per_gpu = self.margin.apply(estimate.total_per_gpu).ok()?;
        Some(ChangeDocument { flags, required_per_gpu, gpus: estimate.gpus })
    }

    fn longest(&self) -> u64 {
        self.shape.max_context.unwrap_or(MOST_TOKENS)
    }

    /// The longest context that fits.
    pub(crate) fn longest_context(&self, room: Room, workload: &Workload) -> Option<u64> {
        // An encoder or a model of recurrent layers may hold any number of tokens in the same memory.
        room.longest_context(self.shape, workload, self.longest())
    }

    /// The most sequences that fit at once.
    pub(crate) fn most_sequences(&self, room: Room, workload: &Workload) -> Option<u64> {
        room.most_sequences(self.shape, workload, MOST_SEQUENCES)
    }

    /// The fewest GPUs of so much memory, up to a limit, with the workload shared among them and the flags for that.
    pub(crate) fn fewest(&self, room: Room, limit: u64) -> Option<(Workload, String)> {
        if self.asked.training.is_some() {
            let gpus = room.fewest_training_gpus(self.shape, self.asked, limit)?;
            let workload = shared(self.asked, gpus, Sharding::Zero3)?;
            return Some((workload, format!("--gpus {gpus} --sharding {}", Sharding::Zero3)));
        }
        let tensor = room.fewest_ranks(self.shape, self.asked, limit).ok().flatten()?;
        Some((Workload { tensor, ..self.asked.clone() }, format!("--tensor {tensor}")))
    }
}

/// What of it fits a GPU.
pub(crate) fn fit(gpu: &Gpu, sizing: &Sizing<'_>) -> FitDocument {
    let room = sizing.room(gpu.memory);
    let (shape, asked) = (sizing.shape, sizing.asked);
    let fits = room.fits(shape, asked);
    let smaller = smaller(sizing, room);
    let serving = asked.training.is_none();
    let mut document = FitDocument {
        gpu: gpu.name.map(str::to_owned),
        memory: gpu.memory,
        fits,
        longest_context: sizing.longest_context(room, asked),
        most_sequences: sizing.most_sequences(room, asked),
        fewest_ranks: serving.then(|| room.fewest_ranks(shape, asked, MOST_RANKS).ok().flatten()).flatten(),
        finest_precision: smaller.iter().find_map(|(fields, _)| match fields.as_slice() {
            [("precision", value)] if serving => value.parse::<Precision>().ok(),
            _ => None,
        }),
        fewest_training_gpus: room.fewest_training_gpus(shape, asked, MOST_RANKS),
        lightest_sharding: room.lightest_sharding(shape, asked),
        largest_margin: largest_margin(gpu.memory, sizing.estimate.total_per_gpu)
            .map(|margin| margin.to_string()),
        changes: Vec::new(),
    };
    if !fits {
        document.changes = changes(&document, &smaller, sizing, room);
    }
    document
}

/// Fields and the value that each would take.
type Fields = Vec<(&'static str, String)>;

/// What a workload with a change in it would need: flags contradict no other.
fn revised<'a>(sizing: &'a Sizing<'_>) -> impl Fn(&Change, Workload) -> Option<Requirement> + 'a {
    |_, workload| requirement_of(sizing.shape, &workload, sizing.margin)
}

/// What the planner would try of a ModelDeployment and fits, in its order.
fn smaller(sizing: &Sizing<'_>, room: Room) -> Vec<(Fields, ChangeDocument)> {
    alternatives(sizing.shape, sizing.asked, sizing.estimate, sizing.margin, &revised(sizing))
        .into_iter()
        .filter(|alternative| room.holds(alternative.requirement.per_gpu))
        .map(|alternative| {
            let fields = change_fields(&alternative.change);
            let change = ChangeDocument {
                flags: flags(&fields),
                required_per_gpu: alternative.requirement.per_gpu,
                gpus: alternative.requirement.gpus,
            };
            (fields, change)
        })
        .collect()
}

/// What would make it fit: shorter, fewer, smaller, then on more GPUs; two changes at once only where one is not
/// enough.
fn changes(
    fit: &FitDocument,
    smaller: &[(Fields, ChangeDocument)],
    sizing: &Sizing<'_>,
    room: Room,
) -> Vec<ChangeDocument> {
    let asked = sizing.asked;
    let mut found: Vec<Option<ChangeDocument>> = Vec::new();
    if let Some(context) = fit.longest_context.filter(|&context| context >= SHORTEST_CONTEXT) {
        let shorter = Workload { context: Some(context), ..asked.clone() };
        found.push(sizing.change(format!("--context {context}"), &shorter));
    }
    if let Some(sequences) = fit.most_sequences {
        let fewer = Workload { sequences, ..asked.clone() };
        found.push(sizing.change(format!("--sequences {sequences}"), &fewer));
    }
    // What has an exact answer is not offered by halves.
    let is_exact = |fields: &Fields| match fields.as_slice() {
        [(field, _)] => {
            matches!(*field, "context" | "sequenceLength" | "sequences" | "microBatch" | "tensor")
        }
        [("gpus", _), ("sharding", _)] => true,
        _ => false,
    };
    let of_size = |single: bool| {
        smaller
            .iter()
            .filter(move |(fields, _)| (fields.len() == 1) == single && !is_exact(fields))
            .map(|(_, change)| Some(change.clone()))
    };
    found.extend(of_size(true));
    if let (Some(sharding), Some(training)) = (fit.lightest_sharding, &asked.training) {
        let shared = shared(asked, training.gpus, sharding);
        found.push(shared.and_then(|shared| sizing.change(format!("--sharding {sharding}"), &shared)));
    }
    if let Some((shared, flags)) = sizing.fewest(room, MOST_RANKS) {
        found.push(sizing.change(flags, &shared));
    }
    let mut changes: Vec<ChangeDocument> = Vec::new();
    for change in found.into_iter().flatten().filter(|change| room.holds(change.required_per_gpu)) {
        if !changes.contains(&change) {
            changes.push(change);
        }
    }
    if changes.is_empty() {
        changes.extend(of_size(false).flatten());
    }
    if changes.is_empty() {
        changes.extend(together(sizing, room));
    }
    changes
}

/// Fewer bits on more GPUs, and with that a shorter context: the last resort of what needs more than one change. Of each the
/// one with the fewest GPUs, and of those the one with the most bits.
fn together(sizing: &Sizing<'_>, room: Room) -> Vec<ChangeDocument> {
    let own = sizing.estimate.workload.context;
    let variants = reduced(sizing);
    let whole = variants.iter().find_map(|(flags, workload)| {
        sizing.change(flags.join(" "), workload).filter(|change| room.holds(change.required_per_gpu))
    });
    let shorter = variants.into_iter().find_map(|(mut flags, workload)| {
        let context = sizing.longest_context(room, &workload)?;
        let is_shorter = own.is_none_or(|own| context < own);
        if context < SHORTEST_CONTEXT || !is_shorter {
            return None;
        }
        flags.push(format!("--context {context}"));
        sizing.change(flags.join(" "), &Workload { context: Some(context), ..workload })
    });
    let fewer_gpus = |change: &ChangeDocument| whole.as_ref().is_none_or(|whole| change.gpus < whole.gpus);
    shorter.filter(fewer_gpus).into_iter().chain(whole).collect()
}

/// The workload with fewer bits, on more GPUs, and both, with the flags for it: the fewest GPUs first.
fn reduced(sizing: &Sizing<'_>) -> Vec<(Vec<String>, Workload)> {
    let asked = sizing.asked;
    let powers = || std::iter::successors(Some(1_u64), |number| number.checked_mul(2));
    let up_to = |most: u64| powers().take_while(move |number| *number <= most);
    let mut variants = Vec::new();
    if let Some(training) = &asked.training {
        let more = up_to(MOST_RANKS).filter(|&gpus| gpus > training.gpus);
        for gpus in std::iter::once(training.gpus).chain(more) {
            for &method in Method::ALL.iter().skip_while(|&&method| method != training.method) {
                let mut flags = Vec::new();
                let mut variant = Training { method, ..training.clone() };
                if method != training.method {
                    flags.push(format!("--training {method}"));
                }
                if gpus != training.gpus {
                    (variant.gpus, variant.sharding) = (gpus, Sharding::Zero3);
                    flags.push(format!("--gpus {gpus} --sharding {}", Sharding::Zero3));
                }
                variants.push((flags, Workload { training: Some(variant), ..asked.clone() }));
            }
        }
        return variants;
    }
    let smaller = alternatives(sizing.shape, asked, sizing.estimate, sizing.margin, &revised(sizing));
    let smaller = smaller.iter().filter_map(|alternative| match alternative.change {
        Change::Precision(precision) => Some(precision),
        _ => None,
    });
    let precisions: Vec<Option<Precision>> = std::iter::once(None).chain(smaller.map(Some)).collect();
    let more = up_to(MOST_RANKS).filter(|&tensor| tensor > asked.tensor);
    for tensor in std::iter::once(asked.tensor).chain(more) {
        for precision in &precisions {
            let mut flags = Vec::new();
            if tensor != asked.tensor {
                flags.push(format!("--tensor {tensor}"));
            }
            flags.extend(precision.map(|precision| format!("--precision {precision}")));
            let precision = precision.or(asked.precision);
            variants.push((flags, Workload { precision, tensor, ..asked.clone() }));
        }
    }
    variants
}

/// The common GPUs on either side of the requirement; where one has not enough, how several would.
pub(crate) fn cards(sizing: &Sizing<'_>) -> CardsDocument {
    let required = sizing.margin.apply(sizing.estimate.total_per_gpu).unwrap_or(Bytes(u64::MAX));
    let smallest = smallest(required, sizing.margin);
    let too_small =
        ladder().into_iter().rev().find(|card| !sizing.room(card.memory()).holds(required)).map(document);
    let shared = if smallest.is_none() { several(sizing) } else { None };
    CardsDocument { smallest, too_small, shared }
}

/// The common GPUs, smallest first, and which of them have what is required.
pub(crate) fn grid(sizing: &Sizing<'_>) -> Vec<CardFitDocument> {
    let required = sizing.margin.apply(sizing.estimate.total_per_gpu).unwrap_or(Bytes(u64::MAX));
    let row = |card: &Card| CardFitDocument {
        name: card.name,
        memory: card.memory(),
        fits: sizing.room(card.memory()).holds(required),
    };
    ladder().into_iter().map(row).collect()
}

/// The smallest common GPU that has so much memory.
pub(crate) fn smallest(required: Bytes, margin: Margin) -> Option<CardDocument> {
    let holds = |card: &&Card| Room { per_gpu: card.memory(), margin }.holds(required);
    ladder().into_iter().find(holds).map(document)
}

/// The fewest of the largest common GPU that the model fits, and the smallest that so many of would do.
fn several(sizing: &Sizing<'_>) -> Option<SharedDocument> {
    let largest = ladder().into_iter().map(Card::memory).max()?;
    let (workload, flags) = sizing.fewest(sizing.room(largest), MOST_OF_A_NODE)?;
    let change = sizing.change(flags, &workload)?;
    let smallest = smallest(change.required_per_gpu, sizing.margin)?;
    Some(SharedDocument { change, smallest })
}

fn document(card: &Card) -> CardDocument {
    CardDocument { name: card.name, memory: card.memory() }
}

/// A change of fields in flags.
fn flags(fields: &[(&str, String)]) -> String {
    let flag = |field: &str| match field {
        "sequenceLength" => "context".to_owned(),
        "microBatch" => "sequences".to_owned(),
        "method" => "training".to_owned(),
        "cachePrecision" => "cache-precision".to_owned(),
        "gradientCheckpointing" => "gradient-checkpointing".to_owned(),
        other => other.to_owned(),
    };
    let written: Vec<String> =
        fields.iter().map(|(field, value)| format!("--{} {value}", flag(field))).collect();
    written.join(" ")
}
