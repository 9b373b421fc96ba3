//! The controller: gather -> resolve -> build -> apply -> status, for every ModelDeployment, whenever its spec, its
//! workload or the cluster changes.
//!
//! [`resolve`], [`status`] and [`events::transitions`] are pure; [`gather`] and [`apply`] talk to the API
//! server; [`run`] ties them together. What every replica has is its [`World`]; what the one that writes has besides is its
//! [`Writer`], for as long as it holds the Lease ([`lease`]); what it writes goes through a [`fence`].

pub mod apply;
pub mod config_maps;
pub mod error;
pub mod events;
pub mod fence;
pub mod gather;
mod kept;
pub mod lease;
pub mod memory;
mod queue;
pub mod reconcile;
pub mod requirements;
pub mod resolve;
mod scale;
mod shutdown;
pub mod status;
#[cfg(test)]
pub(crate) mod testing;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderValue, header};
use futures::{FutureExt, StreamExt};
use kube::api::ListParams;
use kube::runtime::controller::{self, Action};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use tokio::sync::{mpsc, watch};
use tracing::{debug, error, info, warn};

use self::config_maps::ConfigMaps;
use self::error::{Error, within};
use self::fence::Fence;
use self::gather::Secrets;
use self::kept::Kept;
use self::lease::Candidate;
use self::memory::Records;
use self::queue::{Queue, Read};
use self::reconcile::{Context, Guarded};
use self::requirements::Requirements;
use crate::admission::answer::Reviewer;
use crate::admission::served::Served;
use crate::admission::server::{Limits, Server};
use crate::admission::{self, Certificates};
use crate::cluster::pods::PodFactsIndex;
use crate::cluster::watch::{Reading, Told};
use crate::cluster::{self, Modes, PodsByOwner, RequiredOfPods, View};
use crate::inventory;
use crate::launch::FIELD_MANAGER;
use crate::launch::images::Images;
use crate::plan::Permits;
use crate::source::{Settings, SourceError, Sources};
use crate::telemetry::{self, Health, Metrics};
use crate::world::tasks::Tasks;
use crate::world::{Decisions, Key, Models, Planner, Promised, Turns, World};

pub use reconcile::Writer;

/// Objects that are reconciled at the same time.
const AT_ONCE: usize = 16;
/// Those of one namespace: however many it has, and however long each takes, others come to their turn.
const AT_ONCE_OF_ONE: usize = 8;
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
    /// By what labels the GPUs of nodes are read.
    pub labels: inventory::Sources,
    /// Where models are read from.
    pub sources: Settings,
    /// What specs may ask for.
    pub permits: Permits,
    /// The one namespace whose ModelDeployments are seen to; by default all.
    pub namespace: Option<String>,
    /// The Lease whose holder writes; none where there is one replica.
    pub lease: Option<lease::Options>,
    /// The webhooks, if there are any.
    pub admission: Option<admission::Options>,
    /// Where the engines' own images are kept.
    pub images: Images,
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
    #[error("cannot listen on {address}: {source}; choose another with {flag}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The flag that says which.
        flag: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// The server of `/metrics` ended.
    #[error("the server of /healthz, /readyz and /metrics ended: {0}")]
    Serve(String),
    /// There can be no TLS.
    #[error("cannot serve webhooks: {0}")]
    Tls(rustls::Error),
    /// A task that should last ended.
    #[error("{task} ended unexpectedly{}", panic.as_ref().map_or(String::new(), |panic| format!(", which is a defect of Loadline: {panic}")))]
    Ended {
        /// Which.
        task: &'static str,
        /// What the panic said, if that is what ended it.
        panic: Option<String>,
    },
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
    let flag = "--metrics-address";
    let listener = telemetry::health::listen(address).await.map_err(|source| RunError::Listen {
        address,
        flag,
        source,
    })?;
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
    tokio::select! {
        () = wait_for_definition(&client, options.namespace.as_deref()) => health.definition_found(),
        () = stop.clone() => return Ok(()),
    }
    let mut tasks = Tasks::default();
    let waker = Waker::default();
    let reading = Reading { grace: options.label_grace, labels: options.labels };
    let (views, pods) = watch_cluster(&mut tasks, &client, reading, &metrics, &waker);
    let sources = Sources::new(options.sources).map_err(RunError::Sources)?;
    let (models, read_models) = Models::new(sources, Secrets(client.clone()));
    let models = models.counted_by(Arc::clone(&metrics));
    let world = Arc::new(World {
        permits: options.permits,
        views,
        pods,
        modes: Modes::default(),
        required: RequiredOfPods::default(),
        models,
        decisions: Decisions::default(),
        promised: Promised::default(),
        planner: Planner::default(),
        health: Arc::clone(&health),
        metrics: Arc::clone(&metrics),
    });
    tasks.spawn("the task that tells of models that were read", forward(read_models, waker.clone()));
    tasks.spawn("the task that wakes objects", wake_on_change(Arc::clone(&world), waker.clone()));
    let webhooks = match options.admission.clone() {
        Some(options) => Some(serve_webhooks(&mut tasks, &client, &world, options, stop.clone()).await?),
        None => None,
    };
    let leader = Leader {
        client: client.clone(),
        namespace: options.namespace,
        images: Arc::new(options.images),
        certificates: options.admission.map(|admission| admission.certificates),
        world: Arc::clone(&world),
        waker,
    };
    let led = tokio::select! {
        ended = tasks.ended() => Err(RunError::Ended { task: ended.task, panic: ended.panic }),
        led = lead(leader, options.lease, stop.clone()) => led,
    };
    led?;
    if let Some(webhooks) = webhooks {
        // Whoever asks is answered, until the API server knows that this replica is going.
        let _ = webhooks.await;
    }
    info!("stopped");
    Ok(())
}

/// Starts to serve the webhooks; the task ends some time after the process was told to stop.
async fn serve_webhooks<Stop>(
    tasks: &mut Tasks,
    client: &Client,
    world: &Arc<World>,
    options: admission::Options,
    stop: futures::future::Shared<Stop>,
) -> Result<tokio::task::JoinHandle<()>, RunError>
where
    Stop: Future<Output = ()> + Send + 'static,
{
    let (address, flag) = (options.address, "--admission-address");
    let listener = telemetry::health::listen(address).await.map_err(|source| RunError::Listen {
        address,
        flag,
        source,
    })?;
    let listening = listener.local_addr().unwrap_or(address);
    info!(address = %listening, "serves webhooks");
    world.health.needs_certificate();
    let served = Served::default();
    let tls = served.config().map_err(RunError::Tls)?;
    let (health, metrics) = (Arc::clone(&world.health), Arc::clone(&world.metrics));
    let reload = admission::reload::run(client.clone(), options.certificates, served, health, metrics);
    tasks.spawn("the task that reads the certificate", reload);
    let metrics = Arc::clone(&world.metrics);
    let namespaces = cluster::namespaces::run(client.clone(), world.modes.clone(), move || {
        metrics.watch_failed("namespaces");
    });
    tasks.spawn("the watch of namespaces", namespaces);
    if options.pods {
        let metrics = Arc::clone(&world.metrics);
        let failed = move || metrics.watch_failed("modelrequirements");
        let required = cluster::requirements::run(client.clone(), world.required.clone(), failed);
        tasks.spawn("the watch of what pods must demand", required);
    }
    let reviewer = Arc::new(Reviewer { world: Arc::clone(world), mode: options.mode });
    let webhooks = Server::new(Limits::default(), reviewer, world.metrics.admission.clone());
    Ok(tokio::spawn(webhooks.run(listener, tls, stop, options.drain)))
}

/// What a replica needs to be the one that writes.
struct Leader {
    client: Client,
    namespace: Option<String>,
    images: Arc<Images>,
    certificates: Option<Certificates>,
    world: Arc<World>,
    waker: Waker,
}

/// Writes whenever this replica holds the Lease, until told to stop.
async fn lead<Stop>(
    leader: Leader,
    lease: Option<lease::Options>,
    stop: futures::future::Shared<Stop>,
) -> Result<(), RunError>
where
    Stop: Future<Output = ()> + Send + 'static,
{
    let Some(lease) = lease else { return write(&leader, &Fence::open(), stop).await };
    // What it takes to answer is there; what it takes to write is read by the one that does.
    leader.world.health.stands_by();
    let mut candidate = Candidate::new(leader.client.clone(), lease);
    loop {
        let fence = tokio::select! {
            fence = candidate.win() => fence,
            () = stop.clone() => {
                leader.world.health.stopping();
                return Ok(());
            }
        };
        let ended = tokio::select! {
            ended = write(&leader, &fence, stop.clone()) => Some(ended),
            () = candidate.keep(&fence) => None,
        };
        fence.close();
        leader.waker.rest();
        leader.world.forget_decisions();
        if let Some(ended) = ended {
            candidate.release().await;
            return ended;
        }
    }
}

/// Writes until told to stop: then what is under way is finished.
async fn write<Stop>(
    leader: &Leader,
    fence: &Fence,
    stop: futures::future::Shared<Stop>,
) -> Result<(), RunError>
where
    Stop: Future<Output = ()> + Send + 'static,
{
    let (world, namespace) = (&leader.world, leader.namespace.as_deref());
    let (health, metrics) = (&world.health, &world.metrics);
    let client = fence.client(&leader.client);
    let mut tasks = Tasks::default();
    let requirements = tokio::select! {
        requirements = read_requirements(&client, namespace) => requirements,
        () = stop.clone() => {
            health.stopping();
            return Ok(());
        }
    };
    let (wake, woken) = mpsc::unbounded_channel();
    leader.waker.wakes(wake.clone());
    let objects: Api<Guarded> = scoped(&client, namespace);
    let deployments: Api<Kept> = scoped(&client, namespace);
    let read = Read { objects: watch::Sender::new(false), deployments: watch::Sender::new(false) };
    let (objects_read, deployments_read) = (read.objects.subscribe(), read.deployments.subscribe());
    let (object_store, child_store, queue) =
        queue::queue(objects, deployments, woken, (metrics, health), read);
    let reporter =
        Reporter { controller: FIELD_MANAGER.to_owned(), instance: Some(FIELD_MANAGER.to_owned()) };
    let writer = Writer {
        client: client.clone(),
        deployments: child_store,
        deployments_read: deployments_read.clone(),
        config_maps: ConfigMaps::default(),
        requirements,
        records: Records::default(),
        recorder: Recorder::new(client.clone(), reporter),
        wake,
        images: Arc::clone(&leader.images),
    };
    let turns = Turns::new(AT_ONCE, AT_ONCE_OF_ONE);
    let context = Arc::new(Context { world: Arc::clone(world), writer, turns });
    tasks.spawn(
        "the task that forgets what is gone",
        forget_what_is_gone(Arc::clone(&context), object_store.clone(), objects_read.clone()),
    );
    let lists_read = say_when_read(Arc::clone(health), objects_read, deployments_read);
    tasks.spawn("the task that waits for the lists", lists_read);
    tasks.spawn(QUEUE, reconcile_all(context, object_store, queue.take_until(stop.clone()).boxed()));
    if let Some(Certificates::Own(own)) = leader.certificates.clone() {
        let metrics = Arc::clone(metrics);
        let keep = async move { admission::keeper::run(client, own, &metrics).await };
        tasks.spawn("the task that keeps the certificate", keep);
    }
    metrics.leads(true);
    let last_words = async {
        stop.clone().await;
        info!("stopping: what is under way is finished");
        health.stopping();
        tokio::time::sleep(LAST_WORDS).await;
        warn!("stopping: what is still under way is broken off");
    };
    let ended = tokio::select! {
        ended = tasks.ended() => Some(ended),
        () = last_words => None,
    };
    metrics.leads(false);
    match ended {
        Some(ended) if ended.task != QUEUE || ended.panic.is_some() || stop.now_or_never().is_none() => {
            Err(RunError::Ended { task: ended.task, panic: ended.panic })
        }
        _ => Ok(()),
    }
}

/// Reads what pods must demand, as it is written; waits for the API server.
async fn read_requirements(client: &Client, namespace: Option<&str>) -> Requirements {
    loop {
        match Requirements::read(client.clone(), namespace).await {
            Ok(requirements) => return requirements,
            Err(error) => warn!(%error, "waiting"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Forgets the objects that went while no replica saw it.
async fn forget_what_is_gone(
    context: Arc<Context>,
    objects: Store<Guarded>,
    mut read: watch::Receiver<bool>,
) {
    // Once for the first list, and once for each that is read after the watch was down: no event tells of what went meanwhile.
    while read.wait_for(|read| *read).await.is_ok() {
        read.mark_unchanged();
        let is_there = |key: &Key| objects.get(&reconcile::reference(key)).is_some();
        for key in context.world.keys().iter().filter(|key| !is_there(key)) {
            context.forget(key);
        }
        if let Err(error) = context.writer.requirements.keep_only(is_there).await {
            warn!(%error, "what the pods of objects that are gone must demand is still written");
        }
        if read.changed().await.is_err() {
            break;
        }
    }
    std::future::pending::<()>().await;
}

/// The task that ends when the process is told to stop and nothing is under way.
const QUEUE: &str = "the queue of reconciles";

/// Wakes objects, while this replica is the one that sees to them.
#[derive(Clone, Default)]
struct Waker(Arc<Mutex<Option<mpsc::UnboundedSender<ObjectRef<Guarded>>>>>);

impl Waker {
    /// Wakes by this from now on.
    fn wakes(&self, wake: mpsc::UnboundedSender<ObjectRef<Guarded>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(wake);
    }

    /// Wakes nobody any more: whoever writes next reads them all.
    fn rest(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn wake(&self, key: &Key) {
        if let Some(wake) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            // The receiver is gone only when this replica is no longer the one.
            let _ = wake.send(reconcile::reference(key));
        }
    }
}

/// Starts to watch nodes and pods. An object of whose own pods there is something new is woken, and no other.
fn watch_cluster(
    tasks: &mut Tasks,
    client: &Client,
    reading: Reading,
    metrics: &Arc<Metrics>,
    wake: &Waker,
) -> (cluster::Views, PodsByOwner) {
    let (publish, views) = watch::channel(None);
    let index = PodFactsIndex::default();
    let pods = index.published();
    let (client, metrics, wake) = (client.clone(), Arc::clone(metrics), wake.clone());
    tasks.spawn("the watch of the cluster", async move {
        let told = Told {
            failed: |what| metrics.watch_failed(what),
            pods: |owner: Key| {
                metrics.woken();
                wake.wake(&owner);
            },
        };
        cluster::watch::run(client, reading, publish, index, told).await;
    });
    (views, pods)
}

/// Wakes the objects that are told of.
async fn forward(mut told: mpsc::UnboundedReceiver<Key>, wake: Waker) {
    while let Some(key) = told.recv().await {
        wake.wake(&key);
    }
}

async fn say_when_read(
    health: Arc<Health>,
    mut objects: watch::Receiver<bool>,
    mut deployments: watch::Receiver<bool>,
) {
    if objects.wait_for(|read| *read).await.is_ok() && deployments.wait_for(|read| *read).await.is_ok() {
        health.objects_read();
        std::future::pending::<()>().await;
    }
}

/// Reconciles what the queue asks for, until the queue ends and nothing is under way.
async fn reconcile_all(context: Arc<Context>, objects: Store<Guarded>, queue: Queue) {
    // All that are asked for begin, and take turns then: a queue of the framework's own knows nothing of namespaces.
    let settings = controller::Config::default().concurrency(0).debounce(DEBOUNCE);
    controller::applier(
        |object, context| reconcile_apart(object, context).boxed(),
        |object: Arc<Guarded>, error: &Error, context: Arc<Context>| {
            reconcile::after_failure(&object, error, &context)
        },
        Arc::clone(&context),
        objects,
        queue,
        settings,
    )
    .for_each(|result| {
        settle_result(result, &context);
        futures::future::ready(())
    })
    .await;
}

/// One reconcile, in a task of its own: it uses the other core, and a defect in it breaks off nothing else.
async fn reconcile_apart(object: Arc<Guarded>, context: Arc<Context>) -> Result<Action, Error> {
    let metrics = Arc::clone(&context.world.metrics);
    context.asked_for(&object);
    metrics.queued();
    let turn = context.turns.take(object.meta().namespace.as_deref().unwrap_or_default()).await;
    let started = Instant::now();
    let result = tokio::spawn(reconcile::reconcile(object, context))
        .await
        .unwrap_or_else(|error| Err(Error::Broken(error.to_string())));
    drop(turn);
    metrics.dequeued();
    metrics.reconciled(started.elapsed(), result.as_ref().err().map(Error::category));
    result
}

type Outcome = Result<(ObjectRef<Guarded>, Action), controller::Error<Error, watcher::Error>>;

fn settle_result(result: Outcome, context: &Arc<Context>) {
    match result {
        Ok((object, _)) => debug!(%object, "reconciled"),
        Err(controller::Error::ObjectNotFound(object)) => {
            let key = (object.namespace.clone().unwrap_or_default(), object.name.clone());
            context.forget(&key);
            debug!(%object, "gone");
            let context = Arc::clone(context);
            tokio::spawn(async move {
                if let Err(error) = context.writer.requirements.require(&key, None, true).await {
                    warn!(%error, "what its pods must demand is still written");
                }
            });
        }
        // It has been logged, and is tried again.
        Err(controller::Error::ReconcilerFailed(..)) => {}
        Err(error) => warn!(%error, "cannot watch ModelDeployments or Deployments: trying again"),
    }
}

/// Wakes the objects that a change of the cluster, or of what is promised, leads to another plan for, and no other.
async fn wake_on_change(world: Arc<World>, wake: Waker) {
    let mut views = world.views.clone();
    let mut promises = world.promised.changes();
    let mut ends = None::<Instant>;
    loop {
        tokio::select! {
            changed = views.changed() => if changed.is_err() { return },
            // A burst of objects is one change.
            changed = promises.changed() => match changed {
                Ok(()) => tokio::time::sleep(DEBOUNCE).await,
                Err(_) => return,
            },
            () = sleep_until(ends) => {}
        }
        promises.mark_unchanged();
        let Some(view) = views.borrow_and_update().clone() else { continue };
        world.health.cluster_read();
        let (of, wake) = (Arc::clone(&world), wake.clone());
        // Many objects are many decisions: not on a thread that serves others.
        let told = tokio::task::spawn_blocking(move || {
            let ends = of.promised.anew(&view.inventory, Instant::now());
            of.metrics.scraped.cluster(&view.inventory, of.promised.current().gpus());
            tell_changed(&of, &view, &wake);
            ends
        });
        match told.await {
            Ok(next) => ends = next,
            Err(_) => return,
        }
    }
}

async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

/// Plans every object anew, and wakes each as soon as its decision is another.
fn tell_changed(world: &World, view: &View, wake: &Waker) {
    let inventory = view.inventory.promising(world.promised.current());
    let broken = world.decisions.tell_changed(&inventory, view.version, |key| {
        world.metrics.woken();
        wake.wake(key);
    });
    for (key, panic) in broken {
        world.metrics.panicked();
        error!(
            namespace = key.0,
            name = key.1,
            panic,
            "planning broke off: a defect; the object is left as it is"
        );
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
