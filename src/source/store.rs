//! The one store of model shapes: each content once, shared by all who use it, bounded in bytes and fair by namespace.
//!
//! Invariants: what is kept never weighs more than the bound, and what one namespace uses never more than its share; a
//! namespace past its share evicts what is its own, and never another's; what somebody still uses is not evicted, for
//! that would free nothing. Nothing that one token could read is shown to another: the token is part of the content.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::error::SourceError;
use super::settings::Token;
use crate::model::ModelShape;

/// The most references that are remembered, with what they stand for: an entry takes less than a KiB.
const MAX_NAMES: usize = 4096;
/// The most of them of one namespace.
const MAX_NAMES_OF_ONE: usize = 1024;

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

/// A digest of bytes, by two functions that nobody outside this process knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Digest(u64, u64);

/// What identifies a shape: the content that it was read from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Content {
    /// A repository at a commit, which is the key's revision.
    Commit(Key),
    /// An address, with the tag that the server gives its content.
    Address(Key, String),
    /// A repository or an address of a server that does not say which version it has.
    Unversioned(Key),
    /// Bytes, and the name that they were given.
    Bytes(Digest),
}

/// What a reference stands for, or why it cannot be had.
type Named = Result<Content, SourceError>;
/// What was found of a reference.
pub(super) type Outcome = Result<Arc<ModelShape>, SourceError>;

struct Held {
    shape: Arc<ModelShape>,
    bytes: u64,
    /// The namespaces that have asked for it; each is charged for the whole.
    owners: BTreeSet<Arc<str>>,
    used: u64,
}

struct Known {
    named: Named,
    /// Until when it is taken for current; for ever for a commit.
    until: Option<Instant>,
    owner: Arc<str>,
    used: u64,
}

/// The store.
pub(super) struct Store {
    state: Mutex<State>,
    /// Bytes of all shapes.
    most: u64,
    /// Bytes of the shapes that one namespace uses.
    share: u64,
    hashers: (RandomState, RandomState),
}

#[derive(Default)]
struct State {
    shapes: HashMap<Content, Held>,
    names: HashMap<Key, Known>,
    charged: HashMap<Arc<str>, u64>,
    total: u64,
    clock: u64,
}

/// How full a store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// Shapes.
    pub shapes: usize,
    /// Their bytes.
    pub bytes: u64,
    /// References that are remembered.
    pub references: usize,
}

impl Store {
    /// A store of so many bytes, of which one namespace may use so many.
    pub(super) fn new(most: u64, share: u64) -> Self {
        Self {
            state: Mutex::default(),
            most,
            share: share.min(most),
            hashers: (RandomState::new(), RandomState::new()),
        }
    }

    /// A token as part of a key.
    pub(super) fn fingerprint(&self, token: Option<&Token>) -> u64 {
        token.map_or(0, |token| self.hashers.0.hash_one(token).max(1))
    }

    /// The content of bytes that are read under a name.
    pub(super) fn bytes(&self, kind: &str, name: &str, bytes: &[u8]) -> Content {
        let text = (kind, name, bytes);
        Content::Bytes(Digest(self.hashers.0.hash_one(text), self.hashers.1.hash_one(text)))
    }

    /// What is known of a reference and still current.
    pub(super) fn named(&self, namespace: &str, key: &Key, now: Instant) -> Option<Outcome> {
        let mut state = self.lock();
        let clock = state.tick();
        let known = state.names.get_mut(key)?;
        if known.until.is_some_and(|until| until <= now) {
            return None;
        }
        known.used = clock;
        match known.named.clone() {
            Ok(content) => state.get(namespace, &content, self.share).map(Ok),
            Err(error) => Some(Err(error)),
        }
    }

    /// Remembers what a reference stands for, for so long; `None` is for ever.
    pub(super) fn name(
        &self,
        namespace: &str,
        key: Key,
        named: Named,
        lasts: Option<Duration>,
        now: Instant,
    ) {
        let mut state = self.lock();
        let used = state.tick();
        if !state.names.contains_key(&key) {
            state.make_room_for_name(namespace, now);
        }
        let until = lasts.and_then(|lasts| now.checked_add(lasts));
        state.names.insert(key, Known { named, until, owner: namespace.into(), used });
    }

    /// A shape, if it is there.
    pub(super) fn get(&self, namespace: &str, content: &Content) -> Option<Arc<ModelShape>> {
        let mut state = self.lock();
        state.get(namespace, content, self.share)
    }

    /// Keeps a shape; returns the one that is kept, which another may have read just before.
    ///
    /// # Errors
    /// If there is no room for it: what the namespace already uses is its share, or all that may be kept is in use.
    pub(super) fn put(
        &self,
        namespace: &str,
        content: Content,
        shape: ModelShape,
    ) -> Result<Arc<ModelShape>, SourceError> {
        let mut state = self.lock();
        if let Some(shape) = state.get(namespace, &content, self.share) {
            return Ok(shape);
        }
        let bytes = shape.size();
        let full = |limit| SourceError::StoreFull { of: shape.name.clone(), bytes, limit };
        if !state.make_room_of_own(namespace, bytes, self.share) {
            return Err(full(self.share));
        }
        if !state.make_room(bytes, self.most) {
            return Err(full(self.most));
        }
        let (shape, used) = (Arc::new(shape), state.tick());
        let owner: Arc<str> = namespace.into();
        *state.charged.entry(Arc::clone(&owner)).or_default() += bytes;
        state.total += bytes;
        let held = Held { shape: Arc::clone(&shape), bytes, owners: BTreeSet::from([owner]), used };
        state.shapes.insert(content, held);
        Ok(shape)
    }

    /// Keeps a shape in the place of whatever had its name: nothing says that they are the same.
    ///
    /// # Errors
    /// See [`Store::put`].
    pub(super) fn replace(
        &self,
        namespace: &str,
        content: Content,
        shape: ModelShape,
    ) -> Result<Arc<ModelShape>, SourceError> {
        if let Some(before) = self.get(namespace, &content) {
            if *before == shape {
                return Ok(before);
            }
            self.lock().remove(&content);
        }
        self.put(namespace, content, shape)
    }

    /// How full it is.
    pub(super) fn fill(&self) -> Fill {
        let state = self.lock();
        Fill { shapes: state.shapes.len(), bytes: state.total, references: state.names.len() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held; were it so, the sums would be off by one entry at most.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn charged(&self, namespace: &str) -> u64 {
        self.charged.get(namespace).copied().unwrap_or(0)
    }

    /// A shape, charged to who asks for it as far as the share goes: it is there already, and takes no more by being used.
    fn get(&mut self, namespace: &str, content: &Content, most: u64) -> Option<Arc<ModelShape>> {
        let used = self.tick();
        let held = self.shapes.get_mut(content)?;
        held.used = used;
        let (shape, bytes) = (Arc::clone(&held.shape), held.bytes);
        let is_new = !held.owners.contains(namespace);
        if is_new && self.make_room_of_own(namespace, bytes, most) {
            let owner: Arc<str> = namespace.into();
            *self.charged.entry(Arc::clone(&owner)).or_default() += bytes;
            if let Some(held) = self.shapes.get_mut(content) {
                held.owners.insert(owner);
            }
        }
        Some(shape)
    }

    /// Lets a namespace give up what it does not use, the longest unused first, until so much more is within its share.
    fn make_room_of_own(&mut self, namespace: &str, bytes: u64, share: u64) -> bool {
        while self.charged(namespace).saturating_add(bytes) > share {
            let Some(oldest) = self.oldest(|held| held.owners.contains(namespace)) else { return false };
            self.disown(&oldest, namespace);
        }
        true
    }

    /// Drops what nobody uses until so much more is within the bound: of the namespace that is charged most, first.
    fn make_room(&mut self, bytes: u64, most: u64) -> bool {
        while self.total.saturating_add(bytes) > most {
            let mut namespaces: Vec<(u64, Arc<str>)> =
                self.charged.iter().map(|(namespace, charged)| (*charged, Arc::clone(namespace))).collect();
            namespaces.sort_unstable_by(|a, b| b.cmp(a));
            let oldest = namespaces
                .iter()
                .find_map(|(_, namespace)| self.oldest(|held| held.owners.contains(namespace)));
            let Some(oldest) = oldest else { return false };
            self.remove(&oldest);
        }
        true
    }

    /// The longest unused of those that nobody holds.
    fn oldest(&self, is_meant: impl Fn(&Held) -> bool) -> Option<Content> {
        self.shapes
            .iter()
            .filter(|(_, held)| is_meant(held) && Arc::strong_count(&held.shape) == 1)
            .min_by_key(|(_, held)| held.used)
            .map(|(content, _)| content.clone())
    }

    fn disown(&mut self, content: &Content, namespace: &str) {
        let Some(held) = self.shapes.get_mut(content) else { return };
        if held.owners.len() <= 1 {
            return self.remove(content);
        }
        let bytes = held.bytes;
        held.owners.remove(namespace);
        self.discharge(namespace, bytes);
    }

    fn remove(&mut self, content: &Content) {
        let Some(held) = self.shapes.remove(content) else { return };
        self.total = self.total.saturating_sub(held.bytes);
        for owner in &held.owners {
            self.discharge(owner, held.bytes);
        }
    }

    fn discharge(&mut self, namespace: &str, bytes: u64) {
        if let Some(charged) = self.charged.get_mut(namespace) {
            *charged = charged.saturating_sub(bytes);
            if *charged == 0 {
                self.charged.remove(namespace);
            }
        }
    }

    /// Drops what is no longer current, and then, if need be, the longest unused: of the namespace itself if it has its
    /// share, else of the one that has most.
    fn make_room_for_name(&mut self, namespace: &str, now: Instant) {
        let count = |names: &HashMap<Key, Known>, of: &str| {
            names.values().filter(|known| known.owner.as_ref() == of).count()
        };
        let is_full = self.names.len() >= MAX_NAMES;
        if !is_full && count(&self.names, namespace) < MAX_NAMES_OF_ONE {
            return;
        }
        self.names.retain(|_, known| known.until.is_none_or(|until| until > now));
        let whose = if count(&self.names, namespace) >= MAX_NAMES_OF_ONE {
            Some(Arc::from(namespace))
        } else if self.names.len() >= MAX_NAMES {
            let mut counts: HashMap<Arc<str>, usize> = HashMap::new();
            for known in self.names.values() {
                *counts.entry(Arc::clone(&known.owner)).or_default() += 1;
            }
            counts.into_iter().max_by_key(|(_, count)| *count).map(|(owner, _)| owner)
        } else {
            None
        };
        let oldest = whose.and_then(|whose: Arc<str>| {
            let own = self.names.iter().filter(|(_, known)| known.owner == whose);
            own.min_by_key(|(_, known)| known.used).map(|(key, _)| key.clone())
        });
        if let Some(oldest) = oldest {
            self.names.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::assumed;
    use crate::units::Parameters;

    fn key(of: &str) -> Key {
        Key { of: of.to_owned(), revision: "main".to_owned(), file: String::new(), token: 0 }
    }

    fn content(of: &str) -> Content {
        Content::Commit(key(of))
    }

    fn shape() -> ModelShape {
        assumed::shape(Parameters(8_000_000_000))
    }

    /// A store for so many shapes in all, and so many of a namespace.
    fn store(most: u64, share: u64) -> Store {
        let bytes = shape().size();
        Store::new(most * bytes, share * bytes)
    }

    fn kept(store: &Store, of: &[&str]) -> Vec<bool> {
        let state = store.lock();
        of.iter().map(|of| state.shapes.contains_key(&content(of))).collect()
    }

    fn failure() -> Named {
        Err(SourceError::Offline { of: "x".to_owned() })
    }

    #[test]
    fn one_content_is_kept_once_and_handed_out_as_it_is() {
        let store = store(4, 4);
        let first = store.put("a", content("m"), shape()).expect("room");
        let second = store.put("b", content("m"), shape()).expect("room");
        assert!(Arc::ptr_eq(&first, &second));
        assert!(Arc::ptr_eq(&first, &store.get("c", &content("m")).expect("there")));
        assert_eq!(store.fill(), Fill { shapes: 1, bytes: shape().size(), references: 0 });
        assert_eq!(store.bytes("config", "m", b"x"), store.bytes("config", "m", b"x"));
        assert_ne!(store.bytes("config", "m", b"x"), store.bytes("config", "m", b"y"));
    }

    #[test]
    fn a_namespace_past_its_share_evicts_its_own() {
        let store = store(8, 2);
        for (namespace, of) in [("b", "other"), ("a", "1"), ("a", "2"), ("a", "3")] {
            store.put(namespace, content(of), shape()).expect("room");
        }
        assert_eq!(kept(&store, &["other", "1", "2", "3"]), [true, false, true, true]);
        store.get("a", &content("2"));
        store.put("a", content("4"), shape()).expect("room");
        assert_eq!(kept(&store, &["other", "2", "3", "4"]), [true, true, false, true], "the longest unused");
    }

    #[test]
    fn what_is_in_use_is_not_evicted_and_its_user_is_told_that_the_share_is_full() {
        let store = store(8, 2);
        let used: Vec<_> =
            ["1", "2"].iter().map(|of| store.put("a", content(of), shape()).expect("room")).collect();
        let error = store.put("a", content("3"), shape()).expect_err("in use");
        assert!(
            matches!(error, SourceError::StoreFull { limit, .. } if limit == 2 * shape().size()),
            "{error}"
        );
        store.put("b", content("3"), shape()).expect("another namespace has room");
        drop(used);
        store.put("a", content("4"), shape()).expect("room again");
        assert_eq!(kept(&store, &["1", "2", "3", "4"]), [false, true, true, true]);
    }

    #[test]
    fn when_all_is_full_whoever_has_most_makes_room() {
        let store = store(4, 3);
        for (namespace, of) in [("a", "1"), ("b", "2"), ("b", "3"), ("b", "4"), ("a", "5")] {
            store.put(namespace, content(of), shape()).expect("room");
        }
        assert_eq!(kept(&store, &["1", "2", "3", "4", "5"]), [true, false, true, true, true]);
        assert_eq!(store.fill().bytes, 4 * shape().size());
    }

    #[test]
    fn a_shape_that_two_use_goes_when_both_have_given_it_up() {
        let store = store(8, 1);
        store.put("a", content("m"), shape()).expect("room");
        store.get("b", &content("m"));
        store.put("a", content("1"), shape()).expect("room");
        assert_eq!(kept(&store, &["m"]), [true]);
        store.put("b", content("2"), shape()).expect("room");
        assert_eq!(kept(&store, &["m", "1", "2"]), [false, true, true]);
    }

    #[test]
    fn references_expire_and_commits_do_not() {
        let store = store(4, 4);
        let now = Instant::now();
        let second = Duration::from_secs(1);
        store.name("a", key("branch"), failure(), Some(second), now);
        store.name("a", key("commit"), failure(), None, now);
        assert!(store.named("b", &key("branch"), now).is_some());
        assert!(store.named("b", &key("branch"), now + second).is_none());
        assert!(store.named("b", &key("commit"), now + second * 1_000_000).is_some());
        assert!(store.named("b", &key("other"), now).is_none());
        store.name("a", key("model"), Ok(content("m")), None, now);
        assert!(store.named("a", &key("model"), now).is_none(), "its shape is not there");
        store.put("a", content("m"), shape()).expect("room");
        assert!(matches!(store.named("a", &key("model"), now), Some(Ok(_))));
    }

    #[test]
    fn the_references_of_one_namespace_leave_room_for_those_of_others() {
        let store = store(4, 4);
        let now = Instant::now();
        store.name("b", key("theirs"), failure(), None, now);
        for at in 0..2 * MAX_NAMES_OF_ONE {
            store.name("a", key(&at.to_string()), failure(), None, now);
        }
        assert_eq!(store.fill().references, MAX_NAMES_OF_ONE + 1);
        assert!(store.named("b", &key("theirs"), now).is_some());
        assert!(store.named("a", &key("0"), now).is_none());
        for namespace in ["c", "d", "e", "f"] {
            for at in 0..MAX_NAMES_OF_ONE {
                store.name(namespace, key(&format!("{namespace}{at}")), failure(), None, now);
            }
        }
        assert_eq!(store.fill().references, MAX_NAMES);
        assert!(store.named("b", &key("theirs"), now).is_some(), "whoever has most makes room");
    }

    #[test]
    fn tokens_do_not_share() {
        let store = store(3, 3);
        let token = |text: &str| store.fingerprint(Token::new(text).as_ref());
        assert_eq!(token("a"), token("a"));
        assert_ne!(token("a"), token("b"));
        assert_ne!(token("a"), store.fingerprint(None));
    }
}
