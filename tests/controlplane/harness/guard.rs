//! Processes that end with the one that started them.
//!
//! A test may panic, be interrupted, or be killed outright, and statics are never dropped. So a shell waits at the end
//! of a pipe that closes when this process ends in whatever way, and then kills by id what is still running.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

use super::wait::until;

/// Reads `started PID` and `ended PID` until the pipe closes, then kills what has started and not ended, and removes
/// the directory.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
running=
while read -r word pid; do
  others=
  for each in $running; do [ "$each" = "$pid" ] || others="$others $each"; done
  case $word in
  started) running="$others $pid" ;;
  ended) running=$others ;;
  esac
done
for each in $running; do kill -9 "$each" 2>/dev/null; done
rm -rf "$1"
# What was killed may have been writing into it.
tries=50
for each in $running; do
  while kill -0 "$each" 2>/dev/null && [ $tries -gt 0 ]; do tries=$((tries - 1)); sleep 0.1; done
done
rm -rf "$1"
"#;

/// Ends, when dropped or when this process ends, every process it has started, and removes the directory it was given.
pub(crate) struct Guard {
    shell: Child,
    pipe: Arc<Pipe>,
}

/// The guard's end of the pipe; closed by taking it out.
struct Pipe(Mutex<Option<ChildStdin>>);

impl Pipe {
    fn tell(&self, word: &str, pid: u32) -> Result<()> {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(pipe) => writeln!(pipe, "{word} {pid}").context("the guard of the processes is gone"),
            None => Ok(()),
        }
    }
}

impl Guard {
    /// Starts guarding.
    pub(crate) fn start(directory: &Path) -> Result<Self> {
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "guard"])
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // An interrupt from the terminal goes to the foreground group; this has to survive it.
            .process_group(0)
            .spawn()?;
        let pipe = Arc::new(Pipe(Mutex::new(shell.stdin.take())));
        Ok(Self { shell, pipe })
    }

    /// Starts a process that logs to a file.
    pub(crate) fn spawn(&self, name: &str, mut command: Command, log: &Path) -> Result<Process> {
        let file = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).process_group(0);
        let child =
            command.spawn().with_context(|| format!("cannot start {}", command.get_program().display()))?;
        self.pipe.tell("started", child.id())?;
        Ok(Process { name: name.to_owned(), child, pipe: Arc::clone(&self.pipe) })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.pipe.0.lock().unwrap_or_else(PoisonError::into_inner).take());
        let _ = self.shell.wait();
    }
}

/// A running process. Dropping it kills it.
pub(crate) struct Process {
    /// What it is, for messages.
    pub(crate) name: String,
    child: Child,
    pipe: Arc<Pipe>,
}

impl Process {
    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended.
    pub(crate) fn exited(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        let pid = self.child.id().to_string();
        Command::new("sh").args(["-c", "kill -\"$2\" \"$1\"", "kill", &pid, name]).status()?;
        Ok(())
    }

    /// Asks it to end (SIGTERM), and waits until it has.
    pub(crate) fn terminate(mut self, within: Duration) -> Result<ExitStatus> {
        self.signal("TERM")?;
        until(&format!("{} to end", self.name), within, || Ok(self.child.try_wait()?))
    }

    /// Kills it (SIGKILL), with no chance to finish anything.
    pub(crate) fn kill(self) {
        drop(self);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Only once it is reaped may its id be another's.
        let _ = self.pipe.tell("ended", self.child.id());
    }
}
