//! A connection's socket that counts what it has taken, so that a body which does not move can be told from a slow one.

use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};

pub(super) struct Counted<S> {
    socket: S,
    sent: Arc<AtomicU64>,
}

impl<S: Unpin> Counted<S> {
    pub(super) fn new(socket: S) -> Self {
        Self { socket, sent: Arc::default() }
    }

    /// How many bytes it has taken so far.
    pub(super) fn sent(&self) -> &Arc<AtomicU64> {
        &self.sent
    }

    fn socket(self: Pin<&mut Self>) -> Pin<&mut S> {
        Pin::new(&mut self.get_mut().socket)
    }

    fn count(&self, written: &Poll<Result<usize>>) {
        if let Poll::Ready(Ok(written)) = written {
            self.sent.fetch_add(*written as u64, Ordering::Relaxed);
        }
    }
}

impl<S: Read + Unpin> Read for Counted<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: ReadBufCursor<'_>) -> Poll<Result<()>> {
        self.socket().poll_read(cx, to)
    }
}

impl<S: Write + Unpin> Write for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let written = self.as_mut().socket().poll_write(cx, bytes);
        self.count(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = self.as_mut().socket().poll_write_vectored(cx, pieces);
        self.count(&written);
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
