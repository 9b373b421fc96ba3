//! What holds of every estimate, whatever the model and the workload.

use proptest::prelude::*;
use proptest::sample::select;

use super::parallelism::shard;
use super::tests::{sized, workload};
use super::weights::format;
use super::{Estimate, EstimateError, Workload, estimate};
use crate::model::{
    Attention, CacheKind, Experts, Layer, ModelShape, Role, ShapeSource, Span, Split, State, StateKind,
    Tensor,
};
use crate::precision::{CachePrecision, Engine, Precision};

fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

fn engines() -> impl Strategy<Value = Engine> {
    select(Engine::ALL)
}

fn precisions() -> impl Strategy<Value = Precision> {
    select(Precision::ALL)
}

fn cache_kinds() -> impl Strategy<Value = CacheKind> {
    prop_oneof![
        4 => (1_u64..129, 1_u64..513, 1_u64..513)
            .prop_map(|(kv_heads, key_dim, value_dim)| CacheKind::Heads { kv_heads, key_dim, value_dim }),
        1 => (1_u64..1025, 0_u64..129, select(vec![0_u64, 128]))
            .prop_map(|(rank, rope_dim, index_dim)| CacheKind::Latent { rank, rope_dim, index_dim }),
        1 => (1_u64..1025, select(vec![0_u64, 4, 128]), 1_u64..1025)
            .prop_map(|(head_dim, ratio, window)| CacheKind::Compressed { head_dim, ratio, window, index_dim: 0 }),
        1 => Just(CacheKind::Shared),
    ]
}

fn spans() -> impl Strategy<Value = Span> {
    prop_oneof![
        2 => Just(Span::Full),
        1 => (1_u64..100_000).prop_map(Span::Sliding),
        1 => (1_u64..100_000).prop_map(Span::Chunked),
    ]
}

fn layers() -> impl Strategy<Value = Layer> {
    let attention = (cache_kinds(), spans()).prop_map(|(cache, span)| Attention { cache, span });
    let state =
        (0_u64..20_000, 0_u64..5, 0_u64..4_000_000, select(vec![StateKind::Mamba2, StateKind::KimiDelta]))
            .prop_map(|(conv_width, conv_kernel, matrix, kind)| State {
                kind,
                conv_width,
                conv_kernel,
                matrix,
                heads: 0,
            });
    (proptest::option::weighted(0.8, attention), proptest::option::weighted(0.2, state))
        .prop_map(|(attention, state)| Layer { attention, state })
}

/// Models of a few kinds of layers, each repeated.
fn shapes() -> impl Strategy<Value = ModelShape> {
    let groups = prop::collection::vec((layers(), 1_usize..8), 1..4);
    let experts = proptest::option::weighted(0.3, (1_u64..512, 1_u64..16, 1_u64..8192));
    (groups, 1_u64..10_u64.pow(13), 1_u64..20_000, 0_u64..60_000, 1_u64..300_000, experts).prop_map(
        |(groups, parameters, hidden_size, intermediate_size, vocabulary, experts)| ModelShape {
            layers: groups.into_iter().flat_map(|(layer, count)| vec![layer; count]).collect(),
            hidden_size,
            intermediate_size,
            vocabulary,
            experts: experts.map(|(count, per_token, intermediate_size)| Experts {
                count,
                per_token,
                intermediate_size,
            }),
            max_context: None,
            ..sized(parameters)
        },
    )
}

fn workloads() -> impl Strategy<Value = Workload> {
    // Most divide the heads, so that most cases are of an estimate and not of its refusal.
    let tensor = prop_oneof![4 => select(vec![1_u64, 2, 4, 8]), 1 => 1_u64..9];
    (engines(), precisions(), 1_u64..2_000_000, 1_u64..2000, tensor, 1_u64..4).prop_map(
        |(engine, precision, context, sequences, tensor, pipeline)| Workload {
            engine,
            precision: Some(precision),
            context: Some(context),
            sequences,
            tensor,
            pipeline,
            data: 1,
            ..workload()
        },
    )
}

fn not_less(least: &Estimate, most: &Estimate) -> Result<(), TestCaseError> {
    for (name, a, b) in [
        ("weights", least.components.weights, most.components.weights),
        ("kvCache", least.components.kv_cache, most.components.kv_cache),
        ("activations", least.components.activations, most.components.activations),
        ("overhead", least.components.overhead, most.components.overhead),
        ("total", least.total, most.total),
        ("total per GPU", least.total_per_gpu, most.total_per_gpu),
    ] {
        prop_assert!(a <= b, "{name}: {} > {} bytes", a.0, b.0);
    }
    Ok(())
}

/// The larger needs no less than the smaller. Where one cannot be made the other cannot either, for the same field; only
/// more than 2^64 bytes is a fault that the larger may have alone.
fn both(
    (small, light): (&ModelShape, &Workload),
    (large, heavy): (&ModelShape, &Workload),
) -> Result<(), TestCaseError> {
    match (estimate(small, light), estimate(large, heavy)) {
        (Ok(least), Ok(most)) => not_less(&least, &most),
        (_, Err(EstimateError::Overflow(_))) => Ok(()),
        (
            Err(EstimateError::Invalid { field: one, .. }),
            Err(EstimateError::Invalid { field: other, .. }),
        ) if one == other => Ok(()),
        (least, most) => Err(TestCaseError::fail(format!("not alike: {:?}, {:?}", least.err(), most.err()))),
    }
}

fn tensors() -> impl Strategy<Value = Tensor> {
    let splits = prop_oneof![
        Just(Split::Replicated),
        Just(Split::Rows),
        Just(Split::Columns),
        (1_u64..65).prop_map(Split::KeyValueHeads),
        Just(Split::Vocabulary),
    ];
    (splits, 1_u64..300_000, 1_u64..30_000, 1_u64..300, any::<bool>()).prop_map(
        |(split, rows, columns, count, quantizable)| Tensor {
            name: "model.layers.0.mlp.down_proj.weight".to_owned(),
            layer: Some(0),
            role: Role::Mlp,
            count,
            // Heads have whole rows.
            rows: if let Split::KeyValueHeads(heads) = split { rows.div_ceil(heads) * heads } else { rows },
            columns,
            split,
            quantizable,
            stored_bytes: None,
        },
    )
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn more_parameters_need_no_less(shape in shapes(), workload in workloads(), more in 0_u64..10_u64.pow(12)) {
        let large = ModelShape { parameters: shape.parameters + more, ..shape.clone() };
        both((&shape, &workload), (&large, &workload))?;
    }

    #[test]
    fn more_context_needs_no_less(shape in shapes(), workload in workloads(), more in 0_u64..2_000_000) {
        let heavy = Workload { context: workload.context.map(|context| context + more), ..workload.clone() };
        both((&shape, &workload), (&shape, &heavy))?;
    }

    #[test]
    fn more_sequences_need_no_less(shape in shapes(), workload in workloads(), more in 0_u64..2000) {
        let heavy = Workload { sequences: workload.sequences + more, ..workload.clone() };
        both((&shape, &workload), (&shape, &heavy))?;
    }

    #[test]
    fn more_bits_need_no_less(shape in shapes(), workload in workloads(), a in precisions(), b in precisions()) {
        let bits = |precision| {
            let (bits, per) = format::bits_per_parameter(precision);
            bits * 1_000_000 / per
        };
        let (few, many) = if bits(a) <= bits(b) { (a, b) } else { (b, a) };
        let light = Workload { precision: Some(few), ..workload.clone() };
        let heavy = Workload { precision: Some(many), ..workload };
        let (Ok(least), Ok(most)) = (estimate(&shape, &light), estimate(&shape, &heavy)) else { return Ok(()) };
        not_less(&least, &most)?;
    }

    #[test]
    fn a_finer_cache_needs_no_less(kv_heads in 1_u64..65, dim in 1_u64..17, workload in workloads()) {
        let cache = CacheKind::Heads { kv_heads, key_dim: dim * 32, value_dim: dim * 32 };
        let layer = Layer { attention: Some(Attention { cache, span: Span::Full }), state: None };
        let shape = ModelShape { layers: vec![layer; 12], ..sized(1_000_000_000) };
        let order = [
            CachePrecision::Q40, CachePrecision::Q41, CachePrecision::Q50, CachePrecision::Q51, CachePrecision::Fp8,
            CachePrecision::Q80, CachePrecision::Fp16, CachePrecision::Fp32,
        ];
        let mut before = 0;
        for cache_precision in order {
            let Ok(estimate) = estimate(&shape, &Workload { cache_precision, ..workload.clone() }) else { return Ok(()) };
            prop_assert!(before <= estimate.components.kv_cache.0, "{cache_precision}");
            before = estimate.components.kv_cache.0;
        }
    }

    #[test]
    fn the_parts_add_up(shape in shapes(), workload in workloads()) {
        let Ok(estimate) = estimate(&shape, &workload) else { return Ok(()) };
        prop_assert_eq!(estimate.total, estimate.components.total().expect("fits"));
        prop_assert_eq!(estimate.total_per_gpu, estimate.per_gpu.total().expect("fits"));
        prop_assert_eq!(estimate.gpus, workload.tensor * workload.pipeline);
        prop_assert!(estimate.total_per_gpu.0 <= estimate.total.0);
        prop_assert!(u128::from(estimate.total_per_gpu.0) * u128::from(estimate.gpus) >= u128::from(estimate.total.0));
        let terms: u64 = estimate.terms.iter().map(|term| term.bytes.0).sum();
        prop_assert_eq!(terms, estimate.total_per_gpu.0);
        for term in &estimate.terms {
            prop_assert!(term.low <= term.bytes && term.bytes <= term.high, "{:?}", term);
        }
    }

    #[test]
    fn splitting_conserves_what_it_splits(tensor in tensors(), ranks in 1_u64..65) {
        let multiple = 64;
        let (rows, columns) = shard(&tensor, tensor.split, ranks, multiple);
        let whole = u128::from(tensor.rows) * u128::from(tensor.columns);
        let held = u128::from(rows) * u128::from(columns);
        let sum = held * u128::from(ranks);
        prop_assert!(sum >= whole, "{sum} of {whole}");
        prop_assert!(held <= whole + u128::from(multiple * tensor.columns));
        let line = u128::from(tensor.rows.max(tensor.columns));
        let padding = match tensor.split {
            Split::Replicated => whole * u128::from(ranks - 1),
            // A head is not cut: what is replicated is at most a head for each rank.
            Split::KeyValueHeads(heads) => (whole / u128::from(heads) + line) * u128::from(ranks),
            _ => line * u128::from(ranks + multiple),
        };
        prop_assert!(sum <= whole + padding, "{sum} of {whole}");
    }

    #[test]
    fn a_split_model_needs_no_less_in_all(tensors in prop::collection::vec(tensors(), 1..6), precision in precisions(), tensor in 1_u64..9) {
        let shape = ModelShape { tensors, heads: 0, layers: Vec::new(), ..sized(1_000_000_000) };
        for engine in [Engine::Vllm, Engine::Sglang, Engine::None] {
            let whole = Workload { precision: Some(precision), engine, ..workload() };
            let split = Workload { tensor, ..whole.clone() };
            let (Ok(whole), Ok(split)) = (estimate(&shape, &whole), estimate(&shape, &split)) else { continue };
            prop_assert!(split.components.weights >= whole.components.weights);
        }
    }

    #[test]
    fn no_input_panics(
        numbers in prop::collection::vec(prop_oneof![any::<u64>(), 0_u64..5, Just(u64::MAX)], 24),
        engine in engines(),
        precision in proptest::option::of(precisions()),
        cache_precision in select(CachePrecision::ALL),
        split in select(vec![Split::Replicated, Split::Rows, Split::Columns, Split::Vocabulary]),
        source in select(vec![ShapeSource::Config, ShapeSource::Gguf, ShapeSource::Safetensors]),
        layers_of_tensors in proptest::option::of(0_u32..70),
    ) {
        let mut numbers = numbers.into_iter();
        let mut next = || numbers.next().unwrap_or(u64::MAX);
        let heads = CacheKind::Heads { kv_heads: next(), key_dim: next(), value_dim: next() };
        let state = State {
            kind: StateKind::GatedDelta, conv_width: next(), conv_kernel: next(), matrix: next(), heads: next(),
        };
        let latent = CacheKind::Latent { rank: next(), rope_dim: next(), index_dim: next() };
        let tensor = Tensor {
            name: String::new(), layer: layers_of_tensors, role: Role::Attention, count: next(), rows: next(),
            columns: next(), split, quantizable: true, stored_bytes: Some(next()),
        };
        let shape = ModelShape {
            source,
            tensors: if layers_of_tensors.is_some() { vec![tensor] } else { Vec::new() },
            layers: vec![
                Layer { attention: Some(Attention { cache: heads, span: Span::Sliding(next()) }), state: None },
                Layer { attention: Some(Attention { cache: latent, span: Span::Full }), state: Some(state) },
            ],
            hidden_size: next(),
            intermediate_size: next(),
            heads: next(),
            head_dim: next(),
            vocabulary: next(),
            max_context: Some(next()),
            encoder_tokens: Some(next()),
            ..sized(next())
        };
        let workload = Workload {
            precision, cache_precision, engine, context: Some(next()), sequences: next(), tensor: next(), pipeline: next(),
            ..workload()
        };
        // Whatever comes of it: it comes without a panic, and what is impossible has a message.
        if let Err(error) = estimate(&shape, &workload) {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
