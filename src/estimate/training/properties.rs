//! What must hold of every model and every run.

use proptest::prelude::*;

use super::estimate;
use super::tests::{Dimensions, decoder, size_only, workload};
use crate::estimate::{
    AttentionKernel, Checkpointing, Estimate, Method, Offload, Optimizer, Sharding, Training, Workload,
};
use crate::model::ModelShape;
use crate::precision::Precision;

fn dimensions() -> impl Strategy<Value = Dimensions> {
    (1_u64..=32, 0_u32..=3, 1_u64..=4, 1_u64..=128, 1_000_u64..200_000, any::<bool>(), 0_u64..8).prop_map(
        |(width, sharing, layers, intermediate, vocabulary, tied, experts)| {
            let kv_heads = width;
            let heads = kv_heads << sharing;
            // Real models are at least this wide; adapters of a rank near the width would be larger than the matrix.
            let hidden = heads * 128 * 1024_u64.div_ceil(heads * 128);
            Dimensions {
                hidden,
                layers,
                heads,
                kv_heads,
                intermediate: hidden / 2 + intermediate * 256,
                vocabulary,
                tied,
                experts,
            }
        },
    )
}

fn one_of<T: Copy + std::fmt::Debug + 'static>(values: &'static [T]) -> impl Strategy<Value = T> {
    prop::sample::select(values)
}

fn runs() -> impl Strategy<Value = Training> {
    (
        one_of(Method::ALL),
        one_of(Optimizer::ALL),
        1_u64..=16,
        one_of(&["attention", "all-linear", "q_proj"]),
        one_of(Checkpointing::ALL),
        one_of(AttentionKernel::ALL),
        one_of(Sharding::ALL),
        1_u64..=8,
        prop::sample::subsequence(Offload::ALL.to_vec(), 0..=2),
    )
        .prop_map(
            |(
                method,
                optimizer,
                lora_rank,
                target,
                gradient_checkpointing,
                attention,
                sharding,
                gpus,
                offload,
            )| {
                let mut offload = offload;
                if !matches!(sharding, Sharding::Zero3 | Sharding::Fsdp) {
                    offload.retain(|what| *what != Offload::Parameters);
                }
                Training {
                    method,
                    optimizer,
                    lora_rank,
                    lora_targets: vec![target.to_owned()],
                    gradient_checkpointing,
                    attention,
                    sharding,
                    gpus,
                    offload,
                }
            },
        )
}

fn batches() -> impl Strategy<Value = Workload> {
    let precision = one_of(&[None, Some(Precision::Bf16), Some(Precision::Fp32)]);
    (1_u64..=65_536, 1_u64..=16, precision).prop_map(|(length, sequences, precision)| Workload {
        precision,
        context: Some(length),
        sequences,
        ..workload()
    })
}

fn shapes() -> impl Strategy<Value = (Dimensions, bool)> {
    (dimensions(), any::<bool>())
}

fn shape((dimensions, known): (Dimensions, bool)) -> ModelShape {
    if known { decoder(dimensions) } else { size_only(dimensions) }
}

fn of(shape: &ModelShape, workload: &Workload, training: &Training) -> Estimate {
    estimate(shape, workload, training).unwrap()
}

fn total(shape: &ModelShape, workload: &Workload, training: &Training) -> u64 {
    of(shape, workload, training).total_per_gpu.0
}

proptest! {
    #![proptest_config(ProptestConfig::default())]

    #[test]
    fn more_tokens_sequences_or_rank_never_need_less(
        model in shapes(), run in runs(), batch in batches(), more in 1_u64..4096,
    ) {
        let shape = shape(model);
        let before = total(&shape, &batch, &run);
        let longer = Workload { context: batch.context.map(|length| length + more), ..batch.clone() };
        let wider = Workload { sequences: batch.sequences + more, ..batch.clone() };
        let ranked = Training { lora_rank: run.lora_rank + more % 64, ..run.clone() };
        prop_assert!(total(&shape, &longer, &run) >= before);
        prop_assert!(total(&shape, &wider, &run) >= before);
        prop_assert!(total(&shape, &batch, &ranked) >= before);
    }

    #[test]
    fn more_parameters_never_need_less(model in shapes(), run in runs(), batch in batches(), more in 1_u64..64) {
        let (dimensions, known) = model;
        let before = total(&shape(model), &batch, &run);
        for larger in [
            Dimensions { layers: dimensions.layers + more % 4, ..dimensions },
            Dimensions { intermediate: dimensions.intermediate + more, ..dimensions },
            Dimensions { vocabulary: dimensions.vocabulary + more, ..dimensions },
        ] {
            prop_assert!(total(&shape((larger, known)), &batch, &run) >= before, "{larger:?}");
        }
        let sized = size_only(dimensions);
        let larger = ModelShape { parameters: sized.parameters + more * 1_000_003, ..sized.clone() };
        prop_assert!(total(&larger, &batch, &run) >= total(&sized, &batch, &run));
    }

    #[test]
    fn sharding_conserves_state(model in shapes(), run in runs(), batch in batches()) {
        let shape = shape(model);
        let alone = of(&shape, &batch, &Training { gpus: 1, sharding: match run.sharding {
            Sharding::None => Sharding::Ddp,
            other => other,
        }, ..run.clone() });
        let together = of(&shape, &batch, &run);
        prop_assert!(together.components.weights >= alone.components.weights);
        prop_assert!(together.components.gradients >= alone.components.gradients);
        prop_assert!(together.components.optimizer >= alone.components.optimizer);
        prop_assert!(together.per_gpu.weights <= alone.per_gpu.weights);
        prop_assert!(together.per_gpu.gradients <= alone.per_gpu.gradients);
        prop_assert!(together.per_gpu.optimizer <= alone.per_gpu.optimizer);
    }

    #[test]
    fn a_quantised_base_needs_least_and_full_training_most(
        model in shapes(), run in runs(), batch in batches(),
    ) {
        let shape = shape(model);
        let [full, lora, qlora] = [Method::Full, Method::Lora, Method::Qlora]
            .map(|method| of(&shape, &batch, &Training { method, ..run.clone() }));
        for precision in [Precision::Nf4, Precision::BnbInt8, Precision::GptqInt4] {
            let quantised = Workload { precision: Some(precision), ..batch.clone() };
            let of = |method| total(&shape, &quantised, &Training { method, ..run.clone() });
            prop_assert_eq!(of(Method::Qlora), of(Method::Lora));
            prop_assert!(of(Method::Qlora) <= lora.total_per_gpu.0);
        }
        prop_assert!(qlora.total_per_gpu <= lora.total_per_gpu, "{} > {}", qlora.total_per_gpu, lora.total_per_gpu);
        // An optimizer that keeps next to nothing on the GPU leaves full training only its gradients, which come after
        // the activations: then the adapters themselves may be what is more.
        let keeps = !matches!(
            run.optimizer,
            Optimizer::PagedAdamw8bit | Optimizer::Adafactor | Optimizer::Galore
        ) && run.offload.is_empty();
        let adapters = 4 * lora.components.gradients.0;
        let allowed = full.total_per_gpu.0 + if keeps { 0 } else { adapters };
        prop_assert!(lora.total_per_gpu.0 <= allowed, "{} > {}", lora.total_per_gpu, full.total_per_gpu);
    }

    #[test]
    fn recomputing_and_tiling_never_need_more(model in shapes(), run in runs(), batch in batches()) {
        let shape = shape(model);
        let checkpointing = |gradient_checkpointing| Training { gradient_checkpointing, ..run.clone() };
        prop_assert!(
            total(&shape, &batch, &checkpointing(Checkpointing::Full))
                <= total(&shape, &batch, &checkpointing(Checkpointing::None))
        );
        let kernel = |attention| total(&shape, &batch, &Training { attention, ..run.clone() });
        prop_assert!(kernel(AttentionKernel::Flash) <= kernel(AttentionKernel::Sdpa));
        prop_assert!(kernel(AttentionKernel::Sdpa) <= kernel(AttentionKernel::Eager));
    }

    #[test]
    fn the_parts_add_up_to_the_whole(model in shapes(), run in runs(), batch in batches()) {
        let estimate = of(&shape(model), &batch, &run);
        let sum = |parts: &crate::estimate::Components| {
            parts.weights.0 + parts.kv_cache.0 + parts.activations.0 + parts.overhead.0 + parts.gradients.0
                + parts.optimizer.0
        };
        prop_assert_eq!(sum(&estimate.per_gpu), estimate.total_per_gpu.0);
        prop_assert_eq!(sum(&estimate.components), estimate.total.0);
        prop_assert_eq!(estimate.total.0, estimate.total_per_gpu.0 * estimate.gpus);
        for term in &estimate.terms {
            prop_assert!(term.low <= term.bytes && term.bytes <= term.high, "{}", term.formula);
        }
    }

    #[test]
    fn no_number_is_too_strange(
        numbers in prop::array::uniform10(prop_oneof![Just(0), Just(u64::MAX), 0_u64..1_000_000, any::<u64>()]),
        run in runs(),
    ) {
        let [parameters, hidden, intermediate, heads, head_dim, vocabulary, length, sequences, gpus, rank] = numbers;
        let small = Dimensions {
            hidden: 1024, layers: 2, heads: 8, kv_heads: 2, intermediate: 512, vocabulary: 1000, tied: false, experts: 0,
        };
        let strange = |shape: ModelShape| ModelShape {
            parameters, hidden_size: hidden, intermediate_size: intermediate, heads, head_dim, vocabulary, ..shape
        };
        let workload = Workload { context: Some(length), sequences, ..workload() };
        let run = Training { gpus, lora_rank: rank, ..run };
        for shape in [strange(decoder(small)), strange(size_only(small))] {
            if let Ok(estimate) = estimate(&shape, &workload, &run) {
                prop_assert!(estimate.total >= estimate.total_per_gpu);
            }
        }
    }
}
