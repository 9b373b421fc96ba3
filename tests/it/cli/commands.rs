//! Every command but `plan`.

use serde_json::Value;

use super::{command, file, run, run_with};

const QWEN: &str = "--config tests/fixtures/configs/Qwen__Qwen2.5-7B-Instruct.json";

#[test]
fn estimate_prints_the_contract() {
    let run = run(&format!("estimate {QWEN} --context 8192 --sequences 4 --tensor 2 -o json"));
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{}", run.stderr);
    let document: Value = serde_json::from_str(&run.stdout).expect("JSON");
    let bytes = |pointer: &str| {
        document.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("{pointer}"))
    };
    let parts = ["weights", "kvCache", "activations", "overhead"];
    let sum = |of: &str| parts.iter().map(|part| bytes(&format!("/{of}/{part}"))).sum::<u64>();
    assert_eq!(sum("components"), bytes("/total"));
    assert_eq!(sum("perGpu"), bytes("/perGpu/total"));
    assert_eq!(bytes("/requiredPerGpu"), (bytes("/perGpu/total") * 12).div_ceil(10));
    assert_eq!(bytes("/required"), (bytes("/total") * 12).div_ceil(10));
    assert_eq!(bytes("/gpus"), 2);
    assert_eq!(bytes("/model/parameters"), 7_615_616_512);
    // 28 layers x 2 x 4 KV heads x 128 x 2 bytes, of which each of two ranks has half.
    assert_eq!(bytes("/kvCacheBytesPerToken"), 28 * 2 * 4 * 128 * 2);
    for (pointer, expected) in [
        ("/safetyMargin", "1.2"),
        ("/model/source", "config"),
        ("/model/architecture", "qwen2"),
        ("/workload/precision", "bf16"),
        ("/workload/engine", "vllm"),
    ] {
        assert_eq!(document.pointer(pointer).and_then(Value::as_str), Some(expected), "{pointer}");
    }
    assert!(["exact", "derived", "assumed"].contains(&document["confidence"].as_str().expect("a word")));
    assert!(document["notes"].is_array() && document["terms"].is_array() && document["range"].is_object());
    assert!(document["components"].get("gradients").is_none(), "serving has no gradients");
}

#[test]
fn yaml_says_the_same_as_json() {
    let json = run(&format!("estimate {QWEN} -o json"));
    let yaml = run(&format!("estimate {QWEN} -o yaml"));
    let json: Value = serde_json::from_str(&json.stdout).expect("JSON");
    let yaml: Value = serde_yaml::from_str(&yaml.stdout).expect("YAML");
    assert_eq!(json, yaml);
}

#[test]
fn estimate_is_readable() {
    for arguments in ["", "-o wide", "--explain"] {
        let run = run(&format!("estimate {QWEN} --context 8192 {arguments}"));
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert!(run.stdout.contains("weights          14.2 GiB"), "{}", run.stdout);
        assert!(run.stdout.contains("required (x1.2)"), "{}", run.stdout);
        assert!(!run.stdout.contains('\u{1b}'), "colour in a pipe");
        assert!(run.stdout.lines().all(|line| line == line.trim_end()), "blanks at the end of a line");
    }
}

#[test]
fn a_config_is_read_from_standard_input() {
    let config = std::fs::read("tests/fixtures/configs/Qwen__Qwen2.5-7B-Instruct.json").expect("a fixture");
    let run = run_with("estimate --config - -o json", &config);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.contains("7615616512"));
}

#[test]
fn a_model_directory_is_detected() {
    let config = std::fs::read("tests/fixtures/configs/Qwen__Qwen2.5-7B-Instruct.json").expect("a fixture");
    let (directory, _) = file("config.json", config);
    let run = run(&format!("estimate --file {} -o json", directory.path().display()));
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.contains("7615616512"));
}

#[test]
fn a_published_size_is_compared_with_the_config() {
    let run = run(&format!("estimate {QWEN} --parameters 7.6B"));
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.contains("7.62B parameters; the published size is 7.6B"), "{}", run.stderr);
    let run = super::run(&format!("estimate {QWEN} --parameters 70B"));
    assert_eq!((run.code, run.stdout.as_str()), (1, ""));
    assert!(run.stderr.contains("error: --parameters: 70B is not the size"), "{}", run.stderr);
}

#[test]
fn fit_says_what_of_it_fits_a_gpu() {
    let fit_at = |context: u64, arguments: &str| {
        let run = run(&format!("estimate {QWEN} --precision bf16 --context {context} {arguments} -o json"));
        let document: Value = serde_json::from_str(&run.stdout).expect("JSON");
        (run.code, document)
    };
    let fit = |arguments: &str| fit_at(8192, arguments);
    let (code, small) = fit("--fit T4");
    assert_eq!((code, &small["fit"]["fits"], &small["fit"]["fewestRanks"]), (3, &false.into(), &2.into()));
    assert_eq!(small["fit"]["finestPrecision"], "fp8");
    let (code, large) = fit("--fit 21504");
    assert_eq!((code, &large["fit"]["fits"]), (0, &true.into()));
    // What is said to fit does, and a token more does not.
    let longest = large["fit"]["longestContext"].as_u64().expect("a context");
    assert!(longest > 8192);
    assert_eq!(fit_at(longest, "--fit 21504").0, 0);
    assert_eq!(fit_at(longest + 1, "--fit 21504").0, 3);
    assert!(fit("").1.get("fit").is_none());
}

#[test]
fn the_seed_rule_holds_on_the_command_line() {
    for (arguments, gpu, code) in [
        ("--parameters 8B --precision fp16 --context 8192", "RTX-4090", 0),
        ("--parameters 8B --precision fp16 --context 8192", "RTX-3090", 0),
        ("--parameters 8B --precision fp16 --context 8192", "T4", 3),
        ("--parameters 8B --precision int4 --context 8192", "RTX-4060", 0),
        ("--parameters 8B --precision int4 --context 8192", "T4", 0),
        ("--parameters 70B --precision bf16 --context 8192 --tensor 4", "A100-80GB", 0),
        ("--parameters 70B --precision bf16 --context 8192", "H200", 3),
    ] {
        assert_eq!(run(&format!("estimate {arguments} --fit {gpu}")).code, code, "{arguments} {gpu}");
    }
    for (precision, bytes) in [("fp32", 32), ("fp16", 16), ("bf16", 16), ("int8", 8), ("int4", 4)] {
        let run = run(&format!("estimate --parameters 8B --precision {precision} -o json"));
        let document: Value = serde_json::from_str(&run.stdout).expect("JSON");
        assert_eq!(document["components"]["weights"], bytes * 1_000_000_000_u64, "{precision}");
    }
    let exaone = run("estimate --model exaone-4.0-1.2b --precision bf16");
    assert!(exaone.stdout.contains("weights          2.4 GiB"), "{}", exaone.stdout);
}

#[test]
fn models_of_the_catalog_are_listed_and_found() {
    let list = run("estimate --list-models -o json");
    let models: Vec<Value> = serde_json::from_str(&list.stdout).expect("JSON");
    assert!(models.len() >= 200, "only {}", models.len());
    let glm = models.iter().find(|model| model["name"] == "glm-4.5-air").expect("it is in the catalog");
    assert_eq!(glm["repository"], "zai-org/GLM-4.5-Air");
    assert_eq!(glm["parameters"], 106_852_251_264_u64);
    assert_eq!(glm["published"]["parameters"], 110_468_824_832_u64);
    assert_eq!(glm["published"]["counts"], serde_json::json!(["draft", "draft-embeddings"]));
    let wide = run("estimate --list-models -o wide");
    let row = wide.stdout.lines().find(|line| line.starts_with("zamba2-7b ")).expect("a row");
    assert!(row.contains("about 7.4B") && row.ends_with("https://arxiv.org/abs/2411.15242"), "{row}");
    let wrong = run("estimate --model llama-3.1-8");
    assert!(wrong.code == 1 && wrong.stderr.contains("hint: did you mean llama-3.1-8b?"), "{}", wrong.stderr);
    let remote = run("estimate --model nobody/nothing --offline");
    assert!(remote.code == 1 && remote.stderr.contains("--config"), "{}", remote.stderr);
    let known = run("estimate --model Qwen/Qwen2.5-7B-Instruct --offline");
    assert_eq!(known.code, 0, "{}", known.stderr);
}

#[test]
fn nodes_are_listed_as_their_labels_declare_them() {
    insta::assert_snapshot!("nodes", run("nodes --snapshot examples/cluster.snapshot").transcript());
    insta::assert_snapshot!(
        "nodes_wide",
        run("nodes --snapshot examples/cluster.snapshot -o wide").transcript()
    );
    let json = run("nodes --snapshot examples/cluster.snapshot -o json");
    let document: Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(document["nodes"].as_array().map(Vec::len), Some(8));
    assert_eq!(document["nodes"][3]["pools"][0]["memoryMiB"], 23034);
    assert_eq!(document["nodes"][3]["pools"][0]["freeGpus"], 3);
}

#[test]
fn doctor_names_every_label_that_cannot_be_believed() {
    let bad = std::fs::read_to_string("examples/cluster.snapshot")
        .expect("the example")
        .replacen("\"15360\"", "\"15360MiB\"", 1)
        .replacen("nvidia.com/gpu.memory: \"24564\"", "other: x", 1);
    let run = run_with("doctor --snapshot -", bad.as_bytes());
    assert_eq!(run.code, 3);
    insta::assert_snapshot!("doctor", run.transcript());
    let json = run_with("doctor --snapshot - -o json", bad.as_bytes());
    let document: Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!((json.code, document["nodes"].as_array().map(Vec::len)), (3, Some(2)));
    assert_eq!(super::run("doctor --snapshot examples/cluster.snapshot").code, 0);
}

#[test]
fn a_snapshot_is_read_as_it_was_written() {
    let first = run("snapshot --snapshot examples/cluster.snapshot");
    assert_eq!(first.code, 0, "{}", first.stderr);
    let again = run_with("snapshot --snapshot -", first.stdout.as_bytes());
    assert_eq!(first.stdout, again.stdout);
    let json = run_with("snapshot --snapshot - -o json", first.stdout.as_bytes());
    let again = run_with("snapshot --snapshot -", json.stdout.as_bytes());
    assert_eq!(first.stdout, again.stdout);
}

#[test]
fn a_redacted_snapshot_has_no_name_of_the_cluster() {
    let run = run("snapshot --snapshot examples/cluster.snapshot --redact");
    assert_eq!(run.code, 0, "{}", run.stderr);
    for name in ["a100-1", "t4-2", "research", "notebook"] {
        assert!(!run.stdout.contains(name), "{name}\n{}", run.stdout);
    }
    assert!(run.stdout.contains("nvidia.com/gpu.memory"));
}

#[test]
fn crds_prints_the_definitions() {
    let run = run("crds");
    assert_eq!(run.code, 0);
    let definition = |kind: &str| {
        std::fs::read_to_string(format!("crds/{kind}.loadline.dev.yaml")).expect("the definition")
    };
    assert_eq!(run.stdout, ["modeldeployments", "modelrequirements"].map(definition).join("---\n"));
}

#[test]
fn completions_are_there_for_every_shell() {
    for (shell, sign) in [
        ("bash", "_loadline"),
        ("zsh", "#compdef loadline"),
        ("fish", "complete -c loadline"),
        ("elvish", "loadline"),
        ("powershell", "Register-ArgumentCompleter"),
        ("kubectl", "kubectl_complete-loadline"),
    ] {
        let run = run(&format!("completion {shell}"));
        assert!(run.code == 0 && run.stdout.contains(sign), "{shell}");
    }
}

#[test]
fn kubectl_completes_commands_and_flags() {
    let (directory, script) = file("kubectl_complete-loadline", run("completion kubectl").stdout);
    let program = command().get_program().to_owned();
    std::fs::copy(program, directory.path().join("kubectl-loadline")).expect("a copy of the program");
    let path = std::env::join_paths(
        std::iter::once(directory.path().to_owned())
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    )
    .expect("a path");
    for (words, expected) in [
        (&["es"][..], "estimate\n:0\n"),
        (&["plan", "--snap"][..], "--snapshot\n:0\n"),
        (&["plan", "x"][..], ":0\n"),
    ] {
        let output = std::process::Command::new("sh")
            .arg(&script)
            .args(words)
            .env("PATH", &path)
            .output()
            .expect("sh");
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{words:?}");
    }
}

#[test]
fn as_a_plugin_it_is_called_as_users_type_it() {
    let (directory, _) = file("x", "");
    let plugin = directory.path().join("kubectl-loadline");
    // Not a copy: a program that another test forks while it is written could not be run.
    std::os::unix::fs::symlink(command().get_program(), &plugin).expect("a link to the program");
    let output =
        std::process::Command::new(&plugin).args(["plan", "--help"]).output().expect("the plugin runs");
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(help.contains("Usage: kubectl loadline plan"), "{help}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let program = command().get_program().to_owned();
    // `head` closes the pipe long before the definition is written.
    let script = format!("{{ '{}' crds; echo \"code $?\" >&2; }} | head -c 1", program.display());
    let output = std::process::Command::new("sh").args(["-c", &script]).output().expect("sh");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "code 0\n");
}

#[test]
fn help_and_version_are_data() {
    let help = run("--help");
    assert!(help.code == 0 && help.stderr.is_empty() && help.stdout.contains("Exit codes: 0"));
    for (words, flag) in
        [("help", "--help"), ("help plan", "plan --help"), ("help estimate", "estimate --help")]
    {
        let (help, same) = (run(words), run(flag));
        assert_eq!((help.code, help.stderr.as_str()), (0, ""), "{words}");
        assert_eq!(help.stdout, same.stdout, "{words}");
    }
    let version = run("--version");
    assert_eq!((version.code, version.stdout), (0, format!("loadline {}\n", env!("CARGO_PKG_VERSION"))));
}
