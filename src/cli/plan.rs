//! `loadline plan`: the verdict of ModelDeployments against a cluster, or against a file of one.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};
use k8s_openapi::api::core::v1::ConfigMap;

use crate::api::ModelDeploymentSpec;
use crate::decide::Verdict;
use crate::inventory::{Inventory, Snapshot, Sources};
use crate::plan::{Subject, check, plan};
use crate::render::{Found, Origin, Outcome, json, junit, markdown, sarif, table, yaml};

use super::connection::{Cluster, block_on};
use super::failure::{ExitStatus, Failure};
use super::hub::HubArguments;
use super::input;
use super::manifest::{Manifest, Manifests};
use super::nodes::{SnapshotArguments, from_file};
use super::printer::Printer;
use super::resolve::Resolver;

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
    #[command(flatten)]
    hub: HubArguments,
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
    let mut given =
        if arguments.filename.is_empty() { Given::default() } else { read_files(arguments, printer)? };
    let mut namespace = arguments.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let snapshot = match &arguments.from.snapshot {
        Some(_) if arguments.filename.is_empty() => {
            return Err(Failure::usage("a snapshot holds no ModelDeployments to plan")
                .hint("name them with -f FILE")
                .into());
        }
        Some(path) => from_file(path)?,
        None => block_on(live(arguments, &mut namespace, &mut given))?,
    };
    let inventory = Inventory::new(snapshot, &Sources::default());
    let resolver = Resolver { sources: arguments.hub.sources()?, config_maps: given.config_maps, namespace };
    let outcomes: Vec<Outcome> =
        given.objects.into_iter().map(|manifest| outcome(manifest, &resolver, &inventory)).collect();
    printer.data(&printed(&outcomes, arguments.output, printer)?)?;
    Ok(status(&outcomes))
}

/// What was given to be planned.
#[derive(Default)]
struct Given {
    objects: Vec<Manifest>,
    config_maps: Vec<ConfigMap>,
}

/// The nodes and pods of the cluster, its ModelDeployments where no file names any, and the ConfigMaps that they name.
async fn live(
    arguments: &PlanArguments,
    namespace: &mut String,
    given: &mut Given,
) -> anyhow::Result<Snapshot> {
    let cluster = Cluster::connect(&arguments.from.connection).await?;
    if arguments.namespace.is_none() {
        namespace.clone_from(&cluster.namespace);
    }
    if arguments.filename.is_empty() {
        let within = (!arguments.all_namespaces).then_some(namespace.as_str());
        for object in cluster.model_deployments(within).await? {
            given.objects.push(Manifest {
                namespace: object.metadata.namespace,
                name: object.metadata.name.unwrap_or_default(),
                origin: Origin::default(),
                spec: Ok(Box::new(object.spec)),
            });
        }
    }
    for object in &given.objects {
        let Some(key) = object.spec.as_ref().ok().and_then(|spec| spec.model.config_map_ref.as_ref()) else {
            continue;
        };
        let of = object.namespace.as_deref().unwrap_or(namespace);
        // A ConfigMap of the same files is the one that will be there.
        given.config_maps.extend(cluster.config_map(of, &key.name).await?);
    }
    cluster.snapshot().await
}

fn read_files(arguments: &PlanArguments, printer: Printer) -> anyhow::Result<Given> {
    let mut given = Given::default();
    for path in &arguments.filename {
        for file in files(path, arguments.recursive)? {
            let found = Manifests::read(&input::text(&file)?, &input::name(&file));
            if !found.others.is_empty() {
                let (shown, more) = (4, found.others.len().saturating_sub(4));
                let named: Vec<String> = found.others.iter().take(shown).cloned().collect();
                let more = if more == 0 { String::new() } else { format!(" and {more} more") };
                printer.note(&format!("{}: passed over {}{more}", input::name(&file), named.join(", ")));
            }
            given.objects.extend(found.objects);
            given.config_maps.extend(found.config_maps);
        }
    }
    if given.objects.is_empty() {
        let named: Vec<String> = arguments.filename.iter().map(|path| input::name(path)).collect();
        return Err(Failure::error(format!("no ModelDeployment in {}", named.join(", ")))
            .hint("an object has apiVersion: loadline.dev/v1alpha1 and kind: ModelDeployment; -R reads directories with all below them")
            .into());
    }
    Ok(given)
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

fn outcome(manifest: Manifest, resolver: &Resolver, inventory: &Inventory) -> Outcome {
    let namespace = manifest.namespace.unwrap_or_else(|| resolver.namespace.clone());
    let found = match &manifest.spec {
        Err(faults) => Found::Malformed(faults.clone()),
        Ok(spec) => found(&namespace, &manifest.name, spec, resolver, inventory),
    };
    Outcome { namespace, name: manifest.name, origin: manifest.origin, found }
}

fn found(
    namespace: &str,
    name: &str,
    spec: &ModelDeploymentSpec,
    resolver: &Resolver,
    inventory: &Inventory,
) -> Found {
    // What is wrong with the spec itself is told whether or not its model can be had.
    if let Err(error) = check(spec) {
        return Found::Refused(error);
    }
    let shape = match resolver.resolve(namespace, spec) {
        Ok(shape) => shape,
        Err(found) => return found,
    };
    match plan(Subject { namespace, name, spec, roll: None, running: None }, &shape, inventory) {
        Ok(plan) => Found::Planned(Box::new(plan)),
        Err(error) => Found::Refused(error),
    }
}

fn printed(outcomes: &[Outcome], format: PlanFormat, printer: Printer) -> anyhow::Result<String> {
    let style = |wide| table::Style { wide, colour: printer.colours_data(), width: printer.width() };
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
