//! The weights: which tensors the engine loads, at what size, on which GPU.

use super::allocator::Blocks;
use super::ignored::Ignored;
use super::parallelism::{Layout, Stage, holds, shard, split_by};
use super::profile::Profile;
use super::{EstimateError, Workload, bytes_of, format, gguf_mix, version};
use crate::model::{Confidence, ModelShape, Quantization, Role, ShapeSource, Tensor};
use crate::precision::{Engine, Precision};
use crate::units::{Bytes, Overflow, Parameters};

/// How the weights come into memory.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Loading {
    /// The precision that is loaded.
    pub precision: Precision,
    /// How sure the bytes are.
    pub confidence: Confidence,
    /// What the user should know of it.
    pub notes: Vec<String>,
    scheme: Scheme,
    ignored: Ignored,
    /// Modules with a format of their own, in the order in which they are looked for.
    groups: Vec<Group>,
    /// Quantised on paper as those do who quantise least: attention and shared experts are left alone.
    experts_alone: bool,
    /// vLLM pads gpt-oss' experts to 128 and the residual stream to 256, as Marlin's kernels want them.
    marlin: bool,
}

/// Modules that have a format of their own.
#[derive(Clone, Debug, PartialEq)]
struct Group {
    /// By name or pattern.
    named: Ignored,
    /// Every linear layer that no group names.
    linear: bool,
    format: Option<format::Format>,
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
enum Scheme {
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
pub(super) fn loading(shape: &ModelShape, workload: &Workload) -> Loading {
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
    pub(super) const fn element_bytes(&self) -> u64 {
        if matches!(self.scheme, Scheme::Uniform(32)) { 4 } else { 2 }
    }

    /// The weights on one GPU of a stage.
    ///
    /// # Errors
    /// An overflow.
    pub(super) fn stage(
        &self,
        shape: &ModelShape,
        workload: &Workload,
        profile: &Profile,
        layout: &Layout,
        stage: &Stage,
    ) -> Result<Bytes, EstimateError> {
        let ranks = u128::from(layout.tensor);
        if shape.tensors.is_empty() {
            let whole = self.bare(shape.parameters)?;
            let gpus = ranks.saturating_mul(u128::from(stage.of)).max(1);
            return Ok(bytes_of(whole.div_ceil(gpus))?);
        }
        let mut total: u128 = 0;
        let mut elements: u128 = 0;
        for (tensor, rows, columns, count) in self.held(shape, workload, profile, layout, stage) {
            let held = product(rows, columns, count)?;
            elements = elements.checked_add(held).ok_or(Overflow)?;
            if !matches!(self.scheme, Scheme::Bare { .. }) {
                let bytes = self.tensor(shape, workload.engine, tensor, (rows, columns, count))?;
                total = total.checked_add(bytes).ok_or(Overflow)?;
            }
        }
        if matches!(self.scheme, Scheme::Bare { .. }) {
            let mut all: u128 = 0;
            for tensor in shape.tensors.iter().filter(|tensor| loaded(tensor, shape, workload.engine)) {
                all = all.checked_add(product(tensor.rows, tensor.columns, tensor.count)?).ok_or(Overflow)?;
            }
            let whole = self.bare(shape.parameters)?;
            // A fraction of the whole, but never more than it: padding is not counted by this rule.
            let held = elements.min(all);
            total = if held == all {
                whole
            } else {
                whole.checked_mul(held).ok_or(Overflow)?.div_ceil(all.max(1))
            };
        }
        Ok(bytes_of(total)?)
    }

    /// The heads for further tokens on one GPU of the last stage.
    ///
    /// # Errors
    /// An overflow.
    pub(super) fn draft(
        &self,
        shape: &ModelShape,
        workload: &Workload,
        profile: &Profile,
        layout: &Layout,
    ) -> Result<Bytes, EstimateError> {
        let mut total: u128 = 0;
        for tensor in shape.tensors.iter().filter(|tensor| tensor.role == Role::Draft) {
            let (rows, columns, count) = share(tensor, workload, profile, layout);
            let bytes = match self.scheme {
                Scheme::Bare { bits, per } => product(rows, columns, count)?
                    .checked_mul(u128::from(bits))
                    .ok_or(Overflow)?
                    .div_ceil(8 * u128::from(per.max(1))),
                _ => self.tensor(shape, workload.engine, tensor, (rows, columns, count))?,
            };
            total = total.checked_add(bytes).ok_or(Overflow)?;
        }
        Ok(bytes_of(total)?)
    }

    /// The tensors that one GPU of a stage holds a share of, with the share's rows and columns, and of how many.
    fn held<'a>(
        &'a self,
        shape: &'a ModelShape,
        workload: &'a Workload,
        profile: &'a Profile,
        layout: &'a Layout,
        stage: &'a Stage,
    ) -> impl Iterator<Item = (&'a Tensor, u64, u64, u64)> {
        let engine = workload.engine;
        let host_embeddings = engine == Engine::LlamaCpp && !matches!(self.scheme, Scheme::Bare { .. });
        let here = move |tensor: &&Tensor| {
            if host_embeddings && tensor.role == Role::Embedding {
                // The input matrix stays in host memory; a tied one is copied to the GPU as the output head.
                shape.tied_embeddings && stage.last() && is_token_embedding(tensor, shape)
            } else {
                holds(engine, stage, tensor, shape.tied_embeddings) && !is_host_expert(tensor, workload)
            }
        };
        let loaded = move |tensor: &&Tensor| loaded(tensor, shape, engine);
        shape.tensors.iter().filter(loaded).filter(here).map(move |tensor| {
            let (rows, columns, count) = share(tensor, workload, profile, layout);
            (tensor, rows, columns, count)
        })
    }

    /// Whether the weights are counted as a file stores them, or by the seed's rule, rather than as an engine loads them.
    pub(super) fn is_of_files(&self, shape: &ModelShape) -> bool {
        matches!(self.scheme, Scheme::Bare { .. } | Scheme::Stored)
            || shape.tensors.iter().any(|tensor| tensor.stored_bytes.is_some())
    }

    /// What the allocator holds beyond the weights on one GPU of a stage.
    ///
    /// # Errors
    /// An overflow.
    pub(super) fn rounding(
        &self,
        shape: &ModelShape,
        workload: &Workload,
        profile: &Profile,
        layout: &Layout,
        stage: &Stage,
    ) -> Result<Bytes, EstimateError> {
        let mut blocks = Blocks::default();
        if profile.paged && !matches!(self.scheme, Scheme::Bare { .. }) {
            for (tensor, rows, columns, count) in self.held(shape, workload, profile, layout, stage) {
                if rows > 1 {
                    blocks
                        .add(tensor, self.block(shape, workload.engine, tensor, (rows, columns, count))?)?;
                }
            }
        }
        Ok(blocks.rounding()?)
    }

    /// Bytes of one rank's share of a tensor without its scales, which are blocks of their own and small.
    fn block(
        &self,
        shape: &ModelShape,
        engine: Engine,
        tensor: &Tensor,
        (rows, columns, count): (u64, u64, u64),
    ) -> Result<u128, Overflow> {
        let bits = self.quantised(shape, tensor).and_then(format::Format::element_bits);
        let Some(bits) = bits else { return self.tensor(shape, engine, tensor, (rows, columns, count)) };
        let (rows, columns) = self.padded(shape, engine, tensor, rows, columns);
        let elements = product(rows, columns, count)?;
        elements.checked_mul(u128::from(bits)).map(|bits| bits.div_ceil(8)).ok_or(Overflow)
    }

    fn bare(&self, parameters: u64) -> Result<u128, Overflow> {
        match self.scheme {
            Scheme::Bare { bits, per } => {
                let bits = u128::from(parameters).checked_mul(u128::from(bits)).ok_or(Overflow)?;
                Ok(bits.div_ceil(8 * u128::from(per.max(1))))
            }
            _ => Err(Overflow),
        }
    }

    /// Bytes of one rank's share of a tensor.
    fn tensor(
        &self,
        shape: &ModelShape,
        engine: Engine,
        tensor: &Tensor,
        (rows, columns, count): (u64, u64, u64),
    ) -> Result<u128, Overflow> {
        let held = product(rows, columns, count)?;
        let count = u128::from(count);
        let times = |format: format::Format, rows, columns| {
            format.bytes(rows, columns)?.checked_mul(count).ok_or(Overflow)
        };
        match self.scheme {
            Scheme::Uniform(bits) => times(format::Format::Plain(bits), rows, columns),
            Scheme::Quantized(_) | Scheme::Checkpoint(_) => match self.quantised(shape, tensor) {
                Some(format) => {
                    let (rows, columns) = self.padded(shape, engine, tensor, rows, columns);
                    times(format, rows, columns)
                }
                None => times(format::HALF, rows, columns),
            },
            Scheme::Mix(precision) => times(gguf_mix::format(precision, tensor, shape), rows, columns),
            Scheme::Stored => {
                let Some(stored) = tensor.stored_bytes else {
                    return times(format::HALF, rows, columns);
                };
                let whole = product(tensor.rows, tensor.columns, tensor.count)?;
                if whole == 0 {
                    return Ok(0);
                }
                let stored = u128::from(stored);
                if held == whole {
                    return Ok(stored);
                }
                Ok(stored.checked_mul(held).ok_or(Overflow)?.div_ceil(whole))
            }
            Scheme::Bare { .. } => Err(Overflow),
        }
    }

    /// The format of a tensor that the scheme quantises; `None` for one that it leaves alone.
    fn quantised(&self, shape: &ModelShape, tensor: &Tensor) -> Option<format::Format> {
        if matches!(self.scheme, Scheme::Checkpoint(_)) && !self.groups.is_empty() {
            let is_vector = tensor.rows <= 1 || tensor.columns <= 1 || tensor.role == Role::Norm;
            if is_vector || self.ignored.matches(&tensor.name) {
                return None;
            }
            let named = self.groups.iter().find(|group| group.named.matches(&tensor.name));
            let linear = || self.groups.iter().find(|group| group.linear && tensor.quantizable);
            return named.or_else(linear).and_then(|group| group.format);
        }
        let (format, leaves) = match self.scheme {
            Scheme::Quantized(format) => (format, self.leaves(shape, tensor)),
            Scheme::Checkpoint(format) => (format, self.ignored.matches(&tensor.name)),
            _ => return None,
        };
        (tensor.quantizable && !leaves).then_some(format)
    }

    /// The same as those would have it who quantise least, where the format is only on paper and publishers differ: AWQ, GPTQ and
    /// the four-bit floats. Of a mixture of experts they leave all but the experts alone, of a dense model its attention.
    pub(super) fn least_quantised(&self) -> Option<Self> {
        let differs = matches!(
            self.precision,
            Precision::AwqInt4 | Precision::GptqInt4 | Precision::Nvfp4 | Precision::Mxfp4 | Precision::Mxfp8
        );
        (differs && matches!(self.scheme, Scheme::Quantized(_)))
            .then(|| Self { experts_alone: true, ..self.clone() })
    }

    /// What the publisher of a model leaves alone in a format of its own: of gpt-oss, MXFP4 is that of the experts.
    fn leaves(&self, shape: &ModelShape, tensor: &Tensor) -> bool {
        if self.experts_alone {
            let dense = tensor.role == Role::Mlp && shape.experts.is_some();
            return dense || matches!(tensor.role, Role::Attention | Role::SharedExpert | Role::State);
        }
        self.precision == Precision::Mxfp4
            && shape.architecture == "gpt_oss"
            && tensor.role == Role::Attention
    }

    /// The experts of gpt-oss as vLLM's kernels want them: up to 0.18 their hidden width in multiples of 256 (gpt-oss-20b: 12.8 GiB in
    /// the file, 13.47 loaded on an H100).
    fn padded(
        &self,
        shape: &ModelShape,
        engine: Engine,
        tensor: &Tensor,
        rows: u64,
        columns: u64,
    ) -> (u64, u64) {
        let applies = pads_experts(shape, engine, self.precision) && tensor.role == Role::Expert;
        let Some(experts) = shape.experts.filter(|experts| applies && experts.intermediate_size > 0) else {
            return (rows, columns);
        };
        let width = experts.intermediate_size;
        let step = if self.marlin { 128 } else { 256 };
        // The share of a rank of `factor` matrices of `width`, each padded.
        let pad = |held: u64, whole: u64| {
            let factor = if whole.is_multiple_of(width) { (whole / width).max(1) } else { 1 };
            held.div_ceil(factor).div_ceil(step).saturating_mul(step).saturating_mul(factor)
        };
        // `mxfp4_round_up_hidden_size_and_intermediate_size`.
        let stream = |width: u64| if self.marlin { width.div_ceil(256).saturating_mul(256) } else { width };
        match tensor.split {
            crate::model::Split::Rows => (pad(rows, tensor.rows), stream(columns)),
            crate::model::Split::Columns => (stream(rows), pad(columns, tensor.columns)),
            _ => (rows, columns),
        }
    }

    /// The arithmetic in words.
    pub(super) fn formula(&self, shape: &ModelShape, layout: &Layout) -> String {
        let parameters = Parameters(shape.parameters);
        let gpus = layout.ranks.gpus.saturating_mul(u64::try_from(layout.stages.len()).unwrap_or(1));
        let over = if gpus > 1 { format!(", on {gpus} GPUs") } else { String::new() };
        match self.scheme {
            Scheme::Bare { bits, per } => {
                let thousandths = u128::from(bits) * 125 / u128::from(per.max(1));
                let text = format!("{}.{:03}", thousandths / 1000, thousandths % 1000);
                let text = text.trim_end_matches('0').trim_end_matches('.');
                format!("{parameters} parameters x {text} bytes ({}){over}", self.precision)
            }
            Scheme::Uniform(bits) => {
                format!("{parameters} parameters x {} bytes ({}){over}", bits / 8, self.precision)
            }
            Scheme::Quantized(_) | Scheme::Checkpoint(_) => format!(
                "{parameters} parameters: the linear layers as {}, the rest at 16 bits{over}",
                self.precision
            ),
            Scheme::Mix(_) => {
                format!("{parameters} parameters, tensor by tensor as {}{over}", self.precision)
            }
            Scheme::Stored => format!("{parameters} parameters as stored ({}){over}", self.precision),
        }
    }
}

/// Whether llama.cpp is told to leave a layer's routed experts in host memory.
fn is_host_expert(tensor: &Tensor, workload: &Workload) -> bool {
    let host = workload.options.host_expert_layers.filter(|_| workload.engine == Engine::LlamaCpp);
    tensor.role == Role::Expert
        && host.is_some_and(|layers| tensor.layer.is_some_and(|layer| u64::from(layer) < layers))
}

/// The rows and columns that the rank with most holds of a tensor, and of how many.
fn share(tensor: &Tensor, workload: &Workload, profile: &Profile, layout: &Layout) -> (u64, u64, u64) {
    let ranks = layout.ranks.sharing(tensor).max(1);
    if workload.options.expert_parallel && tensor.role == Role::Expert {
        return (tensor.rows, tensor.columns, tensor.count.div_ceil(ranks));
    }
    let split = split_by(workload.engine, tensor);
    let (rows, columns) = shard(tensor, split, ranks, profile.vocabulary_multiple);
    (rows, columns, tensor.count)
}

/// Whether the engine's kernels want the experts wider than they are in the file.
fn pads_experts(shape: &ModelShape, engine: Engine, precision: Precision) -> bool {
    precision == Precision::Mxfp4 && engine == Engine::Vllm && shape.architecture == "gpt_oss"
}

fn product(rows: u64, columns: u64, count: u64) -> Result<u128, Overflow> {
    (u128::from(rows) * u128::from(columns)).checked_mul(u128::from(count)).ok_or(Overflow)
}

/// Whether the engine loads a tensor at all.
fn loaded(tensor: &Tensor, shape: &ModelShape, engine: Engine) -> bool {
    match tensor.role {
        Role::Draft => false,
        // A tied head that is in the file all the same is dropped by every engine but llama.cpp, which uses it.
        Role::OutputHead => !shape.tied_embeddings || engine == Engine::LlamaCpp,
        _ => true,
    }
}

/// The matrix that a tied output head is a copy of, not a position or type embedding; where the file has the head too,
/// there is no need of a copy.
fn is_token_embedding(tensor: &Tensor, shape: &ModelShape) -> bool {
    tensor.rows == shape.vocabulary
        && tensor.columns == shape.hidden_size
        && !shape.tensors.iter().any(|other| other.role == Role::OutputHead)
}

#[cfg(test)]
#[path = "weights_tests.rs"]
mod tests;
