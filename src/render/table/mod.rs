//! Tables for people: readable with no colour, in a pipe, and in 80 columns where the data allow.

mod estimate;
mod nodes;
mod plan;

use comfy_table::{ContentArrangement, Row, Table, presets};

pub use estimate::{estimate, explain, fit, models, published};
pub use nodes::{nodes, problems};
pub use plan::plan;

/// How a table is to be printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// More columns, and a row per node.
    pub wide: bool,
    /// Whether verdicts are coloured.
    pub colour: bool,
}

/// A table in kubectl's manner: no lines, two blanks between columns.
pub(super) fn plain<H: Into<Row>>(header: H) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    table
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
