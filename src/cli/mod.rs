//! The command line: one file per command. It reads, calls the pure core, and prints what render makes.
//!
//! Invariants: data goes to standard output, words about it to standard error; the exit code is the verdict.

mod admission;
mod completion;
mod connection;
mod controller;
mod crds;
mod estimate;
mod failure;
mod hub;
mod input;
mod manifest;
mod nodes;
mod output;
mod permits;
mod plan;
mod printer;
mod reference;
mod resolve;
mod shape;
mod times;
mod training_config;
mod ui;
mod values;
mod words;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use failure::{ExitStatus, Failure};
use printer::Printer;

/// Estimates the VRAM that a model needs, and says which Kubernetes nodes have it.
#[derive(Debug, Parser)]
#[command(
    name = "loadline",
    version,
    after_help = "Exit codes: 0 fits or fine, 1 error, 2 usage, 3 does not fit (rejected or busy), 4 unknown."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Estimate the GPU memory that a model needs. Needs no cluster.
    Estimate(Box<estimate::EstimateArguments>),
    /// Say for each ModelDeployment which nodes fit, and for every other why not.
    Plan(Box<plan::PlanArguments>),
    /// List the nodes and their GPUs, as their labels declare them.
    Nodes(Box<nodes::NodesArguments>),
    /// List every label of GPUs that is missing, cannot be believed or does not agree with another, why, and what to do. Exit code 3 if there is one.
    Doctor(Box<nodes::NodesArguments>),
    /// Print the nodes and pods, pruned to what Loadline uses, for `--snapshot`.
    Snapshot(Box<nodes::WriteArguments>),
    /// Run the controller, until it is told to stop (SIGTERM, SIGINT).
    Controller(Box<controller::ControllerArguments>),
    /// Serve the estimate as a page, and a cluster beside it, on this machine.
    Ui(Box<ui::UiArguments>),
    /// Print the custom resource definition as YAML.
    Crds,
    /// Print a completion script for a shell.
    Completion(completion::CompletionArguments),
}

/// Runs the command line. The arguments begin with the name of the program.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let printer = Printer::new();
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let parsed = command(arguments.first())
        .try_get_matches_from(arguments)
        .and_then(|matches| Arguments::from_arg_matches(&matches));
    let parsed = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            // Help and the version are data, the rest is words: clap knows which goes where. A closed pipe is no error.
            let _ = error.print();
            return if error.use_stderr() { ExitStatus::Usage.into() } else { ExitStatus::Fine.into() };
        }
    };
    match execute(parsed.command, printer) {
        Ok(status) => status.into(),
        Err(error) => report(&error, printer).into(),
    }
}

/// The command line as clap sees it. A kubectl plugin is called by its file's name, and shown as users type it.
fn command(program: Option<&OsString>) -> clap::Command {
    let plugin = program
        .and_then(|program| Path::new(program).file_stem())
        .is_some_and(|name| name.to_string_lossy().starts_with("kubectl-"));
    let command = Arguments::command();
    if plugin { command.bin_name("kubectl loadline") } else { command.bin_name("loadline") }
}

fn execute(command: Command, printer: Printer) -> anyhow::Result<ExitStatus> {
    match command {
        Command::Estimate(arguments) => estimate::run(&arguments, printer),
        Command::Plan(arguments) => plan::run(&arguments, printer),
        Command::Nodes(arguments) => nodes::nodes(&arguments, printer),
        Command::Doctor(arguments) => nodes::doctor(&arguments, printer),
        Command::Snapshot(arguments) => nodes::snapshot(&arguments, printer),
        Command::Controller(arguments) => controller::run(*arguments),
        Command::Ui(arguments) => ui::run(&arguments, printer),
        Command::Crds => crds::run(printer),
        Command::Completion(arguments) => completion::run(&arguments, printer),
    }
}

fn report(error: &anyhow::Error, printer: Printer) -> ExitStatus {
    printer.error(&crate::render::text::printable(&format!("{error:#}")));
    let failure = error.chain().find_map(|cause| cause.downcast_ref::<Failure>());
    if let Some(hint) = failure.and_then(|failure| failure.hint.as_ref()) {
        printer.hint(hint);
    }
    failure.map_or(ExitStatus::Error, |failure| failure.status)
}

/// The command line's own documentation, in Markdown: docs/cli.md.
#[must_use]
pub fn reference() -> String {
    reference::page(&command(None))
}
