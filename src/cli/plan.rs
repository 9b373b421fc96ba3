//! `loadline plan`: the verdict of ModelDeployments against a cluster, or against a file of one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, ValueEnum};
use k8s_openapi::api::core::v1::ConfigMap;

use crate::api::{ModelDeployment, ModelDeploymentSpec};
use crate::decide::Verdict;
use crate::inventory::{Inventory, Owner, Promises, Snapshot};
use crate::plan::{Permits, Plan, Subject, check, permitted};
use crate::render::{Found, Origin, Outcome, json, junit, markdown, sarif, table};
use crate::units::shorten;
use crate::workloads::{self, Workload};

use super::connection::{Cluster, block_on};
use super::failure::{ExitStatus, Failure};
use super::hub::HubArguments;
use super::input;
use super::manifest::{Manifest, Manifests, Named};
use super::nodes::{SnapshotArguments, from_file};
use super::permits::PermitArguments;
use super::printer::Printer;
use super::resolve::Resolver;

// Each is a switch of its own.
#[allow(clippy::struct_excessive_bools)]
#[derive(Debug, Args)]
pub(super) struct PlanArguments {
    /// A file with ModelDeployments, a directory of them, or `-` for standard input; may be given again. Without it, those of the cluster are planned
    #[arg(short, long, value_name = "FILE")]
    filename: Vec<PathBuf>,
    /// Read directories with all that is below them
    #[arg(short = 'R', long, requires = "filename")]
    recursive: bool,
    /// The namespace of objects that state none; without -f, the one whose objects are planned: it must exist, and may be empty
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    /// Plan the objects of all namespaces
    #[arg(short = 'A', long, conflicts_with_all = ["namespace", "filename"])]
    all_namespaces: bool,
    /// The format of the output
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    output: PlanFormat,
    /// Plan other workloads that run a model (Deployments, Jobs, InferenceServices and others) and no ModelDeployments
    #[arg(long, requires = "filename")]
    workloads_only: bool,
    /// Judge each object as if it were alone; without it an object finds promised what those before it will take
    #[arg(long)]
    each: bool,
    #[command(flatten)]
    from: SnapshotArguments,
    #[command(flatten)]
    hub: HubArguments,
    #[command(flatten)]
    permits: PermitArguments,
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
    let permits = arguments.permits.permits(&arguments.hub);
    // Files first: what is wrong with them is told even with no cluster.
    let mut given = if arguments.filename.is_empty() {
        Given::default()
    } else {
        read_files(&arguments.filename, arguments.recursive, printer)?
    };
    if arguments.workloads_only {
        given.objects.clear();
    }
    let mut namespace = arguments.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let snapshot = match &arguments.from.snapshot {
        Some(_) if arguments.filename.is_empty() => {
            return Err(Failure::usage("a snapshot holds no ModelDeployments to plan")
                .hint("name them with -f FILE")
                .into());
        }
        Some(path) => from_file(path)?,
        // What is wrong with every object by itself is told with no cluster at hand.
        None if !given.objects.is_empty()
            && given.workloads.iter().all(|(workload, _)| !workload.facts.is_readable())
            && given.objects.iter().all(|object| is_refused(object, &permits)) =>
        {
            Snapshot::default()
        }
        // What does not say enough says no more with a cluster at hand.
        None if !arguments.filename.is_empty()
            && given.objects.is_empty()
            && given.workloads.iter().all(|(workload, _)| !workload.facts.is_readable()) =>
        {
            Snapshot::default()
        }
        None => block_on(live(arguments, &mut namespace, &mut given, printer))?,
    };
    let inventory = Inventory::new(snapshot, &arguments.from.labels.sources());
    let sources = HubArguments::sources_of(arguments.permits.settings(arguments.hub.settings()))?;
    let resolver = Resolver { sources, config_maps: given.config_maps, namespace };
    let all = Planned { objects: given.objects, workloads: given.workloads };
    let outcomes = outcomes(&all, &permits, &resolver, &inventory, arguments.each);
    print(&outcomes, arguments.output, printer)?;
    Ok(status(&outcomes))
}

/// Whether an object is wrong by itself, whatever the cluster.
fn is_refused(object: &Manifest, permits: &Permits) -> bool {
    let spec = object.spec.as_ref();
    spec.map_or(true, |spec| check(spec).and_then(|()| permitted(spec, permits)).is_err())
}

/// What was given to be planned.
#[derive(Default)]
struct Given {
    objects: Vec<Manifest>,
    config_maps: Vec<ConfigMap>,
    workloads: Vec<(Workload, Origin)>,
}

/// What is planned.
struct Planned {
    objects: Vec<Manifest>,
    workloads: Vec<(Workload, Origin)>,
}

/// The nodes and pods of the cluster, its ModelDeployments where no file names any, and the ConfigMaps that they name.
async fn live(
    arguments: &PlanArguments,
    namespace: &mut String,
    given: &mut Given,
    printer: Printer,
) -> anyhow::Result<Snapshot> {
    let cluster = Cluster::connect(&arguments.from.connection).await?;
    if arguments.namespace.is_none() {
        namespace.clone_from(&cluster.namespace);
    }
    if arguments.filename.is_empty() {
        let within = (!arguments.all_namespaces).then_some(namespace.as_str());
        let found = cluster.model_deployments(within).await?;
        if found.is_empty() {
            // As kubectl does, an empty namespace is no error; what was mistyped is one.
            match within {
                Some(name) if !cluster.has_namespace(name).await? => {
                    return Err(Failure::error(format!(
                        "no ModelDeployment in namespace {0}: there is no namespace {0}",
                        shorten(name)
                    ))
                    .hint("`kubectl get namespaces` lists them; -A plans the objects of all")
                    .into());
                }
                Some(name) => printer.note(&format!("no ModelDeployment in namespace {name}")),
                None => printer.note("no ModelDeployment in any namespace"),
            }
        }
        // The order in which the controller promises GPUs.
        let created = |object: &ModelDeployment| {
            object.metadata.creation_timestamp.as_ref().map_or(i64::MAX, |created| created.0.as_second())
        };
        let mut found = found;
        found.sort_by_cached_key(|object| {
            (created(object), object.metadata.namespace.clone(), object.metadata.name.clone())
        });
        for object in found {
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

/// The ModelDeployments of files.
pub(super) fn objects(paths: &[PathBuf], printer: Printer) -> anyhow::Result<Vec<Manifest>> {
    Ok(read_files(paths, false, printer)?.objects)
}

/// Reads every file that was named, and says what of them was passed over. One that cannot be read does not hide the
/// others' verdicts, unless it was named itself.
fn read_files(paths: &[PathBuf], recursive: bool, printer: Printer) -> anyhow::Result<Given> {
    let mut given = Given::default();
    let (mut without_kind, mut templates) = (Vec::new(), Vec::new());
    let (mut workloads, mut around) = (Vec::new(), Vec::new());
    for path in paths {
        let named = if path.is_dir() { Named::ByDirectory } else { Named::ByItself };
        for file in files(path, recursive)? {
            let name = input::name(&file);
            let text = match (input::text(&file), named) {
                (Ok(text), _) => text,
                (Err(error), Named::ByItself) => return Err(error),
                (Err(error), Named::ByDirectory) => {
                    let problem = format!("{error:#}");
                    let problem = problem.strip_prefix(&format!("{name} ")).unwrap_or(&problem);
                    given.objects.push(Manifest::of_file(&name, problem.to_owned()));
                    continue;
                }
            };
            let found = Manifests::read(&text, &name, named);
            if !found.others.is_empty() {
                printer.note(&format!("{name}: passed over {}", first(&found.others)));
            }
            if found.without_kind {
                without_kind.push(name.clone());
            }
            if found.templates {
                templates.push(name);
            }
            given.objects.extend(found.objects);
            given.config_maps.extend(found.config_maps);
            workloads.extend(found.workloads);
            around.extend(found.referred);
        }
    }
    for (files, why) in [(without_kind, "no kind"), (templates, "a template's {{ … }}")] {
        if !files.is_empty() {
            printer.note(&format!("passed over what has {why}: {}", first(&files)));
        }
    }
    for (object, origin) in &workloads {
        let parts = workloads::read(object, &around);
        given.workloads.extend(parts.into_iter().map(|part| (part, origin.clone())));
    }
    // A workload that runs no model is none of Loadline's, and no slip.
    if given.objects.is_empty() && workloads.is_empty() {
        let named: Vec<String> = paths.iter().map(|path| input::name(path)).collect();
        return Err(Failure::error(format!("no ModelDeployment in {}", named.join(", ")))
            .hint("an object has apiVersion: loadline.dev/v1alpha1 and kind: ModelDeployment; -R reads directories with all below them")
            .into());
    }
    Ok(given)
}

/// The first few of many, and how many more there are.
fn first(names: &[String]) -> String {
    const SHOWN: usize = 4;
    let shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
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

/// What comes of all, in their order: that of the files, and in a cluster that of their creation. What is promised to one
/// of them, no other is told that it fits on: as the controller has it, promises are made in that order first, and then each
/// is judged with those to all others.
fn outcomes(
    all: &Planned,
    permits: &Permits,
    resolver: &Resolver,
    inventory: &Inventory,
    each: bool,
) -> Vec<Outcome> {
    let mut promised = Arc::new(Promises::default());
    let items: Vec<Item<'_>> =
        all.objects.iter().map(Item::Object).chain(all.workloads.iter().map(Item::Workload)).collect();
    let judge = |item: &Item<'_>, here: &Inventory| match item {
        Item::Object(manifest) => outcome(manifest, permits, resolver, here),
        Item::Workload(found) => workload_outcome(found, resolver, here),
    };
    let mut outcomes = Vec::with_capacity(items.len());
    // Those before it have been judged without what it is promised.
    let mut last_promised = 0;
    for item in &items {
        let here = inventory.promising(Arc::clone(&promised));
        let outcome = judge(item, &here);
        if let Some(wanted) = outcome.plan().and_then(Plan::wanted).filter(|_| !each) {
            let owner = Owner { namespace: &outcome.namespace, name: &outcome.name };
            let own = wanted.promises(owner, &here);
            if !own.is_empty() {
                last_promised = outcomes.len();
                Arc::make_mut(&mut promised).extend(&own);
            }
        }
        outcomes.push(outcome);
    }
    let here = inventory.promising(promised);
    for (item, judged) in items.iter().zip(&mut outcomes).take(last_promised) {
        if judged.plan().is_some() {
            *judged = judge(item, &here);
        }
    }
    outcomes
}

/// One of what is planned.
enum Item<'a> {
    Object(&'a Manifest),
    Workload(&'a (Workload, Origin)),
}

fn workload_outcome(
    (workload, origin): &(Workload, Origin),
    resolver: &Resolver,
    inventory: &Inventory,
) -> Outcome {
    let namespace = workload.namespace.clone().unwrap_or_else(|| resolver.namespace.clone());
    let shape = |spec: &ModelDeploymentSpec| resolver.resolve(&namespace, spec);
    let found = Found::of_workload(workload, &namespace, inventory, shape);
    let (name, origin) = (workload.name.clone(), origin.clone());
    Outcome { name, namespace, origin, workload: Some(Box::new(workload.clone())), found }
}

fn outcome(manifest: &Manifest, permits: &Permits, resolver: &Resolver, inventory: &Inventory) -> Outcome {
    let namespace = manifest.namespace.clone().unwrap_or_else(|| resolver.namespace.clone());
    let found = match &manifest.spec {
        Err(faults) => Found::Malformed(faults.clone()),
        Ok(spec) => {
            let subject =
                Subject { namespace: &namespace, name: &manifest.name, spec, roll: None, running: None };
            Found::of(subject, permits, inventory, || resolver.resolve(&namespace, spec))
        }
    };
    let (name, origin) = (manifest.name.clone(), manifest.origin.clone());
    Outcome { namespace, name, origin, workload: None, found }
}

fn print(outcomes: &[Outcome], format: PlanFormat, printer: Printer) -> anyhow::Result<()> {
    let style = |wide| table::Style { wide, colour: printer.colours_data(), width: printer.width() };
    match format {
        PlanFormat::Table => parts(table::plan_parts(outcomes, style(false)), printer)?,
        PlanFormat::Wide => parts(table::plan_parts(outcomes, style(true)), printer)?,
        PlanFormat::Markdown => parts(markdown::plan_parts(outcomes), printer)?,
        PlanFormat::Json => printer.stream(|mut out| -> anyhow::Result<()> {
            serde_json::to_writer_pretty(&mut out, &json::plan(outcomes))?;
            Ok(out.write_all(b"\n")?)
        })?,
        PlanFormat::Yaml => printer
            .stream(|out| -> anyhow::Result<()> { Ok(serde_yaml::to_writer(out, &json::plan(outcomes))?) })?,
        PlanFormat::Junit => printer.data(&junit::plan(outcomes))?,
        PlanFormat::Sarif => {
            printer.data(&json::print(&sarif::plan(outcomes, env!("CARGO_PKG_VERSION")))?)?;
        }
    }
    Ok(())
}

/// Prints a text part by part.
fn parts(parts: impl Iterator<Item = String>, printer: Printer) -> std::io::Result<()> {
    printer.stream(|out| {
        for part in parts {
            out.write_all(part.as_bytes())?;
        }
        Ok(())
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
