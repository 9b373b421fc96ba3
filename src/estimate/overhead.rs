//! What the process holds that is neither weights, caches nor activations: context, libraries, graphs.

use super::profile::Profile;
use crate::units::Bytes;

/// The parts of the overhead on one GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overhead {
    pub context: Bytes,
    pub libraries: Bytes,
    pub graphs: Bytes,
}

/// The overhead on one GPU.
pub(super) const fn gpu(profile: &Profile, gpus: u64) -> Overhead {
    Overhead {
        context: Bytes(profile.context),
        libraries: Bytes(if gpus > 1 { profile.libraries_shared } else { profile.libraries }),
        graphs: Bytes::ZERO,
    }
}
