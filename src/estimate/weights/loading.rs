//! How the weights come into memory: as they are stored, or in which format.

use super::format;
use super::ignored::Ignored;
use crate::estimate::{Workload, version};
use crate::model::{Confidence, ModelShape, Quantization, ShapeSource};
use crate::precision::{Engine, Precision};

/// How the weights come into memory.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Loading {
    /// The precision that is loaded.
    pub precision: Precision,
    /// How sure the bytes are.
    pub confidence: Confidence,
    /// What the user should know of it.
    pub notes: Vec<String>,
    pub(super) scheme: Scheme,
    pub(super) ignored: Ignored,
    /// Modules with a format of their own, in the order in which they are looked for.
    pub(super) groups: Vec<Group>,
    /// Quantised on paper as those do who quantise least: attention and shared experts are left alone.
    pub(super) experts_alone: bool,
    /// vLLM pads gpt-oss' experts to 128 and the residual stream to 256, as Marlin's kernels want them.
    pub(super) marlin: bool,
}

/// Modules that have a format of their own.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Group {
    /// By name or pattern.
    pub(super) named: Ignored,
    /// Every linear layer that no group names.
    pub(super) linear: bool,
    pub(super) format: Option<format::Format>,
}

impl Group {
    /// The groups of a checkpoint.
    fn all(quantization: &Quantization) -> Vec<Self> {
        let groups = quantization.groups.iter().map(|group| Self {
            named: Ignored::new(&group.targets),
            linear: group.targets.iter().any(|target| target == "Linear"),
            format: format::of_checkpoint(&group.format),
        });
        groups.collect()
    }
}

impl Loading {
    fn new(precision: Precision, confidence: Confidence, scheme: Scheme) -> Self {
        Self {
            precision,
            confidence,
            notes: Vec::new(),
            scheme,
            ignored: Ignored::default(),
            groups: Vec::new(),
            experts_alone: false,
            marlin: false,
        }
    }

    fn noting(mut self, note: String) -> Self {
        self.notes.push(note);
        self
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scheme {
    /// The seed's rule: so many bits for each parameter, whatever it is.
    Bare { bits: u64, per: u64 },
    /// Every tensor at so many bits.
    Uniform(u64),
    /// The quantizable tensors in a format, the rest at 16 bits.
    Quantized(format::Format),
    /// The same, but for the modules that the checkpoint leaves alone.
    Checkpoint(format::Format),
    /// Per tensor, as llama.cpp's quantiser assigns them.
    Mix(Precision),
    /// As the header says.
    Stored,
}

/// Decides how the weights are loaded.
pub(crate) fn loading(shape: &ModelShape, workload: &Workload) -> Loading {
    let mut loading = resolve(shape, workload);
    let precision = loading.precision;
    let told =
        workload.precision.is_some() || shape.quantization.is_some() || shape.stored_precision.is_some();
    if !told && shape.tensors.iter().all(|tensor| tensor.stored_bytes.is_none()) {
        loading.confidence = loading.confidence.max(Confidence::Derived);
        loading.notes.push(format!("Nothing says how the weights are stored: {precision} is assumed."));
    }
    if pads_experts(shape, workload.engine, precision) {
        // Since 0.19 gpt-oss-20b takes 13.64 GiB on an H100 and 13.72 on an A100 (myoceane.fr, llm-d-planner's logs); before, 13.47
        // on an H100 and 2 % more with Marlin's kernels.
        loading.marlin = version::of(shape, workload).reaches(0, 19);
        if !loading.marlin {
            loading.notes.push(
                "The experts are padded as for Hopper GPUs; on others this vLLM pads them further, by 2 % of the weights."
                    .to_owned(),
            );
        }
    }
    if workload.engine == Engine::LlamaCpp && !precision.is_gguf() {
        loading.notes.push(format!(
            "llama-cpp runs GGUF files, and {precision} is none of their formats; q4_k_m or q8_0 are near it."
        ));
    }
    loading
}

fn resolve(shape: &ModelShape, workload: &Workload) -> Loading {
    let own = shape.quantization.as_ref().map(|q| q.precision).or(shape.stored_precision);
    if shape.tensors.is_empty() {
        let precision = workload.precision.or(own).unwrap_or(Precision::Bf16);
        let (bits, per) = format::bits_per_parameter(precision);
        let confidence = shape.weights_confidence.max(Confidence::Derived);
        return Loading::new(precision, confidence, Scheme::Bare { bits, per });
    }
    let as_stored = match (workload.precision, own) {
        (None, _) => true,
        (Some(wanted), Some(own)) => same_family(wanted, own),
        (Some(_), None) => false,
    };
    if as_stored {
        stored(shape, workload, own.unwrap_or(Precision::Bf16))
    } else {
        converted(shape, workload, own)
    }
}

/// The checkpoint as it is published.
fn stored(shape: &ModelShape, workload: &Workload, own: Precision) -> Loading {
    let headers = shape.tensors.iter().any(|tensor| tensor.stored_bytes.is_some());
    let confidence = shape.weights_confidence;
    if let Some(quantization) = &shape.quantization {
        let scheme = match format::of_checkpoint(quantization) {
            _ if headers => Scheme::Stored,
            // Published GGUF files of such a model are what llama.cpp's converter makes of it.
            Some(_) if is_experts_mix(own, workload.engine) => Scheme::Mix(own),
            Some(format) => Scheme::Checkpoint(format),
            None => Scheme::Mix(own),
        };
        return Loading {
            ignored: Ignored::new(&quantization.ignored),
            groups: Group::all(quantization),
            ..Loading::new(own, confidence, scheme)
        };
    }
    if shape.source == ShapeSource::Gguf && headers {
        return Loading::new(own, confidence, Scheme::Stored);
    }
    let (precision, scheme) = match own {
        Precision::Fp32 if workload.precision.is_none() && halves_by_default(workload.engine) => {
            let halved = Loading::new(Precision::Bf16, confidence, Scheme::Uniform(16));
            return halved.noting(format!(
                "The checkpoint is fp32; {} loads it at 16 bits unless precision says fp32.",
                workload.engine
            ));
        }
        Precision::Fp32 => (own, Scheme::Uniform(32)),
        Precision::Fp16 | Precision::Bf16 => (workload.precision.unwrap_or(own), Scheme::Uniform(16)),
        _ if headers => (own, Scheme::Stored),
        _ => (own, format::of(own).map_or(Scheme::Mix(own), Scheme::Quantized)),
    };
    Loading::new(precision, confidence, scheme)
}

/// The model at a precision that the checkpoint does not have.
fn converted(shape: &ModelShape, workload: &Workload, own: Option<Precision>) -> Loading {
    let precision = workload.precision.unwrap_or(Precision::Bf16);
    let scheme = match precision {
        Precision::Fp32 => Scheme::Uniform(32),
        Precision::Fp16 | Precision::Bf16 => Scheme::Uniform(16),
        // The seed's rule for 4 bits, half a byte for every parameter, is what people mean by "4 bits"; of 8 bits they mean the
        // linear layers, as every W8A8 checkpoint has them.
        Precision::Int4 => {
            let (bits, per) = format::bits_per_parameter(precision);
            Scheme::Bare { bits, per }
        }
        // vLLM quantises at load with bitsandbytes' compressed statistics.
        Precision::Nf4 if workload.engine == Engine::Vllm => Scheme::Quantized(format::NF4_NESTED),
        other if is_experts_mix(other, workload.engine) => Scheme::Mix(other),
        other => format::of(other).map_or(Scheme::Mix(other), Scheme::Quantized),
    };
    // The tensors are known, but not which of them a quantiser would have left alone.
    let confidence = match scheme {
        Scheme::Uniform(_) => shape.weights_confidence,
        _ => shape.weights_confidence.max(Confidence::Derived),
    };
    let mut loading = Loading::new(precision, confidence, scheme);
    if let Some(own) = own.filter(|own| is_quantized(*own) && !is_quantized(precision)) {
        loading = loading.noting(format!(
            "The checkpoint is stored as {own}; {precision} is the size of the model before it was quantised."
        ));
    }
    if let Scheme::Bare { bits, .. } = loading.scheme {
        loading = loading.noting(format!(
            "{precision} counts every parameter at {bits} bits; scales and 16-bit embeddings come on top: gptq-int4, awq-int4, nf4 or q4_k_m count them."
        ));
    }
    loading
}

/// llama.cpp's MXFP4 is that of experts alone (`MXFP4_MOE`): everything else is in 8 bits.
const fn is_experts_mix(precision: Precision, engine: Engine) -> bool {
    matches!((precision, engine), (Precision::Mxfp4, Engine::LlamaCpp))
}

/// Whether asking for `wanted` of a checkpoint stored as `own` means the checkpoint as it is.
fn same_family(wanted: Precision, own: Precision) -> bool {
    use Precision::{AwqInt4, Bf16, BnbInt8, Fp8, Fp8Block, Fp16, GptqInt4, GptqInt8, Int4, Int8, Nf4};
    wanted == own
        || matches!(
            (wanted, own),
            (Fp16, Bf16)
                | (Bf16, Fp16)
                | (Fp8, Fp8Block)
                | (Int4, GptqInt4 | AwqInt4 | Nf4)
                | (Int8, GptqInt8 | BnbInt8)
        )
}

const fn is_quantized(precision: Precision) -> bool {
    !matches!(precision, Precision::Fp32 | Precision::Fp16 | Precision::Bf16)
}

/// vLLM's `--dtype auto`, SGLang's, and text-generation-inference's default turn 32-bit checkpoints into 16-bit weights.
const fn halves_by_default(engine: Engine) -> bool {
    matches!(engine, Engine::Vllm | Engine::Sglang | Engine::Tgi)
}

impl Loading {
    /// Bytes of an element of what is not quantised: the model's own element type, which caches and activations follow.
    pub(crate) const fn element_bytes(&self) -> u64 {
        if matches!(self.scheme, Scheme::Uniform(32)) { 4 } else { 2 }
    }

    /// Whether the weights are counted as a file stores them, or by the seed's rule, rather than as an engine loads them.
    pub(crate) fn is_of_files(&self, shape: &ModelShape) -> bool {
        matches!(self.scheme, Scheme::Bare { .. } | Scheme::Stored)
            || shape.tensors.iter().any(|tensor| tensor.stored_bytes.is_some())
    }

    /// The same as those would have it who quantise least, where the format is only on paper and publishers differ: AWQ, GPTQ and
    /// the four-bit floats. Of a mixture of experts they leave all but the experts alone, of a dense model its attention.
    pub(crate) fn least_quantised(&self) -> Option<Self> {
        let differs = matches!(
            self.precision,
            Precision::AwqInt4 | Precision::GptqInt4 | Precision::Nvfp4 | Precision::Mxfp4 | Precision::Mxfp8
        );
        (differs && matches!(self.scheme, Scheme::Quantized(_)))
            .then(|| Self { experts_alone: true, ..self.clone() })
    }
}

/// Whether the engine's kernels want the experts wider than they are in the file.
pub(crate) fn pads_experts(shape: &ModelShape, engine: Engine, precision: Precision) -> bool {
    precision == Precision::Mxfp4 && engine == Engine::Vllm && shape.architecture == "gpt_oss"
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
