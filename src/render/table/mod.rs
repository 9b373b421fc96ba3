//! Tables for people: readable with no colour, in a pipe, and in 80 columns where the data allow.

mod comparison;
mod estimate;
mod explain;
mod fit;
mod nodes;
mod plan;

use std::ops::RangeInclusive;

use comfy_table::{CellAlignment, ContentArrangement, Row, Table, presets};

pub use estimate::{estimate, models, published};
pub use explain::explain;
pub use fit::{cards, fit};
pub use nodes::{nodes, problems};
pub use plan::{plan, plan_parts};

/// How a table is to be printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// More columns, and a row per node.
    pub wide: bool,
    /// Whether verdicts are coloured.
    pub colour: bool,
    /// Columns that running text is wrapped to. Tables are not.
    pub width: usize,
}

impl Style {
    /// Columns where nothing says how many there are.
    pub const WIDTH: usize = 80;
}

impl Default for Style {
    fn default() -> Self {
        Self { wide: false, colour: false, width: Self::WIDTH }
    }
}

/// A table in kubectl's manner: no lines, two blanks between columns.
pub(super) fn plain<H: Into<Row>>(header: H) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    table
}

/// Aligns columns of figures to the right.
pub(super) fn align_right(table: &mut Table, columns: RangeInclusive<usize>) {
    for column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// The table as text, with no blanks at the ends of lines.
pub(super) fn finish(mut table: Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests;
