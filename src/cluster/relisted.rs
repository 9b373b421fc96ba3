//! Objects of one kind, kept from watch events, with a second list that is being read beside.

use std::collections::HashMap;
use std::hash::Hash;

use kube::runtime::watcher::Event;

/// Objects of one kind, with a second list that is being read.
#[derive(Debug)]
pub(super) struct Relisted<Key, Value> {
    now: HashMap<Key, Value>,
    next: HashMap<Key, Value>,
    complete: bool,
}

/// What an event has changed.
#[derive(Debug)]
pub(super) enum Change<Key, Value> {
    /// Nothing that is looked at.
    Nothing,
    /// One object: what it was before, if it was there.
    One(Key, Option<Value>),
    /// Any number of them: the list was read anew. What there was before.
    All(HashMap<Key, Value>),
}

impl<Key, Value> Change<Key, Value> {
    pub(super) const fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }
}

impl<Key, Value> Default for Relisted<Key, Value> {
    fn default() -> Self {
        Self { now: HashMap::new(), next: HashMap::new(), complete: false }
    }
}

impl<Key: Clone + Eq + Hash, Value: PartialEq> Relisted<Key, Value> {
    /// Takes in an event. An object of which `reduce` makes nothing is as good as gone.
    pub(super) fn take<Object>(
        &mut self,
        event: Event<Object>,
        reduce: impl Fn(Object) -> Option<Value>,
        key: impl Fn(&Object) -> Key,
    ) -> Change<Key, Value> {
        match event {
            Event::Init => {
                self.next.clear();
                Change::Nothing
            }
            Event::InitApply(object) => {
                let key = key(&object);
                if let Some(value) = reduce(object) {
                    self.next.insert(key, value);
                }
                Change::Nothing
            }
            Event::InitDone => {
                let next = std::mem::take(&mut self.next);
                let changed = !self.complete || next != self.now;
                let before = std::mem::replace(&mut self.now, next);
                self.complete = true;
                if changed { Change::All(before) } else { Change::Nothing }
            }
            Event::Apply(object) => {
                let key = key(&object);
                match reduce(object) {
                    Some(value) if self.now.get(&key) == Some(&value) => Change::Nothing,
                    Some(value) => {
                        let before = self.now.insert(key.clone(), value);
                        Change::One(key, before)
                    }
                    None => self.remove(key),
                }
            }
            Event::Delete(object) => self.remove(key(&object)),
        }
    }

    fn remove(&mut self, key: Key) -> Change<Key, Value> {
        match self.now.remove(&key) {
            Some(before) => Change::One(key, Some(before)),
            None => Change::Nothing,
        }
    }

    /// Whether the list has been read once.
    pub(super) const fn is_complete(&self) -> bool {
        self.complete
    }

    /// What there is.
    pub(super) fn get(&self, key: &Key) -> Option<&Value> {
        self.now.get(key)
    }

    /// All that there is, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Key, &Value)> {
        self.now.iter()
    }
}
