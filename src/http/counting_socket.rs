//! A connection's socket that counts its bytes in both directions. The counts tell a stalled body from a slow one, and
//! a connection that never answered from one that broke later.

use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The bytes that a connection has carried so far, and the generation that it belongs to.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// The generation of its origin's connections, see `ConnectionPool::retire`.
    generation: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

impl Traffic {
    fn new(generation: u64) -> Self {
        Self { generation: AtomicU64::new(generation), ..Self::default() }
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    pub(super) fn set_generation(&self, generation: u64) {
        self.generation.store(generation, Ordering::Relaxed);
    }

    /// How many bytes were written to the socket.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// How many bytes were read from the socket.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

/// A socket that counts its bytes in [`Traffic`].
pub(super) struct CountingSocket<S> {
    socket: S,
    traffic: Arc<Traffic>,
}

impl<S: Unpin> CountingSocket<S> {
    pub(super) fn new(socket: S, generation: u64) -> Self {
        Self { socket, traffic: Arc::new(Traffic::new(generation)) }
    }

    pub(super) fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    fn socket(self: Pin<&mut Self>) -> Pin<&mut S> {
        Pin::new(&mut self.get_mut().socket)
    }

    fn count_sent(&self, written: &Poll<Result<usize>>) {
        if let Poll::Ready(Ok(written)) = written {
            self.traffic.sent.fetch_add(*written as u64, Ordering::Relaxed);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for CountingSocket<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let before = to.filled().len();
        let read = self.as_mut().socket().poll_read(cx, to);
        self.traffic.received.fetch_add((to.filled().len() - before) as u64, Ordering::Relaxed);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for CountingSocket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let written = self.as_mut().socket().poll_write(cx, bytes);
        self.count_sent(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = self.as_mut().socket().poll_write_vectored(cx, buffers);
        self.count_sent(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.socket().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.socket().poll_shutdown(cx)
    }
}
