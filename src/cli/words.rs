//! A refusal in the words of the command line: the flag where the custom resource has a field.

use crate::estimate::EstimateError;
use crate::refusal::Refusal;
use crate::sizing::{Incomparable, QuestionError, flag};

use super::failure::Failure;

/// A refusal as an error of the command line.
pub(super) fn explained(refusal: Refusal) -> Failure {
    let named = |field: &str, problem: &str, remedy: String| {
        Failure::error(format!("{}: {problem}", flag(field))).hint(remedy)
    };
    match refusal {
        Refusal::Invalid { field, problem, remedy } | Refusal::NotAllowed { field, problem, remedy } => {
            named(&field, &problem, remedy)
        }
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

/// What cannot be compared, as an error of the command line.
pub(super) fn incomparable(error: Incomparable) -> Failure {
    Failure::usage(format!("--compare {}: {error}", error.by)).hint(error.remedy)
}

/// Why a question has no answer, as an error of the command line.
pub(super) fn refused(error: QuestionError) -> Failure {
    match error {
        QuestionError::Refused(refusal) => explained(refusal),
        QuestionError::Incomparable(error) => incomparable(error),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::explained;
    use crate::api::crds;
    use crate::refusal::Refusal;
    use crate::sizing::{FLAGS, flag};

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
