//! Where model shapes come from: the Hub, an address, a directory, a ConfigMap, the catalog, a size.
//!
//! This is the shell: it reads files and the network, and gives bytes to the pure parsers of [`crate::model`]. Weights are
//! never read, only what describes them. Nothing here is called by admission.

mod address;
mod cache;
mod configmap;
mod error;
mod file;
mod flight;
mod gguf_files;
mod guard;
mod http;
mod hub;
mod listing;
mod response;
mod settings;
mod weight_files;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::cache::{Cache, Key};
use self::flight::Flights;
use self::http::Client;
use crate::api::limits::is_repository;
use crate::api::v1alpha1::{HuggingFaceRef, KeyRef, ModelSource};
use crate::model::{ModelShape, assumed, catalog, hf_config};
use crate::units::{Parameters, shorten};

pub use error::SourceError;
pub use file::identify;
pub use settings::{DEFAULT_ENDPOINT, Settings, Token};

/// A model, as it is referred to.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceRef {
    /// A size alone.
    Parameters(Parameters),
    /// A model of the built-in catalog.
    Catalog(String),
    /// A `config.json`.
    Config {
        /// Its bytes.
        json: Vec<u8>,
        /// What to call the model.
        name: String,
    },
    /// The content of a ConfigMap's key.
    ConfigMap {
        /// Its bytes.
        bytes: Vec<u8>,
        /// What to call the model.
        name: String,
    },
    /// A directory or file.
    Path(PathBuf),
    /// A model on the Hub.
    HuggingFace {
        /// `organisation/name`.
        repository: String,
        /// A branch, tag or commit; `main` if none is given.
        revision: Option<String>,
        /// For GGUF: the file.
        file: Option<String>,
        /// An access token.
        token: Option<Token>,
    },
    /// A GGUF file at an https address.
    GgufUrl(String),
}

impl SourceRef {
    /// What a spec refers to, with what the cluster holds of it: the token and the ConfigMap's content, where
    /// [`token_secret`] and `configMapRef` name them.
    ///
    /// # Errors
    /// If the spec has no source, or not the ConfigMap that it names. More than one source is the schema's to refuse.
    pub fn of(
        model: &ModelSource,
        name: &str,
        token: Option<Token>,
        config_map: Option<Vec<u8>>,
    ) -> Result<Self, SourceError> {
        let hub = |from: &HuggingFaceRef, token| Self::HuggingFace {
            repository: from.repository.clone(),
            revision: from.revision.clone(),
            file: from.file.clone(),
            token,
        };
        if let Some(from) = &model.hugging_face {
            return Ok(hub(from, token));
        }
        if let Some(from) = &model.gguf {
            return match (&from.hugging_face, &from.url) {
                (Some(from), _) => Ok(hub(from, token)),
                (None, Some(url)) => Ok(Self::GgufUrl(url.clone())),
                (None, None) => {
                    Err(invalid("model.gguf", "it is empty; write url or huggingFace".to_owned()))
                }
            };
        }
        if let Some(config) = &model.config {
            return Ok(Self::Config { json: config.to_string().into_bytes(), name: name.to_owned() });
        }
        if let Some(from) = &model.config_map_ref {
            let bytes = config_map.ok_or_else(|| {
                let (map, key) = (shorten(&from.name), shorten(&from.key));
                invalid(
                    "model.configMapRef",
                    format!("there is no key \"{key}\" in a ConfigMap \"{map}\" of this namespace"),
                )
            })?;
            return Ok(Self::ConfigMap { bytes, name: name.to_owned() });
        }
        if let Some(name) = &model.catalog {
            return Ok(Self::Catalog(name.clone()));
        }
        match &model.parameters {
            Some(parameters) => {
                parameters.parse().map(Self::Parameters).map_err(|error: crate::units::ParametersError| {
                    invalid("model.parameters", error.to_string())
                })
            }
            None => Err(invalid(
                "model",
                "it has no source; write one of parameters, huggingFace, gguf, config, configMapRef, catalog"
                    .to_owned(),
            )),
        }
    }

    /// Whether reading it may take a network.
    #[must_use]
    pub const fn needs_network(&self) -> bool {
        matches!(self, Self::HuggingFace { .. } | Self::GgufUrl(_))
    }
}

/// The Secret that a spec's token is in, if it names one.
#[must_use]
pub fn token_secret(model: &ModelSource) -> Option<&KeyRef> {
    let hub = model.hugging_face.as_ref().or_else(|| model.gguf.as_ref()?.hugging_face.as_ref());
    hub?.token_secret_ref.as_ref()
}

/// Resolves references to shapes, and remembers what the network said.
pub struct Sources {
    client: Client,
    settings: Arc<Settings>,
    cache: Cache,
    flights: Flights,
}

impl Sources {
    /// Sources with these settings.
    ///
    /// # Errors
    /// If the endpoint is not an address.
    pub fn new(settings: Settings) -> Result<Self, SourceError> {
        let endpoint = settings.endpoint.trim_end_matches('/').to_owned();
        let settings = Arc::new(Settings { endpoint, ..settings });
        let client = Client::new(Arc::clone(&settings))?;
        let cache = Cache::new(settings.cache_entries);
        Ok(Self { client, settings, cache, flights: Flights::default() })
    }

    /// Resolves a reference. It blocks: from async code use [`Sources::resolve_async`].
    ///
    /// # Errors
    /// See [`SourceError`].
    pub fn resolve(&self, source: &SourceRef) -> Result<Arc<ModelShape>, SourceError> {
        match source {
            SourceRef::Parameters(parameters) => Ok(Arc::new(assumed::shape(*parameters))),
            SourceRef::Catalog(name) => catalog::shape(name).map(Arc::new).ok_or_else(|| {
                invalid(
                    "model.catalog",
                    format!("\"{}\" is not in the catalog; {}", shorten(name), catalog::remedy(name)),
                )
            }),
            SourceRef::Config { json, name } => hf_config::parse(json, name)
                .map(Arc::new)
                .map_err(|error| SourceError::Parse { of: "model.config".to_owned(), error }),
            SourceRef::ConfigMap { bytes, name } => configmap::read(bytes, "ConfigMap key", name)
                .map(Arc::new)
                .map_err(|error| SourceError::Parse { of: "model.configMapRef".to_owned(), error }),
            SourceRef::Path(path) => file::read(path).map(Arc::new),
            SourceRef::HuggingFace { repository, revision, file, token } => {
                self.hub(repository, revision.as_deref().unwrap_or("main"), file.as_deref(), token.as_ref())
            }
            SourceRef::GgufUrl(url) => self.url(url),
        }
    }

    /// Resolves a reference on a thread where it may block.
    ///
    /// # Errors
    /// See [`SourceError`].
    pub async fn resolve_async(self: &Arc<Self>, source: SourceRef) -> Result<Arc<ModelShape>, SourceError> {
        if !source.needs_network() && !matches!(source, SourceRef::Path(_)) {
            return self.resolve(&source);
        }
        let sources = Arc::clone(self);
        tokio::task::spawn_blocking(move || sources.resolve(&source)).await.unwrap_or_else(|_| {
            Err(SourceError::Network {
                of: "model".to_owned(),
                endpoint: "this process".to_owned(),
                problem: "it is shutting down".to_owned(),
            })
        })
    }

    /// What is already known of a reference, without a network and without waiting: for the catalog, a size, a config, and
    /// what was resolved before. `None` is not known.
    #[must_use]
    pub fn known(&self, source: &SourceRef) -> Option<Result<Arc<ModelShape>, SourceError>> {
        match source {
            SourceRef::HuggingFace { repository, revision, file, token } => {
                let revision = revision.as_deref().unwrap_or("main");
                let key = self.key(repository, revision, file.as_deref(), token.as_ref());
                self.cache.get(&key, Instant::now())
            }
            SourceRef::GgufUrl(url) => self.cache.get(&self.key(url, "", None, None), Instant::now()),
            SourceRef::Path(_) => None,
            source => Some(self.resolve(source)),
        }
    }

    fn hub(
        &self,
        repository: &str,
        revision: &str,
        file: Option<&str>,
        token: Option<&Token>,
    ) -> Result<Arc<ModelShape>, SourceError> {
        check_repository(repository)?;
        check_part("model.huggingFace.revision", revision)?;
        if let Some(file) = file {
            check_part("model.huggingFace.file", file)?;
        }
        if self.settings.offline {
            // The catalog knows many repositories by name.
            let known = if file.is_none() { catalog::shape(repository) } else { None };
            return known.map(Arc::new).ok_or_else(|| SourceError::Offline { of: repository.to_owned() });
        }
        let key = self.key(repository, revision, file, token);
        if let Some(outcome) = self.cache.get(&key, Instant::now()) {
            return outcome;
        }
        self.flights.once(&key, || self.read_hub(&key, repository, revision, file, token))
    }

    /// Reads a model of the Hub, and remembers the outcome.
    fn read_hub(
        &self,
        key: &Key,
        repository: &str,
        revision: &str,
        file: Option<&str>,
        token: Option<&Token>,
    ) -> Result<Arc<ModelShape>, SourceError> {
        // Another may have done it just now.
        if let Some(outcome) = self.cache.get(key, Instant::now()) {
            return outcome;
        }
        let model = hub::Model {
            client: &self.client,
            endpoint: &self.settings.endpoint,
            repository,
            revision,
            file,
            token,
            deadline: self.deadline(),
        };
        let outcome = model.open().and_then(|opened| {
            let Some(commit) = opened.commit.clone() else { return model.read(opened).map(Arc::new) };
            let at_commit = Key { revision: commit, ..key.clone() };
            if let Some(outcome) = self.cache.get(&at_commit, Instant::now()) {
                return outcome;
            }
            let shape = model.read(opened).map(Arc::new)?;
            self.cache.put(at_commit, Ok(Arc::clone(&shape)), None, Instant::now());
            Ok(shape)
        });
        let lasts = match &outcome {
            Ok(_) if hub::is_commit(revision) => None,
            Ok(_) => Some(self.settings.fresh_for),
            Err(error) => Some(self.failure_lasts(error)),
        };
        self.cache.put(key.clone(), outcome.clone(), lasts, Instant::now());
        outcome
    }

    fn url(&self, url: &str) -> Result<Arc<ModelShape>, SourceError> {
        if !url.starts_with("https://") && !url.starts_with(&format!("{}/", self.settings.endpoint)) {
            return Err(invalid("model.gguf.url", format!("\"{}\" must begin with https://", shorten(url))));
        }
        let authority =
            url.split("://").nth(1).and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
        if authority.contains('@') {
            // It is not repeated: it would be in a status that many can read.
            return Err(invalid("model.gguf.url", "it must not have a user or password in it".to_owned()));
        }
        if self.settings.offline {
            return Err(SourceError::Offline { of: shorten(url) });
        }
        let key = self.key(url, "", None, None);
        if let Some(outcome) = self.cache.get(&key, Instant::now()) {
            return outcome;
        }
        self.flights.once(&key, || {
            if let Some(outcome) = self.cache.get(&key, Instant::now()) {
                return outcome;
            }
            let outcome = hub::read_url(&self.client, url, self.deadline()).map(Arc::new);
            let lasts = match &outcome {
                Ok(_) => self.settings.fresh_for,
                Err(error) => self.failure_lasts(error),
            };
            self.cache.put(key.clone(), outcome.clone(), Some(lasts), Instant::now());
            outcome
        })
    }

    /// When a model must have been read.
    fn deadline(&self) -> Instant {
        let now = Instant::now();
        now.checked_add(self.settings.total_timeout).unwrap_or(now + Duration::from_hours(24))
    }

    fn failure_lasts(&self, error: &SourceError) -> Duration {
        match error {
            SourceError::RateLimited { retry_after: Some(wait), .. } => (*wait).min(Duration::from_hours(1)),
            _ => self.settings.failures_for,
        }
    }

    fn key(&self, of: &str, revision: &str, file: Option<&str>, token: Option<&Token>) -> Key {
        Key {
            of: of.to_owned(),
            revision: revision.to_owned(),
            file: file.unwrap_or_default().to_owned(),
            token: self.cache.fingerprint(token),
        }
    }
}

/// Checks that a repository is `organisation/name`, as the schema does.
fn check_repository(repository: &str) -> Result<(), SourceError> {
    if is_repository(repository) {
        return Ok(());
    }
    Err(invalid(
        "model.huggingFace.repository",
        format!(
            "\"{}\" must be organisation/name, such as meta-llama/Llama-3.1-8B-Instruct",
            shorten(repository)
        ),
    ))
}

/// Checks a revision or file: no part of it may lead out of the repository.
fn check_part(field: &'static str, value: &str) -> Result<(), SourceError> {
    let sound = !value.is_empty()
        && value.len() <= 500
        && !value.chars().any(char::is_control)
        && value.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    if sound {
        return Ok(());
    }
    Err(invalid(field, format!("\"{}\" must be a name without empty parts, . or ..", shorten(value))))
}

fn invalid(field: &'static str, problem: String) -> SourceError {
    SourceError::Invalid { field, problem }
}
