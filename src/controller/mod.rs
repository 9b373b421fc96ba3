//! The controller: gather -> resolve -> build -> apply -> status, for every ModelDeployment, whenever its spec, its
//! workload or the cluster changes.
//!
//! [`resolve`], [`status`] and [`events::transitions`] are pure; [`gather`] and [`apply`] talk to the API
//! server; [`run`] ties them together. There is one replica: leader election is to go around [`run`].

pub mod apply;
pub mod error;
pub mod events;
pub mod gather;
pub mod hub;
pub mod memory;
pub mod reconcile;
pub mod resolve;
mod shutdown;
pub mod status;
#[cfg(test)]
pub(crate) mod testing;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::{HeaderValue, header};
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::ListParams;
use kube::runtime::controller::{self, Action, ReconcileRequest, trigger_owners, trigger_self};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use tokio::sync::{mpsc, watch};
use tracing::{debug, info, warn};

use self::error::{Error, within};
use self::hub::Hub;
use self::memory::Memory;
use self::reconcile::{Context, Guarded};
use crate::cluster::{self, Views};
use crate::launch::{FIELD_MANAGER, MANAGED_BY, MANAGED_BY_LABEL};
use crate::source::{Settings, SourceError, Sources};
use crate::telemetry::{self, Health, Metrics};

/// Objects that are reconciled at the same time.
const CONCURRENCY: u16 = 16;
/// Requests for the same object within so long are one.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// How long the API server may be silent on a connection.
const SILENCE: Duration = Duration::from_mins(5);
/// How long what is under way may take when the process is told to stop.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// How the controller is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where `/healthz`, `/readyz` and `/metrics` are served.
    pub metrics_address: SocketAddr,
    /// How long the labels of a node's GPUs may be gone before that counts.
    pub label_grace: Duration,
    /// Where models are read from.
    pub sources: Settings,
    /// The one namespace whose ModelDeployments are seen to; by default all.
    pub namespace: Option<String>,
}

/// Why the controller could not be started, or did not stay up.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The settings of the Hub are wrong.
    #[error("{0}")]
    Sources(SourceError),
    /// No client can be made of the configuration.
    #[error("cannot connect to the cluster: {0}")]
    Client(kube::Error),
    /// The address is taken, or not this machine's.
    #[error("cannot listen on {address}: {source}; choose another with --metrics-address")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The server of `/metrics` ended.
    #[error("the server of /healthz, /readyz and /metrics ended: {0}")]
    Serve(String),
    /// A task that should last ended.
    #[error("{0} ended unexpectedly")]
    Ended(&'static str),
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// See [`RunError`]. An API server that cannot be reached is no error: it is waited for.
pub async fn run(mut config: kube::Config, options: Options) -> Result<(), RunError> {
    // The default client repeats a refused call for up to a quarter of an hour, while whoever asked waits. Watches and
    // reconciles have waits and deadlines of their own.
    config.default_retry = false;
    // The server ends a watch after 290 s. One that is silent for longer has lost its connection without a word, and
    // would otherwise show the cluster as it was then for ever.
    config.read_timeout = Some(SILENCE);
    // Audit logs and the API server's own metrics tell clients apart by it.
    let name = HeaderValue::from_static(concat!("loadline-controller/", env!("CARGO_PKG_VERSION")));
    config.headers.push((header::USER_AGENT, name));
    let client = Client::try_from(config).map_err(RunError::Client)?;
    run_with(client, options, shutdown::signal()).await
}

/// Runs with a client until told to stop.
///
/// # Errors
/// See [`RunError`].
pub async fn run_with(
    client: Client,
    options: Options,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), RunError> {
    let health = Arc::new(Health::default());
    let metrics = Arc::new(Metrics::default());
    let address = options.metrics_address;
    let listener =
        telemetry::health::listen(address).await.map_err(|source| RunError::Listen { address, source })?;
    let listening = listener.local_addr().unwrap_or(address);
    info!(version = env!("CARGO_PKG_VERSION"), address = %listening, "loadline controller starts");
    let stop = stop.shared();
    let server = telemetry::health::serve(listener, Arc::clone(&health), Arc::clone(&metrics));
    tokio::select! {
        ended = server => Err(RunError::Serve(ended.err().map_or_else(String::new, |error| error.to_string()))),
        ended = work(client, options, Arc::clone(&health), metrics, stop) => ended,
    }
}

async fn work<Stop>(
    client: Client,
    options: Options,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    stop: futures::future::Shared<Stop>,
) -> Result<(), RunError>
where
    Stop: Future<Output = ()> + Send + 'static,
{
    let objects: Api<Guarded> = scoped(&client, options.namespace.as_deref());
    tokio::select! {
        () = wait_for_definition(&client, options.namespace.as_deref()) => health.definition_found(),
        () = stop.clone() => return Ok(()),
    }
    let (publish, views) = watch::channel(None);
    let watched = {
        let (client, metrics) = (client.clone(), Arc::clone(&metrics));
        let grace = options.label_grace;
        tokio::spawn(async move {
            cluster::watch::run(client, grace, publish, |what| metrics.watch_failed(what)).await;
        })
    };
    let (wake, woken) = mpsc::unbounded_channel();
    let (hub, mut told) = Hub::new(Sources::new(options.sources).map_err(RunError::Sources)?);
    let told = {
        let wake = wake.clone();
        tokio::spawn(async move {
            while let Some(key) = told.recv().await {
                if wake.send(reconcile::reference(&key)).is_err() {
                    return;
                }
            }
        })
    };
    let memory = Arc::new(Memory::default());
    let waker = tokio::spawn(wake_on_change(
        views.clone(),
        Arc::clone(&memory),
        Arc::clone(&metrics),
        Arc::clone(&health),
        wake.clone(),
    ));
    let deployments: Api<Deployment> = scoped(&client, options.namespace.as_deref());
    let read = Read { objects: watch::Sender::new(false), deployments: watch::Sender::new(false) };
    let both_read = (read.objects.subscribe(), read.deployments.subscribe());
    let (object_store, child_store, queue) = queue(objects, deployments, woken, &metrics, read);
    let context = Arc::new(Context {
        client: client.clone(),
        views,
        deployments: child_store,
        deployments_read: both_read.1.clone(),
        hub,
        memory,
        metrics,
        recorder: Recorder::new(
            client,
            Reporter { controller: FIELD_MANAGER.to_owned(), instance: Some(FIELD_MANAGER.to_owned()) },
        ),
        wake,
    });
    let read = {
        let (health, (mut objects, mut deployments)) = (Arc::clone(&health), both_read);
        tokio::spawn(async move {
            if objects.wait_for(|read| *read).await.is_ok()
                && deployments.wait_for(|read| *read).await.is_ok()
            {
                health.objects_read();
            }
        })
    };
    let queue = queue.take_until(stop.clone());
    let settings = controller::Config::default().concurrency(CONCURRENCY).debounce(DEBOUNCE);
    let running = controller::applier(
        |object, context| reconcile_apart(object, context).boxed(),
        |object: Arc<Guarded>, error: &Error, context: Arc<Context>| {
            reconcile::after_failure(&object, error, &context)
        },
        Arc::clone(&context),
        object_store,
        queue,
        settings,
    )
    .for_each(|result| {
        settle_result(result, &context);
        futures::future::ready(())
    });
    let last_words = async {
        stop.clone().await;
        info!("stopping: what is under way is finished");
        health.stopping();
        tokio::time::sleep(LAST_WORDS).await;
        warn!("stopping: what is still under way is broken off");
    };
    let ended = tokio::select! {
        () = running => if stop.clone().now_or_never().is_some() { Ok(()) } else { Err(RunError::Ended("the queue")) },
        () = last_words => Ok(()),
        _ = watched => Err(RunError::Ended("the watch of the cluster")),
    };
    waker.abort();
    told.abort();
    read.abort();
    info!("stopped");
    ended
}

/// One reconcile, in a task of its own: it uses the other core, and a defect in it breaks off nothing else.
async fn reconcile_apart(object: Arc<Guarded>, context: Arc<Context>) -> Result<Action, Error> {
    let metrics = Arc::clone(&context.metrics);
    let started = Instant::now();
    let result = tokio::spawn(reconcile::reconcile(object, context))
        .await
        .unwrap_or_else(|error| Err(Error::Broken(error.to_string())));
    metrics.reconciled(started.elapsed(), result.as_ref().err().map(Error::category));
    result
}

type Outcome = Result<(ObjectRef<Guarded>, Action), controller::Error<Error, watcher::Error>>;

fn settle_result(result: Outcome, context: &Context) {
    match result {
        Ok((object, _)) => debug!(%object, "reconciled"),
        Err(controller::Error::ObjectNotFound(object)) => {
            let key = (object.namespace.clone().unwrap_or_default(), object.name.clone());
            context.forget(&key);
            debug!(%object, "gone");
        }
        // It has been logged, and is tried again.
        Err(controller::Error::ReconcilerFailed(..)) => {}
        Err(error) => warn!(%error, "cannot watch ModelDeployments or Deployments: trying again"),
    }
}

type Queue = BoxStream<'static, Result<ReconcileRequest<Guarded>, watcher::Error>>;

/// Tells when the lists have been read. The stores' own `wait_until_ready` wakes only the last of those who wait.
struct Read {
    objects: watch::Sender<bool>,
    deployments: watch::Sender<bool>,
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

/// The stores of objects and Deployments, and the requests that come of their events and of what is woken.
fn queue(
    objects: Api<Guarded>,
    deployments: Api<Deployment>,
    woken: mpsc::UnboundedReceiver<ObjectRef<Guarded>>,
    metrics: &Arc<Metrics>,
    read: Read,
) -> (Store<Guarded>, Store<Deployment>, Queue) {
    let writer = Writer::<Guarded>::default();
    let store = writer.as_reader();
    let failed = Arc::clone(metrics);
    let own = watcher(objects, watcher::Config::default())
        .default_backoff()
        .modify(|object| object.managed_fields_mut().clear())
        .reflect(writer)
        .inspect(move |event| follow(event, &read.objects, || failed.watch_failed("modeldeployments")))
        .touched_objects();
    let writer = Writer::<Deployment>::default();
    let child_store = writer.as_reader();
    let failed = Arc::clone(metrics);
    let managed = watcher::Config::default().labels(&format!("{MANAGED_BY_LABEL}={MANAGED_BY}"));
    let children = watcher(deployments, managed)
        .default_backoff()
        .modify(|deployment| deployment.managed_fields_mut().clear())
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

/// Wakes the objects that a change of the cluster leads to another plan for, and no other.
async fn wake_on_change(
    mut views: Views,
    memory: Arc<Memory>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    wake: mpsc::UnboundedSender<ObjectRef<Guarded>>,
) {
    while views.changed().await.is_ok() {
        let Some(view) = views.borrow_and_update().clone() else { continue };
        health.cluster_read();
        let memory = Arc::clone(&memory);
        // Many objects are many decisions: not on a thread that serves others.
        let changed =
            tokio::task::spawn_blocking(move || memory.changed_by(&view.inventory, view.version)).await;
        for key in changed.unwrap_or_default() {
            metrics.woken();
            if wake.send(reconcile::reference(&key)).is_err() {
                return;
            }
        }
    }
}

/// Waits until the API server knows ModelDeployments.
async fn wait_for_definition(client: &Client, namespace: Option<&str>) {
    let objects: Api<Guarded> = scoped(client, namespace);
    let mut wait = Duration::from_millis(250);
    let mut last_said = None::<Instant>;
    loop {
        let problem = match within("ModelDeployment", objects.list(&ListParams::default().limit(1))).await {
            Ok(_) => return,
            Err(Error::Api { source, .. }) if matches!(source.as_ref(), kube::Error::Api(status) if status.code == 404) => {
                "the CustomResourceDefinition modeldeployments.loadline.dev is not there; install it with the chart, or with `loadline crds | kubectl apply --server-side -f -`".to_owned()
            }
            Err(error) => error.to_string(),
        };
        if last_said.is_none_or(|said| said.elapsed() > Duration::from_secs(30)) {
            warn!("waiting: {problem}");
            last_said = Some(Instant::now());
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(5));
    }
}

/// All objects of a kind, or those of one namespace.
fn scoped<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}
