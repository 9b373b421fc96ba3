//! Room for LoRA adapters at serving: engines allocate it for every linear layer, whether an adapter uses it or not.

use crate::estimate::options::Adapters;
use crate::estimate::parallelism::{Stage, holds};
use crate::estimate::run::Run;
use crate::estimate::{EstimateError, bytes_of};
use crate::model::{Role, Split, Tensor};
use crate::units::{Bytes, Overflow};

/// Bytes of an element: adapters are held at 16 bits, whatever the base is.
const ELEMENT: u128 = 2;

/// The adapters' slots on one GPU of a stage, and of how many matrices.
///
/// A slot of rank r is r inputs and r outputs of the matrix. Of a matrix that is split by outputs every rank keeps the whole
/// first half and its share of the second; of one that is split by inputs, the other way round (vLLM's
/// `ColumnParallelLinearWithLoRA` and `RowParallelLinearWithLoRA`, not fully sharded).
///
/// # Errors
/// An overflow.
pub(crate) fn stage(run: &Run<'_>, adapters: Adapters, stage: &Stage) -> Result<(Bytes, u64), EstimateError> {
    let Run { shape, workload, layout, .. } = *run;
    if shape.tensors.is_empty() {
        return assumed(run, adapters, stage);
    }
    let (mut widths, mut matrices) = (0_u128, 0_u64);
    for tensor in shape.tensors.iter().filter(|tensor| takes_adapters(tensor)) {
        if !holds(workload.engine, stage, tensor, shape.tied_embeddings) {
            continue;
        }
        let ranks = layout.ranks.sharing(tensor).max(1);
        let (rows, columns) = match tensor.split {
            Split::Rows | Split::KeyValueHeads(_) | Split::Vocabulary => {
                (tensor.rows.div_ceil(ranks), tensor.columns)
            }
            Split::Columns => (tensor.rows, tensor.columns.div_ceil(ranks)),
            Split::Replicated => (tensor.rows, tensor.columns),
        };
        let width = u128::from(rows).checked_add(u128::from(columns)).ok_or(Overflow)?;
        let all = width.checked_mul(u128::from(tensor.count)).ok_or(Overflow)?;
        widths = widths.checked_add(all).ok_or(Overflow)?;
        matrices = matrices.saturating_add(tensor.count);
    }
    Ok((slots(widths, adapters)?, matrices))
}

/// Linear layers of the decoder, and the two matrices at its ends; not norms, routers, towers or recurrent parameters.
fn takes_adapters(tensor: &Tensor) -> bool {
    let linear = matches!(tensor.role, Role::Attention | Role::Mlp | Role::SharedExpert | Role::Expert);
    let end = matches!(tensor.role, Role::Embedding | Role::OutputHead);
    tensor.rows > 1 && tensor.columns > 1 && (linear || end)
}

/// Of a size alone: queries, keys, values and output, and the three matrices of an MLP, in every layer.
fn assumed(run: &Run<'_>, adapters: Adapters, stage: &Stage) -> Result<(Bytes, u64), EstimateError> {
    let Run { shape, layout, .. } = *run;
    let ranks = u128::from(layout.tensor.max(1));
    let (hidden, inner) = (u128::from(shape.hidden_size), u128::from(shape.intermediate_size));
    let queries = u128::from(shape.heads).checked_mul(u128::from(shape.head_dim)).ok_or(Overflow)?;
    let split = |width: u128| width.div_ceil(ranks);
    // Keys and values are at most as wide as queries.
    let attention = [3 * hidden, 4 * split(queries), hidden].into_iter().sum::<u128>();
    let mlp = [3 * hidden, 3 * split(inner)].into_iter().sum::<u128>();
    let layers = stage.layers.end.saturating_sub(stage.layers.start);
    let widths = attention.checked_add(mlp).and_then(|width| width.checked_mul(u128::from(layers)));
    Ok((slots(widths.ok_or(Overflow)?, adapters)?, layers.saturating_mul(7)))
}

fn slots(widths: u128, adapters: Adapters) -> Result<Bytes, Overflow> {
    let slots = u128::from(adapters.count).checked_mul(u128::from(adapters.rank)).ok_or(Overflow)?;
    bytes_of(widths.checked_mul(slots).and_then(|elements| elements.checked_mul(ELEMENT)).ok_or(Overflow)?)
}
