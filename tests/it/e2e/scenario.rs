//! One scenario on the shared cluster: a namespace of its own, waits that say what they saw, and at the end what must
//! hold after every scenario.

use std::ffi::OsString;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{bindings, honesty};
use crate::cluster::{self, CONTROLLER, Exclusive, PATIENCE, condition_of, items, text};
use crate::controlplane::harness::audit::Mark;
use crate::controlplane::harness::command::Ran;
use crate::controlplane::harness::wait::until;

/// Memory labels count as gone at once, so that a scenario need not wait.
const OPTIONS: [&str; 1] = ["--label-grace=0s"];
/// After so long without a write there is none to come: a status that changes in its words only is written no more
/// often than every half minute.
pub(crate) const SETTLED: Duration = Duration::from_secs(32);
/// An image that no one pulls here: kwok plays the pods.
const IMAGE: &str = "registry.example/engine:test";

/// The cluster, and where on it a scenario plays.
pub(crate) struct Scenario {
    pub(crate) cluster: Exclusive,
    pub(crate) namespace: String,
    started: Mark,
    /// From here on the API server knows the controller's rights.
    rights_known: Mark,
}

/// Plays a scenario with the controller running, and then checks what must hold after each.
pub(crate) fn scenario(namespace: &str, play: impl FnOnce(&mut Scenario)) {
    scenario_with(namespace, &OPTIONS, play);
}

/// The same, with the controller's options.
pub(crate) fn scenario_with(namespace: &str, options: &[&str], play: impl FnOnce(&mut Scenario)) {
    let mut cluster = cluster::exclusive();
    cluster.clean().unwrap();
    let started = cluster.mark().unwrap();
    cluster.run_controller(options).unwrap();
    cluster.create_namespace(namespace).unwrap();
    let mut scenario = Scenario { cluster, namespace: namespace.to_owned(), started, rights_known: started };
    play(&mut scenario);
    scenario.check_bindings();
    scenario.check_that_nothing_was_forbidden().unwrap();
}

/// A ModelDeployment, with an engine image, so that there is something to run.
pub(crate) fn model_deployment(name: &str, spec: &Value) -> Value {
    let mut spec = spec.clone();
    if spec.get("engine").is_none() && spec.get("training").is_none() {
        spec["engine"] = json!({"name": "vllm", "image": IMAGE});
    }
    json!({
        "apiVersion": "loadline.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name},
        "spec": spec,
    })
}

impl Scenario {
    /// Runs kubectl in the scenario's namespace.
    pub(crate) fn kubectl<S: AsRef<str>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<Ran> {
        self.kubectl_with_input(arguments, "")
    }

    /// The same, with something on its standard input.
    pub(crate) fn kubectl_with_input<S: AsRef<str>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
        input: &str,
    ) -> Result<Ran> {
        let namespace = format!("--namespace={}", self.namespace);
        let arguments = arguments.into_iter().map(|argument| OsString::from(argument.as_ref()));
        self.cluster.plane.kubectl_with_input([OsString::from(namespace)].into_iter().chain(arguments), input)
    }

    /// Runs kubectl, which is to succeed.
    #[track_caller]
    pub(crate) fn run<S: AsRef<str>>(&self, arguments: impl IntoIterator<Item = S>) -> String {
        self.kubectl(arguments).unwrap().output().unwrap()
    }

    /// `kubectl apply` of a manifest, however that ends.
    pub(crate) fn try_apply(&self, manifest: &str) -> Result<Ran> {
        self.kubectl_with_input(["apply", "-f", "-"], manifest)
    }

    /// `kubectl apply` of a ModelDeployment.
    #[track_caller]
    pub(crate) fn apply(&self, name: &str, spec: &Value) {
        self.try_apply(&model_deployment(name, spec).to_string()).unwrap().output().unwrap();
    }

    /// An object, null if it is not there.
    pub(crate) fn get(&self, kind: &str, name: &str) -> Result<Value> {
        let ran = self.kubectl(["get", kind, name, "-o", "json", "--ignore-not-found"])?;
        let output = ran.output()?;
        if output.trim().is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_str(&output)?) }
    }

    /// Waits until a ModelDeployment is as wanted, and returns it. What it was like at last is in the error.
    #[track_caller]
    pub(crate) fn wait(&self, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let found = until(&format!("{name}: {what}"), PATIENCE, || {
            last = self.get("modeldeployment", name)?;
            Ok(wanted(&last).then(|| last.clone()))
        });
        found.with_context(|| format!("status: {:#}", last["status"])).unwrap()
    }

    /// Waits until the status is about the present spec and its `Ready` condition has this status and reason.
    #[track_caller]
    pub(crate) fn wait_ready(&self, name: &str, status: &str, reason: &str) -> Value {
        self.wait(name, &format!("Ready {status} {reason}"), |object| {
            current(object)
                && condition_of(object, "Ready")
                    .is_some_and(|ready| ready["status"] == status && ready["reason"] == reason)
        })
    }

    /// Waits until a ModelDeployment's status says of a node that it has this reason; returns the message.
    #[track_caller]
    pub(crate) fn wait_node(&self, name: &str, node: &str, reason: &str) -> String {
        let object = self.wait(name, &format!("{node} {reason}"), |object| {
            current(object) && node_status(object, node).is_some_and(|status| status["reason"] == reason)
        });
        text(node_status(&object, node).unwrap(), "/message").to_owned()
    }

    /// Waits until so many pods of a ModelDeployment are bound and so many are not.
    #[track_caller]
    pub(crate) fn wait_pods(&self, name: &str, bound: usize, unbound: usize) -> Vec<String> {
        let mut last = Vec::new();
        let found = until(&format!("{bound} bound and {unbound} unbound pods of {name}"), PATIENCE, || {
            last = self.pods(name)?;
            let nodes: Vec<_> = last.iter().filter_map(|(_, node)| node.clone()).collect();
            Ok((nodes.len() == bound && last.len() == bound + unbound).then_some(nodes))
        });
        let mut nodes = found
            .with_context(|| {
                let object = self.get("modeldeployment", name).unwrap_or_default();
                format!("pods: {last:?}, status: {:#}", object["status"])
            })
            .unwrap();
        nodes.sort();
        nodes
    }

    /// The pods of a ModelDeployment and the nodes that they are bound to.
    pub(crate) fn pods(&self, name: &str) -> Result<Vec<(String, Option<String>)>> {
        let selector = format!("loadline.dev/model-deployment={name}");
        let list = self.kubectl(["get", "pods", "-l", &selector, "-o", "json"])?.json()?;
        let pods = items(&list).iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        Ok(pods
            .map(|pod| {
                let node = text(pod, "/spec/nodeName");
                (text(pod, "/metadata/name").to_owned(), (!node.is_empty()).then(|| node.to_owned()))
            })
            .collect())
    }

    /// Waits until there is nothing of this kind and name.
    #[track_caller]
    pub(crate) fn wait_gone(&self, kind: &str, name: &str) {
        until(&format!("{kind} {name} to go"), PATIENCE, || {
            Ok(self.get(kind, name)?.is_null().then_some(()))
        })
        .unwrap();
    }

    /// Adds a node.
    #[track_caller]
    pub(crate) fn add_node(&self, node: &Value) {
        self.cluster.create(&node.to_string()).unwrap();
    }

    /// Waits until nothing was written by the controller for some seconds, and returns where the log then ended.
    #[track_caller]
    pub(crate) fn wait_quiet(&self, quiet: Duration) -> Mark {
        let mut mark = self.cluster.mark().unwrap();
        let mut since = std::time::Instant::now();
        let found = until("the controller to have nothing to write", PATIENCE + 2 * quiet, || {
            if self.writes_since(mark)?.is_empty() {
                return Ok((since.elapsed() >= quiet).then_some(mark));
            }
            (mark, since) = (self.cluster.mark()?, std::time::Instant::now());
            Ok(None)
        });
        found.unwrap()
    }

    /// What the controller wrote since: events, statuses, workloads.
    pub(crate) fn writes_since(&self, mark: Mark) -> Result<Vec<String>> {
        let requests = self.cluster.requests_since(mark)?;
        let writes = requests.iter().filter(|request| request.user() == CONTROLLER && request.writes());
        Ok(writes
            .map(|request| {
                format!(
                    "{} {} {}/{}",
                    request.verb(),
                    request.resource(),
                    request.namespace(),
                    request.name()
                )
            })
            .collect())
    }

    /// No pod was bound below its requirement since the scenario began; returns how many were checked.
    #[track_caller]
    pub(crate) fn check_bindings(&self) -> usize {
        bindings::check(&self.cluster.requests_since(self.started).unwrap()).unwrap()
    }

    /// Ready was True only where replicas ran, at every status since the scenario began; returns how many were checked.
    #[track_caller]
    pub(crate) fn check_honesty(&self) -> usize {
        honesty::check(&self.cluster.requests_since(self.started).unwrap()).unwrap()
    }

    /// The controller was allowed all that it asked for: what the chart grants is enough.
    /// Refusals so far are none of the chart's: an API server that has just started refuses everyone until it has read the roles.
    pub(crate) fn forget_refusals(&mut self) {
        self.rights_known = self.cluster.mark().unwrap();
    }

    fn check_that_nothing_was_forbidden(&self) -> Result<()> {
        let requests = self.cluster.requests_since(self.rights_known)?;
        let forbidden: Vec<_> = requests
            .iter()
            .filter(|request| request.user() == CONTROLLER && request.answer() == 403)
            // Nobody may create anything in a namespace that is going.
            .filter(|request| !request.refusal().contains("because it is being terminated"))
            .map(|request| format!("{} {}", request.verb(), request.resource()))
            .collect();
        ensure!(forbidden.is_empty(), "the chart's rights are too few for {forbidden:?}");
        Ok(())
    }
}

/// Whether the status is about the present spec.
pub(crate) fn current(object: &Value) -> bool {
    let generation = &object["metadata"]["generation"];
    !generation.is_null() && object["status"]["observedGeneration"] == *generation
}

/// What the status says of a node.
pub(crate) fn node_status<'a>(object: &'a Value, node: &str) -> Option<&'a Value> {
    object["status"]["placement"]["nodes"].as_array()?.iter().find(|status| status["name"] == node)
}

/// The message of an object's `Ready` condition.
pub(crate) fn message(object: &Value) -> &str {
    condition_of(object, "Ready").map_or("", |ready| text(ready, "/message"))
}

/// Waits until a condition holds, within the usual time.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, look: impl FnMut() -> Result<Option<T>>) -> T {
    until(what, PATIENCE, look).unwrap()
}
