//! From facts to what is planned: the spec that says the same, and the GPUs that the pods take as they are written.

use serde_json::{Value, json};

use super::facts::Facts;
use super::gpus;
use super::model::Model;
use super::start::Program;
use crate::api::ModelDeploymentSpec;
use crate::engine::model_flag;
use crate::model::catalog;
use crate::precision::{Engine, Precision};

/// What the pods of a workload take, as its author wrote them: they are planned as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// GPUs of each pod.
    pub gpus: u64,
    /// The resource that they are of.
    pub resource: String,
    /// Whether the ranks of one copy are in several pods.
    pub is_group: bool,
}

/// What is planned for a workload.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// The spec that says the same.
    pub spec: ModelDeploymentSpec,
    /// What its pods take.
    pub taken: Taken,
}

impl Facts {
    /// What is planned; `None` where not enough is known.
    #[must_use]
    pub fn ask(&self) -> Option<Ask> {
        if !self.is_readable() {
            return None;
        }
        let engine = match self.program? {
            Program::Engine(engine) => engine,
            Program::HuggingFaceServer => Engine::Vllm,
            Program::Training(_) | Program::Other(_) => return None,
        };
        let (gpus, resource) = (self.gpus.per_pod()?, self.gpus.resource()?.to_owned());
        let (model, precision, named) = self.source(engine)?;
        let mut arguments = self.arguments.clone();
        arguments.extend(named);
        // Without a word of it these divide a model among all the GPUs that they see.
        let untold = self.tensor.is_none() && self.pipeline.is_none();
        let tensor = self.tensor.or_else(|| (untold && engine == Engine::Tgi).then_some(gpus));
        let pipeline = self.pipeline.or_else(|| (untold && engine == Engine::LlamaCpp).then_some(gpus));
        let sharing = resource.ends_with(".shared").then_some("Shared");
        let spec = json!({
            "model": model,
            "precision": precision,
            "context": {"length": self.context, "cachePrecision": self.cache},
            "parallelism": {"tensor": tensor, "pipeline": pipeline, "data": self.data},
            "engine": {"name": engine, "image": self.image, "args": arguments},
            "placement": {"sharing": sharing},
            "replicas": self.replicas.unwrap_or(1),
            "template": gpus::template(&self.pod),
        });
        let spec = serde_json::from_value(without_nulls(spec)).ok()?;
        Some(Ask { spec, taken: Taken { gpus, resource, is_group: self.is_group } })
    }

    /// The spec's model, the precision that it must have, and arguments that name the weights where the spec's model is not
    /// where they are.
    fn source(&self, engine: Engine) -> Option<(Value, Option<Precision>, Vec<String>)> {
        match &self.model {
            Model::Repository { repository, revision } => {
                if let Some(entry) = catalog::of_repository(repository) {
                    return Some((json!({"catalog": entry.name}), None, vec![]));
                }
                let held = catalog::checkpoints()
                    .iter()
                    .find(|known| known.repository.eq_ignore_ascii_case(repository));
                if let Some((held, entry)) = held.and_then(|held| Some((held, catalog::find(held.base)?))) {
                    let named = vec![model_flag(engine)?.to_owned(), repository.clone()];
                    return Some((json!({"catalog": entry.name}), Some(held.precision), named));
                }
                let old = catalog::find(repository).filter(|_| !repository.contains('/'));
                Some(match old {
                    Some(entry) => (json!({"catalog": entry.name}), None, vec![]),
                    None => (
                        json!({"huggingFace": {"repository": repository, "revision": revision}}),
                        None,
                        vec![],
                    ),
                })
            }
            // Whose model is in such a repository its name says, and the catalog knows that one; else the file is read.
            Model::Gguf { repository, file, revision } => {
                let name = repository.rsplit('/').next()?;
                let plain = name.strip_suffix("-GGUF").or_else(|| name.strip_suffix("-gguf"));
                let known = plain.and_then(catalog::find).filter(|_| self.precision.is_some());
                let named = || Some(vec![model_flag(engine)?.to_owned(), repository.clone()]);
                match (known, file) {
                    (Some(entry), _) => Some((json!({"catalog": entry.name}), self.precision, named()?)),
                    (None, Some(file)) => {
                        let reference = json!({"repository": repository, "file": file, "revision": revision});
                        Some((json!({"gguf": {"huggingFace": reference}}), None, vec![]))
                    }
                    (None, None) => None,
                }
            }
            Model::Url(url) => Some((json!({"gguf": {"url": url}}), None, vec![])),
            Model::Path(_) | Model::Unknown(_) => None,
        }
    }
}

/// What is unsaid is left out.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| if key == "template" { (key, value) } else { (key, without_nulls(value)) })
            .collect(),
        other => other,
    }
}
