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
    refused("nodes --snapshot examples/cluster.yaml --context x", 2, &["--context"]);
    let kubeconfig = "apiVersion: v1\nkind: Config\ncurrent-context: x\ncontexts: [{name: x, context: {cluster: x, user: x}}]\nusers: [{name: x, user: {}}]\nclusters: [{name: x, cluster: {server: 'http://127.0.0.1:1'}}]\n";
    let (_directory, path) = file("config", kubeconfig);
    refused(&format!("nodes --kubeconfig {path}"), 1, &["does not list nodes", "--snapshot"]);
}
