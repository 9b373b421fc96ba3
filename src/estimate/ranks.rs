//! How many ranks share each kind of tensor. With tensor parallelism alone they are the same for all; data-parallel groups have each
//! their own attention and cache, and share what the engine says.
//!
//! Read from vLLM 0.19 to 0.33 (`FusedMoEParallelConfig.make`, `ParallelConfig.use_sequence_parallel_moe`) and SGLang 0.5.15
//! (`compute_dp_attention_world_info`, `vocab_parallel_embedding`, `server_args`).

use super::Workload;
use crate::model::{ModelShape, Role, Tensor};
use crate::precision::Engine;
use crate::units::Overflow;

/// The ranks that share each kind of tensor of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ranks {
    /// Attention, states, their caches, and the input embedding.
    pub attention: u64,
    /// Dense MLPs, and what is not named here.
    pub dense: u64,
    /// The output head.
    pub head: u64,
    /// Routed experts.
    pub experts: u64,
    /// Experts that every token passes.
    pub shared: u64,
    /// GPUs of a stage.
    pub gpus: u64,
    /// Groups that each hold a share of the sequences.
    pub groups: u64,
}

impl Ranks {
    /// The ranks of a stage, where so many share a layer.
    ///
    /// # Errors
    /// An overflow.
    pub(super) fn of(shape: &ModelShape, workload: &Workload, tensor: u64) -> Result<Self, Overflow> {
        let groups = workload.data.max(1);
        let gpus = tensor.checked_mul(groups).ok_or(Overflow)?;
        let alike = Self {
            attention: tensor,
            dense: tensor,
            head: tensor,
            experts: tensor,
            shared: tensor,
            gpus,
            groups,
        };
        if groups == 1 {
            return Ok(alike);
        }
        if let Some(own) = workload.options.attention_groups.filter(|_| workload.is_grouped_within()) {
            let attention = (tensor / groups).max(1);
            return Ok(Self {
                attention,
                dense: if own.whole_mlps { 1 } else { tensor },
                head: if own.head { attention } else { tensor },
                gpus: tensor,
                ..alike
            });
        }
        if workload.engine != Engine::Vllm || shape.experts.is_none() {
            // Copies that know nothing of each other.
            return Ok(alike);
        }
        // All groups together share the experts: a slice of each, or with expert parallelism whole ones. Then, with several ranks
        // to a group, tokens are divided among them where experts are shared by all, and these are held whole.
        let shared = if workload.options.expert_parallel && tensor > 1 { 1 } else { tensor };
        Ok(Self { experts: gpus, shared, ..alike })
    }

    /// The ranks that share a tensor.
    pub(super) const fn sharing(&self, tensor: &Tensor) -> u64 {
        match tensor.role {
            Role::OutputHead => self.head,
            Role::Expert => self.experts,
            // The experts of a draft layer are shared as the others are.
            Role::Draft if tensor.count > 1 => self.experts,
            Role::Attention | Role::State | Role::Embedding | Role::Draft => self.attention,
            Role::SharedExpert => self.shared,
            Role::Mlp | Role::Router | Role::Norm | Role::Vision | Role::Projector => self.dense,
        }
    }

    /// Groups whose tokens meet at the experts.
    pub(super) const fn gathered(&self) -> u64 {
        if self.experts > self.attention { self.groups } else { 1 }
    }

    /// Whether a rank exchanges anything with others.
    pub(super) fn are_connected(&self) -> bool {
        self.attention.max(self.dense).max(self.experts) > 1
    }
}

/// What one group of ranks runs of a workload: its share of the sequences and of the batch.
pub(super) fn of_group(workload: &Workload, told_batch: Option<u64>, ranks: &Ranks) -> Workload {
    if ranks.groups <= 1 {
        return workload.clone();
    }
    let mut group = workload.clone();
    group.sequences = share(workload.sequences, ranks);
    group.options.sequence_cap = workload.options.sequence_cap.map(|cap| share(cap, ranks));
    // SGLang divides its batch among groups within the ranks; elsewhere each group is a server with a batch of its own.
    if workload.is_grouped_within() {
        group.batched_tokens = workload.batched_tokens.map(|tokens| share(tokens, ranks));
    } else if told_batch.is_none() {
        let held = workload.context.unwrap_or(1).saturating_mul(group.running());
        group.batched_tokens = workload.batched_tokens.map(|tokens| tokens.min(held));
    }
    group
}

const fn share(all: u64, ranks: &Ranks) -> u64 {
    all.div_ceil(ranks.groups)
}

#[cfg(test)]
#[path = "ranks_tests.rs"]
mod tests;
