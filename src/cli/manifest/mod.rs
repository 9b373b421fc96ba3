//! ModelDeployments in files, checked as the API server would: every fault with its path, value and remedy.

mod nearest;

pub(super) use nearest::nearest;
