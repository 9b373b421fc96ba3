//! A config as JSON: bounded, typed, and completed with what its class takes where it says nothing.

pub(super) mod classes;
pub(super) mod defaults;
pub(super) mod fields;
pub(super) mod json;
