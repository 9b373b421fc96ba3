//! What a model needs, as a table with a plain bar of what takes the memory.

use crate::estimate::Estimate;
use crate::model::ModelShape;
use crate::model::catalog::Entry;
use crate::model::published::{Counts, Published};
use crate::render::json::{EstimateDocument, FitDocument, ranges};
use crate::render::message::components;
use crate::render::text::{adding_up, compared, counted, printable, quoted};
use crate::units::{Bytes, Parameters};

use super::{Style, finish, plain};

/// Cells of a bar that is full.
const BAR: u64 = 30;

/// The table of an estimate. `document` is the same estimate, for the figures with the margin.
#[must_use]
pub fn estimate(document: &EstimateDocument, estimate: &Estimate, style: Style) -> String {
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
        header.extend(["LOW", "HIGH"]);
    }
    header.push("SHARE");
    let mut table = plain(header);
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
        }
        row.push(bar(*bytes, estimate.total_per_gpu));
        table.add_row(row);
    }
    let mut sum = |name: String, per_gpu: Bytes, total: Bytes| {
        let mut row = vec![name, per_gpu.to_string()];
        if several {
            row.push(total.to_string());
        }
        table.add_row(row);
    };
    sum("total".to_owned(), estimate.total_per_gpu, estimate.total);
    sum(format!("required (x{})", document.safety_margin), document.required_per_gpu, document.required);

    format!("{}\n{}\n\n{}", model_line(document), workload_line(estimate), finish(table))
}

/// The key of a component's terms, by the name that is printed.
fn key(name: &str) -> &str {
    if name == "KV cache" { "kvCache" } else { name }
}

fn model_line(document: &EstimateDocument) -> String {
    let model = &document.model;
    let (size, sure) = (Parameters(model.parameters), confidence(document));
    if model.source == "parameters" {
        return format!("{size} parameters of an assumed architecture; the estimate is {sure}");
    }
    format!(
        "{}: {size} parameters, {}, from {}; the estimate is {sure}",
        printable(&model.name),
        quoted(&model.architecture),
        quoted(&model.source)
    )
}

fn confidence(document: &EstimateDocument) -> &'static str {
    match document.confidence {
        crate::model::Confidence::Exact => "exact",
        crate::model::Confidence::Derived => "derived",
        crate::model::Confidence::Assumed => "assumed",
    }
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

fn bar(part: Bytes, whole: Bytes) -> String {
    let share = |of: u64| {
        let rounded =
            (u128::from(part.0) * u128::from(of) + u128::from(whole.0) / 2) / u128::from(whole.0.max(1));
        usize::try_from(rounded).unwrap_or(usize::MAX)
    };
    let cells = share(BAR).min(usize::try_from(BAR).unwrap_or(0));
    format!("{:>3}% {}", share(100), "#".repeat(cells))
}

/// The arithmetic of an estimate: a line per term.
#[must_use]
pub fn explain(estimate: &Estimate) -> String {
    let mut table = plain(vec!["TERM", "PER GPU", "SURE", "FORMULA"]);
    for term in &estimate.terms {
        let sure = match term.confidence {
            crate::model::Confidence::Exact => "exact".to_owned(),
            crate::model::Confidence::Derived => format!("derived, {} to {}", term.low, term.high),
            crate::model::Confidence::Assumed => format!("assumed, {} to {}", term.low, term.high),
        };
        table.add_row(vec![
            term.component.to_owned(),
            term.bytes.to_string(),
            sure,
            printable(&term.formula),
        ]);
    }
    finish(table)
}

/// What fits one GPU, in two lines.
#[must_use]
pub fn fit(fit: &FitDocument, required_per_gpu: Bytes) -> String {
    let name = fit.gpu.as_ref().map_or_else(|| "a GPU".to_owned(), |name| format!("one {}", printable(name)));
    let (needed, has) = compared(required_per_gpu, fit.memory);
    let context = fit.longest_context.map(|tokens| format!("a context of {}", counted(tokens, "token")));
    let sequences = fit.most_sequences.map(|sequences| counted(sequences, "sequence"));
    let difference = Bytes(required_per_gpu.0.abs_diff(fit.memory.0));
    let (verdict, what, changes) = if fit.fits {
        (
            format!("fits {name} of {has}: {needed} needed, {difference} to spare"),
            "at most",
            [context, sequences, None, None],
        )
    } else {
        let precision = fit.finest_precision.map(|precision| format!("precision {precision}"));
        let ranks = fit.fewest_ranks.map(|ranks| format!("tensor {ranks}"));
        let verdict = format!("does not fit {name} of {has}: {needed} needed, {difference} short");
        (verdict, "would fit", [context, sequences, precision, ranks])
    };
    let changes: Vec<String> = changes.into_iter().flatten().collect();
    let changes = if changes.is_empty() { "nothing of it".to_owned() } else { changes.join(", or ") };
    format!("{verdict}\n{what}: {changes}\n")
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
