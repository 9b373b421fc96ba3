//! Reads models from afar, beside the reconciles: a slow Hub holds up no other object.
//!
//! Invariant: what was last found of a model stands until something newer is: a status does not flip because a branch is
//! looked up again, or because the Hub is out of order for a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, mpsc};
use tracing::{info, warn};

use super::memory::Key;
use crate::model::ModelShape;
use crate::source::{SourceError, SourceRef, Sources};

/// Models that are read at the same time: each holds a thread, and the Hub limits requests.
const AT_ONCE: usize = 4;

/// What was found of a model.
pub type Read = Result<Arc<ModelShape>, SourceError>;

/// Reads models, and tells whose was read.
pub struct Hub {
    sources: Arc<Sources>,
    permits: Arc<Semaphore>,
    state: Arc<Mutex<State>>,
    read: mpsc::UnboundedSender<Key>,
}

#[derive(Default)]
struct State {
    last: HashMap<Key, (SourceRef, Read)>,
    busy: HashMap<Key, (SourceRef, Standing)>,
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

impl State {
    /// Notes that a read is wanted; whether it is to begin now. There is one at a time for an object.
    fn begin(&mut self, key: &Key, source: &SourceRef) -> bool {
        if let Some((reading, standing)) = self.busy.get_mut(key) {
            if reading != source || *standing == Standing::Forgotten {
                *standing = Standing::Overtaken;
            }
            return false;
        }
        self.busy.insert(key.clone(), (source.clone(), Standing::Awaited));
        true
    }

    /// Takes in what a read has found; whether the object is to be told.
    fn end(&mut self, key: &Key, source: &SourceRef, found: Read) -> bool {
        match self.busy.remove(key) {
            Some((_, Standing::Forgotten)) => false,
            Some((_, Standing::Overtaken)) => {
                self.take(key, source, found);
                true
            }
            Some((_, Standing::Awaited)) | None => self.take(key, source, found),
        }
    }

    fn forget(&mut self, key: &Key) {
        self.last.remove(key);
        if let Some((_, standing)) = self.busy.get_mut(key) {
            *standing = Standing::Forgotten;
        }
    }

    /// Takes in what was found; whether that is news. A failure that may pass does not take the place of a shape.
    fn take(&mut self, key: &Key, source: &SourceRef, found: Read) -> bool {
        let last = self.last.get(key).filter(|(of, _)| of == source).map(|(_, last)| last);
        let keeps = matches!((last, &found), (Some(Ok(_)), Err(error)) if error.is_transient());
        if keeps || last == Some(&found) {
            return false;
        }
        self.last.insert(key.clone(), (source.clone(), found));
        true
    }
}

impl Hub {
    /// A reader of these sources. The receiver is told of every object whose model was read, with news.
    #[must_use]
    pub fn new(sources: Sources) -> (Self, mpsc::UnboundedReceiver<Key>) {
        let (read, told) = mpsc::unbounded_channel();
        let hub = Self {
            sources: Arc::new(sources),
            permits: Arc::new(Semaphore::new(AT_ONCE)),
            state: Arc::default(),
            read,
        };
        (hub, told)
    }

    /// What is known of an object's model; `None` if it is being read for the first time. Never waits.
    #[must_use]
    pub fn model(&self, key: &Key, source: &SourceRef) -> Option<Read> {
        if let Some(found) = self.sources.known(source) {
            locked(&self.state).take(key, source, found);
        } else {
            self.start(key, source);
        }
        let state = locked(&self.state);
        state.last.get(key).filter(|(of, _)| of == source).map(|(_, last)| last.clone())
    }

    /// Starts to read a model, unless that is under way.
    fn start(&self, key: &Key, source: &SourceRef) {
        if !locked(&self.state).begin(key, source) {
            return;
        }
        let (sources, permits, state) =
            (Arc::clone(&self.sources), Arc::clone(&self.permits), Arc::clone(&self.state));
        let (read, key, source) = (self.read.clone(), key.clone(), source.clone());
        tokio::spawn(async move {
            let permit = permits.acquire_owned().await;
            let found = sources.resolve_async(source.clone()).await;
            drop(permit);
            let is_to_be_told = locked(&state).end(&key, &source, found.clone());
            if is_to_be_told {
                match found {
                    Ok(shape) => info!(namespace = key.0, name = key.1, model = shape.name, "read the model"),
                    Err(error) => warn!(namespace = key.0, name = key.1, %error, "cannot read the model"),
                }
                // The receiver is gone only when the process is stopping.
                let _ = read.send(key);
            }
        });
    }

    /// The sources.
    #[must_use]
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Forgets an object.
    pub fn forget(&self, key: &Key) {
        locked(&self.state).forget(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::testing::shape;
    use crate::source::Settings;

    fn key() -> Key {
        ("team-a".to_owned(), "llama".to_owned())
    }

    fn source(revision: &str) -> SourceRef {
        SourceRef::HuggingFace {
            repository: "org/name".to_owned(),
            revision: Some(revision.to_owned()),
            file: None,
            token: None,
        }
    }

    fn outage() -> SourceError {
        SourceError::Status { of: "org/name".to_owned(), endpoint: "hub".to_owned(), status: 503 }
    }

    fn gated() -> SourceError {
        SourceError::Unauthorized {
            of: "org/name".to_owned(),
            endpoint: "hub".to_owned(),
            status: 401,
            with_token: false,
        }
    }

    #[test]
    fn an_outage_does_not_take_the_place_of_a_shape() {
        let mut state = State::default();
        let found = Arc::new(shape());
        assert!(state.take(&key(), &source("main"), Err(outage())));
        assert!(!state.take(&key(), &source("main"), Err(outage())), "no news");
        assert!(state.take(&key(), &source("main"), Ok(Arc::clone(&found))));
        assert!(!state.take(&key(), &source("main"), Err(outage())));
        assert_eq!(state.last[&key()].1, Ok(found));
        assert!(state.take(&key(), &source("main"), Err(gated())), "a refusal is an answer");
        assert!(state.take(&key(), &source("v2"), Err(outage())), "another revision is another model");
    }

    #[test]
    fn whoever_asks_for_another_model_meanwhile_is_told_whatever_is_found() {
        let mut state = State::default();
        let found = Arc::new(shape());
        assert!(state.begin(&key(), &source("main")));
        assert!(state.end(&key(), &source("main"), Ok(Arc::clone(&found))));
        assert!(state.begin(&key(), &source("main")), "it is looked up again");
        assert!(!state.begin(&key(), &source("v2")), "one at a time");
        assert!(
            state.end(&key(), &source("main"), Ok(Arc::clone(&found))),
            "no news, and yet the turn of v2"
        );
        assert!(state.begin(&key(), &source("v2")));
        assert!(!state.begin(&key(), &source("v2")));
        assert!(state.end(&key(), &source("v2"), Ok(Arc::clone(&found))));
        assert!(state.begin(&key(), &source("v2")));
        assert!(!state.end(&key(), &source("v2"), Ok(found)), "no news");
    }

    #[test]
    fn what_is_found_for_an_object_that_is_gone_is_not_kept() {
        let mut state = State::default();
        assert!(state.begin(&key(), &source("main")));
        state.forget(&key());
        assert!(!state.end(&key(), &source("main"), Ok(Arc::new(shape()))));
        assert!(state.last.is_empty() && state.busy.is_empty());
        // And one of the same name that comes meanwhile is told.
        assert!(state.begin(&key(), &source("main")));
        state.forget(&key());
        assert!(!state.begin(&key(), &source("main")));
        assert!(state.end(&key(), &source("main"), Ok(Arc::new(shape()))));
    }

    #[tokio::test]
    async fn a_model_that_is_not_known_is_read_beside_and_told() {
        let settings = Settings { offline: true, ..Settings::default() };
        let (hub, mut told) = Hub::new(Sources::new(settings).unwrap());
        assert_eq!(hub.model(&key(), &source("main")), None);
        assert_eq!(told.recv().await, Some(key()));
        let Some(Err(error)) = hub.model(&key(), &source("main")) else { panic!("an error") };
        assert!(error.to_string().contains("offline"), "{error}");
        hub.forget(&key());
        assert_eq!(hub.model(&key(), &source("main")), None);
    }
}
