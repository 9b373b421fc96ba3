//! Loadline
