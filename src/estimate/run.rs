//! One run of a model: what every part of its estimate is worked out from.

use super::Workload;
use super::parallelism::Layout;
use super::profile::Profile;
use super::weights::loading::Loading;
use crate::model::ModelShape;

/// A model as an engine runs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run<'a> {
    /// The model.
    pub(crate) shape: &'a ModelShape,
    /// What it is asked for, with every default filled in.
    pub(crate) workload: &'a Workload,
    /// The engine's constants.
    pub(crate) profile: &'a Profile,
    /// How the weights come into memory.
    pub(crate) loading: &'a Loading,
    /// Which GPU has what.
    pub(crate) layout: &'a Layout,
}
