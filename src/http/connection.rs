//! One HTTP/1.1 connection. hyper speaks the protocol; we own the socket and decide when it is polled.
//!
//! A GET's body of known length does not pass through hyper's buffers: once hyper has read the head, the
//! socket is taken back and the bytes are received where they belong.

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

use super::counting_socket::Counted;
use super::liveness::Traffic;
use crate::error::{Error, Result, Status, chain};

pub(super) type Socket = MaybeHttpsStream<TokioIo<TcpStream>>;
/// On the heap once for all of a connection's requests, since TLS has a kilobyte that each step of one would move.
type Stream = Box<Counted<TokioIo<Socket>>>;

/// What hyper says of a head with too many headers. Its own question for that is there for servers only.
const TOO_LARGE: &str = "message head is too large";
/// How many headers hyper makes room for on the stack.
const USUAL_HEADERS: usize = 100;
/// How many headers an answer may have. A blob has up to 8 KiB of metadata, names and values together
/// (<https://learn.microsoft.com/rest/api/storageservices/setting-and-retrieving-properties-and-metadata-for-blob-resources>),
/// each a header of its own: at most 4,096 of two bytes. The service adds some forty of its own.
const MOST_HEADERS: usize = 4096 + 100;
const GROWTH: usize = 4;
/// From the usual room to the largest.
const GROWTH_STEPS: u32 = 3;

/// How many headers the answers of a client's requests have room for. hyper allocates it for each answer when it is more
/// than usual, which costs up to 0.2 ms. So it grows only when an answer did not fit, and is then asked for again.
pub(super) struct HeadRoom(AtomicUsize);

impl Default for HeadRoom {
    fn default() -> Self {
        Self(AtomicUsize::new(USUAL_HEADERS))
    }
}

impl HeadRoom {
    fn headers(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Makes room for more than `headers`; false if that was the most.
    fn grow_beyond(&self, headers: usize) -> bool {
        self.0.fetch_max(headers.saturating_mul(GROWTH).min(MOST_HEADERS), Ordering::Relaxed);
        headers < MOST_HEADERS
    }
}

/// A connection that no request is using.
pub(super) struct Idle {
    stream: Stream,
    since: Instant,
}

impl Idle {
    pub(super) fn new(socket: Socket, generation: u64) -> Self {
        Self::again(Box::new(Counted::new(TokioIo::new(socket), generation)))
    }

    fn again(stream: Stream) -> Self {
        Self { stream, since: Instant::now() }
    }

    pub(super) fn traffic(&self) -> &Arc<Traffic> {
        self.stream.traffic()
    }

    pub(super) fn since(&self) -> Instant {
        self.since
    }

    #[cfg(test)]
    pub(super) fn aged(mut self, by: std::time::Duration) -> Self {
        self.since -= by;
        self
    }

    /// Whether the peer still holds its end open and has sent nothing unasked.
    pub(super) fn is_usable(&mut self) -> bool {
        let mut byte = [0];
        now(|cx| Pin::new(&mut self.stream).poll_read(cx, &mut ReadBuf::new(&mut byte)).is_pending())
    }

    /// Sends a request and waits for the head of its response. Dropped meanwhile, the connection is closed.
    pub(super) async fn exchange(
        self,
        request: http::Request<Full<Bytes>>,
        room: &HeadRoom,
    ) -> Result<(http::response::Parts, Body)> {
        let is_get = request.method() == Method::GET;
        let headers = room.headers();
        let mut exchange = Exchange::begin(self.stream, headers).await?;
        let failed = |error: hyper::Error| {
            let text = chain(&error);
            let is_outgrown = error.is_parse() && text == TOO_LARGE && room.grow_beyond(headers);
            let error = Error::network(text);
            if is_outgrown { error.with_tries_at_once(GROWTH_STEPS) } else { error }
        };
        let (head, incoming) = exchange.send(request, failed).await?.into_parts();
        let body = match incoming.size_hint().exact() {
            Some(length) if is_get => Body::Plain(exchange.take_over(incoming, length, stays_open(&head))?),
            _ => Body::Framed(Box::new(exchange), incoming),
        };
        Ok((head, body))
    }
}

/// Polls for what is there already; nobody waits for more.
fn now<T>(poll: impl FnOnce(&mut Context<'_>) -> T) -> T {
    poll(&mut Context::from_waker(Waker::noop()))
}

/// What RFC 9112 (9.3) says of persistence.
fn stays_open(head: &http::response::Parts) -> bool {
    let closes = |value: &http::HeaderValue| {
        value.to_str().is_ok_and(|list| list.split(',').any(|option| option.trim().eq_ignore_ascii_case("close")))
    };
    head.version == Version::HTTP_11 && !head.headers.get_all(CONNECTION).iter().any(closes)
}

/// A body on its way in.
pub(super) enum Body {
    Plain(PlainBody),
    Framed(Box<Exchange>, Incoming),
}

impl Body {
    /// Receives some of the body into `to`; 0 at its end. More than `limit` bytes are an error.
    pub(super) async fn receive(&mut self, to: &mut impl BufMut, limit: u64) -> Result<usize> {
        match self {
            Self::Plain(body) => body.receive(to, limit).await,
            Self::Framed(exchange, incoming) => match exchange.next_frame(incoming).await? {
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

    /// Whether all of it was received, as far as that is known before asking for more.
    pub(super) fn has_ended(&self) -> bool {
        match self {
            Self::Plain(body) => body.left == 0,
            Self::Framed(_, incoming) => incoming.is_end_stream(),
        }
    }

    /// The connection, if another request can follow.
    pub(super) fn into_idle(self) -> Option<Idle> {
        match self {
            Self::Plain(body) => {
                let clean = body.left == 0 && body.early.is_empty() && body.reusable;
                clean.then(|| Idle::again(body.stream))
            }
            Self::Framed(exchange, _) => exchange.into_idle(),
        }
    }
}

/// The rest of a body of known length, straight from the socket.
pub(super) struct PlainBody {
    stream: Stream,
    /// What came together with the head, in the order in which it came.
    early: VecDeque<Bytes>,
    left: u64,
    reusable: bool,
}

impl PlainBody {
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
            match self.stream.read_buf(&mut to.limit(wanted)).await {
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

/// A connection that hyper is driving, polled by the request that owns it.
pub(super) struct Exchange {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: http1::Connection<TokioIo<Stream>, Full<Bytes>>,
}

impl Exchange {
    async fn begin(stream: Stream, headers: usize) -> Result<Self> {
        let mut builder = http1::Builder::new();
        if headers > USUAL_HEADERS {
            builder.max_headers(headers);
        }
        let (sender, driver) =
            builder.handshake(TokioIo::new(stream)).await.map_err(|error| Error::network(chain(&error)))?;
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
            // The driver is what fulfils the exchange, so the exchange is asked again after it.
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

    /// Takes the socket back from hyper, with what it has read of the body.
    fn take_over(self, mut incoming: Incoming, length: u64, reusable: bool) -> Result<PlainBody> {
        let mut early = VecDeque::new();
        // The driver is not polled any more, so this gives only what it has passed on already.
        while let Poll::Ready(Some(frame)) = now(|cx| Pin::new(&mut incoming).poll_frame(cx)) {
            let frame = frame.map_err(|error| Error::network(chain(&error)))?;
            early.extend(frame.into_data().ok().filter(|data| !data.is_empty()));
        }
        let parts = self.driver.into_parts();
        early.extend(Some(parts.read_buf).filter(|rest| !rest.is_empty()));
        Ok(PlainBody { stream: parts.io.into_inner(), early, left: length, reusable })
    }

    async fn next_frame(&mut self, body: &mut Incoming) -> Result<Option<Bytes>> {
        let driver = &mut self.driver;
        loop {
            let frame = poll_fn(|cx| {
                if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) {
                    return Poll::Ready(frame);
                }
                // An error of the driver's reaches the body as well.
                let _ = Pin::new(&mut *driver).poll(cx);
                Pin::new(&mut *body).poll_frame(cx)
            })
            .await;
            match frame.transpose().map_err(|error| Error::network(chain(&error)))? {
                None => return Ok(None),
                Some(frame) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Ok(Some(data)),
                    // An empty frame is no end, and trailers carry nothing for us.
                    _ => {}
                },
            }
        }
    }

    fn into_idle(mut self) -> Option<Idle> {
        let open = now(|cx| Pin::new(&mut self.driver).poll(cx).is_pending());
        if !open || !self.sender.is_ready() {
            return None;
        }
        let parts = self.driver.into_parts();
        parts.read_buf.is_empty().then(|| Idle::again(parts.io.into_inner()))
    }
}
