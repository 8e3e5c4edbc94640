//! What a client's handles work with: its settings, connections and memory.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::Result;
use crate::memory::Budget;
use crate::options::ClientOptions;
use crate::retry::Limits;
use crate::sys::process::PerProcess;
use crate::transport::Transport;
use crate::url::Endpoint;

/// A client's inner side, shared by all that is opened with it. A forked child gets connections of its own.
#[derive(Clone)]
pub(crate) struct Session {
    core: Arc<Core>,
    timeout: Option<Duration>,
}

struct Core {
    options: ClientOptions,
    transport: PerProcess<Arc<Transport>>,
    budget: Arc<Budget>,
}

/// What one call of the caller's works with.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) transport: Arc<Transport>,
    pub(crate) limits: Limits,
}

/// More connections for one call do not help, and other calls want some.
const MAX_CONNECTIONS: usize = 32;

impl Call {
    /// How many requests of this call may be under way at once.
    pub(crate) fn connections(&self) -> usize {
        self.transport.max_concurrency().min(MAX_CONNECTIONS)
    }

    /// For work that goes on after the call that began it.
    pub(crate) fn in_background(&self) -> Self {
        Self { transport: self.transport.clone(), limits: Limits::new(self.limits.max_retries, None) }
    }
}

impl Session {
    pub(crate) fn new(options: &ClientOptions) -> Self {
        let core =
            Core { options: options.clone(), transport: PerProcess::new(), budget: Budget::new(options.memory_limit) };
        Self { core: Arc::new(core), timeout: options.timeout }
    }

    pub(crate) fn with_timeout(&self, whole_call: Option<Duration>) -> Self {
        Self { core: self.core.clone(), timeout: whole_call }
    }

    /// The beginning of a call: its deadline runs from here.
    pub(crate) fn call(&self) -> Result<Call> {
        let options = &self.core.options;
        let transport = self.core.transport.get_or_try_init(|| Ok(Arc::new(Transport::new(options))))?;
        let deadline = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        Ok(Call { transport: transport.clone(), limits: Limits::new(options.max_retries, deadline) })
    }

    pub(crate) fn budget(&self) -> &Arc<Budget> {
        &self.core.budget
    }

    pub(crate) fn block_size(&self) -> u64 {
        self.core.options.block_size
    }

    /// The endpoint of a connection string, which decides how URLs on its host are read.
    pub(crate) fn endpoint(&self) -> Option<&Endpoint> {
        self.core.options.endpoint.as_ref()
    }
}
