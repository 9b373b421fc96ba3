//! What admission costs, on a real API server: `kubectl apply` of a ModelDeployment with and without the webhook, the webhook
//! by itself, and pods with and without the policies, with 1,000 objects in the namespace. `make bench-admission` prints the
//! figures that docs/performance.md has. `NODES=5000` puts so many nodes into the cluster first.

#![allow(clippy::print_stdout, clippy::cast_precision_loss, clippy::needless_pass_by_value)]

#[path = "../tests/controlplane/harness/mod.rs"]
mod harness;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::ApiResource;
use kube::{Api, Client, Config};
use loadline::api::v1alpha1::LabelExpression;
use loadline::api::{ModelDeployment, ModelRequirements};
use loadline::launch::guard::{Required, to_data};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use harness::guard::Process;
use harness::wait::until;
use harness::{ControlPlane, fleet, free_ports, loadline_binary};

const SYSTEM: &str = "loadline-system";
const PATIENCE: Duration = Duration::from_mins(5);
const OBJECTS: usize = 1000;
/// Of those who ask the webhook by itself.
const CONNECTIONS: u32 = 10;

fn main() -> Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let nodes = std::env::var("NODES").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    let plane = ControlPlane::start("bench-admission")?;
    plane.kubectl(["create", "namespace", SYSTEM])?.output()?;
    let [port] = free_ports()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(&plane, nodes, port))
}

async fn run(plane: &ControlPlane, nodes: usize, port: u16) -> Result<()> {
    let url = format!("admission.url=https://127.0.0.1:{port}");
    helm(plane, &["--set=admission.enabled=false"])?;
    let all = (0..nodes).map(|at| fleet::STANDARD[at % 4].node_named(&format!("n{at}")));
    let all: Vec<Value> = all.collect();
    for some in all.chunks(500) {
        plane.kubectl_with_input(["create", "-f", "-"], &fleet::list(some.iter().cloned()))?.output()?;
    }
    let client = client(plane).await?;
    let _controller = controller(plane, port)?;
    until("the controller", PATIENCE, || {
        let get = ["get", "secret", "loadline-webhook-certificate", "-n", SYSTEM, "-o", "name"];
        Ok(plane.kubectl(get)?.success().then_some(()))
    })?;
    // Nodes become ready by and by.
    tokio::time::sleep(Duration::from_secs(if nodes > 100 { 60 } else { 5 })).await;

    println!("nodes: {nodes}");
    for connections in [1, 10, 100] {
        helm(plane, &["--set=admission.enabled=false"])?;
        let (_, without) = objects(&client, connections).await?;
        helm(plane, &["--set", &url])?;
        wait_until_asked(plane)?;
        let before = asked(plane)?;
        let (rate, with) = objects(&client, connections).await?;
        let server = mean(before, asked(plane)?);
        println!(
            "apply, {connections} at once: without {without}; with {with}, {rate:.0}/s; the API server waited {server:.2} ms"
        );
    }
    direct(plane, port, 500, Duration::from_secs(20)).await?;
    pods(plane, &client, &url).await
}

fn helm(plane: &ControlPlane, more: &[&str]) -> Result<()> {
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/loadline");
    let arguments = ["upgrade", "--install", "loadline", chart, "--namespace", SYSTEM];
    plane.helm(arguments.iter().chain(more))?.output()?;
    Ok(())
}

fn controller(plane: &ControlPlane, port: u16) -> Result<Process> {
    let mut command = Command::new(loadline_binary()?);
    let [metrics] = free_ports()?;
    command
        .args(["controller", "--admission-configuration=loadline", "--admission-name=127.0.0.1"])
        .arg(format!("--metrics-address=127.0.0.1:{metrics}"))
        .arg(format!("--admission-address=127.0.0.1:{port}"))
        .arg(format!("--admission-secret={SYSTEM}/loadline-webhook-certificate"));
    plane.spawn_client("controller", command, &plane.kubeconfig)
}

async fn client(plane: &ControlPlane) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(&plane.kubeconfig)?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

fn wait_until_asked(plane: &ControlPlane) -> Result<()> {
    let wrong = object(json!({"model": {"parameters": "8B"}, "parallelism": {"tensor": 3}})).to_string();
    until("the API server to ask", PATIENCE, || {
        let arguments = ["create", "--dry-run=server", "-n", "default", "-f", "-"];
        Ok(plane.kubectl_with_input(arguments, &wrong)?.stderr.contains("denied the request").then_some(()))
    })
}

fn object(spec: Value) -> Value {
    json!({"apiVersion": "loadline.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": "m"}, "spec": spec})
}

/// Quantiles of durations.
struct Quantiles(Vec<Duration>);

impl std::fmt::Display for Quantiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut all = self.0.clone();
        all.sort_unstable();
        let at = |part: usize| all[(all.len() * part / 1000).min(all.len() - 1)].as_secs_f64() * 1000.0;
        write!(f, "p50 {:.2} p99 {:.2} p99.9 {:.2} ms", at(500), at(990), at(999))
    }
}

/// Dry runs of an apply.
async fn objects(client: &Client, connections: usize) -> Result<(f64, Quantiles)> {
    let resource = ApiResource::erase::<ModelDeployment>(&());
    let objects: Api<DynamicObject> = Api::namespaced_with(client.clone(), "default", &resource);
    let spec = json!({"model": {"parameters": "8B"}, "precision": "int4", "context": {"length": 8192}});
    let object = Arc::new(object(spec));
    let began = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let (objects, object) = (objects.clone(), Arc::clone(&object));
        tasks.spawn(async move {
            let mut all = Vec::new();
            while began.elapsed() < Duration::from_secs(10) {
                let started = Instant::now();
                let parameters = PatchParams::apply("bench").dry_run();
                objects.patch("m", &parameters, &Patch::Apply(&*object)).await?;
                all.push(started.elapsed());
            }
            Ok::<_, kube::Error>(all)
        });
    }
    let mut all = Vec::new();
    while let Some(done) = tasks.join_next().await {
        all.extend(done??);
    }
    Ok((all.len() as f64 / began.elapsed().as_secs_f64(), Quantiles(all)))
}

/// How often the API server has asked the webhook, and how long it has waited in all, in seconds.
fn asked(plane: &ControlPlane) -> Result<(f64, f64)> {
    let text = plane.kubectl(["get", "--raw", "/metrics"])?.output()?;
    let sum = |part: &str| -> f64 {
        let name = format!("apiserver_admission_webhook_admission_duration_seconds_{part}");
        let lines = text
            .lines()
            .filter(|line| line.starts_with(&name) && line.contains("modeldeployments.loadline.dev"));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    Ok((sum("count"), sum("sum")))
}

fn mean(before: (f64, f64), after: (f64, f64)) -> f64 {
    (after.1 - before.1) / (after.0 - before.0).max(1.0) * 1000.0
}

/// The webhook by itself, at a steady rate.
async fn direct(plane: &ControlPlane, port: u16, per_second: u32, time: Duration) -> Result<()> {
    let get = ["get", "secret", "loadline-webhook-certificate", "-n", SYSTEM, "-o", "json"];
    let secret = plane.kubectl(get)?.json()?;
    let data: k8s_openapi::ByteString = serde_json::from_value(secret["data"]["ca.crt"].clone())?;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&data.0).context("a certificate")?)?;
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let spec = json!({"model": {"parameters": "8B"}, "precision": "int4", "context": {"length": 8192}});
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "1", "kind": {"group": "loadline.dev", "version": "v1alpha1", "kind": "ModelDeployment"},
        "namespace": "default", "name": "m", "operation": "CREATE", "object": object(spec)}})
    .to_string();
    let question = Arc::new(format!(
        "POST /validate HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{review}",
        review.len()
    ));
    let began = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (connector, question) = (connector.clone(), Arc::clone(&question));
        tasks.spawn(async move {
            let stream = TcpStream::connect(("127.0.0.1", port)).await?;
            stream.set_nodelay(true)?;
            let mut stream = connector.connect(ServerName::try_from("127.0.0.1")?, stream).await?;
            let mut each = tokio::time::interval(Duration::from_secs(1) * CONNECTIONS / per_second);
            let (mut all, mut buffer) = (Vec::new(), vec![0; 16 << 10]);
            while began.elapsed() < time {
                each.tick().await;
                let started = Instant::now();
                stream.write_all(question.as_bytes()).await?;
                // The answer is one small record.
                let count = stream.read(&mut buffer).await?;
                ensure!(buffer[..count].starts_with(b"HTTP/1.1 200"), "not answered");
                all.push(started.elapsed());
            }
            anyhow::Ok(all)
        });
    }
    let mut all = Vec::new();
    while let Some(done) = tasks.join_next().await {
        all.extend(done??);
    }
    let rate = all.len() as f64 / began.elapsed().as_secs_f64();
    println!("the webhook by itself, {rate:.0}/s: {}", Quantiles(all));
    Ok(())
}

/// Pods that name an object and pods that do not, with the policies and without.
async fn pods(plane: &ControlPlane, client: &Client, url: &str) -> Result<()> {
    let expression = |key: &str, operator: &str, values: &[String]| LabelExpression {
        key: key.to_owned(),
        operator: operator.to_owned(),
        values: values.to_vec(),
    };
    let required = |at: usize| {
        let memory = (20_000 + at).to_string();
        let terms = (0..8).map(|term| {
            [
                expression("nvidia.com/gpu.memory", "Gt", std::slice::from_ref(&memory)),
                expression("nvidia.com/gpu.replicas", "DoesNotExist", &[]),
                expression(&format!("example.com/source-{term}"), "DoesNotExist", &[]),
                expression(
                    "nvidia.com/gpu.product",
                    "NotIn",
                    &["Tesla-T4".to_owned(), "Tesla-P4".to_owned()],
                ),
            ]
            .map(Arc::new)
            .to_vec()
        });
        Required {
            resource: "nvidia.com/gpu".to_owned(),
            gpus: 1,
            per_gpu_mib: 20_001,
            terms: terms.collect(),
            earlier: Vec::new(),
        }
    };
    let all: BTreeMap<String, Required> =
        (0..OBJECTS).map(|at| (format!("model-{at}"), required(at))).collect();
    let data = to_data(&all);
    println!("the requirements of {OBJECTS} objects: {} KiB", serde_json::to_vec(&data)?.len() / 1024);
    plane.kubectl(["create", "namespace", "pods"])?.output()?;
    until("the default account", PATIENCE, || {
        Ok(plane.kubectl(["get", "serviceaccount", "default", "-n", "pods"])?.success().then_some(()))
    })?;
    let resource = ApiResource::erase::<ModelRequirements>(&());
    let requirements: Api<DynamicObject> = Api::namespaced_with(client.clone(), "pods", &resource);
    let object = json!({"apiVersion": "loadline.dev/v1alpha1", "kind": "ModelRequirements",
        "metadata": {"name": "loadline", "namespace": "pods"}, "spec": data});
    requirements.patch("loadline", &PatchParams::apply("bench").force(), &Patch::Apply(&object)).await?;
    for (what, values) in [
        ("no policies", vec!["--set=admission.enabled=false".to_owned()]),
        ("guard", vec![format!("--set={url},admission.pods.give=none")]),
        ("guard and policy that gives", vec![format!("--set={url},admission.pods.give=policy")]),
    ] {
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        helm(plane, &values)?;
        tokio::time::sleep(Duration::from_secs(5)).await;
        // A pod that has its terms, so that every policy lets it in, and one that names nothing.
        let mut named = Vec::new();
        let mut unnamed = Vec::new();
        for at in 0..300 {
            named.push(pod(client, Some(at % OBJECTS), &all).await?);
            unnamed.push(pod(client, None, &all).await?);
        }
        println!("{what}: a pod that names an object {}; another {}", Quantiles(named), Quantiles(unnamed));
    }
    Ok(())
}

async fn pod(client: &Client, names: Option<usize>, all: &BTreeMap<String, Required>) -> Result<Duration> {
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(client.clone(), "pods");
    let mut pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "registry.example/c",
        "resources": {"limits": {"nvidia.com/gpu": "1"}}}]}});
    if let Some(at) = names {
        let name = format!("model-{at}");
        let terms: Vec<Value> = all[&name]
            .terms
            .iter()
            .map(|term| {
                let term: Vec<&LabelExpression> = term.iter().map(|expression| &**expression).collect();
                json!({"matchExpressions": term})
            })
            .collect();
        pod["metadata"]["labels"] = json!({"loadline.dev/model-deployment": name});
        pod["spec"]["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}});
    }
    let pod = serde_json::from_value(pod)?;
    let started = Instant::now();
    pods.create(&PostParams { dry_run: true, ..PostParams::default() }, &pod).await?;
    Ok(started.elapsed())
}
