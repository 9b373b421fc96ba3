//! Reads models from afar, beside whatever asks for them: a slow Hub holds up no other object, and a namespace whose
//! addresses never end holds up no other namespace.
//!
//! Invariant: what was last found of a model stands until something newer is: a status does not flip because a branch is
//! looked up again, because a token was rotated, or because the Hub is out of order for a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use super::Key;
use super::turns::Turns;
use crate::api::v1alpha1::KeyRef;
use crate::model::ModelShape;
use crate::source::{self, SourceError, SourceRef, Sources, Token};
use crate::telemetry::Metrics;

/// Models that are read at the same time: each holds a thread, and the Hub limits requests.
const AT_ONCE: usize = 16;
/// Those of one namespace.
const AT_ONCE_OF_ONE: usize = 4;
/// The longest wait for a Secret that is not there: its server is near, and whoever creates it waits.
const LONGEST_FOR_SECRET: Duration = Duration::from_mins(5);

/// What is asked for: a reference without a token, and where the token is.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// The reference.
    pub source: SourceRef,
    /// The key of a Secret that holds the token, if one is needed.
    pub secret: Option<KeyRef>,
}

/// Why a model was not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// Where it comes from does not give it.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The Secret holds no token for it: what is wrong with it, beginning with the field.
    #[error("{0}")]
    Secret(String),
    /// The Secret could not be read just now.
    #[error("{0}")]
    Unreachable(String),
}

impl Unread {
    /// Whether it may pass by itself, and so says nothing against what was found before.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Source(error) => error.is_transient(),
            Self::Secret(_) => false,
            Self::Unreachable(_) => true,
        }
    }
}

/// What was found of a model.
pub type Found = Result<Arc<ModelShape>, Unread>;

/// What is known of an object's model.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// What was last found.
    pub found: Found,
    /// When to ask again; `None` if only another spec can change it.
    pub again: Option<Duration>,
}

/// Gets access tokens. It is asked only when a model is read.
pub trait Tokens: Send + Sync {
    /// The token in a Secret of a namespace.
    fn token(&self, namespace: &str, reference: &KeyRef) -> BoxFuture<'static, Result<Token, Unread>>;
}

/// Reads models, and tells whose was read.
pub struct Models {
    reader: Arc<Reader>,
    state: Arc<Mutex<State>>,
    told: mpsc::UnboundedSender<Key>,
    metrics: Arc<Metrics>,
}

/// What it takes to read one.
struct Reader {
    sources: Arc<Sources>,
    tokens: Box<dyn Tokens>,
    turns: Turns,
}

#[derive(Default)]
struct State {
    last: HashMap<Key, Last>,
    busy: HashMap<Key, (Wanted, Standing)>,
}

/// What was last found for an object.
struct Last {
    wanted: Wanted,
    found: Found,
    /// Until when it is not to be looked up again; for ever if nothing can change it.
    until: Option<Instant>,
    /// How often it could not be read, since it last could.
    failures: u32,
}

/// Who waits for a read that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// The object, if there is news.
    Awaited,
    /// The object, whatever is found: it has another model by now, whose read is to begin after this one.
    Overtaken,
    /// Nobody: the object is gone.
    Forgotten,
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // Every change is one insertion or removal: a panic elsewhere leaves nothing half done.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_same(a: &Found, b: &Found) -> bool {
    matches!((a, b), (Ok(a), Ok(b)) if Arc::ptr_eq(a, b)) || a == b
}

impl State {
    /// What is known of a model, current or not.
    fn known(&self, key: &Key, wanted: &Wanted, now: Instant) -> Option<Known> {
        let last = self.last.get(key).filter(|last| last.wanted.source == wanted.source)?;
        let again = last.until.map(|until| until.saturating_duration_since(now));
        Some(Known { found: last.found.clone(), again })
    }

    /// Whether what is known needs no new look.
    fn is_current(&self, key: &Key, wanted: &Wanted, now: Instant) -> bool {
        let last = self.last.get(key).filter(|last| last.wanted == *wanted);
        last.is_some_and(|last| last.until.is_none_or(|until| until > now))
    }

    /// Notes that a read is wanted; whether it is to begin now. There is one at a time for an object.
    fn begin(&mut self, key: &Key, wanted: &Wanted) -> bool {
        if let Some((reading, standing)) = self.busy.get_mut(key) {
            if reading != wanted || *standing == Standing::Forgotten {
                *standing = Standing::Overtaken;
            }
            return false;
        }
        self.busy.insert(key.clone(), (wanted.clone(), Standing::Awaited));
        true
    }

    /// Takes in what a read has found; whether the object is to be told.
    fn end(&mut self, key: &Key, wanted: &Wanted, found: Found, fresh_for: Option<Duration>) -> bool {
        match self.busy.remove(key) {
            Some((_, Standing::Forgotten)) => false,
            Some((_, Standing::Overtaken)) => {
                self.take(key, wanted, found, fresh_for, Instant::now());
                true
            }
            Some((_, Standing::Awaited)) | None => self.take(key, wanted, found, fresh_for, Instant::now()),
        }
    }

    fn forget(&mut self, key: &Key) {
        self.last.remove(key);
        if let Some((_, standing)) = self.busy.get_mut(key) {
            *standing = Standing::Forgotten;
        }
    }

    /// Takes in what was found; whether that is news. A failure that may pass does not take the place of a shape.
    fn take(
        &mut self,
        key: &Key,
        wanted: &Wanted,
        found: Found,
        fresh_for: Option<Duration>,
        now: Instant,
    ) -> bool {
        let before = self.last.remove(key).filter(|last| last.wanted.source == wanted.source);
        let failures = match &found {
            Ok(_) => 0,
            Err(_) => before.as_ref().map_or(0, |before| before.failures).saturating_add(1),
        };
        let wait = match &found {
            Ok(_) => fresh_for,
            Err(error) => wait_after(error, wanted.source.is_pinned(), failures),
        };
        let until = wait.and_then(|wait| now.checked_add(wait));
        let (found, is_news) = match (before, found) {
            (Some(Last { found: Ok(shape), .. }), Err(error)) if error.is_transient() => (Ok(shape), false),
            (Some(before), found) if is_same(&before.found, &found) => (before.found, false),
            (_, found) => (found, true),
        };
        self.last.insert(key.clone(), Last { wanted: wanted.clone(), found, until, failures });
        is_news
    }
}

/// How long to wait before a model is looked up again that could not be read so often.
fn wait_after(error: &Unread, is_pinned: bool, failures: u32) -> Option<Duration> {
    // Which of the faults of a Hub it is matters not: those that may pass are all waited for alike.
    let grown = || source::again(&SourceError::Busy { of: String::new() }, is_pinned, failures);
    match error {
        Unread::Source(error) => source::again(error, is_pinned, failures),
        Unread::Secret(_) | Unread::Unreachable(_) => grown().map(|wait| wait.min(LONGEST_FOR_SECRET)),
    }
}

impl Models {
    /// A reader of these sources. The receiver is told of every object whose model was read, with news.
    #[must_use]
    pub fn new(sources: Sources, tokens: impl Tokens + 'static) -> (Self, mpsc::UnboundedReceiver<Key>) {
        let (told, receiver) = mpsc::unbounded_channel();
        let reader = Reader {
            sources: Arc::new(sources),
            tokens: Box::new(tokens),
            turns: Turns::new(AT_ONCE, AT_ONCE_OF_ONE),
        };
        (Self { reader: Arc::new(reader), state: Arc::default(), told, metrics: Arc::default() }, receiver)
    }

    /// With reads counted there.
    #[must_use]
    pub fn counted_by(self, metrics: Arc<Metrics>) -> Self {
        Self { metrics, ..self }
    }

    /// What is known of an object's model; `None` if it is being read for the first time. Never waits, and reads no Secret:
    /// what is no longer current is read anew beside, and the object told of news.
    #[must_use]
    pub fn model(&self, key: &Key, wanted: &Wanted) -> Option<Known> {
        let now = Instant::now();
        if !locked(&self.state).is_current(key, wanted, now) {
            // Another object may have the same model. A token is not known before its Secret is read.
            let known = match wanted.secret {
                None => self.reader.sources.known(&key.0, &wanted.source),
                Some(_) => None,
            };
            if let Some(found) = known {
                let fresh_for = self.reader.sources.lasts(&wanted.source);
                locked(&self.state).take(key, wanted, found.map_err(Unread::from), fresh_for, now);
            } else {
                self.start(key, wanted);
            }
        }
        locked(&self.state).known(key, wanted, now)
    }

    /// Starts to read a model, unless that is under way.
    fn start(&self, key: &Key, wanted: &Wanted) {
        if !locked(&self.state).begin(key, wanted) {
            return;
        }
        let (reader, state, told) = (Arc::clone(&self.reader), Arc::clone(&self.state), self.told.clone());
        let (key, wanted, metrics) = (key.clone(), wanted.clone(), Arc::clone(&self.metrics));
        tokio::spawn(async move {
            let read = tokio::spawn(read(Arc::clone(&reader), key.0.clone(), wanted.clone(), metrics));
            let found = read.await.unwrap_or_else(|error| {
                let of = wanted.source.to_string();
                Err(SourceError::Broken { of, problem: error.to_string() }.into())
            });
            let fresh_for = reader.sources.lasts(&wanted.source);
            let is_to_be_told = locked(&state).end(&key, &wanted, found.clone(), fresh_for);
            let (namespace, name) = (&key.0, &key.1);
            match &found {
                Ok(shape) if is_to_be_told => info!(namespace, name, model = shape.name, "read the model"),
                Err(error) if is_to_be_told => warn!(namespace, name, %error, "cannot read the model"),
                Ok(_) => debug!(namespace, name, "the model is what it was"),
                Err(error) => debug!(namespace, name, %error, "cannot read the model, as before"),
            }
            if is_to_be_told {
                // The receiver is gone only when the process is stopping.
                let _ = told.send(key);
            }
        });
    }

    /// Where models come from, and the store that keeps them.
    #[must_use]
    pub fn sources(&self) -> &Sources {
        &self.reader.sources
    }

    /// Forgets an object that is gone. Its model may be another's too.
    pub fn forget(&self, key: &Key) {
        locked(&self.state).forget(key);
    }
}

async fn read(reader: Arc<Reader>, namespace: String, wanted: Wanted, metrics: Arc<Metrics>) -> Found {
    let token = match &wanted.secret {
        Some(reference) => Some(reader.tokens.token(&namespace, reference).await?),
        None => None,
    };
    let source = wanted.source.with_token(token);
    if let Some(found) = reader.sources.known(&namespace, &source) {
        return Ok(found?);
    }
    let started = Instant::now();
    let _turn = reader.turns.take(&namespace).await;
    let found = reader.sources.read_async(&namespace, source).await;
    metrics.model_read(started.elapsed(), if found.is_ok() { "ok" } else { "error" });
    Ok(found?)
}

#[cfg(test)]
mod tests;
