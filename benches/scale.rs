//! What a large cluster costs: 1,000 objects over 5,000 nodes, planned in this process as the controller plans them, through
//! the controller itself against an API server in this process, and through `loadline plan`. `make bench-scale` prints the
//! figures that docs/performance.md has.

#![allow(clippy::expect_used, clippy::print_stdout)]

mod apiserver;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use loadline::api::ModelDeployment;
use loadline::inventory::{Inventory, Node, Pod, Snapshot, Sources};
use loadline::model::ModelShape;
use loadline::plan::{self, Subject, resolve_pure};
use loadline::source::{self, SourceError};
use loadline::world::{Decisions, Key, Tracked};
use serde_json::{Value, json};

use apiserver::ApiServer;

const NODES: usize = 5_000;
const OBJECTS: usize = 1_000;

/// What clusters are made of: product, MiB per GPU, GPUs of a node.
const KINDS: [(&str, u64, u64); 10] = [
    ("Tesla-T4", 15_360, 4),
    ("NVIDIA-L4", 23_034, 8),
    ("NVIDIA-A10G", 23_028, 4),
    ("NVIDIA-A100-SXM4-40GB", 40_960, 8),
    ("NVIDIA-A100-SXM4-80GB", 81_920, 8),
    ("NVIDIA-H100-80GB-HBM3", 81_559, 8),
    ("NVIDIA-H200", 143_771, 8),
    ("NVIDIA-L40S", 46_068, 4),
    ("NVIDIA-RTX-A6000", 49_140, 2),
    ("NVIDIA-GeForce-RTX-4090", 24_564, 2),
];

fn main() {
    let objects: Vec<Value> = (0..OBJECTS).map(object).collect();
    decided_anew(&objects);
    controller(&snapshot(), &objects);
    processes(&snapshot(), &objects);
}

/// Labels as clouds, the kubelet and GPU Feature Discovery set them.
fn node(index: usize) -> Node {
    let (product, mib, gpus) = KINDS[index % KINDS.len()];
    let name =
        format!("ip-10-{}-{}-{}.eu-central-1.compute.internal", index >> 16, index >> 8 & 255, index & 255);
    let memory = mib.to_string();
    let count = gpus.to_string();
    let zone = format!("eu-central-1{}", ["a", "b", "c"][index % 3]);
    let pool = format!("gpu-{}", index % KINDS.len());
    let labels = [
        ("beta.kubernetes.io/arch", "amd64"),
        ("beta.kubernetes.io/instance-type", "p5.48xlarge"),
        ("beta.kubernetes.io/os", "linux"),
        ("eks.amazonaws.com/nodegroup", &pool),
        ("failure-domain.beta.kubernetes.io/region", "eu-central-1"),
        ("failure-domain.beta.kubernetes.io/zone", &zone),
        ("feature.node.kubernetes.io/cpu-model.vendor_id", "Intel"),
        ("feature.node.kubernetes.io/kernel-version.full", "6.1.102-111.182.amzn2023.x86_64"),
        ("feature.node.kubernetes.io/pci-10de.present", "true"),
        ("kubernetes.io/arch", "amd64"),
        ("kubernetes.io/hostname", &name),
        ("kubernetes.io/os", "linux"),
        ("node.kubernetes.io/instance-type", "p5.48xlarge"),
        ("nvidia.com/cuda.driver.major", "560"),
        ("nvidia.com/cuda.runtime.major", "12"),
        ("nvidia.com/gfd.timestamp", "1732000000"),
        ("nvidia.com/gpu.compute.major", "9"),
        ("nvidia.com/gpu.count", &count),
        ("nvidia.com/gpu.family", "hopper"),
        ("nvidia.com/gpu.machine", "p5.48xlarge"),
        ("nvidia.com/gpu.memory", &memory),
        ("nvidia.com/gpu.present", "true"),
        ("nvidia.com/gpu.product", product),
        ("nvidia.com/gpu.replicas", "1"),
        ("nvidia.com/gpu.sharing-strategy", "none"),
        ("nvidia.com/mig.capable", "true"),
        ("nvidia.com/mig.strategy", "single"),
        ("topology.kubernetes.io/region", "eu-central-1"),
        ("topology.kubernetes.io/zone", &zone),
    ];
    Node {
        labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        allocatable: BTreeMap::from([("nvidia.com/gpu".to_owned(), gpus)]),
        ready: true,
        name,
        ..Node::default()
    }
}

/// Two pods on each node, of another's or of the objects' own: none, some or all of its GPUs are in use.
fn snapshot() -> Snapshot {
    let nodes: Vec<Node> = (0..NODES).map(node).collect();
    let pods: Vec<Pod> = nodes
        .iter()
        .enumerate()
        .flat_map(|(index, node)| {
            let gpus = node.allocatable.values().copied().max().unwrap_or(0);
            let held = [0, gpus / 4, gpus / 2, gpus][index / KINDS.len() % 4];
            (0..2_u64).map(move |half| {
                (index, node.name.clone(), if half == 0 { held / 2 } else { held - held / 2 })
            })
        })
        .filter(|(_, _, gpus)| *gpus > 0)
        .map(|(index, node, gpus)| {
            let own = index % 10 == 3;
            Pod {
                namespace: if own { format!("team-{}", index % OBJECTS % 50) } else { "batch".to_owned() },
                name: format!("pod-{index}-{gpus}-{node}"),
                node: Some(node),
                requests: BTreeMap::from([("nvidia.com/gpu".to_owned(), gpus)]),
                model_deployment: own.then(|| format!("model-{}", index % OBJECTS)),
                ..Pod::default()
            }
        })
        .collect();
    Snapshot::new(nodes, pods)
}

fn object(index: usize) -> Value {
    let catalog = |name: &str| json!({"catalog": name});
    let step = index / 10;
    let context = json!({"length": 2048 + 512 * (step % 40), "sequences": 1 + step % 8});
    let spec = match index % 10 {
        0 => json!({"model": catalog("llama-3.1-8b"), "precision": "fp16", "context": context}),
        1 => json!({"model": catalog("llama-3.1-8b"), "precision": "int4", "context": context}),
        2 => {
            json!({"model": catalog("codestral-22b"), "context": context, "placement": {"sharing": "Shared"}})
        }
        3 => json!({"model": {"parameters": format!("{}B", 3 + step % 60)}, "context": context}),
        4 => json!({"model": catalog("llama-3.1-70b"), "context": context, "parallelism": {"tensor": 4}}),
        5 => {
            json!({"model": catalog("llama-3.1-70b"), "context": context, "parallelism": {"tensor": "auto"}})
        }
        // Never on one GPU: suggestions are sought.
        6 => json!({"model": catalog("llama-3.1-70b"), "context": context}),
        7 => {
            let zone = format!("eu-central-1{}", ["a", "b", "c"][step % 3]);
            json!({"model": catalog("codellama-34b"), "context": context,
                "placement": {"nodeSelector": {"topology.kubernetes.io/zone": zone}}})
        }
        8 => {
            json!({"model": catalog("llama-3.1-8b"), "training": {"method": "lora", "sequenceLength": 512 * (1 + step % 16)}})
        }
        _ => {
            json!({"model": {"parameters": format!("{}B", 100 + step)}, "context": context, "parallelism": {"tensor": 8}})
        }
    };
    json!({
        "apiVersion": "loadline.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": format!("model-{index}"), "namespace": format!("team-{}", index % 50)},
        "spec": spec,
    })
}

/// Every object planned, then one node's change.
fn decided_anew(objects: &[Value]) {
    let start = resident("VmRSS");
    let snapshot = snapshot();
    println!("{OBJECTS} objects over {NODES} nodes and {} pods", snapshot.pods.len());
    let mut changed = snapshot.clone();
    let inventory = Inventory::new(snapshot, &Sources::default());
    println!("classes of nodes: {}", inventory.class_count());
    let objects: Vec<ModelDeployment> =
        objects.iter().map(|object| serde_json::from_value(object.clone()).expect("an object")).collect();
    println!(
        "resident with the cluster and the objects: {} MiB",
        mib(resident("VmRSS").saturating_sub(start))
    );
    let decisions = Decisions::default();
    let store = source::Sources::new(source::Settings::default()).expect("the settings are right");
    let began = Instant::now();
    for object in &objects {
        // Objects that describe the same model share it.
        let text = serde_json::to_vec(&object.spec.model).expect("it is JSON");
        let make = || {
            Ok::<_, SourceError>(resolve_pure(&object.spec).expect("it names no file").expect("it is right"))
        };
        let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
        let shape: Arc<ModelShape> =
            store.described(namespace, "spec.model", &text, make).expect("there is room");
        let subject = Subject::of(object, None);
        let prepared = Arc::new(plan::prepare(subject, &shape).expect("it is right"));
        let decided = prepared.decide(subject, &shape, &inventory).expect("it is right");
        let metadata = &object.metadata;
        let key: Key =
            (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default());
        decisions.track(&key, Some(Tracked::new(object, None, shape, prepared, &decided.decision)));
    }
    drop(store);
    println!("planning all: {} ms", began.elapsed().as_millis());
    println!("resident with every object planned: {} MiB", mib(resident("VmRSS").saturating_sub(start)));
    // One GPU of one node fails.
    if let Some(node) = changed.nodes.values_mut().nth(NODES / 2) {
        Arc::make_mut(node).allocatable.values_mut().for_each(|gpus| *gpus -= 1);
    }
    let began = Instant::now();
    let next = Inventory::new(changed, &Sources::default());
    println!("reading the cluster anew: {} ms", began.elapsed().as_millis());
    for round in 0..5 {
        let began = Instant::now();
        let woken = AtomicUsize::new(0);
        let count = |_: &Key| {
            woken.fetch_add(1, Ordering::Relaxed);
        };
        let broken = decisions.tell_changed(if round % 2 == 0 { &next } else { &inventory }, round, count);
        println!(
            "one node's change planned anew for all: {:.1} ms, {} woken, {} broken",
            millis(began.elapsed()),
            woken.into_inner(),
            broken.len()
        );
    }
    println!("resident at last: {} MiB", mib(resident("VmRSS").saturating_sub(start)));
}

/// The controller itself, as a process: all that it keeps. Its API server is this process.
fn controller(snapshot: &Snapshot, objects: &[Value]) {
    let server = ApiServer::default();
    let list = snapshot.to_list();
    let mut changed = Value::Null;
    for mut object in list["items"].as_array().into_iter().flatten().cloned() {
        let is_node = object["kind"] == "Node";
        if is_node {
            dress(&mut object);
            changed = object.clone();
        }
        server.put(if is_node { "nodes" } else { "pods" }, object);
    }
    for object in objects {
        server.put("modeldeployments", object.clone());
    }
    let folder = tempfile::tempdir().expect("a folder");
    let kubeconfig = folder.path().join("kubeconfig");
    let address = format!("http://{}", server.start());
    let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c", "users": [{"name": "u", "user": {}}],
        "clusters": [{"name": "c", "cluster": {"server": address}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]});
    fs::write(&kubeconfig, config.to_string()).expect("it is written");
    let mut child = Command::new(binary())
        .args(["controller", "--metrics-address", "127.0.0.1:0"])
        .env("KUBECONFIG", &kubeconfig)
        .env("LOADLINE_LOG", "error")
        .spawn()
        .expect("`cargo build --release --bin loadline` comes first");
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let say = |when: &str| {
        println!(
            "the controller {when}: {} MiB resident, {} MiB at most so far; {} statuses and {} Deployments written",
            mib(field(&status, "VmRSS")),
            mib(field(&status, "VmHWM")),
            server.statuses.load(Ordering::Relaxed),
            server.deployments.load(Ordering::Relaxed),
        );
    };
    let began = Instant::now();
    settle(&server);
    say(&format!("after {:.0} s, at rest", began.elapsed().as_secs_f32()));
    for gpus in ["3", "4", "3"] {
        changed["status"]["allocatable"]["nvidia.com/gpu"] = json!(gpus);
        server.put("nodes", changed.clone());
        settle(&server);
    }
    say("after three changes of a node");
    child.kill().and_then(|()| child.wait()).expect("it is ours");
}

/// What a node says besides, of which nothing is used: it passes through the controller's hands all the same.
fn dress(node: &mut Value) {
    let image = |index: u64| {
        let names = [
            format!("registry.example/team/image-{index}@sha256:{index:064x}"),
            format!("registry.example/team/image-{index}:1.2.3"),
        ];
        json!({"names": names, "sizeBytes": 1_000_000_000 + index})
    };
    node["status"]["images"] = (0..40).map(image).collect();
    node["status"]["nodeInfo"] = json!({"architecture": "amd64", "bootID": "8f6c", "containerRuntimeVersion": "containerd://2.1.4",
        "kernelVersion": "6.1.102-111.182.amzn2023.x86_64", "kubeProxyVersion": "v1.34.1", "kubeletVersion": "v1.34.1",
        "machineID": "ec2", "operatingSystem": "linux", "osImage": "Amazon Linux 2023", "systemUUID": "ec2"});
}

/// Waits until every object has a status and nothing has been written for some seconds.
fn settle(server: &ApiServer) {
    let written = || (server.statuses.load(Ordering::Relaxed), server.deployments.load(Ordering::Relaxed));
    let (mut last, mut quiet) = (written(), Instant::now());
    let began = Instant::now();
    while (quiet.elapsed() < Duration::from_secs(8) || last.0 < OBJECTS as u64)
        && began.elapsed() < Duration::from_mins(5)
    {
        std::thread::sleep(Duration::from_millis(100));
        if written() != last {
            (last, quiet) = (written(), Instant::now());
        }
    }
}

/// `loadline plan` of the same, as a process.
fn processes(snapshot: &Snapshot, objects: &[Value]) {
    let folder = tempfile::tempdir().expect("a folder");
    let (cluster, manifests) = (folder.path().join("cluster.json"), folder.path().join("objects.yaml"));
    fs::write(&cluster, snapshot.to_list().to_string()).expect("it is written");
    let text: Vec<String> = objects.iter().map(ToString::to_string).collect();
    fs::write(&manifests, text.join("\n---\n")).expect("it is written");
    let size = fs::metadata(&cluster).map_or(0, |file| file.len());
    println!("snapshot file: {} MiB", mib(size / 1024));
    let formats = std::env::args().nth(1).unwrap_or_else(|| "table,json".to_owned());
    for format in formats.split(',') {
        let began = Instant::now();
        let (peak, bytes, digest) = plan(&cluster, &manifests, format);
        println!(
            "loadline plan -o {format}: {} MiB at most, {:.1} s, {} MiB printed (digest {digest:016x})",
            mib(peak),
            began.elapsed().as_secs_f32(),
            mib(bytes / 1024)
        );
    }
}

/// The most that one run had resident, in KiB, how much it printed, and a digest of that.
fn plan(cluster: &Path, manifests: &Path, format: &str) -> (u64, u64, u64) {
    let mut child = Command::new(binary())
        .args(["plan", "-o", format, "--snapshot"])
        .arg(cluster)
        .arg("-f")
        .arg(manifests)
        .stdout(Stdio::piped())
        .spawn()
        .expect("`cargo build --release --bin loadline` comes first");
    let mut stdout = child.stdout.take().expect("it is piped");
    let reader = std::thread::spawn(move || {
        let (mut buffer, mut bytes, mut digest) = (vec![0; 1 << 16], 0_u64, 0xcbf2_9ce4_8422_2325_u64);
        while let Ok(read @ 1..) = stdout.read(&mut buffer) {
            bytes += read as u64;
            digest = buffer[..read]
                .iter()
                .fold(digest, |digest, byte| (digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        }
        (bytes, digest)
    });
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let mut peak = 0;
    while child.try_wait().expect("it is ours").is_none() {
        peak = peak.max(field(&status, "VmHWM"));
        std::thread::sleep(Duration::from_millis(2));
    }
    let (bytes, digest) = reader.join().expect("it only reads");
    (peak, bytes, digest)
}

/// The binary of the same build.
fn binary() -> PathBuf {
    let example = std::env::current_exe().expect("a path");
    let folder = example.parent().and_then(Path::parent).expect("target/release/examples");
    folder.join("loadline")
}

/// A figure of this process, in KiB.
fn resident(name: &str) -> u64 {
    field(Path::new("/proc/self/status"), name)
}

fn field(status: &Path, name: &str) -> u64 {
    let text = fs::read_to_string(status).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok()).unwrap_or(0)
}

const fn mib(kib: u64) -> u64 {
    kib.div_ceil(1024)
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
