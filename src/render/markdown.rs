//! Markdown for `plan`: a comment on a pull request.

use std::fmt::Write;

use crate::inventory::GpuPool;

use super::change::change;
use super::node::product;
use super::outcome::{Outcome, verdict_word};
use super::text::printable;

/// How many nodes' names stand in a row.
const NAMES: usize = 5;

/// What came of several objects: a table of objects, then of each its nodes, folded.
#[must_use]
pub fn plan(outcomes: &[Outcome]) -> String {
    plan_parts(outcomes).collect()
}

/// The same, in parts.
pub fn plan_parts(outcomes: &[Outcome]) -> impl Iterator<Item = String> {
    let header = String::from("| Object | Verdict | Reason | Message |\n| --- | --- | --- | --- |\n");
    let rows = outcomes.iter().map(row);
    std::iter::once(header).chain(rows).chain(outcomes.iter().filter_map(details))
}

fn row(outcome: &Outcome) -> String {
    format!(
        "| {} | **{}** | {} | {} |\n",
        cell(&outcome.full_name()),
        verdict_word(outcome.verdict()),
        outcome.reason(),
        cell(&outcome.located_message())
    )
}

/// The nodes of an object that has a plan, and what would fit.
fn details(outcome: &Outcome) -> Option<String> {
    let plan = outcome.plan()?;
    let mut page = format!(
        "\n<details><summary>{}: nodes</summary>\n\n| Nodes | Verdict | Reason | GPU | Memory | Why |\n| --- | --- | --- | --- | --- | --- |\n",
        cell(&outcome.full_name())
    );
    // Writing to a String does not fail.
    for class in &plan.decision.classes {
        let pool = class.pool.as_deref();
        let _ = writeln!(
            page,
            "| {} | {} | {} | {} | {} | {} |",
            cell(&super::text::names(class.nodes.iter(), NAMES)),
            verdict_word(class.verdict()),
            class.reason(),
            cell(&pool.map(product).unwrap_or_default()),
            pool.and_then(GpuPool::usable_memory).map(|memory| memory.to_string()).unwrap_or_default(),
            cell(&super::node_message(class, &plan.requirement))
        );
    }
    for suggestion in &plan.decision.suggestions {
        let _ = write!(
            page,
            "\n- would fit: {} ({} per GPU)",
            cell(&change(&suggestion.change)),
            suggestion.requirement.per_gpu
        );
    }
    page.push_str(if plan.decision.suggestions.is_empty() { "\n</details>\n" } else { "\n\n</details>\n" });
    Some(page)
}

/// Text that stays in its cell and is not taken for markup.
fn cell(text: &str) -> String {
    let mut cell = String::with_capacity(text.len());
    for c in printable(text).chars() {
        match c {
            '|' | '`' | '*' | '[' | ']' | '\\' | '~' => {
                cell.push('\\');
                cell.push(c);
            }
            // An underscore inside a word is no emphasis on code hosts, and escaped it would be hard to read as text.
            '<' => cell.push_str("&lt;"),
            '>' => cell.push_str("&gt;"),
            '&' => cell.push_str("&amp;"),
            // A mention must not notify anybody.
            '@' => cell.push_str("@\u{200b}"),
            _ => cell.push(c),
        }
    }
    cell
}

#[cfg(test)]
mod tests {
    use super::cell;

    #[test]
    fn a_label_cannot_break_out_of_its_cell() {
        assert_eq!(cell("a|b<img>`x`\n@all"), "a\\|b&lt;img&gt;\\`x\\`\u{fffd}@\u{200b}all");
    }
}
