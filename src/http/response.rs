//! A response: its head, its body as it arrives, and the return of its connection to the pool.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HeaderName};
use http::{HeaderMap, StatusCode};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::body_tracker::BodyTracker;
use super::connection::Body;
use super::pool::ConnectionPool;
use super::stall::StallDetector;
use crate::error::Result;
use crate::observe::stats::{Counters, InFlight};

/// The service's code for an error, such as `BlobNotFound`.
pub(crate) const X_MS_ERROR_CODE: HeaderName = HeaderName::from_static("x-ms-error-code");

/// [`Response::discard`] receives the rest of a body up to this many bytes, which costs less than a new connection.
const MAX_DISCARDED: usize = 64 << 10;

/// The service's response to one request. At the end of its body it returns the connection to the pool and admits the
/// client's next request. Dropping it earlier closes the connection.
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(super) shown: String,
    /// `None` once the body has ended and the connection was given back.
    pub(super) body: Option<Body>,
    pub(super) pool: Arc<ConnectionPool>,
    pub(super) origin: String,
    pub(super) upload: BodyTracker,
    pub(super) stall: StallDetector,
    pub(super) stats: Arc<Counters>,
    /// The time from sending the request to the head of the response.
    pub(super) waited: Duration,
    /// `None` once the body has ended.
    pub(super) in_flight: Option<InFlight>,
    /// See [`Self::is_paced`].
    pub(super) is_paced: bool,
    /// `None` once the body has ended.
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

impl Response {
    /// Ends the exchange if the body is known to have ended.
    pub(crate) fn end_if_complete(mut self) -> Self {
        if self.body.as_ref().is_none_or(Body::has_ended) {
            self.end();
        }
        self
    }

    /// The text of a header; "" if the response does not have it.
    pub(crate) fn header(&self, name: &HeaderName) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// Method and URL of the request for errors, without the query.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    /// The time from sending the request to the head of this response.
    pub(crate) fn waited(&self) -> Duration {
        self.waited
    }

    /// Whether this is a refusal whose next try only waits for the client's request rate: it needs neither a long pause
    /// nor `Retry-After`.
    pub(crate) fn is_paced(&self) -> bool {
        self.is_paced
    }

    pub(crate) fn content_length(&self) -> Option<u64> {
        self.header(&CONTENT_LENGTH).parse().ok()
    }

    /// Receives some of the body into `to`, which must have room, and returns the number of bytes; 0 at the body's end,
    /// when the connection is free again. A body of more than `limit` bytes is an error.
    pub(crate) async fn receive(&mut self, to: &mut impl BufMut, limit: u64) -> Result<usize> {
        let Some(body) = self.body.as_mut() else { return Ok(0) };
        let received = loop {
            if let Err(error) = self.stall.check() {
                // If the path died in the middle of a body, the idle connections are probably dead too.
                if let Some(began) = self.stall.began() {
                    self.pool.drop_idle_since(&self.origin, began);
                }
                return Err(error.context(&self.shown).with_unknown_outcome());
            }
            let began = Instant::now();
            match timeout(self.stall.time_left(), body.receive(to, limit)).await {
                Ok(received) => {
                    let received = received.map_err(|error| {
                        error.context(format!("{}: the body broke off", self.shown)).with_unknown_outcome()
                    })?;
                    self.stall.record(began.elapsed(), received);
                    break received;
                }
                Err(_) => self.stall.record(began.elapsed(), 0),
            }
        };
        // End the exchange before the caller sees the last bytes, so that its next request finds the connection free.
        if received == 0 || body.has_ended() {
            self.end();
        }
        self.stats.bytes_received.add(received as u64);
        Ok(received)
    }

    /// Ends the exchange. The connection goes back before the permit, so that the next request finds it. A connection
    /// whose response came before the request was sent completely is not used again.
    fn end(&mut self) {
        if let Some(body) = self.body.take()
            && self.upload.is_sent()
            && let Some(connection) = body.into_idle()
        {
            self.pool.check_in(&self.origin, connection);
        }
        self.in_flight = None;
        self.permit = None;
    }

    /// Drops a response whose body is not needed. If the rest of the body is small, it is received, so that the
    /// connection can be used again.
    pub(crate) async fn discard(mut self) {
        // An error in a body that is not needed does not matter.
        let _ = self.bytes(MAX_DISCARDED).await;
    }

    /// The whole body, for small responses. A body of more than `max` bytes is an error.
    pub(crate) async fn bytes(&mut self, max: usize) -> Result<Bytes> {
        let mut whole = BytesMut::with_capacity(4096);
        loop {
            let left = (max - whole.len()) as u64;
            if self.receive(&mut whole, left).await? == 0 {
                return Ok(whole.freeze());
            }
        }
    }
}
