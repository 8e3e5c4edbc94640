//! A client: credential, connections and limits, shared by all that is opened with it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use once_cell::sync::OnceCell;
use tokio::time::Instant;

use crate::error::Result;
use crate::files;
use crate::memory::Budget;
use crate::options::ClientOptions;
use crate::reader::BlobReader;
use crate::retry::Limits;
use crate::runtime::block_on;
use crate::service;
use crate::sys::process::PerProcess;
use crate::transport::Transport;
use crate::url::{Target, parse_blob, parse_container, parse_container_and_blob};
use crate::writer::{BlobWriter, WriteMode};

static SHARED: OnceCell<Client> = OnceCell::new();

/// Access to Blob Storage. Cheap to clone; clones share connections and limits. Thread-safe, and usable in
/// a forked child, which makes connections of its own.
#[derive(Clone)]
pub struct Client {
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

impl Call {
    /// For work that goes on after the call that began it.
    pub(crate) fn in_background(&self) -> Self {
        Self { transport: self.transport.clone(), limits: Limits::new(self.limits.max_retries, None) }
    }
}

impl Client {
    /// A client with these settings. Sends nothing.
    pub fn new(options: &ClientOptions) -> Result<Self> {
        let core =
            Core { options: options.clone(), transport: PerProcess::new(), budget: Budget::new(options.memory_limit) };
        Ok(Self { core: Arc::new(core), timeout: options.timeout })
    }

    /// The process-wide client with default settings, made by the first call that needs it.
    pub fn shared() -> Result<Self> {
        SHARED.get_or_try_init(|| Self::new(&ClientOptions::default())).cloned()
    }

    /// The same client, its calls ended after `whole_call`; `None` waits as long as retries last.
    pub fn with_timeout(&self, whole_call: Option<Duration>) -> Self {
        Self { core: self.core.clone(), timeout: whole_call }
    }

    /// Opens a blob for reading. One request; returns while the first bytes come in.
    pub fn open(&self, url: &str) -> Result<BlobReader> {
        BlobReader::open(self, self.blob(url)?)
    }

    /// Opens the blob `name`, taken literally, of a container.
    pub fn open_in(&self, container_url: &str, name: &str) -> Result<BlobReader> {
        BlobReader::open(self, self.blob_in(container_url, name)?)
    }

    /// Opens a blob if its ETag is no longer `etag`; `None`, after one request without a body, if it is.
    pub fn open_if_changed(&self, url: &str, etag: &str) -> Result<Option<BlobReader>> {
        BlobReader::open_if_changed(self, self.blob(url)?, etag)
    }

    /// Begins to write a blob. Nothing is sent before there is data, nothing visible before `close`.
    pub fn writer(&self, url: &str, mode: WriteMode) -> Result<BlobWriter> {
        BlobWriter::new(self, self.blob(url)?, mode)
    }

    /// Begins to write the blob `name`, taken literally, of a container.
    pub fn writer_in(&self, container_url: &str, name: &str, mode: WriteMode) -> Result<BlobWriter> {
        BlobWriter::new(self, self.blob_in(container_url, name)?, mode)
    }

    /// Whether the blob exists.
    pub fn exists(&self, url: &str) -> Result<bool> {
        let (call, target) = (self.call()?, self.blob(url)?);
        block_on(async move { service::exists(&call, &target).await })
    }

    /// Deletes the blob, or the snapshot or version that the URL names. A blob with snapshots is refused.
    pub fn delete(&self, url: &str) -> Result<()> {
        let (call, target) = (self.call()?, self.blob(url)?);
        block_on(async move { service::delete(&call, &target).await })
    }

    /// Creates the container.
    pub fn create_container(&self, url: &str) -> Result<()> {
        let target = parse_container(url, self.core.options.endpoint.as_ref())?;
        let call = self.call()?;
        block_on(async move { service::create_container(&call, &target).await })
    }

    /// Brings a blob into a file, which is there whole or not at all.
    pub fn download(&self, url: &str, path: &Path) -> Result<()> {
        files::download(self, self.blob(url)?, path)
    }

    /// Writes a file as a blob, which is there whole or not at all.
    pub fn upload(&self, path: &Path, url: &str, mode: WriteMode) -> Result<()> {
        files::upload(self, path, self.blob(url)?, mode)
    }

    fn blob(&self, url: &str) -> Result<Target> {
        parse_blob(url, self.core.options.endpoint.as_ref())
    }

    fn blob_in(&self, container_url: &str, name: &str) -> Result<Target> {
        parse_container_and_blob(container_url, name, self.core.options.endpoint.as_ref())
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
}
