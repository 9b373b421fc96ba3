//! Pages that are made from the code.

use crate::generated::check;

#[test]
fn generated_command_line_reference() {
    check("docs/cli.md", &loadline::cli::reference());
}

#[test]
fn generated_reasons() {
    check("docs/reasons.md", &loadline::render::reasons::page());
}
