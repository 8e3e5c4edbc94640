//! Detects that a pooled connection was dead. Only a request can find this out: a NAT or a load balancer that has
//! forgotten an idle connection sends nothing. It has then most likely forgotten the other idle connections too.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::counting_socket::Traffic;
use super::pool::ConnectionPool;
use crate::error::Error;

/// A request that was dropped after this long without a response counts as evidence too, because its caller's deadline
/// may always come before the stall timeout.
const LONG_SILENCE: Duration = Duration::from_secs(1);

/// Watches one request on a connection. If the connection carried a response before, and fails without a byte of this
/// request's response, the other idle connections of its origin are dropped too.
pub(super) struct DeadConnectionDetector<'a> {
    pool: &'a ConnectionPool,
    origin: &'a str,
    traffic: Arc<Traffic>,
    began: Instant,
    /// Bytes before this request.
    sent: u64,
    received: u64,
}

impl<'a> DeadConnectionDetector<'a> {
    pub(super) fn new(pool: &'a ConnectionPool, origin: &'a str, traffic: Arc<Traffic>) -> Self {
        let (sent, received) = (traffic.sent(), traffic.received());
        Self { pool, origin, traffic, began: Instant::now(), sent, received }
    }

    pub(super) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Marks the error of a request whose body has `body_length` bytes: with an unknown outcome if the service may have
    /// received all of the request, as a stale connection if the connection was dead before it.
    pub(super) fn on_failure(&self, error: Error, body_length: usize) -> Error {
        // The request's head has at least one byte.
        let is_whole = self.traffic.sent() - self.sent > body_length as u64;
        let error = if is_whole { error.with_unknown_outcome() } else { error };
        if self.is_suspect() {
            self.pool.retire(self.origin, self.traffic.generation());
            return error.with_stale_connection();
        }
        error
    }

    /// Whether the connection carried a response before and has not answered this request.
    fn is_suspect(&self) -> bool {
        self.received > 0 && self.traffic.received() == self.received
    }
}

impl Drop for DeadConnectionDetector<'_> {
    fn drop(&mut self) {
        if self.is_suspect() && self.began.elapsed() >= LONG_SILENCE {
            self.pool.drop_idle_since(self.origin, self.began);
        }
    }
}
