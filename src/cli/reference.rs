//! docs/cli.md, made from the command line itself.

use std::fmt::Write;

/// The page.
pub(super) fn page(command: &clap::Command) -> String {
    let mut command = command.clone().term_width(100);
    command.build();
    let mut page = String::from(
        "# Command line\n\nThe same as `loadline help`; made from the code, and kept in step by a test.\n\
         Installed as `kubectl-loadline`, every command is also `kubectl loadline …`.\n",
    );
    section(&mut page, &mut command, "loadline");
    let commands = command.get_subcommands().map(|command| command.get_name().to_owned());
    // Of `help` there is nothing more to say.
    let names: Vec<String> = commands.filter(|name| name != "help").collect();
    for name in names {
        if let Some(subcommand) = command.find_subcommand_mut(&name) {
            section(&mut page, subcommand, &format!("loadline {name}"));
        }
    }
    page
}

fn section(page: &mut String, command: &mut clap::Command, title: &str) {
    let help = command.render_long_help().to_string();
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    // Writing to a String does not fail.
    let _ = write!(page, "\n## {title}\n\n```text\n{}\n```\n", help.join("\n").trim_end());
}
