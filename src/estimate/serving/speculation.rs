//! Speculative decoding: the draft's weights and its cache, beside the model's own.

use crate::estimate::cache::by_layer::Cache;
use crate::estimate::options::{Draft, Options, Speculation};
use crate::estimate::parallelism::{self, Stage};
use crate::estimate::run::Run;
use crate::estimate::weights::loading;
use crate::estimate::{EstimateError, Workload, bytes_of};
use crate::model::{Attention, CacheKind, Confidence, Layer, ModelShape, Role, Span, catalog};
use crate::units::{Bytes, Overflow};

/// What a draft takes on one GPU.
pub(crate) struct Extra {
    pub weights: Bytes,
    pub cache: Bytes,
    /// What the draft is, in words.
    pub what: String,
    pub confidence: Confidence,
}

/// What the draft takes on one GPU of a stage: the last one guesses (vLLM and SGLang), the others do nothing for it.
///
/// # Errors
/// A model without heads of its own where they are asked for, a draft that is not in the catalog or cannot be shared among as
/// many ranks, or an overflow.
pub(crate) fn stage(run: &Run<'_>, stage: &Stage, cache: &Cache) -> Result<Option<Extra>, EstimateError> {
    let Some(speculation) = run.workload.options.speculation.as_ref().filter(|_| stage.last()) else {
        return Ok(None);
    };
    match &speculation.draft {
        Draft::Text => Ok(None),
        Draft::OwnHeads => own_heads(run, stage, cache).map(Some),
        Draft::Head => head(run, stage, cache).map(Some),
        Draft::Model(name) => model(name, run, cache).map(Some),
    }
}

/// Refuses what no draft can do, before anything is counted.
pub(crate) fn check(shape: &ModelShape, speculation: &Speculation) -> Result<(), EstimateError> {
    let invalid = |problem: String, remedy: String| {
        Err(EstimateError::Invalid { field: "engine.args", problem, remedy })
    };
    match &speculation.draft {
        Draft::OwnHeads if !has_own_heads(shape) => invalid(
            format!("{} has no layers that predict further tokens", shape.name),
            "name a draft model, or leave speculation out".to_owned(),
        ),
        Draft::Model(name) if catalog::shape(name).is_none() => {
            let near = catalog::suggest(name);
            let remedy = if near.is_empty() {
                "name one that `loadline estimate --list-models` lists".to_owned()
            } else {
                format!("name one that is, such as {}", near.join(" or "))
            };
            invalid(format!("the draft model {} is not in the catalog", crate::units::shorten(name)), remedy)
        }
        _ => Ok(()),
    }
}

fn has_own_heads(shape: &ModelShape) -> bool {
    shape.tensors.iter().any(|tensor| tensor.role == Role::Draft)
}

/// The model's own heads: their tensors, and their layers' caches in the model's own pool.
fn own_heads(run: &Run<'_>, stage: &Stage, cache: &Cache) -> Result<Extra, EstimateError> {
    let Run { shape, loading, .. } = *run;
    let weights = run.draft_weights()?;
    let own: Vec<&Layer> = stage.caches(&shape.layers).collect();
    let both: Vec<&Layer> = own.iter().copied().chain(&shape.draft_layers).collect();
    let more = cache.layers(shape, &both)?.saturating_sub(cache.layers(shape, &own)?);
    Ok(Extra {
        weights,
        cache: bytes_of(more)?,
        what: format!("{} layers that predict further tokens", shape.draft_layers.len().max(1)),
        confidence: loading.confidence.max(Confidence::Derived),
    })
}

/// A head of which nothing is known but its kind: one layer like the model's widest, a matrix that merges three hidden states,
/// and an output matrix of its own; the embedding is the model's (EAGLE-3).
fn head(run: &Run<'_>, stage: &Stage, cache: &Cache) -> Result<Extra, EstimateError> {
    let Run { shape, layout, .. } = *run;
    let ranks = u128::from(layout.tensor.max(1));
    let hidden = u128::from(shape.hidden_size);
    let queries = u128::from(shape.heads).checked_mul(u128::from(shape.head_dim)).ok_or(Overflow)?;
    // Queries, keys and values read the token beside the state; keys and values are at most as wide as queries.
    let attention = queries.checked_mul(hidden).and_then(|one| one.checked_mul(7)).ok_or(Overflow)?;
    let mlp = u128::from(shape.intermediate_size).checked_mul(3 * hidden).ok_or(Overflow)?;
    let output = u128::from(shape.vocabulary).checked_mul(hidden).ok_or(Overflow)?;
    let shared = [attention, mlp, output].into_iter().try_fold(0_u128, u128::checked_add).ok_or(Overflow)?;
    let merge = hidden.checked_mul(3 * hidden).ok_or(Overflow)?;
    let elements = shared.div_ceil(ranks).checked_add(merge).ok_or(Overflow)?;
    let like = stage.caches(&shape.layers).find(|layer| layer.attention.is_some());
    let layer = Layer {
        attention: like
            .and_then(|layer| layer.attention)
            .filter(|attention| matches!(attention.cache, CacheKind::Heads { .. }))
            .or_else(|| {
                let kv_heads = shape.heads;
                let cache = CacheKind::Heads { kv_heads, key_dim: shape.head_dim, value_dim: shape.head_dim };
                (kv_heads > 0).then_some(Attention { cache, span: Span::Full })
            })
            .map(|attention| Attention { span: Span::Full, ..attention }),
        state: None,
    };
    Ok(Extra {
        weights: bytes_of(elements.checked_mul(2).ok_or(Overflow)?)?,
        cache: bytes_of(cache.layers(shape, &[&layer])?)?,
        what: "a draft head of one layer".to_owned(),
        confidence: Confidence::Assumed,
    })
}

/// A smaller model, shared among as many ranks.
fn model(name: &str, run: &Run<'_>, cache: &Cache) -> Result<Extra, EstimateError> {
    let Some(draft) = catalog::shape(name) else { return Err(Overflow.into()) };
    let workload = run.workload;
    let alone = Workload {
        precision: None,
        pipeline: 1,
        options: Options { speculation: None, adapters: None, ..workload.options.clone() },
        ..workload.clone()
    };
    let layout = parallelism::layout(&draft, &alone).map_err(|error| match error {
        EstimateError::Invalid { problem, remedy, .. } => EstimateError::Invalid {
            field: "engine.args",
            problem: format!("the draft model {}: {problem}", draft.name),
            remedy: format!("{remedy}, or name another draft"),
        },
        overflow @ EstimateError::Overflow(_) => overflow,
    })?;
    let loading = loading::loading(&draft, &alone);
    let (mut weights, mut kept) = (Bytes::ZERO, Bytes::ZERO);
    let own = Run { shape: &draft, workload: &alone, loading: &loading, layout: &layout, ..*run };
    for stage in &layout.stages {
        weights = weights.max(own.weights(stage)?);
        let cache = Cache { model_element: loading.element_bytes(), ..*cache };
        kept = kept.max(cache.stage(&draft, stage)?);
    }
    Ok(Extra {
        weights,
        cache: kept,
        what: format!("the draft model {}", draft.name),
        confidence: loading.confidence,
    })
}
