//! The estimate of a serving workload: every component on every stage, and the GPU that needs most.

mod activations;
mod adapters;
mod llama_cpp;
mod overhead;
mod speculation;

use super::cache::by_layer::Cache;
use super::cache::element;
use super::parallelism::{self, Stage};
use super::profile::{self, Profile};
use super::ranks;
use super::run::Run;
use super::version::{self, EngineVersion, VllmRules};
use super::weights::loading::{self, Loading};
use super::{Components, Estimate, EstimateError, Logged, Term, Workload};
use crate::model::{Confidence, ModelShape, ShapeSource};
use crate::precision::{CachePrecision, Engine};
use crate::units::{Bytes, Overflow};

/// The context that is assumed where neither the user nor the model names one.
const ASSUMED_CONTEXT: u64 = 8192;

/// A component that is at least this fraction of the total decides how sure the total is.
const MATTERS: u64 = 10;

/// What is exact is sure to one part in so many.
const SURE: u64 = 100;

/// One GPU of a stage.
struct Gpu {
    components: Components,
    terms: Vec<Term>,
    logged: Logged,
}

/// What serving a model needs.
pub(crate) fn estimate(shape: &ModelShape, workload: &Workload) -> Result<Estimate, EstimateError> {
    if workload.options.tower_file && !shape.multimodal {
        return Err(EstimateError::Invalid {
            field: "engine.args",
            problem: "--mmproj loads a tower, of which the model's own file says nothing".to_owned(),
            remedy: "give the model's config.json or repository, which has it, or leave it out and say what it needs by safetyMargin"
                .to_owned(),
        });
    }
    let text = (workload.options.text_only && shape.multimodal).then(|| shape.text_only());
    let shape = text.as_ref().unwrap_or(shape);
    let profile = profile::of(workload.engine);
    let mut notes = shape.notes.clone();
    let loading = loading::loading(shape, workload);
    let told_batch = workload.batched_tokens;
    let workload = complete(shape, workload, &loading, &profile, &mut notes)?;
    let layout = parallelism::layout(shape, &workload)?;
    let whole = workload;
    // Groups are alike: what follows is of the ranks of one.
    let workload = ranks::of_group(&whole, told_batch, &layout.ranks);
    notes.extend(loading.notes.iter().cloned());
    notes.extend(layout.notes.iter().cloned());

    if let Some(speculation) = &workload.options.speculation {
        speculation::check(shape, speculation)?;
    }

    let run = Run { shape, workload: &workload, profile: &profile, loading: &loading, layout: &layout };
    let cache = Cache::new(&run);
    let mut components = Components::default();
    let mut most: Option<(Bytes, Gpu, &Stage)> = None;
    for stage in &layout.stages {
        let gpu = gpu(&run, &cache, stage)?;
        components = components.plus(&gpu.components.times(layout.ranks.gpus)?)?;
        let total = gpu.components.total()?;
        if most.as_ref().is_none_or(|(largest, ..)| total > *largest) {
            most = Some((total, gpu, stage));
        }
    }
    let (total_per_gpu, gpu, stage) = most.ok_or(Overflow)?;
    notes.extend(on_paper(&gpu, &loading));
    let mut confidence = confidence(&gpu, &run);
    if let Some(note) = other_versions(&run, &cache, stage, total_per_gpu)? {
        notes.push(note);
        confidence = confidence.max(Confidence::Derived);
    }
    let stages = u64::try_from(layout.stages.len()).map_err(|_| Overflow)?;
    let gpus = layout.ranks.gpus.checked_mul(stages).ok_or(Overflow)?;
    Ok(Estimate {
        total: components.total()?,
        components,
        per_gpu: gpu.components,
        gpus,
        total_per_gpu,
        kv_cache_bytes_per_token: cache.growth(shape)?,
        confidence,
        logged: (workload.engine == Engine::Vllm).then_some(gpu.logged),
        workload: whole,
        terms: gpu.terms,
        notes,
    })
}

/// That publishers of a format differ in what they leave at 16 bits, where no checkpoint says it.
fn on_paper(gpu: &Gpu, loading: &Loading) -> Option<String> {
    let weights = gpu.terms.first().filter(|term| term.high.0 - term.low.0 > term.low.0 / SURE)?;
    Some(format!(
        "Which layers a release in {} leaves at 16 bits differs by who made it: its weights take {} to {} per GPU. Give the repository that is to be loaded, and its own list counts.",
        loading.precision, weights.low, weights.high
    ))
}

/// That the engine's other versions would need more or less than a hundredth of it, where none is told.
fn other_versions(
    run: &Run<'_>,
    cache: &Cache,
    stage: &Stage,
    total: Bytes,
) -> Result<Option<String>, EstimateError> {
    let Run { shape, workload, .. } = *run;
    if workload.engine != Engine::Vllm || workload.options.engine_version.is_some() {
        return Ok(None);
    }
    let own = cache.stage(shape, stage)?;
    let mut extremes: Option<[(Bytes, EngineVersion); 2]> = None;
    for version in version::VLLM_EPOCHS {
        let vllm = VllmRules::of(version, workload);
        let other = if vllm == cache.vllm { own } else { Cache { vllm, ..*cache }.stage(shape, stage)? };
        let [least, most] = extremes.get_or_insert([(other, version); 2]);
        if other < least.0 {
            *least = (other, version);
        }
        if other > most.0 {
            *most = (other, version);
        }
    }
    let Some([least, most]) = extremes else { return Ok(None) };
    let differs = most.0.0.saturating_sub(least.0.0) > total.0 / SURE;
    Ok(differs.then(|| {
        format!(
            "{} differs between versions: its cache takes {} with {}, {} with {}; {} is taken. Say the version to be sure.",
            workload.engine,
            least.0,
            least.1,
            most.0,
            most.1,
            version::of(shape, workload)
        )
    }))
}

/// The workload with every default filled in.
fn complete(
    shape: &ModelShape,
    workload: &Workload,
    loading: &Loading,
    profile: &Profile,
    notes: &mut Vec<String>,
) -> Result<Workload, EstimateError> {
    let mut workload = workload.clone();
    for (field, value, what) in [
        ("context.length", workload.context, "tokens are no context"),
        ("context.sequences", Some(workload.sequences), "sequences are no load"),
        ("engine.batchedTokens", workload.batched_tokens, "tokens are no batch"),
    ] {
        if value == Some(0) {
            return Err(EstimateError::Invalid {
                field,
                problem: format!("0 {what}"),
                remedy: "write 1 or more".to_owned(),
            });
        }
    }
    let context = match (workload.context, shape.max_context) {
        (Some(context), Some(longest)) => {
            if context > longest {
                notes.push(format!(
                    "A context of {context} tokens is more than the {longest} that the model was made for; an engine refuses it unless it is told to stretch them."
                ));
            }
            context
        }
        (Some(context), None) => context,
        (None, _) if shape.source == ShapeSource::Parameters => {
            notes.push(format!(
                "No context is given, and none is known of a size: {ASSUMED_CONTEXT} tokens are assumed."
            ));
            ASSUMED_CONTEXT
        }
        (None, Some(longest)) if longest > 0 => longest,
        (None, _) => {
            notes.push(format!(
                "Neither the workload nor the model names a context: {ASSUMED_CONTEXT} tokens are assumed."
            ));
            ASSUMED_CONTEXT
        }
    };
    workload.context = Some(context);
    workload.precision = Some(loading.precision);
    notes.extend(no_such_cache(&workload, loading));
    workload.cache_precision = element::resolve(shape, &workload, loading);
    // No pass is longer than all that is held.
    let held = context.saturating_mul(workload.running());
    workload.batched_tokens = Some(workload.batched_tokens.unwrap_or(profile.batched_tokens.min(held)));
    Ok(workload)
}

/// That the engine would not start with such a cache. It is estimated all the same: other builds may have it.
fn no_such_cache(workload: &Workload, loading: &Loading) -> Option<String> {
    let (engine, asked) = (workload.engine, workload.cache_precision);
    let known = engine.cache_precisions();
    // The model's own type needs no asking for.
    let own = asked == CachePrecision::Fp32 && loading.element_bytes() == 4;
    if own || known.contains(&asked) {
        return None;
    }
    let names: Vec<&str> = known.iter().map(|known| known.as_str()).collect();
    Some(format!("{engine} has no {asked} cache, and would not start; it has {}.", names.join(", ")))
}

/// What one GPU of a stage needs.
fn gpu(run: &Run<'_>, cache: &Cache, stage: &Stage) -> Result<Gpu, EstimateError> {
    let Run { shape, workload, profile, loading, .. } = *run;
    let weights = run.weights(stage)?;
    let kv_cache = cache.stage(shape, stage)?;
    let activations = activations::stage(run, stage)?;
    let overhead = overhead::gpu(run, stage)?;
    let rounding = run.rounding(stage)?;
    // Of a config it is asked what an engine loads, and that is what engines log; of files, what is in them.
    let tables_are = if loading.is_of_files(shape) { "overhead" } else { "weights" };
    let (tables_loaded, tables_beside) =
        if tables_are == "weights" { (overhead.tables, Bytes::ZERO) } else { (Bytes::ZERO, overhead.tables) };
    let parts = [overhead.context, overhead.libraries, tables_beside, rounding, overhead.graphs];
    let overhead_total = parts.into_iter().try_fold(Bytes::ZERO, Bytes::plus)?;

    let exact = |component, formula, bytes, confidence| Term {
        component,
        formula,
        bytes,
        confidence,
        low: bytes,
        high: bytes,
    };
    let most = match loading.least_quantised() {
        Some(least) => Run { loading: &least, ..*run }.weights(stage)?.max(weights),
        None => weights,
    };
    let formula = run.weights_formula();
    let mut terms = vec![Term { high: most, ..exact("weights", formula, weights, loading.confidence) }];
    let draft = speculation::stage(run, stage, cache)?;
    let (mut draft_weights, mut draft_cache) = (Bytes::ZERO, Bytes::ZERO);
    if let Some(draft) = &draft {
        (draft_weights, draft_cache) = (draft.weights, draft.cache);
        terms.push(exact("weights", draft.what.clone(), draft.weights, draft.confidence));
    }
    terms.push(exact("kvCache", cache.formula(shape, stage), kv_cache, shape.cache_confidence));
    if let Some(draft) = draft.filter(|draft| draft.cache > Bytes::ZERO) {
        terms.push(exact("kvCache", format!("the cache of {}", draft.what), draft.cache, draft.confidence));
    }
    terms.push(Term {
        high: activations.high,
        ..ranged("activations", activations.formula, activations.bytes, (1, 2), (1, 1))?
    });
    terms.push(ranged(
        "overhead",
        format!("CUDA context ({})", profile.source),
        overhead.context,
        (4, 5),
        (6, 5),
    )?);
    for (component, what, bytes, low, high) in [
        ("overhead", "libraries and communication buffers", overhead.libraries, (1, 2), (3, 2)),
        (tables_are, "tables made while loading", overhead.tables, (1, 1), (1, 1)),
        ("overhead", "rounding of the allocator's blocks", rounding, (1, 2), (3, 2)),
        ("overhead", "graphs of every batch size", overhead.graphs, (1, 2), (2, 1)),
    ] {
        if bytes > Bytes::ZERO {
            let mut term = ranged(component, format!("{what} ({})", profile.source), bytes, low, high)?;
            if component == "weights" {
                // A row per position of the config's own widths: as sure as the tensors.
                term.confidence = loading.confidence;
            }
            terms.push(term);
        }
    }
    let mut slots = Bytes::ZERO;
    if let Some(adapters) = workload.options.adapters {
        let matrices;
        (slots, matrices) = adapters::stage(run, adapters, stage)?;
        let formula =
            format!("LoRA: {} adapters of rank {} on {matrices} matrices", adapters.count, adapters.rank);
        terms.push(ranged("overhead", formula, slots, (1, 1), (1, 1))?);
    }
    let weights = weights.plus(draft_weights)?.plus(tables_loaded)?;
    Ok(Gpu {
        components: Components {
            weights,
            kv_cache: kv_cache.plus(draft_cache)?,
            activations: activations.bytes,
            overhead: overhead_total.plus(slots)?,
            ..Components::default()
        },
        terms,
        logged: Logged {
            model: weights.plus(tables_beside)?.plus(rounding)?.plus(slots)?,
            activations: activations.bytes,
            non_torch: overhead.libraries,
            graphs: overhead.graphs,
        },
    })
}

/// A calibrated figure with the range that measurements spread over.
fn ranged(
    component: &'static str,
    formula: String,
    bytes: Bytes,
    low: (u64, u64),
    high: (u64, u64),
) -> Result<Term, Overflow> {
    Ok(Term {
        component,
        formula,
        bytes,
        confidence: Confidence::Derived,
        low: bytes.scaled(low.0, low.1)?,
        high: bytes.scaled(high.0, high.1)?,
    })
}

/// The least sure of the components that matter: weights and caches always, the rest where it is a tenth of the whole.
fn confidence(gpu: &Gpu, run: &Run<'_>) -> Confidence {
    let Run { shape, loading, .. } = *run;
    let mut worst = loading.confidence;
    if !shape.layers.is_empty() {
        worst = worst.max(shape.cache_confidence);
    }
    let total = gpu.components.total().unwrap_or(Bytes(u64::MAX));
    let matters = |part: Bytes| part.0 >= total.0 / MATTERS;
    if matters(gpu.components.activations) || matters(gpu.components.overhead) {
        worst = worst.max(Confidence::Derived);
    }
    worst
}
