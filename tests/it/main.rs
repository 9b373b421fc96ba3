//! Loadline
mod training_accuracy;
