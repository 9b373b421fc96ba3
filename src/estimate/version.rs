//! The version of an engine, and the rules of its that changed between versions.
//!
//! Each rule was read in the releases named beside it: vLLM's source distributions 0.19.0 to 0.33.0, SGLang's 0.5, llama.cpp's
//! repository by build number.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::Workload;
use crate::model::ModelShape;
use crate::precision::Engine;
use crate::units::shorten;

/// A release (`0.19.0`) or, of llama.cpp, a build (`b10481`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EngineVersion {
    /// Major, minor and patch.
    Release(u32, u32, u32),
    /// A build number.
    Build(u32),
}

/// A version that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is no version of an engine: write a release such as 0.19.0, or of llama.cpp a build such as b10481 or its date such as 2026-11-01"
)]
pub struct UnknownVersion(String);

/// Builds of llama.cpp by day, in days since 2025-01-01, as its releases are dated: the others are interpolated.
const DATED_BUILDS: &[(u32, u32)] = &[
    (0, 4404),
    (181, 5787),
    (365, 7588),
    (457, 8651),
    (481, 8943),
    (561, 10_035),
    (596, 10_507),
    (614, 10_840),
];

impl FromStr for EngineVersion {
    type Err = UnknownVersion;

    /// A release with or without `v`, and with anything after its numbers (`0.5.15.post1`, `0.19.0rc1`); a build with or without
    /// `b`; or a date, which stands for llama.cpp's build of that day.
    fn from_str(text: &str) -> Result<Self, UnknownVersion> {
        let unknown = || UnknownVersion(shorten(text));
        let text = text.trim();
        if let Some(build) = date(text).and_then(build_of_day) {
            return Ok(Self::Build(build));
        }
        let bare = text.strip_prefix(['v', 'V', 'b', 'B']).unwrap_or(text);
        let is_release = bare.contains('.') || text.starts_with(['v', 'V']);
        if !is_release {
            return bare.parse().ok().filter(|build| *build > 0).map(Self::Build).ok_or_else(unknown);
        }
        let mut numbers = [0; 3];
        for (at, part) in bare.split('.').enumerate() {
            let digits = part.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
            if digits.is_empty() {
                // The first number must be there; a word after it ends the version.
                if at == 0 {
                    return Err(unknown());
                }
                break;
            }
            let Some(number) = numbers.get_mut(at) else { break };
            *number = digits.parse().map_err(|_| unknown())?;
            if digits.len() < part.len() {
                break;
            }
        }
        let [major, minor, patch] = numbers;
        Ok(Self::Release(major, minor, patch))
    }
}

impl fmt::Display for EngineVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Release(major, minor, patch) => write!(f, "{major}.{minor}.{patch}"),
            Self::Build(build) => write!(f, "b{build}"),
        }
    }
}

impl Serialize for EngineVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl EngineVersion {
    /// The version that an image's tag names: `vllm/vllm-openai:v0.26.0`, `lmsysorg/sglang:v0.5.15-cu129`,
    /// `ghcr.io/ggml-org/llama.cpp:server-cuda-b10481`. `None` of a tag such as `latest`, or of a digest alone.
    #[must_use]
    pub fn of_image(image: &str) -> Option<Self> {
        let name = image.split('@').next()?;
        let (_, tag) = name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'))?;
        tag.split('-').find_map(|part| {
            let numbered = part
                .strip_prefix(['v', 'b'])
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
            let dotted = part.contains('.') && part.starts_with(|c: char| c.is_ascii_digit());
            (numbered || dotted).then(|| part.parse().ok()).flatten()
        })
    }

    /// Whether it is this release or a later one. A build is none.
    pub(super) const fn reaches(self, major: u32, minor: u32) -> bool {
        match self {
            Self::Release(own_major, own_minor, _) => {
                own_major > major || (own_major == major && own_minor >= minor)
            }
            Self::Build(_) => false,
        }
    }
}

/// Year, month and day of `2026-11-01`, as days since 2025-01-01; not to the day, but near enough for builds.
fn date(text: &str) -> Option<u32> {
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || year.len() != 4 {
        return None;
    }
    let (year, month, day): (u32, u32, u32) = (year.parse().ok()?, month.parse().ok()?, day.parse().ok()?);
    let valid = (2025..2100).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    valid.then(|| (year - 2025) * 365 + (month - 1) * 365 / 12 + day - 1)
}

fn build_of_day(day: u32) -> Option<u32> {
    let after = DATED_BUILDS.iter().position(|(other, _)| *other > day);
    let (from, to) = match after {
        Some(at) => (DATED_BUILDS.get(at.checked_sub(1)?)?, DATED_BUILDS.get(at)?),
        None => return DATED_BUILDS.last().map(|(last, build)| build + (day - last) * 15),
    };
    Some(from.1 + (to.1 - from.1) * (day - from.0) / (to.0 - from.0))
}

/// The release whose image the controller writes, of each engine; of llama.cpp, whose image is one, its build.
const DEFAULTS: &[(Engine, EngineVersion)] = &[
    (Engine::Vllm, EngineVersion::Release(0, 19, 0)),
    (Engine::Sglang, EngineVersion::Release(0, 5, 15)),
    (Engine::LlamaCpp, EngineVersion::Build(10_481)),
    (Engine::Tgi, EngineVersion::Release(3, 3, 7)),
];

/// The newest vLLM whose rules were read.
const NEWEST_VLLM: EngineVersion = EngineVersion::Release(0, 33, 0);

/// Architectures that the default vLLM does not know, and the release that was the first to: they are counted by the newest
/// rules.
const FIRST_VLLM: &[(&str, u32, u32)] = &[("deepseek_v4", 0, 20), ("deepseek_ref", 0, 20)];

/// The version whose rules count.
pub(super) fn of(shape: &ModelShape, workload: &Workload) -> EngineVersion {
    if let Some(told) = workload.options.engine_version {
        return told;
    }
    let default = default_of(workload.engine);
    let first = FIRST_VLLM.iter().find(|(name, ..)| *name == shape.architecture);
    match first {
        Some((_, major, minor)) if workload.engine == Engine::Vllm && !default.reaches(*major, *minor) => {
            NEWEST_VLLM
        }
        _ => default,
    }
}

/// The version that is taken where none is told.
#[must_use]
pub fn default_of(engine: Engine) -> EngineVersion {
    let known = DEFAULTS.iter().find(|(name, _)| *name == engine);
    known.map_or(EngineVersion::Release(0, 0, 0), |(_, version)| *version)
}

/// vLLM's releases between which the cache of a model with windows or states is sized differently.
pub(super) const VLLM_EPOCHS: [EngineVersion; 4] = [
    EngineVersion::Release(0, 19, 0),
    EngineVersion::Release(0, 26, 0),
    EngineVersion::Release(0, 30, 0),
    NEWEST_VLLM,
];

/// What of vLLM's rules for its cache depends on the release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct VllmRules {
    /// Batches that may be in flight at once, whose tokens a windowed layer keeps besides its window. Up to 0.25 it is one; since
    /// 0.26 it is `VllmConfig.max_concurrent_batches`: two where scheduling is asynchronous, or one for each pipeline stage (and,
    /// with the second model runner, which is the default since 0.30, one more).
    pub batches: u64,
    /// States that a running sequence keeps: with prefix caching (`mamba_cache_mode` align) the one at the last block's edge too.
    /// Models with states have it by default since 0.26 (`ModelConfig.is_prefix_caching_supported`).
    pub states: u64,
    /// Layers of several page sizes are packed side by side into a block (since 0.29); before, every group of layers took as many
    /// slots of each size as the largest.
    pub packed: bool,
}

impl VllmRules {
    /// The rules of a release, for a workload.
    pub(super) fn of(version: EngineVersion, workload: &Workload) -> Self {
        let stages = workload.pipeline;
        let batches = if !version.reaches(0, 26) {
            1
        } else if stages <= 1 {
            2
        } else if version.reaches(0, 30) {
            stages.saturating_add(1)
        } else {
            stages
        };
        let caching = workload.options.prefix_caching.unwrap_or(version.reaches(0, 26));
        Self { batches, states: if caching { 2 } else { 1 }, packed: version.reaches(0, 29) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimate::tests::workload;

    #[test]
    fn versions_are_read_as_people_and_images_write_them() {
        for (text, expected) in [
            ("0.19.0", Some("0.19.0")),
            ("v0.26", Some("0.26.0")),
            ("0.5.15.post1", Some("0.5.15")),
            ("0.14.0rc1", Some("0.14.0")),
            ("0.26.1.dev3+g12", Some("0.26.1")),
            ("b10481", Some("b10481")),
            ("8943", Some("b8943")),
            ("2026-04-27", Some("b8943")),
            ("latest", None),
            ("", None),
            ("-1", None),
            ("v", None),
        ] {
            let found = text.parse::<EngineVersion>().ok().map(|version| version.to_string());
            match expected {
                Some("b8943") if text.contains('-') => {
                    let Some(EngineVersion::Build(build)) = text.parse().ok() else { panic!("{text}") };
                    assert!((8900..9000).contains(&build), "{text}: {build}");
                }
                _ => assert_eq!(found.as_deref(), expected, "{text}"),
            }
        }
        for (image, expected) in [
            ("vllm/vllm-openai:v0.26.0", Some("0.26.0")),
            ("lmsysorg/sglang:v0.5.15-cu129", Some("0.5.15")),
            ("ghcr.io/ggml-org/llama.cpp:server-cuda-b10481", Some("b10481")),
            ("vllm/vllm-openai:latest", None),
            ("localhost:5000/vllm", None),
            ("vllm/vllm-openai:v0.26.0@sha256:00", Some("0.26.0")),
        ] {
            let found = EngineVersion::of_image(image).map(|version| version.to_string());
            assert_eq!(found.as_deref(), expected, "{image}");
        }
    }

    #[test]
    fn the_rules_follow_the_release_and_the_stages() {
        let of = |text: &str, pipeline| {
            let version = text.parse().expect("a version");
            VllmRules::of(version, &Workload { pipeline, ..workload() })
        };
        assert_eq!(of("0.19", 1), VllmRules { batches: 1, states: 1, packed: false });
        assert_eq!(of("0.25.1", 4), VllmRules { batches: 1, states: 1, packed: false });
        assert_eq!(of("0.26", 1), VllmRules { batches: 2, states: 2, packed: false });
        assert_eq!(of("0.28.1", 3), VllmRules { batches: 3, states: 2, packed: false });
        assert_eq!(of("0.33", 3), VllmRules { batches: 4, states: 2, packed: true });
    }
}
