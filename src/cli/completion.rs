//! `loadline completion`: scripts for shells, and the executable that kubectl asks for a plugin's completions.

use clap::{Args, ValueEnum};
use clap_complete::Shell;

use super::failure::ExitStatus;
use super::printer::Printer;

#[derive(Debug, Args)]
pub(super) struct CompletionArguments {
    /// The shell, or kubectl: a script to be saved as `kubectl_complete-loadline` in a directory of PATH
    shell: Target,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Target {
    Bash,
    Elvish,
    Fish,
    Powershell,
    Zsh,
    Kubectl,
}

/// kubectl runs this with the words typed so far, and reads one candidate per line and a directive. It completes the
/// commands and, for flags, asks the program's own help, so that it stays in step with what is installed.
const KUBECTL: &str = r#"#!/bin/sh
# kubectl's completion of `kubectl loadline`: save it as kubectl_complete-loadline in a directory of PATH, executable.
# kubectl passes the words typed so far; the last is the one to complete.
last=''
command=''
for word in "$@"; do
  case "$word" in
    -*) ;;
    *) [ -n "$command" ] || [ "$#" -eq 1 ] || command="$word" ;;
  esac
  last="$word"
done
case "$last" in
  -*) kubectl-loadline ${command:+"$command"} --help 2>/dev/null | grep -o -E -e '--[a-z][a-z-]*' | sort -u | grep -e "^$last" ;;
  *)
    if [ "$#" -le 1 ]; then
      kubectl-loadline --help 2>/dev/null | sed -n '/^Commands:/,/^$/s/^  \([a-z][a-z]*\) .*/\1/p' | grep -e "^$last"
    fi
    ;;
esac
# 0: the shell's own completion of file names is used where there is nothing to offer.
echo ':0'
"#;

pub(super) fn run(arguments: &CompletionArguments, printer: Printer) -> anyhow::Result<ExitStatus> {
    let shell = match arguments.shell {
        Target::Bash => Shell::Bash,
        Target::Elvish => Shell::Elvish,
        Target::Fish => Shell::Fish,
        Target::Powershell => Shell::PowerShell,
        Target::Zsh => Shell::Zsh,
        Target::Kubectl => {
            printer.data(KUBECTL)?;
            return Ok(ExitStatus::Fine);
        }
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut super::command(None), "loadline", &mut script);
    printer.data(&String::from_utf8_lossy(&script))?;
    Ok(ExitStatus::Fine)
}
