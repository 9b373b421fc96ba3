use kube::runtime::events::Reporter;
use kube::runtime::reflector::store;
use kube::runtime::watcher;
use serde_json::{Value, json};

use super::*;
use crate::cluster::PodsByOwner;
use crate::controller::gather::Secrets;
use crate::controller::testing::{Answer, Recorded, cluster, object, refusal};
use crate::inventory::testing::{golden, gpu_node};
use crate::inventory::{Inventory, Node};
use crate::plan::Permits;
use crate::source::{Settings, Sources};
use crate::world::{Decisions, Models, Planner, Promised};

const BASE: &str = "/apis/loadline.dev/v1alpha1/namespaces/team-a/modeldeployments/llama";

/// A controller beside an API server that answers by a function.
struct Harness {
    context: Arc<Context>,
    server: Recorded,
    children: store::Writer<Kept>,
    views: watch::Sender<Option<Arc<View>>>,
    woken: mpsc::UnboundedReceiver<ObjectRef<Guarded>>,
    told: mpsc::UnboundedReceiver<Key>,
}

impl Harness {
    fn new(
        nodes: Vec<Node>,
        answer: impl Fn(&str, &Value) -> Answer + Clone + Send + Sync + 'static,
    ) -> Self {
        Self::with(Settings { offline: true, ..Settings::default() }, nodes, answer)
    }

    fn with(
        settings: Settings,
        nodes: Vec<Node>,
        answer: impl Fn(&str, &Value) -> Answer + Clone + Send + Sync + 'static,
    ) -> Self {
        let server = Recorded::default();
        let client = server.client(answer);
        let (views, view) = watch::channel(Some(seen(1, nodes)));
        let mut children = store::Writer::<Kept>::default();
        children.apply_watcher_event(&watcher::Event::Init);
        children.apply_watcher_event(&watcher::Event::InitDone);
        let (wake, woken) = mpsc::unbounded_channel();
        let sources = Sources::new(settings).unwrap();
        let (models, told) = Models::new(sources, Secrets(client.clone()));
        let world = World {
            permits: Permits::default(),
            views: view,
            pods: PodsByOwner::default(),
            modes: crate::cluster::Modes::default(),
            required: crate::cluster::RequiredOfPods::default(),
            models,
            decisions: Decisions::default(),
            promised: Promised::default(),
            planner: Planner::default(),
            health: Arc::default(),
            metrics: Arc::default(),
        };
        let writer = Writer {
            client: client.clone(),
            deployments: children.as_reader(),
            deployments_read: watch::channel(true).1,
            config_maps: ConfigMaps::default(),
            requirements: Requirements::none(client.clone()),
            records: Records::default(),
            recorder: Recorder::new(client, Reporter { controller: "loadline".to_owned(), instance: None }),
            wake,
            images: Arc::default(),
        };
        let context = Arc::new(Context { world: Arc::new(world), writer, turns: Turns::new(4, 2) });
        Self { context, server, children, views, woken, told }
    }

    async fn reconcile(&self, object: &Guarded) -> Result<Action, Error> {
        reconcile(Arc::new(object.clone()), Arc::clone(&self.context)).await
    }

    /// The calls since the last time this was asked, without queries.
    fn calls(&self) -> Vec<String> {
        let calls = std::mem::take(&mut *self.server.0.lock().unwrap());
        calls.into_iter().map(|(call, _)| call.split('?').next().unwrap_or_default().to_owned()).collect()
    }
}

fn seen(version: u64, nodes: Vec<Node>) -> Arc<View> {
    Arc::new(View { version, inventory: cluster(nodes, Vec::new()) })
}

/// A server that has nothing, and takes everything.
fn willing(call: &str, body: &Value) -> Answer {
    if call.starts_with("GET") {
        return refusal(404, "NotFound", "not found");
    }
    let mut answer = body.clone();
    answer["metadata"]["resourceVersion"] = json!("11");
    (200, answer)
}

fn llama() -> Guarded {
    let spec = json!({"model": {"parameters": "8B"}, "context": {"length": 8192}, "engine": {"name": "vllm", "image": "pause:1"}});
    DeserializeGuard(Ok(object(&spec)))
}

/// The objects that a cluster leads to another decision for.
fn changed_by(harness: &Harness, inventory: &Inventory) -> Vec<Key> {
    let changed = std::sync::Mutex::new(Vec::new());
    let broken = harness
        .context
        .world
        .decisions
        .tell_changed(inventory, 0, |key| changed.lock().unwrap().push(key.clone()));
    assert_eq!(broken, []);
    changed.into_inner().unwrap()
}

/// A model that is on the Hub, which is never reached.
fn from_hub() -> ModelDeployment {
    let mut object = object(&json!({"model": {"huggingFace": {"repository": "org/name"}}, "replicas": 3}));
    object.status = Some(
        serde_json::from_value(json!({
            "observedGeneration": 3,
            "estimate": {"weights": 1, "kvCache": 1, "activations": 1, "overhead": 1, "total": 4, "required": 5,
                "requiredPerGpu": 5, "gpus": 1, "safetyMargin": "1.2", "confidence": "exact", "source": "safetensors"},
            "conditions": [],
        }))
        .unwrap(),
    );
    object
}

/// The Deployment of an object, as the watch shows it.
fn child(uid: &str, replicas: i32) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"namespace": "team-a", "name": "llama", "uid": "1b", "ownerReferences": [{
            "apiVersion": "loadline.dev/v1alpha1", "kind": "ModelDeployment", "name": "llama", "uid": uid, "controller": true,
        }]},
        "spec": {"replicas": replicas, "selector": {}, "template": {}},
        "status": {"replicas": replicas, "readyReplicas": 1},
    }))
    .unwrap()
}

fn name() -> Key {
    ("team-a".to_owned(), "llama".to_owned())
}

#[tokio::test]
async fn an_object_is_settled_once_and_then_left_in_peace() {
    let mut harness = Harness::new(golden(), willing);
    harness.reconcile(&llama()).await.unwrap();
    let requests = harness.server.requests();
    assert_eq!(
        harness.calls(),
        [
            "GET /apis/apps/v1/namespaces/team-a/deployments/llama".to_owned(),
            "PATCH /apis/apps/v1/namespaces/team-a/deployments/llama".to_owned(),
            format!("PATCH {BASE}/status"),
            "POST /apis/events.k8s.io/v1/namespaces/team-a/events".to_owned(),
        ]
    );
    let status = &requests[2].1["status"];
    assert_eq!(status["observedGeneration"], 3);
    assert_eq!(status["conditions"][0]["reason"], "Progressing");
    let event = &requests[3].1;
    assert_eq!((&event["reason"], &event["type"]), (&json!("Progressing"), &json!("Normal")));
    assert_eq!(event["regarding"]["name"], "llama");

    // The watch has seen the Deployment, and not yet the status.
    let deployment: Deployment = serde_json::from_value(requests[1].1.clone()).unwrap();
    harness.children.apply_watcher_event(&watcher::Event::Apply(Kept::pack(deployment).unwrap()));
    for _ in 0..3 {
        harness.reconcile(&llama()).await.unwrap();
    }
    assert_eq!(harness.calls(), [""; 0]);

    // And now it has seen the status too.
    let mut caught_up = object(&serde_json::to_value(&llama().0.unwrap().spec).unwrap());
    caught_up.metadata.resource_version = Some("11".to_owned());
    caught_up.status = Some(serde_json::from_value(status.clone()).unwrap());
    harness.reconcile(&DeserializeGuard(Ok(caught_up))).await.unwrap();
    assert_eq!(harness.calls(), [""; 0]);
}

#[tokio::test]
async fn a_malformed_object_is_told_that_it_is() {
    let live = json!({
        "apiVersion": "loadline.dev/v1alpha1", "kind": "ModelDeployment",
        "metadata": {"namespace": "team-a", "name": "llama", "uid": "0a", "generation": 3, "resourceVersion": "10"},
        "spec": {"model": 7},
    });
    let harness = Harness::new(golden(), move |call: &str, body: &Value| {
        if call == format!("GET {BASE}") { (200, live.clone()) } else { willing(call, body) }
    });
    let invalid = InvalidObject {
        error: "invalid type: integer `7`".to_owned(),
        metadata: object(&json!({"model": {}})).metadata,
    };
    let malformed = DeserializeGuard(Err(invalid));
    harness.reconcile(&malformed).await.unwrap();
    let requests = harness.server.requests();
    assert_eq!(
        harness.calls(),
        [
            format!("GET {BASE}"),
            format!("PATCH {BASE}/status"),
            "POST /apis/events.k8s.io/v1/namespaces/team-a/events".to_owned(),
        ]
    );
    let conditions = requests[1].1["status"]["conditions"].as_array().unwrap();
    assert_eq!(
        (&conditions[0]["status"], &conditions[0]["reason"]),
        (&json!("False"), &json!("InvalidSpec"))
    );
    assert_eq!((&conditions[4]["type"], &conditions[4]["status"]), (&json!("Stalled"), &json!("True")));
    harness.reconcile(&malformed).await.unwrap();
    assert_eq!(harness.calls(), [format!("GET {BASE}")], "it is told once");
}

#[tokio::test]
async fn an_object_that_is_being_deleted_is_left_alone() {
    let harness = Harness::new(golden(), willing);
    harness.reconcile(&llama()).await.unwrap();
    harness.calls();
    let mut deleted = object(&json!({"model": {"parameters": "8B"}}));
    deleted.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
    let action = harness.reconcile(&DeserializeGuard(Ok(deleted))).await.unwrap();
    assert_eq!((action, harness.calls().len()), (Action::await_change(), 0));
    assert!(changed_by(&harness, &Inventory::default()).is_empty(), "it is forgotten");
}

#[tokio::test]
async fn only_what_a_change_of_the_cluster_concerns_is_woken() {
    let harness = Harness::new(golden(), willing);
    harness.reconcile(&llama()).await.unwrap();
    let woken = |nodes| changed_by(&harness, &cluster(nodes, Vec::new()));
    assert_eq!(woken(golden()), [], "nothing has changed");
    let mut labelled = golden();
    labelled[0].labels.insert("team".to_owned(), "a".to_owned());
    assert_eq!(woken(labelled), [], "a label that nobody selects by");
    let mut more = golden();
    more.push(gpu_node("l4-2", 23034, 4));
    assert_eq!(woken(more), [name()]);
    let mut fewer = golden();
    fewer.retain(|node| node.name != "l4");
    assert_eq!(woken(fewer), [name()]);
}

#[tokio::test]
async fn words_and_counts_are_not_written_at_once_and_verdicts_are() {
    let harness = Harness::new(golden(), willing);
    harness.reconcile(&llama()).await.unwrap();
    harness.calls();
    let busier = |gpus| {
        let pods = vec![crate::inventory::testing::gpu_pod("other", "h100", gpus)];
        Some(Arc::new(View { version: 2, inventory: cluster(golden(), pods) }))
    };
    let written = |calls: Vec<String>| calls.contains(&format!("PATCH {BASE}/status"));
    harness.views.send_replace(busier(1));
    let action = harness.reconcile(&llama()).await.unwrap();
    assert!(!written(harness.calls()));
    assert_ne!(action, Action::requeue(AGAIN), "it comes back for them");
    harness.views.send_replace(busier(4));
    let action = harness.reconcile(&llama()).await.unwrap();
    assert!(!written(harness.calls()), "a node less fits, and others still do");
    assert_ne!(action, Action::requeue(AGAIN), "it comes back for that too");
    harness.views.send_replace(Some(seen(3, Vec::new())));
    harness.reconcile(&llama()).await.unwrap();
    assert!(written(harness.calls()), "no node fits any more");
}

#[tokio::test]
async fn a_change_of_the_cluster_while_an_object_is_planned_is_not_missed() {
    let mut harness = Harness::new(golden(), willing);
    harness.reconcile(&llama()).await.unwrap();
    assert!(harness.woken.try_recv().is_err());
    // The view that is taken is the newest; one that is published in between is told by its version.
    let old = seen(1, golden());
    harness.views.send_replace(Some(seen(2, Vec::new())));
    let (world, writer) = (&harness.context.world, &harness.context.writer);
    let places = Places {
        client: &writer.client,
        models: &world.models,
        config_maps: &writer.config_maps,
        permits: &harness.context.world.permits,
    };
    let shape = match gather::gather(places, &name(), Some(3), &llama().0.unwrap().spec).await.unwrap() {
        Gathered::Model(shape, _) => shape,
        other => panic!("{other:?}"),
    };
    let object = llama().0.unwrap();
    let resolved = resolve::resolve(&object, &shape, &old.inventory, Present::default(), |_| None);
    harness.context.track(&name(), resolved.tracked, &old);
    assert_eq!(harness.woken.try_recv().map(|object| object.name), Ok("llama".to_owned()));
}

#[tokio::test]
async fn a_status_stands_until_its_model_has_been_read_and_the_replicas_are_brought_up_to_date() {
    // Nobody listens there: a Hub that is down.
    let endpoint = "http://127.0.0.1:9".to_owned();
    let down = Settings { endpoint, attempts: 1, proxy_from_environment: false, ..Settings::default() };
    let mut harness = Harness::with(down, golden(), willing);
    harness.children.apply_watcher_event(&watcher::Event::Apply(Kept::pack(child("0a", 1)).unwrap()));
    let mut object = from_hub();
    harness.reconcile(&DeserializeGuard(Ok(object.clone()))).await.unwrap();
    let scaled = ["PATCH /apis/apps/v1/namespaces/team-a/deployments/llama"];
    assert_eq!(harness.calls(), scaled, "no status, no event");
    harness.children.apply_watcher_event(&watcher::Event::Apply(Kept::pack(child("0a", 3)).unwrap()));
    // It has been tried, and the outage told.
    assert_eq!(harness.told.recv().await, Some(name()));
    harness.reconcile(&DeserializeGuard(Ok(object.clone()))).await.unwrap();
    assert_eq!(harness.calls(), [""; 0]);
    // It was scaled: the status is of the generation before, and of the same model.
    (object.spec.replicas, object.metadata.generation) = (5, Some(4));
    harness.reconcile(&DeserializeGuard(Ok(object.clone()))).await.unwrap();
    assert_eq!(harness.calls(), scaled);
    // Another model is another matter.
    object.metadata.generation = Some(5);
    object.spec.model.hugging_face.as_mut().unwrap().repository = "org/other".to_owned();
    harness.reconcile(&DeserializeGuard(Ok(object))).await.unwrap();
    assert!(harness.calls().contains(&format!("PATCH {BASE}/status")));
}

#[tokio::test]
async fn what_was_never_estimated_is_pending_and_then_has_what_was_found() {
    let mut harness = Harness::new(golden(), willing);
    let mut object = from_hub();
    object.status = None;
    let reason = |requests: &[(String, Value)]| {
        let status = requests.iter().rfind(|(call, _)| call.contains("/status"));
        status.map(|(_, body)| body["status"]["conditions"][0]["reason"].clone())
    };
    harness.reconcile(&DeserializeGuard(Ok(object.clone()))).await.unwrap();
    assert_eq!(reason(&harness.server.requests()), Some(json!("EstimatePending")));
    assert_eq!(harness.told.recv().await, Some(name()));
    harness.reconcile(&DeserializeGuard(Ok(object))).await.unwrap();
    assert_eq!(
        reason(&harness.server.requests()),
        Some(json!("ModelNotResolved")),
        "the Hub is not to be used"
    );
}

#[tokio::test]
async fn a_malformed_object_reports_what_runs() {
    let live = json!({
        "apiVersion": "loadline.dev/v1alpha1", "kind": "ModelDeployment",
        "metadata": {"namespace": "team-a", "name": "llama", "uid": "0a", "generation": 3, "resourceVersion": "10"},
        "spec": {"model": 7},
    });
    for (uid, replicas) in [("0a", 2), ("another", 0)] {
        let live = live.clone();
        let mut harness = Harness::new(golden(), move |call: &str, body: &Value| {
            if call == format!("GET {BASE}") { (200, live.clone()) } else { willing(call, body) }
        });
        harness.children.apply_watcher_event(&watcher::Event::Apply(Kept::pack(child(uid, 2)).unwrap()));
        let invalid =
            InvalidObject { error: "invalid".to_owned(), metadata: object(&json!({"model": {}})).metadata };
        harness.reconcile(&DeserializeGuard(Err(invalid))).await.unwrap();
        let requests = harness.server.requests();
        assert_eq!(requests[1].1["status"]["replicas"].as_i64().unwrap_or(0), replicas, "{uid}");
    }
}

#[tokio::test]
async fn a_failure_is_counted_and_a_success_forgets_it() {
    let harness = Harness::new(golden(), |call: &str, body: &Value| {
        if call.contains("/status") { refusal(500, "InternalError", "etcd") } else { willing(call, body) }
    });
    let error = harness.reconcile(&llama()).await.unwrap_err();
    assert_eq!(error.category(), "status");
    let waits: Vec<Action> = (0..2).map(|_| after_failure(&llama(), &error, &harness.context)).collect();
    assert_eq!(waits, [Action::requeue(Duration::from_millis(500)), Action::requeue(Duration::from_secs(1))]);
    assert!(!harness.calls().iter().any(|call| call.starts_with("POST")), "no event without a status");
}

#[tokio::test]
async fn an_event_that_is_lost_fails_nothing() {
    let harness = Harness::new(golden(), |call: &str, body: &Value| {
        if call.starts_with("POST") { refusal(403, "Forbidden", "events") } else { willing(call, body) }
    });
    harness.reconcile(&llama()).await.unwrap();
}
