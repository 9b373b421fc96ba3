//! The stores of objects and Deployments, and the queue of what is to be reconciled: what has changed of them, and what is
//! woken.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use kube::runtime::controller::{ReconcileRequest, trigger_owners, trigger_self};
use kube::runtime::reflector::store;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::utils::Backoff;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource};
use tokio::sync::{mpsc, watch};

use super::kept::Kept;
use super::reconcile::Guarded;
use crate::launch::{MANAGED_BY, MANAGED_BY_LABEL};
use crate::telemetry::{Health, Metrics};

/// Where `kubectl apply` keeps the whole object once more.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The longest wait before ModelDeployments are watched again.
const LONGEST_BETWEEN_WATCHES: Duration = Duration::from_secs(5);

/// What is asked for, as it comes.
pub(super) type Queue = BoxStream<'static, Result<ReconcileRequest<Guarded>, watcher::Error>>;

/// Tells when the lists have been read. The stores' own `wait_until_ready` wakes only the last of those who wait.
pub(super) struct Read {
    pub(super) objects: watch::Sender<bool>,
    pub(super) deployments: watch::Sender<bool>,
}

/// Says that a list has been read, once the store has taken it in, and counts what goes wrong.
fn follow<Object>(
    event: &watcher::Result<watcher::Event<Object>>,
    read: &watch::Sender<bool>,
    failed: impl Fn(),
) {
    match event {
        Ok(watcher::Event::InitDone) => {
            read.send_replace(true);
        }
        Ok(_) => {}
        Err(_) => failed(),
    }
}

/// Says whether there is a definition of what is watched.
fn tell_of_definition<Object>(event: &watcher::Result<watcher::Event<Object>>, health: &Health) {
    let is_absent = |error: &kube::Error| matches!(error, kube::Error::Api(status) if status.code == 404);
    match event {
        Ok(watcher::Event::InitDone) => health.definition_found(),
        Err(watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error))
            if is_absent(error) =>
        {
            health.definition_lost();
        }
        Ok(_) | Err(_) => {}
    }
}

/// Waits as watches do, but never so long that somebody who puts the definition back would wonder.
#[derive(Default)]
struct Soon(watcher::DefaultBackoff);

impl Iterator for Soon {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.0.next().map(|wait| wait.min(LONGEST_BETWEEN_WATCHES))
    }
}

impl Backoff for Soon {
    fn reset(&mut self) {
        self.0.reset();
    }
}

/// Takes away what is not looked at: some kilobytes of every object.
fn prune_object(object: &mut impl Resource) {
    let metadata = object.meta_mut();
    metadata.managed_fields = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.remove(LAST_APPLIED);
    }
}

/// The stores of objects and Deployments, and the requests that come of their events and of what is woken.
pub(super) fn queue(
    objects: Api<Guarded>,
    deployments: Api<Kept>,
    woken: mpsc::UnboundedReceiver<ObjectRef<Guarded>>,
    (metrics, health): (&Arc<Metrics>, &Arc<Health>),
    read: Read,
) -> (Store<Guarded>, Store<Kept>, Queue) {
    let writer = store::Writer::<Guarded>::default();
    let store = writer.as_reader();
    let (failed, health) = (Arc::clone(metrics), Arc::clone(health));
    let own = watcher(objects, watcher::Config::default())
        .backoff(Soon::default())
        .modify(prune_object)
        .reflect(writer)
        .inspect(move |event| {
            tell_of_definition(event, &health);
            follow(event, &read.objects, || failed.watch_failed("modeldeployments"));
        })
        .touched_objects();
    let writer = store::Writer::<Kept>::default();
    let child_store = writer.as_reader();
    let failed = Arc::clone(metrics);
    let managed = watcher::Config::default().labels(&format!("{MANAGED_BY_LABEL}={MANAGED_BY}"));
    let children = watcher(deployments, managed)
        .default_backoff()
        .reflect(writer)
        .inspect(move |event| follow(event, &read.deployments, || failed.watch_failed("deployments")))
        .touched_objects();
    let woken = stream::unfold(woken, |mut woken| async move {
        let object = woken.recv().await?;
        Some((Ok(ReconcileRequest::from(object)), woken))
    });
    let all: [Queue; 3] = [
        trigger_self(own, ()).boxed(),
        trigger_owners::<Guarded, _>(children, (), ()).boxed(),
        woken.boxed(),
    ];
    (store, child_store, stream::select_all(all).boxed())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::Deployment;
    use serde_json::json;

    use super::*;

    #[test]
    fn of_an_object_is_dropped_what_is_kept_twice() {
        let mut object: Deployment = serde_json::from_value(json!({"metadata": {
            "managedFields": [{"manager": "kubectl"}],
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "loadline.dev/roll": "2"},
        }}))
        .unwrap();
        prune_object(&mut object);
        let kept = serde_json::to_value(&object).unwrap();
        assert_eq!(kept["metadata"], json!({"annotations": {"loadline.dev/roll": "2"}}));
    }
}
