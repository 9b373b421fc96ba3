//! `parallelism.tensor: auto`: the smallest number of GPUs that fits.

use super::requirement_of;
use crate::decide::{LARGEST_GPU_MADE, Policy, Request, Verdict, decide};
use crate::estimate::Workload;
use crate::inventory::{Inventory, Owner};
use crate::model::ModelShape;
use crate::units::Margin;

/// More GPUs than this are in no node that is sold as one.
const MOST_GPUS: u64 = 16;

/// What decides which number fits.
pub(super) struct Question<'a> {
    pub(super) shape: &'a ModelShape,
    pub(super) margin: Margin,
    pub(super) policy: &'a Policy,
    pub(super) owner: Option<Owner<'a>>,
    pub(super) inventory: &'a Inventory,
}

/// The workload with the smallest tensor parallelism that some node of the cluster has room for, in use or not: what runs
/// there changes by the minute, and the pods must not be rolled for it. Where none has, the smallest that a GPU of any
/// make would do, for an autoscaler to bring; else 1.
pub(super) fn smallest(asked: &Workload, question: &Question<'_>) -> Workload {
    let candidates: Vec<(Workload, _)> = candidates(question.shape)
        .filter_map(|tensor| {
            let workload = Workload { tensor, ..asked.clone() };
            let requirement = requirement_of(question.shape, &workload, question.margin)?;
            (requirement.gpus <= MOST_GPUS.max(asked.pipeline)).then_some((workload, requirement))
        })
        .collect();
    let largest_node = question.inventory.most_gpus_per_node();
    let in_cluster = candidates.iter().find(|(_, requirement)| {
        let request = Request { requirement: *requirement, policy: question.policy, owner: question.owner };
        requirement.gpus <= largest_node
            && matches!(decide(&request, question.inventory, &[]).verdict, Verdict::Fits | Verdict::Busy)
    });
    let found = in_cluster
        .or_else(|| candidates.iter().find(|(_, requirement)| requirement.per_gpu <= LARGEST_GPU_MADE))
        .map(|(workload, _)| workload.clone());
    found.unwrap_or_else(|| Workload { tensor: 1, ..asked.clone() })
}

/// Powers of two, as GPUs come; for a model whose heads no power of two divides, the divisors of its heads.
fn candidates(shape: &ModelShape) -> impl Iterator<Item = u64> {
    let heads = shape.heads;
    (1..=MOST_GPUS).filter(move |tensor| {
        tensor.is_power_of_two() || (heads > 0 && heads % 2 == 1 && heads.is_multiple_of(*tensor))
    })
}
