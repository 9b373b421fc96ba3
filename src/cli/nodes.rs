//! `loadline nodes`, `doctor` and `snapshot`: what the cluster has, as Loadline reads it.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::inventory::{Inventory, SiteLabel, Snapshot, Sources};
use crate::render::{json, table, text, yaml};

use super::connection::{Cluster, ConnectionArguments, block_on};
use super::failure::{ExitStatus, Failure};
use super::input;
use super::output::Format;
use super::printer::Printer;

/// Where nodes and pods are read.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct SnapshotArguments {
    /// Read nodes and pods from a file (`-` for standard input) instead of a cluster: what `loadline snapshot` or `kubectl get nodes,pods -A -o json` printed
    #[arg(long, value_name = "FILE", conflicts_with_all = ["context", "kubeconfig"])]
    pub(super) snapshot: Option<PathBuf>,
    #[command(flatten)]
    pub(super) connection: ConnectionArguments,
    #[command(flatten)]
    pub(super) labels: LabelArguments,
}

impl SnapshotArguments {
    /// The nodes and pods.
    pub(super) fn read(&self) -> anyhow::Result<Snapshot> {
        match &self.snapshot {
            Some(path) => from_file(path),
            None => block_on(async { Cluster::connect(&self.connection).await?.snapshot().await }),
        }
    }
}

/// The nodes and pods of a file.
pub(super) fn from_file(path: &Path) -> anyhow::Result<Snapshot> {
    let text = input::text(path)?;
    Snapshot::from_text(&text).map_err(|error| {
        Failure::error(format!("{}: {error}", input::name(path)))
            .hint("`kubectl get nodes,pods -A -o json` and `loadline snapshot` write such a file")
            .into()
    })
}

/// What labels are read besides those that Loadline knows.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct LabelArguments {
    /// A label of your own that says memory, as KEY=UNIT[,resource=RESOURCE][,count=KEY]: UNIT is MiB, GiB, MB, GB or bytes, of one GPU or, with count, of as many as that label says; may be given again
    #[arg(long, value_name = "LABEL", env = "LOADLINE_GPU_MEMORY_LABELS", value_delimiter = ';')]
    gpu_memory_label: Vec<SiteLabel>,
}

impl LabelArguments {
    /// All that labels are read by.
    pub(super) fn sources(&self) -> Sources {
        Sources::default().with_labels(&self.gpu_memory_label)
    }
}

#[derive(Debug, Args)]
pub(super) struct NodesArguments {
    /// The format of the output
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    from: SnapshotArguments,
}

pub(super) fn nodes(arguments: &NodesArguments, printer: Printer) -> anyhow::Result<ExitStatus> {
    let inventory = Inventory::new(arguments.from.read()?, &arguments.from.labels.sources());
    if let Some(text) = arguments.output.document(&json::nodes(&inventory))? {
        printer.data(&text)?;
        return Ok(ExitStatus::Fine);
    }
    printer.data(&table::nodes(inventory.nodes(), arguments.output.style(printer)))?;
    let without = inventory.nodes().iter().filter(|node| node.pools.is_empty()).count();
    if without > 0 && arguments.output == Format::Table {
        let without = text::counted(text::length(without), "node");
        printer.note(&format!("{without} without a GPU not shown; -o wide shows all"));
    }
    if table::problems(&inventory).is_some() {
        printer.note("some labels of GPUs are missing, cannot be believed or do not agree; `loadline doctor` says which and what to do");
    }
    Ok(ExitStatus::Fine)
}

/// Exit code 3 where something is to be mended.
pub(super) fn doctor(arguments: &NodesArguments, printer: Printer) -> anyhow::Result<ExitStatus> {
    let inventory = Inventory::new(arguments.from.read()?, &arguments.from.labels.sources());
    let problems = table::problems(&inventory);
    let status = if problems.is_some() { ExitStatus::Mend } else { ExitStatus::Fine };
    if let Some(text) = arguments.output.document(&json::problems(&inventory))? {
        printer.data(&text)?;
        return Ok(status);
    }
    match problems {
        Some(problems) => printer.data(&problems)?,
        None if inventory.has_gpus() => printer.note("every GPU's memory is known, and labels agree"),
        None => printer.note("no node has a GPU"),
    }
    Ok(status)
}

#[derive(Debug, Args)]
pub(super) struct WriteArguments {
    /// Replace the names of nodes, pods and namespaces, and every label that does not describe a GPU
    #[arg(long)]
    redact: bool,
    /// The format of the output
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    output: SnapshotFormat,
    #[command(flatten)]
    from: SnapshotArguments,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum SnapshotFormat {
    Json,
    #[default]
    Yaml,
}

pub(super) fn snapshot(arguments: &WriteArguments, printer: Printer) -> anyhow::Result<ExitStatus> {
    let mut snapshot = arguments.from.read()?;
    if arguments.redact {
        snapshot.redact(&arguments.from.labels.sources());
    }
    let list = snapshot.to_list();
    printer.data(&match arguments.output {
        SnapshotFormat::Json => json::print(&list)?,
        SnapshotFormat::Yaml => yaml::print(&list)?,
    })?;
    Ok(ExitStatus::Fine)
}
