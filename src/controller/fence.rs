//! Lets writes through only while this replica is known to be the one that may write.
//!
//! Invariant: a process that was paused past its lease writes nothing when it goes on: every write looks at the time before
//! it is sent. What was sent before that is with the API server, and is not called back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use axum::http::{Method, Request, Response};
use futures::FutureExt;
use futures::future::BoxFuture;
use kube::Client;
use kube::client::Body;
use tower::{BoxError, Service};

/// The writes of one leadership: closed for good when that ends.
#[derive(Clone, Debug)]
pub struct Fence(Arc<Mutex<State>>);

/// Until when writes are let through.
#[derive(Clone, Copy, Debug)]
enum State {
    /// Always: nobody else writes.
    Open,
    /// Until then, by either clock: one stands still while the machine sleeps, and the other can be set.
    Until(Moment),
    /// No more.
    Closed,
}

/// A moment, by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    steady: Instant,
    wall: SystemTime,
}

impl Moment {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        Self { steady: Instant::now(), wall: SystemTime::now() }
    }

    fn after(self, time: Duration) -> Self {
        Self { steady: self.steady + time, wall: self.wall + time }
    }

    fn is_past(self) -> bool {
        Instant::now() >= self.steady || SystemTime::now() >= self.wall
    }
}

/// A write that was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not sent: this replica is no longer the one that writes")]
pub struct Fenced;

impl Fence {
    /// Always open.
    #[must_use]
    pub fn open() -> Self {
        Self(Arc::new(Mutex::new(State::Open)))
    }

    /// Open for so long after a moment.
    #[must_use]
    pub fn until(start: Moment, time: Duration) -> Self {
        Self(Arc::new(Mutex::new(State::Until(start.after(time)))))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is one assignment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether writes are let through. Once they are not, they never are again.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let mut state = self.state();
        match *state {
            State::Open => true,
            State::Closed => false,
            State::Until(moment) => {
                if moment.is_past() {
                    *state = State::Closed;
                }
                !moment.is_past()
            }
        }
    }

    /// Stays open for so long after a moment; nothing if it is closed already. Whether it is open.
    #[must_use]
    pub fn extend(&self, start: Moment, time: Duration) -> bool {
        let is_open = self.is_open();
        if is_open {
            *self.state() = State::Until(start.after(time));
        }
        is_open
    }

    /// Lets nothing through any more.
    pub fn close(&self) {
        *self.state() = State::Closed;
    }

    /// A client whose writes go through here.
    #[must_use]
    pub fn client(&self, client: &Client) -> Client {
        let namespace = client.default_namespace().to_owned();
        Client::new(Through { inner: client.clone(), fence: self.clone() }, namespace)
    }
}

/// A client behind a fence.
#[derive(Clone)]
struct Through {
    inner: Client,
    fence: Fence,
}

impl Service<Request<Body>> for Through {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Self { inner, fence } = self.clone();
        async move {
            if request.method() != Method::GET && !fence.is_open() {
                return Err(Fenced.into());
            }
            inner.send(request).await.map_err(Into::into)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::Api;
    use kube::api::{DeleteParams, PostParams};

    use super::*;

    #[test]
    fn it_closes_by_itself_and_for_good() {
        let now = Moment::now();
        let fence = Fence::until(now, Duration::from_mins(1));
        assert!(fence.is_open() && fence.extend(now, Duration::from_mins(2)) && fence.is_open());
        assert!(fence.extend(now, Duration::ZERO), "it was open");
        assert!(!fence.is_open() && !fence.extend(Moment::now(), Duration::from_mins(1)) && !fence.is_open());
        // The wall clock alone is enough: the machine slept.
        let slept = Moment { steady: Instant::now(), wall: SystemTime::now() - Duration::from_mins(5) };
        assert!(!Fence::until(slept, Duration::from_mins(1)).is_open());
        let fence = Fence::open();
        assert!(fence.is_open());
        fence.close();
        assert!(!fence.is_open());
    }

    #[tokio::test]
    async fn a_closed_one_lets_reads_through_and_nothing_else() {
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&sent);
        let server = tower::service_fn(move |_: Request<Body>| {
            counted.fetch_add(1, Ordering::Relaxed);
            let body = r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}"#;
            futures::future::ready(Ok::<_, BoxError>(Response::new(Body::from(body.as_bytes().to_vec()))))
        });
        let fence = Fence::open();
        let maps: Api<ConfigMap> = Api::default_namespaced(fence.client(&Client::new(server, "default")));
        let map = ConfigMap::default();
        maps.create(&PostParams::default(), &map).await.unwrap();
        fence.close();
        maps.get("a").await.unwrap();
        let error = maps.create(&PostParams::default(), &map).await.unwrap_err();
        assert!(format!("{error:?}").contains("Fenced"), "{error:?}");
        assert!(maps.delete("a", &DeleteParams::default()).await.is_err());
        assert_eq!(sent.load(Ordering::Relaxed), 2);
    }
}
