//! What an engine's arguments do to a plan, and that whoever asks is told the same.

use proptest::prelude::*;

use super::*;
use crate::engine::{Launch, Named, Question, start};

const QWEN_27B: &str = include_str!("../../../tests/fixtures/configs/Qwen__Qwen3.5-27B.json");

fn vllm(args: &[&str]) -> Value {
    json!({"context": {"length": 8192}, "engine": {"name": "vllm", "args": args}})
}

#[test]
fn what_cannot_start_is_refused_by_the_spec_alone() {
    for (fields, field, parts) in [
        (
            json!({"context": {"cachePrecision": "q8_0"}, "engine": {"name": "vllm"}}),
            "context.cachePrecision",
            &["q8_0 is not a cache that vllm can hold", "set one of auto, fp16, bf16 or fp8"][..],
        ),
        (json!({"context": {"cachePrecision": "q8_0"}}), "context.cachePrecision", &["vllm"]),
        (
            json!({"context": {"cachePrecision": "fp8"}, "engine": {"name": "llama-cpp"}}),
            "context.cachePrecision",
            &["q8_0", "q4_0"],
        ),
        (vllm(&["-dp=4", "-dpl", "2"]), "engine.args[1]", &["-dpl 2 of 4 groups", "one node", "write 4"]),
        (
            json!({"parallelism": {"data": 2}, "engine": {"name": "vllm", "args": ["-dp", "4"]}}),
            "engine.args",
            &["-dp 4 contradicts parallelism.data"],
        ),
        (
            json!({"parallelism": {"data": 2}, "engine": {"name": "llama-cpp"}}),
            "parallelism.data",
            &["no data parallelism", "replicas"],
        ),
        (
            json!({"context": {"length": 8192, "sequences": 2}, "engine": {"name": "llama-cpp", "args": ["-kvu"]}}),
            "context.sequences",
            &["share one cache", "--parallel"],
        ),
        (
            json!({"context": {"sequences": 64}, "engine": {"name": "vllm", "args": ["-dp=4", "--max-num-seqs=8"]}}),
            "engine.args",
            &["--max-num-seqs 8 is less than the 16 sequences", "among parallelism.data groups"],
        ),
        (
            json!({"engine": {"name": "vllm", "version": "latest"}}),
            "engine.version",
            &["\"latest\"", "0.19.0"],
        ),
        (vllm(&["--seed", "1", "--nnodes", "2"]), "engine.args[2]", &["replicas"]),
        (
            json!({"engine": {"name": "sglang", "args": ["--host", "127.0.0.1"]}}),
            "engine.args",
            &["--host 0.0.0.0", "remove it"],
        ),
        (
            json!({"parallelism": {"pipeline": 2}, "engine": {"name": "tgi"}}),
            "parallelism.pipeline",
            &["no pipeline stages"],
        ),
        (
            json!({"parallelism": {"tensor": "auto"}, "engine": {"name": "vllm", "args": ["-tp", "4"]}}),
            "engine.args",
            &["-tp 4", "auto"],
        ),
        (
            json!({"context": {"sequences": 8}, "engine": {"name": "vllm", "args": ["--max-num-seqs", "4"]}}),
            "engine.args",
            &["--max-num-seqs 4 is less than the 8 sequences of context.sequences", "write 8 or more"],
        ),
        (
            json!({
                "context": {"length": 8192, "sequences": 2},
                "engine": {"name": "sglang", "args": ["--max-total-tokens", "8k"]},
            }),
            "engine.args",
            &["--max-total-tokens 8k is less than the 16384 tokens"],
        ),
        (
            json!({
                "context": {"length": 8192},
                "engine": {"name": "tgi", "args": ["--max-batch-total-tokens", "16000"]},
            }),
            "engine.args",
            &["--max-batch-total-tokens 16000 contradicts --max-batch-total-tokens 8192"],
        ),
    ] {
        let error = check(&spec(fields.clone())).expect_err(&fields.to_string()).to_string();
        assert!(error.starts_with(&format!("spec.{field}: ")), "{fields}: {error}");
        for part in parts {
            assert!(error.contains(part), "{fields}: {part}: {error}");
        }
        let planned = plan_on(fields, &shape(LLAMA_8B), golden(), vec![]).expect_err("refused").to_string();
        assert_eq!(planned, error, "whoever asks is told the same");
    }
}

#[test]
fn a_cap_on_sequences_reserves_no_cache() {
    let needs = |config: &str, fields: Value| {
        let plan = plan_on(fields, &shape(config), golden(), vec![]).expect("a plan");
        (plan.estimate.per_gpu, plan.estimate.workload.sequences, fitting(&plan).len())
    };
    let of = |engine: &str, args: Value| {
        needs(LLAMA_8B, json!({"context": {"length": 8192}, "engine": {"name": engine, "args": args}}))
    };
    for (engine, flag) in
        [("vllm", "--max-num-seqs"), ("sglang", "--max-running-requests"), ("tgi", "--max-batch-size")]
    {
        let (plain, capped) = (of(engine, json!([])), of(engine, json!([flag, "256"])));
        assert_eq!((plain.1, capped.1), (1, 1), "{engine}");
        assert_eq!(capped.0.kv_cache, plain.0.kv_cache, "{engine}");
        assert_eq!(capped.0.weights, plain.0.weights, "{engine}");
        // Graphs and samplers are made for all of them.
        let beside = |needs: crate::estimate::Components| needs.overhead.0 + needs.activations.0;
        assert!(beside(capped.0) > beside(plain.0), "{engine}");
    }
    assert_eq!(of("vllm", json!(["--max-num-seqs=256"])).2, of("vllm", json!([])).2, "it fits as without");
    // A slot is a reservation: the context is divided among them.
    let slots = json!({"engine": {"name": "llama-cpp", "args": ["-c", "32768", "-np", "4"]}});
    assert_eq!(needs(LLAMA_8B, slots).1, 4);
    // Of a hybrid a block for each is there from the start, and no more than that.
    let hybrid = |cap: &str| {
        needs(
            QWEN_27B,
            json!({
                "context": {"length": 262_144}, "precision": "fp8",
                "engine": {"name": "vllm", "args": ["--max-num-seqs", cap]},
            }),
        )
    };
    let (one, few, many) = (hybrid("1").0.kv_cache, hybrid("64").0.kv_cache, hybrid("512").0.kv_cache);
    assert_eq!(one, few, "the blocks of a whole request are more than 64");
    assert!(many > few && many.0 < 3 * few.0, "{one} {many}");
}

#[test]
fn what_is_told_of_the_weights_counts_where_they_are_not_quantised() {
    let weights = |fields: Value| {
        plan_on(fields, &shape(LLAMA_8B), golden(), vec![]).map(|plan| plan.estimate.per_gpu.weights.0)
    };
    let plain = weights(vllm(&[])).expect("a plan");
    assert_eq!(weights(vllm(&["--dtype", "half"])), Ok(plain));
    let wide = weights(vllm(&["--dtype=float32"])).expect("a plan");
    assert!(wide > plain / 10 * 19 && wide < plain / 10 * 21, "twice as wide: {wide}");
    assert!(weights(vllm(&["--quantization", "fp8"])).is_ok_and(|weights| weights < plain * 2 / 3));
    assert_eq!(weights(vllm(&["-q", "awq"])), Ok(plain), "the checkpoint says it, which is another");
    let mut both = vllm(&["--quantization", "bitsandbytes"]);
    both["precision"] = json!("fp8");
    let error = weights(both).expect_err("refused").to_string();
    assert!(error.contains("--quantization bitsandbytes contradicts precision, which is fp8"), "{error}");
}

#[test]
fn the_fraction_of_the_gpu_is_judged_of_every_engine() {
    for (engine, flag) in [
        ("vllm", "--gpu-memory-utilization"),
        ("sglang", "--mem-fraction-static"),
        ("tgi", "--cuda-memory-fraction"),
    ] {
        let planned = |value: &str| {
            let fields =
                json!({"context": {"length": 8192}, "engine": {"name": engine, "args": [flag, value]}});
            plan_on(fields, &shape(LLAMA_8B), golden(), vec![]).map(|_| ()).map_err(|error| error.to_string())
        };
        let error = planned("0.1").expect_err("too little");
        assert!(error.contains("is less than") && error.contains("or more, or leave it out"), "{error}");
        assert_eq!(planned("0.95"), Ok(()), "{engine}");
        assert!(planned("most").is_err_and(|error| error.contains("not a fraction")), "{engine}");
    }
}

proptest! {
    /// Giving an engine what Loadline gives it changes nothing.
    #[test]
    fn what_is_started_is_what_was_estimated(
        engine in prop::sample::select(vec!["vllm", "sglang", "tgi"]),
        length in 512_i64..40_000,
        sequences in 1_i64..20,
        tensor in prop::sample::select(vec![1_i64, 2, 4]),
        cache in prop::sample::select(vec!["auto", "fp16", "fp8"]),
        precision in prop::sample::select(vec!["bf16", "fp16", "fp8", "nf4"]),
    ) {
        let shape = shape(LLAMA_8B);
        let fields = |args: Value| json!({
            "precision": precision,
            "context": {"length": length, "sequences": sequences, "cachePrecision": cache},
            "parallelism": {"tensor": tensor},
            "engine": {"name": engine, "args": args},
        });
        let first = spec(fields(json!([])));
        let asked = workload(&first, &shape).expect("a workload");
        let estimated = estimate(&shape, &asked).expect("an estimate");
        let question = Question {
            spec: &first, shape: &shape, catalog_repository: Some("a/b"), brought: false, has_image: false, named: Named::No, replaced: false,
            estimate: &estimated, margin: Margin::DEFAULT,
        };
        let Launch::Run(started) = start(question).expect("no refusal") else {
            return Err(TestCaseError::fail("it is not run"));
        };
        let arguments = started.arguments.expect("arguments");
        let second = spec(fields(json!(arguments)));
        let again = estimate(&shape, &workload(&second, &shape).expect("no contradiction")).expect("an estimate");
        prop_assert_eq!(&again, &estimated);
        let question = Question { spec: &second, estimate: &again, ..question };
        let Launch::Run(restarted) = start(question).expect("no refusal") else {
            return Err(TestCaseError::fail("it is not run"));
        };
        let (mut left, mut right) = (restarted.arguments.expect("arguments"), arguments);
        left.sort();
        right.sort();
        prop_assert_eq!(left, right);
    }
}
