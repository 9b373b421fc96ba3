//! Rewrites docs/accuracy.md from the measured rows: `cargo run --example accuracy`.

mod left_out;
mod report;
mod score;
mod table;

use std::path::Path;

fn main() -> std::io::Result<()> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    std::fs::create_dir_all(&docs)?;
    std::fs::write(docs.join("accuracy.md"), report::page(&score::all()))
}
