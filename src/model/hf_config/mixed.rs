//! Checkpoints whose modules have different formats: the bytes of every tensor are worked out here.

use std::collections::HashMap;

use super::builder::Builder;
use crate::model::{Role, Tensor};
use crate::precision::Precision;

/// The format of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// The format.
    pub(super) precision: Precision,
    /// Weights per scale, or the side of a block; 0 for one scale per tensor.
    pub(super) group: u64,
}

/// Which modules have which format. What no rule covers has 16 bits.
#[derive(Clone, Debug, Default)]
pub(super) struct Mixed {
    /// By the names of the modules.
    pub(super) modules: HashMap<String, Rule>,
    /// Routed experts that are not listed.
    pub(super) experts: Option<Rule>,
    /// Other quantisable matrices that are not listed.
    pub(super) others: Option<Rule>,
}

impl Mixed {
    /// The module `name`, and all below it.
    pub(super) fn add(&mut self, name: &str, rule: Rule) {
        self.modules.insert(without_index(name), rule);
    }

    /// The rule for a tensor: that of its module, or of the nearest module above.
    fn rule(&self, tensor: &Tensor) -> Option<Rule> {
        let mut module = tensor.name.strip_suffix(".weight").unwrap_or(&tensor.name);
        loop {
            if let Some(rule) = self.modules.get(module) {
                // A norm or bias inside a listed module is still a vector.
                return Some(*rule).filter(|_| tensor.role != Role::Norm && tensor.role != Role::State);
            }
            match module.rsplit_once('.') {
                Some((above, _)) => module = above,
                None => break,
            }
        }
        if !tensor.quantizable {
            return None;
        }
        if tensor.name.contains(".experts.") { self.experts.or(self.others) } else { self.others }
    }

    /// Writes the bytes of every tensor, and says which format most weights have.
    pub(super) fn apply(&self, b: &mut Builder) -> Precision {
        let mut totals: Vec<(Precision, u64)> = Vec::new();
        for tensor in &mut b.shape.tensors {
            let rule = self.rule(tensor);
            let elements = tensor.count.saturating_mul(tensor.rows).saturating_mul(tensor.columns);
            tensor.stored_bytes = Some(match rule {
                Some(rule) => bytes(tensor, rule),
                None => elements.saturating_mul(2),
            });
            let Some(rule) = rule else { continue };
            match totals.iter_mut().find(|(precision, _)| *precision == rule.precision) {
                Some((_, total)) => *total = total.saturating_add(elements),
                None => totals.push((rule.precision, elements)),
            }
        }
        let most = totals.into_iter().max_by_key(|(_, elements)| *elements);
        most.map_or(Precision::Bf16, |(precision, _)| precision)
    }

    /// The group size of a format.
    pub(super) fn group_of(&self, precision: Precision) -> u64 {
        let all = self.modules.values().chain(&self.experts).chain(&self.others);
        all.filter(|rule| rule.precision == precision).map(|rule| rule.group).max().unwrap_or(0)
    }
}

/// How a format without a name of its own packs its weights.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packing {
    /// Bits of so many weights together: 3 bits of one, or 17 bits of four.
    pub(super) bits: u64,
    /// The weights that they are of.
    pub(super) weights: u64,
    /// Weights along a row that share scales and zero points; 0 for a row.
    pub(super) group: u64,
    /// Bits that each group has besides.
    pub(super) group_bits: u64,
    /// Bytes that each matrix has besides, such as a codebook.
    pub(super) matrix_bytes: u64,
}

impl Packing {
    /// Writes the bytes of every tensor: those that quantisation leaves alone have 16 bits.
    pub(super) fn apply(&self, b: &mut Builder) {
        for tensor in &mut b.shape.tensors {
            let rows = tensor.rows.saturating_mul(tensor.count);
            let elements = rows.saturating_mul(tensor.columns);
            let group = if self.group == 0 { tensor.columns } else { self.group };
            let groups = rows.saturating_mul(tensor.columns.div_ceil(group.max(1)));
            let codes = u128::from(elements) * u128::from(self.bits);
            let codes = codes.div_ceil(8 * u128::from(self.weights.max(1)));
            let scales = u128::from(groups) * u128::from(self.group_bits);
            let tables = u128::from(tensor.count) * u128::from(self.matrix_bytes);
            let packed = u64::try_from(codes + scales.div_ceil(8) + tables).unwrap_or(u64::MAX);
            tensor.stored_bytes = Some(if tensor.quantizable { packed } else { elements.saturating_mul(2) });
        }
    }
}

/// Experts are listed one by one; here they are one tensor with a count.
fn without_index(name: &str) -> String {
    let mut parts: Vec<&str> = name.split('.').collect();
    for at in 1..parts.len() {
        let after_experts = parts.get(at - 1) == Some(&"experts");
        if let Some(part) = parts.get_mut(at).filter(|_| after_experts)
            && part.bytes().all(|byte| byte.is_ascii_digit())
        {
            *part = "*";
        }
    }
    parts.join(".")
}

/// The bytes of a tensor in a format, with its scales.
fn bytes(tensor: &Tensor, rule: Rule) -> u64 {
    let rows = tensor.rows.saturating_mul(tensor.count);
    let elements = rows.saturating_mul(tensor.columns);
    let groups = |size: u64| rows.saturating_mul(tensor.columns.div_ceil(size.max(1)));
    let half = elements.div_ceil(2);
    let group = if rule.group == 0 { tensor.columns } else { rule.group };
    match rule.precision {
        Precision::Fp8Block => {
            let blocks = tensor.rows.div_ceil(128).saturating_mul(tensor.columns.div_ceil(128));
            elements.saturating_add(blocks.saturating_mul(tensor.count).saturating_mul(4))
        }
        Precision::Fp8 => elements.saturating_add(tensor.count.saturating_mul(4)),
        Precision::Int8 => elements.saturating_add(rows.saturating_mul(4)),
        Precision::Mxfp8 => elements.saturating_add(groups(32)),
        Precision::Mxfp4 => half.saturating_add(groups(32)),
        // A scale per group, and two per tensor.
        Precision::Nvfp4 => half.saturating_add(groups(16)).saturating_add(tensor.count.saturating_mul(8)),
        Precision::AwqInt4 | Precision::GptqInt4 => {
            half.saturating_add(groups(group).saturating_mul(2)).saturating_add(groups(group).div_ceil(2))
        }
        _ => elements.saturating_mul(2),
    }
}
