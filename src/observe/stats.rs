//! What a client has done so far, counted where it happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// One number that only grows, or a gauge. Nothing is ordered by it.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn sub(&self, count: u64) {
        self.0.fetch_sub(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one client in one process. A forked child counts from 0.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) requests: Counter,
    pub(crate) retries: Counter,
    pub(crate) throttled: Counter,
    pub(crate) bytes_received: Counter,
    pub(crate) bytes_sent: Counter,
    pub(crate) token_requests: Counter,
    pub(crate) connections_opened: Counter,
    in_flight: Counter,
    caller_wait_microseconds: Counter,
}

impl Counters {
    /// Counts a request as being under way until it is dropped.
    pub(crate) fn request(self: &Arc<Self>) -> InFlight {
        self.requests.add(1);
        self.in_flight.add(1);
        InFlight(self.clone())
    }

    /// Counts the time until it is dropped as time that a caller spent in the library.
    pub(crate) fn caller_waits(self: &Arc<Self>) -> CallerWait {
        CallerWait { counters: self.clone(), since: Instant::now() }
    }

    pub(crate) fn snapshot(&self, memory_in_use: u64, memory_peak: u64) -> Stats {
        Stats {
            requests: self.requests.get(),
            retries: self.retries.get(),
            throttled: self.throttled.get(),
            bytes_received: self.bytes_received.get(),
            bytes_sent: self.bytes_sent.get(),
            token_requests: self.token_requests.get(),
            connections_opened: self.connections_opened.get(),
            requests_in_flight: self.in_flight.get(),
            memory_in_use,
            memory_peak,
            caller_wait: Duration::from_micros(self.caller_wait_microseconds.get()),
        }
    }
}

#[derive(Debug)]
pub(crate) struct InFlight(Arc<Counters>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.sub(1);
    }
}

#[derive(Debug)]
pub(crate) struct CallerWait {
    counters: Arc<Counters>,
    since: Instant,
}

impl Drop for CallerWait {
    fn drop(&mut self) {
        let waited = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.counters.caller_wait_microseconds.add(waited);
    }
}

/// What a client and those derived from it have done in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Requests sent to the storage service, retries included; not those for tokens.
    pub requests: u64,
    /// How often something was tried again.
    pub retries: u64,
    /// Answers that asked to slow down (429, 503).
    pub throttled: u64,
    /// Bytes of response bodies.
    pub bytes_received: u64,
    /// Bytes of request bodies that were answered.
    pub bytes_sent: u64,
    /// How often a token was asked for.
    pub token_requests: u64,
    /// Connections made to the storage service or the proxy before it.
    pub connections_opened: u64,
    /// Requests under way now, until their bodies have ended.
    pub requests_in_flight: u64,
    /// Bytes held now for read-ahead and for blocks.
    pub memory_in_use: u64,
    /// The most that was held at once.
    pub memory_peak: u64,
    /// The time that callers spent inside the client's calls.
    pub caller_wait: Duration,
}
