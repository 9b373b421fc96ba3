//! What the weights take on one GPU: which tensors it holds, and at what size.

use super::allocator::Blocks;
use super::loading::{Scheme, pads_experts};
use super::{format, gguf_mix};
use crate::estimate::parallelism::{Stage, holds, shard, split_by};
use crate::estimate::run::Run;
use crate::estimate::{EstimateError, Workload, bytes_of};
use crate::model::{ModelShape, Role, Tensor};
use crate::precision::{Engine, Precision};
use crate::units::{Bytes, Overflow, Parameters};

impl Run<'_> {
    /// The weights on one GPU of a stage.
    ///
    /// # Errors
    /// An overflow.
    pub(crate) fn weights(&self, stage: &Stage) -> Result<Bytes, EstimateError> {
        let ranks = u128::from(self.layout.tensor);
        if self.shape.tensors.is_empty() {
            let whole = self.bare_bytes(self.shape.parameters)?;
            let gpus = ranks.saturating_mul(u128::from(stage.of)).max(1);
            return Ok(bytes_of(whole.div_ceil(gpus))?);
        }
        let mut total: u128 = 0;
        let mut elements: u128 = 0;
        for (tensor, rows, columns, count) in self.held(stage) {
            let held = product(rows, columns, count)?;
            elements = elements.checked_add(held).ok_or(Overflow)?;
            if !matches!(self.loading.scheme, Scheme::Bare { .. }) {
                let bytes = self.tensor_bytes(tensor, (rows, columns, count))?;
                total = total.checked_add(bytes).ok_or(Overflow)?;
            }
        }
        if matches!(self.loading.scheme, Scheme::Bare { .. }) {
            let mut all: u128 = 0;
            for tensor in
                self.shape.tensors.iter().filter(|tensor| loaded(tensor, self.shape, self.workload.engine))
            {
                all = all.checked_add(product(tensor.rows, tensor.columns, tensor.count)?).ok_or(Overflow)?;
            }
            let whole = self.bare_bytes(self.shape.parameters)?;
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
    pub(crate) fn draft_weights(&self) -> Result<Bytes, EstimateError> {
        let mut total: u128 = 0;
        for tensor in self.shape.tensors.iter().filter(|tensor| tensor.role == Role::Draft) {
            let (rows, columns, count) = self.share(tensor);
            let bytes = match self.loading.scheme {
                Scheme::Bare { bits, per } => product(rows, columns, count)?
                    .checked_mul(u128::from(bits))
                    .ok_or(Overflow)?
                    .div_ceil(8 * u128::from(per.max(1))),
                _ => self.tensor_bytes(tensor, (rows, columns, count))?,
            };
            total = total.checked_add(bytes).ok_or(Overflow)?;
        }
        Ok(bytes_of(total)?)
    }

    /// The tensors that one GPU of a stage holds a share of, with the share's rows and columns, and of how many.
    fn held<'a>(&'a self, stage: &'a Stage) -> impl Iterator<Item = (&'a Tensor, u64, u64, u64)> {
        let engine = self.workload.engine;
        let host_embeddings =
            engine == Engine::LlamaCpp && !matches!(self.loading.scheme, Scheme::Bare { .. });
        let here = move |tensor: &&Tensor| {
            if host_embeddings && tensor.role == Role::Embedding {
                // The input matrix stays in host memory; a tied one is copied to the GPU as the output head.
                self.shape.tied_embeddings && stage.last() && is_token_embedding(tensor, self.shape)
            } else {
                holds(engine, stage, tensor, self.shape.tied_embeddings)
                    && !is_host_expert(tensor, self.workload)
            }
        };
        let loaded = move |tensor: &&Tensor| loaded(tensor, self.shape, engine);
        self.shape.tensors.iter().filter(loaded).filter(here).map(move |tensor| {
            let (rows, columns, count) = self.share(tensor);
            (tensor, rows, columns, count)
        })
    }

    /// What the allocator holds beyond the weights on one GPU of a stage.
    ///
    /// # Errors
    /// An overflow.
    pub(crate) fn rounding(&self, stage: &Stage) -> Result<Bytes, EstimateError> {
        let mut blocks = Blocks::default();
        if self.profile.paged && !matches!(self.loading.scheme, Scheme::Bare { .. }) {
            for (tensor, rows, columns, count) in self.held(stage) {
                if rows > 1 {
                    blocks.add(tensor, self.block_bytes(tensor, (rows, columns, count))?)?;
                }
            }
        }
        Ok(blocks.rounding()?)
    }

    /// Bytes of one rank's share of a tensor without its scales, which are blocks of their own and small.
    fn block_bytes(
        &self,
        tensor: &Tensor,
        (rows, columns, count): (u64, u64, u64),
    ) -> Result<u128, Overflow> {
        let bits = self.quantised(tensor).and_then(format::Format::element_bits);
        let Some(bits) = bits else { return self.tensor_bytes(tensor, (rows, columns, count)) };
        let (rows, columns) = self.padded(tensor, rows, columns);
        let elements = product(rows, columns, count)?;
        elements.checked_mul(u128::from(bits)).map(|bits| bits.div_ceil(8)).ok_or(Overflow)
    }

    fn bare_bytes(&self, parameters: u64) -> Result<u128, Overflow> {
        match self.loading.scheme {
            Scheme::Bare { bits, per } => {
                let bits = u128::from(parameters).checked_mul(u128::from(bits)).ok_or(Overflow)?;
                Ok(bits.div_ceil(8 * u128::from(per.max(1))))
            }
            _ => Err(Overflow),
        }
    }

    /// Bytes of one rank's share of a tensor.
    fn tensor_bytes(
        &self,
        tensor: &Tensor,
        (rows, columns, count): (u64, u64, u64),
    ) -> Result<u128, Overflow> {
        let held = product(rows, columns, count)?;
        let count = u128::from(count);
        let times = |format: format::Format, rows, columns| {
            format.bytes(rows, columns)?.checked_mul(count).ok_or(Overflow)
        };
        match self.loading.scheme {
            Scheme::Uniform(bits) => times(format::Format::Plain(bits), rows, columns),
            Scheme::Quantized(_) | Scheme::Checkpoint(_) => match self.quantised(tensor) {
                Some(format) => {
                    let (rows, columns) = self.padded(tensor, rows, columns);
                    times(format, rows, columns)
                }
                None => times(format::HALF, rows, columns),
            },
            Scheme::Mix(precision) => times(gguf_mix::format(precision, tensor, self.shape), rows, columns),
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
    fn quantised(&self, tensor: &Tensor) -> Option<format::Format> {
        if matches!(self.loading.scheme, Scheme::Checkpoint(_)) && !self.loading.groups.is_empty() {
            let is_vector = tensor.rows <= 1 || tensor.columns <= 1 || tensor.role == Role::Norm;
            if is_vector || self.loading.ignored.matches(&tensor.name) {
                return None;
            }
            let named = self.loading.groups.iter().find(|group| group.named.matches(&tensor.name));
            let linear = || self.loading.groups.iter().find(|group| group.linear && tensor.quantizable);
            return named.or_else(linear).and_then(|group| group.format);
        }
        let (format, leaves) = match self.loading.scheme {
            Scheme::Quantized(format) => (format, self.leaves(tensor)),
            Scheme::Checkpoint(format) => (format, self.loading.ignored.matches(&tensor.name)),
            _ => return None,
        };
        (tensor.quantizable && !leaves).then_some(format)
    }

    /// What the publisher of a model leaves alone in a format of its own: of gpt-oss, MXFP4 is that of the experts.
    fn leaves(&self, tensor: &Tensor) -> bool {
        if self.loading.experts_alone {
            let dense = tensor.role == Role::Mlp && self.shape.experts.is_some();
            return dense || matches!(tensor.role, Role::Attention | Role::SharedExpert | Role::State);
        }
        self.loading.precision == Precision::Mxfp4
            && self.shape.architecture == "gpt_oss"
            && tensor.role == Role::Attention
    }

    /// The experts of gpt-oss as vLLM's kernels want them: up to 0.18 their hidden width in multiples of 256 (gpt-oss-20b: 12.8 GiB in
    /// the file, 13.47 loaded on an H100).
    fn padded(&self, tensor: &Tensor, rows: u64, columns: u64) -> (u64, u64) {
        let applies = pads_experts(self.shape, self.workload.engine, self.loading.precision)
            && tensor.role == Role::Expert;
        let Some(experts) = self.shape.experts.filter(|experts| applies && experts.intermediate_size > 0)
        else {
            return (rows, columns);
        };
        let width = experts.intermediate_size;
        let step = if self.loading.marlin { 128 } else { 256 };
        // The share of a rank of `factor` matrices of `width`, each padded.
        let pad = |held: u64, whole: u64| {
            let factor = if whole.is_multiple_of(width) { (whole / width).max(1) } else { 1 };
            held.div_ceil(factor).div_ceil(step).saturating_mul(step).saturating_mul(factor)
        };
        // `mxfp4_round_up_hidden_size_and_intermediate_size`.
        let stream =
            |width: u64| if self.loading.marlin { width.div_ceil(256).saturating_mul(256) } else { width };
        match tensor.split {
            crate::model::Split::Rows => (pad(rows, tensor.rows), stream(columns)),
            crate::model::Split::Columns => (stream(rows), pad(columns, tensor.columns)),
            _ => (rows, columns),
        }
    }

    /// The arithmetic in words.
    pub(crate) fn weights_formula(&self) -> String {
        let parameters = Parameters(self.shape.parameters);
        let gpus =
            self.layout.ranks.gpus.saturating_mul(u64::try_from(self.layout.stages.len()).unwrap_or(1));
        let over = if gpus > 1 { format!(", on {gpus} GPUs") } else { String::new() };
        match self.loading.scheme {
            Scheme::Bare { bits, per } => {
                let thousandths = u128::from(bits) * 125 / u128::from(per.max(1));
                let text = format!("{}.{:03}", thousandths / 1000, thousandths % 1000);
                let text = text.trim_end_matches('0').trim_end_matches('.');
                format!("{parameters} parameters x {text} bytes ({}){over}", self.loading.precision)
            }
            Scheme::Uniform(bits) => {
                format!("{parameters} parameters x {} bytes ({}){over}", bits / 8, self.loading.precision)
            }
            Scheme::Quantized(_) | Scheme::Checkpoint(_) => format!(
                "{parameters} parameters: the linear layers as {}, the rest at 16 bits{over}",
                self.loading.precision
            ),
            Scheme::Mix(_) => {
                format!("{parameters} parameters, tensor by tensor as {}{over}", self.loading.precision)
            }
            Scheme::Stored => format!("{parameters} parameters as stored ({}){over}", self.loading.precision),
        }
    }

    /// The rows and columns that the rank with most holds of a tensor, and of how many.
    fn share(&self, tensor: &Tensor) -> (u64, u64, u64) {
        let ranks = self.layout.ranks.sharing(tensor).max(1);
        if self.workload.options.expert_parallel && tensor.role == Role::Expert {
            return (tensor.rows, tensor.columns, tensor.count.div_ceil(ranks));
        }
        let split = split_by(self.workload.engine, tensor);
        let (rows, columns) = shard(tensor, split, ranks, self.profile.vocabulary_multiple);
        (rows, columns, tensor.count)
    }
}

/// Whether llama.cpp is told to leave a layer's routed experts in host memory.
fn is_host_expert(tensor: &Tensor, workload: &Workload) -> bool {
    let host = workload.options.host_expert_layers.filter(|_| workload.engine == Engine::LlamaCpp);
    tensor.role == Role::Expert
        && host.is_some_and(|layers| tensor.layer.is_some_and(|layer| u64::from(layer) < layers))
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
