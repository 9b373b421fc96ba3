//! What is wrong is named, with its value and what would be right; nothing panics.

use super::{file, run, run_with};

#[track_caller]
fn refused(arguments: &str, code: i32, expected: &[&str]) {
    let run = run(arguments);
    assert_eq!(run.code, code, "{arguments}\n{}", run.stderr);
    assert_eq!(run.stdout, "", "{arguments}: data beside an error");
    for text in expected {
        assert!(run.stderr.contains(text), "{arguments}: no {text:?} in\n{}", run.stderr);
    }
    assert!(run.stderr.starts_with("error: ") && !run.stderr.contains("panicked"), "{}", run.stderr);
}

#[test]
fn numbers_that_cannot_be_right() {
    for (arguments, expected) in [
        ("--parameters 8Q", &["--parameters", "8Q", "such as 8B"][..]),
        ("--parameters -5B", &["--parameters", "-5B", "such as 8B"]),
        ("--parameters 0", &["--parameters", "\"0\"", "at least 1"]),
        ("--parameters 1e9", &["--parameters", "1e9", "such as 8B"]),
        ("--parameters 99999999999999999999999T", &["--parameters", "99999"]),
        ("--parameters 8B --context -1", &["--context", "-1", "from 1 to 100000000"]),
        ("--parameters 8B --context 0", &["--context", "\"0\"", "from 1 to 100000000"]),
        (
            "--parameters 8B --context 9223372036854775808",
            &["--context", "9223372036854775808", "from 1 to 100000000"],
        ),
        ("--parameters 8B --context 8k", &["--context", "8k", "such as 8192"]),
        ("--parameters 8B --sequences 0", &["--sequences", "\"0\"", "from 1 to 65536"]),
        ("--parameters 8B --margin 0.5", &["--margin", "0.5", "from 1.0 to 10.0"]),
        ("--parameters 8B --margin NaN", &["--margin", "NaN", "such as 1.2"]),
        ("--parameters 8B --margin 1,2", &["--margin", "1,2", "such as 1.2"]),
        ("--parameters 8B --margin -1", &["--margin", "-1", "such as 1.2"]),
        ("--parameters 8B --tensor 0", &["--tensor", "\"0\"", "from 1 to 1024"]),
        ("--parameters 8B --tensor 2.5", &["--tensor", "2.5", "from 1 to 1024"]),
        ("--parameters 8B --precision int5", &["--precision", "int5", "int4"]),
        ("--parameters 8B --engine vlm", &["--engine", "vlm", "vllm"]),
        ("--parameters 8B --fit 0", &["--fit", "from 1024 to 1048576 MiB"]),
        ("--parameters 8B --fit 24GB", &["--fit", "24GB", "24GiB"]),
        ("--parameters 8B --unknown", &["--unknown"]),
        ("--parameters 8B --model x", &["--parameters", "--model", "cannot be used with"]),
        ("--parameters 8B --lora-rank 4", &["--training"]),
        ("--parameters 8B --training full --lora-rank 4", &["--lora-rank 4", "lora or qlora"]),
        (
            "--parameters 8B --training full --lora-targets attention",
            &["--lora-targets attention", "lora or qlora"],
        ),
        ("--parameters 8B --training lora --tensor 2", &["--training", "--tensor"]),
        ("", &["no model is given", "hint: give one of --parameters 8B"]),
    ] {
        refused(&format!("estimate {arguments}"), 2, expected);
    }
}

/// Every flag of `estimate` with what it does not take, and flags that contradict one another.
#[test]
fn every_flag_says_what_it_takes() {
    for (arguments, expected) in [
        ("--parameters 8B --fit 80", &["--fit", "\"80\" is 80 MiB", "write 80GiB"][..]),
        ("--parameters 8B --fit 80GB", &["--fit", "\"80GB\"", "write 80GiB", "--list-gpus"]),
        ("--parameters 8B --fit A100", &["--fit", "\"A100\"", "A100-40GB or A100-80GB"]),
        ("--parameters 8B --fit L40X", &["--fit", "\"L40X\"", "did you mean L40?", "--list-gpus"]),
        ("--parameters 8B --fit", &["--fit", "a value is required"]),
        ("--parameters 8B --compare size", &["--compare", "size", "precision, context, tensor, gpu"]),
        ("--parameters 8B --compare", &["--compare", "a value is required", "precision"]),
        ("--parameters 8B --compare optimizer", &["--compare optimizer", "hint: add --training"]),
        ("--parameters 8B --compare method", &["--compare method", "hint: add --training"]),
        ("--parameters 8B --training full --compare sharding", &["--compare sharding", "--gpus 8"]),
        ("--parameters 8B --training full --compare tensor", &["--compare tensor", "--compare sharding"]),
        ("--parameters 8B --cache-precision fp4", &["--cache-precision", "fp4", "fp8"]),
        ("--parameters 8B --precision int3", &["--precision", "int3", "int4"]),
        ("--parameters 8B --pipeline 0", &["--pipeline", "\"0\"", "from 1 to 1024"]),
        ("--parameters 8B --pipeline two", &["--pipeline", "two", "such as 2"]),
        ("--parameters 8B --engine triton", &["--engine", "triton", "vllm, sglang"]),
        ("--parameters 8B --margin 0.9", &["--margin", "0.9", "from 1.0 to 10.0"]),
        ("--parameters 8B --margin 10.1", &["--margin", "10.1", "from 1.0 to 10.0"]),
        ("--parameters 8B --sequences 65537", &["--sequences", "65537", "from 1 to 65536"]),
        ("--parameters 8B --explain=yes", &["--explain", "yes"]),
        ("--parameters 8B -o xml", &["--output", "xml", "table, wide, json, yaml"]),
        ("--list-gpus --list-models", &["--list-gpus", "--list-models"]),
        ("--parameters 8B --training half", &["--training", "half", "full, lora, qlora"]),
        ("--parameters 8B --training full --optimizer adam", &["--optimizer", "adam", "adamw"]),
        ("--parameters 8B --optimizer adamw", &["--training"]),
        ("--parameters 8B --training lora --lora-rank 0", &["--lora-rank", "\"0\"", "from 1 to"]),
        ("--parameters 8B --training lora --lora-rank r16", &["--lora-rank", "r16"]),
        ("--parameters 8B --lora-targets attention", &["--training"]),
        (
            "--parameters 8B --training full --gradient-checkpointing some",
            &["--gradient-checkpointing", "none, full"],
        ),
        ("--parameters 8B --gradient-checkpointing full", &["--training"]),
        (
            "--parameters 8B --training full --attention paged",
            &["--attention", "paged", "eager, sdpa, flash"],
        ),
        ("--parameters 8B --attention flash", &["--training"]),
        ("--parameters 8B --training full --sharding zero4", &["--sharding", "zero4", "zero3"]),
        ("--parameters 8B --sharding zero3", &["--training"]),
        ("--parameters 8B --training full --gpus 0", &["--gpus", "\"0\"", "from 1 to 1024"]),
        ("--parameters 8B --training full --gpus 2000", &["--gpus", "2000", "from 1 to 1024"]),
        ("--parameters 8B --gpus 8", &["--training"]),
        ("--parameters 8B --training full --offload disk", &["--offload", "disk", "optimizer, parameters"]),
        ("--parameters 8B --offload optimizer", &["--training"]),
        ("--parameters 8B --training full --engine vllm", &["--training", "--engine"]),
        ("--parameters 8B --training full --pipeline 2", &["--training", "--pipeline"]),
        ("--parameters 8B --training full --cache-precision fp8", &["--training", "--cache-precision"]),
        ("--model llama-3.1-8b --gguf x.gguf", &["--model", "--gguf", "cannot be used with"]),
        ("--config x.json --file x", &["--config", "--file", "cannot be used with"]),
        ("--parameters 8B --revision main", &["--revision main", "--model organisation/name"]),
    ] {
        refused(&format!("estimate {arguments}"), 2, expected);
    }
    for (arguments, expected) in [
        (
            "--parameters 8B --pipeline 33",
            &["--pipeline: 33 stages cannot share 32 layers", "at most 32"][..],
        ),
        ("--parameters 8B --tensor 3", &["--tensor: 3 ranks cannot share", "hint: write 2 or 4"]),
        (
            "--parameters 8B --training full --precision int4",
            &["--precision: int4", "trained in full", "the method qlora"],
        ),
        ("--parameters 8B --training qlora --precision q4_k_m", &["--precision:", "q4_k_m", "nf4"]),
        (
            "--parameters 8B --training lora --lora-targets nothing",
            &["--lora-targets: \"nothing\"", "q_proj"],
        ),
        ("--model llama-3.1-8b --revision main", &["--revision main", "built-in catalog"]),
        ("--model llama3", &["\"llama3\"", "did you mean llama-3-"]),
        ("--model llama3.1:8b", &["did you mean llama-3.1-8b?"]),
        ("--model a/b/c --offline", &["\"a/b/c\"", "organisation/name"]),
        ("--model a/ --offline", &["\"a/\"", "organisation/name"]),
    ] {
        refused(&format!("estimate {arguments}"), 1, expected);
    }
}

#[test]
fn a_split_that_the_model_does_not_allow() {
    refused(
        "estimate --config tests/fixtures/configs/Qwen__Qwen2.5-7B-Instruct.json --tensor 3",
        1,
        &["--tensor", "3", "28 attention heads", "4 KV heads", "hint:"],
    );
}

#[test]
fn models_that_are_not_there() {
    refused("estimate --config nowhere.json", 1, &["nowhere.json", "No such file"]);
    refused("estimate --config src", 1, &["src", "directory"]);
    refused("estimate --file Cargo.toml", 1, &["Cargo.toml", "hint: give a model"]);
    refused("estimate --file src", 1, &["src", "hint: give a model"]);
    refused("estimate --gguf nowhere.gguf", 1, &["nowhere.gguf", "No such file"]);
    refused("estimate --safetensors Cargo.toml", 1, &["Cargo.toml"]);
    refused("estimate --hub-endpoint nonsense --model a/b", 1, &["nonsense"]);
}

#[test]
fn configs_that_are_none() {
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let large = format!("{{\"model_type\": \"llama\", \"x\": \"{}\"}}", "x".repeat(10 << 20));
    let strings = r#"{"model_type": "llama", "hidden_size": "4096", "num_hidden_layers": 32, "num_attention_heads": 32, "intermediate_size": 11008, "vocab_size": 32000}"#;
    for (content, expected) in [
        ("", &["config.json"][..]),
        ("{\"model_type\": \"llama\", \"hidden", &["config.json"]),
        ("[]", &["config.json"]),
        ("{}", &["config.json"]),
        ("not json", &["config.json"]),
        (deep.as_str(), &["config.json"]),
        (large.as_str(), &["config.json"]),
        (strings, &["config.json", "hidden_size", "4096"]),
        (r#"{"model_type": "never-heard-of", "hidden_size": 1}"#, &["config.json", "never-heard-of"]),
    ] {
        let (_directory, path) = file("config.json", content);
        refused(&format!("estimate --config {path}"), 1, expected);
    }
}

#[test]
fn snapshots_of_the_wrong_kind() {
    for (content, expected) in [
        ("", &["standard input", "expected a v1 List"][..]),
        ("a: [1", &["standard input"]),
        ("kind: ConfigMap\napiVersion: v1\nmetadata: {name: x}", &["ConfigMap", "expected a v1 List"]),
        ("just text", &["just text", "v1 List"]),
        (
            "apiVersion: loadline.dev/v1alpha1\nkind: ModelDeployment",
            &["ModelDeployment", "expected a v1 List"],
        ),
    ] {
        for command in ["nodes", "doctor", "snapshot"] {
            let run = run_with(&format!("{command} --snapshot -"), content.as_bytes());
            assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{content}");
            for text in expected {
                assert!(run.stderr.contains(text), "{content}: {}", run.stderr);
            }
            assert!(run.stderr.contains("\nhint: "), "{}", run.stderr);
        }
    }
    let run = run_with("nodes --snapshot -", b"\xff\xfek\0i\0n\0d\0");
    assert!(run.code == 1 && run.stderr.contains("UTF-8"), "{}", run.stderr);
}

#[test]
fn a_cluster_that_is_not_there() {
    refused("nodes", 1, &["no cluster", "hint:", "--snapshot"]);
    refused("nodes --kubeconfig nowhere", 1, &["nowhere"]);
    refused("nodes --context nowhere", 1, &["no cluster", "--snapshot"]);
    refused("nodes --snapshot examples/cluster.snapshot --context x", 2, &["--context"]);
    let kubeconfig = "apiVersion: v1\nkind: Config\ncurrent-context: x\ncontexts: [{name: x, context: {cluster: x, user: x}}]\nusers: [{name: x, user: {}}]\nclusters: [{name: x, cluster: {server: 'http://127.0.0.1:1'}}]\n";
    let (_directory, path) = file("config", kubeconfig);
    refused(&format!("nodes --kubeconfig {path}"), 1, &["does not list nodes", "--snapshot"]);
}
