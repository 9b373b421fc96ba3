//! What was once answered wrongly, typed as it was then: rebuilt from public reports (tests/fixtures/cases).

use serde_json::Value;

use super::{Run, file, run};

const CASES: &str = "tests/fixtures/cases";
const GIB: f64 = 1_073_741_824.0;

fn estimate(arguments: &str) -> Run {
    run(&format!("estimate {arguments}"))
}

/// The document that these arguments print; the engine's own come after.
fn printed(arguments: &str, engine: &str) -> Value {
    let run = estimate(&format!("{arguments} -o json -- {engine}"));
    serde_json::from_str(&run.stdout).unwrap_or_else(|_| panic!("{arguments}: {}", run.stderr))
}

fn gib(value: &Value) -> f64 {
    value.as_f64().expect("bytes") / GIB
}

/// vllm-project/vllm#44376, #54703: 5.44 GiB were left for the cache, which takes 6.66 for 30,000 tokens; 13,528 were the most.
#[test]
fn deepseek_v4_does_not_fit_two_gh200() {
    let typed = format!(
        "--config {CASES}/deepseek-v4-flash.json --context 20000 --tensor 2 --cache-precision fp8 --fit GH200-96GB"
    );
    let engine = "--enable-expert-parallel --gpu-memory-utilization 0.95";
    let run = estimate(&format!("{typed} -- {engine}"));
    assert_eq!(run.code, 3, "{}{}", run.stdout, run.stderr);
    assert!(!run.stdout.contains("the estimate is exact"), "{}", run.stdout);
    // As it was logged: vLLM 0.22 as a library, whose batches have 16,384 tokens.
    let longer = typed.replace("20000", "30000 --engine-version 0.22");
    let cache =
        gib(&printed(&longer, &format!("{engine} --max-num-batched-tokens 16384"))["perGpu"]["kvCache"]);
    assert!((cache - 6.66).abs() < 0.01 * 6.66, "{cache}");
    let document = printed(&typed, engine);
    let longest = document["fit"]["maxContext"].as_u64().or(document["fit"]["longestContext"].as_u64());
    assert!(longest.is_none_or(|longest| longest < 13_528), "{longest:?}");
}

/// vllm-project/recipes#551: the flag is a cap.
#[test]
fn a_cap_on_sequences_reserves_no_cache() {
    let typed = format!("--config {CASES}/qwen-27b-fp8.json --context 262144 --fit H100");
    let run = estimate(&format!("{typed} -- --max-num-seqs 512 --gpu-memory-utilization 0.95"));
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let (cap, none) = (printed(&typed, "--max-num-seqs 512"), printed(&typed, ""));
    // A state for each of them on a hybrid, no more.
    let grown = gib(&cap["components"]["kvCache"]) - gib(&none["components"]["kvCache"]);
    assert!((0.0..30.0).contains(&grown), "{grown}");
    let plan = |manifest: &str| {
        run_plan(manifest, "examples/cluster.snapshot")
            .unwrap_or_else(|run| panic!("{}{}", run.stdout, run.stderr))
    };
    let capped = plan("md-args.yaml");
    assert_eq!(capped["verdict"], "fits", "{capped}");
}

/// vllm-project/recipes#96: eight groups share the experts of MiniMax-M2 on eight H200.
#[test]
fn groups_of_ranks_share_the_experts() {
    let snapshot = format!("{CASES}/manifests/n-h200.yaml");
    let plan = run_plan("md-dp.yaml", &snapshot).unwrap_or_else(|run| panic!("{}{}", run.stdout, run.stderr));
    assert_eq!(plan["verdict"], "fits", "{plan}");
    assert_eq!(plan["requirement"]["gpus"].as_u64().or(plan["estimate"]["gpus"].as_u64()), Some(8), "{plan}");
    // Copies of a dense model, each on a GPU of its own.
    let copies =
        run_plan("md-8b-dp.yaml", "examples/cluster.snapshot").unwrap_or_else(|run| panic!("{}", run.stderr));
    assert_eq!(copies["verdict"], "fits", "{copies}");
    let refused = run(&format!(
        "plan -f {CASES}/manifests/md-template.yaml --offline --snapshot examples/cluster.snapshot"
    ));
    assert_eq!(refused.code, 1, "{}{}", refused.stdout, refused.stderr);
    assert!(refused.stdout.contains("requests nvidia.com/gpu: 4"), "{}", refused.stdout);
}

/// The result of a plan of one object; the run where there is none.
fn run_plan(manifest: &str, snapshot: &str) -> Result<Value, Run> {
    let run = run(&format!("plan -f {CASES}/manifests/{manifest} --offline --snapshot {snapshot} -o json"));
    let document: Option<Value> = serde_json::from_str(&run.stdout).ok();
    document.and_then(|document| document["results"].get(0).cloned()).ok_or(run)
}

/// tobocop2/lilbee#721: 17.6 GiB at q4_k_m with 65,536 tokens of q8_0; the tower is left out where the engine is told to.
#[test]
fn a_tower_that_is_not_loaded_is_not_counted() {
    let text = format!("--config {CASES}/qwen3.5-27b-text-only.json");
    let whole = "--config tests/fixtures/configs/Qwen__Qwen3.5-27B.json";
    let llama = "--engine llama-cpp --precision q4_k_m --cache-precision q8_0 --context 65536";
    for (how, engine) in [(llama, "--no-mmproj"), ("--context 65536", "--language-model-only")] {
        let [text, whole] = [&text, whole].map(|model| printed(&format!("{model} {how}"), engine));
        assert_eq!(text["components"], whole["components"], "{engine}");
    }
    let total = gib(&printed(&format!("{whole} {llama}"), "--no-mmproj")["total"]);
    assert!((total - 17.6).abs() < 0.2, "{total}");
    let with = gib(&printed(&format!("{whole} {llama}"), "--mmproj tower.gguf")["total"]);
    assert!(with > total + 0.4, "{with}");
    // A text model has no tower to load from elsewhere.
    let refused = estimate(&format!("{text} {llama} -- --mmproj tower.gguf"));
    assert_eq!(refused.code, 1, "{}", refused.stdout);
    assert!(
        refused.stderr.contains("--mmproj") && refused.stderr.contains("config.json"),
        "{}",
        refused.stderr
    );
}

/// vllm-project/vllm#55367: each group of compressed-tensors has its own width.
#[test]
fn two_groups_have_two_widths() {
    let weights = gib(&printed(
        &format!("--config {CASES}/compressed-tensors-two-groups.json --context 8192"),
        "",
    )["components"]["weights"]);
    assert!((weights - 21.0).abs() < 0.02 * 21.0, "{weights}");
}

#[test]
fn a_tenth_of_a_card_holds_no_model() {
    let run = estimate("--model llama-3.1-8b --engine sglang --fit H100 -- --mem-fraction-static 0.1");
    assert_eq!(run.code, 1, "{}", run.stdout);
    assert!(run.stderr.contains("--mem-fraction-static 0.1 is less than the weights"), "{}", run.stderr);
}

/// A version's own rules count: Qwen3.5's states are two for a sequence since vLLM 0.26, where prefixes are kept.
#[test]
fn the_version_chooses_the_rules() {
    let typed = "--config tests/fixtures/configs/Qwen__Qwen3.5-27B.json --context 8192 --sequences 8";
    let cache = |version: &str, engine: &str| {
        gib(&printed(&format!("{typed} --engine-version {version}"), engine)["components"]["kvCache"])
    };
    assert!(cache("0.26", "") > cache("0.19", ""));
    assert!((cache("0.19", "--enable-prefix-caching") - cache("0.26", "")).abs() < 1e-9);
    assert!((cache("0.26", "--no-enable-prefix-caching") - cache("0.19", "")).abs() < 1e-9);
    for (typed, parts) in [
        ("--engine-version latest", ["--engine-version: \"latest\"", "0.19.0"]),
        ("--engine llama-cpp --engine-version 0.19.0", ["no version of llama-cpp", "b10481"]),
        ("--engine llama-cpp --data 2", ["--data: 2 with engine llama-cpp", "no data parallelism"]),
        ("--data 2 -- -dp 4", ["-dp 4 contradicts --data", "--data alone"]),
    ] {
        let run = estimate(&format!("--model llama-3.1-8b {typed}"));
        assert_eq!(run.code, 1, "{typed}: {}", run.stdout);
        assert!(parts.iter().all(|part| run.stderr.contains(part)), "{typed}: {}", run.stderr);
    }
}

/// llama.cpp's server of today: four slots share one cache, and keys and values are held apart.
#[test]
fn slots_share_a_cache_and_values_have_a_type_of_their_own() {
    let cache = |typed: &str, engine: &str| {
        let typed = format!("--model llama-3.1-8b --engine llama-cpp --precision q4_k_m {typed}");
        printed(&typed, engine)["components"]["kvCache"].as_u64().expect("bytes")
    };
    let whole = cache("--context 32768", "");
    assert_eq!(whole, 4 << 30);
    assert_eq!(cache("", "-c 32768 -kvu"), whole);
    assert_eq!(cache("", "-c 32768 -kvu -np 8"), whole);
    assert_eq!(cache("", "-c 32768 -np 8"), whole);
    // Keys in 34 bytes for 32 elements, values in 64; told of the cache, both.
    assert_eq!(cache("--context 32768", "-ctk q8_0"), whole / 2 + whole / 64 * 17);
    assert_eq!(cache("--context 32768", "-ctk q8_0 -ctv q8_0"), whole / 32 * 17);
    assert_eq!(cache("--context 32768 --cache-precision q8_0", ""), whole / 32 * 17);
}

#[test]
fn a_training_config_is_read_as_it_is() {
    let yaml = "base_model: meta-llama/Llama-3.1-8B-Instruct\nadapter: qlora\nload_in_4bit: true\nsequence_len: 4096\nmicro_batch_size: 2\nlora_r: 32\nlora_target_linear: true\ngradient_checkpointing: true\nbf16: auto\n";
    let (_directory, path) = file("qlora.yml", yaml);
    let of_file = printed(&format!("--model llama-3.1-8b --training-config {path}"), "");
    let of_flags = printed(
        "--model llama-3.1-8b --training qlora --context 4096 --sequences 2 --lora-rank 32 --lora-targets all-linear",
        "",
    );
    assert_eq!(of_file["components"], of_flags["components"]);
    // Flags count before it, and a fused loss needs less.
    let (_directory, fused) =
        file("fused.yml", format!("{yaml}cut_cross_entropy: true\nsample_packing: true\n"));
    let total = |arguments: &str| gib(&printed(arguments, "")["total"]);
    let plain = gib(&of_file["total"]);
    assert!(total(&format!("--model llama-3.1-8b --training-config {fused}")) < plain - 2.0);
    assert!(
        total(&format!("--model llama-3.1-8b --training-config {path} --loss fused --sequences 1"))
            < plain - 2.0
    );
    // The file names the model, which the catalog has.
    let named = printed(&format!("--training-config {path}"), "");
    assert_eq!(named["components"], of_file["components"]);
    let (_directory, other) = file("other.yml", "learning_rate: 1\n");
    let refused = estimate(&format!("--training-config {other}"));
    assert_eq!(refused.code, 1, "{}", refused.stdout);
    assert!(
        refused.stderr.contains("no training config") && refused.stderr.contains("axolotl"),
        "{}",
        refused.stderr
    );
    let both = estimate(&format!("--training lora --training-config {path} --model llama-3.1-8b"));
    assert_eq!(both.code, 2, "{}", both.stderr);
}
