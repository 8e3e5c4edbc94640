//! What a client's handles work with: its settings, connections and memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Uri;
use tokio::time::Instant;

use crate::core::cancel::{CancelToken, Cancellation};
use crate::core::limits::Limits;
use crate::credential::Signer;
use crate::error::Result;
use crate::http::Network;
use crate::memory::{Budget, default_memory_limit};
use crate::observe::stats::{CallerWait, Stats};
use crate::options::ClientOptions;
use crate::service::blob_service::BlobService;
use crate::sys::process::PerProcess;
use crate::url::Endpoint;

/// A client's inner side, shared by all that is opened with it. A forked child gets connections of its own.
#[derive(Clone)]
pub(crate) struct ClientCore {
    core: Arc<Core>,
    timeout: Option<Duration>,
    cancellation: Arc<Cancellation>,
}

struct Core {
    options: ClientOptions,
    network: Network,
    signer: Arc<Signer>,
    service: PerProcess<Arc<BlobService>>,
    memory_limit: u64,
    /// What the handles of a forked child's parent hold is none of the child's business.
    budget: PerProcess<Arc<Budget>>,
}

/// What one call of the caller's works with.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) service: Arc<BlobService>,
    pub(crate) limits: Limits,
    /// Runs until the last task of the call has ended, which is when its caller goes on.
    _wait: Option<Arc<CallerWait>>,
    /// Counts the bytes that this call has moved, where someone wants to know.
    pub(crate) moved: Option<Arc<AtomicU64>>,
}

/// More connections for one call do not help, and other calls want some.
const MAX_CONNECTIONS: usize = 32;

impl Call {
    /// How many requests of this call may be under way at once.
    pub(crate) fn connections(&self) -> usize {
        self.service.max_concurrency().min(MAX_CONNECTIONS)
    }

    /// Bytes have arrived where they belong.
    pub(crate) fn has_moved(&self, bytes: u64) {
        if let Some(moved) = &self.moved {
            moved.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// For work that goes on after the call that began it.
    pub(crate) fn in_background(&self) -> Self {
        Self { service: self.service.clone(), limits: self.limits.in_background(), _wait: None, moved: None }
    }
}

impl ClientCore {
    pub(crate) fn new(options: &ClientOptions) -> Self {
        let network = options.network.resolved();
        let core = Core {
            signer: Arc::new(Signer::new(&options.credential, &network)),
            network,
            service: PerProcess::new(),
            memory_limit: options.memory_limit.unwrap_or_else(default_memory_limit),
            budget: PerProcess::new(),
            options: options.clone(),
        };
        Self { core: Arc::new(core), timeout: options.timeout, cancellation: Arc::default() }
    }

    pub(crate) fn with_timeout(&self, whole_call: Option<Duration>) -> Self {
        Self { timeout: whole_call, ..self.child() }
    }

    /// The same, for a handle that can be cancelled alone.
    pub(crate) fn child(&self) -> Self {
        Self { core: self.core.clone(), timeout: self.timeout, cancellation: self.cancellation.child() }
    }

    /// Ends what is running for this core and its children, and refuses what comes later. Waits for nothing.
    pub(crate) fn cancel(&self) {
        self.cancellation.cancel();
        if let Some(service) = self.core.service.get() {
            service.cancel_notify().notify_waiters();
        }
    }

    pub(crate) fn check_cancelled(&self) -> Result<()> {
        self.cancellation.check()
    }

    /// The beginning of a call: its deadline runs from here.
    pub(crate) fn call(&self) -> Result<Call> {
        self.check_cancelled()?;
        let service = self.service()?;
        let deadline = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let cancel = CancelToken::new(self.cancellation.clone(), service.cancel_notify().clone());
        let limits = Limits::new(self.core.options.max_retries, deadline, service.stats().clone(), cancel);
        Ok(Call {
            service: service.clone(),
            limits,
            _wait: Some(Arc::new(service.stats().caller_waits())),
            moved: None,
        })
    }

    fn service(&self) -> Result<&Arc<BlobService>> {
        let core = &self.core;
        core.service.get_or_try_init(|| Ok(Arc::new(BlobService::new(&core.options, &core.network, &core.signer)?)))
    }

    pub(crate) fn stats(&self) -> Result<Stats> {
        let (in_use, peak) = self.budget()?.use_and_peak();
        Ok(self.service()?.stats().snapshot(in_use, peak))
    }

    pub(crate) fn budget(&self) -> Result<&Arc<Budget>> {
        self.core.budget.get_or_try_init(|| Budget::new(self.core.memory_limit))
    }

    pub(crate) fn block_size(&self) -> u64 {
        self.core.options.block_size
    }

    /// Whether a request to `uri` would show the client's credential to a host for which it was not meant.
    pub(crate) fn would_leak_credential(&self, uri: &Uri) -> bool {
        let is_meant = self.endpoint().is_some_and(|endpoint| endpoint.serves_uri(uri));
        !is_meant && self.core.signer.sends_secret_to(uri)
    }

    /// The endpoint of a connection string, which decides how URLs on its host are read.
    pub(crate) fn endpoint(&self) -> Option<&Endpoint> {
        self.core.options.endpoint.as_ref().or_else(|| self.core.signer.endpoint())
    }
}
