//! Where model shapes come from: the Hub, an address, a directory, a ConfigMap, the catalog, a size; and the one store
//! that keeps them.
//!
//! This is the shell: it reads files and the network, and gives bytes to the pure parsers of [`crate::model`]. Weights are
//! never read, only what describes them. Nothing here is called by admission but what is [known](Sources::known).

mod address;
mod configmap;
mod error;
mod exchange;
mod file;
mod flight;
mod gguf_files;
mod guard;
mod http;
mod hub;
mod in_flight;
mod listing;
mod response;
mod retry;
mod settings;
mod store;
mod weight_files;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::flight::Flights;
use self::http::Client;
use self::in_flight::InFlight;
use self::store::{Content, Key, Outcome, Store};
use crate::api::limits::is_repository;
use crate::api::v1alpha1::{HuggingFaceRef, KeyRef, ModelSource};
use crate::model::{ModelShape, assumed, catalog, hf_config};
use crate::units::{Parameters, shorten};

pub use error::SourceError;
pub use file::identify;
pub use retry::again;
pub use settings::{DEFAULT_ENDPOINT, Settings, Token};
pub use store::Fill;

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

    /// Whether it stands for the same content for ever: a commit does, a branch or an address does not.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        match self {
            Self::HuggingFace { revision, .. } => revision.as_deref().is_some_and(hub::is_commit),
            Self::GgufUrl(_) | Self::Path(_) => false,
            Self::Parameters(_) | Self::Catalog(_) | Self::Config { .. } | Self::ConfigMap { .. } => true,
        }
    }

    /// The same reference, with another access token or none.
    #[must_use]
    pub fn with_token(self, token: Option<Token>) -> Self {
        match self {
            Self::HuggingFace { repository, revision, file, .. } => {
                Self::HuggingFace { repository, revision, file, token }
            }
            other => other,
        }
    }
}

impl fmt::Display for SourceRef {
    /// The repository, address or whatever it is; never the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parameters(parameters) => write!(f, "{parameters}"),
            Self::Catalog(name) | Self::Config { name, .. } | Self::ConfigMap { name, .. } => {
                f.write_str(&shorten(name))
            }
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::HuggingFace { repository, .. } => f.write_str(&shorten(repository)),
            Self::GgufUrl(url) => f.write_str(&shorten(url.split(['?', '#']).next().unwrap_or(url))),
        }
    }
}

/// The Secret that a spec's token is in, if it names one.
#[must_use]
pub fn token_secret(model: &ModelSource) -> Option<&KeyRef> {
    let hub = model.hugging_face.as_ref().or_else(|| model.gguf.as_ref()?.hugging_face.as_ref());
    hub?.token_secret_ref.as_ref()
}

/// Resolves references to shapes, and remembers what was found.
///
/// Whoever asks says for which namespace: each has its share of the memory, and its turn.
pub struct Sources {
    client: Client,
    settings: Arc<Settings>,
    store: Store,
    flights: Flights,
    in_flight: InFlight,
}

/// The namespace of a process that serves one user.
const OWN: &str = "";

impl Sources {
    /// Sources with these settings.
    ///
    /// # Errors
    /// If the endpoint is not an address.
    pub fn new(settings: Settings) -> Result<Self, SourceError> {
        let endpoint = settings.endpoint.trim_end_matches('/').to_owned();
        let settings = Arc::new(Settings { endpoint, ..settings });
        let client = Client::new(Arc::clone(&settings))?;
        let store = Store::new(settings.store_bytes, settings.store_share);
        Ok(Self { client, settings, store, flights: Flights::default(), in_flight: InFlight::default() })
    }

    /// Resolves a reference, for the one user of this process. It blocks.
    ///
    /// # Errors
    /// See [`SourceError`].
    pub fn resolve(&self, source: &SourceRef) -> Outcome {
        self.read(OWN, source)
    }

    /// Resolves a reference for a namespace. It blocks: from async code use [`Sources::read_async`].
    ///
    /// # Errors
    /// See [`SourceError`].
    pub fn read(&self, namespace: &str, source: &SourceRef) -> Outcome {
        match source {
            SourceRef::Parameters(parameters) => {
                let content = self.store.bytes("parameters", "", &parameters.0.to_le_bytes());
                self.keep(namespace, content, || Ok(assumed::shape(*parameters)))
            }
            SourceRef::Catalog(name) => {
                self.keep(namespace, self.store.bytes("catalog", "", name.as_bytes()), || {
                    catalog::shape(name).ok_or_else(|| {
                        invalid(
                            "model.catalog",
                            format!("\"{}\" is not in the catalog; {}", shorten(name), catalog::remedy(name)),
                        )
                    })
                })
            }
            SourceRef::Config { json, name } => {
                self.keep(namespace, self.store.bytes("config", name, json), || {
                    hf_config::parse(json, name)
                        .map_err(|error| SourceError::Parse { of: "model.config".to_owned(), error })
                })
            }
            SourceRef::ConfigMap { bytes, name } => {
                self.keep(namespace, self.store.bytes("ConfigMap", name, bytes), || {
                    configmap::read(bytes, "ConfigMap key", name)
                        .map_err(|error| SourceError::Parse { of: "model.configMapRef".to_owned(), error })
                })
            }
            SourceRef::Path(path) => file::read(path).map(Arc::new),
            SourceRef::HuggingFace { repository, revision, file, token } => {
                let revision = revision.as_deref().unwrap_or("main");
                self.hub(namespace, repository, revision, file.as_deref(), token.as_ref())
            }
            SourceRef::GgufUrl(url) => self.url(namespace, url),
        }
    }

    /// Resolves a reference on a thread where it may block.
    ///
    /// # Errors
    /// See [`SourceError`]; a panic is one too.
    pub async fn read_async(self: &Arc<Self>, namespace: &str, source: SourceRef) -> Outcome {
        let (sources, namespace) = (Arc::clone(self), namespace.to_owned());
        let of = source.to_string();
        tokio::task::spawn_blocking(move || sources.read(&namespace, &source))
            .await
            .unwrap_or_else(|error| Err(SourceError::Broken { of, problem: error.to_string() }))
    }

    /// What is already known of a reference, without a network and without waiting: for the catalog, a size, a config, and
    /// what was resolved before. `None` is not known.
    #[must_use]
    pub fn known(&self, namespace: &str, source: &SourceRef) -> Option<Outcome> {
        match source {
            SourceRef::HuggingFace { repository, revision, file, token } => {
                let revision = revision.as_deref().unwrap_or("main");
                let key = self.key(repository, revision, file.as_deref(), token.as_ref());
                self.store.named(namespace, &key, Instant::now())
            }
            SourceRef::GgufUrl(url) => {
                self.store.named(namespace, &self.key(url, "", None, None), Instant::now())
            }
            SourceRef::Path(_) => None,
            source => Some(self.read(namespace, source)),
        }
    }

    /// The shape of a model that a text describes by itself, made unless it is there: whoever describes the same gets
    /// the same. `kind` says what the text is.
    ///
    /// # Errors
    /// What `make` says, or [`SourceError::StoreFull`] as it makes it.
    pub fn described<E: From<SourceError>>(
        &self,
        namespace: &str,
        kind: &str,
        text: &[u8],
        make: impl FnOnce() -> Result<ModelShape, E>,
    ) -> Result<Arc<ModelShape>, E> {
        self.keep(namespace, self.store.bytes(kind, "", text), make)
    }

    /// For how long what was found of a reference is taken for current; for ever if there is no end to it.
    #[must_use]
    pub fn lasts(&self, source: &SourceRef) -> Option<Duration> {
        (!source.is_pinned()).then_some(self.settings.fresh_for)
    }

    /// How full the store is.
    #[must_use]
    pub fn fill(&self) -> Fill {
        self.store.fill()
    }

    fn keep<E: From<SourceError>>(
        &self,
        namespace: &str,
        content: Content,
        make: impl FnOnce() -> Result<ModelShape, E>,
    ) -> Result<Arc<ModelShape>, E> {
        if let Some(shape) = self.store.get(namespace, &content) {
            return Ok(shape);
        }
        self.store.put(namespace, content, make()?).map_err(E::from)
    }

    fn hub(
        &self,
        namespace: &str,
        repository: &str,
        revision: &str,
        file: Option<&str>,
        token: Option<&Token>,
    ) -> Outcome {
        check_repository(repository)?;
        check_part("model.huggingFace.revision", revision)?;
        if let Some(file) = file {
            check_part("model.huggingFace.file", file)?;
        }
        if self.settings.offline {
            // The catalog knows many repositories by name.
            let known = || if file.is_none() { catalog::shape(repository) } else { None };
            let offline = || SourceError::Offline { of: repository.to_owned() };
            let content = self.store.bytes("catalog", "", repository.as_bytes());
            return self.keep(namespace, content, || known().ok_or_else(offline));
        }
        let key = self.key(repository, revision, file, token);
        let read = |deadline| {
            let meter = self.in_flight.meter(namespace, deadline);
            let model = hub::Model {
                client: &self.client,
                endpoint: &self.settings.endpoint,
                repository,
                revision,
                file,
                token,
                deadline,
                meter: &meter,
            };
            let opened = model.open()?;
            let Some(commit) = opened.commit.clone() else {
                // Nothing says whether it is the same as before.
                let content = Content::Unversioned(key.clone());
                let shape = model.read(opened)?;
                return self.store.replace(namespace, content.clone(), shape).map(|shape| (content, shape));
            };
            let content = Content::Commit(Key { revision: commit, ..key.clone() });
            let shape = self.keep(namespace, content.clone(), || model.read(opened))?;
            Ok((content, shape))
        };
        self.once(namespace, &key, hub::is_commit(revision), read)
    }

    fn url(&self, namespace: &str, url: &str) -> Outcome {
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
        let read = |deadline| {
            let meter = self.in_flight.meter(namespace, deadline);
            let file = hub::File::new(&self.client, url, deadline, &meter);
            let first = file.open()?;
            let Some(etag) = first.etag().map(str::to_owned) else {
                let content = Content::Unversioned(key.clone());
                let shape = file.read(first)?;
                return self.store.replace(namespace, content.clone(), shape).map(|shape| (content, shape));
            };
            let content = Content::Address(key.clone(), etag);
            let shape = self.keep(namespace, content.clone(), || file.read(first))?;
            Ok((content, shape))
        };
        self.once(namespace, &key, false, read)
    }

    /// Reads what a key stands for, unless it is known or being read, and remembers the outcome.
    fn once(
        &self,
        namespace: &str,
        key: &Key,
        is_pinned: bool,
        read: impl Fn(Instant) -> Result<(Content, Arc<ModelShape>), SourceError>,
    ) -> Outcome {
        if let Some(outcome) = self.store.named(namespace, key, Instant::now()) {
            return outcome;
        }
        self.flights.once(key, || {
            // Another may have done it just now.
            if let Some(outcome) = self.store.named(namespace, key, Instant::now()) {
                return outcome;
            }
            let (named, outcome) = match read(self.deadline()) {
                Ok((content, shape)) => (Ok(content), Ok(shape)),
                Err(error) => (Err(error.clone()), Err(error)),
            };
            let lasts = match &named {
                Ok(_) if is_pinned => None,
                Ok(_) => Some(self.settings.fresh_for),
                // They are about who asks, and at what moment.
                Err(SourceError::StoreFull { .. } | SourceError::Busy { .. }) => return outcome,
                Err(error) => Some(self.failure_lasts(error)),
            };
            self.store.name(namespace, key.clone(), named, lasts, Instant::now());
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
            token: self.store.fingerprint(token),
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
