use super::*;

fn words(line: &str) -> Vec<Word> {
    let word = |text: &str| Word { text: text.to_owned(), known: !text.contains('$') };
    line.split_whitespace().map(word).collect()
}

fn read(engine: Engine, line: &str) -> Stated {
    stated(engine, &words(line))
}

#[test]
fn what_is_stated_is_read_and_nothing_else() {
    let found =
        read(Engine::Vllm, "serve a/b --max_model_len=32k -tp 4 --dtype half --kv-cache-dtype fp8 --seed 1");
    assert_eq!(found.weights.map(|weights| weights.place.text), Some("a/b".to_owned()));
    assert_eq!(
        (found.context, found.tensor, found.pipeline, found.data),
        (Some(32_000), Some(4), None, None)
    );
    assert_eq!((found.dtype, found.cache), (Some(Precision::Fp16), Some(CachePrecision::Fp8)));
    assert_eq!((found.arguments, found.faults), (vec!["--dtype".to_owned(), "half".to_owned()], vec![]));
    assert_eq!(read(Engine::Vllm, ""), Stated::default());
}

#[test]
fn one_flag_that_cannot_be_read_hides_no_other() {
    for (engine, line, context, fault) in [
        (Engine::Vllm, "--max-model-len $LEN -tp 2", None, "--max-model-len has $LEN"),
        (Engine::Vllm, "--max-model-len lots -tp 2", None, "lots"),
        (Engine::Vllm, "--max-model-len auto -tp 2", None, "leaves the context"),
        (
            Engine::Vllm,
            "-tp 2 --max-model-len 4096 --config /etc/x.yaml",
            Some(4096),
            "--config names a file",
        ),
        (
            Engine::Vllm,
            "-tp 2 --max-model-len 4096 --trust-remote-code $EXTRA_ARGS",
            Some(4096),
            "$EXTRA_ARGS",
        ),
        (Engine::Vllm, "-tp 2 --max-model-len 4096 $MORE", Some(4096), "$MORE"),
        (Engine::Sglang, "--tp 2 --context-length 4096 --kv-cache-dtype nvfp4", Some(4096), "nvfp4"),
    ] {
        let found = read(engine, line);
        assert_eq!((found.tensor, found.context), (Some(2), context), "{line}");
        assert!(found.faults.iter().any(|found| found.contains(fault)), "{line}: {:?}", found.faults);
    }
    assert_eq!(read(Engine::Vllm, "a/b --port $PORT --host $IP -tp 2").faults, [""; 0]);
}

#[test]
fn a_method_says_its_format_where_its_name_does() {
    for (engine, line, expected) in [
        (Engine::Vllm, "--quantization awq --dtype half", Some(Precision::AwqInt4)),
        (Engine::Vllm, "-q awq_marlin", Some(Precision::AwqInt4)),
        (Engine::Vllm, "-q gptq --dtype half", None),
        (Engine::Vllm, "-q compressed-tensors --dtype half", None),
        (Engine::Vllm, "-q fp8", Some(Precision::Fp8)),
        (Engine::Vllm, "-q bitsandbytes", Some(Precision::Nf4)),
        (Engine::Tgi, "--quantize bitsandbytes", Some(Precision::BnbInt8)),
        (Engine::Vllm, "--dtype auto", None),
        (Engine::Vllm, "--dtype bfloat16", Some(Precision::Bf16)),
    ] {
        assert_eq!(read(engine, line).precision(engine), expected, "{line}");
    }
}

#[test]
fn llama_cpp_divides_its_context_among_its_slots() {
    for (line, context, sequences) in [
        ("-m /x.gguf -c 16384 -np 4", Some(4096), Some(4)),
        ("-m /x.gguf -c 16384", Some(16384), None),
        ("-m /x.gguf -c 0", None, None),
        ("-m /x.gguf -c 16384 -np 4 --kv-unified", Some(16384), Some(4)),
    ] {
        let found = read(Engine::LlamaCpp, line);
        assert_eq!((found.context, found.sequences), (context, sequences), "{line}");
        assert!(found.weights.is_some_and(|weights| weights.is_path), "{line}");
    }
}

#[test]
fn variables_stand_for_flags_where_the_engine_reads_them() {
    for (engine, variable, flag) in [
        (Engine::Tgi, "MODEL_ID", Some("--model-id")),
        (Engine::Tgi, "MAX_INPUT_LENGTH", Some("--max-input-length")),
        (Engine::Tgi, "NUM_SHARD", Some("--num-shard")),
        (Engine::Tgi, "num_shard", None),
        (Engine::Tgi, "PORT", None),
        (Engine::LlamaCpp, "LLAMA_ARG_CTX_SIZE", Some("--ctx-size")),
        (Engine::Vllm, "MODEL", None),
        (Engine::Vllm, "MAX_MODEL_LEN", None),
    ] {
        assert_eq!(flag_of_variable(engine, variable), flag, "{engine} {variable}");
    }
    for (_, flag) in tables::of(Engine::LlamaCpp).variables {
        assert!(tables::of(Engine::LlamaCpp).entry(flag).is_some(), "{flag}");
    }
}
