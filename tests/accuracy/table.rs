//! Comma-separated values with quotes, as rows of named cells.

use std::collections::HashMap;

/// One row.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row(HashMap<String, String>);

impl Row {
    /// A cell; empty where there is none.
    pub(crate) fn text(&self, column: &str) -> &str {
        self.0.get(column).map_or("", |cell| cell.trim())
    }

    /// A cell as a number, if it is one.
    pub(crate) fn number(&self, column: &str) -> Option<f64> {
        self.text(column).parse().ok()
    }

    /// A cell as a whole number, if it is one.
    pub(crate) fn count(&self, column: &str) -> Option<u64> {
        self.text(column).parse().ok()
    }
}

/// Reads a table whose first line names the columns.
pub(crate) fn read(text: &str) -> Vec<Row> {
    let mut records = records(text).into_iter();
    let header = records.next().unwrap_or_default();
    records.map(|cells| Row(header.iter().cloned().zip(cells).collect())).collect()
}

fn records(text: &str) -> Vec<Vec<String>> {
    let mut records = Vec::new();
    let mut record = Vec::new();
    let mut cell = String::new();
    let mut quoted = false;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                cell.push('"');
                characters.next();
            }
            '"' => quoted = !quoted,
            ',' if !quoted => record.push(std::mem::take(&mut cell)),
            '\r' if !quoted => {}
            '\n' if !quoted => {
                record.push(std::mem::take(&mut cell));
                records.push(std::mem::take(&mut record));
            }
            other => cell.push(other),
        }
    }
    if !cell.is_empty() || !record.is_empty() {
        record.push(cell);
        records.push(record);
    }
    records
}
