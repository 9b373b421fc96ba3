//! The built-in catalog: widely used open models, for use with no network.

use super::ModelShape;

/// The shape of a model of the catalog, by its name or by its Hugging Face repository; `None` if it is not there.
#[must_use]
pub fn shape(name: &str) -> Option<ModelShape> {
    let _ = name;
    unimplemented!()
}

/// Every name, sorted.
#[must_use]
pub fn names() -> Vec<&'static str> {
    unimplemented!()
}
