//! A response: its head, its body as it comes, and what becomes of its connection afterwards.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HeaderName};
use http::{HeaderMap, StatusCode};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::Sending;
use super::connection::Body;
use super::pool::Pool;
use super::stall::Stall;
use crate::error::Result;
use crate::observe::stats::{Counters, InFlight};

/// A rest of a body that is dropped is received if it is no longer than this: that costs less than a new connection.
const SMALL_REST: usize = 64 << 10;

/// The service's answer to one request. With its body's end, or at once if it has none, it gives the connection back and
/// lets the client's next request go out. Dropped before, it closes the connection.
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(super) shown: String,
    /// `None` once the body has ended and the connection was given back.
    pub(super) body: Option<Body>,
    pub(super) pool: Arc<Pool>,
    pub(super) origin: String,
    pub(super) sending: Sending,
    pub(super) stall: Stall,
    pub(super) stats: Arc<Counters>,
    /// The time from sending the request to the head of the response.
    pub(super) waited: Duration,
    /// Until the body's end.
    pub(super) in_flight: Option<InFlight>,
    /// The client's rate alone spaces the next try of a refused request.
    pub(super) is_paced: bool,
    /// Until the body's end.
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

impl Response {
    /// Ends the exchange if the body has ended, as far as that is known.
    pub(super) fn settle(mut self) -> Self {
        if self.body.as_ref().is_none_or(Body::has_ended) {
            self.end();
        }
        self
    }

    pub(crate) fn header(&self, name: &HeaderName) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// Method and URL of the request, as errors show them.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    /// The time from sending the request to the head of this response.
    pub(crate) fn waited(&self) -> Duration {
        self.waited
    }

    /// Whether the client's request rate alone spaces the next try of this refused request.
    pub(crate) fn is_paced(&self) -> bool {
        self.is_paced
    }

    pub(crate) fn content_length(&self) -> Option<u64> {
        self.header(&CONTENT_LENGTH).parse().ok()
    }

    /// Receives some of the body into `to`, which must have room, and says how much; 0 at the body's end, when
    /// the connection is free again. A body of more than `limit` bytes is an error.
    pub(crate) async fn receive(&mut self, to: &mut impl BufMut, limit: u64) -> Result<usize> {
        let Some(body) = self.body.as_mut() else { return Ok(0) };
        let received = loop {
            if let Err(error) = self.stall.check() {
                // A path that died in the middle of a body is no better for the idle connections.
                if let Some(began) = self.stall.began() {
                    self.pool.drop_idle_since(&self.origin, began);
                }
                return Err(error.context(&self.shown).with_unknown_outcome());
            }
            let began = Instant::now();
            match timeout(self.stall.left(), body.receive(to, limit)).await {
                Ok(received) => {
                    let received = received.map_err(|error| {
                        error.context(format!("{}: the body broke off", self.shown)).with_unknown_outcome()
                    })?;
                    self.stall.saw(began.elapsed(), received);
                    break received;
                }
                Err(_) => self.stall.saw(began.elapsed(), 0),
            }
        };
        // Before anyone sees the last bytes, so that the request that they lead to finds the connection free.
        if received == 0 || body.has_ended() {
            self.end();
        }
        self.stats.bytes_received.add(received as u64);
        Ok(received)
    }

    /// The exchange is over. The connection goes back first, so that the next request finds it. It cannot serve again
    /// after an answer that came before all was sent.
    fn end(&mut self) {
        if let Some(body) = self.body.take()
            && self.sending.is_over()
            && let Some(connection) = body.into_idle()
        {
            self.pool.check_in(&self.origin, connection);
        }
        self.in_flight = None;
        self.permit = None;
    }

    /// Drops an answer whose body is of no use. The connection serves again if the rest of the body is small.
    pub(crate) async fn discard(mut self) {
        // The answer is of no use, and an error of its body is of none either.
        let _ = self.bytes(SMALL_REST).await;
    }

    /// The whole body, for answers that are small by their nature.
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
