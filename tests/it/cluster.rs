//! The clusters that all end-to-end tests share: each a control plane, nodes, the chart installed by Helm, and the
//! controller running beside it as the chart's own ServiceAccount. One scenario has one of them at a time.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Condvar, Mutex, MutexGuard, Once, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::controlplane::harness::audit::{self, Mark, Request};
use crate::controlplane::harness::command::Ran;
use crate::controlplane::harness::guard::Process;
use crate::controlplane::harness::wait::until;
use crate::controlplane::harness::{ControlPlane, fleet, free_ports, loadline_binary};

/// How long a wait may take before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
/// Where the chart is installed.
pub(crate) const SYSTEM_NAMESPACE: &str = "loadline-system";
/// Who the controller is to the API server.
pub(crate) const CONTROLLER: &str = "system:serviceaccount:loadline-system:loadline";
/// The label of every scenario's namespace.
const SCENARIO: &str = "test.loadline.dev/scenario";

/// The cluster.
pub(crate) struct Cluster {
    pub(crate) plane: ControlPlane,
    controller: Option<Controller>,
    /// Whether the CRD may accept what the types do not.
    schema_is_open: bool,
    /// Whether the webhooks are installed: only where a scenario is about them, for they refuse what others need to have.
    has_webhooks: bool,
}

/// A running controller.
pub(crate) struct Controller {
    pub(crate) process: Process,
    port: u16,
    options: Vec<String>,
}

impl Controller {
    /// What it answers to a GET.
    pub(crate) fn answer(&self, path: &str) -> Result<String> {
        get(self.port, path)
    }
}

/// So many clusters are there: the scenarios wait much and compute little, so two of them share two cores well.
const CLUSTERS: usize = 2;
static SHARED: [OnceLock<Result<Mutex<Cluster>>>; CLUSTERS] = [const { OnceLock::new() }; CLUSTERS];
/// Which of them nobody has, the next to be taken last.
static FREE: Mutex<Vec<usize>> = Mutex::new(Vec::new());
static FREED: Condvar = Condvar::new();

/// A cluster that nobody else has, for as long as this lives.
pub(crate) struct Exclusive {
    cluster: MutexGuard<'static, Cluster>,
    _turn: Turn,
}

/// The right to one of the clusters: given back after the cluster itself.
struct Turn(usize);

impl Drop for Turn {
    fn drop(&mut self) {
        FREE.lock().unwrap_or_else(PoisonError::into_inner).push(self.0);
        FREED.notify_one();
    }
}

impl Deref for Exclusive {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl DerefMut for Exclusive {
    fn deref_mut(&mut self) -> &mut Cluster {
        &mut self.cluster
    }
}

/// One of the clusters. The first caller of each waits until it is up.
pub(crate) fn exclusive() -> Exclusive {
    static FILLED: Once = Once::new();
    FILLED.call_once(|| {
        FREE.lock().unwrap_or_else(PoisonError::into_inner).extend((0..CLUSTERS).rev());
    });
    let free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut free = FREED.wait_while(free, |free| free.is_empty()).unwrap_or_else(PoisonError::into_inner);
    let turn = Turn(free.pop().expect("waited for"));
    drop(free);
    match SHARED[turn.0].get_or_init(|| Cluster::start(turn.0).map(Mutex::new)) {
        // A scenario that failed leaves it as it is; the next one cleans up first.
        Ok(cluster) => {
            Exclusive { cluster: cluster.lock().unwrap_or_else(PoisonError::into_inner), _turn: turn }
        }
        Err(error) => panic!("the control plane did not start: {error:#}"),
    }
}

impl Cluster {
    fn start(index: usize) -> Result<Self> {
        let plane = ControlPlane::start(&format!("tests-{index}"))?;
        let cluster = Self { plane, controller: None, schema_is_open: false, has_webhooks: false };
        cluster.kubectl(["create", "namespace", SYSTEM_NAMESPACE])?.output()?;
        let enforce = "pod-security.kubernetes.io/enforce=restricted";
        cluster.kubectl(["label", "namespace", SYSTEM_NAMESPACE, enforce])?.output()?;
        cluster.reset_nodes()?;
        cluster.install_chart(&[])?;
        Ok(cluster)
    }

    /// Runs kubectl as the administrator.
    pub(crate) fn kubectl<S: Into<OsString>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<Ran> {
        self.plane.kubectl(arguments)
    }

    /// Installs the chart as a user would, or upgrades it.
    pub(crate) fn install_chart(&self, more: &[&str]) -> Result<String> {
        let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/loadline");
        let arguments = ["upgrade", "--install", "loadline", chart, "--namespace", SYSTEM_NAMESPACE];
        // Where the chart's pod takes nothing that a scenario counts.
        let pod = r"--set=nodeSelector.kubernetes\.io/hostname=cpu";
        let without = ["--set=admission.enabled=false,replicas=1", pod];
        let output = self.plane.helm(arguments.iter().chain(&without).chain(more))?.output()?;
        self.kubectl([
            "wait",
            "--for=condition=Established",
            "crd/modeldeployments.loadline.dev",
            "--timeout=60s",
        ])?
        .output()?;
        Ok(output)
    }

    /// Installs the webhooks, which the API server finds at an address, with more values; until the next scenario.
    pub(crate) fn install_webhooks(&mut self, url: &str, more: &[&str]) -> Result<()> {
        self.has_webhooks = true;
        let url = format!("--set=admission.enabled=true,admission.url={url}");
        self.install_chart(&[&[url.as_str()], more].concat())?;
        Ok(())
    }

    /// The nodes as every scenario finds them: what another scenario has changed is made anew.
    pub(crate) fn reset_nodes(&self) -> Result<()> {
        let wanted: BTreeMap<String, Value> = fleet::STANDARD
            .iter()
            .map(fleet::Kind::node)
            .chain([fleet::cpu_node()])
            .map(|node| (text(&node, "/metadata/name").to_owned(), node))
            .collect();
        let found = self.kubectl(["get", "nodes", "-o", "json"])?.json()?;
        let mut missing = wanted.clone();
        for node in items(&found) {
            let name = text(node, "/metadata/name");
            if wanted.get(name).is_some_and(|wanted| untouched(node, wanted)) {
                missing.remove(name);
            } else {
                self.kubectl(["delete", "node", name])?.output()?;
            }
        }
        if !missing.is_empty() {
            self.create(&fleet::list(missing.into_values()))?;
        }
        let mut last = Value::Null;
        let ready = until("every node to be ready", PATIENCE, || {
            let found = self.kubectl(["get", "nodes", "-o", "json"])?.json()?;
            let ready = items(&found)
                .iter()
                .filter(|node| {
                    wanted.get(text(node, "/metadata/name")).is_some_and(|wanted| untouched(node, wanted))
                })
                .count();
            last = found;
            Ok((ready == wanted.len()).then_some(()))
        });
        ready.with_context(|| {
            let state = |node: &Value| {
                let ready = condition_of(node, "Ready").map_or(&Value::Null, |ready| &ready["status"]);
                format!("labels {} spec {} ready {ready}", node["metadata"]["labels"], node["spec"])
            };
            items(&last).iter().map(state).collect::<Vec<_>>().join("\n")
        })
    }

    /// Creates what a manifest says.
    pub(crate) fn create(&self, manifest: &str) -> Result<String> {
        self.plane.kubectl_with_input(["create", "-f", "-"], manifest)?.output()
    }

    /// Lets the controller run with these options, besides where to find the cluster.
    pub(crate) fn run_controller(&mut self, options: &[&str]) -> Result<()> {
        if let Some(controller) = &mut self.controller
            && controller.options == options
            && !controller.process.exited()?
        {
            return Ok(());
        }
        self.controller = None;
        let mut controller = self.spawn_controller("controller", options)?;
        self.wait_for_controller(&mut controller)?;
        self.controller = Some(controller);
        Ok(())
    }

    /// Starts one more controller, which logs under a name of its own.
    pub(crate) fn spawn_controller(&self, name: &str, options: &[&str]) -> Result<Controller> {
        let token = ["create", "token", "loadline", "--namespace", SYSTEM_NAMESPACE, "--duration=3h"];
        let token = self.kubectl(token)?.output()?;
        let kubeconfig: PathBuf = self.plane.kubeconfig_for_token(name, token.trim())?;
        let [port] = free_ports()?;
        let mut command = Command::new(loadline_binary()?);
        command
            .arg("controller")
            .arg(format!("--metrics-address=127.0.0.1:{port}"))
            .args(options)
            .env("LOADLINE_LOG", "info,loadline=debug")
            .env("RUST_BACKTRACE", "1");
        let process = self.plane.spawn_client(name, command, &kubeconfig)?;
        let options = options.iter().map(|&option| option.to_owned()).collect();
        Ok(Controller { process, port, options })
    }

    /// Waits until a controller is ready.
    pub(crate) fn wait_for_controller(&self, controller: &mut Controller) -> Result<()> {
        let log = self.plane.log_of(&controller.process.name);
        until("the controller's /readyz", PATIENCE, || {
            ensure!(!controller.process.exited()?, "the controller has ended; its log is {}", log.display());
            Ok(controller
                .answer("/readyz")
                .is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
                .then_some(()))
        })
    }

    /// Ends the controller as Kubernetes would (SIGTERM).
    pub(crate) fn stop_controller(&mut self) -> Result<()> {
        if let Some(controller) = self.controller.take() {
            let status = controller.process.terminate(Duration::from_secs(20))?;
            ensure!(status.success(), "the controller ended with {status} when asked to");
        }
        Ok(())
    }

    /// Ends the controller with no warning (SIGKILL).
    pub(crate) fn kill_controller(&mut self) {
        if let Some(controller) = self.controller.take() {
            controller.process.kill();
        }
    }

    /// Lets the controller do nothing (SIGSTOP), as a machine that is put to sleep does.
    pub(crate) fn suspend_controller(&self) -> Result<()> {
        self.controller.as_ref().context("the controller is not running")?.process.signal("STOP")
    }

    /// Lets it go on.
    pub(crate) fn resume_controller(&self) -> Result<()> {
        self.controller.as_ref().context("the controller is not running")?.process.signal("CONT")
    }

    /// What the controller answers to a GET.
    pub(crate) fn controller_answer(&self, path: &str) -> Result<String> {
        get(self.controller.as_ref().context("the controller is not running")?.port, path)
    }

    /// The end of the audit log.
    pub(crate) fn mark(&self) -> Result<Mark> {
        audit::mark(&self.plane.audit_log())
    }

    /// What was asked of the API server since.
    pub(crate) fn requests_since(&self, mark: Mark) -> Result<Vec<Request>> {
        audit::since(&self.plane.audit_log(), mark)
    }

    /// Lets the API server accept any ModelDeployment, until the next scenario.
    pub(crate) fn open_schema(&mut self) -> Result<()> {
        self.schema_is_open = true;
        // Fields are selected by only where the schema has them.
        let open = r#"[{"op": "remove", "path": "/spec/versions/0/selectableFields"}, {"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema",
            "value": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}]"#;
        self.kubectl(["patch", "crd", "modeldeployments.loadline.dev", "--type=json", "-p", open])?
            .output()?;
        Ok(())
    }

    /// Puts the schema back, and waits until it is in force.
    fn close_schema(&mut self) -> Result<()> {
        let definition = concat!(env!("CARGO_MANIFEST_DIR"), "/crds/modeldeployments.loadline.dev.yaml");
        self.kubectl(["apply", "--server-side", "--force-conflicts", "-f", definition])?.output()?;
        until("the schema to be in force again", PATIENCE, || {
            let bad = r#"{"apiVersion": "loadline.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": "bad"}}"#;
            let arguments = ["create", "--dry-run=server", "--namespace=default", "-f", "-"];
            Ok((!self.plane.kubectl_with_input(arguments, bad)?.success()).then_some(()))
        })?;
        self.schema_is_open = false;
        Ok(())
    }

    /// Removes what other scenarios have left behind.
    pub(crate) fn clean(&mut self) -> Result<()> {
        let left = self.kubectl(["get", "namespaces", "-l", SCENARIO, "-o", "json"])?.json()?;
        for namespace in items(&left).iter().map(|namespace| text(namespace, "/metadata/name")) {
            // First what holds GPUs. The namespace itself takes its time, and is in nobody's way.
            let kinds = "modeldeployments,deployments,jobs,pods";
            self.kubectl(["delete", kinds, "--all", "--namespace", namespace, "--timeout=60s"])?.output()?;
            self.kubectl(["label", "namespace", namespace, &format!("{SCENARIO}-")])?.output()?;
            self.kubectl(["delete", "namespace", namespace, "--wait=false"])?.output()?;
        }
        if self.schema_is_open {
            self.close_schema()?;
        }
        if self.has_webhooks {
            self.install_chart(&[])?;
            self.has_webhooks = false;
        }
        self.reset_nodes()
    }

    /// Makes a scenario's namespace.
    pub(crate) fn create_namespace(&self, name: &str) -> Result<()> {
        self.kubectl(["create", "namespace", name])?.output()?;
        self.kubectl(["label", "namespace", name, &format!("{SCENARIO}=true")])?.output()?;
        Ok(())
    }
}

/// Whether a node is ready and as it was made.
fn untouched(node: &Value, wanted: &Value) -> bool {
    node["metadata"]["labels"] == wanted["metadata"]["labels"]
        && node["spec"]["taints"].is_null()
        && node["spec"]["unschedulable"].is_null()
        && node["metadata"]["annotations"][fleet::DOWN].is_null()
        && node["status"]["allocatable"] == wanted["status"]["allocatable"]
        && condition_of(node, "Ready").is_some_and(|ready| ready["status"] == "True")
}

/// The items of a list.
pub(crate) fn items(list: &Value) -> &[Value] {
    list["items"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A string in an object, empty if it is not there.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// One of an object's conditions.
pub(crate) fn condition_of<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

/// A plain GET on loopback, with the answer as it comes.
fn get(port: u16, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
