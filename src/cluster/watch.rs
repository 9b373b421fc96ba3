//! Watches nodes and pods and publishes what they come to. One task, which ends when it is dropped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::index::Index;
use super::label_memory::LabelMemory;
use crate::inventory::{Inventory, Sources};

/// How long changes are collected before they are published: a burst of events is one change.
const SETTLE: Duration = Duration::from_millis(200);
/// Publishing takes at most one part in so many of the time: a large cluster that never rests costs no whole core.
const REST: u32 = 5;

/// The cluster at one moment.
#[derive(Debug)]
pub struct View {
    /// Counts up from 1 with every change.
    pub version: u64,
    /// What there is.
    pub inventory: Inventory,
}

/// The newest view; `None` until nodes and pods have been read once.
pub type Views = watch::Receiver<Option<Arc<View>>>;

/// Bound pods that still hold what they requested: the API server leaves out the rest.
const HOLDING: &str = "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed";

/// Watches until dropped. `grace` is how long the labels of a GPU may be gone before that counts; `failed` is told of
/// every watch error, by kind.
pub async fn run(
    client: Client,
    grace: Duration,
    views: watch::Sender<Option<Arc<View>>>,
    failed: impl Fn(&'static str),
) {
    let nodes = watcher(Api::<Node>::all(client.clone()), watcher::Config::default()).default_backoff();
    let pods = watcher(Api::<Pod>::all(client), watcher::Config::default().fields(HOLDING)).default_backoff();
    let (mut nodes, mut pods) = (std::pin::pin!(nodes), std::pin::pin!(pods));
    let mut index = Index::default();
    let sources = Sources::default();
    let mut memory = LabelMemory::new(sources.clone());
    let mut version = 0;
    let mut publish_at = None::<Instant>;
    let mut rest_until = Instant::now();
    loop {
        let changed = tokio::select! {
            event = nodes.next() => match event {
                Some(Ok(event)) => index.node(event),
                Some(Err(error)) => { report(&error, "nodes"); failed("nodes"); false }
                None => return,
            },
            event = pods.next() => match event {
                Some(Ok(event)) => index.pod(event),
                Some(Err(error)) => { report(&error, "pods"); failed("pods"); false }
                None => return,
            },
            () = sleep_until(publish_at) => {
                let started = Instant::now();
                publish_at = publish(&index, &sources, &mut memory, grace, &mut version, &views);
                rest_until = Instant::now() + started.elapsed() * REST;
                false
            }
        };
        if changed && index.is_complete() {
            let soon = (Instant::now() + SETTLE).max(rest_until);
            publish_at = Some(publish_at.map_or(soon, |already| already.min(soon)));
        }
    }
}

/// Publishes the cluster as it is, unless that is what was published last; returns when a bridged label is given up.
fn publish(
    index: &Index,
    sources: &Sources,
    memory: &mut LabelMemory,
    grace: Duration,
    version: &mut u64,
    views: &watch::Sender<Option<Arc<View>>>,
) -> Option<Instant> {
    let mut snapshot = index.snapshot()?;
    let given_up = memory.bridge(&mut snapshot.nodes, Instant::now(), grace);
    let (nodes, pods) = (snapshot.nodes.len(), snapshot.pods.len());
    let inventory = Inventory::new(snapshot, sources);
    let is_new = views.borrow().as_ref().is_none_or(|last| last.inventory != inventory);
    if is_new {
        *version += 1;
        if *version == 1 {
            info!(nodes, pods, "the cluster is read");
        } else {
            debug!(nodes, pods, version, "the cluster has changed");
        }
        views.send_replace(Some(Arc::new(View { version: *version, inventory })));
    }
    given_up
}

fn report(error: &watcher::Error, what: &'static str) {
    warn!(%error, "cannot watch {what}: trying again; what was read before stays in use");
}

async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}
