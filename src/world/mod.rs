//! What every replica has: views of the cluster, how the pods of each object fare, the store of models, what was decided,
//! health and metrics. Whoever answers a question (a webhook, a page, the controller) takes a `&World`; whoever writes is
//! the controller's [`Writer`](crate::controller::Writer).
//!
//! Invariant: nothing here writes to the cluster, and what is asked of a `World` is answered from memory.

pub mod decisions;
pub mod models;
pub mod planner;
pub mod promised;
pub mod tasks;
pub mod turns;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::cluster::{Modes, PodsByOwner, RequiredOfPods, View, Views};
use crate::inventory::PodFacts;
use crate::plan::Permits;
use crate::telemetry::{Health, Metrics};

pub use decisions::{Decisions, Tracked};
pub use models::Models;
pub use planner::Planner;
pub use promised::Promised;
pub use turns::Turns;

/// Namespace and name of an object.
pub type Key = (String, String);

/// What every replica has.
pub struct World {
    /// What specs may ask for.
    pub permits: Permits,
    /// The cluster.
    pub views: Views,
    /// The pods of each object, as their watch shows them.
    pub pods: PodsByOwner,
    /// What each namespace wants done where nothing fits.
    pub modes: Modes,
    /// What pods that name an object must demand, where a webhook is to give it to them.
    pub required: RequiredOfPods,
    /// Models, as far as they have been read.
    pub models: Models,
    /// What was decided of each object.
    pub decisions: Decisions,
    /// What is promised to objects whose pods are still to come.
    pub promised: Promised,
    /// Where plans are made.
    pub planner: Planner,
    /// Whether it may be asked already.
    pub health: Arc<Health>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl World {
    /// How the pods that carry an object's label fare, by name.
    #[must_use]
    pub fn pods_of(&self, key: &Key) -> Arc<[PodFacts]> {
        self.pods.of(key)
    }

    /// The newest view of the cluster, if it has been read.
    #[must_use]
    pub fn view(&self) -> Option<Arc<View>> {
        self.views.borrow().clone()
    }

    /// Forgets what was decided of every object: another replica decides from now on.
    pub fn forget_decisions(&self) {
        for key in self.decisions.forget_all() {
            self.promised.forget(&key);
        }
        self.metrics.scraped.forget_all();
    }

    /// Every object of which something is remembered.
    #[must_use]
    pub fn keys(&self) -> BTreeSet<Key> {
        self.decisions.keys().into_iter().chain(self.metrics.scraped.keys()).collect()
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, key: &Key) {
        self.models.forget(key);
        self.promised.forget(key);
        self.decisions.forget(key);
        self.metrics.scraped.forget(key);
    }
}
