//! As much of an API server as the controller needs, kept in memory: lists in pages, watches, and writes that come back as
//! events. Nothing is defaulted, judged or garbage-collected.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Who watches: a resource, a label that is wanted, and where events go.
type Watcher = (String, Option<String>, UnboundedSender<Bytes>);

#[derive(Default)]
struct Objects {
    /// By resource and path.
    all: BTreeMap<(String, String), Value>,
    watchers: Vec<Watcher>,
    version: u64,
}

/// The server.
#[derive(Clone, Default)]
pub(crate) struct ApiServer {
    objects: Arc<Mutex<Objects>>,
    /// Statuses that were written.
    pub(crate) statuses: Arc<AtomicU64>,
    /// Deployments that were applied.
    pub(crate) deployments: Arc<AtomicU64>,
}

impl ApiServer {
    /// Starts to serve, on a runtime that lasts as long as the process.
    pub(crate) fn start(&self) -> SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("it is bound");
        let application = axum::Router::new().fallback(answer).with_state(self.clone());
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
                axum::serve(listener, application).await.expect("it serves");
            });
        });
        address
    }

    /// Puts an object there, and tells those who watch.
    pub(crate) fn put(&self, resource: &str, mut object: Value) -> Value {
        let mut objects = self.objects.lock().expect("no panic");
        objects.version += 1;
        let path = format!("{}/{}", text(&object, "/metadata/namespace"), text(&object, "/metadata/name"));
        let before = objects.all.get(&(resource.to_owned(), path.clone())).cloned();
        let metadata = object["metadata"].as_object_mut().expect("metadata");
        metadata.insert("resourceVersion".to_owned(), json!(objects.version.to_string()));
        metadata.insert("uid".to_owned(), json!(format!("{resource}-{path}")));
        metadata.insert("generation".to_owned(), json!(1));
        metadata.insert("creationTimestamp".to_owned(), json!("2026-01-01T00:00:00Z"));
        let kind = if before.is_some() { "MODIFIED" } else { "ADDED" };
        let event = Bytes::from(format!("{}\n", json!({"type": kind, "object": object})));
        objects.watchers.retain(|(watched, label, events)| {
            watched != resource || !carries(&object, label.as_deref()) || events.send(event.clone()).is_ok()
        });
        objects.all.insert((resource.to_owned(), path), object.clone());
        object
    }

    fn get(&self, resource: &str, path: &str) -> Option<Value> {
        self.objects.lock().expect("no panic").all.get(&(resource.to_owned(), path.to_owned())).cloned()
    }

    fn list(&self, resource: &str, label: Option<&str>, query: &BTreeMap<String, String>) -> Value {
        let objects = self.objects.lock().expect("no panic");
        let number = |key: &str| query.get(key).and_then(|text| text.parse::<usize>().ok());
        let (from, most) = (number("continue").unwrap_or(0), number("limit").unwrap_or(usize::MAX));
        let of = objects.all.iter().filter(|((of, _), object)| of == resource && carries(object, label));
        let mut rest = of.skip(from).map(|(_, object)| object);
        let items: Vec<&Value> = rest.by_ref().take(most).collect();
        let next = rest.next().map(|_| (from + items.len()).to_string());
        json!({"kind": "List", "apiVersion": "v1", "items": items,
            "metadata": {"resourceVersion": objects.version.to_string(), "continue": next}})
    }

    fn watch(&self, resource: &str, label: Option<String>) -> UnboundedReceiver<Bytes> {
        let (events, told) = unbounded_channel();
        self.objects.lock().expect("no panic").watchers.push((resource.to_owned(), label, events));
        told
    }
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Whether an object carries a label, `key` or `key=value`.
fn carries(object: &Value, label: Option<&str>) -> bool {
    label.is_none_or(|label| {
        let (key, value) = label.split_once('=').map_or((label, None), |(key, value)| (key, Some(value)));
        let found = object["metadata"]["labels"].get(key).and_then(Value::as_str);
        found.is_some() && (value.is_none() || found == value)
    })
}

/// What follows the group and the version: the namespace if one is named, the resource, the name and the subresource.
fn parts(path: &str) -> (String, Vec<&str>) {
    let skipped = if path.starts_with("/api/") { 2 } else { 3 };
    let mut rest: Vec<&str> = path.trim_matches('/').split('/').skip(skipped).collect();
    if rest.first() == Some(&"namespaces") && rest.len() > 2 {
        let namespace = rest[1].to_owned();
        return (namespace, rest.split_off(2));
    }
    (String::new(), rest)
}

async fn answer(State(server): State<ApiServer>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let decoded = |text: &str| text.replace("%2F", "/").replace("%3D", "=").replace("%2C", ",");
    let query: BTreeMap<String, String> = request
        .uri()
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.to_owned(), decoded(value)))
        .collect();
    let (namespace, rest) = parts(&path);
    let resource = rest.first().copied().unwrap_or_default();
    let label = query.get("labelSelector").filter(|label| !label.is_empty()).cloned();
    let method = request.method().clone();
    let body = to_bytes(request.into_body(), usize::MAX).await.unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    if method == Method::GET && rest.len() == 1 {
        if query.get("watch").is_some_and(|watch| watch == "true" || watch == "1") {
            let events = futures::stream::unfold(server.watch(resource, label), |mut told| async move {
                let event = told.recv().await?;
                Some((Ok::<_, Infallible>(event), told))
            });
            return ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(events)).into_response();
        }
        return reply(StatusCode::OK, &server.list(resource, label.as_deref(), &query));
    }
    let place = format!("{namespace}/{}", rest.get(1).copied().unwrap_or_default());
    match (method, resource, rest.get(2).copied()) {
        (Method::PATCH, "modeldeployments", Some("status")) => {
            let Some(mut object) = server.get(resource, &place) else { return absent(&path) };
            object["status"] = body["status"].clone();
            server.statuses.fetch_add(1, Ordering::Relaxed);
            reply(StatusCode::OK, &server.put(resource, object))
        }
        (Method::PATCH, "deployments", None) => {
            server.deployments.fetch_add(1, Ordering::Relaxed);
            let mut object = body;
            object["status"] = json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1,
                "readyReplicas": 1});
            reply(StatusCode::OK, &server.put(resource, object))
        }
        (Method::GET, _, _) => server
            .get(resource, &place)
            .map_or_else(|| absent(&path), |object| reply(StatusCode::OK, &object)),
        _ => reply(StatusCode::CREATED, &body),
    }
}

fn reply(status: StatusCode, object: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], object.to_string()).into_response()
}

fn absent(path: &str) -> Response {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 404,
        "reason": "NotFound", "message": format!("{path} not found")});
    reply(StatusCode::NOT_FOUND, &status)
}
