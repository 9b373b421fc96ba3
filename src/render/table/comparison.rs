//! The same model side by side: a row per value, or per GPU. Figures are in GiB, as the header says.

use comfy_table::Table;

use crate::render::json::{ComparisonDocument, EstimateDocument, FittedCardDocument, VariantDocument};
use crate::render::text::printable;
use crate::units::Bytes;

use super::{align_right, finish, plain};

/// What stands where there is nothing.
const NOTHING: &str = "-";

/// The rows of a comparison.
pub(super) fn table(comparison: &ComparisonDocument, document: &EstimateDocument) -> String {
    let mut text = if comparison.by == "gpu" {
        cards(&comparison.gpus, document)
    } else {
        variants(comparison, document)
    };
    if !comparison.left_out.is_empty() {
        text.push('\n');
    }
    for left_out in &comparison.left_out {
        let line = format!("not {}: {}\n", left_out.value, printable(&left_out.problem));
        text.push_str(&line);
    }
    text
}

/// A column of figures: its name, and what it shows of a row.
type Column = (&'static str, fn(&VariantDocument) -> Bytes);

const WEIGHTS: Column = ("WEIGHTS", |row| row.per_gpu.weights);
const KV_CACHE: Column = ("KV CACHE", |row| row.per_gpu.kv_cache);
const GRADIENTS: Column = ("GRADIENTS", |row| row.per_gpu.gradients.unwrap_or_default());
const OPTIMIZER: Column = ("OPTIMIZER", |row| row.per_gpu.optimizer.unwrap_or_default());

fn variants(comparison: &ComparisonDocument, document: &EstimateDocument) -> String {
    let training = document.workload.training.is_some();
    let columns: &[Column] = match (comparison.by, training) {
        // Only what the optimizer changes: its names are long.
        ("optimizer", _) => &[OPTIMIZER],
        (_, true) => &[WEIGHTS, GRADIENTS, OPTIMIZER],
        (_, false) => &[WEIGHTS, KV_CACHE],
    };
    let with_margin = format!("x{}", document.safety_margin);
    let by = comparison.by.to_ascii_uppercase();
    let mut header = vec![by.as_str()];
    header.extend(columns.iter().map(|(name, _)| *name));
    header.extend(["OTHER", "TOTAL", with_margin.as_str(), "FITS"]);
    let asked = document.fit.as_ref().map(|fit| match &fit.gpu {
        Some(name) => printable(name).to_ascii_uppercase(),
        None => fit.memory.to_string(),
    });
    header.extend(asked.as_deref());
    let mut table = plain(header);
    align_right(&mut table, 1..=columns.len() + 3);
    for row in &comparison.variants {
        let total = row.per_gpu.total.unwrap_or_default();
        let shown: Vec<Bytes> = columns.iter().map(|(_, of)| of(row)).collect();
        let rest = shown.iter().fold(total.0, |rest, shown| rest.saturating_sub(shown.0));
        let mark = if row.as_asked { " *" } else { "" };
        let mut cells = vec![format!("{}{mark}", row.value)];
        cells.extend(shown.iter().map(|bytes| bytes.gib()));
        cells.extend([Bytes(rest).gib(), total.gib(), row.required_per_gpu.gib()]);
        cells.push(smallest(row));
        cells.extend(row.fits.map(|fits| if fits { "yes" } else { "no" }.to_owned()));
        table.add_row(cells);
    }
    explained(table, comparison)
}

/// The smallest common GPU that a row fits, and how many it takes.
fn smallest(row: &VariantDocument) -> String {
    match (row.smallest_gpu, row.gpus) {
        (None, _) => NOTHING.to_owned(),
        (Some(name), 1) => name.to_owned(),
        (Some(name), gpus) => format!("{gpus} x {name}"),
    }
}

fn explained(table: Table, comparison: &ComparisonDocument) -> String {
    let star = comparison.variants.iter().any(|row| row.as_asked);
    let star = if star { " * as above." } else { "" };
    format!("{}\nGiB per GPU. FITS is the smallest common GPU with so much memory.{star}\n", finish(table))
}

fn cards(rows: &[FittedCardDocument], document: &EstimateDocument) -> String {
    let training = document.workload.training.is_some();
    let most = if training { "MICRO BATCH" } else { "SEQUENCES" };
    let longest = if training { "SEQUENCE" } else { "CONTEXT" };
    let mut table = plain(vec!["GPU", "MEMORY", "FITS", "GPUS", "NEEDS/GPU", longest, most]);
    align_right(&mut table, 1..=1);
    align_right(&mut table, 3..=6);
    let number = |number: Option<u64>| number.map_or_else(|| NOTHING.to_owned(), |number| number.to_string());
    for row in rows {
        table.add_row(vec![
            row.gpu.to_owned(),
            row.memory.to_string(),
            if row.fits { "yes" } else { "no" }.to_owned(),
            number(row.fewest_gpus),
            row.required_per_gpu.map_or_else(|| NOTHING.to_owned(), |required| required.to_string()),
            number(row.longest_context),
            number(row.most_sequences),
        ]);
    }
    let how = if training { "all of the state sharded (zero3)" } else { "tensor parallel" };
    format!(
        "{}\nGPUS is the fewest of them that fit, {how};\n{longest} and {most} are the most that fit so many.\n",
        finish(table)
    )
}
