//! What came of several objects, as tables: of each its verdict and message, then its nodes.

use std::fmt::Write;

use crate::decide::{ClassVerdict, Verdict};
use crate::inventory::Memory;
use crate::plan::Plan;
use crate::render::message::change;
use crate::render::node::{node_message, product};
use crate::render::outcome::{Outcome, verdict_word};
use crate::render::text::{counted, names, printable, quoted};

use super::{Style, finish, plain};

/// How many names of one class stand in a row of the narrow table.
const NAMES: usize = 3;

/// The tables.
#[must_use]
pub fn plan(outcomes: &[Outcome], style: Style) -> String {
    let mut text = String::new();
    for (index, outcome) in outcomes.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "{}: {} ({})\n  {}",
            outcome.full_name(),
            coloured(outcome.verdict(), style.colour),
            outcome.reason(),
            outcome.message()
        );
        let Some(plan) = outcome.plan() else { continue };
        if !plan.decision.classes.is_empty() {
            let table = if style.wide { wide(plan) } else { narrow(plan) };
            text.push('\n');
            for line in table.lines() {
                let _ = writeln!(text, "  {line}");
            }
        }
        if style.wide && !plan.decision.suggestions.is_empty() {
            let _ = write!(text, "\n{}", suggestions(plan));
        }
    }
    text
}

/// A row per class of identical nodes.
fn narrow(plan: &Plan) -> String {
    let mut table = plain(vec!["NODES", "VERDICT", "REASON", "GPU", "MEMORY", "FREE"]);
    for class in &plan.decision.classes {
        table.add_row(vec![
            names(&class.nodes, NAMES),
            verdict_word(class.verdict).to_owned(),
            class.reason.to_string(),
            gpu(class),
            memory(class),
            free(class),
        ]);
    }
    finish(table)
}

/// A row per node, with the source of the memory figure and the message.
fn wide(plan: &Plan) -> String {
    let mut table = plain(vec!["NODE", "VERDICT", "REASON", "GPU", "MEMORY", "FREE", "SOURCE", "MESSAGE"]);
    for class in &plan.decision.classes {
        for node in &class.nodes {
            table.add_row(vec![
                printable(node),
                verdict_word(class.verdict).to_owned(),
                class.reason.to_string(),
                gpu(class),
                memory(class),
                free(class),
                source(class),
                node_message(class, &plan.requirement),
            ]);
        }
    }
    finish(table)
}

fn suggestions(plan: &Plan) -> String {
    let mut table = plain(vec!["WOULD FIT", "NEEDS/GPU", "GPUS", "NODES"]);
    for suggestion in &plan.decision.suggestions {
        table.add_row(vec![
            change(suggestion),
            suggestion.requirement.per_gpu.to_string(),
            suggestion.requirement.gpus.to_string(),
            counted(suggestion.nodes, "node"),
        ]);
    }
    finish(table).lines().fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "  {line}");
        text
    })
}

fn gpu(class: &ClassVerdict) -> String {
    class.pool.as_ref().map_or_else(|| "-".to_owned(), product)
}

fn memory(class: &ClassVerdict) -> String {
    match &class.pool {
        None => "-".to_owned(),
        Some(pool) => pool.usable_memory().map_or_else(|| "unknown".to_owned(), |memory| memory.to_string()),
    }
}

fn free(class: &ClassVerdict) -> String {
    class.pool.as_ref().map_or_else(|| "-".to_owned(), |pool| format!("{}/{}", pool.free, pool.allocatable))
}

fn source(class: &ClassVerdict) -> String {
    match class.pool.as_ref().map(|pool| &pool.memory) {
        Some(Memory::Known { label, .. } | Memory::Untrusted { label, .. }) => quoted(label),
        Some(Memory::Missing { .. }) | None => "-".to_owned(),
    }
}

fn coloured(verdict: Verdict, colour: bool) -> String {
    let word = verdict_word(verdict);
    let code = match verdict {
        Verdict::Fits => "32",
        Verdict::Busy | Verdict::Unknown => "33",
        Verdict::Rejected => "31",
    };
    if colour { format!("\u{1b}[{code}m{word}\u{1b}[0m") } else { word.to_owned() }
}
