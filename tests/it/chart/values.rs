//! The chart's values: what each is, what is refused, and that what they make is right for a real API server.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{CHART, KUBE_VERSION, objects, template};
use crate::cluster::{self, SYSTEM_NAMESPACE, text};
use crate::generated::check;

fn read(name: &str) -> String {
    std::fs::read_to_string(format!("{CHART}/{name}")).expect("a file of the chart")
}

fn schema() -> Value {
    serde_json::from_str(&read("values.schema.json")).expect("JSON")
}

/// A value that is described: its path, what it is by default, and what is said of it.
struct Described {
    path: String,
    default: Value,
    words: String,
}

/// The values of `values.yaml` that have a line `# -- …` above them, in their order.
fn described() -> Vec<Described> {
    let text = read("values.yaml");
    let values: Value = serde_yaml::from_str(&text).expect("YAML");
    let mut within: Vec<(usize, String)> = Vec::new();
    let mut words = None;
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some(said) = line.trim_start().strip_prefix("# -- ") {
            words = Some(said.to_owned());
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        let Some((key, _)) = line.trim_start().split_once(':').filter(|(key, _)| !key.starts_with('#'))
        else {
            continue;
        };
        within.retain(|(outer, _)| *outer < indent);
        within.push((indent, key.to_owned()));
        if let Some(words) = words.take() {
            let path: Vec<&str> = within.iter().map(|(_, key)| key.as_str()).collect();
            let default = values.pointer(&format!("/{}", path.join("/"))).expect("a value").clone();
            found.push(Described { path: path.join("."), default, words });
        }
    }
    found
}

/// The schema of a value.
fn schema_of<'a>(schema: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(schema, |schema, key| &schema["properties"][key])
}

#[test]
fn the_readme_has_every_value_as_values_yaml_describes_it() {
    let schema = schema();
    let mut table = vec!["| value | default | what it is |".to_owned(), "| --- | --- | --- |".to_owned()];
    for Described { path, default, words } in described() {
        let names: Vec<String> = schema_of(&schema, &path)["enum"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|name| format!("`{}`", name.as_str().map_or_else(|| name.to_string(), str::to_owned)))
            .collect();
        let all_said = names.iter().all(|name| words.contains(name.as_str()));
        let names = if all_said { String::new() } else { format!(" One of {}.", names.join(", ")) };
        table.push(format!("| `{path}` | `{default}` | {words}{names} |"));
    }
    let readme = read("README.md");
    let (words, _) = readme.split_once("## Values\n").expect("a section of values");
    check("charts/loadline/README.md", &format!("{words}## Values\n\n{}\n", table.join("\n")));
}

#[test]
fn every_value_is_described_once_and_bounded() {
    fn leaves(prefix: &str, value: &Value, known: &BTreeMap<String, String>, missing: &mut Vec<String>) {
        for (key, value) in value.as_object().expect("an object") {
            let path = format!("{prefix}{key}");
            if known.contains_key(&path) {
                continue;
            }
            match value.as_object().filter(|object| !object.is_empty()) {
                Some(_) => leaves(&format!("{path}."), value, known, missing),
                None => missing.push(path),
            }
        }
    }
    let values: Value = serde_yaml::from_str(&read("values.yaml")).expect("YAML");
    let known: BTreeMap<String, String> = described().into_iter().map(|one| (one.path, one.words)).collect();
    let mut missing = Vec::new();
    leaves("", &values, &known, &mut missing);
    assert_eq!(missing, Vec::<String>::new(), "no line `# -- …` above them in values.yaml");
    assert!(known.len() > 70, "{}", known.len());
    let schema = schema();
    for (path, words) in &known {
        assert_eq!(
            schema_of(&schema, path)["description"].as_str(),
            Some(words.as_str()),
            "{path} in values.schema.json"
        );
    }
}

/// What the schema lets through is known by name: only what Kubernetes itself describes is left to it.
#[test]
fn no_object_takes_names_that_nobody_reads() {
    fn open(path: &str, schema: &Value, found: &mut Vec<String>) {
        if schema["type"] == "object" {
            let closed =
                schema["additionalProperties"] == false || schema["additionalProperties"].is_object();
            if !closed {
                found.push(path.to_owned());
            }
        }
        for (key, schema) in schema["properties"].as_object().into_iter().flatten() {
            open(&format!("{path}.{key}"), schema, found);
        }
        if schema["items"].is_object() {
            open(&format!("{path}[]"), &schema["items"], found);
        }
    }
    let mut found = Vec::new();
    open("", &schema(), &mut found);
    let of_kubernetes = |path: &String| {
        [".global", ".extraVolumes[]", ".topologySpreadConstraints[]"].contains(&path.as_str())
            || [
                ".affinity.",
                ".extraEnv[].valueFrom",
                ".networkPolicy.",
                ".resources.claims",
                ".ui.resources.claims",
            ]
            .iter()
            .any(|prefix| path.starts_with(prefix))
            || path.ends_with(".matchExpressions[]")
    };
    found.retain(|path| !of_kubernetes(path));
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn what_cannot_be_rendered_is_refused_in_words() {
    #[track_caller]
    fn check(value: &str, expect: &str) {
        let error = template(&["--set", value]).refusal().expect("it is refused");
        assert!(error.contains(expect), "{value}: {error}");
        assert!(!error.contains("nil pointer"), "{value}: {error}");
    }
    check("controller.hub=null", "at '/controller': missing property 'hub'");
    check("controller.labelGrace=null", "missing property 'labelGrace'");
    check("admission=null", "missing property 'admission'");
    check("nameOverride=Has_Underscore", "/nameOverride");
    check("fullnameOverride=9lives", "/fullnameOverride");
    check("resources.limit.memory=1Gi", "additional properties 'limit' not allowed");
    check("securityContext.runAsnonRoot=true", "additional properties 'runAsnonRoot' not allowed");
    check("tolerations[0].keys=a", "additional properties 'keys' not allowed");
    check("engines.images.vllm=r.example/vllm:v1", "/engines/images/vllm");
    check("engines.images.vlm=r.example/vllm", "additional properties 'vlm' not allowed");
    check(
        r"commonLabels.app\.kubernetes\.io/name=x",
        "commonLabels: the chart sets the label app.kubernetes.io/name itself",
    );
    check(r"podLabels.helm\.sh/chart=x", "podLabels: the chart sets the label helm.sh/chart itself");
    check("commonLabels.team=a b", "/commonLabels/team");
    check("extraEnv[0].name=A,extraEnv[1].name=A", "extraEnv: A is set twice");
    check("admission.certificates.source=existing", "admission.certificates.secretName");
    check(
        "admission.certificates.source=existing,admission.certificates.secretName=s",
        "admission.certificates.caBundle",
    );
}

/// The values files of tests/fixtures/chart, each with the release's name that it is for.
fn files() -> Vec<(String, String, PathBuf)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/chart");
    let mut found: Vec<(String, String, PathBuf)> = std::fs::read_dir(folder)
        .expect("the folder")
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let text = std::fs::read_to_string(&path).expect("text");
            let release =
                text.lines().find_map(|line| line.strip_prefix("# release: ")).unwrap_or("loadline");
            (path.file_stem().expect("a name").to_string_lossy().into_owned(), release.to_owned(), path)
        })
        .collect();
    found.sort();
    found
}

/// Kinds of others, which are not installed here.
const OF_OTHERS: [&str; 4] = ["Certificate", "Issuer", "ServiceMonitor", "PrometheusRule"];

/// Whatever the values, the real API server takes every object as it is, and nothing in it is given twice or too long.
#[test]
fn what_values_make_is_right_for_the_api_server() {
    let files = files();
    assert!(files.len() >= 10, "{} values files", files.len());
    let cluster = cluster::exclusive();
    for (name, release, path) in files {
        let arguments = [
            "template".to_owned(),
            release,
            CHART.to_owned(),
            format!("--namespace={SYSTEM_NAMESPACE}"),
            KUBE_VERSION.to_owned(),
            format!("--values={}", path.display()),
        ];
        let rendered = cluster.plane.helm(arguments.iter()).unwrap().output().unwrap();
        let again = cluster.plane.helm(arguments.iter()).unwrap().output().unwrap();
        assert_eq!(rendered, again, "{name} is rendered otherwise the second time");
        let documents = rendered.split("\n---\n").map(|document| document.trim_start_matches("---\n"));
        // This reader of YAML refuses a key that is given twice.
        let all: Vec<Value> = documents
            .map(|document| {
                serde_yaml::from_str::<Value>(document)
                    .unwrap_or_else(|error| panic!("{name}: {error}\n{document}"))
            })
            .filter(|object| !object.is_null() && !OF_OTHERS.contains(&text(object, "/kind")))
            .collect();
        assert!(all.len() > 2, "{name}");
        let list = json!({"apiVersion": "v1", "kind": "List", "items": all}).to_string();
        let apply = [
            "apply",
            "--server-side",
            "--force-conflicts",
            "--dry-run=server",
            "--field-manager=test",
            "-o",
            "name",
            "-f",
            "-",
        ];
        let ran = cluster.plane.kubectl_with_input(apply, &list).unwrap();
        let taken = ran.stdout.lines().count();
        assert!(
            ran.success() && taken == all.len(),
            "{name}: {taken} of {} taken\n{}",
            all.len(),
            ran.stderr
        );
        assert!(!ran.stderr.contains("Warning"), "{name}: {}", ran.stderr);
    }
}

#[test]
fn every_image_comes_from_the_registry_of_the_installation() {
    let of = |values: &[&str]| {
        let objects = objects(values);
        let (_, deployment) =
            objects.iter().find(|(name, _)| name == "Deployment/loadline").expect("rendered");
        let container = deployment.pointer("/spec/template/spec/containers/0").expect("a container").clone();
        let arguments = container["args"].as_array().expect("arguments").clone();
        let engines: Vec<String> = arguments
            .iter()
            .filter_map(Value::as_str)
            .filter(|argument| argument.starts_with("--engine-"))
            .map(str::to_owned)
            .collect();
        (text(&container, "/image").to_owned(), engines)
    };
    let tag = env!("CARGO_PKG_VERSION");
    assert_eq!(of(&[]), (format!("loadline:{tag}"), vec![]));
    assert_eq!(
        of(&["--set", "global.imageRegistry=r.example/m/"]),
        (format!("r.example/m/loadline:{tag}"), vec!["--engine-registry=r.example/m".to_owned()])
    );
    let values =
        "image.registry=ours.example,engines.registry=r.example,engines.images.vllm=r.example/ai/vllm";
    assert_eq!(
        of(&["--set", values]),
        (
            format!("ours.example/loadline:{tag}"),
            vec![
                "--engine-registry=r.example".to_owned(),
                "--engine-repository=vllm=r.example/ai/vllm".to_owned()
            ]
        )
    );
}

/// Helm, Argo CD and Flux each have an annotation for it; the user's own options of Argo CD stay.
#[test]
fn the_definitions_are_left_by_whoever_manages_the_release() {
    let annotations = |values: &[&str]| {
        let objects = objects(values);
        let crds: Vec<Value> = objects
            .into_iter()
            .filter(|(name, _)| name.starts_with("CustomResourceDefinition"))
            .map(|(_, object)| object["metadata"]["annotations"].clone())
            .collect();
        assert_eq!(crds.len(), 2);
        assert_eq!(crds[0], crds[1]);
        crds[0].clone()
    };
    let options = |annotations: &Value| annotations["argocd.argoproj.io/sync-options"].clone();
    let kept = annotations(&[]);
    assert_eq!(options(&kept), "Prune=false,Delete=false");
    assert_eq!(kept["kustomize.toolkit.fluxcd.io/prune"], "disabled");
    let own = ["--set", r"crds.annotations.argocd\.argoproj\.io/sync-options=ServerSideApply=true"];
    assert_eq!(options(&annotations(&own)), "ServerSideApply=true,Prune=false,Delete=false");
    assert_eq!(annotations(&["--set", "crds.keep=false"]), Value::Null);
    assert_eq!(options(&annotations(&["--set", "crds.annotations=null"])), "Prune=false,Delete=false");
}

/// A digest of the chart's content, whose CRDs are as the code makes them.
fn digest() -> String {
    fn files_of(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                files_of(&path, found);
            } else if !path.components().any(|part| part.as_os_str() == "crds") {
                found.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    files_of(Path::new(CHART), &mut paths);
    let mut content: Vec<(String, String)> = paths
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("text");
            let name = path.strip_prefix(CHART).expect("within").to_string_lossy().into_owned();
            let without = |line: &&str| name != "Chart.yaml" || !line.starts_with("version: ");
            (name.clone(), text.lines().filter(without).collect::<Vec<_>>().join("\n"))
        })
        // What is said of it is no part of what it does.
        .filter(|(name, _)| name != "README.md")
        .chain(loadline::api::crds::all().map(|(name, definition)| {
            (format!("crds/{name}"), loadline::api::crds::yaml(&definition).expect("YAML"))
        }))
        .collect();
    content.sort();
    // FNV-1a: enough to tell one content from another.
    let bytes =
        content.iter().flat_map(|(name, text)| name.bytes().chain([0]).chain(text.bytes()).chain([0]));
    let digest = bytes.fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{digest:08x}")
}

/// Flux and Argo CD take a chart of the same version for the same chart.
#[test]
fn a_changed_chart_has_a_changed_version() {
    let version = format!("version: {}-dev-{}", env!("CARGO_PKG_VERSION"), digest());
    let chart = read("Chart.yaml");
    let wanted: Vec<&str> = chart
        .lines()
        .map(|line| if line.starts_with("version: ") { version.as_str() } else { line })
        .collect();
    check("charts/loadline/Chart.yaml", &format!("{}\n", wanted.join("\n")));
}

#[test]
fn artifact_hub_is_told_what_is_there() {
    let chart: Value = serde_yaml::from_str(&read("Chart.yaml")).expect("YAML");
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    let annotation = |name: &str| {
        let text =
            chart["annotations"][format!("artifacthub.io/{name}")].as_str().unwrap_or_default().to_owned();
        serde_yaml::from_str::<Value>(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    let crds = annotation("crds");
    let said: Vec<(&str, &str, &str)> = crds
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| (text(one, "/name"), text(one, "/kind"), text(one, "/version")))
        .collect();
    let all = loadline::api::crds::all();
    let are: Vec<(&str, &str, &str)> = all
        .iter()
        .map(|(name, crd)| (*name, crd.spec.names.kind.as_str(), crd.spec.versions[0].name.as_str()))
        .collect();
    assert_eq!(said, are);
    let kinds = ["added", "changed", "deprecated", "removed", "fixed", "security"];
    let changes = annotation("changes");
    for change in changes.as_array().expect("a list") {
        assert!(
            kinds.contains(&text(change, "/kind")) && !text(change, "/description").is_empty(),
            "{change}"
        );
    }
    assert_eq!(annotation("images")[0]["image"], format!("loadline:{}", env!("CARGO_PKG_VERSION")));
    let levels = ["Basic Install", "Seamless Upgrades", "Full Lifecycle", "Deep Insights", "Auto Pilot"];
    assert!(levels.contains(&text(&chart, "/annotations/artifacthub.io~1operatorCapabilities")));
    // The example is one that the API server takes: the definition's own test has the same fields.
    let cluster = cluster::exclusive();
    for example in annotation("crdsExamples").as_array().expect("a list") {
        let create = ["create", "--dry-run=server", "--namespace=default", "-f", "-"];
        cluster.plane.kubectl_with_input(create, &example.to_string()).unwrap().output().unwrap();
    }
}
