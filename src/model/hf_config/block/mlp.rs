//! What follows attention: a dense MLP, or a mixture of experts.

use super::names::{MlpNames, MoeNames};
use crate::model::hf_config::builder::Builder;
use crate::model::{Experts, Role, Split};

/// A dense MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mlp {
    /// Width of the hidden layer.
    pub(crate) width: u64,
    /// Whether the hidden layer is multiplied by a gate.
    pub(crate) gated: bool,
    /// Whether the projections have biases.
    pub(crate) bias: bool,
}

impl Mlp {
    /// Adds the tensors; `module` replaces the module's name.
    pub(crate) fn build(&self, b: &mut Builder, names: &MlpNames, module: &str, role: Role, hidden: u64) {
        if role != Role::Expert {
            b.shape.intermediate_size = b.shape.intermediate_size.max(self.width);
        }
        let name = |part: &str| if module.is_empty() { part.to_owned() } else { format!("{module}.{part}") };
        match names.fused {
            Some(fused) if self.gated => {
                b.linear(&name(fused), role, (2 * self.width, hidden), Split::Rows, self.bias);
            }
            _ => {
                if self.gated {
                    b.linear(&name(names.gate), role, (self.width, hidden), Split::Rows, self.bias);
                }
                b.linear(&name(names.up), role, (self.width, hidden), Split::Rows, self.bias);
            }
        }
        b.linear(&name(names.down), role, (hidden, self.width), Split::Columns, self.bias);
    }
}

/// A mixture of experts.
#[allow(clippy::struct_excessive_bools)] // each is a tensor that is there or not
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moe {
    /// Routed experts.
    pub(crate) count: u64,
    /// Experts per token.
    pub(crate) per_token: u64,
    /// Hidden width of a routed expert.
    pub(crate) width: u64,
    /// Width of the experts' input and output, where it is not the residual stream's; 0 where it is.
    pub(crate) input: u64,
    /// Hidden width of all shared experts together; 0 for none.
    pub(crate) shared_width: u64,
    /// Whether the shared expert's output is multiplied by a gate of one feature (Qwen).
    pub(crate) shared_gate: bool,
    /// Whether the hidden layers are multiplied by a gate.
    pub(crate) gated: bool,
    /// Whether the experts' projections have biases (gpt-oss).
    pub(crate) bias: bool,
    /// Whether the router has a bias.
    pub(crate) router_bias: bool,
    /// Whether the router's scores are corrected by a vector (DeepSeek-V3).
    pub(crate) correction: bool,
}

impl Moe {
    /// Adds the tensors.
    pub(crate) fn build(&self, b: &mut Builder, names: &MoeNames, hidden: u64) {
        let input = if self.input == 0 { hidden } else { self.input };
        b.shape.experts =
            Some(Experts { count: self.count, per_token: self.per_token, intermediate_size: self.width });
        let name = |part: &str| {
            if names.module.is_empty() { part.to_owned() } else { format!("{}.{part}", names.module) }
        };
        b.linear(
            &name(names.router),
            Role::Router,
            (self.count, hidden),
            Split::Replicated,
            self.router_bias,
        );
        if self.correction {
            b.vector(&name(names.correction), self.count);
        }
        let fused = names.expert.fused.filter(|_| self.gated);
        let expert = |part: &str| match fused {
            // One tensor with a dimension for the experts.
            Some(_) => name(&format!("experts.{part}")),
            None => name(&format!("experts.*.{part}.weight")),
        };
        let (expert_role, count) = (Role::Expert, self.count);
        if let Some(fused) = fused {
            b.matrices(&expert(fused), expert_role, count, 2 * self.width, input, Split::Rows);
        } else {
            if self.gated {
                b.matrices(&expert(names.expert.gate), expert_role, count, self.width, input, Split::Rows);
            }
            b.matrices(&expert(names.expert.up), expert_role, count, self.width, input, Split::Rows);
        }
        b.matrices(&expert(names.expert.down), expert_role, count, input, self.width, Split::Columns);
        if self.bias {
            let up = self.width * if self.gated { 2 } else { 1 };
            b.matrices(&name("experts.*.up_bias"), Role::Norm, self.count, 1, up, Split::Columns);
            b.matrices(&name("experts.*.down_bias"), Role::Norm, self.count, 1, input, Split::Replicated);
        }
        if self.shared_width > 0 {
            let shared = Mlp { width: self.shared_width, gated: self.gated, bias: false };
            // Granite's shared expert is fused too, and stands beside the mixture.
            let module = if names.module == "block_sparse_moe" && names.shared == "shared_mlp" {
                names.shared.to_owned()
            } else {
                name(names.shared)
            };
            let shared_names = MlpNames {
                fused: names.expert.fused.filter(|_| names.expert.gate.is_empty()),
                ..names.expert
            };
            shared.build(b, &shared_names, &module, Role::SharedExpert, hidden);
            if self.shared_gate {
                let gate = name(&format!("{}_gate", names.shared));
                b.linear(&gate, Role::Router, (1, hidden), Split::Replicated, false);
            }
        }
    }
}

/// The MLP of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ffn {
    /// None (a no-op layer of a searched architecture).
    None,
    /// A dense one.
    Dense(Mlp),
    /// A mixture of experts.
    Moe(Moe),
}

/// From the residual stream to the narrower one of the experts, and back; none where `latent` is 0.
pub(crate) fn latent_projections(b: &mut Builder, module: &str, hidden: u64, latent: u64) {
    let (down, up) = (format!("{module}.fc1_latent_proj"), format!("{module}.fc2_latent_proj"));
    b.linear(&down, Role::SharedExpert, (latent, hidden), Split::Replicated, false);
    b.linear(&up, Role::SharedExpert, (hidden, latent), Split::Replicated, false);
}
