//! A refusal in the words of the command line: the flag where the custom resource has a field.

use crate::estimate::EstimateError;
use crate::refusal::Refusal;

use super::failure::Failure;

/// The flags that set fields of the custom resource.
const FLAGS: &[(&str, &str)] = &[
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

/// What a field of the custom resource is called here. One that no flag sets keeps its name.
pub(super) fn flag(field: &str) -> &str {
    // Whichever of them it is: each is named in what is said of it.
    if field.starts_with("engine.args") {
        return "the engine's arguments";
    }
    FLAGS.iter().find(|(known, _)| *known == field).map_or(field, |(_, flag)| flag)
}

/// A refusal as an error of the command line.
pub(super) fn explained(refusal: Refusal) -> Failure {
    let named = |field: &str, problem: &str, remedy: String| {
        Failure::error(format!("{}: {problem}", flag(field))).hint(remedy)
    };
    match refusal {
        Refusal::Invalid { field, problem, remedy } => named(&field, &problem, remedy),
        Refusal::Name { problem, remedy } => named("metadata.name", &problem, remedy),
        Refusal::NotSupported { field, remedy } => named(&field, "not supported yet", remedy),
        Refusal::Contradiction { field, said, other, value } => {
            let other = flag(&other);
            let problem = format!("{said} contradicts {other}, which is {value}");
            named(&field, &problem, format!("remove one of the two; {other} alone is enough"))
        }
        Refusal::Estimate(EstimateError::Invalid { field, problem, remedy }) => {
            named(field, &problem, remedy)
        }
        Refusal::Estimate(EstimateError::Overflow(overflow)) => Failure::error(overflow.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::{FLAGS, explained, flag};
    use crate::api::crds;
    use crate::refusal::Refusal;

    #[test]
    fn every_field_is_one_of_the_definition_and_every_flag_one_of_estimate() {
        let version = crds::model_deployment().spec.versions.remove(0);
        let schema = version.schema.and_then(|schema| schema.open_api_v3_schema).expect("a schema");
        let command = super::super::Arguments::command();
        let estimate = command.find_subcommand("estimate").expect("a command");
        for (field, flag) in FLAGS {
            let mut found = &schema.properties.as_ref().expect("fields")["spec"];
            for part in field.split('.') {
                let fields = found.properties.as_ref().unwrap_or_else(|| panic!("{field}"));
                found = fields.get(part).unwrap_or_else(|| panic!("{field}"));
            }
            let long = flag.strip_prefix("--");
            assert!(estimate.get_arguments().any(|argument| argument.get_long() == long), "{flag}");
        }
    }

    #[test]
    fn both_fields_of_a_contradiction_are_named_as_they_are_written_here() {
        let failure =
            explained(Refusal::contradiction("engine.args", "--max-model-len 4096", "context.length", 8192));
        assert_eq!(
            failure.to_string(),
            "the engine's arguments: --max-model-len 4096 contradicts --context, which is 8192"
        );
        assert_eq!(failure.hint.as_deref(), Some("remove one of the two; --context alone is enough"));
        assert_eq!(flag("placement.mode"), "placement.mode");
    }
}
