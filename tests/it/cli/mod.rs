//! The command line as a user meets it: what it prints where, and how it ends.

mod bad_input;
mod cases;
mod commands;
mod directories;
mod docs;
mod estimate;
mod labels;
mod plan;
mod workloads;
mod wrong_files;

use std::path::Path;
use std::process::Command;

use assert_cmd::cargo::CommandCargoExt;

/// How one run ended.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// Everything that a user sees, for a snapshot.
    pub(crate) fn transcript(&self) -> String {
        format!(
            "exit code {}\n--- standard output\n{}--- standard error\n{}",
            self.code, self.stdout, self.stderr
        )
    }
}

/// The program, in the root of the repository, with an environment that reaches no cluster.
pub(crate) fn command() -> Command {
    let mut command = Command::cargo_bin("loadline").expect("the program is built");
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    for variable in ["KUBECONFIG", "KUBERNETES_SERVICE_HOST", "NO_COLOR", "COLUMNS"] {
        command.env_remove(variable);
    }
    command.env("HOME", Path::new(env!("CARGO_TARGET_TMPDIR")));
    command
}

/// Runs the program with arguments that are separated by blanks.
pub(crate) fn run(arguments: &str) -> Run {
    run_with(arguments, b"")
}

/// Runs the program so with something on standard input.
pub(crate) fn run_with(arguments: &str, input: &[u8]) -> Run {
    let mut command = assert_cmd::Command::from_std(command());
    let output =
        command.args(arguments.split_whitespace()).write_stdin(input).output().expect("the program runs");
    Run {
        code: output.status.code().expect("an exit code"),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

/// A file in a directory of its own that goes away with the test.
pub(crate) fn file(name: &str, content: impl AsRef<[u8]>) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join(name);
    std::fs::write(&path, content).expect("the file can be written");
    (directory, path.display().to_string())
}
