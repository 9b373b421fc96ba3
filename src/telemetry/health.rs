//! `/healthz`, `/readyz` and `/metrics`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use super::{Metrics, plain};

/// What must be true before the controller is ready.
#[derive(Debug, Default)]
pub struct Health {
    definition: AtomicBool,
    objects: AtomicBool,
    cluster: AtomicBool,
    stopping: AtomicBool,
    /// There are webhooks, which have no certificate yet.
    lacks_certificate: AtomicBool,
}

impl Health {
    /// The custom resource definition is there.
    pub fn definition_found(&self) {
        self.definition.store(true, Ordering::Relaxed);
    }

    /// The custom resource definition is gone.
    pub fn definition_lost(&self) {
        self.definition.store(false, Ordering::Relaxed);
    }

    /// All ModelDeployments and their Deployments have been read once.
    pub fn objects_read(&self) {
        self.objects.store(true, Ordering::Relaxed);
    }

    /// All nodes and pods have been read once.
    pub fn cluster_read(&self) {
        self.cluster.store(true, Ordering::Relaxed);
    }

    /// This replica waits to be the one that writes: it need not read what it is to write.
    pub fn stands_by(&self) {
        self.objects.store(true, Ordering::Relaxed);
    }

    /// There are webhooks: a certificate is needed.
    pub fn needs_certificate(&self) {
        self.lacks_certificate.store(true, Ordering::Relaxed);
    }

    /// The webhooks have a certificate.
    pub fn certificate_found(&self) {
        self.lacks_certificate.store(false, Ordering::Relaxed);
    }

    /// The process was told to stop.
    pub fn stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// What is still missing, in words; nothing when it is ready.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        [
            (
                self.definition.load(Ordering::Relaxed),
                "the CustomResourceDefinition modeldeployments.loadline.dev",
            ),
            (self.objects.load(Ordering::Relaxed), "the list of ModelDeployments and Deployments"),
            (self.cluster.load(Ordering::Relaxed), "the list of nodes and pods"),
            (!self.lacks_certificate.load(Ordering::Relaxed), "the webhooks' certificate"),
            (!self.stopping.load(Ordering::Relaxed), "time: the process is stopping"),
        ]
        .into_iter()
        .filter_map(|(there, what)| (!there).then_some(what))
        .collect()
    }
}

/// Answers on a listener until dropped.
pub async fn serve(listener: TcpListener, health: Arc<Health>, metrics: Arc<Metrics>) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(exposition))
        .with_state((health, metrics));
    axum::serve(listener, router).await
}

/// Listens on an address; the port 0 picks one.
pub async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

type Shared = (Arc<Health>, Arc<Metrics>);

async fn ready(State((health, _)): State<Shared>) -> Response {
    let missing = health.missing();
    if missing.is_empty() {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for {}\n", missing.join(", "))).into_response()
}

async fn exposition(State((_, metrics)): State<Shared>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let (kind, text) = match metrics.exposition() {
        Ok(text) if plain::is_wanted(accept) => (plain::PLAIN, plain::of(&text)),
        text => (plain::OPENMETRICS, text),
    };
    match text {
        Ok(text) => ([(header::CONTENT_TYPE, kind)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests;
