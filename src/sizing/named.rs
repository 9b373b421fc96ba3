//! What a user means by a text that names a model: a size, a model of the catalog, a repository, or an address of the Hub.

use crate::api::limits::is_repository;
use crate::api::v1alpha1::{GgufRef, HuggingFaceRef, ModelSource};
use crate::model::catalog;
use crate::refusal::Refusal;
use crate::units::{Parameters, shorten};

/// The hosts whose addresses are repositories.
const HUB: &[&str] = &["huggingface.co/", "www.huggingface.co/", "hf.co/", "huggingface.com/"];

/// The source that a text names.
pub(crate) fn named(text: &str) -> Result<ModelSource, Refusal> {
    let text = text.trim();
    let without_scheme = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let address = without_scheme.unwrap_or(text);
    if let Some(path) = HUB.iter().find_map(|host| address.strip_prefix(host)) {
        return of_address(path).ok_or_else(|| {
            unknown(text, "it is no address of a model; write https://huggingface.co/organisation/name")
        });
    }
    if text.starts_with("https://") {
        let gguf = GgufRef { url: Some(text.to_owned()), hugging_face: None };
        return Ok(ModelSource { gguf: Some(gguf), ..ModelSource::default() });
    }
    if text.parse::<Parameters>().is_ok() {
        return Ok(ModelSource { parameters: Some(text.to_owned()), ..ModelSource::default() });
    }
    if catalog::find(text).is_some() {
        return Ok(ModelSource { catalog: Some(text.to_owned()), ..ModelSource::default() });
    }
    if is_repository(text) {
        return Ok(repository(text.to_owned(), None, None));
    }
    Err(unknown(
        text,
        &format!(
            "{}; or write a size such as 8B, a repository as organisation/name, or its address",
            catalog::remedy(text)
        ),
    ))
}

fn unknown(text: &str, remedy: &str) -> Refusal {
    Refusal::invalid("model", format!("\"{}\" names no model", shorten(text)), remedy)
}

/// The path of a page of the Hub: `organisation/name`, and after `tree`, `blob` or `resolve` a revision and a file.
fn of_address(path: &str) -> Option<ModelSource> {
    let path = path.split(['?', '#']).next()?.trim_end_matches('/');
    let mut parts = path.splitn(5, '/');
    let (organisation, name) = (parts.next()?, parts.next()?);
    let name = format!("{organisation}/{name}");
    if !is_repository(&name) {
        return None;
    }
    let page = parts.next();
    let revision = parts.next().filter(|_| matches!(page, Some("tree" | "blob" | "resolve")));
    let file = parts.next().filter(|file| file.to_ascii_lowercase().ends_with(".gguf"));
    Some(repository(
        name,
        revision.filter(|revision| *revision != "main").map(str::to_owned),
        file.map(str::to_owned),
    ))
}

fn repository(repository: String, revision: Option<String>, file: Option<String>) -> ModelSource {
    let hub = HuggingFaceRef { repository, revision, file, token_secret_ref: None };
    ModelSource { hugging_face: Some(hub), ..ModelSource::default() }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::named;

    #[test]
    fn whatever_names_a_model_is_understood() {
        let hub = |repository: &str| json!({"huggingFace": {"repository": repository}});
        let cases: &[(&str, Value)] = &[
            (" 8B ", json!({"parameters": "8B"})),
            ("llama-3.1-8b", json!({"catalog": "llama-3.1-8b"})),
            ("meta-llama/Llama-3.1-8B", json!({"catalog": "meta-llama/Llama-3.1-8B"})),
            ("someone/something-new", hub("someone/something-new")),
            ("https://huggingface.co/someone/something-new", hub("someone/something-new")),
            ("huggingface.co/someone/something-new/", hub("someone/something-new")),
            ("https://hf.co/someone/something-new?library=vllm", hub("someone/something-new")),
            ("https://huggingface.co/someone/something-new/tree/main", hub("someone/something-new")),
            (
                "https://huggingface.co/someone/some-GGUF/blob/main/q/model-Q4_K_M.gguf",
                json!({"huggingFace": {"repository": "someone/some-GGUF", "file": "q/model-Q4_K_M.gguf"}}),
            ),
            (
                "https://huggingface.co/someone/something/tree/v2",
                json!({"huggingFace": {"repository": "someone/something", "revision": "v2"}}),
            ),
            ("https://example.com/model.gguf", json!({"gguf": {"url": "https://example.com/model.gguf"}})),
        ];
        for (text, expected) in cases {
            let source = named(text).map(|source| serde_json::to_value(source).expect("JSON"));
            assert_eq!(source.as_ref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_names_none_is_refused_with_what_would() {
        for text in
            ["", "llama-3.1-8", "https://huggingface.co/", "https://huggingface.co/datasets", "a b/c", "-8B"]
        {
            let error = named(text).expect_err(text).to_string();
            assert!(error.contains(text) && error.contains("spec.model"), "{error}");
        }
    }
}
