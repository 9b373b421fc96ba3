use super::*;
use crate::engine::table::MOST_TOKENS as MOST;
use crate::estimate::{Adapters, AttentionGroups, Draft, Speculation};

fn told(name: Engine, args: &[&str]) -> Result<Told, Refusal> {
    let args = args.iter().map(|word| (*word).to_owned()).collect();
    read(&EngineSpec { name, image: None, version: None, args: Some(args) })
}

fn options(name: Engine, args: &[&str]) -> Options {
    told(name, args).expect("valid arguments").options
}

#[test]
fn an_engines_arguments_say_what_the_spec_leaves_open() {
    for (engine, args, context, (sequences, cap), cache, tensor, batch) in [
        (
            Engine::Vllm,
            &["--max-model-len", "8192", "--max_num_seqs=64", "--kv-cache-dtype", "fp8", "-tp", "4"][..],
            Some(8192),
            (None, Some(64)),
            Some(CachePrecision::Fp8),
            Some(4),
            None,
        ),
        (
            Engine::Vllm,
            &["--max-num-batched-tokens", "1024", "--max-num-batched-tokens=2048", "--seed", "-1"],
            None,
            (None, None),
            None,
            None,
            Some(2048),
        ),
        (
            Engine::Sglang,
            &[
                "--context-length=4096",
                "--max-running-requests",
                "16",
                "--tp",
                "2",
                "--chunked-prefill-size",
                "-1",
            ],
            Some(4096),
            (None, Some(16)),
            None,
            Some(2),
            None,
        ),
        (
            Engine::LlamaCpp,
            &["-c", "32768", "-np", "4", "-ctk", "q8_0", "-ctv", "q8_0", "-ub", "1024"],
            Some(8192),
            (Some(4), None),
            Some(CachePrecision::Q80),
            None,
            Some(1024),
        ),
        (
            Engine::Tgi,
            &["--max-total-tokens", "2048", "--num-shard", "8", "--kv-cache-dtype", "fp8_e4m3fn"],
            Some(2048),
            (None, None),
            Some(CachePrecision::Fp8),
            Some(8),
            None,
        ),
        (
            Engine::Vllm,
            &["--max_model_len", "32K", "--kv_cache_dtype=fp8_e5m2", "--max-num-batched-tokens", "4k"],
            Some(32_768),
            (None, None),
            Some(CachePrecision::Fp8),
            None,
            Some(4000),
        ),
        (
            Engine::Tgi,
            &["--max-concurrent-requests=128", "--max-batch-size", "32"],
            None,
            (None, Some(32)),
            None,
            None,
            None,
        ),
        (Engine::None, &["--max-model-len", "8192"], None, (None, None), None, None, None),
    ] {
        let told = told(engine, args).expect("valid arguments");
        let found = (
            told.context.map(|said| said.value),
            (told.sequences.map(|said| said.value), told.sequence_cap.map(|said| said.value)),
            told.cache_precision.map(|said| said.value),
            told.tensor.map(|said| said.value),
            told.batched_tokens,
        );
        assert_eq!(found, (context, (sequences, cap), cache, tensor, batch), "{engine} {args:?}");
    }
}

#[test]
fn options_that_change_memory_are_read() {
    let adapters = |count, rank| Options { adapters: Some(Adapters { count, rank }), ..Options::default() };
    let guesses =
        |tokens, draft| Options { speculation: Some(Speculation { tokens, draft }), ..Options::default() };
    let mtp = r#"{"method": "mtp", "num_speculative_tokens": 2}"#;
    for (engine, args, expected) in [
        (Engine::Vllm, &[][..], Options::default()),
        (Engine::Vllm, &["--enable-lora"], adapters(1, 16)),
        (Engine::Vllm, &["--enable-lora", "--max-loras", "4", "--max-lora-rank=64"], adapters(4, 64)),
        (Engine::Vllm, &["--max-loras", "4"], Options::default()),
        (Engine::Vllm, &["--enforce-eager"], Options { eager: true, ..Options::default() }),
        (Engine::Vllm, &["--enforce-eager=false"], Options::default()),
        (
            Engine::Vllm,
            &["--enable-expert-parallel"],
            Options { expert_parallel: true, ..Options::default() },
        ),
        (Engine::Vllm, &["--speculative-config", mtp], guesses(2, Draft::OwnHeads)),
        (
            Engine::Vllm,
            &["--speculative-config={\"method\": \"qwen3_next_mtp\"}"],
            guesses(1, Draft::OwnHeads),
        ),
        (
            Engine::Vllm,
            &["--speculative-config", r#"{"model": "Qwen/Qwen3-0.6B", "num_speculative_tokens": 5}"#],
            guesses(5, Draft::Model("Qwen/Qwen3-0.6B".to_owned())),
        ),
        (
            Engine::Vllm,
            &["-sc", r#"{"method": "eagle3", "model": "a/head", "num_speculative_tokens": 3}"#],
            guesses(3, Draft::Head),
        ),
        (Engine::Sglang, &["--enable-lora", "--max-lora-rank", "32"], adapters(8, 32)),
        (
            Engine::Sglang,
            &["--speculative-algorithm", "EAGLE", "--speculative-num-draft-tokens", "2"],
            guesses(2, Draft::OwnHeads),
        ),
        (
            Engine::Sglang,
            &["--speculative-algorithm=EAGLE3", "--speculative-draft-model-path", "a/head"],
            guesses(4, Draft::Head),
        ),
        (
            Engine::Sglang,
            &["--disable-cuda-graph", "--ep-size", "1"],
            Options { eager: true, ..Options::default() },
        ),
        (Engine::LlamaCpp, &["-fa", "off"], Options { without_flash_attention: true, ..Options::default() }),
        (Engine::LlamaCpp, &["-fa"], Options::default()),
        (Engine::LlamaCpp, &["-ngl", "20"], Options { gpu_layers: Some(20), ..Options::default() }),
        (Engine::LlamaCpp, &["-ngl=999"], Options::default()),
        (Engine::LlamaCpp, &["-ngl", "-1"], Options::default()),
        (
            Engine::LlamaCpp,
            &["--n-cpu-moe", "8"],
            Options { host_expert_layers: Some(8), ..Options::default() },
        ),
        (
            Engine::LlamaCpp,
            &["-ot", ".ffn_.*_exps.=CPU"],
            Options { host_expert_layers: Some(MOST), ..Options::default() },
        ),
        (Engine::LlamaCpp, &["-ot", "blk.1.ffn_.*_exps.=CPU"], Options::default()),
        (
            Engine::Tgi,
            &["--speculate", "2", "--cuda-graphs", "0"],
            Options { eager: true, ..guesses(2, Draft::Text) },
        ),
    ] {
        assert_eq!(options(engine, args), expected, "{engine} {args:?}");
    }
}

#[test]
fn what_is_loaded_shared_and_kept_is_read() {
    for (engine, args, expected) in [
        (
            Engine::Vllm,
            &["--enable-prefix-caching"][..],
            Options { prefix_caching: Some(true), ..Options::default() },
        ),
        (
            Engine::Vllm,
            &["--no-enable-prefix-caching"],
            Options { prefix_caching: Some(false), ..Options::default() },
        ),
        (Engine::Vllm, &["--language-model-only"], Options { text_only: true, ..Options::default() }),
        (Engine::LlamaCpp, &["--no-mmproj"], Options { text_only: true, ..Options::default() }),
        (Engine::LlamaCpp, &["-mm", "tower.gguf"], Options { tower_file: true, ..Options::default() }),
        (Engine::LlamaCpp, &["-kvu"], Options { unified_slots: Some(4), ..Options::default() }),
        (Engine::LlamaCpp, &["-kvu", "-np", "2"], Options { unified_slots: Some(2), ..Options::default() }),
        (Engine::LlamaCpp, &["--no-kv-unified", "-np", "2"], Options::default()),
        (
            Engine::Sglang,
            &["--dp", "8", "--tp", "8", "--enable-dp-attention", "--moe-a2a-backend=deepep"],
            Options {
                attention_groups: Some(AttentionGroups::default()),
                expert_parallel: true,
                ..Options::default()
            },
        ),
        (
            Engine::Sglang,
            &["--enable-dp-attention", "--enable-dp-lm-head", "--moe-dense-tp-size", "1"],
            Options {
                attention_groups: Some(AttentionGroups { head: true, whole_mlps: true }),
                ..Options::default()
            },
        ),
    ] {
        assert_eq!(options(engine, args), expected, "{engine} {args:?}");
    }
}

#[test]
fn what_is_not_counted_is_named() {
    for (engine, args, expected) in [
        (Engine::Vllm, &["--max-model-len", "8192", "--enable-lora"][..], &[][..]),
        (Engine::Vllm, &["--max-modl-len", "8192", "--seed=1"], &["--max-modl-len", "--seed"]),
        (Engine::Vllm, &["serve", "meta/llama", "-tp", "2"], &["serve", "meta/llama"]),
        (Engine::LlamaCpp, &["-ngl", "20", "-fa", "off", "-t", "8"], &["-t"]),
        (Engine::None, &["--max-model-len", "8192"], &["--max-model-len"]),
    ] {
        let args: Vec<String> = args.iter().map(|word| (*word).to_owned()).collect();
        assert_eq!(uncounted(engine, &args), expected, "{args:?}");
    }
    // Every flag that changes an option is among those that are known to.
    for (engine, args) in [
        (Engine::Vllm, &["--enable-lora"][..]),
        (Engine::Vllm, &["--enforce-eager"]),
        (Engine::Vllm, &["--enable-expert-parallel"]),
        (Engine::Sglang, &["--disable-cuda-graph"]),
        (Engine::LlamaCpp, &["--cpu-moe"]),
        (Engine::Tgi, &["--speculate", "2"]),
    ] {
        assert_ne!(options(engine, args), Options::default(), "{args:?}");
        let args: Vec<String> = args.iter().map(|word| (*word).to_owned()).collect();
        assert!(uncounted(engine, &args).is_empty(), "{args:?}");
    }
}

#[test]
fn what_cannot_be_counted_is_refused_with_what_would_be_right() {
    for (engine, args, parts) in [
        (
            Engine::Vllm,
            &["--seed", "1", "--max-model-len", "long"][..],
            &["spec.engine.args[2]: --max-model-len has \"long\"", "8192"][..],
        ),
        (Engine::Vllm, &["--max-num-seqs"], &["engine.args[0]", "--max-num-seqs has \"\"", "sequences"]),
        (Engine::Vllm, &["-tp", "0"], &["engine.args[0]", "0", "1"]),
        (
            Engine::Vllm,
            &["--kv-cache-dtype", "fp9"],
            &["\"fp9\"", "auto, bfloat16, fp8", "the precision of the cache"],
        ),
        (Engine::Vllm, &["--max-model-len", "auto"], &["\"auto\"", "8192"]),
        (Engine::Vllm, &["--dtype", "int8"], &["\"int8\"", "bfloat16"]),
        (Engine::Vllm, &["-dp=4", "-dpl", "2"], &["-dpl 2 of 4 groups", "write 4"]),
        (Engine::Vllm, &["-dpl", "2"], &["-dpl 2 of 1 groups"]),
        (Engine::Vllm, &["--nnodes"], &["more GPUs", "replicas"]),
        (Engine::Sglang, &["--dp-size", "none"], &["\"none\"", "ranks"]),
        (Engine::Vllm, &["--kv-cache-memory-bytes", "10G"], &["not supported yet", "context.length"]),
        (Engine::Vllm, &["--speculative-config", "mtp"], &["not a JSON object", "num_speculative_tokens"]),
        (Engine::Vllm, &["--speculative-config", "{}"], &["neither a method nor a model"]),
        (
            Engine::Vllm,
            &["--speculative-config", r#"{"method": "ngram"}"#],
            &["num_speculative_tokens is missing"],
        ),
        (
            Engine::Vllm,
            &["--speculative-config", r#"{"method": "mtp", "num_speculative_tokens": -1}"#],
            &["num_speculative_tokens is -1", "1 to 1024"],
        ),
        (Engine::Vllm, &["--speculative-config.method", "mtp"], &["one key of several", "JSON object"]),
        (Engine::Sglang, &["--enable-lora"], &["without --max-lora-rank", "16"]),
        (Engine::Sglang, &["--speculative-algorithm", "STANDALONE"], &["STANDALONE cannot be counted"]),
        (Engine::LlamaCpp, &["-c", "8192", "-np", "3"], &["-c 8192 cannot be divided among 3 sequences"]),
        (Engine::LlamaCpp, &["--model-draft", "d.gguf"], &["not supported yet", "second file"]),
        (Engine::Tgi, &["--lora-adapters", "a"], &["not supported yet", "vllm"]),
    ] {
        let error = told(engine, args).expect_err("refused").to_string();
        for part in parts {
            assert!(error.contains(part), "{args:?}: {part}: {error}");
        }
    }
}

#[test]
fn the_spec_and_the_arguments_may_only_say_the_same() {
    let said = || told(Engine::Vllm, &["--max-model-len", "8192"]).expect("valid").context.expect("said");
    assert_eq!(said().agree("context.length", None), Ok(8192));
    assert_eq!(said().agree("context.length", Some(8192)), Ok(8192));
    let error = said().agree("context.length", Some(4096)).expect_err("refused").to_string();
    assert_eq!(
        error,
        "spec.engine.args: --max-model-len 8192 contradicts context.length, which is 4096; remove one of the two; context.length alone is enough"
    );
}

#[test]
fn copies_of_one_are_no_copies() {
    for (engine, args) in [
        (Engine::Vllm, &["--data-parallel-size", "1", "--nnodes=1"][..]),
        (Engine::Sglang, &["--dp", "1"]),
        (Engine::LlamaCpp, &["-ctk", "q8_0", "-ctk", "q4_0", "-ctv", "q4_0"]),
    ] {
        assert!(told(engine, args).is_ok(), "{args:?}");
    }
}

#[test]
fn what_is_not_counted_says_why() {
    let args = ["--cpu-offload-gb".to_owned(), "8".to_owned(), "--seed=1".to_owned()];
    let remarks = remarks(Engine::Vllm, &args);
    assert_eq!(remarks.len(), 1, "{remarks:?}");
    assert!(remarks[0].starts_with("--cpu-offload-gb is not counted: "), "{remarks:?}");
    for &engine in Engine::ALL {
        for entry in tables::of(engine).flags {
            let why = match entry.says {
                Says::Uncounted(why) => why,
                Says::Refused { why, remedy } => {
                    assert!(remedy.len() > 10, "{entry:?}");
                    why
                }
                _ => continue,
            };
            assert!(why.len() > 10, "{entry:?}");
        }
    }
}
