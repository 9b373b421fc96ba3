//! What an engine can load: how the weights that are stored become those that are wanted.

use super::table::Files;
use super::tables;
use crate::api::ModelDeploymentSpec;
use crate::model::{ModelShape, ShapeSource};
use crate::precision::{Engine, Precision};

/// Where the weights come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A repository with a config and safetensors.
    Repository,
    /// A GGUF file.
    Gguf,
    /// Not known to Loadline: the image or the arguments know.
    Unsaid,
}

/// How the weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    /// In which format, where it is known.
    pub(crate) precision: Option<Precision>,
    /// Whether they are quantised.
    pub(crate) quantized: bool,
}

/// How the weights that are stored become the weights that were estimated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loading {
    /// They are.
    AsStored,
    /// The engine casts them to this 16- or 32-bit type.
    Cast(Precision),
    /// The engine quantises them as it loads them, by this method.
    Quantize(&'static str),
    /// It cannot.
    Impossible,
}

impl Source {
    /// Where a spec says that the weights are; the repository is that of a catalog entry.
    pub(crate) fn of(spec: &ModelDeploymentSpec, shape: &ModelShape, repository: Option<&str>) -> Self {
        let model = &spec.model;
        let of_one_file = model.hugging_face.as_ref().is_some_and(|reference| reference.file.is_some());
        if model.gguf.is_some() || of_one_file {
            Self::Gguf
        } else if model.hugging_face.is_none() && repository.is_none() {
            Self::Unsaid
        } else if shape.source == ShapeSource::Gguf {
            Self::Gguf
        } else {
            Self::Repository
        }
    }
}

impl Stored {
    /// How a model is stored.
    pub(crate) fn of(shape: &ModelShape) -> Self {
        let quantized = shape.quantization.as_ref().map(|own| own.precision);
        Self { precision: quantized.or(shape.stored_precision), quantized: quantized.is_some() }
    }
}

/// Whether, and how, an engine loads weights as they are wanted.
pub(crate) fn loadable(engine: Engine, source: Source, stored: Stored, wanted: Precision) -> Loading {
    let loads = &tables::of(engine).loads;
    let as_it_is = stored.precision == Some(wanted);
    match (loads.files, source) {
        (Files::Any, _) => Loading::AsStored,
        (Files::Gguf, Source::Gguf | Source::Unsaid) if stored.precision.is_none() || as_it_is => {
            Loading::AsStored
        }
        (Files::Gguf, _) | (Files::Safetensors, Source::Gguf) => Loading::Impossible,
        (Files::Safetensors, _) if stored.quantized => {
            if as_it_is && loads.checkpoints.contains(&wanted) {
                Loading::AsStored
            } else {
                Loading::Impossible
            }
        }
        (Files::Safetensors, _) if loads.casts.contains(&wanted) => Loading::Cast(wanted),
        (Files::Safetensors, _) => loads
            .in_flight
            .iter()
            .find(|(format, _)| *format == wanted)
            .map_or(Loading::Impossible, |(_, method)| Loading::Quantize(method)),
    }
}

/// Whether an engine loads checkpoints of a format as they are.
pub(super) fn loads(engine: Engine, format: Precision) -> bool {
    let stored = Stored { precision: Some(format), quantized: true };
    loadable(engine, Source::Repository, stored, format) == Loading::AsStored
}

/// The engines that load checkpoints of a format, or the files that have it.
pub(crate) fn loaders(format: Precision) -> impl Iterator<Item = Engine> {
    let does = move |engine: &Engine| match tables::of(*engine).loads.files {
        Files::Any => false,
        Files::Gguf => format.is_gguf() && !loads(Engine::Vllm, format),
        Files::Safetensors => loads(*engine, format),
    };
    Engine::ALL.iter().copied().filter(does)
}

/// What an engine's method of quantising makes of weights that are not quantised yet.
pub(super) fn made_by(engine: Engine, method: &str) -> Option<Precision> {
    let loads = &tables::of(engine).loads;
    loads.in_flight.iter().find(|(_, known)| *known == method).map(|(format, _)| *format)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BF16: Stored = Stored { precision: Some(Precision::Bf16), quantized: false };
    const UNKNOWN: Stored = Stored { precision: None, quantized: false };

    const fn checkpoint(precision: Precision) -> Stored {
        Stored { precision: Some(precision), quantized: true }
    }

    #[test]
    fn an_engine_loads_what_its_documentation_says() {
        use Loading::{AsStored, Cast, Impossible, Quantize};
        use Source::{Gguf, Repository, Unsaid};
        for (engine, source, stored, wanted, expected) in [
            (Engine::Vllm, Repository, BF16, Precision::Bf16, Cast(Precision::Bf16)),
            (Engine::Vllm, Repository, UNKNOWN, Precision::Fp16, Cast(Precision::Fp16)),
            (Engine::Vllm, Repository, BF16, Precision::Fp32, Cast(Precision::Fp32)),
            (Engine::Vllm, Repository, BF16, Precision::Fp8, Quantize("fp8")),
            (Engine::Vllm, Repository, BF16, Precision::Nf4, Quantize("bitsandbytes")),
            (Engine::Vllm, Repository, BF16, Precision::BnbInt8, Impossible),
            (Engine::Vllm, Repository, BF16, Precision::Fp8Block, Impossible),
            (Engine::Vllm, Repository, BF16, Precision::AwqInt4, Impossible),
            (Engine::Vllm, Repository, BF16, Precision::Q4KM, Impossible),
            (Engine::Vllm, Repository, checkpoint(Precision::AwqInt4), Precision::AwqInt4, AsStored),
            (Engine::Vllm, Repository, checkpoint(Precision::Fp8Block), Precision::Bf16, Impossible),
            (Engine::Vllm, Repository, checkpoint(Precision::Q4KM), Precision::Q4KM, Impossible),
            (Engine::Vllm, Gguf, checkpoint(Precision::Q4KM), Precision::Q4KM, Impossible),
            (Engine::Sglang, Repository, BF16, Precision::Mxfp8, Quantize("mxfp8")),
            (Engine::Tgi, Repository, BF16, Precision::Fp32, Impossible),
            (Engine::Tgi, Repository, BF16, Precision::Nf4, Quantize("bitsandbytes-nf4")),
            (Engine::Tgi, Repository, BF16, Precision::BnbInt8, Quantize("bitsandbytes")),
            (Engine::Tgi, Repository, checkpoint(Precision::BnbInt8), Precision::BnbInt8, Impossible),
            (Engine::Tgi, Repository, checkpoint(Precision::Mxfp4), Precision::Mxfp4, Impossible),
            (Engine::LlamaCpp, Gguf, checkpoint(Precision::Q4KM), Precision::Q4KM, AsStored),
            (Engine::LlamaCpp, Gguf, checkpoint(Precision::Q4KM), Precision::Q80, Impossible),
            (Engine::LlamaCpp, Repository, BF16, Precision::Bf16, Impossible),
            (Engine::LlamaCpp, Unsaid, UNKNOWN, Precision::Q4KM, AsStored),
            (Engine::None, Repository, BF16, Precision::Int4, AsStored),
        ] {
            assert_eq!(loadable(engine, source, stored, wanted), expected, "{engine} {stored:?} {wanted}");
        }
    }

    #[test]
    fn no_method_makes_two_formats_but_those_of_one_name() {
        for &engine in Engine::ALL {
            let loads = &tables::of(engine).loads;
            for (format, method) in loads.in_flight {
                assert!(!loads.casts.contains(format), "{engine} {format}");
                assert!(made_by(engine, method).is_some(), "{engine} {method}");
            }
            assert!(loads.checkpoints.iter().all(|format| !format.is_wide()), "{engine}");
        }
    }
}
