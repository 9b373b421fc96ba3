//! A real Kubernetes control plane on loopback: etcd, API server with RBAC and an audit log, scheduler, controller
//! manager, and kwok for the nodes' and pods' life cycle. For the end-to-end tests and the demo.
//!
//! Nothing outlives the process that started it, however that ends: see [`guard`].

// The tests and the demo each use a part.
#![allow(dead_code)]

pub(crate) mod audit;
pub(crate) mod command;
pub(crate) mod credentials;
pub(crate) mod fleet;
pub(crate) mod guard;
pub(crate) mod install;
pub(crate) mod wait;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use command::Ran;
use guard::{Guard, Process};
use install::Tools;
use wait::until;

/// How long a part may take to answer after its start, on a machine that is busy with other work.
const START: Duration = Duration::from_mins(2);
const API_SERVER: &str = "kube-apiserver";
/// Another process may take a port between its choice and its use.
const PORT_ATTEMPTS: usize = 5;

/// The running control plane. Dropping it ends it.
pub(crate) struct ControlPlane {
    /// Where etcd, kubectl and the others are.
    pub(crate) tools: Tools,
    /// A directory that goes with the control plane.
    pub(crate) home: PathBuf,
    /// Where every part logs to; kept until the next run.
    pub(crate) logs: PathBuf,
    /// The administrator's kubeconfig.
    pub(crate) kubeconfig: PathBuf,
    address: String,
    /// The flags of the API server, its port among them.
    api_server: Vec<OsString>,
    // Last: the processes are dropped, and then what would have ended them.
    processes: Vec<Process>,
    guard: Guard,
}

impl ControlPlane {
    /// Starts a control plane. `name` tells its logs from those of another.
    pub(crate) fn start(name: &str) -> Result<Self> {
        let tools = Tools::install()?;
        let logs = make_logs(&target_directory()?.join("controlplane-logs"), name)?;
        let home = tempfile::Builder::new().prefix("loadline-controlplane-").tempdir()?.keep();
        let guard = Guard::start(&home)?;
        let mut plane = Self {
            tools,
            kubeconfig: home.join("admin.kubeconfig"),
            home,
            logs,
            address: String::new(),
            api_server: Vec::new(),
            processes: Vec::new(),
            guard,
        };
        plane.bring_up().with_context(|| format!("logs are in {}", plane.logs.display()))?;
        Ok(plane)
    }

    fn bring_up(&mut self) -> Result<()> {
        let admin = credentials::write(&self.home)?;
        let etcd = self.start_etcd()?;
        self.start_api_server(&etcd, &admin)?;
        self.start_controller_manager()?;
        self.start_scheduler()?;
        self.start_kwok()?;
        // The controller manager is at work once the default account exists: pods need it.
        until("the default service account", START, || {
            Ok(self.kubectl(["get", "serviceaccount", "default", "-o", "name"])?.success().then_some(()))
        })?;
        self.processes_alive()
    }

    fn start_etcd(&mut self) -> Result<String> {
        let tool = self.tools.path("etcd");
        let data = self.home.join("etcd");
        self.with_free_ports(
            "etcd",
            |[client, peer]| {
                let (client, peer) =
                    (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
                let mut command = Command::new(&tool);
                command
                    .arg(flag("--data-dir", &data))
                    .arg(format!("--listen-client-urls={client}"))
                    .arg(format!("--advertise-client-urls={client}"))
                    .arg(format!("--listen-peer-urls={peer}"))
                    .arg(format!("--initial-advertise-peer-urls={peer}"))
                    .arg(format!("--initial-cluster=default={peer}"))
                    // What it holds is thrown away with it.
                    .arg("--unsafe-no-fsync");
                (command, client)
            },
            |log| log.contains("ready to serve client requests"),
        )
    }

    fn start_api_server(&mut self, etcd: &str, admin_token: &str) -> Result<()> {
        let tool = self.tools.path("kube-apiserver");
        let home = self.home.clone();
        let audit_log = self.audit_log();
        fs::write(home.join("audit-policy.yaml"), audit::POLICY)?;
        let etcd = etcd.to_owned();
        let arguments = move |port: u16| -> Vec<OsString> {
            [
                format!("--etcd-servers={etcd}"),
                "--bind-address=127.0.0.1".to_owned(),
                "--advertise-address=127.0.0.1".to_owned(),
                // There is no service network: nobody reads the endpoints of `kubernetes`.
                "--endpoint-reconciler-type=none".to_owned(),
                format!("--secure-port={port}"),
                "--authorization-mode=RBAC".to_owned(),
                "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
                "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
                "--audit-log-mode=blocking".to_owned(),
                "--audit-log-maxsize=4000".to_owned(),
                // As 1.36 and later have it by default.
                "--feature-gates=MutatingAdmissionPolicy=true".to_owned(),
                "--runtime-config=admissionregistration.k8s.io/v1beta1=true".to_owned(),
            ]
            .into_iter()
            .map(OsString::from)
            .chain([
                flag("--cert-dir", &home.join("certificates")),
                flag("--token-auth-file", &home.join("tokens.csv")),
                flag("--service-account-key-file", &home.join("service-account.key")),
                flag("--service-account-signing-key-file", &home.join("service-account.key")),
                flag("--audit-policy-file", &home.join("audit-policy.yaml")),
                flag("--audit-log-path", &audit_log),
            ])
            .collect()
        };
        let (address, arguments) = self.with_free_ports(
            API_SERVER,
            |[port]| {
                let arguments = arguments(port);
                let mut command = Command::new(&tool);
                command.args(&arguments);
                (command, (format!("https://127.0.0.1:{port}"), arguments))
            },
            |log| log.contains("Serving securely on"),
        )?;
        self.api_server = arguments;
        self.address = address;
        let authority = self.home.join("certificates/apiserver.crt");
        credentials::kubeconfig(&self.kubeconfig, &self.address, &authority, admin_token)?;
        self.wait_for_api_server()
    }

    fn wait_for_api_server(&self) -> Result<()> {
        until("the API server's /readyz", START, || {
            Ok(self.kubectl(["get", "--raw", "/readyz"])?.success().then_some(()))
        })
    }

    /// Kills the API server, as when its host fails, and keeps it down until `meanwhile` is done; then starts it again, at the
    /// same address and with what etcd holds.
    pub(crate) fn restart_api_server(&mut self, meanwhile: impl FnOnce() -> Result<()>) -> Result<()> {
        let at = self.processes.iter().position(|process| process.name == API_SERVER);
        self.processes.remove(at.context("no API server is running")?).kill();
        meanwhile()?;
        let mut command = Command::new(self.tools.path(API_SERVER));
        command.args(&self.api_server);
        self.spawn(API_SERVER, command)?;
        self.wait_for_api_server()
    }

    fn start_controller_manager(&mut self) -> Result<()> {
        // What the tests need of it, and no more: each controller keeps the processor busy.
        let controllers = [
            "clusterrole-aggregation-controller",
            "deployment-controller",
            "disruption-controller",
            "garbage-collector-controller",
            "job-controller",
            "namespace-controller",
            "node-lifecycle-controller",
            "pod-garbage-collector-controller",
            "replicaset-controller",
            "resourceclaim-controller",
            "serviceaccount-controller",
            "statefulset-controller",
            "taint-eviction-controller",
        ];
        let mut command = Command::new(self.tools.path("kube-controller-manager"));
        command
            .arg(flag("--kubeconfig", &self.kubeconfig))
            .arg(format!("--controllers={}", controllers.join(",")))
            .arg(flag("--service-account-private-key-file", &self.home.join("service-account.key")))
            .args(["--leader-elect=false", "--secure-port=0", "--node-monitor-period=1s"])
            .args(["--kube-api-qps=200", "--kube-api-burst=400"]);
        self.spawn("kube-controller-manager", command)
    }

    fn start_scheduler(&mut self) -> Result<()> {
        let mut command = Command::new(self.tools.path("kube-scheduler"));
        command
            .arg(flag("--kubeconfig", &self.kubeconfig))
            .args(["--leader-elect=false", "--secure-port=0"])
            .args(["--kube-api-qps=200", "--kube-api-burst=400"]);
        self.spawn("kube-scheduler", command)
    }

    fn start_kwok(&mut self) -> Result<()> {
        let mut command = Command::new(self.tools.path("kwok"));
        command
            .arg(flag("--kubeconfig", &self.kubeconfig))
            .args(["--manage-all-nodes", "--node-lease-duration-seconds=40"]);
        for stage in fleet::write_stages(&self.tools.stages(), &self.home.join("stages"))? {
            command.arg("--config").arg(stage);
        }
        self.spawn("kwok", command)
    }

    fn spawn(&mut self, name: &str, command: Command) -> Result<()> {
        let process = self.guard.spawn(name, command, &self.log_of(name))?;
        self.processes.push(process);
        Ok(())
    }

    /// Starts a part that listens: `command` makes it from free ports, `listening` sees from its log that it got them.
    fn with_free_ports<const N: usize, T>(
        &mut self,
        name: &str,
        command: impl Fn([u16; N]) -> (Command, T),
        listening: impl Fn(&str) -> bool,
    ) -> Result<T> {
        let log = self.log_of(name);
        for _ in 0..PORT_ATTEMPTS {
            let (command, address) = command(free_ports()?);
            let mut process = self.guard.spawn(name, command, &log)?;
            let up = until(&format!("{name} to listen"), START, || {
                let up = listening(&fs::read_to_string(&log).unwrap_or_default());
                Ok(if up { Some(true) } else { process.exited()?.then_some(false) })
            })?;
            if up {
                self.processes.push(process);
                return Ok(address);
            }
            if !fs::read_to_string(&log)?.contains("address already in use") {
                bail!("{name} ended at once; its log is {}", log.display());
            }
        }
        bail!("{name} found its port taken {PORT_ATTEMPTS} times")
    }

    /// An error that names the part that is no longer running, if one is not.
    fn processes_alive(&mut self) -> Result<()> {
        for process in &mut self.processes {
            if process.exited()? {
                bail!("{} has ended", process.name);
            }
        }
        Ok(())
    }

    /// Starts a process that ends with the control plane at the latest, with `kubeconfig` as its cluster.
    pub(crate) fn spawn_client(
        &self,
        name: &str,
        mut command: Command,
        kubeconfig: &Path,
    ) -> Result<Process> {
        command.env("KUBECONFIG", kubeconfig).env("HOME", &self.home);
        self.guard.spawn(name, command, &self.log_of(name))
    }

    /// A kubeconfig that carries a token in the administrator's place.
    pub(crate) fn kubeconfig_for_token(&self, name: &str, token: &str) -> Result<PathBuf> {
        let path = self.home.join(format!("{name}.kubeconfig"));
        let authority = self.home.join("certificates/apiserver.crt");
        credentials::kubeconfig(&path, &self.address, &authority, token)?;
        Ok(path)
    }

    /// Where a part logs to.
    pub(crate) fn log_of(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{name}.log"))
    }

    /// The API server's audit log.
    pub(crate) fn audit_log(&self) -> PathBuf {
        self.logs.join("audit.jsonl")
    }

    /// Runs kubectl as the administrator.
    pub(crate) fn kubectl<S: Into<OsString>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<Ran> {
        self.kubectl_with_input(arguments, "")
    }

    /// Runs kubectl as the administrator, with something on its standard input.
    pub(crate) fn kubectl_with_input<S: Into<OsString>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
        input: &str,
    ) -> Result<Ran> {
        self.run("kubectl", arguments, input)
    }

    /// Runs Helm as the administrator.
    pub(crate) fn helm<S: Into<OsString>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<Ran> {
        self.run("helm", arguments, "")
    }

    fn run<S: Into<OsString>>(
        &self,
        tool: &str,
        arguments: impl IntoIterator<Item = S>,
        input: &str,
    ) -> Result<Ran> {
        let mut command = Command::new(self.tools.path(tool));
        command
            .args(arguments.into_iter().map(Into::into))
            // Nothing of the user's own configuration is read or written.
            .env("HOME", &self.home)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("HELM_CACHE_HOME", self.home.join("helm/cache"))
            .env("HELM_CONFIG_HOME", self.home.join("helm/config"))
            .env("HELM_DATA_HOME", self.home.join("helm/data"));
        command::run(command, input)
    }
}

/// Makes the directory of this process's logs, and removes those of earlier ones.
fn make_logs(all: &Path, name: &str) -> Result<PathBuf> {
    fs::create_dir_all(all)?;
    for entry in fs::read_dir(all)? {
        let entry = entry?;
        let of = entry.file_name().to_string_lossy().strip_prefix(&format!("{name}-")).map(str::to_owned);
        // Another run may be under way.
        if of.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    let logs = all.join(format!("{name}-{}", std::process::id()));
    fs::create_dir_all(&logs)?;
    Ok(logs)
}

/// Cargo's target directory, from where the running test or example is in it.
pub(crate) fn target_directory() -> Result<PathBuf> {
    let executable = std::env::current_exe()?;
    // target/debug/deps/it-0123456789abcdef and target/debug/examples/demo
    executable.ancestors().nth(3).map(Path::to_owned).context("the executable is not in a target directory")
}

/// The `loadline` binary that was built with the running test or example.
pub(crate) fn loadline_binary() -> Result<PathBuf> {
    let executable = std::env::current_exe()?;
    let binary = executable
        .ancestors()
        .nth(2)
        .context("the executable is not in a target directory")?
        .join("loadline");
    if !binary.is_file() {
        bail!("{} is not built; `cargo build` builds it", binary.display());
    }
    Ok(binary)
}

/// A free port for each place of the array, all different.
pub(crate) fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut ports = [0; N];
    // Held until all are known.
    let mut held = Vec::new();
    for port in &mut ports {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

fn flag(name: &str, path: &Path) -> OsString {
    let mut flag = OsString::from(name);
    flag.push("=");
    flag.push(path);
    flag
}

/// No input, and output that nobody reads.
fn silent(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}
