//! The state that all handles of a client share: its settings, connections, credential and memory budget; and the part
//! that one call gets.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Uri;
use tokio::time::Instant;

use crate::core::cancel::{CancelToken, Cancellation};
use crate::core::interrupt::Interruption;
use crate::core::limits::Limits;
use crate::core::runtime::block_on;
use crate::credential::Signer;
use crate::error::Result;
use crate::http::Network;
use crate::memory::{Budget, default_memory_limit};
use crate::observe::stats::{CallerWait, Stats};
use crate::options::ClientOptions;
use crate::service::blob_service::BlobService;
use crate::sys::process::PerProcess;
use crate::url::Endpoint;

/// The core of a client or of one of its handles. Each handle has a child core, which can be cancelled alone. In a
/// forked child process the connections and the budget are made anew.
#[derive(Clone)]
pub(crate) struct ClientCore {
    shared: Arc<SharedState>,
    timeout: Option<Duration>,
    cancellation: Arc<Cancellation>,
}

/// The part of a client that is the same for all its handles.
struct SharedState {
    options: ClientOptions,
    network: Network,
    signer: Arc<Signer>,
    service: PerProcess<Arc<BlobService>>,
    memory_limit: u64,
    /// A forked child has a budget of its own, since its parent's memory is counted in the parent.
    budget: PerProcess<Arc<Budget>>,
}

/// The context of one call of the user.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) service: Arc<BlobService>,
    pub(crate) limits: Limits,
    /// Measures how long the caller waits: until the last task of the call has dropped this.
    _wait: Option<Arc<CallerWait>>,
    /// Counts the bytes that this call has sent or received, for progress reports; `None` without a callback.
    pub(crate) moved: Option<Arc<AtomicU64>>,
}

/// The maximum number of connections of one call. More do not make it faster, and other calls need some.
const MAX_CONNECTIONS: usize = 32;

impl Call {
    /// How many requests of this call may be under way at once.
    pub(crate) fn connections(&self) -> usize {
        self.service.max_concurrency().min(MAX_CONNECTIONS)
    }

    /// Runs `task` with this call on the library's threads, and blocks until it has ended.
    pub(crate) fn block_on<T, F>(self, task: impl FnOnce(Self) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let interruption = self.limits.interruption().cloned();
        block_on(interruption.as_ref(), task(self))
    }

    /// Counts bytes that were sent, or received and accepted.
    pub(crate) fn has_moved(&self, bytes: u64) {
        if let Some(moved) = &self.moved {
            moved.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// A copy for work that goes on after this call has ended: without the deadline, the progress and the measured
    /// wait.
    pub(crate) fn in_background(&self) -> Self {
        Self { service: self.service.clone(), limits: self.limits.in_background(), _wait: None, moved: None }
    }
}

impl ClientCore {
    pub(crate) fn new(options: &ClientOptions) -> Self {
        let network = options.network.resolved();
        let shared = SharedState {
            signer: Arc::new(Signer::new(&options.credential, &network)),
            network,
            service: PerProcess::new(),
            memory_limit: options.memory_limit.unwrap_or_else(default_memory_limit),
            budget: PerProcess::new(),
            options: options.clone(),
        };
        Self { shared: Arc::new(shared), timeout: options.timeout, cancellation: Arc::default() }
    }

    /// A core that shares everything with this one, but limits each of its own calls to this time; `None` for no limit.
    pub(crate) fn with_timeout(&self, whole_call: Option<Duration>) -> Self {
        Self { timeout: whole_call, ..self.child() }
    }

    /// A core for a handle of this client. It can be cancelled alone.
    pub(crate) fn child(&self) -> Self {
        Self { shared: self.shared.clone(), timeout: self.timeout, cancellation: self.cancellation.child() }
    }

    /// Makes running and later calls of this handle and its children fail. Returns at once.
    pub(crate) fn cancel(&self) {
        self.cancellation.cancel();
        if let Some(service) = self.shared.service.get() {
            service.cancel_notify().notify_waiters();
        }
    }

    /// An error after [`cancel`](Self::cancel).
    pub(crate) fn check_cancelled(&self) -> Result<()> {
        self.cancellation.check()
    }

    /// Begins a call on this thread. Its deadline counts from now.
    pub(crate) fn call(&self) -> Result<Call> {
        self.check_cancelled()?;
        let service = self.service()?;
        let deadline = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let interruption = Interruption::of_new_call(service.cancel_notify())?;
        let cancel = CancelToken::new(self.cancellation.clone(), interruption, service.cancel_notify().clone());
        let limits = Limits::new(self.shared.options.max_retries, deadline, service.stats().clone(), cancel);
        Ok(Call {
            service: service.clone(),
            limits,
            _wait: Some(Arc::new(service.stats().caller_waits())),
            moved: None,
        })
    }

    fn service(&self) -> Result<&Arc<BlobService>> {
        let SharedState { options, network, signer, service, .. } = &*self.shared;
        service.get_or_try_init(|| Ok(Arc::new(BlobService::new(options, network, signer)?)))
    }

    pub(crate) fn stats(&self) -> Result<Stats> {
        let (in_use, peak) = self.budget()?.use_and_peak();
        Ok(self.service()?.stats().snapshot(in_use, peak))
    }

    pub(crate) fn budget(&self) -> Result<&Arc<Budget>> {
        self.shared.budget.get_or_try_init(|| Budget::new(self.shared.memory_limit))
    }

    pub(crate) fn block_size(&self) -> u64 {
        self.shared.options.block_size
    }

    /// Whether a request to `uri` would send the client's credential to a host for which it was not configured.
    pub(crate) fn would_leak_credential(&self, uri: &Uri) -> bool {
        let is_meant = self.endpoint().is_some_and(|endpoint| endpoint.serves_uri(uri));
        !is_meant && self.shared.signer.sends_secret_to(uri)
    }

    /// The endpoint of the connection string, if there is one. It decides how URLs on its host are read.
    pub(crate) fn endpoint(&self) -> Option<&Endpoint> {
        self.shared.options.endpoint.as_ref().or_else(|| self.shared.signer.endpoint())
    }
}
