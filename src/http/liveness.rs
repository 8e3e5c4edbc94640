//! Whether a pooled connection is still alive. Only a request can tell: a NAT or a load balancer that has forgotten an
//! idle connection says nothing, and has then most likely forgotten its neighbours in the pool as well.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::pool::Pool;
use crate::error::Error;

/// A request that was given up after this long without an answer is some evidence too: its caller's deadline may come
/// before the stall timeout each time.
const LONG_SILENCE: Duration = Duration::from_secs(1);

/// What a connection has carried so far, and the generation that it belongs to.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// The generation of its origin's connections, see [`Pool::retire`].
    generation: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

impl Traffic {
    pub(super) fn new(generation: u64) -> Self {
        Self { generation: AtomicU64::new(generation), ..Self::default() }
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    pub(super) fn set_generation(&self, generation: u64) {
        self.generation.store(generation, Ordering::Relaxed);
    }

    pub(super) fn has_sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn has_received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// How many bytes the socket has taken.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

/// Watches one request on a connection. When the connection served before and dies without a byte of an answer, the
/// other idle connections of its origin are dropped too.
pub(super) struct Liveness<'a> {
    pool: &'a Pool,
    origin: &'a str,
    traffic: Arc<Traffic>,
    began: Instant,
    /// Before the request.
    sent: u64,
    received: u64,
}

impl<'a> Liveness<'a> {
    pub(super) fn new(pool: &'a Pool, origin: &'a str, traffic: Arc<Traffic>) -> Self {
        let (sent, received) = (traffic.sent(), traffic.received());
        Self { pool, origin, traffic, began: Instant::now(), sent, received }
    }

    pub(super) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// What the failure of the request means, whose body has so many bytes: whether the service may have all of it, and
    /// whether the connection was dead before.
    pub(super) fn failed(&self, error: Error, body_length: usize) -> Error {
        // Its head has a byte at least.
        let is_whole = self.traffic.sent() - self.sent > body_length as u64;
        let error = if is_whole { error.with_unknown_outcome() } else { error };
        if self.is_suspect() {
            self.pool.retire(self.origin, self.traffic.generation());
            return error.with_stale_connection();
        }
        error
    }

    /// Whether the connection served before and has not answered this request.
    fn is_suspect(&self) -> bool {
        self.received > 0 && self.traffic.received() == self.received
    }
}

impl Drop for Liveness<'_> {
    fn drop(&mut self) {
        if self.is_suspect() && self.began.elapsed() >= LONG_SILENCE {
            self.pool.drop_idle_since(self.origin, self.began);
        }
    }
}
