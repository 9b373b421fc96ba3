//! The server's connections: bounded in number, and none held open by who sends or reads slowly.
//!
//! Invariant: a new connection is always taken, unless every other is one whose answer is being worked out. Where there
//! are as many as may be, the one that has been silent or slow for longest makes room.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, Response, StatusCode};
use axum::response::IntoResponse;
use futures::StreamExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::problem::Problem;
use super::{JSON_BYTES, UPLOAD_BYTES, UPLOADS};

/// The most connections at once: below the number of open files that a process may usually have.
const MOST_CONNECTIONS: usize = 512;
/// The longest for a request's header, which is also how long a connection may be silent.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// The longest for a request's body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// The bytes of all bodies that are there at once.
const BODIES_BYTES: usize = 96 << 20;
/// The largest header of a request, in bytes.
const HEADER_BYTES: usize = 16 << 10;

/// A connection as the others see it.
#[derive(Default)]
struct Connection {
    /// Its request is there whole, and being answered.
    busy: AtomicBool,
    close: Notify,
}

/// The connections, oldest first.
#[derive(Default)]
struct Connections {
    state: Mutex<(u64, BTreeMap<u64, Arc<Connection>>)>,
}

impl Connections {
    fn lock(&self) -> MutexGuard<'_, (u64, BTreeMap<u64, Arc<Connection>>)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room for one more; none while all are busy.
    fn admit(&self) -> Option<(u64, Arc<Connection>)> {
        let mut state = self.lock();
        if state.1.len() >= MOST_CONNECTIONS {
            let idle = state.1.iter().find(|(_, connection)| !connection.busy.load(Ordering::Relaxed));
            let oldest = idle.map(|(number, _)| *number)?;
            if let Some(connection) = state.1.remove(&oldest) {
                connection.close.notify_one();
            }
        }
        state.0 += 1;
        let (number, connection) = (state.0, Arc::<Connection>::default());
        state.1.insert(number, Arc::clone(&connection));
        Some((number, connection))
    }
}

/// Answers on a listener until `stop` is done.
pub(super) async fn serve(listener: TcpListener, router: Router, stop: impl Future<Output = ()>) {
    let connections = Arc::new(Connections::default());
    let memory = Arc::new(Semaphore::new(BODIES_BYTES));
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, peer)) = accepted else {
            // Out of open files, most likely: asking again at once would be a busy loop.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Some((number, connection)) = connections.admit() else { continue };
        let (router, connections, memory) = (router.clone(), Arc::clone(&connections), Arc::clone(&memory));
        tokio::spawn(async move {
            tokio::select! {
                () = answer(stream, peer, router, &connection, &memory) => {}
                () = connection.close.notified() => {}
            }
            connections.lock().1.remove(&number);
        });
    }
}

async fn answer(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    connection: &Connection,
    memory: &Arc<Semaphore>,
) {
    let _ = stream.set_nodelay(true);
    let router = TowerToHyperService::new(router);
    let service = service_fn(|request| {
        let router = router.clone();
        async move { Ok::<_, std::convert::Infallible>(one(request, peer, router, connection, memory).await) }
    });
    // What goes wrong with a connection is the other side's to know.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// One request: its body first, whole and bounded, then the answer.
async fn one(
    request: Request<Incoming>,
    peer: SocketAddr,
    router: TowerToHyperService<Router>,
    connection: &Connection,
    memory: &Arc<Semaphore>,
) -> Response<Body> {
    let (mut parts, body) = request.into_parts();
    let limit = if parts.uri.path() == UPLOADS { UPLOAD_BYTES } else { JSON_BYTES };
    let read = tokio::time::timeout(BODY_TIMEOUT, whole(body, limit, memory)).await;
    // What the body takes is given back when it is answered.
    let (body, _held) = match read {
        Ok(Ok(read)) => read,
        Ok(Err(problem)) => return problem.into_response(),
        Err(_) => {
            return Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")
                .into_response();
        }
    };
    parts.extensions.insert(ConnectInfo(peer));
    connection.busy.store(true, Ordering::Relaxed);
    let response = router.call(Request::from_parts(parts, Body::from(body))).await;
    connection.busy.store(false, Ordering::Relaxed);
    match response {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// A body, and its share of the memory for all of them: as much as has really come, whatever was announced.
async fn whole(
    body: Incoming,
    limit: usize,
    memory: &Arc<Semaphore>,
) -> Result<(Vec<u8>, Option<OwnedSemaphorePermit>), Problem> {
    let mut parts = Body::new(body).into_data_stream();
    let mut bytes = Vec::new();
    let mut held: Option<OwnedSemaphorePermit> = None;
    while let Some(part) = parts.next().await {
        let part = part.map_err(|_| Problem::malformed("the body breaks off"))?;
        if bytes.len() + part.len() > limit {
            let problem = format!("the body is larger than {limit} bytes");
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, problem));
        }
        let share = u32::try_from(part.len())
            .ok()
            .and_then(|share| Arc::clone(memory).try_acquire_many_owned(share).ok());
        let Some(share) = share else {
            return Err(Problem::busy("too much is being sent at once; send it again in a second"));
        };
        match &mut held {
            Some(held) => held.merge(share),
            None => held = Some(share),
        }
        bytes.extend_from_slice(&part);
    }
    Ok((bytes, held))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_that_is_not_busy_makes_room() {
        let connections = Connections::default();
        let held: Vec<_> = (0..MOST_CONNECTIONS).map(|_| connections.admit().expect("room")).collect();
        held[0].1.busy.store(true, Ordering::Relaxed);
        let (number, _) = connections.admit().expect("room is made");
        let state = connections.lock();
        assert_eq!(state.1.len(), MOST_CONNECTIONS);
        assert!(state.1.contains_key(&held[0].0) && !state.1.contains_key(&held[1].0));
        assert!(state.1.contains_key(&number));
        for connection in state.1.values() {
            connection.busy.store(true, Ordering::Relaxed);
        }
        drop(state);
        assert!(connections.admit().is_none(), "an answer that is being worked out is not broken off");
    }
}
