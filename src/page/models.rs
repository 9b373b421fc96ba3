//! From the model that a request names to its shape: what is built in, what was uploaded, and the Hub.

use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::ModelDeploymentSpec;
use crate::api::v1alpha1::{KeyRef, ModelSource};
use crate::model::ModelShape;
use crate::plan::{ResolveError, resolve_pure};
use crate::source::{Settings, SourceError, SourceRef, Sources, Token, token_secret};

use super::problem::Problem;

/// The `configMapRef.name` that stands for what was uploaded; its key says which.
const UPLOADED: &str = "uploaded";
/// The bytes of the uploads that are remembered, as they came.
const MOST_BYTES: usize = 64 << 20;
/// The most uploads that are remembered.
const MOST_UPLOADS: usize = 256;
/// Whose share of the store the page's models take.
const OWNER: &str = "";

/// What came of an upload.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct UploadDocument {
    /// What to write into `spec.model`, here and only until the server forgets it; a config.json is written out, for good.
    model: ModelSource,
    /// The model's architecture.
    architecture: String,
    /// Its parameters.
    parameters: u64,
}

struct Upload {
    key: String,
    bytes: usize,
    shape: Arc<ModelShape>,
}

/// Where models come from.
pub(super) struct Models {
    sources: Arc<Sources>,
    token: Option<Token>,
    /// Whether any address may be read, and not the Hub's alone.
    any_address: bool,
    uploads: Mutex<VecDeque<Upload>>,
    hashers: (RandomState, RandomState),
}

impl Models {
    /// Models of these sources. In public, only the Hub is asked, and without a token.
    pub(super) fn new(settings: Settings, token: Option<Token>, public: bool) -> Result<Self, SourceError> {
        Ok(Self {
            sources: Arc::new(Sources::new(settings)?),
            token: token.filter(|_| !public),
            any_address: !public,
            uploads: Mutex::default(),
            hashers: (RandomState::new(), RandomState::new()),
        })
    }

    /// The shape of a spec's model. It blocks where the Hub is asked.
    pub(super) fn shape(&self, spec: &ModelDeploymentSpec) -> Result<Arc<ModelShape>, Problem> {
        if let Some(key) = &spec.model.config_map_ref {
            return self.uploaded(key);
        }
        if token_secret(&spec.model).is_some() {
            return Err(Problem::of_field(
                "model.huggingFace.tokenSecretRef",
                "it names a Secret of a cluster, which is not read here; leave it out",
            ));
        }
        let text = serde_json::to_vec(&spec.model)
            .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
        if let Some(shape) = self.pure(spec, &text) {
            return shape;
        }
        let source = SourceRef::of(&spec.model, "model", self.token.clone(), None)?;
        if matches!(source, SourceRef::GgufUrl(_)) && !self.any_address {
            return Err(Problem::of_field(
                "model.gguf.url",
                "only addresses of the Hugging Face Hub are read here; upload the file instead: only its header is sent",
            ));
        }
        Ok(self.sources.read(OWNER, &source)?)
    }

    /// The shape of a model that needs nothing but the spec: made once.
    fn pure(&self, spec: &ModelDeploymentSpec, text: &[u8]) -> Option<Result<Arc<ModelShape>, Problem>> {
        let model = &spec.model;
        if model.hugging_face.is_some() || model.gguf.is_some() {
            // It is read; but what is wrong with the reference itself is said now.
            return resolve_pure(spec).map(|refused| refused.map(Arc::new).map_err(Problem::from));
        }
        Some(
            self.sources
                .described(OWNER, "page", text, || match resolve_pure(spec) {
                    Some(shape) => shape.map_err(Unresolved::from),
                    None => Err(Unresolved(Problem::of_field("model", "it has no source"))),
                })
                .map_err(|Unresolved(problem)| problem),
        )
    }

    /// Reads a config.json, or the header of a safetensors or GGUF file, and remembers it for a while.
    pub(super) fn upload(&self, bytes: &[u8], name: &str) -> Result<UploadDocument, Problem> {
        let source = SourceRef::ConfigMap { bytes: bytes.to_vec(), name: name.to_owned() };
        let read = self.sources.read(OWNER, &source);
        let shape = read.map_err(|error| Problem::of_field("model", upload_words(&error)))?;
        let (architecture, parameters) = (shape.architecture.clone(), shape.parameters);
        // A config is small, and can be in the spec and in an address: that outlives this process.
        let config =
            serde_json::from_slice::<serde_json::Value>(bytes).ok().filter(serde_json::Value::is_object);
        let as_config = config.map(|config| ModelSource { config: Some(config), ..ModelSource::default() });
        let is_config = |model: &ModelSource| {
            let spec = ModelDeploymentSpec { model: model.clone(), ..ModelDeploymentSpec::default() };
            matches!(resolve_pure(&spec), Some(Ok(same)) if same.parameters == parameters)
        };
        if let Some(model) = as_config.filter(is_config) {
            return Ok(UploadDocument { model, architecture, parameters });
        }
        let key = self.keep(bytes, shape);
        let model = ModelSource {
            config_map_ref: Some(KeyRef { name: UPLOADED.to_owned(), key }),
            ..ModelSource::default()
        };
        Ok(UploadDocument { model, architecture, parameters })
    }

    fn keep(&self, bytes: &[u8], shape: Arc<ModelShape>) -> String {
        // Nobody can guess another's: the keys of the hashes are this process's own.
        let (first, second) = (self.hashers.0.hash_one(bytes), self.hashers.1.hash_one(bytes));
        let key = format!("{first:016x}{second:016x}");
        let mut uploads = self.uploads.lock().unwrap_or_else(PoisonError::into_inner);
        uploads.retain(|upload| upload.key != key);
        uploads.push_back(Upload { key: key.clone(), bytes: bytes.len(), shape });
        while uploads.len() > MOST_UPLOADS
            || uploads.iter().map(|upload| upload.bytes).sum::<usize>() > MOST_BYTES
        {
            if uploads.pop_front().is_none() {
                break;
            }
        }
        key
    }

    fn uploaded(&self, key: &KeyRef) -> Result<Arc<ModelShape>, Problem> {
        let uploads = self.uploads.lock().unwrap_or_else(PoisonError::into_inner);
        let found = uploads.iter().find(|upload| key.name == UPLOADED && upload.key == key.key);
        found.map(|upload| Arc::clone(&upload.shape)).ok_or_else(|| {
            Problem::of_field(
                "model.configMapRef",
                "the file that was given is no longer remembered: give it again",
            )
        })
    }
}

/// What is wrong with an upload, without the name of the field that it stands for.
fn upload_words(error: &SourceError) -> String {
    match error {
        SourceError::Parse { error, .. } => error.to_string(),
        error => error.to_string(),
    }
}

/// A problem, where the store wants to say its own.
struct Unresolved(Problem);

impl From<SourceError> for Unresolved {
    fn from(error: SourceError) -> Self {
        Self(error.into())
    }
}

impl From<ResolveError> for Unresolved {
    fn from(error: ResolveError) -> Self {
        Self(error.into())
    }
}
