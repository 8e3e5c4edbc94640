//! The client: the entry point of the library.

use std::path::Path;
use std::time::Duration;

use crate::blob::file_transfer;
use crate::blob::{BlobReader, BlobWriter, WriteMode};
use crate::error::Result;
use crate::observe::stats::Stats;
use crate::options::ClientOptions;
use crate::service::client_core::ClientCore;
use crate::service::operations;
use crate::sys::process::PerProcess;
use crate::url::{Target, parse_blob, parse_container, parse_container_and_blob};

static SHARED: PerProcess<Client> = PerProcess::for_static();

/// Access to Blob Storage with a credential, a connection pool and limits. A clone is cheap and shares all of them.
/// Thread-safe. Works in a forked child, with connections of its own.
#[derive(Clone)]
pub struct Client {
    core: ClientCore,
}

impl Client {
    /// Creates a client with these options. Sends no request.
    pub fn new(options: &ClientOptions) -> Result<Self> {
        Ok(Self { core: ClientCore::new(options) })
    }

    /// Returns the process-wide client with default options. The first call that needs it creates it.
    pub fn shared() -> Result<Self> {
        let make = || Self::new(&ClientOptions::default());
        SHARED.get_or_inherit(|parent| parent.cloned().map_or_else(make, Ok)).cloned()
    }

    /// Returns a client that shares everything with this one, and ends each of its own calls after `whole_call`. `None`
    /// means no time limit.
    pub fn with_timeout(&self, whole_call: Option<Duration>) -> Self {
        Self { core: self.core.with_timeout(whole_call) }
    }

    /// Cancels this client for good, with the clients derived from it and everything opened with them: running and
    /// later calls fail with `Status::Cancelled`. Any thread may call it. Does not block.
    pub fn cancel(&self) {
        self.core.cancel();
    }

    /// Returns the counters of this client, and of all clients derived from it, in this process.
    pub fn stats(&self) -> Result<Stats> {
        self.core.stats()
    }

    /// Opens a blob for reading. Sends one request, and receives the first bytes in the background.
    pub fn open(&self, url: &str) -> Result<BlobReader> {
        BlobReader::open(&self.core, self.blob(url)?)
    }

    /// Opens a blob of a container for reading. `name` is taken literally, not percent-encoded.
    pub fn open_in(&self, container_url: &str, name: &str) -> Result<BlobReader> {
        BlobReader::open(&self.core, self.blob_in(container_url, name)?)
    }

    /// Opens a blob for reading if its ETag is not `etag`. If it is, returns `None` after one request without a body.
    pub fn open_if_changed(&self, url: &str, etag: &str) -> Result<Option<BlobReader>> {
        BlobReader::open_if_changed(&self.core, self.blob(url)?, etag)
    }

    /// Opens a blob for writing. Sends no request before there is data. Nothing is visible before `close`.
    pub fn writer(&self, url: &str, mode: WriteMode) -> Result<BlobWriter> {
        BlobWriter::new(&self.core, self.blob(url)?, mode)
    }

    /// Opens a blob of a container for writing. `name` is taken literally, not percent-encoded.
    pub fn writer_in(&self, container_url: &str, name: &str, mode: WriteMode) -> Result<BlobWriter> {
        BlobWriter::new(&self.core, self.blob_in(container_url, name)?, mode)
    }

    /// Returns whether a blob exists.
    pub fn exists(&self, url: &str) -> Result<bool> {
        let (call, target) = (self.core.call()?, self.blob(url)?);
        call.block_on(|call| async move { operations::exists(&call, &target).await })
    }

    /// Deletes a blob, or only the snapshot or version that the URL names. A blob that has snapshots is refused.
    pub fn delete(&self, url: &str) -> Result<()> {
        let (call, target) = (self.core.call()?, self.blob(url)?);
        call.block_on(|call| async move { operations::delete(&call, &target).await })
    }

    /// Creates a container. Fails with `Status::AlreadyExists` if it exists.
    pub fn create_container(&self, url: &str) -> Result<()> {
        let target = parse_container(url, self.core.endpoint())?.target;
        let call = self.core.call()?;
        call.block_on(|call| async move { operations::create_container(&call, &target).await })
    }

    /// Downloads a blob to a file. The file appears only when it is complete.
    pub fn download(&self, url: &str, path: &Path) -> Result<()> {
        file_transfer::download(&self.core, self.blob(url)?, path)
    }

    /// Uploads a file as a blob. The blob is replaced as a whole, or not at all.
    pub fn upload(&self, path: &Path, url: &str, mode: WriteMode) -> Result<()> {
        file_transfer::upload(&self.core, path, self.blob(url)?, mode)
    }

    pub(crate) fn core(&self) -> &ClientCore {
        &self.core
    }

    fn blob(&self, url: &str) -> Result<Target> {
        parse_blob(url, self.core.endpoint())
    }

    fn blob_in(&self, container_url: &str, name: &str) -> Result<Target> {
        parse_container_and_blob(container_url, name, self.core.endpoint())
    }
}
