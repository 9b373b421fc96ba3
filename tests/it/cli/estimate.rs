//! `loadline estimate` as someone uses it who knew web calculators: the answer, `--fit`, `--compare`, `--explain`.

use serde_json::Value;

use super::{command, run};

const GEMMA: &str = "--config tests/fixtures/configs/google__gemma-3-27b-it.json";
const QWEN: &str = "--config tests/fixtures/configs/Qwen__Qwen2.5-7B-Instruct.json";

#[track_caller]
fn json(arguments: &str) -> (i32, Value) {
    let run = run(&format!("estimate {arguments} -o json"));
    assert_eq!(run.stderr, "", "{arguments}: words beside a document");
    (run.code, serde_json::from_str(&run.stdout).expect("JSON"))
}

fn number(document: &Value, pointer: &str) -> u64 {
    document.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("no number at {pointer}"))
}

#[test]
fn the_first_lines_are_the_answer() {
    for (arguments, first) in [
        (
            "--parameters 8B --precision fp16 --context 8192",
            "a model of 8B parameters needs 21.3 GiB of GPU memory (17.7 GiB x 1.2)\nfits an A10 (22.5 GiB) or larger, not a T4 (15.0 GiB)\n\n",
        ),
        (
            "--parameters 8B --precision int4 --context 8192",
            "a model of 8B parameters needs 7.9 GiB of GPU memory (6.6 GiB x 1.2)\nfits an RTX-4060 (8.0 GiB) or larger\n\n",
        ),
    ] {
        let run = run(&format!("estimate {arguments}"));
        assert!(run.code == 0 && run.stdout.starts_with(first), "{first}\n{}", run.stdout);
    }
    let large = run("estimate --parameters 405B --precision bf16 --context 8192");
    assert!(
        large.stdout.contains("\ntoo large for a B300 (268.6 GiB)\nfits 4 x B300 with --tensor 4 ("),
        "{}",
        large.stdout
    );
    let training = run("estimate --parameters 70B --training full");
    assert!(
        training.stdout.contains("\nfits 8 x B300 with --gpus 8 --sharding zero3 ("),
        "{}",
        training.stdout
    );
}

#[test]
fn the_common_gpus_are_those_on_either_side() {
    for arguments in [
        "--parameters 1B --context 2048",
        "--parameters 8B --context 8192",
        "--parameters 30B --context 8192 --tensor 2",
        "--parameters 8B --training lora",
        "--parameters 400B --precision int4 --context 8192",
    ] {
        let (code, document) = json(arguments);
        let required = number(&document, "/requiredPerGpu");
        let memory = |card: &str| document.pointer(&format!("/cards/{card}/memory")).and_then(Value::as_u64);
        assert_eq!(code, 0);
        assert!(memory("smallest").is_some_and(|memory| memory >= required), "{arguments}");
        assert!(memory("tooSmall").is_none_or(|memory| memory < required), "{arguments}");
        let fit = document.pointer("/cards/smallest/name").and_then(Value::as_str).expect("a name");
        assert_eq!(json(&format!("{arguments} --fit {fit}")).0, 0, "{arguments} --fit {fit}");
        if let Some(small) = document.pointer("/cards/tooSmall/name").and_then(Value::as_str) {
            assert_eq!(json(&format!("{arguments} --fit {small}")).0, 3, "{arguments} --fit {small}");
        }
    }
}

#[test]
fn the_largest_margin_is_one_that_fits() {
    let arguments = "--parameters 8B --precision bf16 --context 8192 --fit A10";
    let (code, tight) = json(&format!("{arguments} --margin 1.3"));
    let margin = tight["fit"]["largestMargin"].as_str().expect("a margin");
    assert_eq!((code, json(&format!("{arguments} --margin {margin}")).0), (3, 0), "{margin}");
    let text = run(&format!("estimate {arguments} --margin 1.3")).stdout;
    assert!(text.contains(&format!("does: a margin of x{margin} is the most")), "{text}");
    let (_, hopeless) = json("--parameters 70B --precision bf16 --fit A10");
    assert_eq!(hopeless["fit"]["largestMargin"], Value::Null);
}

/// What is said to make it fit does, each as it is written; and where it is the most, one more does not.
#[test]
fn every_change_that_is_offered_fits() {
    for (arguments, gpu) in [
        ("--parameters 70B --precision bf16 --context 32768", "H100"),
        ("--parameters 8B --precision bf16 --context 8192 --sequences 64", "L4"),
        ("--parameters 8B --precision bf16", "T4"),
        ("--parameters 8B --precision q8_0 --engine llama-cpp --context 131072", "RTX-3060"),
        ("--parameters 8B --training full", "L4"),
        ("--parameters 8B --training full --gpus 8", "A100-80GB"),
        ("--parameters 8B --training lora --context 4096 --sequences 2", "L4"),
        ("--parameters 400B --precision bf16", "H200"),
    ] {
        let (code, document) = json(&format!("{arguments} --fit {gpu}"));
        assert_eq!(code, 3, "{arguments} fits {gpu}");
        let changes = document["fit"]["changes"].as_array().expect("changes");
        assert!(!changes.is_empty(), "{arguments} --fit {gpu}: nothing is offered");
        for change in changes {
            let flags = change["flags"].as_str().expect("flags");
            let kept = without(arguments, flags);
            let (code, alone) = json(&format!("{kept} {flags} --fit {gpu}"));
            assert_eq!(code, 0, "{kept} {flags} --fit {gpu}");
            assert_eq!(alone["requiredPerGpu"], change["requiredPerGpu"], "{flags}");
            assert_eq!(alone["gpus"], change["gpus"], "{flags}");
            let Some((flag, value)) =
                flags.split_once(' ').filter(|(flag, _)| ["--context", "--sequences"].contains(flag))
            else {
                continue;
            };
            let more = value.parse::<u64>().expect("a number") + 1;
            assert_eq!(json(&format!("{kept} {flag} {more} --fit {gpu}")).0, 3, "{flag} {more} --fit {gpu}");
        }
    }
}

/// The arguments without those that others replace.
fn without(arguments: &str, flags: &str) -> String {
    let replaced: Vec<&str> = flags.split(' ').filter(|word| word.starts_with("--")).collect();
    let words: Vec<&str> = arguments.split(' ').collect();
    let pairs = words.chunks(2).filter(|pair| !replaced.contains(&pair[0]));
    pairs.map(|pair| pair.join(" ")).collect::<Vec<_>>().join(" ")
}

#[test]
fn what_a_gpu_has_room_for_fits_it_and_no_more() {
    for (arguments, gpu) in [
        (format!("{QWEN} --precision bf16 --context 4096"), "20480"),
        (format!("{GEMMA} --precision int4 --context 4096"), "RTX-4090"),
        ("--parameters 8B --training qlora".to_owned(), "RTX-4090"),
        ("--parameters 8B --training full --gpus 8 --sharding zero3".to_owned(), "A100-40GB"),
    ] {
        let (code, document) = json(&format!("{arguments} --fit {gpu}"));
        assert_eq!(code, 0, "{arguments} --fit {gpu}");
        assert_eq!(document["fit"]["changes"], Value::Array(Vec::new()));
        let base = without(&arguments, "--context");
        let longest = number(&document, "/fit/longestContext");
        assert_eq!(json(&format!("{base} --context {longest} --fit {gpu}")).0, 0, "{longest}");
        assert_eq!(json(&format!("{base} --context {} --fit {gpu}", longest + 1)).0, 3, "{longest}");
        let most = number(&document, "/fit/mostSequences");
        assert_eq!(json(&format!("{arguments} --sequences {most} --fit {gpu}")).0, 0, "{most}");
        assert_eq!(json(&format!("{arguments} --sequences {} --fit {gpu}", most + 1)).0, 3, "{most}");
    }
}

#[test]
fn a_comparison_agrees_with_each_estimate() {
    for (arguments, by, flag) in [
        (format!("{QWEN} --context 8192"), "precision", "--precision"),
        (format!("{QWEN} --precision q8_0 --engine llama-cpp --context 8192"), "precision", "--precision"),
        (QWEN.to_owned(), "context", "--context"),
        (format!("{QWEN} --context 8192"), "tensor", "--tensor"),
        (format!("{QWEN} --training full"), "method", "--training"),
        (format!("{QWEN} --training full"), "optimizer", "--optimizer"),
        (format!("{QWEN} --training full --gpus 8"), "sharding", "--sharding"),
        (format!("{QWEN} --training lora"), "precision", "--precision"),
    ] {
        let (code, document) = json(&format!("{arguments} --compare {by}"));
        assert_eq!((code, document["comparison"]["by"].as_str()), (0, Some(by)), "{arguments}");
        let rows = document["comparison"]["variants"].as_array().expect("rows");
        assert!(rows.len() > 2, "{arguments} --compare {by}: {} rows", rows.len());
        assert_eq!(rows.iter().filter(|row| row["asAsked"] == true).count(), 1, "{arguments} --compare {by}");
        for row in rows {
            let value = row["value"].as_str().expect("a value");
            let (_, alone) = json(&format!("{} {flag} {value}", without(&arguments, flag)));
            for field in ["perGpu", "total", "requiredPerGpu", "gpus"] {
                assert_eq!(row[field], alone[field], "{arguments} {flag} {value}: {field}");
            }
            assert_eq!(row["smallestGpu"], alone["cards"]["smallest"]["name"], "{flag} {value}");
        }
    }
}

#[test]
fn a_comparison_of_gpus_agrees_with_each_fit() {
    let (_, document) = json(&format!("{QWEN} --context 8192 --compare gpu"));
    let rows = document["comparison"]["gpus"].as_array().expect("rows");
    assert!(rows.len() >= 15, "{} rows", rows.len());
    for row in rows.iter().step_by(3) {
        let gpu = row["gpu"].as_str().expect("a name");
        let (code, alone) = json(&format!("{QWEN} --context 8192 --fit {gpu}"));
        assert_eq!(row["fits"] == true, code == 0, "{gpu}");
        // More than a node has are not offered.
        let fewest = alone["fit"]["fewestRanks"].as_u64().filter(|&ranks| ranks <= 16);
        assert_eq!(row["fewestGpus"].as_u64(), fewest, "{gpu}");
        let Some(gpus) = fewest else { continue };
        let (code, shared) = json(&format!("{QWEN} --context 8192 --tensor {gpus} --fit {gpu}"));
        assert_eq!(code, 0, "{gpus} x {gpu}");
        assert_eq!(row["longestContext"], shared["fit"]["longestContext"], "{gpu}");
        assert_eq!(row["mostSequences"], shared["fit"]["mostSequences"], "{gpu}");
    }
}

#[test]
fn tables_are_readable_in_80_columns() {
    for arguments in [
        "--parameters 8B --context 8192",
        "--parameters 8B --context 8192 --fit T4",
        "--parameters 70B --tensor 4 --context 8192 --explain",
        "--parameters 8B --compare precision",
        "--parameters 8B --compare precision --fit A100-80GB",
        "--parameters 8B --compare context",
        "--parameters 8B --compare gpu",
        "--parameters 70B --compare tensor",
        "--parameters 70B --training full --compare gpu",
        "--parameters 70B --training full --compare method",
        "--parameters 70B --training full --compare optimizer",
        "--parameters 70B --training full --gpus 8 --compare sharding",
        "--parameters 8B --training full --explain",
        "--list-gpus",
    ] {
        let run = run(&format!("estimate {arguments}"));
        assert!(run.code == 0 || run.code == 3, "{arguments}: {}", run.stderr);
        for line in run.stdout.lines() {
            assert!(line.chars().count() <= 80, "{arguments}: {line}");
            assert_eq!(line, line.trim_end(), "{arguments}");
        }
        assert!(!run.stdout.contains('\u{1b}'), "colour in a pipe");
    }
}

#[test]
fn text_keeps_to_the_columns_that_there_are() {
    for (columns, most) in [("60", 60), ("200", 200), ("nonsense", 80), ("0", 80)] {
        let output = command()
            .args(["estimate", "--parameters", "8B", "--context", "8192", "--explain"])
            .env("COLUMNS", columns)
            .output()
            .expect("the program runs");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        // The first two lines are sentences that are not broken.
        let longest = text.lines().skip(5).map(|line| line.chars().count()).max().unwrap_or(0);
        assert!(longest <= most, "COLUMNS={columns}: {longest}\n{text}");
    }
}

#[test]
fn explain_shows_what_each_kind_of_layer_keeps() {
    let run = run(&format!("estimate {GEMMA} --context 131072 --explain"));
    for part in [
        "52 layers of attention: 16 KV heads x (128 key + 128 value) = 4096 elements",
        "10 layers of attention: 16 KV heads x (128 key + 128 value) = 4096 elements",
        "last 1024 tokens",
        "of which MLP 21.5B, attention",
        "10.0 GiB grow with the context",
    ] {
        assert!(run.stdout.contains(part), "{part}\n{}", run.stdout);
    }
}

#[test]
fn the_gpus_that_have_a_name_are_listed_and_known() {
    let run = run("estimate --list-gpus -o json");
    let cards: Vec<Value> = serde_json::from_str(&run.stdout).expect("JSON");
    assert!(cards.len() > 60, "only {}", cards.len());
    for card in cards.iter().step_by(7) {
        let name = card["name"].as_str().expect("a name");
        let (_, document) = json(&format!("--parameters 1B --context 1024 --fit {name}"));
        assert_eq!(document["fit"]["memory"], card["memory"], "{name}");
    }
}

#[test]
fn a_context_that_was_not_given_is_pointed_out() {
    let long = run("estimate --model llama-3.1-8b");
    assert!(
        long.stderr.contains("note: No context was given") && long.stderr.contains("--context 8192"),
        "{}",
        long.stderr
    );
    for arguments in
        ["--model llama-3.1-8b --context 131072", "--parameters 8B", "--model llama-3.1-8b --training lora"]
    {
        let run = run(&format!("estimate {arguments}"));
        assert!(!run.stderr.contains("No context was given"), "{arguments}: {}", run.stderr);
    }
    let few = run("estimate --parameters 8 --context 100");
    assert!(few.stderr.contains("8B is 8 billion"), "{}", few.stderr);
}
