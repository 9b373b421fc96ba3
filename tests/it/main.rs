//! Loadline

mod accuracy;
mod training_accuracy;
