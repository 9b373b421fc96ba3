//! What a pod of a ModelDeployment says of how it fares: in the words of kube-scheduler, the kubelet and the container.

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;

use super::MODEL_DEPLOYMENT_LABEL;

/// The longest message that is kept of any one, in bytes.
pub const MAX_MESSAGE: usize = 2048;
/// The longest reason, in bytes: a reason is one word, but nothing holds whoever writes a pod's status to that.
const MAX_REASON: usize = 128;
/// The most containers of one pod that are kept.
const MAX_CONTAINERS: usize = 32;
/// The label by which a ReplicaSet tells the pods of its template.
const TEMPLATE_HASH: &str = "pod-template-hash";

/// A reason and its message, as whoever gave them wrote them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Said {
    /// One word.
    pub reason: String,
    /// A sentence, of at most [`MAX_MESSAGE`] bytes; may be empty.
    pub message: String,
}

/// How one run of a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Termination {
    /// `OOMKilled`, `Error`, `Completed`, …
    pub reason: String,
    /// The exit code.
    pub exit_code: i32,
    /// The end of what it left in its termination message: what went wrong comes last. At most [`MAX_MESSAGE`] bytes.
    pub message: String,
    /// When it began to run.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

/// How a container fares.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ContainerFacts {
    /// Its name.
    pub name: String,
    /// Whether it is an init container (or a sidecar, which is one that stays).
    pub init: bool,
    /// Whether it is ready.
    pub ready: bool,
    /// How often it was started again.
    pub restarts: i32,
    /// Since when it runs, if it does.
    pub running_since: Option<Timestamp>,
    /// Why it waits, if it does: `ImagePullBackOff`, `CrashLoopBackOff`, `CreateContainerConfigError`, …
    pub waiting: Option<Said>,
    /// How it ended, if it is not to run again.
    pub terminated: Option<Termination>,
    /// How its last run ended, if it was started again.
    pub last_termination: Option<Termination>,
}

/// How a pod fares.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PodFacts {
    /// Its name.
    pub name: String,
    /// The hash of the template that it was made of, where a ReplicaSet made it.
    pub template_hash: Option<String>,
    /// The node that it is bound to.
    pub node: Option<String>,
    /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`; empty before anybody has said so.
    pub phase: String,
    /// Whether it is ready to serve.
    pub ready: bool,
    /// Why kube-scheduler does not bind it, in its own words.
    pub unscheduled: Option<Said>,
    /// Why it is in its phase, where the pod as a whole says: `Evicted`, `UnexpectedAdmissionError`, `NodeLost`, …
    pub said: Option<Said>,
    /// Its containers, init containers first.
    pub containers: Vec<ContainerFacts>,
    /// When its node took it on.
    pub started_at: Option<Timestamp>,
    /// When it is to be gone, if it is being deleted.
    pub deleted_at: Option<Timestamp>,
}

impl PodFacts {
    /// What a pod says of itself.
    #[must_use]
    pub fn from_object(pod: &core::Pod) -> Self {
        let metadata = &pod.metadata;
        let status = pod.status.as_ref();
        let condition = |kind: &str| {
            let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
            conditions.iter().find(|condition| condition.type_ == kind)
        };
        let unscheduled = condition("PodScheduled").filter(|condition| condition.status == "False");
        let (init, own) = status.map_or((&[][..], &[][..]), |status| {
            (
                status.init_container_statuses.as_deref().unwrap_or_default(),
                status.container_statuses.as_deref().unwrap_or_default(),
            )
        });
        let init = init.iter().map(|container| facts_of(container, true));
        let containers = init.chain(own.iter().map(|container| facts_of(container, false)));
        Self {
            name: metadata.name.clone().unwrap_or_default(),
            template_hash: metadata.labels.as_ref().and_then(|labels| labels.get(TEMPLATE_HASH)).cloned(),
            node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).filter(|node| !node.is_empty()),
            phase: head(status.and_then(|status| status.phase.as_deref()), MAX_REASON),
            ready: condition("Ready").is_some_and(|condition| condition.status == "True"),
            unscheduled: unscheduled
                .map(|condition| said(condition.reason.as_deref(), condition.message.as_deref())),
            said: status
                .filter(|status| status.reason.is_some() || status.message.is_some())
                .map(|status| said(status.reason.as_deref(), status.message.as_deref())),
            containers: containers.take(MAX_CONTAINERS).collect(),
            started_at: status.and_then(|status| status.start_time.as_ref()).map(|time| time.0),
            deleted_at: metadata.deletion_timestamp.as_ref().map(|time| time.0),
        }
    }

    /// Whether it is still to be bound, and kube-scheduler says that a node lacks free GPUs of this resource for it.
    #[must_use]
    pub fn waits_for(&self, resource: &str) -> bool {
        let lacks = format!("Insufficient {resource}");
        self.node.is_none()
            && self.deleted_at.is_none()
            && self.unscheduled.as_ref().is_some_and(|said| said.message.contains(&lacks))
    }

    /// The namespace and name of the ModelDeployment that a pod serves, by its label.
    #[must_use]
    pub fn owner_of(pod: &core::Pod) -> Option<(String, String)> {
        let name = pod.metadata.labels.as_ref()?.get(MODEL_DEPLOYMENT_LABEL)?;
        Some((pod.metadata.namespace.clone().unwrap_or_default(), name.clone()))
    }

    /// How often its containers were started again, together.
    #[must_use]
    pub fn restarts(&self) -> i32 {
        self.containers.iter().fold(0, |sum, container| sum.saturating_add(container.restarts))
    }
}

fn facts_of(status: &core::ContainerStatus, init: bool) -> ContainerFacts {
    let state = status.state.as_ref();
    let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    ContainerFacts {
        name: status.name.clone(),
        init,
        ready: status.ready,
        restarts: status.restart_count,
        running_since: state.and_then(|state| state.running.as_ref()?.started_at.as_ref()).map(|time| time.0),
        waiting: state
            .and_then(|state| state.waiting.as_ref())
            .map(|waiting| said(waiting.reason.as_deref(), waiting.message.as_deref())),
        terminated: state.and_then(|state| state.terminated.as_ref()).map(termination),
        last_termination: last.map(termination),
    }
}

fn termination(ended: &core::ContainerStateTerminated) -> Termination {
    Termination {
        reason: head(ended.reason.as_deref(), MAX_REASON),
        exit_code: ended.exit_code,
        message: tail(ended.message.as_deref().unwrap_or_default()).to_owned(),
        started_at: ended.started_at.as_ref().map(|time| time.0),
        finished_at: ended.finished_at.as_ref().map(|time| time.0),
    }
}

fn said(reason: Option<&str>, message: Option<&str>) -> Said {
    Said { reason: head(reason, MAX_REASON), message: head(message, MAX_MESSAGE) }
}

/// The beginning of a text.
fn head(text: Option<&str>, most: usize) -> String {
    let text = text.unwrap_or_default();
    text.get(..text.floor_char_boundary(most)).unwrap_or_default().to_owned()
}

/// The end of a text.
fn tail(text: &str) -> &str {
    let from = text.ceil_char_boundary(text.len().saturating_sub(MAX_MESSAGE));
    text.get(from..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn facts(status: &Value) -> PodFacts {
        let pod = json!({
            "metadata": {
                "namespace": "team-a", "name": "llama-5d4-x", "deletionTimestamp": "2026-01-01T00:02:00Z",
                "labels": {"loadline.dev/model-deployment": "llama", "pod-template-hash": "5d4"},
            },
            "spec": {"nodeName": "", "containers": []},
            "status": status,
        });
        PodFacts::from_object(&serde_json::from_value(pod).unwrap())
    }

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_pod_that_is_not_bound_speaks_in_the_schedulers_words() {
        let message = "0/5 nodes are available: 5 Insufficient nvidia.com/gpu.";
        let waits = facts(&json!({"phase": "Pending", "conditions": [
            {"type": "Ready", "status": "False"},
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message},
        ]}));
        let expected = PodFacts {
            name: "llama-5d4-x".to_owned(),
            template_hash: Some("5d4".to_owned()),
            phase: "Pending".to_owned(),
            unscheduled: Some(Said { reason: "Unschedulable".to_owned(), message: message.to_owned() }),
            deleted_at: Some(time("2026-01-01T00:02:00Z")),
            ..PodFacts::default()
        };
        assert_eq!(waits, expected);
        let bound = facts(&json!({"conditions": [{"type": "PodScheduled", "status": "True"}]}));
        assert_eq!((bound.unscheduled, bound.phase.as_str()), (None, ""));
    }

    #[test]
    fn containers_say_why_they_wait_and_how_they_ended() {
        let out_of_memory = json!({"reason": "OOMKilled", "exitCode": 137, "message": "CUDA out of memory",
            "startedAt": "2026-01-01T00:00:10Z", "finishedAt": "2026-01-01T00:01:00Z"});
        let pod = facts(&json!({
            "phase": "Running", "startTime": "2026-01-01T00:00:00Z",
            "initContainerStatuses": [{"name": "fetch", "ready": true, "restartCount": 0, "image": "", "imageID": "",
                "state": {"terminated": {"reason": "Completed", "exitCode": 0}}}],
            "containerStatuses": [
                {"name": "model", "ready": false, "restartCount": 4, "image": "", "imageID": "",
                    "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 2m40s"}},
                    "lastState": {"terminated": out_of_memory}},
                {"name": "proxy", "ready": true, "restartCount": 1, "image": "", "imageID": "",
                    "state": {"running": {"startedAt": "2026-01-01T00:00:05Z"}}},
            ],
        }));
        let [fetch, model, proxy] = pod.containers.as_slice() else { panic!("{:?}", pod.containers) };
        assert_eq!((pod.restarts(), pod.started_at), (5, Some(time("2026-01-01T00:00:00Z"))));
        assert_eq!((fetch.init, fetch.terminated.as_ref().map(|ended| ended.exit_code)), (true, Some(0)));
        assert_eq!(model.waiting.as_ref().map(|waiting| waiting.reason.as_str()), Some("CrashLoopBackOff"));
        assert_eq!(
            model.last_termination,
            Some(Termination {
                reason: "OOMKilled".to_owned(),
                exit_code: 137,
                message: "CUDA out of memory".to_owned(),
                started_at: Some(time("2026-01-01T00:00:10Z")),
                finished_at: Some(time("2026-01-01T00:01:00Z")),
            })
        );
        assert_eq!((proxy.ready, proxy.running_since), (true, Some(time("2026-01-01T00:00:05Z"))));
    }

    #[test]
    fn an_eviction_is_said_by_the_pod_itself() {
        let evicted = facts(&json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}));
        let said = Said { reason: "Evicted".to_owned(), message: "low on memory".to_owned() };
        assert_eq!((evicted.phase.as_str(), evicted.said), ("Failed", Some(said)));
    }

    #[test]
    fn long_messages_are_cut_where_they_matter_least() {
        let long = format!("{}RuntimeError: no memory", "ä".repeat(3000));
        let pod = facts(&json!({
            "message": format!("Evicted first {}", "ü".repeat(3000)),
            "containerStatuses": [{"name": "model", "ready": false, "restartCount": 0, "image": "", "imageID": "",
                "state": {"terminated": {"exitCode": 1, "message": long}}}],
        }));
        let said = pod.said.unwrap().message;
        let ended = pod.containers[0].terminated.as_ref().unwrap().message.as_str();
        assert!(said.starts_with("Evicted first ") && said.len() <= MAX_MESSAGE, "{}", said.len());
        assert!(ended.ends_with("RuntimeError: no memory") && ended.len() <= MAX_MESSAGE, "{}", ended.len());
    }

    #[test]
    fn the_owner_is_named_by_the_label() {
        let pod = |labels: Value| {
            let pod = json!({"metadata": {"namespace": "team-a", "name": "p", "labels": labels}});
            PodFacts::owner_of(&serde_json::from_value(pod).unwrap())
        };
        let llama = json!({"loadline.dev/model-deployment": "llama"});
        assert_eq!(pod(llama), Some(("team-a".to_owned(), "llama".to_owned())));
        assert_eq!((pod(json!({"app": "web"})), pod(Value::Null)), (None, None));
    }
}
