//! `loadline plan`: the verdict of ModelDeployments against a cluster, or against a file of one.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};

use crate::api::ModelDeploymentSpec;
use crate::decide::Verdict;
use crate::inventory::{Inventory, Snapshot};
use crate::plan::{Subject, plan};
use crate::render::{Found, Origin, Outcome, json, junit, markdown, sarif, table, yaml};

use super::connection::{Cluster, block_on};
use super::failure::{ExitStatus, Failure};
use super::input;
use super::manifest::{Manifest, Manifests};
use super::nodes::{SnapshotArguments, from_file};
use super::printer::Printer;
use super::resolve::resolve;

#[derive(Debug, Args)]
pub(super) struct PlanArguments {
    /// A file with ModelDeployments, a directory of them, or `-` for standard input; may be given again. Without it, those of the cluster are planned
    #[arg(short, long, value_name = "FILE")]
    filename: Vec<PathBuf>,
    /// Read directories with all that is below them
    #[arg(short = 'R', long, requires = "filename")]
    recursive: bool,
    /// The namespace of objects that state none; without -f, the one whose objects are planned
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    /// Plan the objects of all namespaces
    #[arg(short = 'A', long, conflicts_with_all = ["namespace", "filename"])]
    all_namespaces: bool,
    /// The format of the output
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    output: PlanFormat,
    #[command(flatten)]
    from: SnapshotArguments,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum PlanFormat {
    /// For people
    #[default]
    Table,
    /// For people, with a row per node and its message
    Wide,
    /// For programs
    Json,
    /// For programs
    Yaml,
    /// For CI systems
    Junit,
    /// For code hosts, which show it beside the line
    Sarif,
    /// For a comment on a pull request
    Markdown,
}

pub(super) fn run(arguments: &PlanArguments, printer: Printer) -> anyhow::Result<ExitStatus> {
    // Files first: what is wrong with them is told even with no cluster.
    let mut manifests =
        if arguments.filename.is_empty() { Vec::new() } else { read_files(arguments, printer)? };
    let snapshot = match &arguments.from.snapshot {
        Some(_) if arguments.filename.is_empty() => {
            return Err(Failure::usage("a snapshot holds no ModelDeployments to plan")
                .hint("name them with -f FILE")
                .into());
        }
        Some(path) => from_file(path)?,
        None => block_on(live(arguments, &mut manifests))?,
    };
    let inventory = Inventory::new(snapshot);
    let namespace = arguments.namespace.as_deref().unwrap_or("default");
    let outcomes: Vec<Outcome> =
        manifests.into_iter().map(|manifest| outcome(manifest, namespace, &inventory)).collect();
    printer.data(&printed(&outcomes, arguments.output, printer)?)?;
    Ok(status(&outcomes))
}

/// The nodes and pods of the cluster, and its ModelDeployments where no file names any.
async fn live(arguments: &PlanArguments, manifests: &mut Vec<Manifest>) -> anyhow::Result<Snapshot> {
    let cluster = Cluster::connect(&arguments.from.connection).await?;
    let default = arguments.namespace.as_deref().unwrap_or(&cluster.namespace);
    if arguments.filename.is_empty() {
        let namespace = (!arguments.all_namespaces).then_some(default);
        for object in cluster.model_deployments(namespace).await? {
            manifests.push(Manifest {
                namespace: object.metadata.namespace,
                name: object.metadata.name.unwrap_or_default(),
                origin: Origin::default(),
                spec: Ok(Box::new(object.spec)),
            });
        }
    } else {
        for manifest in manifests {
            manifest.namespace.get_or_insert_with(|| default.to_owned());
        }
    }
    cluster.snapshot().await
}

fn read_files(arguments: &PlanArguments, printer: Printer) -> anyhow::Result<Vec<Manifest>> {
    let mut objects = Vec::new();
    for path in &arguments.filename {
        for file in files(path, arguments.recursive)? {
            let found = Manifests::read(&input::text(&file)?, &input::name(&file));
            if !found.others.is_empty() {
                let (shown, more) = (4, found.others.len().saturating_sub(4));
                let named: Vec<String> = found.others.iter().take(shown).cloned().collect();
                let more = if more == 0 { String::new() } else { format!(" and {more} more") };
                printer.note(&format!("{}: passed over {}{more}", input::name(&file), named.join(", ")));
            }
            objects.extend(found.objects);
        }
    }
    if objects.is_empty() {
        let named: Vec<String> = arguments.filename.iter().map(|path| input::name(path)).collect();
        return Err(Failure::error(format!("no ModelDeployment in {}", named.join(", ")))
            .hint("an object has apiVersion: loadline.dev/v1alpha1 and kind: ModelDeployment; -R reads directories with all below them")
            .into());
    }
    Ok(objects)
}

/// The files that a path stands for, in order: itself, or those of a directory that may hold objects.
fn files(path: &Path, recursive: bool) -> anyhow::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut entries: Vec<PathBuf> = std::fs::read_dir(path)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .with_context(|| format!("cannot read the directory {}", path.display()))?;
    entries.sort();
    let mut found = Vec::new();
    for entry in entries {
        let extension = entry.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
        // A link to a directory may lead back here.
        let is_directory = entry.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
        if is_directory && recursive {
            found.extend(files(&entry, recursive)?);
        } else if entry.is_file() && matches!(extension.as_deref(), Some("yaml" | "yml" | "json")) {
            found.push(entry);
        }
    }
    Ok(found)
}

fn outcome(manifest: Manifest, default_namespace: &str, inventory: &Inventory) -> Outcome {
    let namespace = manifest.namespace.unwrap_or_else(|| default_namespace.to_owned());
    let found = match &manifest.spec {
        Err(faults) => Found::Malformed(faults.clone()),
        Ok(spec) => found(&namespace, &manifest.name, spec, inventory),
    };
    Outcome { namespace, name: manifest.name, origin: manifest.origin, found }
}

fn found(namespace: &str, name: &str, spec: &ModelDeploymentSpec, inventory: &Inventory) -> Found {
    let shape = match resolve(spec) {
        Ok(shape) => shape,
        Err(found) => return found,
    };
    match plan(Subject { namespace, name, spec }, &shape, inventory) {
        Ok(plan) => Found::Planned(Box::new(plan)),
        Err(error) => Found::Refused(error),
    }
}

fn printed(outcomes: &[Outcome], format: PlanFormat, printer: Printer) -> anyhow::Result<String> {
    let style = |wide| table::Style { wide, colour: printer.colours_data() };
    Ok(match format {
        PlanFormat::Table => table::plan(outcomes, style(false)),
        PlanFormat::Wide => table::plan(outcomes, style(true)),
        PlanFormat::Json => json::print(&json::plan(outcomes))?,
        PlanFormat::Yaml => yaml::print(&json::plan(outcomes))?,
        PlanFormat::Junit => junit::plan(outcomes),
        PlanFormat::Sarif => json::print(&sarif::plan(outcomes, env!("CARGO_PKG_VERSION")))?,
        PlanFormat::Markdown => markdown::plan(outcomes),
    })
}

/// The worst of several: 1 if any is malformed, else 3 if any does not fit now, else 4 if any is unknown.
fn status(outcomes: &[Outcome]) -> ExitStatus {
    let any = |wanted: fn(&Outcome) -> bool| outcomes.iter().any(wanted);
    if any(Outcome::is_malformed) {
        ExitStatus::Error
    } else if any(|outcome| matches!(outcome.verdict(), Verdict::Rejected | Verdict::Busy)) {
        ExitStatus::DoesNotFit
    } else if any(|outcome| outcome.verdict() == Verdict::Unknown) {
        ExitStatus::Unknown
    } else {
        ExitStatus::Fine
    }
}
