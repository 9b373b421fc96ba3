//! Loadline

mod accuracy;
