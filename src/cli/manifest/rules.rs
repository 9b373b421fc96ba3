//! The CEL rules of the custom resource definition, by hand: an evaluator of CEL would be larger than all of them, and a
//! test holds each against the real one.

use serde_json::Value;

use crate::units::Margin;

/// The rules, as src/api/v1alpha1.rs has them.
const TRAINING_OR_SERVING: &str = "!has(self.training) || (!has(self.context) && !has(self.engine))";
const TRAINING_OR_PARALLELISM: &str = "!has(self.training) || !has(self.parallelism)";
const MARGIN: &str = r"self.matches('^(10(\\.0{1,3})?|[1-9](\\.[0-9]{1,3})?)$')";
const ONE_SOURCE: &str = "(has(self.huggingFace) ? 1 : 0) + (has(self.gguf) ? 1 : 0) + (has(self.config) ? 1 : 0) + (has(self.configMapRef) ? 1 : 0) + (has(self.catalog) ? 1 : 0) + (has(self.parameters) && !has(self.config) ? 1 : 0) == 1";
const PARAMETERS: &str = r"self.matches('^[0-9]+(\\.[0-9]+)?[KkMmBbTt]?$')";
const REPOSITORY: &str = r"self.matches('^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$')";
const ONE_GGUF: &str = "has(self.url) != has(self.huggingFace)";
const HTTPS: &str = "self.startsWith('https://')";
const TENSOR: &str = "string(self).matches('^(auto|[1-9][0-9]{0,2}|10[01][0-9]|102[0-4])$')";

/// Whether a value keeps a rule; `None` for a rule that is not known here, which a test rules out.
pub(super) fn holds(rule: &str, value: &Value) -> Option<bool> {
    let has = |field: &str| value.get(field).is_some();
    let text = value.as_str().unwrap_or_default();
    Some(match rule {
        TRAINING_OR_SERVING => !has("training") || (!has("context") && !has("engine")),
        TRAINING_OR_PARALLELISM => !has("training") || !has("parallelism"),
        MARGIN => is_margin(text),
        ONE_SOURCE => {
            let sources = ["huggingFace", "gguf", "config", "configMapRef", "catalog"];
            let named = sources.into_iter().filter(|source| has(source)).count();
            named + usize::from(has("parameters") && !has("config")) == 1
        }
        PARAMETERS => is_decimal(text.strip_suffix(['K', 'k', 'M', 'm', 'B', 'b', 'T', 't']).unwrap_or(text)),
        REPOSITORY => text
            .split_once('/')
            .is_some_and(|(owner, name)| is_repository_part(owner) && is_repository_part(name)),
        ONE_GGUF => has("url") != has("huggingFace"),
        HTTPS => text.starts_with("https://"),
        TENSOR => match value {
            Value::String(word) => word == "auto" || is_ranks(word),
            number => number.as_u64().is_some_and(|ranks| (1..=1024).contains(&ranks)),
        },
        _ => return None,
    })
}

/// The pattern is narrower than what [`Margin`] reads: no blanks and no leading zeros.
fn is_margin(text: &str) -> bool {
    is_decimal(text) && !text.starts_with('0') && text.parse::<Margin>().is_ok()
}

fn is_decimal(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once('.').map_or_else(|| digits(text), |(whole, fraction)| digits(whole) && digits(fraction))
}

fn is_ranks(word: &str) -> bool {
    !word.starts_with('0')
        && is_decimal(word)
        && word.parse().is_ok_and(|ranks: u64| (1..=1024).contains(&ranks))
}

fn is_repository_part(part: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    part.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric()) && part.bytes().all(inner)
}
