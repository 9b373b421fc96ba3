//! What came of several objects, as tables: of each its verdict and message, then its nodes.

use std::fmt::Write;

use crate::decide::{ClassVerdict, Verdict};
use crate::inventory::Memory;
use crate::plan::Plan;
use crate::render::change::change;
use crate::render::node::{node_message, product};
use crate::render::outcome::{Outcome, verdict_word};
use crate::render::text::{counted, names, printable, quoted};

use super::{Style, finish, plain};

/// How many names of one class stand in a row of the narrow table.
const NAMES: usize = 3;

/// Of each object a line with the verdict, its message, and its nodes: a row per kind of GPU, or with `wide` per node.
#[must_use]
pub fn plan(outcomes: &[Outcome], style: Style) -> String {
    plan_parts(outcomes, style).collect()
}

/// The same, object by object: with a row per node the whole of it may be large.
pub fn plan_parts(outcomes: &[Outcome], style: Style) -> impl Iterator<Item = String> {
    outcomes.iter().enumerate().map(move |(index, outcome)| {
        let separator = if index > 0 { "\n" } else { "" };
        format!("{separator}{}", one(outcome, style))
    })
}

fn one(outcome: &Outcome, style: Style) -> String {
    let mut text = format!(
        "{}: {} ({})\n  {}\n",
        outcome.full_name(),
        coloured(outcome.verdict(), style.colour),
        outcome.reason(),
        outcome.located_message()
    );
    let Some(plan) = outcome.plan() else { return text };
    if !plan.decision.classes.is_empty() {
        let table = if style.wide { wide(plan) } else { narrow(plan) };
        text.push('\n');
        for line in table.lines() {
            // Writing to a String does not fail.
            let _ = writeln!(text, "  {line}");
        }
    }
    if style.wide && !plan.decision.suggestions.is_empty() {
        let _ = write!(text, "\n{}", suggestions(plan));
    }
    text
}

/// A row per verdict and kind of GPU: what is free is summed over its nodes.
fn narrow(plan: &Plan) -> String {
    let mut table = plain(vec!["NODES", "VERDICT", "REASON", "GPU", "MEMORY", "FREE"]);
    for row in rows(&plan.decision.classes) {
        table.add_row(vec![
            names(row.nodes.iter().copied(), NAMES),
            verdict_word(row.class.verdict()).to_owned(),
            row.class.reason().to_string(),
            gpu(row.class),
            memory(row.class),
            row.gpus.map_or_else(|| "-".to_owned(), |(free, allocatable)| format!("{free}/{allocatable}")),
        ]);
    }
    finish(table)
}

/// Classes that differ only in what is free, as one row.
struct Row<'a> {
    /// The first of them.
    class: &'a ClassVerdict,
    nodes: Vec<&'a str>,
    /// Free and allocatable GPUs of all its nodes; none where there is no GPU.
    gpus: Option<(u64, u64)>,
}

fn rows(classes: &[ClassVerdict]) -> Vec<Row<'_>> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    for class in classes {
        let gpus =
            class.pool.as_ref().map(|pool| (class.free(), pool.allocatable.saturating_mul(class.count())));
        let same = |row: &&mut Row<'_>| {
            let key = |class: &ClassVerdict| (class.verdict(), class.reason(), gpu(class), memory(class));
            key(row.class) == key(class)
        };
        // Classes stand in the order of their verdicts and memory: what belongs together is mostly side by side.
        if let Some(row) = rows.iter_mut().rev().find(same) {
            row.nodes.extend(class.nodes.iter());
            row.gpus = row
                .gpus
                .zip(gpus)
                .map(|(sum, more)| (sum.0.saturating_add(more.0), sum.1.saturating_add(more.1)));
        } else {
            rows.push(Row { class, nodes: class.nodes.iter().collect(), gpus });
        }
    }
    rows
}

/// A row per node, with the source of the memory figure and the message.
fn wide(plan: &Plan) -> String {
    let mut table = plain(vec!["NODE", "VERDICT", "REASON", "GPU", "MEMORY", "FREE", "SOURCE", "MESSAGE"]);
    for class in &plan.decision.classes {
        for node in class.nodes.iter() {
            table.add_row(vec![
                printable(node),
                verdict_word(class.verdict()).to_owned(),
                class.reason().to_string(),
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
            change(&suggestion.change),
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
    class.pool.as_deref().map_or_else(|| "-".to_owned(), product)
}

fn memory(class: &ClassVerdict) -> String {
    match class.pool.as_deref() {
        None => "-".to_owned(),
        Some(pool) => pool.usable_memory().map_or_else(|| "unknown".to_owned(), |memory| memory.to_string()),
    }
}

fn free(class: &ClassVerdict) -> String {
    class.pool.as_deref().map_or_else(|| "-".to_owned(), |pool| format!("{}/{}", pool.free, pool.allocatable))
}

fn source(class: &ClassVerdict) -> String {
    match class.pool.as_deref().map(|pool| &pool.memory) {
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
