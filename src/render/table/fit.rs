//! What of a model fits a GPU, and the GPUs that have a name.

use crate::render::json::{CardDocument, EstimateDocument, FitDocument};
use crate::render::text::{compared, counted, one, printable};
use crate::units::{Bytes, MIB};

use super::{align_right, finish, plain};

/// What fits a GPU: the verdict, and what would change it.
#[must_use]
pub fn fit(fit: &FitDocument, document: &EstimateDocument) -> String {
    let (needed, has) = compared(document.required_per_gpu, fit.memory);
    let difference = Bytes(document.required_per_gpu.0.abs_diff(fit.memory.0));
    let gpus = document.gpus;
    let (place, each) = match (&fit.gpu, gpus) {
        (Some(name), 1) => (format!("{} of {has}", one(&printable(name))), ""),
        (None, 1) => (format!("a GPU of {has}"), ""),
        (Some(name), _) => (format!("{gpus} x {} of {has}", printable(name)), " on each"),
        (None, _) => (format!("{gpus} GPUs of {has}"), " on each"),
    };
    if fit.fits {
        let verdict = format!("fits {place}: {needed} needed{each}, {difference} to spare");
        let most = most(fit, document);
        return if most.is_empty() {
            format!("{verdict}\n")
        } else {
            format!("{verdict}\nat most: {most}\n")
        };
    }
    let mut verdict = format!("does not fit {place}: {needed} needed{each}, {difference} short");
    if let Some(margin) = &fit.largest_margin {
        let estimate = document.per_gpu.total.unwrap_or_default();
        let without = format!(
            "\nthe estimate alone, {estimate}, does: a margin of x{margin} is the most it has room for"
        );
        verdict.push_str(&without);
    }
    if fit.changes.is_empty() {
        return format!("{verdict}\nno other precision, context or number of GPUs makes it fit\n");
    }
    let mut table = plain(vec!["WOULD FIT WITH", "NEEDS"]);
    for change in &fit.changes {
        let each = if change.gpus > 1 { format!(" on each of {} GPUs", change.gpus) } else { String::new() };
        table.add_row(vec![change.flags.clone(), format!("{}{each}", change.required_per_gpu)]);
    }
    format!("{verdict}\n\n{}", finish(table))
}

/// What the GPU has room for at most.
fn most(fit: &FitDocument, document: &EstimateDocument) -> String {
    let training = document.workload.training.is_some();
    let context = fit.longest_context.map(|tokens| {
        let what = if training { "sequences" } else { "a context" };
        format!("{what} of {}", counted(tokens, "token"))
    });
    let sequences = fit.most_sequences.map(|sequences| {
        if training { format!("a micro batch of {sequences}") } else { counted(sequences, "sequence") }
    });
    [context, sequences].into_iter().flatten().collect::<Vec<_>>().join(", or ")
}

/// The GPUs that have a name.
#[must_use]
pub fn cards(cards: &[CardDocument]) -> String {
    let mut table = plain(vec!["NAME", "MIB", "MEMORY"]);
    align_right(&mut table, 1..=2);
    for card in cards {
        let mib = card.memory.0 / MIB;
        table.add_row(vec![card.name.to_owned(), mib.to_string(), card.memory.to_string()]);
    }
    finish(table)
}
