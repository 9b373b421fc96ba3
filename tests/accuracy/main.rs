//! Rewrites docs/accuracy.md from the measured rows: `cargo run --example accuracy`.

mod holdout;
mod left_out;
mod report;
mod score;
mod table;
#[allow(dead_code, unused_imports, reason = "the tests use the rest")]
#[path = "../it/training_accuracy.rs"]
mod training_accuracy;

use std::path::Path;

fn main() -> std::io::Result<()> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    std::fs::create_dir_all(&docs)?;
    let mut page = report::page(&score::all());
    page.push_str("\n## Training\n\n");
    page.push_str(&training_accuracy::markdown());
    std::fs::write(docs.join("accuracy.md"), page)
}
