//! `loadline controller`: watches ModelDeployments, and sees to their workloads and statuses.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;

use super::connection::ConnectionArguments;
use super::failure::ExitStatus;
use super::hub::HubArguments;
use super::nodes::LabelArguments;
use super::permits::PermitArguments;
use super::times::{duration, qualified};
use crate::controller::{self, Options};
use crate::launch::images::{self, Images, Repository};
use crate::telemetry::logs::{self, LogFormat};

/// Runs the controller until it is told to stop (SIGTERM, SIGINT).
#[derive(Args, Clone, Debug)]
pub(super) struct ControllerArguments {
    #[command(flatten)]
    connection: ConnectionArguments,
    #[command(flatten)]
    hub: HubArguments,
    #[command(flatten)]
    permits: PermitArguments,
    /// See to the ModelDeployments of this namespace only. Nodes and pods are read cluster-wide all the same
    #[arg(short, long, value_name = "NAMESPACE", env = "LOADLINE_NAMESPACE")]
    pub(super) namespace: Option<String>,
    /// Where /healthz, /readyz and /metrics are served
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        env = "LOADLINE_METRICS_ADDRESS",
        default_value = "0.0.0.0:8080"
    )]
    pub(super) metrics_address: SocketAddr,
    /// How long the labels of a node's GPUs may be gone before that counts, such as 30s or 5m; 0s counts at once
    #[arg(long, value_name = "DURATION", env = "LOADLINE_LABEL_GRACE", default_value = "2m", value_parser = duration)]
    pub(super) label_grace: Duration,
    #[command(flatten)]
    labels: LabelArguments,
    /// The Lease, as NAMESPACE/NAME, whose holder alone writes: for several replicas. Every replica serves metrics and webhooks
    #[arg(long, value_name = "NAMESPACE/NAME", env = "LOADLINE_LEASE", value_parser = qualified)]
    pub(super) lease: Option<(String, String)>,
    /// A registry, or a path in one, that pods pull the engines' own images from, such as registry.example/mirror. What runs already keeps its image
    #[arg(long, value_name = "REGISTRY", env = "LOADLINE_ENGINE_REGISTRY", value_parser = images::registry)]
    engine_registry: Option<String>,
    /// A repository in place of an engine's own, without a tag, as ENGINE=REPOSITORY; several with commas
    #[arg(
        long,
        value_name = "ENGINE=REPOSITORY",
        env = "LOADLINE_ENGINE_REPOSITORIES",
        value_delimiter = ','
    )]
    engine_repository: Vec<Repository>,
    #[command(flatten)]
    pub(super) admission: super::admission::AdmissionArguments,
    /// How log lines are written: text or json. What is logged is set by LOADLINE_LOG, such as debug
    #[arg(long, value_name = "FORMAT", env = "LOADLINE_LOG_FORMAT", default_value = "text")]
    pub(super) log_format: LogFormat,
}

impl From<ControllerArguments> for Options {
    fn from(arguments: ControllerArguments) -> Self {
        let lease = arguments.lease.map(|(namespace, name)| controller::lease::Options {
            namespace,
            name,
            identity: identity(),
        });
        Self {
            lease,
            images: Images {
                registry: arguments.engine_registry,
                repositories: arguments
                    .engine_repository
                    .into_iter()
                    .map(|repository| (repository.engine.as_str(), repository.name))
                    .collect(),
            },
            admission: arguments.admission.options(),
            metrics_address: arguments.metrics_address,
            label_grace: arguments.label_grace,
            labels: arguments.labels.sources(),
            permits: arguments.permits.permits(&arguments.hub),
            sources: arguments.permits.settings(arguments.hub.settings()),
            namespace: arguments.namespace,
        }
    }
}

/// A name that no other replica has: that of the machine or pod, and something that a process of the same name lacks.
fn identity() -> String {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "loadline".to_owned());
    // The keys of a hasher are random.
    let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), std::process::id());
    format!("{host}_{random:016x}")
}

/// Runs the controller, on a runtime of its own.
///
/// # Errors
/// It cannot be started, or does not stay up.
pub(super) fn run(arguments: ControllerArguments) -> anyhow::Result<ExitStatus> {
    logs::start(arguments.log_format);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let config = arguments.connection.config().await?;
        anyhow::Ok(controller::run(config, arguments.into()).await?)
    });
    // A reconcile that was broken off is not waited for.
    runtime.shutdown_background();
    ended?;
    Ok(ExitStatus::Fine)
}
