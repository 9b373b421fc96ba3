//! The control plane that the end-to-end tests share, and that it keeps its own promises.

#[path = "../controlplane/harness/mod.rs"]
pub(crate) mod harness;

use std::process::Command;
use std::time::Duration;

use harness::guard::Guard;
use harness::wait::until;

/// Whether a process is running, and not only waiting to be reaped.
fn running(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the name in parentheses.
    !matches!(status.rsplit(')').next().and_then(|rest| rest.split_whitespace().next()), None | Some("Z"))
}

fn sleeper() -> Command {
    let mut command = Command::new("sleep");
    command.arg("600");
    command
}

#[test]
fn what_a_guard_has_started_ends_with_it() {
    let home = tempfile::tempdir().unwrap().keep();
    let log = home.join("log");
    let guard = Guard::start(&home).unwrap();
    let process = guard.spawn("sleep", sleeper(), &log).unwrap();
    let pid = process.id();
    assert!(running(pid));
    // As when the process that holds it is killed: nothing is dropped but the pipe.
    std::mem::forget(process);
    drop(guard);
    until("the process to end", Duration::from_secs(10), || Ok((!running(pid)).then_some(()))).unwrap();
    assert!(!home.exists(), "{} is left over", home.display());
}

#[test]
fn a_process_that_ended_is_not_killed_again() {
    let home = tempfile::tempdir().unwrap().keep();
    let guard = Guard::start(&home).unwrap();
    let mut process = guard.spawn("true", Command::new("true"), &home.join("log")).unwrap();
    until("`true` to end", Duration::from_secs(10), || Ok(process.exited()?.then_some(()))).unwrap();
    let other = guard.spawn("sleep", sleeper(), &home.join("log")).unwrap();
    drop(process);
    assert!(running(other.id()));
    let status = other.terminate(Duration::from_secs(10)).unwrap();
    assert_eq!(status.code(), None, "it ended of the signal");
}

#[test]
fn ports_are_all_different() {
    let ports = harness::free_ports::<16>().unwrap();
    let distinct: std::collections::BTreeSet<_> = ports.into_iter().collect();
    assert_eq!(distinct.len(), 16);
}
