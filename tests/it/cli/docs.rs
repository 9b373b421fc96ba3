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

/// What a page shows of the command line is what it prints: in a block that begins with `$ cargo run -q -- ARGUMENTS`,
/// everything after that line.
#[test]
fn generated_examples_in_the_readme() {
    const PROMPT: &str = "$ cargo run -q -- ";
    let page = std::fs::read_to_string("README.md").expect("the page");
    let mut blocks = 0;
    let parts: Vec<String> = page
        .split("```")
        .map(|part| match part.trim_start().strip_prefix(PROMPT).and_then(|rest| rest.lines().next()) {
            Some(arguments) => {
                blocks += 1;
                format!("\n{PROMPT}{arguments}\n{}", super::run(arguments).stdout)
            }
            None => part.to_owned(),
        })
        .collect();
    assert!(blocks > 0, "the page shows no example");
    check("README.md", &parts.join("```"));
}
