//! The state that the threads of a fault server share.

use std::collections::VecDeque;
use std::net::TcpStream;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::quota::Bucket;
use super::store::Store;
use super::{ChecksumSupport, DeadConnection, Fault, Request};

pub type Hook = Box<dyn Fn(&Request) -> Option<Fault> + Send + Sync>;

#[derive(Default)]
pub struct State {
    pub store: Store,
    /// All requests, in order of arrival; empty if `discards_requests`.
    pub requests: Vec<Request>,
    pub request_count: usize,
    pub discards_requests: bool,
    /// The next faults of each verb.
    pub script: VecDeque<(&'static str, Fault)>,
    pub connections: Vec<TcpStream>,
    /// How many of the connections are dead, the oldest ones first, and how they behave.
    pub dead_connections: (usize, Option<DeadConnection>),
    pub requests_on_dead_connections: usize,
    pub stopped: bool,
    pub bytes_per_second: Option<u64>,
    pub page_limits: VecDeque<usize>,
    pub page_size: Option<usize>,
    pub checksum_support: ChecksumSupport,
    /// Set if a range is checked before the conditions: whether the refusal then has an ETag.
    pub range_before_conditions: Option<bool>,
}

#[derive(Default)]
pub struct Shared {
    pub state: Mutex<State>,
    pub stopped: Condvar,
    pub hook: Mutex<Option<Arc<Hook>>>,
    pub bucket: Mutex<Bucket>,
    pub in_flight: AtomicUsize,
    pub peak_in_flight: AtomicUsize,
}

impl Shared {
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Numbers a request and records it.
    pub fn record(&self, mut request: Request) -> Request {
        let mut state = self.state();
        request.index = state.request_count;
        state.request_count += 1;
        if !state.discards_requests {
            state.requests.push(request.clone());
        }
        request
    }

    /// Records when the response to this request begins.
    pub fn record_response(&self, request: &Request) {
        if let Some(recorded) = self.state().requests.get_mut(request.index) {
            recorded.answered = Some(Instant::now());
        }
    }

    pub fn spend(&self, bytes: u64) {
        self.bucket().spend(bytes);
    }

    /// The fault of this request: the quota's refusal, or the next one in the script for its verb, or the hook's.
    pub fn fault(&self, request: &Request) -> Option<Fault> {
        let mut bucket = self.bucket();
        if !bucket.grants(&request.path) {
            return Some(Fault::Status { status: 503, code: "ServerBusy", retry_after: bucket.retry_after() });
        }
        drop(bucket);
        let mut state = self.state();
        if let Some(at) = state.script.iter().position(|(verb, _)| *verb == request.verb()) {
            return state.script.remove(at).map(|(_, fault)| fault);
        }
        // A hook may change the blobs, which locks the state.
        drop(state);
        let hook = self.hook.lock().unwrap_or_else(PoisonError::into_inner).clone();
        hook.and_then(|hook| hook(request))
    }

    /// How the connection of this number behaves if it is dead. Counts the request that arrived on it.
    pub fn dead_connection(&self, number: usize) -> Option<DeadConnection> {
        let mut state = self.state();
        let (count, behaviour) = state.dead_connections;
        let behaviour = behaviour.filter(|_| number < count)?;
        state.requests_on_dead_connections += 1;
        Some(behaviour)
    }

    pub fn wait_until_stopped(&self) {
        drop(self.stopped.wait_while(self.state(), |state| !state.stopped));
    }
}
