//! One object: gather, resolve, apply, status.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use kube::core::DeserializeGuard;
use kube::core::{DynamicObject, error_boundary::InvalidObject};
use kube::runtime::controller::Action;
use kube::runtime::events::{Event, EventType, Recorder};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, Resource};
use serde::Deserialize;
use tokio::sync::{mpsc, watch};
use tracing::{debug, error, info, warn};

use super::config_maps::ConfigMaps;
use super::error::{Error, within};
use super::events::{self, Note};
use super::gather::{self, Gathered, Places};
use super::kept::Kept;
use super::memory::Records;
use super::requirements::{self, Requirements};
use super::resolve::{self, Desired, Present, Resolved};
use super::status::{self, Facts};
use super::{apply, scale};
use crate::api::conditions::{self, WorkloadReason};
use crate::api::{ModelDeployment, ModelDeploymentStatus};
use crate::cluster::View;
use crate::decide::Reason;
use crate::inventory::PodFacts;
use crate::launch::deployment::Replacement;
use crate::launch::images::Images;
use crate::launch::rollout::{Child, Rollout};
use crate::launch::{Launch, Running, affinity, guard};
use crate::model::ModelShape;
use crate::plan::Plan;
use crate::render::Found;
use crate::telemetry::{Figures, Shown};
use crate::world::{Key, Tracked, Turns, World};

/// An object as the watch hands it over: one that is malformed stops no other.
pub type Guarded = DeserializeGuard<ModelDeployment>;

/// Every object is looked at again after so long, whatever is seen of it.
const AGAIN: Duration = Duration::from_mins(30);

/// How soon a Deployment of the same name that belongs to another is looked at again.
const TAKEN: Duration = Duration::from_mins(1);

/// What a reconcile needs.
pub struct Context {
    /// What every replica has.
    pub world: Arc<World>,
    /// What the one that writes has.
    pub writer: Writer,
    /// Reconciles take turns.
    pub turns: Turns,
}

/// What the one replica has that applies workloads, writes statuses and publishes events.
pub struct Writer {
    /// The API server.
    pub client: Client,
    /// The Deployments that Loadline manages.
    pub deployments: Store<Kept>,
    /// Whether they have been read.
    pub deployments_read: watch::Receiver<bool>,
    /// The ConfigMaps that describe models.
    pub config_maps: ConfigMaps,
    /// What pods must demand, as the API server's policies read it.
    pub requirements: Requirements,
    /// What is remembered of what was written.
    pub records: Records,
    /// Who publishes events.
    pub recorder: Recorder,
    /// Asks for a reconcile.
    pub wake: mpsc::UnboundedSender<ObjectRef<Guarded>>,
    /// Where the engines' own images are kept.
    pub images: Arc<Images>,
}

/// What a plan of an object is made of.
struct Question<'a> {
    guarded: &'a Arc<Guarded>,
    shape: Arc<ModelShape>,
    view: &'a Arc<View>,
    seen: Option<Arc<Deployment>>,
}

/// The reference by which an object is asked for.
#[must_use]
pub fn reference(key: &Key) -> ObjectRef<Guarded> {
    ObjectRef::new(&key.1).within(&key.0)
}

/// The key of an object.
#[must_use]
pub fn key_of(object: &impl Resource) -> Key {
    let metadata = object.meta();
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

/// Brings one object, its workload and its status to what its spec and the cluster come to.
///
/// # Errors
/// What may go right the next time.
pub async fn reconcile(object: Arc<Guarded>, context: Arc<Context>) -> Result<Action, Error> {
    let key = key_of(object.as_ref());
    if object.meta().deletion_timestamp.is_some() {
        // What it owns goes with it.
        context.forget(&key);
        context.writer.requirements.require(&key, None, true).await?;
        return Ok(Action::await_change());
    }
    let action = match &object.0 {
        Ok(settled) => context.settle(&key, &object, settled).await?,
        Err(invalid) => context.report_malformed(&key, invalid).await?,
    };
    context.writer.records.succeeded(&key);
    Ok(action)
}

/// When an object was created, in seconds since 1970: the order in which GPUs are promised.
fn created(object: &ModelDeployment) -> i64 {
    object.metadata.creation_timestamp.as_ref().map_or(i64::MAX, |created| created.0.as_second())
}

impl Context {
    async fn settle(
        &self,
        key: &Key,
        guarded: &Arc<Guarded>,
        object: &ModelDeployment,
    ) -> Result<Action, Error> {
        let (world, writer) = (&self.world, &self.writer);
        writer.deployments_read.clone().wait_for(|read| *read).await.map_err(|_| Error::Stopping)?;
        let gathered = {
            let places = Places {
                client: &writer.client,
                models: &world.models,
                config_maps: &writer.config_maps,
                permits: &world.permits,
            };
            gather::gather(places, key, object.metadata.generation, &object.spec).await?
        };
        let seen = self.deployment(key)?;
        let fill = world.models.sources().fill();
        world.metrics.stored(fill.shapes, fill.bytes);
        let pods = world.pods_of(key);
        let mut stands = false;
        let (resolved, hopeless, again) = match gathered {
            Gathered::Model(shape, look_again) => {
                let view = self.view().await?;
                let question = Question { guarded, shape, view: &view, seen: seen.clone() };
                let resolved = self.planned(key, question, Arc::clone(&pods)).await?;
                self.track(key, resolved.tracked.clone(), &view);
                self.require(key, object, &resolved.found, &view, seen.as_deref()).await?;
                (resolved, false, look_again.unwrap_or(AGAIN).min(AGAIN))
            }
            Gathered::Refused(error) => {
                self.untrack(key);
                (resolve::unresolved(Found::Refused(error), object, seen.as_deref()), true, AGAIN)
            }
            Gathered::Malformed(problem) => {
                self.untrack(key);
                let found = Found::Malformed(vec![problem]);
                (resolve::unresolved(found, object, seen.as_deref()), true, AGAIN)
            }
            Gathered::Pending => {
                self.untrack(key);
                // The read tells when it is over.
                stands = self.stands(key, object);
                (resolve::unresolved(Found::Pending, object, seen.as_deref()), false, AGAIN)
            }
            Gathered::Unresolved(unresolved) => {
                self.untrack(key);
                stands = unresolved.is_transient && self.stands(key, object);
                let found = Found::Unresolved(unresolved.message);
                let resolved = resolve::unresolved(found, object, seen.as_deref());
                (resolved, unresolved.again.is_none(), unresolved.again.unwrap_or(AGAIN))
            }
        };
        let apply =
            apply::Writer { client: &writer.client, metrics: &world.metrics, memory: &writer.records };
        let rollout = apply::workload(apply, object, &resolved.desired, seen.as_deref()).await?;
        // What cannot be written anew can be scaled all the same.
        let is_refused = matches!(rollout, Rollout::Rejected { .. } | Rollout::Denied { .. });
        if resolved.desired == Desired::AsItIs || is_refused {
            self.scale(object, seen.as_deref()).await?;
        }
        if stands {
            return Ok(Action::requeue(again));
        }
        let again = match &rollout {
            // Nothing tells when the other is gone.
            Rollout::NameTaken | Rollout::Predecessor => TAKEN,
            Rollout::Rejected { .. } => apply::REFUSED,
            Rollout::Denied { .. } => apply::DENIED,
            _ => again,
        };
        let facts = Facts {
            name: &key.1,
            generation: object.metadata.generation,
            wanted: object.spec.replicas,
            found: &resolved.found,
            hopeless,
            rollout: &rollout,
            pods: &pods,
            replacement: resolved.replacement(),
        };
        let again = self.write_status(key, object, object.status.clone(), facts).await?.unwrap_or(again);
        Ok(Action::requeue(again))
    }

    /// The Deployment of an object's name, as it was last seen.
    fn deployment(&self, key: &Key) -> Result<Option<Arc<Deployment>>, Error> {
        let kept = self.writer.deployments.get(&ObjectRef::new(&key.1).within(&key.0));
        let unpacked = kept.map(|kept| kept.unpack()).transpose();
        unpacked.map(|found| found.map(Arc::new)).map_err(|error| Error::Broken(error.to_string()))
    }

    /// Plans an object, off the threads that serve others.
    async fn planned(
        &self,
        key: &Key,
        question: Question<'_>,
        pods: Arc<[PodFacts]>,
    ) -> Result<Resolved, Error> {
        let Question { guarded, shape, view, seen } = question;
        let (guarded, view) = (Arc::clone(guarded), Arc::clone(view));
        let (world, name) = (Arc::clone(&self.world), key.clone());
        let images = Arc::clone(&self.writer.images);
        let planned = self.world.planner.run(&key.0, move || {
            let object = guarded.0.as_ref().ok()?;
            let present = Present { deployment: seen.as_deref(), pods: &pods, images: Some(&images) };
            let decided = |running: Option<&Running>| {
                world.decisions.handed_on(&name, object, running, &shape, view.version)
            };
            let promising = || view.inventory.promising(world.promised.current());
            let resolved = resolve::resolve(object, &shape, &promising(), present, decided);
            let wanted = resolved.found.plan().and_then(Plan::wanted);
            world.promised.wants(&name, created(object), wanted, &view.inventory, Instant::now());
            // What others were promised meanwhile is not to be promised twice.
            let is_outdated = |tracked: &Tracked| tracked.is_changed_by(&promising());
            if resolved.tracked.as_ref().is_some_and(is_outdated) {
                return Some(resolve::resolve(object, &shape, &promising(), present, |_| None));
            }
            Some(resolved)
        });
        match planned.await {
            Ok(resolved) => resolved.ok_or(Error::Stopping),
            Err(broken) => {
                self.world.metrics.panicked();
                error!(namespace = key.0, name = key.1, panic = broken.0, "planning broke off: a defect");
                Err(Error::Broken(broken.to_string()))
            }
        }
    }

    /// Writes what the pods of an object must demand, whoever makes them.
    async fn require(
        &self,
        key: &Key,
        object: &ModelDeployment,
        found: &Found,
        view: &View,
        seen: Option<&Deployment>,
    ) -> Result<(), Error> {
        // Where there is no plan, what was written stands.
        let Found::Planned(plan) = found else { return Ok(()) };
        let placement = object.spec.placement.clone().unwrap_or_default();
        let question = affinity::Question {
            sources: view.inventory.sources(),
            resource: plan.decision.resource(),
            requirement: plan.requirement,
            sharing: placement.sharing.unwrap_or_default(),
            strategy: placement.strategy.unwrap_or_default(),
        };
        let required = guard::required(&plan.launch, question).unwrap_or_default();
        // The Deployment as it is: what is about to be written into it may be another template.
        let is_rolled_out = match (seen, &plan.launch) {
            (None, _) | (_, Launch::Nothing(_)) => true,
            (Some(seen), Launch::Run(pods)) => {
                let written = Running::of(seen, None).record;
                written.is_some_and(|record| record.template == pods.template)
                    && requirements::is_rolled_out(seen)
            }
        };
        self.writer.requirements.require(key, required, is_rolled_out).await
    }

    /// What is not planned is promised nothing.
    fn untrack(&self, key: &Key) {
        self.world.decisions.track(key, None);
        self.world.promised.forget(key);
    }

    /// Whether what the status says stands while the model cannot be read: it has an estimate, and is about this spec.
    fn stands(&self, key: &Key, object: &ModelDeployment) -> bool {
        let metadata = &object.metadata;
        let (uid, version) = (metadata.uid.as_deref(), metadata.resource_version.as_deref());
        let status = self.writer.records.status(key, uid, version, object.status.clone());
        status.filter(|status| status.estimate.is_some()).is_some_and(|status| {
            self.writer.records.is_about(key, metadata.generation, &object.spec, &status)
        })
    }

    /// Brings the replicas of an object's Deployment to what is wanted, where nothing else of it can be.
    async fn scale(&self, object: &ModelDeployment, seen: Option<&Deployment>) -> Result<(), Error> {
        let Some(own) = seen.filter(|seen| apply::is_owned(seen, object)) else { return Ok(()) };
        if scale::replicas(&self.writer.client, own, object.spec.replicas).await? {
            self.world.metrics.workload_written();
        }
        Ok(())
    }

    /// The cluster; waits for it if it has not been read yet.
    async fn view(&self) -> Result<Arc<View>, Error> {
        let mut views = self.world.views.clone();
        let view = views.wait_for(Option::is_some).await.map_err(|_| Error::Stopping)?;
        view.clone().ok_or(Error::Stopping)
    }

    /// Remembers what was planned, so that a change of the cluster can wake the object.
    fn track(&self, key: &Key, tracked: Option<Tracked>, view: &View) {
        self.world.decisions.track(key, tracked);
        // The cluster may have changed while this object was planned, and not yet tracked.
        let newest = self.world.view().map(|view| view.version);
        if newest != Some(view.version) {
            // The receiver is gone only when the process is stopping.
            let _ = self.writer.wake.send(reference(key));
        }
    }

    /// Writes the status if it has changed. When to come back, if that is put off.
    async fn write_status(
        &self,
        key: &Key,
        object: &impl Resource<DynamicType = ()>,
        seen: Option<ModelDeploymentStatus>,
        facts: Facts<'_>,
    ) -> Result<Option<Duration>, Error> {
        let metadata = object.meta();
        let uid = metadata.uid.as_deref();
        let previous = self.writer.records.status(key, uid, metadata.resource_version.as_deref(), seen);
        let is_behind = previous.as_ref().is_some_and(|status| status.observed_generation > facts.generation);
        if is_behind {
            // A newer spec has been dealt with; its event is on the way.
            return Ok(None);
        }
        let next = status::status(facts, previous.as_ref(), jiff::Timestamp::now());
        self.world.metrics.scraped.shows(key, shown(&next));
        match &previous {
            Some(previous) if *previous == next => return Ok(None),
            Some(previous) => {
                if let Some(wait) =
                    self.writer.records.wait_to_write(key, status::difference(previous, &next))
                {
                    return Ok(Some(wait));
                }
            }
            None => {}
        }
        let version = apply::status(&self.writer.client, &key.0, &key.1, uid, &next).await?;
        if version.is_none() {
            debug!(namespace = key.0, name = key.1, "gone before its status was written");
            self.world.metrics.scraped.forget(key);
            return Ok(None);
        }
        self.world.metrics.status_written();
        let is_pending = shown(&next).reason == Reason::EstimatePending.as_str();
        if !is_pending && let Some(took) = self.writer.records.decided(key) {
            self.world.metrics.decided_after(took);
        }
        let before = previous.map(|status| status.conditions).unwrap_or_default();
        let notes = events::transitions(&before, &next.conditions);
        self.writer.records.wrote(key, uid, version.as_deref(), &next);
        for note in notes {
            if note.reason == WorkloadReason::GpuOutOfMemory.as_str() {
                self.world.metrics.estimate_exceeded();
            }
            info!(namespace = key.0, name = key.1, reason = note.reason, "{}", note.message);
            self.publish(object, note).await;
        }
        Ok(None)
    }

    /// Publishes an event. One that is lost is no reason to fail: the status has been written.
    async fn publish(&self, object: &impl Resource<DynamicType = ()>, note: Note) {
        let kind = if note.is_warning { "Warning" } else { "Normal" };
        let event = Event {
            type_: if note.is_warning { EventType::Warning } else { EventType::Normal },
            reason: note.reason,
            note: Some(note.message),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        let reference = object.object_ref(&());
        match within("event", self.writer.recorder.publish(&event, &reference)).await {
            Ok(()) => self.world.metrics.event(kind),
            Err(error) if error.is_namespace_terminating() => debug!(%error, "cannot publish an event"),
            Err(error) => warn!(%error, "cannot publish an event"),
        }
    }

    /// Says of a malformed object that it is.
    async fn report_malformed(&self, key: &Key, invalid: &InvalidObject) -> Result<Action, Error> {
        self.untrack(key);
        // Its status could not be read along with it.
        let resource = kube::core::ApiResource::erase::<ModelDeployment>(&());
        let objects: Api<DynamicObject> = Api::namespaced_with(self.writer.client.clone(), &key.0, &resource);
        let Some(live) = within("ModelDeployment", objects.get_opt(&key.1)).await? else {
            return Ok(Action::await_change());
        };
        let seen = live.data.get("status").and_then(|status| ModelDeploymentStatus::deserialize(status).ok());
        let object = ModelDeployment { metadata: live.metadata.clone(), ..ModelDeployment::default() };
        // What runs, runs on; and is counted.
        self.writer.deployments_read.clone().wait_for(|read| *read).await.map_err(|_| Error::Stopping)?;
        let present = self.deployment(key)?;
        let child = present.filter(|seen| apply::is_owned(seen, &object)).map(|own| Child::of(&own));
        let found = Found::Malformed(vec![format!(
            "spec: {}; write it as kubectl explain describes it",
            invalid.error
        )]);
        let facts = Facts {
            name: &key.1,
            generation: live.metadata.generation,
            wanted: 0,
            found: &found,
            hopeless: true,
            rollout: &Rollout::AsItIs(child),
            pods: &[],
            replacement: Replacement::Surge,
        };
        self.write_status(key, &object, seen, facts).await?;
        Ok(Action::requeue(AGAIN))
    }

    /// An object's reconcile is asked for: from now on it waits for an answer, if it has none to its present spec.
    pub fn asked_for(&self, object: &Guarded) {
        let Ok(object) = &object.0 else { return };
        let generation = object.metadata.generation;
        let observed = object.status.as_ref().and_then(|status| status.observed_generation);
        if observed != generation {
            let key = (object.metadata.namespace.clone(), object.metadata.name.clone());
            self.writer.records.awaits(&(key.0.unwrap_or_default(), key.1.unwrap_or_default()), generation);
        }
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, key: &Key) {
        self.writer.config_maps.forget(key);
        self.writer.records.forget(key);
        self.world.forget(key);
    }
}

/// What the metrics show of an object with this status.
fn shown(status: &ModelDeploymentStatus) -> Shown {
    let ready = conditions::find(&status.conditions, conditions::READY);
    let figures = status.estimate.as_ref().map(|estimate| Figures {
        needs: estimate.required_per_gpu,
        estimated: estimate.total,
        gpus: estimate.gpus,
        fits: status.placement.as_ref().map_or(0, |placement| placement.fits),
    });
    Shown {
        ready: ready.map_or_else(|| "Unknown".to_owned(), |ready| ready.status.clone()),
        reason: ready.map_or_else(String::new, |ready| ready.reason.clone()),
        figures,
    }
}

/// How long to wait after a failure.
pub fn after_failure(object: &Guarded, error: &Error, context: &Context) -> Action {
    let key = key_of(object);
    let wait = context.writer.records.failed(&key);
    warn!(namespace = key.0, name = key.1, %error, wait_seconds = wait.as_secs_f32(), "cannot reconcile: trying again");
    Action::requeue(wait)
}

#[cfg(test)]
mod tests;
