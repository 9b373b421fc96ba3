//! What a user does with kubectl, and what `loadline plan` says of the same cluster.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Value, json};

use super::scenario::{Scenario, current, eventually, message, model_deployment, scenario};
use crate::cluster::{condition_of, items, text};
use crate::controlplane::harness::fleet::{H200, L4};
use crate::controlplane::harness::{command, loadline_binary};

fn spec() -> Value {
    json!({"model": {"parameters": "8B"}, "precision": "fp16", "context": {"length": 8192}})
}

#[test]
fn wait_for_ready() {
    scenario("wait", |s| {
        s.apply("llama", &spec());
        s.run(["wait", "--for=condition=Ready", "mdep/llama", "--timeout=60s"]);
        let object = s.wait_ready("llama", "True", "Available");
        for (kind, status) in
            [("Estimated", "True"), ("Placeable", "True"), ("Reconciling", "False"), ("Stalled", "False")]
        {
            let condition = condition_of(&object, kind).unwrap_or_else(|| panic!("{kind} is not there"));
            assert_eq!(condition["status"], status, "{condition}");
            assert_eq!(condition["observedGeneration"], object["metadata"]["generation"], "{condition}");
        }
    });
}

#[test]
fn scale() {
    scenario("scale", |s| {
        s.apply("llama", &spec());
        s.wait_pods("llama", 1, 0);
        s.run(["scale", "mdep/llama", "--replicas=3"]);
        s.wait_pods("llama", 3, 0);
        let object = s.wait("llama", "3 ready replicas", |object| object["status"]["readyReplicas"] == 3);
        assert_eq!(object["status"]["replicas"], 3);
        let scale = s.run(["get", "mdep", "llama", "--subresource=scale", "-o", "json"]);
        let scale: Value = serde_json::from_str(&scale).unwrap();
        assert_eq!(scale["status"]["replicas"], 3);
        // An autoscaler counts the pods by this selector.
        let pods = s.run(["get", "pods", "-l", text(&scale, "/status/selector"), "-o", "name"]);
        assert_eq!(pods.lines().count(), 3, "{pods}");
        s.run(["scale", "mdep/llama", "--replicas=0"]);
        s.wait_pods("llama", 0, 0);
        s.wait("llama", "no replicas", |object| current(object) && object["status"]["replicas"] == 0);
    });
}

#[test]
fn get_shows_what_matters() {
    scenario("get", |s| {
        s.apply("llama", &spec());
        s.wait_ready("llama", "True", "Available");
        let columns = |arguments: &[&str]| {
            let output = s.run(arguments);
            let mut lines = output.lines();
            let header: Vec<String> =
                lines.next().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
            (header, lines.next().unwrap_or_default().to_owned())
        };
        let (header, line) = columns(&["get", "modeldeployments"]);
        assert_eq!(header, ["NAME", "READY", "REASON", "NEEDS/GPU", "GPUS", "FITS", "AGE"]);
        assert!(line.starts_with("llama") && line.contains("True") && line.contains("GiB"), "{line}");
        let (header, line) = columns(&["get", "mdep", "-o", "wide"]);
        let wide = ["MODEL", "PRECISION", "WEIGHTS", "KV-CACHE", "BEST-NODE", "MESSAGE"];
        assert_eq!(header[7..], wide);
        assert!(line.contains("fp16") && line.contains("14.9 GiB") && line.contains("l4"), "{line}");
        // A terminal that is wide shows it on one line, whatever the message has to say.
        assert!(line.chars().count() <= 240, "{} columns: {line}", line.chars().count());
        for (selector, expect) in
            [("status.reason=Available", 1), ("status.reason=GpusBusy", 0), ("spec.engine.name=vllm", 1)]
        {
            let found = s.run(["get", "mdep", "--field-selector", selector, "-o", "name"]);
            assert_eq!(found.lines().count(), expect, "{selector}: {found}");
        }
        let category = s.run(["get", "loadline", "-o", "name"]);
        assert_eq!(category.trim(), "modeldeployment.loadline.dev/llama");
    });
}

#[test]
fn explain_describes_every_field() {
    scenario("explain", |s| {
        let described = [
            "modeldeployment",
            "mdep.spec",
            "mdep.spec.model",
            "mdep.spec.model.huggingFace",
            "mdep.spec.context",
            "mdep.spec.parallelism",
            "mdep.spec.engine",
            "mdep.spec.placement",
            "mdep.spec.training",
            "mdep.status",
            "mdep.status.estimate",
            "mdep.status.placement",
            "mdep.status.placement.nodes",
        ];
        for field in described {
            let output = s.run(["explain", field]);
            assert!(!output.contains("<no description>"), "{field}: {output}");
            assert!(!output.contains("<empty>"), "{field}: {output}");
        }
    });
}

#[test]
fn an_edit_is_followed() {
    scenario("edit", |s| {
        s.apply("llama", &spec());
        let before = s.wait_ready("llama", "True", "Available");
        let required = |object: &Value| object["status"]["estimate"]["requiredPerGpu"].as_i64().unwrap();
        s.run(["patch", "mdep", "llama", "--type=merge", "-p", r#"{"spec":{"context":{"length":32768}}}"#]);
        let after = s.wait("llama", "the estimate for 32768 tokens", |object| {
            current(object) && required(object) > required(&before)
        });
        assert!(
            after["status"]["observedGeneration"].as_i64() > before["status"]["observedGeneration"].as_i64()
        );
        // 24,576 more tokens, two caches of 32 layers with 8 heads of 128 in two bytes; and the margin.
        let growth = required(&after) - required(&before);
        let cache = 24_576 * 2 * 32 * 8 * 128 * 2;
        assert!(growth >= cache + cache / 5, "{growth} < {}", cache + cache / 5);
        // What no longer fits an L4 has moved off it.
        s.wait_ready("llama", "True", "Available");
        let nodes = s.wait_pods("llama", 1, 0);
        assert_ne!(nodes, ["l4"]);
    });
}

#[test]
fn an_edit_that_fits_nowhere_is_not_ready_while_the_old_pods_run_on() {
    scenario("outgrown", |s| {
        s.apply("llama", &spec());
        s.wait_ready("llama", "True", "Available");
        let size = r#"{"spec":{"model":{"parameters":"70B"}}}"#;
        s.run(["patch", "mdep", "llama", "--type=merge", "-p", size]);
        s.wait_pods("llama", 1, 1);
        let object = s.wait_ready("llama", "False", "GpuMemoryTooSmall");
        assert_eq!(object["status"]["readyReplicas"], 1);
        s.run(["patch", "mdep", "llama", "--type=merge", "-p", r#"{"spec":{"precision":"int4"}}"#]);
        s.wait_ready("llama", "True", "Available");
        s.wait_pods("llama", 1, 0);
    });
}

#[test]
fn delete_takes_the_workload_with_it() {
    scenario("delete", |s| {
        s.apply("llama", &spec());
        s.wait_pods("llama", 1, 0);
        s.run(["delete", "mdep", "llama", "--timeout=30s"]);
        s.wait_gone("deployment", "llama");
        s.wait_pods("llama", 0, 0);
    });
}

#[test]
fn a_deleted_workload_comes_back() {
    scenario("restore", |s| {
        s.apply("llama", &spec());
        s.wait_pods("llama", 1, 0);
        let uid = s.run(["get", "deployment", "llama", "-o", "jsonpath={.metadata.uid}"]);
        s.run(["delete", "deployment", "llama"]);
        eventually("another deployment", || {
            let deployment = s.get("deployment", "llama")?;
            let other = text(&deployment, "/metadata/uid");
            Ok((!other.is_empty() && other != uid).then_some(()))
        });
        s.wait_pods("llama", 1, 0);
    });
}

#[test]
fn what_keeps_pods_safe_is_put_back() {
    scenario("drift", |s| {
        s.apply("llama", &spec());
        s.wait_pods("llama", 1, 0);
        let affinity = "jsonpath={.spec.template.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution}";
        let before = s.run(["get", "deployment", "llama", "-o", affinity]);
        assert!(before.contains("nvidia.com/gpu.memory"), "{before}");
        // Whoever may change the Deployment can, for a moment, let its pods go anywhere: here, nowhere too small.
        s.run(["cordon", "t4", "cpu"]);
        let remove = r#"[{"op":"remove","path":"/spec/template/spec/affinity"}]"#;
        s.run(["patch", "deployment", "llama", "--type=json", "-p", remove]);
        eventually("the affinity to be back", || {
            let ran = s.kubectl(["get", "deployment", "llama", "-o", affinity])?;
            Ok((ran.output()? == before).then_some(()))
        });
    });
}

#[test]
fn events_come_once_for_each_change() {
    scenario("events", |s| {
        s.run(["cordon", "l4"]);
        let mut spec = spec();
        spec["placement"] = json!({"nodeSelector": {"nvidia.com/gpu.product": L4.product}});
        s.apply("llama", &spec);
        s.wait_ready("llama", "False", "NodeCordoned");
        s.run(["uncordon", "l4"]);
        s.wait_ready("llama", "True", "Available");
        let events = || {
            let events = s.run(["get", "events.events.k8s.io", "-o", "json"]);
            let events: Value = serde_json::from_str(&events).unwrap();
            let ours = items(&events).iter().filter(|event| event["regarding"]["kind"] == "ModelDeployment");
            let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
            for event in ours {
                *reasons.entry(text(event, "/reason").to_owned()).or_default() += 1;
                assert!(event["series"].is_null(), "repeated: {event:#}");
            }
            reasons
        };
        s.wait_quiet(std::time::Duration::from_secs(3));
        let events = events();
        assert_eq!(events.get("NodeCordoned"), Some(&1), "{events:?}");
        assert!(events.values().all(|&count| count == 1), "{events:?}");
        let described = s.run(["describe", "mdep", "llama"]);
        assert!(described.contains("NodeCordoned"), "{described}");
    });
}

/// Applying the same again is no change, and neither server nor client finds a difference.
#[test]
fn applying_again_changes_nothing() {
    scenario("again", |s| {
        s.apply("llama", &spec());
        let before = s.wait_ready("llama", "True", "Available");
        let mark = s.wait_quiet(std::time::Duration::from_secs(2));
        s.apply("llama", &spec());
        let manifest = model_deployment("llama", &spec()).to_string();
        let again = s.try_apply(&manifest).unwrap().output().unwrap();
        assert!(again.contains("unchanged"), "{again}");
        let after = s.get("mdep", "llama").unwrap();
        assert_eq!(before["metadata"]["resourceVersion"], after["metadata"]["resourceVersion"]);
        assert_eq!(s.writes_since(mark).unwrap(), Vec::<String>::new());
    });
}

/// Runs `loadline` as the administrator.
fn loadline(s: &Scenario, arguments: &[&str], input: &str) -> command::Ran {
    let mut command = Command::new(loadline_binary().unwrap());
    command.args(arguments).env("KUBECONFIG", &s.cluster.plane.kubeconfig);
    command::run(command, input).unwrap()
}

#[test]
fn a_namespace_that_is_not_there_is_no_plan() {
    scenario("nothing", |s| {
        let absent = loadline(s, &["plan", "-n", "nosuch"], "");
        assert_eq!((absent.code, absent.stdout.as_str()), (Some(1), ""), "{}", absent.stderr);
        assert!(absent.stderr.contains("no ModelDeployment in namespace nosuch"), "{}", absent.stderr);
        assert!(absent.stderr.contains("there is no namespace nosuch"), "{}", absent.stderr);
        // An empty one is there, as kubectl has it.
        let empty = loadline(s, &["plan", "-n", &s.namespace], "");
        assert_eq!(empty.code, Some(0), "{}", empty.stderr);
        assert!(empty.stderr.contains("note: no ModelDeployment in namespace nothing"), "{}", empty.stderr);
        let none = loadline(s, &["plan", "-A"], "");
        assert!(none.stderr.contains("no ModelDeployment in any namespace"), "{}", none.stderr);
    });
}

#[test]
fn plan_and_controller_say_the_same() {
    scenario("agree", |s| {
        s.add_node(&H200.node());
        s.run(["cordon", "a100"]);
        s.run(["taint", "node", "h100", "team=b:NoSchedule"]);
        let big = json!({"model": {"parameters": "70B"}, "precision": "bf16", "context": {"length": 8192}});
        let small = json!({"model": {"parameters": "8B"}, "precision": "int4", "context": {"length": 8192}});
        let objects = [("mid", spec()), ("big", big), ("small", small)];
        for (name, spec) in &objects {
            s.apply(name, spec);
        }
        s.wait_ready("mid", "True", "Available");
        s.wait_ready("small", "True", "Available");
        s.wait_ready("big", "False", "GpuMemoryTooSmall");
        // Once all is settled, the live cluster and a snapshot of it give what the status says.
        s.wait_quiet(std::time::Duration::from_secs(2));
        let manifest = objects.iter().map(|(name, spec)| {
            let mut object = model_deployment(name, spec);
            object["metadata"]["namespace"] = json!(s.namespace);
            object
        });
        let manifest = manifest.map(|object| object.to_string()).collect::<Vec<_>>().join("\n---\n");
        let live = loadline(s, &["plan", "-f", "-", "-o", "json"], &manifest);
        assert_eq!(live.code, Some(3), "one does not fit: {}", live.stderr);
        let snapshot = s.run(["get", "nodes,pods", "-A", "-o", "json"]);
        let file = s.cluster.plane.home.join("snapshot.json");
        std::fs::write(&file, snapshot).unwrap();
        let file = file.to_str().unwrap();
        let offline = loadline(s, &["plan", "-f", "-", "--snapshot", file, "-o", "json"], &manifest);
        assert_eq!(live.stdout, offline.stdout);
        let plan: Value = serde_json::from_str(&live.stdout).unwrap();
        let results = plan["results"].as_array().unwrap();
        assert_eq!(results.len(), objects.len());
        for result in results {
            // A status that differs in words only is written a little later.
            let said = verdicts(&result["nodes"]);
            assert_eq!(said.len(), 6, "{result:#}");
            let object = s.wait(text(result, "/name"), &format!("{said:#?}"), |object| {
                verdicts(&object["status"]["placement"]["nodes"]) == said
                    && condition_of(object, "Placeable")
                        .is_some_and(|placeable| placeable["message"] == result["message"])
            });
            let estimate = &object["status"]["estimate"];
            assert_eq!(result["estimate"]["requiredPerGpu"], estimate["requiredPerGpu"]);
        }
    });
}

/// By node: verdict, reason and message.
fn verdicts(nodes: &Value) -> BTreeMap<String, [String; 3]> {
    let nodes = nodes.as_array().cloned().unwrap_or_default();
    let fields = |node: &Value| ["/verdict", "/reason", "/message"].map(|field| text(node, field).to_owned());
    nodes.iter().map(|node| (text(node, "/name").to_owned(), fields(node))).collect()
}

#[test]
fn the_examples_are_what_they_say() {
    scenario("examples", |s| {
        // The examples' snapshot has RTX 4090s too; here they have to do without.
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
        // As anyone would try it: nothing but objects of ours is written, with all that is below.
        let applied = s.run(["apply", "-R", "-f", directory]);
        assert!(applied.lines().all(|line| line.starts_with("modeldeployment.loadline.dev/")), "{applied}");
        let mut names = Vec::new();
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let manifest = std::fs::read_to_string(&path).unwrap();
            if !manifest.contains("kind: ModelDeployment") {
                continue;
            }
            s.try_apply(&manifest).unwrap().output().unwrap();
            for document in manifest.split("\n---\n") {
                let object: Value = serde_yaml::from_str(document).unwrap();
                names.push(text(&object, "/metadata/name").to_owned());
            }
        }
        for name in &names {
            let object = s
                .wait(name, "a verdict", |object| current(object) && condition_of(object, "Ready").is_some());
            assert!(!message(&object).is_empty(), "{name}");
            assert_ne!(text(condition_of(&object, "Ready").unwrap(), "/reason"), "InvalidSpec", "{object:#}");
        }
        s.wait_ready("llama-8b-fp16", "True", "Available");
        assert_ne!(s.wait_pods("llama-8b-fp16", 1, 0), ["t4"]);
        s.wait_ready("llama-8b-int4", "True", "Available");
        s.wait_ready("llama-70b-tensor-4", "True", "Available");
        let nodes = s.wait_pods("llama-70b-tensor-4", 1, 0);
        assert!(["a100", "h100"].contains(&nodes[0].as_str()), "{nodes:?}");
        s.wait_ready("too-large", "False", "GpuMemoryTooSmall");
        s.wait_pods("too-large", 0, 1);
        // What is run is told which model to load; what is estimated only has no pods.
        let mut run = 0;
        for name in &names {
            let object = s.get("mdep", name).unwrap();
            let selector = format!("loadline.dev/model-deployment={name}");
            let pods: Value =
                serde_json::from_str(&s.run(["get", "pods", "-l", &selector, "-o", "json"])).unwrap();
            let serves = !object["spec"]["engine"].is_null() && object["spec"]["engine"]["name"] != "none";
            assert_eq!(!items(&pods).is_empty(), serves, "{name}: {pods:#}");
            for pod in items(&pods) {
                let arguments: Vec<&str> = pod["spec"]["containers"][0]["args"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .collect();
                let names_one = |pair: &[&str]| pair[0] == "--model" && pair[1].matches('/').count() == 1;
                assert!(arguments.windows(2).any(names_one), "{name}: {arguments:?}");
                run += 1;
            }
        }
        assert!(run >= 4, "only {run} pods");
    });
}

/// What a GitOps tool asks again and again: whether the cluster has what the repository has. Nothing that Loadline does to an object shows.
#[test]
fn what_is_applied_again_shows_no_difference() {
    scenario("gitops", |s| {
        let model = json!({"parameters": "8B"});
        let specs = [
            ("least", json!({"model": model})),
            ("runs", spec()),
            (
                "busy",
                json!({"model": {"parameters": "70B"}, "context": {"length": 8192}, "parallelism": {"tensor": "auto"}}),
            ),
            ("never", json!({"model": {"parameters": "9000B"}})),
            ("training", json!({"model": model, "training": {"method": "lora", "sequenceLength": 2048}})),
            (
                "template",
                json!({"model": model, "engine": {"name": "none"}, "template": {"spec": {"containers": [{"name": "m", "image": "m:1"}]}}}),
            ),
            (
                "estimate",
                json!({"model": {"catalog": "llama-3.1-8b"}, "engine": {"name": "none"}, "replicas": 0}),
            ),
        ];
        let list: Vec<Value> = specs.iter().map(|(name, spec)| model_deployment(name, spec)).collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": list}).to_string();
        let apply = ["apply", "--server-side", "--field-manager=gitops", "-f", "-"];
        s.kubectl_with_input(apply, &list).unwrap().output().unwrap();
        for (name, _) in &specs {
            s.wait(name, "to have been looked at", current);
        }
        s.kubectl_with_input(apply, &list).unwrap().output().unwrap();
        let diff = ["diff", "--server-side", "--field-manager=gitops", "-f", "-"];
        let shown = s.kubectl_with_input(diff, &list).unwrap();
        assert!(shown.success() && shown.stdout.is_empty(), "{}\n{}", shown.stdout, shown.stderr);
        for (name, wanted) in &specs {
            let object = s.run(["get", "mdep", name, "-o", "json", "--show-managed-fields"]);
            let object: Value = serde_json::from_str(&object).unwrap();
            assert_eq!(object["metadata"]["generation"], 1, "{name}");
            let managers = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
            let of_spec = managers.iter().filter(|one| !one["fieldsV1"]["f:spec"].is_null());
            let names: Vec<&str> = of_spec.map(|one| text(one, "/manager")).collect();
            assert_eq!(names, ["gitops"], "{name}: {wanted}");
        }
    });
}
