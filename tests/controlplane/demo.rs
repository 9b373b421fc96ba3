//! `make demo`: Loadline on a real control plane, as a user would see it. What needs no cluster comes first, while the
//! control plane is built.

// What a demonstration prints is what it is for.
#![allow(clippy::print_stdout)]

mod harness;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use harness::install::Tools;
use harness::wait::until;
use harness::{ControlPlane, command, fleet, free_ports, loadline_binary};

const PATIENCE: Duration = Duration::from_mins(1);

fn main() -> ExitCode {
    match demonstrate() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("\nThe demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demonstrate() -> Result<()> {
    let began = Instant::now();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let building = thread::spawn(Tools::install);

    title("Without a cluster: what does an 8B model need?");
    loadline(&["estimate", "--parameters", "8B", "--precision", "fp16", "--context", "8192"], None)?;
    loadline(&["estimate", "--parameters", "8B", "--precision", "int4", "--context", "8192"], None)?;

    title("Without a cluster: would the examples fit the cluster of a snapshot?");
    let snapshot = examples.join("cluster.snapshot").display().to_string();
    let directory = examples.display().to_string();
    let objects = model_deployments(&examples)?;
    let mut arguments = vec!["plan", "--snapshot", &snapshot];
    for object in &objects {
        arguments.extend(["-f", object]);
    }
    loadline(&arguments, None)?;

    title("A real control plane: etcd, API server, scheduler, controller manager; kwok plays nodes and pods");
    println!("Built from source the first time, which takes about a quarter of an hour.\n");
    let built = building.join().map_err(|_| anyhow::anyhow!("the build of the control plane panicked"))?;
    built.context("the control plane cannot be built")?;
    let plane = ControlPlane::start("demo")?;
    plane.kubectl_with_input(["create", "-f", "-"], &nodes())?.output()?;
    let labels = "nvidia.com/gpu.product,nvidia.com/gpu.memory";
    until("the nodes to be ready", PATIENCE, || {
        let nodes = plane.kubectl(["get", "nodes", "--no-headers"])?.output()?;
        Ok(nodes.lines().all(|line| line.contains(" Ready ")).then_some(()))
    })?;
    show(&plane, &["get", "nodes", "-L", labels])?;

    title("Loadline, installed by Helm");
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/loadline").display().to_string();
    let install = ["install", "loadline", &chart, "--namespace", "loadline-system", "--create-namespace"];
    println!("$ helm {}", install.join(" ").replace(&chart, "charts/loadline"));
    println!("{}", plane.helm(install)?.output()?);
    let crd = "crd/modeldeployments.loadline.dev";
    plane.kubectl(["wait", "--for=condition=Established", crd, "--timeout=60s"])?.output()?;
    let controller = start_controller(&plane)?;

    title("The examples, applied");
    for object in &objects {
        let shown = object.replace(&directory, "examples");
        println!("$ kubectl apply -f {shown}");
        print!("{}", plane.kubectl(["apply", "-f", object])?.output()?);
    }
    settle(&plane)?;
    println!();
    show(&plane, &["describe", "modeldeployment", "llama-8b-fp16"])?;

    title("The pods, bound by kube-scheduler only to nodes that fit");
    show(&plane, &["get", "pods", "-A", "-o", "wide", "-l", "loadline.dev/model-deployment"])?;

    title("The same verdicts on the command line, node by node, from the live cluster");
    let mut arguments = vec!["plan"];
    for object in &objects {
        arguments.extend(["-f", object]);
    }
    loadline(&arguments, Some(&plane.kubeconfig))?;

    title("What a user looks at");
    show(&plane, &["get", "modeldeployments", "-A"])?;
    show(&plane, &["get", "mdep", "-A", "-o", "wide"])?;

    let status = controller.terminate(Duration::from_secs(20))?;
    ensure!(status.success(), "the controller ended with {status}");
    drop(plane);
    println!("Everything that was started has been stopped, after {} s.", began.elapsed().as_secs());
    Ok(())
}

fn title(text: &str) {
    println!("\n=== {text} ===\n");
}

/// The example files that hold ModelDeployments, by name.
fn model_deployments(directory: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| format!("{} cannot be read", directory.display()))? {
        let path: PathBuf = entry?.path();
        if path.is_file() && fs::read_to_string(&path)?.contains("kind: ModelDeployment") {
            files.push(path.display().to_string());
        }
    }
    files.sort();
    ensure!(!files.is_empty(), "no ModelDeployment is in {}", directory.display());
    Ok(files)
}

/// The nodes of the examples' snapshot.
fn nodes() -> String {
    let rtx4090 =
        fleet::Kind { name: "rtx4090", product: "NVIDIA-GeForce-RTX-4090", memory: 24_564, gpus: 4 };
    let kinds = fleet::STANDARD.into_iter().chain([rtx4090]);
    fleet::list(kinds.map(|kind| kind.node()).chain([fleet::cpu_node()]))
}

/// Shows a command and what it prints; whether the models fit is not whether the demo works.
fn loadline(arguments: &[&str], kubeconfig: Option<&Path>) -> Result<()> {
    let root = format!("{}/", env!("CARGO_MANIFEST_DIR"));
    println!("$ loadline {}", arguments.join(" ").replace(&root, ""));
    let mut command = Command::new(loadline_binary()?);
    command.args(arguments);
    if let Some(kubeconfig) = kubeconfig {
        command.env("KUBECONFIG", kubeconfig);
    }
    let ran = command::run(command, "")?;
    println!("{}{}", ran.stdout, ran.stderr);
    ensure!(matches!(ran.code, Some(0 | 3 | 4)), "loadline {} failed", arguments.join(" "));
    Ok(())
}

/// Shows a kubectl command and what it prints.
fn show(plane: &ControlPlane, arguments: &[&str]) -> Result<()> {
    println!("$ kubectl {}", arguments.join(" "));
    println!("{}", plane.kubectl(arguments.iter().copied())?.output()?);
    Ok(())
}

/// There is no kubelet to run the chart's pod: the controller runs beside the cluster, as the chart's ServiceAccount.
fn start_controller(plane: &ControlPlane) -> Result<harness::guard::Process> {
    let token = plane.kubectl(["create", "token", "loadline", "--namespace", "loadline-system"])?.output()?;
    let kubeconfig = plane.kubeconfig_for_token("controller", token.trim())?;
    let [port] = free_ports()?;
    let mut command = Command::new(loadline_binary()?);
    command.args(["controller", &format!("--metrics-address=127.0.0.1:{port}")]);
    plane.spawn_client("controller", command, &kubeconfig)
}

/// Waits until every object has its verdict, and every pod that can be bound runs.
fn settle(plane: &ControlPlane) -> Result<()> {
    until("a verdict on every object", PATIENCE, || {
        let list = plane.kubectl(["get", "modeldeployments", "-A", "-o", "json"])?.json()?;
        let objects = list["items"].as_array().cloned().unwrap_or_default();
        Ok(objects.iter().all(settled).then_some(()))
    })
}

fn settled(object: &Value) -> bool {
    let condition = |kind: &str| {
        let conditions = object["status"]["conditions"].as_array()?;
        conditions.iter().find(|condition| condition["type"] == kind).cloned()
    };
    let is =
        |kind: &str, status: &str| condition(kind).is_some_and(|condition| condition["status"] == status);
    // Running, hopeless, or waiting for a node that is not there.
    is("Ready", "True") || is("Stalled", "True") || is("Placeable", "False")
}
