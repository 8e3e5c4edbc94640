//! A client's statistics: counters that the code which does the work updates.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A counter or a gauge. Its updates order no other memory accesses.
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
    /// Counts a request. It is in flight until the returned guard is dropped.
    pub(crate) fn request(self: &Arc<Self>) -> InFlight {
        self.requests.add(1);
        self.in_flight.add(1);
        InFlight(self.clone())
    }

    /// Counts the time until the returned guard is dropped as time that a caller spent in the library.
    pub(crate) fn caller_waits(self: &Arc<Self>) -> CallerWait {
        CallerWait { counters: self.clone(), since: Instant::now() }
    }

    /// The numbers now, with those of the client's memory.
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

/// A request in flight.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Counters>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.sub(1);
    }
}

/// A caller inside a call of the library.
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

/// The statistics of a client and of the clients derived from it, in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Requests sent to the storage service, retries included; not those for tokens.
    pub requests: u64,
    /// The number of retries.
    pub retries: u64,
    /// Responses that refused a request for its rate (429, 503).
    pub throttled: u64,
    /// Bytes of response bodies.
    pub bytes_received: u64,
    /// Bytes of request bodies whose request got a response.
    pub bytes_sent: u64,
    /// Requests for tokens.
    pub token_requests: u64,
    /// Connections made to the storage service or the proxy before it.
    pub connections_opened: u64,
    /// Requests under way now, until the end of their responses' bodies.
    pub requests_in_flight: u64,
    /// Bytes of memory held now for read-ahead and for blocks.
    pub memory_in_use: u64,
    /// The most memory that was held at once, in bytes.
    pub memory_peak: u64,
    /// The time that callers spent inside the client's calls.
    pub caller_wait: Duration,
}
