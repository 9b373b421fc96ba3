//! The webhooks' server: HTTP/1.1 over TLS, with a limit on everything that a stranger could make large or long.
//!
//! Invariants: who has not yet asked one proper question is put out first when there are too many; the bytes of all bodies
//! together are bounded; a defect answers 500 and ends nothing; who was asked while stopping still answers.

mod pace;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use self::pace::{Pace, Paced};
use crate::telemetry::AdmissionMetrics;

/// What nobody may go beyond.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a body: two objects of the most that etcd takes, and some more.
    pub body: usize,
    /// Bytes of all bodies that are being read or answered.
    pub bodies: usize,
    /// From the connection to the end of the handshake.
    pub handshake: Duration,
    /// From the first byte of a request to the last of its head.
    pub head: Duration,
    /// For a body, and for a free place to read it into.
    pub read: Duration,
    /// For the answer.
    pub answer: Duration,
    /// Between two requests: longer than the API server keeps a connection, so that it is never cut in its hand.
    pub idle: Duration,
    /// Connections that have not yet asked a proper question.
    pub strangers: usize,
    /// Those that have.
    pub known: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 7 << 20,
            bodies: 32 << 20,
            handshake: Duration::from_secs(5),
            head: Duration::from_secs(5),
            read: Duration::from_secs(3),
            answer: Duration::from_secs(4),
            idle: Duration::from_mins(3),
            strangers: 256,
            known: 256,
        }
    }
}

/// What is answered to a body that was posted.
#[derive(Debug)]
pub enum Reply {
    /// A document.
    Json(Vec<u8>),
    /// What was posted is no question.
    Malformed(String),
    /// It cannot be answered in time.
    Late,
    /// A defect.
    Broken,
    /// There is nothing at this path.
    NoSuchPath,
}

/// Answers questions.
pub trait Answer: Send + Sync + 'static {
    /// The answer to what was posted to a path.
    fn answer(self: Arc<Self>, path: String, body: Bytes) -> BoxFuture<'static, Reply>;
}

/// The server.
pub struct Server<A> {
    limits: Limits,
    answers: Arc<A>,
    metrics: AdmissionMetrics,
    bodies: Arc<Semaphore>,
    connections: Mutex<Connections>,
    next: AtomicU64,
    is_stopping: AtomicBool,
}

/// The connections that there are, the oldest first.
#[derive(Default)]
struct Connections {
    strangers: VecDeque<(u64, AbortHandle)>,
    known: VecDeque<(u64, AbortHandle)>,
}

impl<A: Answer> Server<A> {
    /// A server that answers so.
    #[must_use]
    pub fn new(limits: Limits, answers: Arc<A>, metrics: AdmissionMetrics) -> Arc<Self> {
        Arc::new(Self {
            limits,
            answers,
            metrics,
            bodies: Arc::new(Semaphore::new(limits.bodies)),
            connections: Mutex::default(),
            next: AtomicU64::new(0),
            is_stopping: AtomicBool::new(false),
        })
    }

    /// Serves until `stop` and for `drain` after it; then what is being answered is finished.
    pub async fn run(
        self: Arc<Self>,
        listener: TcpListener,
        tls: ServerConfig,
        stop: impl Future<Output = ()> + Send,
        drain: Duration,
    ) {
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let (close, closed) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let ended = async {
            stop.await;
            // From now on every answer asks the client to come back by another connection, which finds another replica.
            self.is_stopping.store(true, Ordering::Relaxed);
            tokio::time::sleep(drain).await;
        };
        let mut ended = std::pin::pin!(ended);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
                () = &mut ended => break,
            };
            match accepted {
                Ok((stream, _)) => {
                    let id = self.next.fetch_add(1, Ordering::Relaxed);
                    let connection =
                        Arc::clone(&self).connection(id, stream, acceptor.clone(), closed.clone());
                    let handle = tasks.spawn(connection);
                    self.welcome(id, handle);
                }
                Err(error) => {
                    // Too many open files, most likely: whoever waits is not helped by a loop.
                    debug!(%error, "cannot take a connection");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
        drop(listener);
        close.send_replace(true);
        let all_ended = async { while tasks.join_next().await.is_some() {} };
        let _ = timeout(self.limits.answer, all_ended).await;
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        // Every change is one insertion or removal: a panic elsewhere leaves nothing half done.
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a connection; the one that has been a stranger for longest goes if there are too many.
    fn welcome(&self, id: u64, handle: AbortHandle) {
        let mut connections = self.connections();
        connections.strangers.push_back((id, handle));
        if connections.strangers.len() > self.limits.strangers {
            put_out(&mut connections.strangers, &self.metrics);
        }
    }

    /// A connection has asked a proper question.
    fn know(&self, id: u64) {
        let mut connections = self.connections();
        let Some(at) = connections.strangers.iter().position(|(other, _)| *other == id) else { return };
        if let Some(one) = connections.strangers.remove(at) {
            connections.known.push_back(one);
        }
        if connections.known.len() > self.limits.known {
            put_out(&mut connections.known, &self.metrics);
        }
    }

    fn forget(&self, id: u64) {
        let mut connections = self.connections();
        connections.strangers.retain(|(other, _)| *other != id);
        connections.known.retain(|(other, _)| *other != id);
    }

    async fn connection(
        self: Arc<Self>,
        id: u64,
        stream: TcpStream,
        acceptor: TlsAcceptor,
        closed: watch::Receiver<bool>,
    ) {
        /// Forgets the connection however it ends.
        struct Guest<'a, A: Answer>(&'a Server<A>, u64);
        impl<A: Answer> Drop for Guest<'_, A> {
            fn drop(&mut self) {
                self.0.forget(self.1);
            }
        }
        let _guest = Guest(&self, id);
        // An answer is one small packet, and is not to wait for more.
        let _ = stream.set_nodelay(true);
        let Ok(Ok(stream)) = timeout(self.limits.handshake, acceptor.accept(stream)).await else {
            self.metrics.refused("handshake");
            return;
        };
        let pace = Arc::new(Pace::default());
        let io = TokioIo::new(Paced::new(stream, Arc::clone(&pace), self.limits.head, self.limits.idle));
        let service = service_fn(|request| {
            let (server, pace) = (Arc::clone(&self), Arc::clone(&pace));
            async move {
                pace.busy();
                let response = server.respond(id, request).await;
                pace.idle();
                Ok::<_, Infallible>(response)
            }
        });
        let serving = hyper::server::conn::http1::Builder::new()
            // Time is kept by the pace, which knows a stalled head from a connection that rests.
            .header_read_timeout(None)
            .max_headers(64)
            .max_buf_size(64 << 10)
            .serve_connection(io, service);
        let mut serving = std::pin::pin!(serving);
        let mut closed = closed;
        tokio::select! {
            _ = serving.as_mut() => return,
            _ = closed.wait_for(|closed| *closed) => serving.as_mut().graceful_shutdown(),
        }
        let _ = serving.await;
    }

    async fn respond(&self, id: u64, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (status, body) = match self.reply(id, request).await {
            Ok(body) => (StatusCode::OK, body),
            Err((status, problem)) => (status, problem.into_bytes()),
        };
        let is_json = status == StatusCode::OK;
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        let kind = if is_json { "application/json" } else { "text/plain; charset=utf-8" };
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        // A body that was not read to its end would be taken for the next request.
        if !is_json || self.is_stopping.load(Ordering::Relaxed) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn reply(&self, id: u64, request: Request<Incoming>) -> Result<Vec<u8>, (StatusCode, String)> {
        let refuse = |status: StatusCode, why: &'static str, problem: &str| {
            self.metrics.refused(why);
            (status, format!("{problem}\n"))
        };
        if request.method() != Method::POST {
            return Err(refuse(StatusCode::METHOD_NOT_ALLOWED, "method", "POST an AdmissionReview"));
        }
        let is_json =
            request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
                value.split(';').next().unwrap_or_default().trim() == "application/json"
            });
        if !is_json {
            let problem = "the content type must be application/json";
            return Err(refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", problem));
        }
        let path = request.uri().path().to_owned();
        let (body, _place) = self.body(request, refuse).await?;
        let started = Instant::now();
        let answers = Arc::clone(&self.answers);
        let reply = timeout(self.limits.answer, answers.answer(path, body)).await;
        match reply.unwrap_or(Reply::Late) {
            Reply::Json(document) => {
                self.metrics.answered(started.elapsed());
                self.know(id);
                Ok(document)
            }
            Reply::Malformed(problem) => Err(refuse(StatusCode::BAD_REQUEST, "malformed", &problem)),
            Reply::NoSuchPath => {
                Err(refuse(StatusCode::NOT_FOUND, "path", "nothing is answered at this path"))
            }
            Reply::Late => Err(refuse(StatusCode::GATEWAY_TIMEOUT, "late", "no answer in time")),
            Reply::Broken => {
                self.metrics.panicked();
                Err(refuse(StatusCode::INTERNAL_SERVER_ERROR, "defect", "a defect of Loadline: see its log"))
            }
        }
    }

    /// The body, and its place among all that are held.
    async fn body(
        &self,
        request: Request<Incoming>,
        refuse: impl Fn(StatusCode, &'static str, &str) -> (StatusCode, String),
    ) -> Result<(Bytes, OwnedSemaphorePermit), (StatusCode, String)> {
        let said = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let too_large = || {
            let problem = format!("a body may have {} bytes", self.limits.body);
            refuse(StatusCode::PAYLOAD_TOO_LARGE, "body_size", &problem)
        };
        if said.is_some_and(|length: u64| length > self.limits.body as u64) {
            return Err(too_large());
        }
        let read = async {
            // One that does not say how long it is may be as long as any.
            let places = said.and_then(|length| usize::try_from(length).ok()).unwrap_or(self.limits.body);
            let places = u32::try_from(places.max(1)).unwrap_or(u32::MAX);
            let place = Arc::clone(&self.bodies).acquire_many_owned(places).await.ok()?;
            Some((Limited::new(request.into_body(), self.limits.body).collect().await, place))
        };
        match timeout(self.limits.read, read).await {
            Ok(Some((Ok(collected), place))) => {
                let bytes = collected.to_bytes();
                if bytes.is_empty() {
                    return Err(refuse(StatusCode::BAD_REQUEST, "malformed", "the body is empty"));
                }
                Ok((bytes, place))
            }
            Ok(Some((Err(error), _))) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
            Ok(_) => Err(refuse(StatusCode::BAD_REQUEST, "body", "the body broke off")),
            Err(_) => Err(refuse(StatusCode::REQUEST_TIMEOUT, "body_time", "the body did not come in time")),
        }
    }
}

fn put_out(connections: &mut VecDeque<(u64, AbortHandle)>, metrics: &AdmissionMetrics) {
    if let Some((_, oldest)) = connections.pop_front() {
        metrics.refused("connections");
        oldest.abort();
    }
}

#[cfg(test)]
mod tests;
