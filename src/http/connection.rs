//! One HTTP/1.1 connection. hyper implements the protocol; we own the socket and decide when it is polled.
//!
//! The body of a GET with a known length does not pass through hyper's buffers: once hyper has read the head, we take
//! the socket back and read the bytes straight into the caller's buffer.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::{BufMut, Bytes};
use http::header::CONNECTION;
use http::{Method, Version};
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::net::TcpStream;

use super::counting_socket::{CountingSocket, Traffic};
use crate::error::{Error, Result, Status, chain};

pub(super) type Socket = MaybeHttpsStream<TokioIo<TcpStream>>;
/// On the heap, so that a TLS socket's kilobyte is not copied each time that it changes hands.
type BoxedSocket = Box<CountingSocket<TokioIo<Socket>>>;

/// hyper's message for a head with too many headers. Its test for this kind of error covers servers only.
const TOO_LARGE: &str = "message head is too large";
/// How many headers hyper has room for on the stack.
const USUAL_HEADERS: usize = 100;
/// How many headers a response may have. A blob has up to 8 KiB of metadata, names and values together
/// (<https://learn.microsoft.com/rest/api/storageservices/setting-and-retrieving-properties-and-metadata-for-blob-resources>),
/// one header for each pair: at most 4,096 of two bytes. The service adds some forty headers of its own.
const MAX_HEADERS: usize = 4096 + 100;
const GROWTH: usize = 4;
/// The number of steps from the usual limit to the largest.
const GROWTH_STEPS: u32 = 3;

/// The largest number of headers that responses to a client's requests may have. Above the usual number hyper allocates
/// memory for each response, which costs up to 0.2 ms. So the limit grows only when a response did not fit; the request
/// is then sent again.
pub(super) struct HeaderLimit(AtomicUsize);

impl Default for HeaderLimit {
    fn default() -> Self {
        Self(AtomicUsize::new(USUAL_HEADERS))
    }
}

impl HeaderLimit {
    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Raises the limit above `headers`; false if `headers` is the maximum.
    fn grow_beyond(&self, headers: usize) -> bool {
        self.0.fetch_max(headers.saturating_mul(GROWTH).min(MAX_HEADERS), Ordering::Relaxed);
        headers < MAX_HEADERS
    }
}

/// A connection that no request is using.
pub(super) struct IdleConnection {
    socket: BoxedSocket,
    since: Instant,
}

impl IdleConnection {
    pub(super) fn new(socket: Socket, generation: u64) -> Self {
        Self::from_socket(Box::new(CountingSocket::new(TokioIo::new(socket), generation)))
    }

    fn from_socket(socket: BoxedSocket) -> Self {
        Self { socket, since: Instant::now() }
    }

    pub(super) fn traffic(&self) -> &Arc<Traffic> {
        self.socket.traffic()
    }

    pub(super) fn since(&self) -> Instant {
        self.since
    }

    #[cfg(test)]
    pub(super) fn aged(mut self, by: std::time::Duration) -> Self {
        self.since -= by;
        self
    }

    /// Whether the peer still holds the connection open and has sent no unrequested bytes.
    pub(super) fn is_usable(&mut self) -> bool {
        let mut byte = [0];
        poll_once(|cx| Pin::new(&mut self.socket).poll_read(cx, &mut ReadBuf::new(&mut byte)).is_pending())
    }

    /// Sends a request and waits for the head of its response. Dropping the future closes the connection.
    pub(super) async fn exchange(
        self,
        request: http::Request<Full<Bytes>>,
        limit: &HeaderLimit,
    ) -> Result<(http::response::Parts, Body)> {
        let is_get = request.method() == Method::GET;
        let headers = limit.get();
        let mut exchange = Exchange::begin(self.socket, headers).await?;
        let failed = |error: hyper::Error| {
            let text = chain(&error);
            let has_grown = error.is_parse() && text == TOO_LARGE && limit.grow_beyond(headers);
            let error = Error::network(text);
            if has_grown { error.with_tries_at_once(GROWTH_STEPS) } else { error }
        };
        let (head, incoming) = exchange.send(request, failed).await?.into_parts();
        let body = match incoming.size_hint().exact() {
            Some(length) if is_get => Body::Direct(exchange.into_direct_body(incoming, length, stays_open(&head))?),
            _ => Body::Hyper(Box::new(exchange), incoming),
        };
        Ok((head, body))
    }
}

/// Polls once, without registering for a wake-up.
fn poll_once<T>(poll: impl FnOnce(&mut Context<'_>) -> T) -> T {
    poll(&mut Context::from_waker(Waker::noop()))
}

/// Whether the connection persists after this response (RFC 9112, 9.3).
fn stays_open(head: &http::response::Parts) -> bool {
    let closes = |value: &http::HeaderValue| {
        value.to_str().is_ok_and(|list| list.split(',').any(|option| option.trim().eq_ignore_ascii_case("close")))
    };
    head.version == Version::HTTP_11 && !head.headers.get_all(CONNECTION).iter().any(closes)
}

/// The rest of a response's body.
pub(super) enum Body {
    /// Read straight from the socket.
    Direct(DirectBody),
    /// Read through hyper.
    Hyper(Box<Exchange>, Incoming),
}

impl Body {
    /// Receives some of the body into `to` and returns the number of bytes; 0 at the body's end. A body of more than
    /// `limit` bytes is an error.
    pub(super) async fn receive(&mut self, to: &mut impl BufMut, limit: u64) -> Result<usize> {
        match self {
            Self::Direct(body) => body.receive(to, limit).await,
            Self::Hyper(exchange, incoming) => match exchange.next_frame(incoming).await? {
                None => Ok(0),
                Some(frame) if frame.len() as u64 > limit.min(to.remaining_mut() as u64) => Err(too_long()),
                Some(frame) => {
                    let length = frame.len();
                    to.put(frame);
                    Ok(length)
                }
            },
        }
    }

    /// Whether the whole body is known to have been received. If it returns false, the next read may still be empty.
    pub(super) fn has_ended(&self) -> bool {
        match self {
            Self::Direct(body) => body.left == 0,
            Self::Hyper(_, incoming) => incoming.is_end_stream(),
        }
    }

    /// The connection, if another request can follow on it.
    pub(super) fn into_idle(self) -> Option<IdleConnection> {
        match self {
            Self::Direct(body) => {
                let is_clean = body.left == 0 && body.early.is_empty() && body.reusable;
                is_clean.then(|| IdleConnection::from_socket(body.socket))
            }
            Self::Hyper(exchange, _) => exchange.into_idle(),
        }
    }
}

/// The rest of a body of known length, read straight from the socket.
pub(super) struct DirectBody {
    socket: BoxedSocket,
    /// The bytes that hyper has read beyond the head, in order.
    early: VecDeque<Bytes>,
    left: u64,
    reusable: bool,
}

impl DirectBody {
    async fn receive(&mut self, to: &mut impl BufMut, limit: u64) -> Result<usize> {
        if self.left > limit {
            return Err(too_long());
        }
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(to.remaining_mut());
        let received = if wanted == 0 {
            0
        } else if let Some(early) = self.early.front_mut() {
            let piece = early.split_to(wanted.min(early.len()));
            if early.is_empty() {
                self.early.pop_front();
            }
            to.put_slice(&piece);
            piece.len()
        } else {
            match self.socket.read_buf(&mut to.limit(wanted)).await {
                Ok(0) => return Err(Error::network("the connection was closed before the body's end")),
                Ok(received) => received,
                Err(error) => return Err(Error::network(chain(&error))),
            }
        };
        self.left -= received as u64;
        Ok(received)
    }
}

fn too_long() -> Error {
    Error::new(Status::Corrupt, "the body is longer than what was asked for").retryable(None)
}

/// A connection that hyper drives. The request that owns it polls it.
pub(super) struct Exchange {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: http1::Connection<TokioIo<BoxedSocket>, Full<Bytes>>,
}

impl Exchange {
    async fn begin(socket: BoxedSocket, headers: usize) -> Result<Self> {
        let mut builder = http1::Builder::new();
        if headers > USUAL_HEADERS {
            builder.max_headers(headers);
        }
        let (sender, driver) =
            builder.handshake(TokioIo::new(socket)).await.map_err(|error| Error::network(chain(&error)))?;
        Ok(Self { sender, driver })
    }

    async fn send(
        &mut self,
        request: http::Request<Full<Bytes>>,
        failed: impl Fn(hyper::Error) -> Error,
    ) -> Result<http::Response<Incoming>> {
        let mut exchange = pin!(self.sender.send_request(request));
        let driver = &mut self.driver;
        poll_fn(|cx| {
            if let Poll::Ready(result) = exchange.as_mut().poll(cx) {
                return Poll::Ready(result.map_err(&failed));
            }
            // Polling the driver may complete the exchange, so the exchange is polled again afterwards.
            let closed = Pin::new(&mut *driver).poll(cx);
            match (exchange.as_mut().poll(cx), closed) {
                (Poll::Ready(result), _) => Poll::Ready(result.map_err(&failed)),
                (Poll::Pending, Poll::Ready(Ok(()))) => Poll::Ready(Err(Error::network("the connection was closed"))),
                (Poll::Pending, Poll::Ready(Err(error))) => Poll::Ready(Err(failed(error))),
                (Poll::Pending, Poll::Pending) => Poll::Pending,
            }
        })
        .await
    }

    /// Takes the socket back from hyper, together with the part of the body that hyper has read.
    fn into_direct_body(self, mut incoming: Incoming, length: u64, reusable: bool) -> Result<DirectBody> {
        let mut early = VecDeque::new();
        // The driver is not polled any more, so this returns only the frames that it has passed on already.
        while let Poll::Ready(Some(frame)) = poll_once(|cx| Pin::new(&mut incoming).poll_frame(cx)) {
            let frame = frame.map_err(|error| Error::network(chain(&error)))?;
            early.extend(frame.into_data().ok().filter(|data| !data.is_empty()));
        }
        let parts = self.driver.into_parts();
        early.extend(Some(parts.read_buf).filter(|rest| !rest.is_empty()));
        Ok(DirectBody { socket: parts.io.into_inner(), early, left: length, reusable })
    }

    async fn next_frame(&mut self, body: &mut Incoming) -> Result<Option<Bytes>> {
        let driver = &mut self.driver;
        loop {
            let frame = poll_fn(|cx| {
                if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) {
                    return Poll::Ready(frame);
                }
                // The body returns an error of the driver as well.
                let _ = Pin::new(&mut *driver).poll(cx);
                Pin::new(&mut *body).poll_frame(cx)
            })
            .await;
            match frame.transpose().map_err(|error| Error::network(chain(&error)))? {
                None => return Ok(None),
                Some(frame) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Ok(Some(data)),
                    // An empty frame is not the end of the body. Trailers are not used.
                    _ => {}
                },
            }
        }
    }

    fn into_idle(mut self) -> Option<IdleConnection> {
        let open = poll_once(|cx| Pin::new(&mut self.driver).poll(cx).is_pending());
        if !open || !self.sender.is_ready() {
            return None;
        }
        let parts = self.driver.into_parts();
        parts.read_buf.is_empty().then(|| IdleConnection::from_socket(parts.io.into_inner()))
    }
}
