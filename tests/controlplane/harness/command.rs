//! Running a command to its end.

use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};

/// What a command did.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Its exit code, if it was not killed.
    pub(crate) code: Option<i32>,
    /// What it printed on standard output.
    pub(crate) stdout: String,
    /// What it printed on standard error.
    pub(crate) stderr: String,
    line: String,
}

impl Ran {
    /// Whether it succeeded.
    pub(crate) fn success(&self) -> bool {
        self.code == Some(0)
    }

    /// Its standard output; an error with its standard error if it failed.
    pub(crate) fn output(self) -> Result<String> {
        if !self.success() {
            bail!("`{}` failed ({:?}): {}{}", self.line, self.code, self.stdout, self.stderr);
        }
        Ok(self.stdout)
    }

    /// Its standard output, as JSON.
    pub(crate) fn json(self) -> Result<serde_json::Value> {
        let line = self.line.clone();
        let output = self.output()?;
        serde_json::from_str(&output).with_context(|| format!("`{line}` printed no JSON: {output}"))
    }

    /// Its standard error; an error if it succeeded.
    pub(crate) fn refusal(self) -> Result<String> {
        if self.success() {
            bail!("`{}` succeeded, and was to be refused: {}", self.line, self.stdout);
        }
        Ok(self.stderr)
    }
}

/// Runs a command to its end.
pub(crate) fn run(mut command: Command, input: &str) -> Result<Ran> {
    let line = [command.get_program()]
        .into_iter()
        .chain(command.get_args())
        .map(|part| part.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{line}`"))?;
    let pipe = child.stdin.take();
    let input = input.to_owned();
    // On its own thread: a command may print more than a pipe holds before it has read all.
    let writer = thread::spawn(move || pipe.map(|mut pipe| pipe.write_all(input.as_bytes())));
    let output = child.wait_with_output()?;
    // A command that fails early does not read its input; its exit code says so.
    let _ = writer.join();
    Ok(Ran {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        line,
    })
}
