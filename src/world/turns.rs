//! Turns for what takes long: each namespace has a few at a time, and all together no more than there is room for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Hands out turns: within a namespace first come, first served.
#[derive(Debug)]
pub struct Turns {
    all: Arc<Semaphore>,
    each: usize,
    namespaces: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// A turn, which ends when it is dropped.
#[derive(Debug)]
pub struct Turn {
    _of_all: Option<OwnedSemaphorePermit>,
    _of_namespace: Option<OwnedSemaphorePermit>,
}

impl Turns {
    /// So many at the same time, of which so many of one namespace.
    #[must_use]
    pub fn new(all: usize, each: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), each, namespaces: Mutex::default() }
    }

    /// Waits for a turn. Who waits for one of its namespace keeps none of the others'.
    pub async fn take(&self, namespace: &str) -> Turn {
        let own = {
            let mut namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
            // Whoever waits, or has a turn, holds the semaphore too.
            namespaces
                .retain(|_, turns| Arc::strong_count(turns) > 1 || turns.available_permits() < self.each);
            let new = || Arc::new(Semaphore::new(self.each));
            Arc::clone(namespaces.entry(namespace.to_owned()).or_insert_with(new))
        };
        // They are never closed.
        let of_namespace = own.acquire_owned().await.ok();
        let of_all = Arc::clone(&self.all).acquire_owned().await.ok();
        Turn { _of_all: of_all, _of_namespace: of_namespace }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_namespace_that_waits_for_itself_is_in_nobodys_way() {
        let turns = Turns::new(4, 2);
        let first = turns.take("a").await;
        let _second = turns.take("a").await;
        let mut waiting: Vec<_> = (0..200).map(|_| Box::pin(turns.take("a"))).collect();
        for turn in &mut waiting {
            assert!(turn.now_or_never().is_none());
        }
        let of_b = turns.take("b").now_or_never();
        assert!(of_b.is_some());
        let _also_of_b = turns.take("b").await;
        assert!(turns.take("c").now_or_never().is_none(), "there are no more than four");
        drop(of_b);
        assert!(turns.take("c").now_or_never().is_some());
        drop(first);
        assert!(
            waiting.swap_remove(0).now_or_never().is_some(),
            "the first that waits is the first to go on"
        );
    }

    #[tokio::test]
    async fn namespaces_that_have_no_turn_are_forgotten() {
        let turns = Turns::new(4, 2);
        for at in 0..100 {
            turns.take(&at.to_string()).await;
        }
        assert!(turns.namespaces.lock().expect("no panic").len() <= 2);
    }
}
