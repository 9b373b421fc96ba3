//! Watches nodes, pods and devices and publishes what they come to. One task, which ends when it is dropped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceSlice};
use kube::api::ListParams;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::index::Index;
use super::label_memory::LabelMemory;
use super::pods::PodFactsIndex;
use crate::inventory::{Inventory, MODEL_DEPLOYMENT_LABEL, Sources};

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

/// Pods that hold what they requested, or wait for it: the API server leaves out the finished ones.
const UNFINISHED: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// What is told while the cluster is watched.
pub struct Told<Failed, Pods> {
    /// Of every watch error, by kind.
    pub failed: Failed,
    /// Of every ModelDeployment (namespace and name) of whose pods there is something new.
    pub pods: Pods,
}

/// How nodes are read.
#[derive(Clone, Debug)]
pub struct Reading {
    /// How long the labels of a GPU may be gone before that counts.
    pub grace: Duration,
    /// What labels are read.
    pub labels: Sources,
}

/// Watches until dropped.
///
/// The pods of ModelDeployments have a watch of their own, by their label: how they fare matters also when they have
/// failed, or request no GPU. Nothing is published before it has been read, so that no status is made without it.
pub async fn run(
    client: Client,
    reading: Reading,
    views: watch::Sender<Option<Arc<View>>>,
    mut own_pods: PodFactsIndex,
    told: Told<impl Fn(&'static str), impl Fn((String, String))>,
) {
    let nodes = watcher(Api::<Node>::all(client.clone()), watcher::Config::default()).default_backoff();
    let unfinished = watcher::Config::default().fields(UNFINISHED);
    let pods = watcher(Api::<Pod>::all(client.clone()), unfinished).default_backoff();
    let labelled = watcher::Config::default().labels(MODEL_DEPLOYMENT_LABEL);
    let own = watcher(Api::<Pod>::all(client.clone()), labelled).default_backoff();
    let (mut nodes, mut pods, mut own) = (std::pin::pin!(nodes), std::pin::pin!(pods), std::pin::pin!(own));
    let with_devices = offers_devices(&client).await;
    let slices = Api::<ResourceSlice>::all(client.clone());
    let slices = watcher(slices, watcher::Config::default()).default_backoff();
    let claims = watcher(Api::<ResourceClaim>::all(client), watcher::Config::default()).default_backoff();
    let (mut slices, mut claims) = (std::pin::pin!(slices), std::pin::pin!(claims));
    let mut index = Index::new(with_devices);
    let Reading { grace, labels: sources } = reading;
    let mut memory = LabelMemory::new(sources.clone());
    let mut version = 0;
    let mut publish_at = None::<Instant>;
    let mut rest_until = Instant::now();
    let failure = |error: &watcher::Error, what: &'static str| {
        report(error, what);
        (told.failed)(what);
        false
    };
    loop {
        let changed = tokio::select! {
            event = nodes.next() => match event {
                Some(Ok(event)) => index.node(event),
                Some(Err(error)) => failure(&error, "nodes"),
                None => return,
            },
            event = pods.next() => match event {
                Some(Ok(event)) => index.pod(event),
                Some(Err(error)) => failure(&error, "pods"),
                None => return,
            },
            event = slices.next(), if with_devices => match event {
                Some(Ok(event)) => index.slice(event),
                Some(Err(error)) => failure(&error, "resourceslices"),
                None => return,
            },
            event = claims.next(), if with_devices => match event {
                Some(Ok(event)) => index.claim(event),
                Some(Err(error)) => failure(&error, "resourceclaims"),
                None => return,
            },
            event = own.next() => match event {
                Some(Ok(event)) => {
                    let was_complete = own_pods.is_complete();
                    own_pods.take(event).into_iter().for_each(&told.pods);
                    !was_complete && own_pods.is_complete()
                }
                Some(Err(error)) => failure(&error, "pods of ModelDeployments"),
                None => return,
            },
            () = sleep_until(publish_at) => {
                let started = Instant::now();
                publish_at = publish(&index, &sources, &mut memory, grace, &mut version, &views);
                rest_until = Instant::now() + started.elapsed() * REST;
                false
            }
        };
        if changed && index.is_complete() && own_pods.is_complete() {
            let soon = (Instant::now() + SETTLE).max(rest_until);
            publish_at = Some(publish_at.map_or(soon, |already| already.min(soon)));
        }
    }
}

/// Whether the API server has ResourceSlices and ResourceClaims, and lets them be read. Asked until there is an answer.
async fn offers_devices(client: &Client) -> bool {
    const AGAIN: Duration = Duration::from_secs(2);
    let first = ListParams::default().limit(1);
    let (slices, claims) =
        (Api::<ResourceSlice>::all(client.clone()), Api::<ResourceClaim>::all(client.clone()));
    loop {
        let answer = match slices.list_metadata(&first).await {
            Ok(_) => claims.list_metadata(&first).await.map(|_| ()),
            Err(error) => Err(error),
        };
        match answer {
            Ok(()) => return true,
            Err(kube::Error::Api(status)) if status.is_not_found() => return false,
            Err(kube::Error::Api(status)) if status.is_forbidden() => {
                warn!("resourceslices and resourceclaims may not be read: GPUs are read from labels alone");
                return false;
            }
            Err(error) => {
                debug!(%error, "cannot tell whether there are ResourceSlices: asking again");
                tokio::time::sleep(AGAIN).await;
            }
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
