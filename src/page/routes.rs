//! Which function answers which address.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::answers::{self, EstimateRequest};
use super::assets::ASSETS;
use super::cluster::{Cluster, MOST_OBJECTS, PlanRequest};
use super::problem::Problem;
use super::{App, Pace, UPLOADS, guard, json_text, measured, openapi};
use crate::api::ModelDeploymentSpec;
use crate::render::json;

type Answer = Result<Response, Problem>;
type Shared = State<Arc<App>>;

/// What never changes while the process runs, printed once.
type Printed = LazyLock<Bytes>;
static OPENAPI: Printed = LazyLock::new(|| bytes(&openapi::document()));
static MODELS: Printed = LazyLock::new(|| bytes(&answers::models()));

fn bytes<T: Serialize>(document: &T) -> Bytes {
    json::print(document).unwrap_or_default().into()
}

fn printed(text: &Printed) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], Bytes::clone(text)).into_response()
}

/// Every address.
pub(super) fn router(app: Arc<App>) -> Router {
    let mut router = Router::new();
    for asset in ASSETS {
        router =
            router.route(asset.path, get(move |headers: HeaderMap| async move { asset.answer(&headers) }));
    }
    router
        .route(guard::HEALTH, get(|| async { "ok\n" }))
        .route("/openapi.json", get(|| async { printed(&OPENAPI) }))
        .route("/api/v1/about", get(|State(app): Shared| async move { json_text(&app.about) }))
        .route("/api/v1/models", get(|| async { printed(&MODELS) }))
        .route("/api/v1/gpus", get(|| async { json_text(&answers::gpus()) }))
        .route("/api/v1/choices", get(|| async { json_text(&answers::choices()) }))
        .route("/api/v1/measured", get(measured_rows))
        .route("/api/v1/named", post(named))
        .route(UPLOADS, post(upload))
        .route("/api/v1/estimate", post(estimate))
        .route("/api/v1/view", post(view))
        .route("/api/v1/nodes", get(nodes))
        .route("/api/v1/doctor", get(doctor))
        .route("/api/v1/objects", get(objects))
        .route("/api/v1/plan", post(plan))
        .fallback(|| async {
            Problem::new(StatusCode::NOT_FOUND, "there is nothing here; /openapi.json lists what is")
        })
        // Bodies are bounded before they come here, each endpoint's by its own limit.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(Arc::clone(&app), guard::pass))
        .with_state(app)
}

/// A request's body as what it stands for; what is wrong names where.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let read = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let (path, problem) = (error.path().to_string(), error.into_inner().to_string());
        let field = path.strip_prefix("spec.").map(str::to_owned);
        let status = if field.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::BAD_REQUEST };
        let said = if path == "." { problem } else { format!("{path}: {problem}") };
        Problem { field, ..Problem::new(status, said) }
    })?;
    reader.end().map_err(|error| Problem::malformed(error.to_string()))?;
    Ok(read)
}

/// How long the answer about a spec may take.
fn pace(spec: &ModelDeploymentSpec) -> Pace {
    if spec.model.hugging_face.is_some() || spec.model.gguf.is_some() { Pace::Slow } else { Pace::Quick }
}

async fn estimate(State(app): Shared, body: Bytes) -> Answer {
    let request: EstimateRequest = read(&body)?;
    app.work(pace(&request.spec), move |app| Ok(json_text(&answers::estimate(&app.models, &request)?))).await
}

async fn view(State(app): Shared, body: Bytes) -> Answer {
    let request: EstimateRequest = read(&body)?;
    app.work(pace(&request.spec), move |app| Ok(json_text(&answers::view(&app.models, &request)?))).await
}

async fn named(body: Bytes) -> Answer {
    Ok(json_text(&answers::named(&read(&body)?)?))
}

#[derive(Deserialize)]
struct FileName {
    #[serde(default)]
    name: String,
}

async fn upload(State(app): Shared, Query(file): Query<FileName>, body: Bytes) -> Answer {
    app.work(Pace::Slow, move |app| {
        let name = crate::units::shorten(file.name.trim());
        let name = if name.is_empty() { "model" } else { &name };
        Ok(json_text(&app.models.upload(&body, name)?))
    })
    .await
}

#[derive(Deserialize)]
struct OfModel {
    #[serde(default)]
    model: String,
}

async fn measured_rows(Query(of): Query<OfModel>) -> Response {
    json_text(&measured::of(&of.model))
}

fn cluster(app: &App) -> Result<&Cluster, Problem> {
    app.cluster.as_ref().ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, "no cluster is shown; start it with --snapshot FILE")
    })
}

async fn nodes(State(app): Shared) -> Answer {
    app.work(Pace::Quick, |app| Ok(json_text(&cluster(app)?.nodes()))).await
}

async fn doctor(State(app): Shared) -> Answer {
    app.work(Pace::Quick, |app| Ok(json_text(&cluster(app)?.doctor()))).await
}

async fn objects(State(app): Shared) -> Answer {
    app.work(Pace::Quick, |app| Ok(json_text(&cluster(app)?.objects()))).await
}

async fn plan(State(app): Shared, body: Bytes) -> Answer {
    let request: PlanRequest = read(&body)?;
    if request.objects.len() > MOST_OBJECTS {
        let problem = format!("objects: {} are more than {MOST_OBJECTS}", request.objects.len());
        return Err(Problem::malformed(problem));
    }
    // Those that the server was given may be of the Hub.
    let quick = request.objects.iter().all(|object| pace(&object.spec) == Pace::Quick);
    let pace = if quick && !request.objects.is_empty() { Pace::Quick } else { Pace::Slow };
    app.work(pace, move |app| {
        let outcomes = cluster(app)?.plan(&request, &app.models);
        Ok(json_text(&json::plan(&outcomes)))
    })
    .await
}
