//! Where the engines' own images are kept, in a cluster that does not pull them from their own registries.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde_json::Value;

use super::Pods;
use crate::api::ModelDeploymentSpec;
use crate::precision::Engine;
use crate::units::shorten;

/// Where the engines' own images are kept. By default where their makers keep them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Images {
    /// A registry, or a path in one, in place of the makers'.
    pub registry: Option<String>,
    /// Repositories in place of the makers', without a tag, by engine; they win over the registry.
    pub repositories: BTreeMap<&'static str, String>,
}

/// The repository of one engine: `vllm=registry.example/ai/vllm`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// Whose.
    pub engine: Engine,
    /// Its name, without a tag.
    pub name: String,
}

impl FromStr for Repository {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let such_as = "write one such as vllm=registry.example/ai/vllm";
        let (engine, name) =
            text.split_once('=').ok_or_else(|| format!("there is no \"=\" in it; {such_as}"))?;
        let engine = engine.parse::<Engine>().map_err(|error| error.to_string())?;
        let last = name.rsplit('/').next().unwrap_or(name);
        if !is_path(name) || last.contains([':', '@']) {
            return Err(format!(
                "\"{}\" is no repository without a tag: the tag is that of the engine's version; {such_as}",
                shorten(name)
            ));
        }
        Ok(Self { engine, name: name.to_owned() })
    }
}

/// A registry, or a path in one, without a scheme.
///
/// # Errors
/// What would be right, for a text that is none.
pub fn registry(text: &str) -> Result<String, String> {
    let name = text.trim_end_matches('/');
    if is_path(name) {
        return Ok(name.to_owned());
    }
    Err("it is no registry; write one such as registry.example/mirror, without a scheme".to_owned())
}

fn is_path(text: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-:@".contains(c))
    };
    text.split('/').all(is_part)
}

impl Images {
    /// The image of an engine as it is kept here, of the one as its makers keep it.
    #[must_use]
    pub fn of(&self, engine: Engine, own: &str) -> String {
        let path = own.split_once('/').map_or(own, |(first, rest)| {
            let is_host = first.contains(['.', ':']) || first == "localhost";
            if is_host { rest } else { own }
        });
        if let Some(repository) = self.repositories.get(engine.as_str()) {
            let last = path.rsplit('/').next().unwrap_or(path);
            let tag = last.find([':', '@']).map_or("", |at| last.get(at..).unwrap_or_default());
            return format!("{repository}{tag}");
        }
        match &self.registry {
            Some(registry) => format!("{registry}/{path}"),
            None => own.to_owned(),
        }
    }

    /// Lets pods that are made anew pull the engine's own image from where it is kept. Images that a spec names stay.
    pub fn relocate(&self, spec: &ModelDeploymentSpec, pods: &mut Pods) {
        let engine = spec.engine.as_ref().map_or(Engine::Vllm, |engine| engine.name);
        let is_named = spec.engine.as_ref().is_some_and(|engine| engine.image.is_some());
        let containers = |template: &Value| template.pointer("/spec/containers").cloned();
        let brought = spec.template.as_ref().and_then(containers);
        let names = |name: &Value, image: &Value| {
            let brought = brought.as_ref().and_then(Value::as_array);
            brought.into_iter().flatten().any(|one| one["name"] == *name && one["image"] == *image)
        };
        if is_named || *self == Self::default() {
            return;
        }
        let found = pods.template.pointer_mut("/spec/containers").and_then(Value::as_array_mut);
        for container in found.into_iter().flatten() {
            if names(&container["name"], &container["image"]) {
                continue;
            }
            if let Some(image) = container.get("image").and_then(Value::as_str) {
                container["image"] = self.of(engine, image).into();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::launch::Demand;

    fn images(registry: Option<&str>, repositories: &[&str]) -> Images {
        let read = |text: &&str| {
            let Repository { engine, name } = text.parse().unwrap();
            (engine.as_str(), name)
        };
        Images {
            registry: registry.map(str::to_owned),
            repositories: repositories.iter().map(read).collect(),
        }
    }

    #[test]
    fn the_registry_takes_the_place_of_the_makers() {
        let mirror = images(Some("r.example/m"), &["vllm=r.example:5000/ai/vllm"]);
        for (engine, own, expect) in [
            (Engine::Sglang, "lmsysorg/sglang:v0.5.15", "r.example/m/lmsysorg/sglang:v0.5.15"),
            (Engine::LlamaCpp, "ghcr.io/ggml-org/llama.cpp:server", "r.example/m/ggml-org/llama.cpp:server"),
            (Engine::Vllm, "vllm/vllm-openai:v0.30.0", "r.example:5000/ai/vllm:v0.30.0"),
        ] {
            assert_eq!(mirror.of(engine, own), expect);
            assert_eq!(Images::default().of(engine, own), own);
        }
    }

    #[test]
    fn what_a_spec_names_stays() {
        let mirror = images(Some("r.example"), &[]);
        let relocated = |spec: &Value| {
            let spec: ModelDeploymentSpec = serde_json::from_value(spec.clone()).unwrap();
            let template = json!({"spec": {"containers": [
                {"name": "model", "image": "vllm/vllm-openai:v1"}, {"name": "proxy", "image": "envoy:1"}]}});
            let demand = Demand { resource: "nvidia.com/gpu".to_owned(), gpus: 1, per_gpu: 1, tensor: 1 };
            let mut pods = Pods { template, demand };
            mirror.relocate(&spec, &mut pods);
            let of = |at: usize| pods.template["spec"]["containers"][at]["image"].clone();
            [of(0), of(1)]
        };
        let sidecar = json!({"model": {"parameters": "8B"}, "engine": {"name": "vllm"},
            "template": {"spec": {"containers": [{"name": "model"}, {"name": "proxy", "image": "envoy:1"}]}}});
        assert_eq!(relocated(&sidecar), ["r.example/vllm/vllm-openai:v1", "envoy:1"]);
        let named = json!({"model": {"parameters": "8B"}, "engine": {"name": "vllm", "image": "vllm/vllm-openai:v1"}});
        assert_eq!(relocated(&named), ["vllm/vllm-openai:v1", "envoy:1"]);
    }

    #[test]
    fn what_is_no_repository_is_refused() {
        for (text, expect) in [
            ("vllm", "there is no \"=\""),
            ("vlm=a/b", "engine"),
            ("vllm=a/b:v1", "without a tag"),
            ("vllm=", "without a tag"),
            ("vllm=https://a/b", "without a tag"),
        ] {
            let error = text.parse::<Repository>().unwrap_err();
            assert!(error.contains(expect), "{text}: {error}");
        }
        assert_eq!(registry("r.example/m/"), Ok("r.example/m".to_owned()));
        assert!(registry("https://r.example").is_err() && registry("").is_err());
    }
}
