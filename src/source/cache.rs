//! What was resolved, kept in memory: by commit, so that a moved branch is read again and an unmoved one is not.
//!
//! Nothing that one token could read is shown to another: the token is part of every key.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::error::SourceError;
use super::settings::Token;
use crate::model::ModelShape;

/// What is asked for, by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The repository, or the address of a file.
    pub(super) of: String,
    /// A branch, tag or commit; empty for an address.
    pub(super) revision: String,
    /// The file; empty for the whole repository.
    pub(super) file: String,
    /// A hash of the token: 0 for none.
    pub(super) token: u64,
}

/// What is known of a key.
#[derive(Clone, Debug)]
struct Entry {
    outcome: Result<Arc<ModelShape>, SourceError>,
    /// Until when it is taken for current; for ever for a commit.
    until: Option<Instant>,
    used: u64,
}

/// The cache.
pub(super) struct Cache {
    state: Mutex<State>,
    most: usize,
    hasher: RandomState,
}

#[derive(Default)]
struct State {
    entries: HashMap<Key, Entry>,
    clock: u64,
}

impl Cache {
    /// A cache of at most so many entries.
    pub(super) fn new(most: usize) -> Self {
        Self { state: Mutex::new(State::default()), most: most.max(1), hasher: RandomState::new() }
    }

    /// A token as part of a key.
    pub(super) fn fingerprint(&self, token: Option<&Token>) -> u64 {
        token.map_or(0, |token| self.hasher.hash_one(token).max(1))
    }

    /// What is known and still current.
    pub(super) fn get(&self, key: &Key, now: Instant) -> Option<Result<Arc<ModelShape>, SourceError>> {
        let mut state = self.lock();
        state.clock += 1;
        let clock = state.clock;
        let entry = state.entries.get_mut(key)?;
        if entry.until.is_some_and(|until| until <= now) {
            return None;
        }
        entry.used = clock;
        Some(entry.outcome.clone())
    }

    /// Remembers an outcome for so long; `None` is for ever.
    pub(super) fn put(
        &self,
        key: Key,
        outcome: Result<Arc<ModelShape>, SourceError>,
        lasts: Option<Duration>,
        now: Instant,
    ) {
        let mut state = self.lock();
        state.clock += 1;
        let used = state.clock;
        if state.entries.len() >= self.most && !state.entries.contains_key(&key) {
            state.entries.retain(|_, entry| entry.until.is_none_or(|until| until > now));
            if state.entries.len() >= self.most
                && let Some(oldest) =
                    state.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| key.clone())
            {
                state.entries.remove(&oldest);
            }
        }
        state
            .entries
            .insert(key, Entry { outcome, until: lasts.and_then(|lasts| now.checked_add(lasts)), used });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held; were it so, the map would still be whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(of: &str) -> Key {
        Key { of: of.to_owned(), revision: "main".to_owned(), file: String::new(), token: 0 }
    }

    fn failure() -> Result<Arc<ModelShape>, SourceError> {
        Err(SourceError::Offline { of: "x".to_owned() })
    }

    #[test]
    fn entries_expire_and_commits_do_not() {
        let cache = Cache::new(10);
        let now = Instant::now();
        let second = Duration::from_secs(1);
        cache.put(key("branch"), failure(), Some(second), now);
        cache.put(key("commit"), failure(), None, now);
        assert!(cache.get(&key("branch"), now).is_some());
        assert!(cache.get(&key("branch"), now + second).is_none());
        assert!(cache.get(&key("commit"), now + second * 1_000_000).is_some());
        assert!(cache.get(&key("other"), now).is_none());
    }

    #[test]
    fn the_longest_unused_goes_first() {
        let cache = Cache::new(3);
        let now = Instant::now();
        for of in ["a", "b", "c"] {
            cache.put(key(of), failure(), None, now);
        }
        assert!(cache.get(&key("a"), now).is_some());
        cache.put(key("d"), failure(), None, now);
        let kept: Vec<bool> =
            ["a", "b", "c", "d"].iter().map(|of| cache.get(&key(of), now).is_some()).collect();
        assert_eq!(kept, [true, false, true, true]);
    }

    #[test]
    fn tokens_do_not_share() {
        let cache = Cache::new(3);
        let token = |text: &str| cache.fingerprint(Token::new(text).as_ref());
        assert_eq!(token("a"), token("a"));
        assert_ne!(token("a"), token("b"));
        assert_ne!(token("a"), cache.fingerprint(None));
    }
}
