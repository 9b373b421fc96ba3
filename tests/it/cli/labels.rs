//! Nodes as every vendor and cloud labels them, and as people mislabel them: what is read, and what is decided.

use serde_json::{Value, json};

use super::{run, run_with};

/// An 8B model in bf16, which needs an L4 or more.
fn object(tensor: u64) -> String {
    json!({
        "apiVersion": "loadline.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": "llama", "namespace": "models"},
        "spec": {
            "model": {"catalog": "llama-3.1-8b"}, "precision": "bf16", "context": {"length": 4096},
            "parallelism": {"tensor": tensor}, "engine": {"name": "vllm", "image": "vllm/vllm-openai:v0.19.0"},
        },
    })
    .to_string()
}

/// The result of a plan on a cluster of the fixtures.
fn planned(cluster: &str, tensor: u64) -> Value {
    let run = run_with(
        &format!("plan -f - --offline --snapshot tests/fixtures/labels/{cluster}.yaml -o json"),
        object(tensor).as_bytes(),
    );
    let document: Value =
        serde_json::from_str(&run.stdout).unwrap_or_else(|_| panic!("JSON: {}{}", run.stdout, run.stderr));
    document["results"][0].clone()
}

/// Per node, by name: verdict, reason, and MiB per GPU.
fn by_node(result: &Value) -> Vec<(String, String, String, Option<u64>)> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let nodes = result["nodes"].as_array().expect("nodes");
    let mut rows: Vec<_> = nodes
        .iter()
        .map(|node| {
            (text(&node["name"]), text(&node["verdict"]), text(&node["reason"]), node["memoryMiB"].as_u64())
        })
        .collect();
    rows.sort();
    rows
}

fn check(cluster: &str, tensor: u64, expected: &[(&str, &str, &str, Option<u64>)]) {
    let rows = by_node(&planned(cluster, tensor));
    let rows: Vec<_> = rows
        .iter()
        .map(|(name, verdict, reason, mib)| (name.as_str(), verdict.as_str(), reason.as_str(), *mib))
        .collect();
    assert_eq!(rows, expected, "{cluster}, tensor {tensor}");
}

#[test]
fn nodes_of_public_reports_are_read_as_they_are() {
    // NVIDIA/k8s-device-plugin#736: three kinds of card, one label.
    check("three-kinds-one-label", 1, &[("mixed-cards", "unknown", "LabelUntrusted", None)]);
    // GoogleCloudPlatform/container-engine-accelerators#209: one card for four clients.
    check("gke-time-sharing", 1, &[("gke-l4-shared", "rejected", "SharedGpu", Some(23034))]);
    check("gke-time-sharing", 2, &[("gke-l4-shared", "rejected", "SharedGpu", Some(23034))]);
    // NVIDIA/gpu-operator#1602: six whole cards beside slices of two more.
    check("whole-cards-beside-mig", 2, &[("h100-half-mig", "fits", "FitsNow", Some(81559))]);
    // ROCm/gpu-operator#555: halves of an MI355X.
    check(
        "amd",
        1,
        &[
            ("mi300x", "fits", "FitsNow", Some(192 * 1024)),
            ("mi355x-dpx", "fits", "FitsNow", Some(144 * 1024)),
        ],
    );
}

#[test]
fn nodes_of_every_vendor_and_cloud_are_read() {
    check(
        "every-source",
        1,
        &[
            ("ack-a10", "fits", "FitsNow", Some(23028)),
            ("aks-a10-sixth", "unknown", "LabelUntrusted", None),
            ("aks-a100", "fits", "FitsNow", Some(40960)),
            ("amd-two-sizes", "unknown", "LabelUntrusted", None),
            ("aws-a100-40", "fits", "FitsNow", Some(40960)),
            ("aws-h200", "fits", "FitsNow", Some(143_771)),
            ("aws-l4", "fits", "FitsNow", Some(22888)),
            ("aws-l4-fraction", "rejected", "GpuMemoryTooSmall", Some(5722)),
            ("aws-t4", "rejected", "GpuMemoryTooSmall", Some(15360)),
            ("coreweave-h100", "fits", "FitsNow", Some(81000)),
            ("eks-auto-l40s", "fits", "FitsNow", Some(45776)),
            ("gfd-l4", "fits", "FitsNow", Some(23034)),
            ("gfd-nameless-memory", "fits", "FitsNow", Some(46068)),
            ("gfd-t4", "rejected", "GpuMemoryTooSmall", Some(15360)),
            ("gke-l4", "fits", "FitsNow", Some(23034)),
            ("gke-mps", "unknown", "LabelUntrusted", None),
            ("gke-slice", "unknown", "LabelUntrusted", None),
            ("gke-t4", "rejected", "GpuMemoryTooSmall", Some(15360)),
            ("hami-l4", "unknown", "LabelMissing", None),
            ("intel-max", "fits", "FitsNow", Some(49152)),
            ("intel-sum", "fits", "FitsNow", Some(32768)),
            ("own-label", "unknown", "LabelMissing", None),
        ],
    );
}

#[test]
fn nodes_of_resource_claims_are_read_from_their_slices() {
    check(
        "devices",
        1,
        &[
            ("amd-unread", "unknown", "LabelUntrusted", None),
            ("device-plugin", "fits", "FitsNow", Some(23034)),
            ("intel-flex", "rejected", "ClaimNeeded", Some(32768)),
            ("nvidia-stale", "rejected", "ClaimNeeded", Some(23034)),
            ("nvidia-t4", "rejected", "GpuMemoryTooSmall", Some(15360)),
            ("nvidia-updating", "unknown", "LabelUntrusted", None),
        ],
    );
    insta::assert_snapshot!(
        "nodes_devices",
        run("nodes -o wide --snapshot tests/fixtures/labels/devices.yaml").transcript()
    );
    insta::assert_snapshot!(
        "doctor_devices",
        run("doctor --snapshot tests/fixtures/labels/devices.yaml").transcript()
    );
    // What `loadline snapshot` writes of it says the same, with the names or without.
    for redact in ["", "--redact"] {
        let written = run(&format!("snapshot {redact} --snapshot tests/fixtures/labels/devices.yaml"));
        let read = run_with("nodes --snapshot - -o json", written.stdout.as_bytes());
        let document: Value = serde_json::from_str(&read.stdout).expect("JSON");
        let nodes = document["nodes"].as_array().expect("nodes");
        let l4 = nodes.iter().flat_map(|node| node["pools"].as_array().expect("pools"));
        let mut l4: Vec<_> = l4
            .filter(|pool| pool["memoryMiB"] == 23034)
            .map(|pool| (pool["gpus"].as_u64(), pool["freeGpus"].as_u64()))
            .collect();
        l4.sort_unstable();
        assert_eq!(l4, [(Some(1), Some(1)), (Some(2), Some(1))], "{}", written.stdout);
        assert_eq!(written.stdout.contains("nvidia-stale"), redact.is_empty());
    }
}

#[test]
fn labels_that_lie_are_not_believed() {
    let unknown = |name: &'static str| (name, "unknown", "LabelUntrusted", None);
    check(
        "lies",
        1,
        &[
            unknown("amd-lower-case"),
            unknown("amd-no-unit"),
            unknown("bytes"),
            unknown("card-below"),
            unknown("card-beyond"),
            unknown("coreweave-mib"),
            unknown("empty"),
            ("fewer-handed-out", "fits", "FitsNow", Some(23034)),
            unknown("hami-garbled"),
            unknown("hami-scaled"),
            ("hami-unlabelled", "unknown", "LabelMissing", None),
            unknown("intel-sum-of-unknown"),
            unknown("mig-invalid"),
            unknown("mig-pending"),
            unknown("more-than-cards"),
            unknown("mps-among-nobody"),
            unknown("negative"),
            ("sources-apart", "fits", "FitsNow", Some(23034)),
            // Of two labels for one card the driver's counts, not the catalogue's.
            ("two-sources", "rejected", "GpuMemoryTooSmall", Some(15360)),
            unknown("unit"),
            unknown("unknown-name"),
            unknown("zero"),
        ],
    );
}

#[test]
fn doctor_tells_what_cannot_be_believed_and_how_to_mend_it() {
    let run = run("doctor --snapshot tests/fixtures/labels/lies.yaml");
    assert_eq!(run.code, 3, "{}", run.stderr);
    insta::assert_snapshot!("doctor_lies", run.transcript());
}

#[test]
fn gpus_of_other_vendors_are_shown() {
    let run = run("nodes --snapshot tests/fixtures/labels/amd.yaml");
    assert_eq!(run.code, 0, "{}", run.stderr);
    insta::assert_snapshot!("nodes_amd", run.transcript());
    let doctor = super::run("doctor --snapshot tests/fixtures/labels/amd.yaml");
    assert_eq!((doctor.code, doctor.stderr.contains("no node has a GPU")), (0, false), "{}", doctor.stderr);
}

#[test]
fn a_figure_says_who_says_it_and_how_far_to_trust_it() {
    let run = run("nodes --snapshot tests/fixtures/labels/every-source.yaml -o json");
    let document: Value = serde_json::from_str(&run.stdout).expect("JSON");
    let pool = |name: &str| {
        let nodes = document["nodes"].as_array().expect("nodes");
        nodes.iter().find(|node| node["name"] == name).expect("the node")["pools"][0].clone()
    };
    for (node, source, labeller, trust) in [
        ("gfd-l4", "nvidia.com/gpu.memory", "nvidia-gfd", "reported"),
        ("gfd-nameless-memory", "nvidia.com/gpu.product", "nvidia-gfd", "by-name"),
        ("gke-l4", "cloud.google.com/gke-accelerator", "gke", "by-name"),
        ("aws-t4", "karpenter.k8s.aws/instance-gpu-memory", "karpenter-aws", "by-name"),
        ("intel-sum", "gpu.intel.com/memory.max", "intel-gpu-plugin", "reported"),
    ] {
        let pool = pool(node);
        assert_eq!(
            (pool["source"].as_str(), pool["labeller"].as_str(), pool["trust"].as_str()),
            (Some(source), Some(labeller), Some(trust)),
            "{node}"
        );
    }
}

#[test]
fn a_label_of_a_sites_own_is_read_where_it_is_set() {
    let plan = |setting: &str| {
        let run = run_with(
            &format!(
                "plan -f - --offline --snapshot tests/fixtures/labels/every-source.yaml -o json {setting}"
            ),
            object(1).as_bytes(),
        );
        let document: Value = serde_json::from_str(&run.stdout)
            .unwrap_or_else(|_| panic!("JSON: {}{}", run.stdout, run.stderr));
        let rows = by_node(&document["results"][0]);
        rows.into_iter().find(|row| row.0 == "own-label").expect("the node")
    };
    let row = |verdict: &str, reason: &str, mib| {
        ("own-label".to_owned(), verdict.to_owned(), reason.to_owned(), mib)
    };
    assert_eq!(plan(""), row("unknown", "LabelMissing", None));
    assert_eq!(
        plan("--gpu-memory-label example.com/gpu-memory=GiB"),
        row("fits", "FitsNow", Some(24 * 1024))
    );
    assert_eq!(
        plan("--gpu-memory-label example.com/gpu-memory=MiB"),
        row("rejected", "GpuMemoryTooSmall", Some(24))
    );
    for (setting, words) in [
        ("example.com/gpu-memory=gb", "\"gb\" is not a unit; write MiB, GiB, MB, GB or bytes"),
        ("nvidia.com/gpu.memory=GiB", "nvidia.com/gpu.memory is read as it is; name a label of your own"),
    ] {
        let run =
            run(&format!("nodes --snapshot tests/fixtures/labels/amd.yaml --gpu-memory-label {setting}"));
        assert_eq!((run.code, run.stderr.contains(words)), (2, true), "{}", run.stderr);
    }
}
