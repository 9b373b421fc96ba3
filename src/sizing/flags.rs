//! The flags of `loadline estimate` beside the fields of the custom resource, read and written.

use crate::api::ModelDeploymentSpec;
use crate::api::v1alpha1::{HuggingFaceRef, TensorParallel};

/// The flags that set fields of the custom resource.
pub(crate) const FLAGS: &[(&str, &str)] = &[
    ("model.parameters", "--parameters"),
    ("model.catalog", "--model"),
    ("precision", "--precision"),
    ("context.length", "--context"),
    ("context.sequences", "--sequences"),
    ("context.cachePrecision", "--cache-precision"),
    ("parallelism.tensor", "--tensor"),
    ("parallelism.pipeline", "--pipeline"),
    ("parallelism.data", "--data"),
    ("engine", "--engine"),
    ("engine.version", "--engine-version"),
    ("engine.name", "--engine"),
    ("training", "--training"),
    ("training.method", "--training"),
    ("training.microBatch", "--sequences"),
    ("training.sequenceLength", "--context"),
    ("training.optimizer", "--optimizer"),
    ("training.loraRank", "--lora-rank"),
    ("training.loraTargets", "--lora-targets"),
    ("training.gradientCheckpointing", "--gradient-checkpointing"),
    ("training.attention", "--attention"),
    ("training.sharding", "--sharding"),
    ("training.gpus", "--gpus"),
    ("training.offload", "--offload"),
    ("training.loss", "--loss"),
    ("training.packing", "--packing"),
    ("training.sequenceParallel", "--sequence-parallel"),
    ("training.castBase", "--no-cast-base"),
    ("safetyMargin", "--margin"),
];

/// What a field of the custom resource is called on the command line. One that no flag sets keeps its name.
pub(crate) fn flag(field: &str) -> &str {
    // Whichever of them it is: each is named in what is said of it.
    if field.starts_with("engine.args") {
        return "the engine's arguments";
    }
    FLAGS.iter().find(|(known, _)| *known == field).map_or(field, |(_, flag)| flag)
}

/// A flag for each field that is set.
struct Written(Vec<String>);

impl Written {
    fn set<T: ToString>(&mut self, field: &str, value: Option<T>) {
        if let Some(value) = value {
            self.0.extend([flag(field).to_owned(), quoted(&value.to_string())]);
        }
    }

    fn list<T: ToString>(&mut self, field: &str, values: Option<&[T]>) {
        let joined = |values: &[T]| values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        self.set(field, values.filter(|values| !values.is_empty()).map(joined));
    }

    fn hub(&mut self, from: &HuggingFaceRef) {
        self.0.extend(["--model".to_owned(), quoted(&from.repository)]);
        if let Some(revision) = &from.revision {
            self.0.extend(["--revision".to_owned(), quoted(revision)]);
        }
    }
}

/// The command that asks the same as a spec does. A model that is in a file is named as one: `config.json` or `model.gguf`.
pub(crate) fn command(spec: &ModelDeploymentSpec) -> String {
    let mut written = Written(vec!["loadline".to_owned(), "estimate".to_owned()]);
    let model = &spec.model;
    if let Some(from) = &model.hugging_face {
        written.hub(from);
    } else if model.config.is_some() {
        written.0.extend(["--config".to_owned(), "config.json".to_owned()]);
    } else if model.gguf.is_some() || model.config_map_ref.is_some() {
        written.0.extend(["--file".to_owned(), "model.gguf".to_owned()]);
    }
    written.set("model.catalog", model.catalog.as_deref());
    written.set("model.parameters", model.parameters.as_deref());
    written.set("precision", spec.precision);
    if let Some(training) = &spec.training {
        written.set("training.method", Some(training.method));
        written.set("training.optimizer", training.optimizer);
        written.set("training.sequenceLength", training.sequence_length);
        written.set("training.microBatch", training.micro_batch);
        written.set("training.loraRank", training.lora_rank);
        written.list("training.loraTargets", training.lora_targets.as_deref());
        written.set("training.gradientCheckpointing", training.gradient_checkpointing);
        written.set("training.attention", training.attention);
        written.set("training.gpus", training.gpus);
        written.set("training.sharding", training.sharding);
        written.list("training.offload", training.offload.as_deref());
    }
    if let Some(context) = &spec.context {
        written.set("context.length", context.length);
        written.set("context.sequences", context.sequences);
        written.set("context.cachePrecision", context.cache_precision);
    }
    if let Some(parallelism) = &spec.parallelism {
        let ranks = |tensor: &TensorParallel| match tensor {
            TensorParallel::Ranks(ranks) => Some(*ranks),
            // The command line has no cluster to choose by.
            TensorParallel::Word(_) => None,
        };
        written.set("parallelism.tensor", parallelism.tensor.as_ref().and_then(ranks));
        written.set("parallelism.pipeline", parallelism.pipeline);
    }
    written.set("engine.name", spec.engine.as_ref().map(|engine| engine.name));
    written.set("safetyMargin", spec.safety_margin.as_deref());
    if let Some(arguments) = spec.engine.as_ref().and_then(|engine| engine.args.as_deref())
        && !arguments.is_empty()
    {
        written.0.push("--".to_owned());
        written.0.extend(arguments.iter().map(|argument| quoted(argument)));
    }
    written.0.join(" ")
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::command;

    #[test]
    fn a_spec_is_written_as_the_command_that_asks_the_same() {
        for (spec, expected) in [
            (r#"{"model":{"parameters":"8B"}}"#, "--parameters 8B"),
            (
                r#"{"model":{"catalog":"llama-3.1-8b"},"precision":"int4","context":{"length":8192,"sequences":4,"cachePrecision":"fp8"},"parallelism":{"tensor":2},"engine":{"name":"sglang"},"safetyMargin":"1.3"}"#,
                "--model llama-3.1-8b --precision int4 --context 8192 --sequences 4 --cache-precision fp8 --tensor 2 --engine sglang --margin 1.3",
            ),
            (
                r#"{"model":{"huggingFace":{"repository":"a/b","revision":"v1"}},"training":{"method":"lora","loraRank":8,"microBatch":2,"sequenceLength":512}}"#,
                "--model a/b --revision v1 --training lora --context 512 --sequences 2 --lora-rank 8",
            ),
            (
                r#"{"model":{"config":{}},"engine":{"name":"vllm","args":["--lora-modules","a b","it's"]}}"#,
                r"--config config.json --engine vllm -- --lora-modules 'a b' 'it'\''s'",
            ),
        ] {
            let spec = serde_json::from_str(spec).expect("a spec");
            assert_eq!(command(&spec), format!("loadline estimate {expected}"));
        }
    }
}
