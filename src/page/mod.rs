//! The page: an estimate as one types, and a cluster beside it; and the JSON endpoints that it is made of.
//!
//! Invariants: no formula is here, nor in the page's scripts: every figure is the core's, by an endpoint. Nothing is
//! written. No request takes more than its share of memory, connections or processors.

mod answers;
mod assets;
mod cluster;
mod connections;
mod guard;
mod measured;
mod models;
mod openapi;
mod problem;
mod rate;
mod routes;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::source::{Settings, SourceError, Token};
use models::Models;
use problem::Problem;
use rate::{Limiter, Rate};

pub use cluster::{Cluster, Object};
pub use measured::{MeasuredRow, rows as measured_rows};
pub use openapi::document as openapi;

/// Where files are uploaded: the one endpoint that takes more than a spec.
const UPLOADS: &str = "/api/v1/uploads";
/// The largest upload: the header of a GGUF file with the vocabulary of any real model.
const UPLOAD_BYTES: usize = 32 << 20;
/// The largest other request: a spec with a config.json in it.
const JSON_BYTES: usize = 1 << 20;
/// How many requests may ask the Hub at once, and how many may read uploads.
const SLOW_AT_ONCE: usize = 4;
/// The longest that a request waits for its turn.
const TURN: Duration = Duration::from_secs(2);
/// Requests of one address, of those who share a server with others.
const PUBLIC_RATE: Rate = Rate { per_second: 120, burst: 240 };
/// Requests of the one who started it.
const OWN_RATE: Rate = Rate { per_second: 2000, burst: 4000 };

/// How the page is served.
pub struct Options {
    /// For others than the one who started it: no token of the Hub, no cluster, a share of the requests each.
    pub public: bool,
    /// How the Hub is read.
    pub sources: Settings,
    /// The token for it.
    pub token: Option<Token>,
    /// A cluster to show.
    pub cluster: Option<Cluster>,
}

/// What the page may do.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct AboutDocument {
    /// The version of Loadline.
    version: &'static str,
    /// Whether models of the Hub can be read.
    hub: bool,
    /// Whether there is a cluster to show.
    cluster: bool,
}

/// What every request may use.
struct App {
    models: Models,
    cluster: Option<Cluster>,
    about: AboutDocument,
    limiter: Limiter,
    /// Whether only this machine may ask: other sites' pages must not, by a name of theirs that leads here.
    own: bool,
    processors: Arc<Semaphore>,
    slow: Arc<Semaphore>,
}

/// Serves the page on a listener, until `stop` is done.
///
/// # Errors
/// If the Hub's address is none.
pub async fn serve(
    listener: TcpListener,
    options: Options,
    stop: impl Future<Output = ()>,
) -> Result<(), SourceError> {
    let public = options.public;
    let cluster = options.cluster.filter(|_| !public);
    let about = AboutDocument {
        version: env!("CARGO_PKG_VERSION"),
        hub: !options.sources.offline,
        cluster: cluster.is_some(),
    };
    let processors = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let app = App {
        models: Models::new(options.sources, options.token, public)?,
        cluster,
        about,
        limiter: Limiter::new(if public { PUBLIC_RATE } else { OWN_RATE }),
        own: !public && listener.local_addr().is_ok_and(|address: SocketAddr| address.ip().is_loopback()),
        processors: Arc::new(Semaphore::new(processors)),
        slow: Arc::new(Semaphore::new(SLOW_AT_ONCE)),
    };
    connections::serve(listener, routes::router(Arc::new(app)), stop).await;
    Ok(())
}

impl App {
    /// Works out an answer on a thread where that may take long, when it is its turn.
    async fn work(
        self: Arc<Self>,
        pace: Pace,
        answer: impl FnOnce(&Self) -> Result<Response, Problem> + Send + 'static,
    ) -> Result<Response, Problem> {
        let turns = match pace {
            Pace::Quick => &self.processors,
            Pace::Slow => &self.slow,
        };
        let turn = tokio::time::timeout(TURN, Arc::clone(turns).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            return Err(Problem::busy("too many requests are being answered; ask again in a second"));
        };
        let worked = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            answer(&self)
        });
        worked.await.unwrap_or_else(|error| {
            Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the answer broke off: {error}")))
        })
    }
}

/// How long an answer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// Nothing is read for it.
    Quick,
    /// The Hub is asked, or a file read.
    Slow,
}

/// A document as the command line prints it.
fn json_text<T: Serialize>(document: &T) -> Response {
    match crate::render::json::print(document) {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
