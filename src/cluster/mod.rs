//! The cluster as it is now: nodes and pods are watched, reduced at once to what Loadline uses, and published as an
//! [`Inventory`](crate::inventory::Inventory) a moment after something in it changes.
//!
//! [`index`], [`pods`] and [`label_memory`] are pure; [`watch`] is the shell around them.

pub mod index;
pub mod label_memory;
pub mod namespaces;
pub mod pods;
mod relisted;
pub mod requirements;
pub mod watch;

pub use namespaces::Modes;
pub use pods::PodsByOwner;
pub use requirements::RequiredOfPods;
pub use watch::{View, Views};
