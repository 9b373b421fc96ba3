//! Workloads that people have, as public repositories show them: what is read of each, and what is left unknown.
//!
//! `tests/fixtures/manifests` has them, written anew with the facts kept; `expected.json` says where each is from, and what a
//! careful reader gets from it. Whatever is not listed there is not stated, and must be null.

use std::fmt::Write;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::cli::run;
use super::generated;

const DIRECTORY: &str = "tests/fixtures/manifests";

/// One manifest, and what is to be read of it.
#[derive(Debug, Deserialize)]
struct Expected {
    file: String,
    repository: String,
    path: String,
    /// One per part that runs a model; none for what runs none.
    results: Vec<Map<String, Value>>,
}

fn expected() -> Vec<Expected> {
    let text = std::fs::read_to_string(Path::new(DIRECTORY).join("expected.json")).expect("a fixture");
    serde_json::from_str(&text).expect("JSON")
}

/// The facts of every part, as `plan` prints them.
fn read(file: &str) -> Vec<Value> {
    let run =
        run(&format!("plan -f {DIRECTORY}/{file} --offline --snapshot examples/cluster.snapshot -o json"));
    let document: Value = serde_json::from_str(&run.stdout)
        .unwrap_or_else(|error| panic!("{file}: {error}: {}{}", run.stdout, run.stderr));
    document["results"].as_array().expect("results").clone()
}

/// Facts that are compared, `readable` and `why` apart.
const FACTS: &[&str] = &[
    "role",
    "engine",
    "model",
    "precision",
    "context",
    "sequences",
    "cachePrecision",
    "tensor",
    "pipeline",
    "data",
    "memoryFraction",
    "gpusPerPod",
    "replicas",
    "podsPerReplica",
];

#[test]
fn every_public_manifest_is_read_as_a_careful_reader_does() {
    let mut wrong = Vec::new();
    let manifests = expected();
    assert!(manifests.len() >= 60, "only {}", manifests.len());
    for manifest in &manifests {
        let results = read(&manifest.file);
        if results.len() != manifest.results.len() {
            wrong.push(format!("{}: {} results: {results:?}", manifest.file, results.len()));
            continue;
        }
        for (result, expected) in results.iter().zip(&manifest.results) {
            let found = &result["workload"];
            for fact in FACTS {
                let wanted = expected.get(*fact).unwrap_or(&Value::Null);
                if found.get(*fact).unwrap_or(&Value::Null) != wanted {
                    wrong.push(format!("{}: {fact} is {}, not {wanted}", manifest.file, found[*fact]));
                }
            }
            let selector = expected.get("nodeSelector").cloned().unwrap_or_else(|| json!({}));
            if found["nodeSelector"] != selector {
                wrong.push(format!("{}: nodeSelector is {}", manifest.file, found["nodeSelector"]));
            }
            let why = found["why"].as_str();
            let is_right = match expected.get("why").and_then(Value::as_str) {
                Some(wanted) => why.is_some_and(|why| why.contains(wanted)) && found["readable"] == false,
                None => why.is_none() && found["readable"] == true,
            };
            if !is_right {
                wrong.push(format!("{}: why: {why:?}", manifest.file));
            }
            // What is not readable is unknown, never a fit and never refused.
            if found["readable"] == false && result["verdict"] != "unknown" {
                wrong.push(format!("{}: {}", manifest.file, result["verdict"]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_manifest_is_expected() {
    let named: Vec<String> = expected().into_iter().map(|manifest| manifest.file).collect();
    let mut files: Vec<String> = std::fs::read_dir(DIRECTORY)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .collect();
    files.sort();
    let mut sorted = named;
    sorted.sort();
    assert_eq!(files, sorted);
}

#[test]
fn the_table_of_the_documentation_is_what_is_read() {
    let mut page = String::from(
        "# What is read of public manifests\n\n\
         `loadline plan` reads workloads that are no ModelDeployments: Deployments, StatefulSets, DaemonSets, Jobs, CronJobs, ReplicaSets,\n\
         Pods, JobSets, LeaderWorkerSets, and KServe's InferenceServices and LLMInferenceServices ([docs/existing-workloads.md](existing-workloads.md)).\n\
         Below is what it reads of manifests that public repositories show. Each was written anew with its facts kept; a test holds the reading\n\
         to what was written down before. A dash is a fact that the manifest does not state.\n\n\
         | Manifest | From | Engine | Model | Precision | Context | Ranks | GPUs per pod | Left unknown |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for manifest in expected() {
        let from = format!("{} `{}`", manifest.repository, manifest.path);
        let results = read(&manifest.file);
        if results.is_empty() {
            // Writing to a String does not fail.
            let _ = writeln!(
                page,
                "| `{}` | {from} | | | | | | | nothing: it runs no model that is known |",
                manifest.file
            );
        }
        for result in results {
            let facts = &result["workload"];
            let cell = |fact: &str| match &facts[fact] {
                Value::Null => "-".to_owned(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let ranks: Vec<String> = ["tensor", "pipeline", "data"]
                .iter()
                .filter(|kind| !facts[**kind].is_null())
                .map(|kind| format!("{kind} {}", facts[*kind]))
                .collect();
            let ranks = if ranks.is_empty() { "-".to_owned() } else { ranks.join(", ") };
            let resources: Vec<String> = facts["gpuResources"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, count)| format!("{count} `{name}`"))
                .collect();
            let gpus = if resources.is_empty() { "-".to_owned() } else { resources.join(", ") };
            let why = facts["why"].as_str().unwrap_or_default().replace('|', "\\|");
            let _ = writeln!(
                page,
                "| `{}` | {from} | {} | {} | {} | {} | {ranks} | {gpus} | {why} |",
                manifest.file,
                cell("engine"),
                cell("model"),
                cell("precision"),
                cell("context"),
            );
        }
    }
    generated::check("docs/workloads.md", &page);
}
