//! What a model needs: the answer first, then a table with a plain bar of what takes the memory.

use std::ops::RangeInclusive;

use crate::estimate::Estimate;
use crate::model::catalog::Entry;
use crate::model::published::{Counts, Published};
use crate::model::{Confidence, ModelShape};
use crate::render::json::{CardDocument, CardsDocument, EstimateDocument, RangeDocument, ranges};
use crate::render::message::components;
use crate::render::text::{adding_up, counted, length, one, printable, quoted};
use crate::units::{Bytes, Parameters};

use super::{Style, align_right, comparison, finish, plain};

/// Cells of a bar that is full, and of one where there is little room.
const BAR: RangeInclusive<usize> = 4..=30;
/// Columns that stand before the bars.
const BEFORE_BAR: usize = 48;

/// The text of an estimate. `document` is the same estimate, for the figures with the margin. Where it compares, a row per
/// value stands for the rows per component.
#[must_use]
pub fn estimate(document: &EstimateDocument, estimate: &Estimate, style: Style) -> String {
    let table = match &document.comparison {
        Some(compared) => comparison::table(compared, document),
        None => by_component(document, estimate, style),
    };
    let mut lines = vec![answer(document)];
    lines.extend(document.cards.as_ref().map(|cards| cards_line(cards, document.gpus)));
    lines.push(String::new());
    lines.push(workload_line(estimate));
    lines.push(model_line(document));
    format!("{}\n\n{table}", lines.join("\n"))
}

fn by_component(document: &EstimateDocument, estimate: &Estimate, style: Style) -> String {
    let training = estimate.workload.training.is_some();
    let per_gpu = components(&estimate.per_gpu, training);
    let all = components(&estimate.components, training);
    let amounts: Vec<Bytes> = per_gpu.iter().map(|(_, bytes)| *bytes).collect();
    let shown = adding_up(&amounts, estimate.total_per_gpu);
    let several = estimate.gpus > 1 || style.wide;

    let mut header = vec!["COMPONENT", "PER GPU"];
    if several {
        header.push("ALL GPUS");
    }
    if style.wide {
        header.extend(["LOW", "HIGH", "SURE"]);
    }
    header.push("SHARE");
    let mut table = plain(header);
    let figures = 1 + usize::from(several) + if style.wide { 2 } else { 0 };
    align_right(&mut table, 1..=figures);
    let ranges = ranges(&estimate.terms);
    for (((name, bytes), printed), (_, sum)) in per_gpu.iter().zip(&shown).zip(&all) {
        let mut row = vec![(*name).to_owned(), format!("{printed} GiB")];
        if several {
            row.push(sum.to_string());
        }
        if style.wide {
            let range = ranges.get(key(name));
            row.push(range.map(|range| range.low.to_string()).unwrap_or_default());
            row.push(range.map(|range| range.high.to_string()).unwrap_or_default());
            row.push(sure(estimate, key(name)).map(word).unwrap_or_default().to_owned());
        }
        row.push(bar(*bytes, estimate.total_per_gpu, style.width));
        table.add_row(row);
    }
    let whole = per_gpu.iter().fold(RangeDocument::default(), |sum, (name, bytes)| {
        let certain = RangeDocument { low: *bytes, expected: *bytes, high: *bytes };
        let range = ranges.get(key(name)).copied().unwrap_or(certain);
        RangeDocument {
            low: Bytes(sum.low.0.saturating_add(range.low.0)),
            expected: Bytes(sum.expected.0.saturating_add(range.expected.0)),
            high: Bytes(sum.high.0.saturating_add(range.high.0)),
        }
    });
    let mut sum = |name: String, per_gpu: Bytes, total: Bytes, range: Option<RangeDocument>| {
        let mut row = vec![name, per_gpu.to_string()];
        if several {
            row.push(total.to_string());
        }
        row.extend(range.map(|range| [range.low.to_string(), range.high.to_string()]).into_iter().flatten());
        table.add_row(row);
    };
    let range = style.wide.then_some(whole);
    sum("total".to_owned(), estimate.total_per_gpu, estimate.total, range);
    sum(
        format!("required (x{})", document.safety_margin),
        document.required_per_gpu,
        document.required,
        None,
    );
    finish(table)
}

/// The key of a component's terms, by the name that is printed.
pub(super) fn key(name: &str) -> &str {
    if name == "KV cache" { "kvCache" } else { name }
}

/// The least sure of a component's terms.
pub(super) fn sure(estimate: &Estimate, component: &str) -> Option<Confidence> {
    estimate.terms.iter().filter(|term| term.component == component).map(|term| term.confidence).max()
}

/// How sure a figure is, in a word.
pub(super) const fn word(confidence: Confidence) -> &'static str {
    match confidence {
        Confidence::Exact => "exact",
        Confidence::Derived => "derived",
        Confidence::Assumed => "assumed",
    }
}

/// What it needs, in one line.
fn answer(document: &EstimateDocument) -> String {
    let model = &document.model;
    let who = if model.source == "parameters" {
        format!("a model of {} parameters", Parameters(model.parameters))
    } else {
        printable(&model.name)
    };
    let total = document.per_gpu.total.unwrap_or_default();
    let place = if document.gpus > 1 {
        format!("on each of {} GPUs", document.gpus)
    } else {
        "of GPU memory".to_owned()
    };
    format!("{who} needs {} {place} ({total} x {})", document.required_per_gpu, document.safety_margin)
}

/// Which GPUs have that, in one line.
fn cards_line(cards: &CardsDocument, gpus: u64) -> String {
    match (&cards.smallest, &cards.too_small, &cards.shared) {
        (Some(smallest), Some(too_small), _) => {
            format!("fits {} or larger, not {}", card(smallest, gpus), card(too_small, gpus))
        }
        (Some(smallest), None, _) => format!("fits {} or larger", card(smallest, gpus)),
        (None, too_small, shared) => {
            let too_small = too_small.map_or_else(|| "every GPU".to_owned(), |largest| card(&largest, gpus));
            let otherwise = shared.as_ref().map(|shared| {
                let change = &shared.change;
                format!(
                    "\nfits {} x {} with {} ({} on each)",
                    change.gpus, shared.smallest.name, change.flags, change.required_per_gpu
                )
            });
            format!("too large for {too_small}{}", otherwise.unwrap_or_default())
        }
    }
}

/// `an L4 (22.5 GiB)`, `4 x L4 (22.5 GiB each)`.
fn card(card: &CardDocument, gpus: u64) -> String {
    if gpus > 1 {
        format!("{gpus} x {} ({} each)", card.name, card.memory)
    } else {
        format!("{} ({})", one(card.name), card.memory)
    }
}

fn model_line(document: &EstimateDocument) -> String {
    let model = &document.model;
    let sure = word(document.confidence);
    if model.source == "parameters" {
        return format!("the architecture is assumed from the size; the estimate is {sure}");
    }
    format!(
        "{} parameters, {}, from {}; the estimate is {sure}",
        Parameters(model.parameters),
        quoted(&model.architecture),
        quoted(&model.source)
    )
}

fn workload_line(estimate: &Estimate) -> String {
    let workload = &estimate.workload;
    let precision =
        workload.precision.map_or_else(|| "its own precision".to_owned(), |precision| precision.to_string());
    let context = workload.context.map_or_else(String::new, |context| {
        format!(", {} of {}", counted(workload.sequences, "sequence"), counted(context, "token"))
    });
    if let Some(training) = &workload.training {
        return format!(
            "{} training in {precision}{context}, optimizer {}, on {}",
            training.method,
            training.optimizer,
            counted(estimate.gpus, "GPU")
        );
    }
    format!(
        "{precision}{context}, KV cache {}, engine {}, on {}",
        workload.cache_precision,
        workload.engine,
        counted(estimate.gpus, "GPU")
    )
}

fn bar(part: Bytes, whole: Bytes, width: usize) -> String {
    let full = width.saturating_sub(BEFORE_BAR).clamp(*BAR.start(), *BAR.end());
    let share = |of: u64| {
        let rounded =
            (u128::from(part.0) * u128::from(of) + u128::from(whole.0) / 2) / u128::from(whole.0.max(1));
        usize::try_from(rounded).unwrap_or(usize::MAX)
    };
    let cells = share(length(full)).min(full);
    format!("{:>3}% {}", share(100), "#".repeat(cells))
}

/// The built-in catalog. Wide, it says how large each model is published to be, and where that was read.
#[must_use]
pub fn models(models: &[(&Entry, ModelShape)], style: Style) -> String {
    let mut header = vec!["NAME", "PARAMETERS", "ARCHITECTURE", "MAX CONTEXT"];
    if style.wide {
        header.extend(["REPOSITORY", "PUBLISHED", "READ IN"]);
    }
    let mut table = plain(header);
    for (entry, shape) in models {
        let mut row = vec![
            entry.name.clone(),
            Parameters(shape.parameters).to_string(),
            shape.architecture.clone(),
            shape.max_context.map_or_else(|| "-".to_owned(), |tokens| tokens.to_string()),
        ];
        if style.wide {
            let unknown = || "nothing but the name".to_owned();
            row.extend([
                entry.repository.clone(),
                published(&entry.published()),
                entry.verified.clone().unwrap_or_else(unknown),
            ]);
        }
        table.add_row(row);
    }
    finish(table)
}

/// A published number of parameters, with what it counts otherwise than Loadline does.
#[must_use]
pub fn published(published: &Published) -> String {
    let number = match published.digits {
        Some(_) => format!("about {}", Parameters(published.parameters)),
        None => published.parameters.to_string(),
    };
    let counts = published.counts.iter().map(|counts| match counts {
        Counts::Draft => "with its draft layers",
        Counts::DraftEmbeddings => "with their own embedding and head",
        Counts::TiedHead => "with its embedding stored twice",
        Counts::NoHead => "without an output head",
    });
    std::iter::once(number.as_str()).chain(counts).collect::<Vec<_>>().join(", ")
}
