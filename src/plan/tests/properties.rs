use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_assert, prop_oneof, proptest};
use proptest::sample::select;
use serde_json::json;

use super::*;
use crate::inventory::Sources;
use crate::inventory::testing::any_snapshot;

/// A number as users write it, and as they should not.
fn any_number() -> impl Strategy<Value = i64> {
    prop_oneof![4 => 1_i64..9, 2 => 1_i64..100_000, 1 => any::<i64>(), 1 => Just(0)]
}

proptest! {
    #![proptest_config(ProptestConfig::default())]

    #[test]
    fn a_plan_is_an_error_that_names_its_field_or_selects_nothing_too_small(
        snapshot in any_snapshot(),
        length in any_number(),
        sequences in any_number(),
        tensor in prop_oneof![2 => any_number().prop_map(|ranks| json!(ranks)), 1 => Just(json!("auto"))],
        pipeline in prop_oneof![3 => Just(1_i64), 1 => any_number()],
        precision in select(vec!["fp32", "fp16", "fp8", "int4", "q4_k_m"]),
        margin in select(vec!["1.0", "1.2", "3", "0.9"]),
        engine in select(vec!["vllm", "sglang", "llama-cpp", "none"]),
    ) {
        let spec = spec(json!({
            "precision": precision,
            "context": {"length": length, "sequences": sequences},
            "parallelism": {"tensor": tensor, "pipeline": pipeline},
            "engine": {"name": engine},
            "safetyMargin": margin,
        }));
        let mut small = size_alone();
        small.layers.truncate(4);
        let inventory = Inventory::new(snapshot, &Sources::default());
        match plan(Subject { namespace: "team-a", name: "m", spec: &spec, roll: None, running: None }, &small, &inventory) {
            Err(error) => prop_assert!(error.to_string().starts_with("spec."), "{error}"),
            Ok(plan) => {
                prop_assert!(plan.requirement.per_gpu >= plan.estimate.total_per_gpu);
                prop_assert!(plan.requirement.gpus == plan.estimate.gpus && plan.requirement.gpus >= 1);
                for class in &plan.decision.classes {
                    if matches!(class.verdict(), Verdict::Fits | Verdict::Busy) {
                        let memory = class.pool.as_deref().and_then(crate::inventory::GpuPool::usable_memory);
                        prop_assert!(memory >= Some(plan.requirement.per_gpu));
                    }
                }
                prop_assert!(plan.decision.suggestions.is_empty() || plan.decision.verdict() != Verdict::Fits);
            }
        }
    }
}
