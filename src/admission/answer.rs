//! Answers questions from what this replica has in memory.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use hyper::body::Bytes;
use tracing::error;

use super::pods;
use super::review::{Known, review};
use super::server::{self, Reply};
use super::wire::{self, Refused, Request, Response};
use crate::api::ModelDeployment;
use crate::api::v1alpha1::AdmissionMode;
use crate::model::ModelShape;
use crate::plan::{self, ResolveError, SpecSource};
use crate::refusal::Refusal;
use crate::render::Found;
use crate::source::{self, SourceError, SourceRef, Sources};
use crate::world::World;

/// Where ModelDeployments are reviewed.
pub const VALIDATE: &str = "/validate";
/// Where pods that name a ModelDeployment are given what it needs.
pub const PODS: &str = "/pods";
/// A longer body is parsed where it holds up nobody else.
const LONG: usize = 64 << 10;

/// Answers for one replica.
pub struct Reviewer {
    /// What it knows.
    pub world: Arc<World>,
    /// What is done where nothing fits and neither the object nor its namespace says.
    pub mode: AdmissionMode,
}

impl server::Answer for Reviewer {
    fn answer(self: Arc<Self>, path: String, body: Bytes) -> BoxFuture<'static, Reply> {
        async move {
            let is_of_pods = match path.as_str() {
                VALIDATE => false,
                PODS => true,
                _ => return Reply::NoSuchPath,
            };
            let request = if body.len() < LONG {
                wire::read(&body)
            } else {
                match tokio::task::spawn_blocking(move || wire::read(&body)).await {
                    Ok(read) => read,
                    Err(_) => return Reply::Broken,
                }
            };
            match request {
                Ok(request) if is_of_pods => self.given(&request),
                Ok(request) => self.reviewed(request).await,
                Err(malformed) => Reply::Malformed(malformed.to_string()),
            }
        }
        .boxed()
    }
}

impl Reviewer {
    /// What a pod is given: it takes no time, and no turn.
    fn given(&self, request: &Request) -> Reply {
        if (request.kind.group.as_str(), request.kind.kind.as_str()) != ("", "Pod") {
            let kind = crate::units::shorten(&request.kind.kind);
            return Reply::Malformed(format!("{kind} is not answered at {PODS}"));
        }
        let required = pods::names(request).and_then(|name| self.world.required.of(&request.namespace, name));
        let pod = request.object.as_ref();
        let patch = pod.zip(required).and_then(|(pod, required)| pods::give(pod, &required));
        let word = if patch.is_some() { "given" } else { "nothing_to_give" };
        self.world.metrics.admission.reviewed(word);
        let response = Response { patch, ..Response::default() };
        Reply::Json(wire::answer(&request.uid, &response).to_string().into_bytes())
    }

    async fn reviewed(self: Arc<Self>, request: Request) -> Reply {
        if (request.kind.group.as_str(), request.kind.kind.as_str()) != ("loadline.dev", "ModelDeployment") {
            let kind = crate::units::shorten(&request.kind.kind);
            return Reply::Malformed(format!("{kind} is not reviewed at {VALIDATE}"));
        }
        let (namespace, uid) = (request.namespace.clone(), request.uid.clone());
        let (world, mode) = (Arc::clone(&self.world), self.mode);
        let answered = self.world.planner.run(&namespace, move || {
            let view = world.view();
            let inventory = view.as_ref().map(|view| view.inventory.promising(world.promised.current()));
            let known = Known {
                mode: world.modes.of(&request.namespace).unwrap_or(mode),
                inventory: inventory.as_ref(),
                permits: &world.permits,
            };
            let answer =
                review(&request, known, |object| shape(world.models.sources(), &request.namespace, object));
            world.metrics.admission.reviewed(answer.word());
            let refusal = answer.denial().map(|(message, is_invalid)| Refused { message, is_invalid });
            Response { refusal, warnings: answer.warning().into_iter().collect(), patch: None }
        });
        match answered.await {
            Ok(response) => Reply::Json(wire::answer(&uid, &response).to_string().into_bytes()),
            Err(broken) => {
                error!(namespace, panic = broken.0, "a review broke off: a defect");
                Reply::Broken
            }
        }
    }
}

/// The shape of an object's model, if it is in memory or the spec itself describes it.
fn shape(sources: &Sources, namespace: &str, object: &ModelDeployment) -> Result<Arc<ModelShape>, Found> {
    enum Missing {
        Resolve(ResolveError),
        /// It cannot be read just now, or has not been.
        Source,
    }
    impl From<SourceError> for Missing {
        fn from(_: SourceError) -> Self {
            Self::Source
        }
    }
    let spec = &object.spec;
    let described = match plan::spec_source(spec).map_err(Found::Refused)? {
        SpecSource::Parameters(_) | SpecSource::Config(_) | SpecSource::Catalog(_) => {
            let text = serde_json::to_vec(&spec.model).unwrap_or_default();
            sources.described(namespace, "spec.model", &text, || {
                // It is one of those that are described.
                let missing = || Err(Refusal::invalid("model", "it describes no model", "write one").into());
                plan::resolve_pure(spec).unwrap_or_else(missing).map_err(Missing::Resolve)
            })
        }
        // Another namespace's token, or a ConfigMap, is not for admission to read.
        SpecSource::ConfigMap(_) => return Err(Found::Pending),
        SpecSource::HuggingFace(_) | SpecSource::HuggingFaceGguf(_) | SpecSource::GgufUrl(_) => {
            if source::token_secret(&spec.model).is_some() {
                return Err(Found::Pending);
            }
            let name = object.metadata.name.as_deref().unwrap_or_default();
            SourceRef::of(&spec.model, name, None, None)
                .map_err(Missing::from)
                .and_then(|source| Ok(sources.known(namespace, &source).ok_or(Missing::Source)??))
        }
    };
    described.map_err(|missing| match missing {
        Missing::Resolve(error) => Found::from(error),
        // That it cannot be read now says nothing against it.
        Missing::Source => Found::Pending,
    })
}
