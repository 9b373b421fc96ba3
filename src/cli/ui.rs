//! `loadline ui`: the page, on this machine or for a team.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::Context;
use clap::Args;
use tokio::net::TcpListener;

use crate::inventory::Inventory;
use crate::page::{self, Cluster, Object, Options};

use super::failure::{ExitStatus, Failure};
use super::hub::HubArguments;
use super::nodes::{LabelArguments, from_file};
use super::plan::objects;
use super::printer::Printer;

#[derive(Debug, Args)]
pub(super) struct UiArguments {
    /// Where the page is served; port 0 picks one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Do not open a browser
    #[arg(long)]
    no_open: bool,
    /// For others too, on any address: no access token of the Hub, no files, no cluster, and a share of the requests for each
    #[arg(long, conflicts_with_all = ["snapshot", "filename"])]
    public: bool,
    /// Show the cluster of a file: what `loadline snapshot` or `kubectl get nodes,pods -A -o json` printed
    #[arg(long, value_name = "FILE")]
    snapshot: Option<PathBuf>,
    /// A file with ModelDeployments, to be shown with their verdicts; may be given again
    #[arg(short, long, value_name = "FILE", requires = "snapshot")]
    filename: Vec<PathBuf>,
    #[command(flatten)]
    labels: LabelArguments,
    #[command(flatten)]
    hub: HubArguments,
}

pub(super) fn run(arguments: &UiArguments, printer: Printer) -> anyhow::Result<ExitStatus> {
    let UiArguments { listen, public, .. } = *arguments;
    if !public && !listen.ip().is_loopback() {
        return Err(Failure::usage(format!("--listen {listen}: others can reach that address"))
            .hint("add --public, which shows them neither a cluster nor what your access token of the Hub may read; or listen on 127.0.0.1")
            .into());
    }
    let options = Options {
        public,
        sources: arguments.hub.page_settings(public),
        token: if public { None } else { HubArguments::token() },
        cluster: cluster(arguments, printer)?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(async {
        let listener = TcpListener::bind(listen).await.with_context(|| {
            format!("cannot listen on {listen}; another address is given with --listen, such as 127.0.0.1:0 for any free port")
        })?;
        let address = format!("http://{}/", listener.local_addr()?);
        printer.data(&format!("{address}\n"))?;
        if !arguments.no_open && !public {
            open(&address);
        }
        anyhow::Ok(page::serve(listener, options, stopped()).await?)
    });
    // An answer that is being worked out is not waited for.
    runtime.shutdown_background();
    served?;
    Ok(ExitStatus::Fine)
}

fn cluster(arguments: &UiArguments, printer: Printer) -> anyhow::Result<Option<Cluster>> {
    let Some(path) = &arguments.snapshot else { return Ok(None) };
    let inventory = Inventory::new(from_file(path)?, &arguments.labels.sources());
    let manifests =
        if arguments.filename.is_empty() { Vec::new() } else { objects(&arguments.filename, printer)? };
    let object = |manifest: super::manifest::Manifest| Object {
        namespace: manifest.namespace.unwrap_or_else(|| "default".to_owned()),
        name: manifest.name,
        spec: manifest.spec,
    };
    Ok(Some(Cluster { inventory, objects: manifests.into_iter().map(object).collect() }))
}

/// Done when the process is told to stop.
async fn stopped() {
    let interrupted = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminated) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = interrupted => {}
                _ = terminated.recv() => {}
            }
            return;
        }
    }
    let _ = interrupted.await;
}

/// Opens a browser where there is somebody to look at it. Where there is none, the address is printed all the same.
fn open(address: &str) {
    let has_screen = cfg!(any(target_os = "macos", windows))
        || ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some());
    if !has_screen || !std::io::stdout().is_terminal() {
        return;
    }
    let (program, before): (&str, &[&str]) = if cfg!(target_os = "macos") {
        ("open", &[])
    } else if cfg!(windows) {
        ("cmd", &["/c", "start", ""])
    } else {
        ("xdg-open", &[])
    };
    let _ = Command::new(program)
        .args(before)
        .arg(address)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
}
