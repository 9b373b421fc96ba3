//! Where the words of a command line say that the weights are.

use crate::api::limits::is_repository;
use crate::engine::{Weights, Word};
use crate::model::catalog;
use crate::precision::{Engine, Precision};
use crate::units::shorten;

/// A model, as far as a file says which it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Model {
    /// A repository of the Hugging Face Hub.
    Repository {
        /// `organisation/name`.
        repository: String,
        /// A branch, tag or commit.
        revision: Option<String>,
    },
    /// A GGUF of a repository: a file, or one of its formats, or its default.
    Gguf {
        /// `organisation/name`.
        repository: String,
        /// The file.
        file: Option<String>,
        /// The revision.
        revision: Option<String>,
    },
    /// A GGUF file at an address.
    Url(String),
    /// A path of the container, or of a store that is not read.
    Path(String),
    /// It is not stated, and why.
    Unknown(String),
}

impl Model {
    /// The repository, where there is one.
    #[must_use]
    pub fn repository(&self) -> Option<&str> {
        match self {
            Self::Repository { repository, .. } | Self::Gguf { repository, .. } => Some(repository),
            Self::Url(_) | Self::Path(_) | Self::Unknown(_) => None,
        }
    }

    /// What is missing, and what to give; `None` where the model can be looked up.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        const GIVE: &str =
            "name a repository (organisation/name), or plan a ModelDeployment whose spec.model says it";
        match self {
            Self::Repository { .. } | Self::Url(_) | Self::Gguf { .. } => None,
            Self::Path(path) => Some(format!(
                "the model is at {}, and what that holds is not in the file: {GIVE}",
                shorten(path)
            )),
            Self::Unknown(why) => Some(format!("{why}: {GIVE}")),
        }
    }
}

/// What a command line says of the weights, and the format that the name of a GGUF file says.
pub(super) fn read(
    engine: Engine,
    weights: Option<&Weights>,
    file: Option<&Word>,
    revision: Option<&str>,
) -> (Model, Option<Precision>) {
    let Some(weights) = weights else {
        return (Model::Unknown("the model is not named".to_owned()), None);
    };
    let text = weights.place.text.trim();
    if !weights.place.known {
        let why = format!("the model is {}, whose value is not in the file", shorten(text));
        return (Model::Unknown(why), None);
    }
    if text.is_empty() {
        return (Model::Unknown("the model's name is empty".to_owned()), None);
    }
    let revision = revision.map(str::to_owned);
    if let Some(address) = text.strip_prefix("hf://") {
        return hub(address, revision);
    }
    if weights.is_url || text.starts_with("https://") || text.starts_with("http://") {
        return address(text);
    }
    let is_elsewhere = text.starts_with(['/', '.', '~']) || text.contains("://");
    if weights.is_path || is_elsewhere {
        return (Model::Path(text.to_owned()), of_file(text));
    }
    if engine == Engine::LlamaCpp {
        let (repository, tag) = text.split_once(':').map_or((text, None), |(name, tag)| (name, Some(tag)));
        let file = file.filter(|file| file.known).map(|file| file.text.clone());
        let format = file.as_deref().and_then(of_file).or_else(|| tag.and_then(gguf));
        if !is_repository(repository) {
            return (Model::Unknown(format!("{} is no repository", shorten(text))), None);
        }
        return (Model::Gguf { repository: repository.to_owned(), file, revision }, format);
    }
    if text.to_ascii_lowercase().ends_with(".gguf") {
        return (Model::Path(text.to_owned()), of_file(text));
    }
    // Repositories of the Hub's first years have no organisation.
    let is_old = !text.contains('/') && catalog::find(text).is_some();
    if is_repository(text) || is_old {
        return (Model::Repository { repository: text.to_owned(), revision }, None);
    }
    (Model::Path(text.to_owned()), None)
}

/// `organisation/name`, with a revision after a colon or an `@`.
fn hub(address: &str, revision: Option<String>) -> (Model, Option<Precision>) {
    let (repository, own) =
        address.split_once([':', '@']).map_or((address, None), |(name, own)| (name, Some(own.to_owned())));
    if is_repository(repository) {
        (Model::Repository { repository: repository.to_owned(), revision: own.or(revision) }, None)
    } else {
        (Model::Unknown(format!("hf://{} names no repository", shorten(address))), None)
    }
}

/// A file at an address: one of the Hub is known by its repository.
fn address(text: &str) -> (Model, Option<Precision>) {
    let format = of_file(text.split('?').next().unwrap_or(text));
    let parts: Vec<&str> = text.split('?').next().unwrap_or(text).split('/').collect();
    if let ["https:", "", "huggingface.co", organisation, name, "resolve", revision, file @ ..] =
        parts.as_slice()
        && !file.is_empty()
    {
        let repository = format!("{organisation}/{name}");
        let (file, revision) = (Some(file.join("/")), Some((*revision).to_owned()));
        return (Model::Gguf { repository, file, revision }, format);
    }
    if text.starts_with("https://") && text.to_ascii_lowercase().ends_with(".gguf") {
        return (Model::Url(text.to_owned()), format);
    }
    (Model::Path(text.to_owned()), format)
}

/// The format that the name of a GGUF file ends with: `…-Q4_K_M.gguf`, also of one part of several.
fn of_file(path: &str) -> Option<Precision> {
    let name = path.rsplit('/').next()?;
    let stem = name.strip_suffix(".gguf").or_else(|| name.strip_suffix(".GGUF"))?;
    let stem = match stem.rsplit_once("-of-") {
        Some((before, _)) => before.rsplit_once('-').map_or(before, |(before, _)| before),
        None => stem,
    };
    gguf(stem.rsplit(['-', '.']).next()?)
}

/// A format of GGUF files by its name.
fn gguf(name: &str) -> Option<Precision> {
    let format: Precision = name.parse().ok()?;
    let is_of_files = format.is_gguf() || format.is_wide();
    is_of_files.then_some(format)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(engine: Engine, text: &str, is_path: bool) -> (Option<String>, Option<Precision>, bool) {
        let weights = Weights { place: Word::of(text), is_path, is_url: false };
        let (model, format) = read(engine, Some(&weights), None, None);
        (model.repository().map(str::to_owned), format, model.fault().is_none())
    }

    #[test]
    fn a_place_is_a_repository_or_said_to_be_none() {
        let of = |name: &str| Some(name.to_owned());
        for (engine, text, is_path, expected) in [
            (Engine::Vllm, "a/b", false, (of("a/b"), None, true)),
            (Engine::Vllm, "hf://a/b", false, (of("a/b"), None, true)),
            (Engine::Vllm, "hf://a/b:v2", false, (of("a/b"), None, true)),
            (Engine::Vllm, "/models/a/b", false, (None, None, false)),
            (Engine::Vllm, "s3://bucket/a", false, (None, None, false)),
            (Engine::Vllm, "pvc://claim/a", false, (None, None, false)),
            (Engine::Vllm, "models/a/b", false, (None, None, false)),
            (Engine::Vllm, "", false, (None, None, false)),
            (Engine::LlamaCpp, "/m/x-Q4_K_M.gguf", true, (None, Some(Precision::Q4KM), false)),
            (Engine::LlamaCpp, "/m/x.Q8_0.gguf", true, (None, Some(Precision::Q80), false)),
            (Engine::LlamaCpp, "/m/x-Q6_K-00001-of-00003.gguf", true, (None, Some(Precision::Q6K), false)),
            (Engine::LlamaCpp, "/m/x-UD-Q4_K_XL.gguf", true, (None, None, false)),
            (Engine::LlamaCpp, "a/b-GGUF:Q4_K_M", false, (of("a/b-GGUF"), Some(Precision::Q4KM), true)),
            (Engine::LlamaCpp, "a/b-GGUF", false, (of("a/b-GGUF"), None, true)),
            (
                Engine::LlamaCpp,
                "https://huggingface.co/a/b/resolve/main/x-q8_0.gguf?download=true",
                false,
                (of("a/b"), Some(Precision::Q80), true),
            ),
            (Engine::LlamaCpp, "https://x.org/x-q8_0.gguf", false, (None, Some(Precision::Q80), true)),
        ] {
            assert_eq!(found(engine, text, is_path), expected, "{text}");
        }
    }
}
