//! Loadline's arguments for an engine and the user's, put together. A user's argument that says otherwise than the
//! estimate is refused, for the engine would then take memory that nobody counted.

use std::fmt::Display;

use super::arguments::{Flag, flags};
use crate::precision::Engine;
use crate::refusal::Refusal;
use crate::units::shorten;

/// An argument that follows from the spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Managed {
    flag: &'static str,
    aliases: &'static [&'static str],
    value: String,
    /// The field of the spec that it follows from.
    field: &'static str,
}

impl Managed {
    pub(super) fn of(
        flag: &'static str,
        aliases: &'static [&'static str],
        value: impl Display,
        field: &'static str,
    ) -> Self {
        Self { flag, aliases, value: value.to_string(), field }
    }

    /// As it is written on a command line.
    #[cfg(test)]
    pub(super) fn words(&self) -> String {
        format!("{} {}", self.flag, self.value)
    }

    fn is_named(&self, name: &str) -> bool {
        self.flag == name || self.aliases.contains(&name)
    }
}

/// Flags that multiply what a replica takes, and that the estimate takes to be 1.
const ALONE: &[&str] = &["--data-parallel-size", "-dp", "--dp-size", "--dp", "--nnodes"];

/// Loadline's arguments, then the user's without those that say the same again.
pub(super) fn combine(engine: Engine, own: Vec<Managed>, extra: &[String]) -> Result<Vec<String>, Refusal> {
    let mut said_again = Vec::new();
    for flag in flags(extra) {
        if let Some(managed) = own.iter().find(|managed| managed.is_named(&flag.name)) {
            if flag.value != Some(managed.value.as_str()) {
                return Err(contradiction(&flag, managed));
            }
            said_again.extend(flag.at..flag.at + flag.span);
        }
        let multiplies =
            matches!(engine, Engine::Vllm | Engine::Sglang) && ALONE.contains(&flag.name.as_str());
        if multiplies && flag.value != Some("1") {
            return Err(Refusal::Invalid {
                field: "engine.args".to_owned(),
                problem: format!("{} makes one replica take more GPUs than were counted", written(&flag)),
                remedy: "remove it, and set replicas for more copies".to_owned(),
            });
        }
    }
    let own = own.into_iter().flat_map(|managed| [managed.flag.to_owned(), managed.value]);
    let extra =
        extra.iter().enumerate().filter(|(at, _)| !said_again.contains(at)).map(|(_, word)| word.clone());
    Ok(own.chain(extra).collect())
}

fn contradiction(flag: &Flag<'_>, managed: &Managed) -> Refusal {
    Refusal::Invalid {
        field: "engine.args".to_owned(),
        problem: format!(
            "{} contradicts {} {}, which follows from spec.{}",
            written(flag),
            managed.flag,
            managed.value,
            managed.field
        ),
        remedy: format!("remove it, and set spec.{} instead", managed.field),
    }
}

fn written(flag: &Flag<'_>) -> String {
    match flag.value {
        Some(value) => format!("{} {}", shorten(&flag.name), shorten(value)),
        None => shorten(&flag.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn combined(extra: &[&str]) -> Result<Vec<String>, String> {
        let own = vec![
            Managed::of("--max-model-len", &[], 8192, "context.length"),
            Managed::of("--tensor-parallel-size", &["-tp"], 2, "parallelism.tensor"),
        ];
        let extra: Vec<String> = extra.iter().map(|word| (*word).to_owned()).collect();
        combine(Engine::Vllm, own, &extra).map_err(|error| error.to_string())
    }

    #[test]
    fn the_users_arguments_come_after() {
        let arguments = combined(&["--enable-prefix-caching", "--seed", "-1"]).unwrap();
        assert_eq!(
            arguments,
            [
                "--max-model-len",
                "8192",
                "--tensor-parallel-size",
                "2",
                "--enable-prefix-caching",
                "--seed",
                "-1"
            ]
        );
    }

    #[test]
    fn saying_the_same_again_is_no_contradiction() {
        for extra in [&["--max-model-len", "8192"][..], &["--max_model_len=8192"], &["-tp", "2"], &["-tp=2"]]
        {
            assert_eq!(
                combined(extra).unwrap(),
                ["--max-model-len", "8192", "--tensor-parallel-size", "2"],
                "{extra:?}"
            );
        }
    }

    #[test]
    fn what_contradicts_the_estimate_is_refused() {
        for (extra, field) in [
            (&["--max-model-len", "32768"][..], "spec.context.length"),
            (&["--max-model-len=32k"], "spec.context.length"),
            (&["--max_model_len", "9000"], "spec.context.length"),
            (&["--max-model-len"], "spec.context.length"),
            (&["--max-model-len", "--seed"], "spec.context.length"),
            (&["-tp", "4"], "spec.parallelism.tensor"),
            (&["--data-parallel-size", "2"], "replicas"),
            (&["-dp=4"], "replicas"),
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
