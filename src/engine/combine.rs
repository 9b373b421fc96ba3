//! Loadline's arguments for an engine and the user's, put together. A user's argument that says otherwise than the
//! estimate is refused, for the engine would then take memory that nobody counted.

use std::fmt::Display;

use super::arguments::{Flag, flags};
use super::read::words;
use super::table::{Entry, Kind, Meaning, Says};
use crate::refusal::Refusal;

/// An argument that follows from the spec.
#[derive(Clone, Debug)]
pub(super) struct Managed {
    entry: &'static Entry,
    value: String,
    /// The field of the spec that it follows from.
    field: &'static str,
}

impl Managed {
    pub(super) fn of(entry: &'static Entry, value: impl Display, field: &'static str) -> Self {
        Self { entry, value: value.to_string(), field }
    }

    /// As it is written on a command line.
    #[cfg(test)]
    pub(super) fn words(&self) -> String {
        format!("{} {}", self.entry.name(), self.value)
    }
}

/// What becomes of a user's argument that says what one of Loadline's says.
enum Standing {
    /// It says it in the same words.
    Again,
    /// It says it in other words, or goes further where that takes no memory: it stays in the place of Loadline's.
    Instead,
    /// It says otherwise.
    Contradicts,
}

/// Loadline's arguments, then the user's without those that say the same again. Sequences that are held may be fewer than
/// those that the engine is let to run.
pub(super) fn combine(
    mut own: Vec<Managed>,
    extra: &[String],
    sequences: u64,
) -> Result<Vec<String>, Refusal> {
    let mut said_again = Vec::new();
    let mut instead: Vec<&'static str> = Vec::new();
    let given: Vec<Flag<'_>> = flags(extra).collect();
    for (at, flag) in given.iter().enumerate() {
        let Some(managed) = own.iter().find(|managed| managed.entry.is_named(&flag.name)) else { continue };
        // Of a flag that is given twice the last counts, as it does for the engines.
        if given.iter().skip(at + 1).any(|later| managed.entry.is_named(&later.name)) {
            said_again.extend(flag.at..flag.at + flag.span);
            continue;
        }
        match standing(managed, flag, sequences) {
            Standing::Again => said_again.extend(flag.at..flag.at + flag.span),
            Standing::Instead => instead.push(managed.entry.name()),
            Standing::Contradicts => return Err(contradiction(flag, managed)),
        }
    }
    own.retain(|managed| !instead.contains(&managed.entry.name()));
    let own = own.into_iter().flat_map(|managed| [managed.entry.name().to_owned(), managed.value]);
    let extra =
        extra.iter().enumerate().filter(|(at, _)| !said_again.contains(at)).map(|(_, word)| word.clone());
    Ok(own.chain(extra).collect())
}

fn standing(managed: &Managed, flag: &Flag<'_>, sequences: u64) -> Standing {
    let entry = managed.entry;
    let Some(value) = flag.value else { return Standing::Contradicts };
    if value == managed.value {
        return Standing::Again;
    }
    let (theirs, ours) = (entry.meaning(value), entry.meaning(&managed.value));
    if theirs == ours {
        return Standing::Instead;
    }
    match (entry.says, entry.kind, theirs) {
        (Says::Sequences, Kind::Cap, Meaning::Number(cap))
            if u64::try_from(cap).is_ok_and(|cap| cap >= sequences) =>
        {
            Standing::Instead
        }
        _ => Standing::Contradicts,
    }
}

fn contradiction(flag: &Flag<'_>, managed: &Managed) -> Refusal {
    let written = format!("{} contradicts {} {}", words(flag), managed.entry.name(), managed.value);
    if let Says::Fixed(_) = managed.entry.says {
        return Refusal::invalid(
            "engine.args",
            format!("{written}, which clients and probes rely on"),
            "remove it",
        );
    }
    if managed.field == "engine.args" {
        return Refusal::invalid(
            "engine.args",
            format!("{written}, which follows from the other arguments"),
            "write it once",
        );
    }
    Refusal::invalid(
        "engine.args",
        format!("{written}, which follows from spec.{}", managed.field),
        format!("remove it, and set spec.{} instead", managed.field),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tables;
    use crate::precision::Engine;

    fn combined(extra: &[&str]) -> Result<Vec<String>, String> {
        let table = tables::of(Engine::Vllm);
        let of = |name: &str, value: u64, field| {
            Managed::of(table.entry(name).expect("a flag of vLLM"), value, field)
        };
        let own = vec![
            of("--max-model-len", 8192, "context.length"),
            of("--max-num-seqs", 4, "context.sequences"),
            of("--tensor-parallel-size", 2, "parallelism.tensor"),
        ];
        let extra: Vec<String> = extra.iter().map(|word| (*word).to_owned()).collect();
        combine(own, &extra, 4).map_err(|error| error.to_string())
    }

    const OWN: [&str; 6] = ["--max-model-len", "8192", "--max-num-seqs", "4", "--tensor-parallel-size", "2"];

    #[test]
    fn the_users_arguments_come_after() {
        let arguments = combined(&["--enable-prefix-caching", "--seed", "-1"]).unwrap();
        assert_eq!(arguments, [&OWN[..], &["--enable-prefix-caching", "--seed", "-1"]].concat());
    }

    #[test]
    fn saying_the_same_again_is_no_contradiction() {
        for extra in [&["--max-model-len", "8192"][..], &["--max_model_len=8192"], &["-tp", "2"], &["-tp=2"]]
        {
            assert_eq!(combined(extra).unwrap(), OWN, "{extra:?}");
        }
    }

    #[test]
    fn what_is_said_in_other_words_stays_as_it_was_said() {
        let tensor = ["--tensor-parallel-size", "2"];
        for (extra, expected) in [
            (&["--max-model-len", "8.192k"][..], [&OWN[2..], &["--max-model-len", "8.192k"]].concat()),
            (&["--max-num-seqs=256"], [&OWN[..2], &tensor, &["--max-num-seqs=256"]].concat()),
        ] {
            assert_eq!(combined(extra).unwrap(), expected, "{extra:?}");
        }
    }

    #[test]
    fn of_two_the_last_counts() {
        assert_eq!(combined(&["--max-model-len", "4096", "--max-model-len=8192"]).unwrap(), OWN);
        assert!(combined(&["--max-model-len=8192", "--max_model_len", "4096"]).is_err());
    }

    #[test]
    fn what_contradicts_the_estimate_is_refused() {
        for (extra, field) in [
            (&["--max-model-len", "32768"][..], "spec.context.length"),
            (&["--max-model-len=32k"], "spec.context.length"),
            (&["--max_model_len", "9000"], "spec.context.length"),
            (&["--max-model-len"], "spec.context.length"),
            (&["--max-model-len", "--seed"], "spec.context.length"),
            (&["--max-num-seqs", "3"], "spec.context.sequences"),
            (&["-tp", "4"], "spec.parallelism.tensor"),
        ] {
            let error = combined(extra).unwrap_err();
            assert!(
                error.starts_with("spec.engine.args: --") || error.starts_with("spec.engine.args: -"),
                "{error}"
            );
            assert!(error.contains(field), "{extra:?}: {error}");
        }
    }
}
