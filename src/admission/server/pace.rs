//! How long a connection may rest, and how long a head may take: two different things, which the framework has one limit for.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// Whether a request is being answered, told by whoever answers it. Odd while it is; every change is another number.
#[derive(Debug, Default)]
pub(super) struct Pace(AtomicU64);

impl Pace {
    /// A request's head is read: whoever answers it keeps the time from now on.
    pub(super) fn busy(&self) {
        self.0.fetch_or(1, Ordering::AcqRel);
    }

    /// It is answered.
    pub(super) fn idle(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

/// A connection that ends when it is too slow.
#[derive(Debug)]
pub(super) struct Paced<S> {
    inner: S,
    pace: Arc<Pace>,
    head: Duration,
    idle: Duration,
    /// The number of the pace that the timer is for, and whether a head has begun since.
    seen: u64,
    has_begun: bool,
    timer: Pin<Box<Sleep>>,
}

impl<S> Paced<S> {
    /// A new connection: its first request is to come at once.
    pub(super) fn new(inner: S, pace: Arc<Pace>, head: Duration, idle: Duration) -> Self {
        Self { inner, pace, head, idle, seen: 0, has_begun: true, timer: Box::pin(sleep(head)) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let now = this.pace.0.load(Ordering::Acquire);
        let is_busy = now & 1 == 1;
        if now != this.seen {
            (this.seen, this.has_begun) = (now, false);
            this.timer.as_mut().reset(Instant::now() + this.idle);
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut this.inner).poll_read(cx, buf);
        if is_busy {
            return read;
        }
        if read.is_ready() && buf.filled().len() > before && !this.has_begun {
            this.has_begun = true;
            this.timer.as_mut().reset(Instant::now() + this.head);
        }
        // Also when something came: bytes that drip must not put the end off.
        if this.timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
