//! What can be done with a client.

use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::HeaderMap;
use http::header::DATE;

use crate::blob::file_transfer;
use crate::blob::{BlobReader, BlobWriter, WriteMode};
use crate::core::retry::retry;
use crate::core::runtime::block_on;
use crate::error::{Error, Result};
use crate::http::Request;
use crate::observe::stats::Stats;
use crate::options::ClientOptions;
use crate::service::client_core::ClientCore;
use crate::service::operations;
use crate::sys::process::PerProcess;
use crate::url::{Target, parse_blob, parse_container, parse_container_and_blob};

/// What one request of the caller's own may bring; blobs are read with a reader.
const MAX_ANSWER: usize = 8 << 20;

static SHARED: PerProcess<Client> = PerProcess::for_static();

/// Access to Blob Storage. Cheap to clone; clones share connections and limits. Thread-safe, and usable in
/// a forked child, which makes connections of its own.
#[derive(Clone)]
pub struct Client {
    core: ClientCore,
}

impl Client {
    /// A client with these settings. Sends nothing.
    pub fn new(options: &ClientOptions) -> Result<Self> {
        Ok(Self { core: ClientCore::new(options) })
    }

    /// The process-wide client with default settings, made by the first call that needs it.
    pub fn shared() -> Result<Self> {
        let make = || Self::new(&ClientOptions::default());
        SHARED.get_or_inherit(|parent| parent.cloned().map_or_else(make, Ok)).cloned()
    }

    /// The same client, its calls ended after `whole_call`; `None` waits as long as retries last.
    pub fn with_timeout(&self, whole_call: Option<Duration>) -> Self {
        Self { core: self.core.with_timeout(whole_call) }
    }

    /// Ends all that is running with this client, what was opened with it and the clients derived from it, with
    /// `Status::Cancelled`, for good. Returns at once; from any thread.
    pub fn cancel(&self) {
        self.core.cancel();
    }

    /// What this client and those derived from it have done in this process.
    pub fn stats(&self) -> Result<Stats> {
        self.core.stats()
    }

    /// Sends one request that this library has no call for, to a container or a blob, with retries and signature like
    /// all others; `query` comes before the URL's own. An answer of failure is an error.
    pub fn send(&self, method: &str, url: &str, query: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer> {
        let endpoint = self.core.endpoint();
        let target =
            parse_container(url, endpoint).map(|container| container.target).or_else(|_| parse_blob(url, endpoint))?;
        let mut request = Request::new(method.parse().map_err(|_| Error::invalid("bad method"))?, target.uri(query)?);
        request.body = Bytes::copy_from_slice(body);
        for (name, value) in headers {
            let name = name.parse().map_err(|_| Error::invalid("a header has a bad name"))?;
            request = request.header(name, value)?;
        }
        let call = self.core.call()?;
        block_on(async move {
            retry(&call.limits, |attempt| async {
                let attempt = attempt;
                let mut response = call.service.send(request.clone(), &attempt).await?.success().await?;
                let body = response.bytes(MAX_ANSWER).await?;
                Ok(Answer { headers: response.headers.clone(), body })
            })
            .await
        })
    }

    /// Opens a blob for reading. One request; returns while the first bytes come in.
    pub fn open(&self, url: &str) -> Result<BlobReader> {
        BlobReader::open(&self.core, self.blob(url)?)
    }

    /// Opens the blob `name`, taken literally, of a container.
    pub fn open_in(&self, container_url: &str, name: &str) -> Result<BlobReader> {
        BlobReader::open(&self.core, self.blob_in(container_url, name)?)
    }

    /// Opens a blob if its ETag is no longer `etag`; `None`, after one request without a body, if it is.
    pub fn open_if_changed(&self, url: &str, etag: &str) -> Result<Option<BlobReader>> {
        BlobReader::open_if_changed(&self.core, self.blob(url)?, etag)
    }

    /// Begins to write a blob. Nothing is sent before there is data, nothing visible before `close`.
    pub fn writer(&self, url: &str, mode: WriteMode) -> Result<BlobWriter> {
        BlobWriter::new(&self.core, self.blob(url)?, mode)
    }

    /// Begins to write the blob `name`, taken literally, of a container.
    pub fn writer_in(&self, container_url: &str, name: &str, mode: WriteMode) -> Result<BlobWriter> {
        BlobWriter::new(&self.core, self.blob_in(container_url, name)?, mode)
    }

    /// Whether the blob exists.
    pub fn exists(&self, url: &str) -> Result<bool> {
        let (call, target) = (self.core.call()?, self.blob(url)?);
        block_on(async move { operations::exists(&call, &target).await })
    }

    /// Deletes the blob, or the snapshot or version that the URL names. A blob with snapshots is refused.
    pub fn delete(&self, url: &str) -> Result<()> {
        let (call, target) = (self.core.call()?, self.blob(url)?);
        block_on(async move { operations::delete(&call, &target).await })
    }

    /// Creates the container.
    pub fn create_container(&self, url: &str) -> Result<()> {
        let target = parse_container(url, self.core.endpoint())?.target;
        let call = self.core.call()?;
        block_on(async move { operations::create_container(&call, &target).await })
    }

    /// Brings a blob into a file, which is there whole or not at all.
    pub fn download(&self, url: &str, path: &Path) -> Result<()> {
        file_transfer::download(&self.core, self.blob(url)?, path)
    }

    /// Writes a file as a blob, which is there whole or not at all.
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

/// The service's answer to [`Client::send`].
pub struct Answer {
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    /// A header's value, if it is there and readable.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The service's clock when it answered.
    pub fn date(&self) -> Option<SystemTime> {
        httpdate::parse_http_date(self.headers.get(DATE)?.to_str().ok()?).ok()
    }

    /// The body, whole.
    pub fn body(&self) -> &[u8] {
        &self.body
    }
}
