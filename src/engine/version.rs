//! Which version of an engine runs: the spec's word, else the tag of the engine's own image.

use super::tables;
use crate::api::limits;
use crate::api::v1alpha1::EngineSpec;
use crate::estimate::{EngineVersion, default_version};
use crate::precision::Engine;
use crate::refusal::Refusal;
use crate::units::shorten;

/// The version that a spec names, or its image; `None` for the one that Loadline runs by default.
///
/// # Errors
/// A text that is none, a version of another engine, or one that the image contradicts.
pub(crate) fn version(engine: &EngineSpec) -> Result<Option<EngineVersion>, Refusal> {
    let tagged = engine.image.as_deref().filter(|image| is_of(engine.name, image));
    let tagged = tagged.and_then(EngineVersion::of_image).filter(|version| suits(engine.name, *version));
    let Some(text) = engine.version.as_deref() else { return Ok(tagged) };
    let version = text.parse::<EngineVersion>().ok().filter(|_| limits::is_version(text));
    let Some(version) = version else {
        return Err(invalid(engine.name, format!("\"{}\" is no version of an engine", shorten(text))));
    };
    if !suits(engine.name, version) {
        return Err(invalid(engine.name, format!("\"{}\" is no version of {}", shorten(text), engine.name)));
    }
    match tagged.filter(|tagged| *tagged != version) {
        Some(tagged) if !is_date(text) => Err(Refusal::invalid(
            "engine.version",
            format!("{version} contradicts engine.image, whose tag is of {tagged}"),
            "remove one of the two: the image's tag alone is enough",
        )),
        // The image is surer than a day.
        Some(tagged) => Ok(Some(tagged)),
        None => Ok(Some(version)),
    }
}

/// The engine's own image: of the version that the spec names, else of the default.
///
/// # Errors
/// A date, which names no image.
pub(super) fn image(engine: Option<&EngineSpec>, name: Engine) -> Result<Option<String>, Refusal> {
    let Some(own) = tables::of(name).image else { return Ok(None) };
    let Some(text) = engine.and_then(|engine| engine.version.as_deref()) else {
        return Ok(Some(own.to_owned()));
    };
    if is_date(text) {
        return Err(Refusal::invalid(
            "engine.version",
            format!("{} is a date, which names no image", shorten(text)),
            "write the build, such as b10481, or set engine.image",
        ));
    }
    let bare = text.trim_start_matches(['v', 'V', 'b', 'B']);
    // A release in full may be of a kind of its own (`0.5.15.post1`); a shorter one is its first.
    let full = if bare.matches('.').count() >= 2 {
        bare.to_owned()
    } else {
        text.parse::<EngineVersion>().map_or_else(
            |_| bare.to_owned(),
            |version| version.to_string().trim_start_matches('b').to_owned(),
        )
    };
    let default = default_version(name).to_string();
    Ok(Some(own.replace(default.trim_start_matches('b'), &full)))
}

/// Whether an image is the engine's own by its name, wherever it is kept.
fn is_of(engine: Engine, image: &str) -> bool {
    fn last(image: &str) -> &str {
        let image = image.split('@').next().unwrap_or(image);
        let image = image.rsplit('/').next().unwrap_or(image);
        image.split(':').next().unwrap_or(image)
    }
    tables::of(engine).image.is_some_and(|own| last(own) == last(image))
}

/// llama.cpp counts builds, the others releases.
const fn suits(engine: Engine, version: EngineVersion) -> bool {
    match version {
        EngineVersion::Build(_) => matches!(engine, Engine::LlamaCpp),
        EngineVersion::Release(..) => matches!(engine, Engine::Vllm | Engine::Sglang | Engine::Tgi),
    }
}

/// `2026-11-01`.
fn is_date(text: &str) -> bool {
    text.len() == 10 && text.matches('-').count() == 2
}

fn invalid(engine: Engine, problem: String) -> Refusal {
    let remedy = match engine {
        Engine::LlamaCpp => "write a build such as \"b10481\", or its date such as \"2026-11-01\"".to_owned(),
        Engine::Vllm | Engine::Sglang | Engine::Tgi => {
            format!("write a release such as \"{}\"", default_version(engine))
        }
        Engine::Transformers | Engine::None => "leave it out: its versions are not told apart".to_owned(),
    };
    Refusal::invalid("engine.version", problem, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: Engine, image: Option<&str>, version: Option<&str>) -> EngineSpec {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        EngineSpec { name, image: owned(image), version: owned(version), args: None }
    }

    #[test]
    fn the_spec_names_it_or_the_image_does() {
        let vllm =
            |image, said| version(&spec(Engine::Vllm, image, said)).map(|found| found.map(|v| v.to_string()));
        for (image, said, expected) in [
            (None, None, None),
            (None, Some("0.26"), Some("0.26.0")),
            (Some("vllm/vllm-openai:v0.26.0"), None, Some("0.26.0")),
            (Some("mirror.local:5000/cache/vllm-openai:v0.30.1"), None, Some("0.30.1")),
            (Some("vllm/vllm-openai:latest"), Some("v0.30.0"), Some("0.30.0")),
            (Some("vllm/vllm-openai:latest"), None, None),
            (Some("mine/server:v0.26.0"), None, None),
            (Some("mine/server:v9.9.9"), Some("0.26.0"), Some("0.26.0")),
        ] {
            assert_eq!(vllm(image, said), Ok(expected.map(str::to_owned)), "{image:?} {said:?}");
        }
        for (name, image, said, parts) in [
            (Engine::Vllm, None, "latest", ["\"latest\"", "0.19.0"]),
            (Engine::Vllm, None, "b10481", ["no version of vllm", "0.19.0"]),
            (Engine::LlamaCpp, None, "0.19.0", ["no version of llama-cpp", "b10481"]),
            (Engine::None, None, "0.19.0", ["no version of none", "leave it out"]),
            (
                Engine::Vllm,
                Some("vllm/vllm-openai:v0.26.0"),
                "0.19.0",
                ["contradicts engine.image", "0.26.0"],
            ),
        ] {
            let error = version(&spec(name, image, Some(said))).unwrap_err().to_string();
            assert!(error.starts_with("spec.engine.version: "), "{error}");
            assert!(parts.iter().all(|part| error.contains(part)), "{said}: {error}");
        }
    }

    #[test]
    fn the_image_is_that_of_the_version() {
        for (name, said, expected) in [
            (Engine::Vllm, None, "vllm/vllm-openai:v0.19.0"),
            (Engine::Vllm, Some("0.26"), "vllm/vllm-openai:v0.26.0"),
            (Engine::Vllm, Some("v0.14.0rc1"), "vllm/vllm-openai:v0.14.0rc1"),
            (Engine::Sglang, Some("0.5.15.post1"), "lmsysorg/sglang:v0.5.15.post1"),
            (Engine::LlamaCpp, Some("b11000"), "ghcr.io/ggml-org/llama.cpp:server-cuda-b11000"),
            (Engine::LlamaCpp, Some("11000"), "ghcr.io/ggml-org/llama.cpp:server-cuda-b11000"),
            (Engine::Tgi, Some("3.3.6"), "ghcr.io/huggingface/text-generation-inference:3.3.6"),
        ] {
            let found = image(Some(&spec(name, None, said)), name).unwrap();
            assert_eq!(found.as_deref(), Some(expected), "{name} {said:?}");
        }
        assert_eq!(image(None, Engine::Transformers), Ok(None));
        let dated = spec(Engine::LlamaCpp, None, Some("2026-11-01"));
        let error = image(Some(&dated), Engine::LlamaCpp).unwrap_err().to_string();
        assert!(error.contains("names no image"), "{error}");
    }

    /// Whose rules count where nothing is told, that one is run.
    #[test]
    fn every_image_is_of_the_default_version() {
        for &engine in Engine::ALL {
            if let Some(own) = tables::of(engine).image {
                assert_eq!(EngineVersion::of_image(own), Some(default_version(engine)), "{engine}");
            }
        }
    }
}
