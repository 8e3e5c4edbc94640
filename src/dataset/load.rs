//! Loads one entry's bytes into memory: with one GET if it is small, with parallel ranges if it is large.

use std::ops::Range;
use std::sync::Arc;

use tokio::task::AbortHandle;

use crate::core::limits::Limits;
use crate::core::parallel::together;
use crate::core::runtime::{Started, start_abortable};
use crate::dataset::entries::{Entry, Extent};
use crate::error::{Error, Result, Status};
use crate::memory::Reservation;
use crate::memory::buffer_pool::SampleMemory;
use crate::service::body_sink::RangeBody;
use crate::service::client_core::Call;
use crate::service::ranged_get::{self, Only, Opened, fetch, fetch_parts};
use crate::service::version::Version;
use crate::sys::caller_buffer::{Destination, Loan};
use crate::sys::fill_buffer::{FillBuffer, FilledBuffer};
use crate::url::Target;

/// The most bytes that one request loads. Larger entries are loaded as parallel ranges.
const ONE_REQUEST: u64 = 8 << 20;
/// The number of versions that are tried if a blob is replaced again and again while it is read.
const MAX_VERSIONS: usize = 3;

/// One entry to be loaded for one call.
pub(crate) struct EntryLoad {
    call: Call,
    target: Arc<Target>,
    extent: Extent,
}

impl EntryLoad {
    pub(crate) fn new(call: Call, entry: &Entry<'_>) -> Self {
        Self { call, target: Arc::new(entry.target()), extent: entry.extent() }
    }

    /// Loads the entry into memory of its own.
    pub(crate) async fn into_bytes(self) -> Result<FilledBuffer> {
        self.load_entry(None).await.map(|(bytes, _)| bytes)
    }

    /// Loads the entry into memory of its own. `memory`, if any, is resized to the entry's size and returned.
    async fn load_entry(&self, mut memory: Option<Reservation>) -> Result<(FilledBuffer, Option<Reservation>)> {
        let mut buffer = None;
        let allocate = |length: u64| {
            if memory.as_mut().is_some_and(|memory| !memory.resize(length)) {
                return Err(Error::new(Status::OutOfMemory, "the memory limit leaves no room to read ahead"));
            }
            let (new, to) = FillBuffer::new(length, &SampleMemory)?;
            buffer = Some(new);
            Ok(Some(to))
        };
        self.load(ONE_REQUEST, allocate).await?;
        let buffer = buffer.ok_or_else(|| Error::internal("an entry was loaded without memory"))?;
        Ok((buffer.filled()?, memory))
    }

    /// Loads the entry into the caller's memory if it fits there. Returns the entry's size in any case.
    pub(crate) async fn load_into(&self, loan: &mut Loan) -> Result<u64> {
        let capacity = loan.capacity() as u64;
        let first = match self.extent.expected() {
            // The entry will probably not fit: request one byte, only to learn the size.
            Some(expected) if expected > capacity => 1,
            _ => capacity.clamp(1, ONE_REQUEST),
        };
        let lend = |length: u64| {
            if length > capacity {
                return Ok(None);
            }
            let to = loan.lend(length as usize);
            to.map(Some).ok_or_else(|| Error::internal("a caller's memory is still lent"))
        };
        self.load(first, lend).await
    }

    /// Loads the entry, and starts again if the blob is replaced meanwhile; returns the entry's size. The first request
    /// asks for `first` bytes. `allocate` gets the size and returns the memory for all of the entry; with `None`
    /// nothing is loaded.
    async fn load(&self, first: u64, mut allocate: impl FnMut(u64) -> Result<Option<Destination>>) -> Result<u64> {
        let is_pinned = matches!(self.extent, Extent::Range { version: Some(_), .. });
        let mut versions = 1;
        loop {
            match self.load_version(first, &mut allocate).await {
                Err(error) if error.status() == Status::Modified && !is_pinned && versions < MAX_VERSIONS => {
                    versions += 1;
                }
                result => return result,
            }
        }
    }

    /// Loads the entry out of one version of its blob.
    async fn load_version(
        &self,
        first: u64,
        allocate: &mut impl FnMut(u64) -> Result<Option<Destination>>,
    ) -> Result<u64> {
        if self.extent.expected() == Some(0) && matches!(self.extent, Extent::Range { .. }) {
            allocate(0)?;
            return Ok(0);
        }
        let Opened { version, first, body } = self.open(first).await?;
        let whole = match &self.extent {
            Extent::Whole { .. } => 0..version.size,
            Extent::Range { range, .. } => range.clone(),
        };
        let length = whole.end - whole.start;
        let buffer = allocate(length).map_err(|error| error.context(self.target.display()))?;
        let Some(buffer) = buffer else {
            ranged_get::discard(&self.call, body).await;
            return Ok(length);
        };
        self.transfer(&version, whole, first, body, buffer).await?;
        Ok(length)
    }

    /// Asks for the entry's first bytes, at most `most`.
    async fn open(&self, most: u64) -> Result<Opened> {
        let (call, target) = (&self.call, &*self.target);
        match &self.extent {
            Extent::Whole { expected: Some(0) } => match ranged_get::probe_empty(call, target).await? {
                Some(etag) => Ok(Opened::empty(etag)),
                None => ranged_get::open(call, target, 0..most, &Only::Any).await,
            },
            Extent::Whole { .. } => ranged_get::open(call, target, 0..most, &Only::Any).await,
            Extent::Range { range, version } => {
                let only = version.clone().map_or(Only::Any, Only::If);
                ranged_get::open_part(call, target, range, most, &only).await
            }
        }
    }

    /// Receives `whole` into `buffer`. `body` is the response with `first`, the beginning of `whole`.
    async fn transfer(
        &self,
        version: &Version,
        whole: Range<u64>,
        first: Range<u64>,
        body: Option<RangeBody>,
        mut buffer: Destination,
    ) -> Result<()> {
        if first.end >= whole.end {
            return fetch(&self.call, &self.target, version, whole, body, &mut buffer).await;
        }
        let version = Arc::new(version.clone());
        let mut sink = |part: &Range<u64>| buffer.split_to((part.end - part.start) as usize);
        let parts = fetch_parts(&self.call, &self.target, &version, whole, first, body, &mut sink);
        // Drop the empty remainder: while it lives, the loan counts as outstanding.
        drop(buffer);
        together(parts, self.call.connections()).await
    }
}

/// An entry being loaded in the background. Dropping it ends the load.
pub(crate) struct PendingLoad {
    result: Option<Started<(FilledBuffer, Option<Reservation>)>>,
    task: AbortHandle,
    /// The limits of the load, which hold its last error.
    limits: Limits,
}

impl PendingLoad {
    /// Starts a load. `guard` is dropped when the load ends, also after an error or an abort.
    pub(crate) fn start(load: EntryLoad, memory: Reservation, guard: impl Send + 'static) -> Result<Self> {
        let limits = load.call.limits.clone();
        let (result, task) = start_abortable(async move {
            let _guard = guard;
            load.load_entry(Some(memory)).await
        })?;
        Ok(Self { result: Some(result), task, limits })
    }

    /// Waits for the bytes. `None` when the load failed, so that the caller has to load the entry itself; an error when
    /// the deadline of `call` passes, or it is interrupted.
    pub(crate) fn wait(mut self, call: &Call) -> Result<Option<FilledBuffer>> {
        let Some(result) = self.result.take() else { return Ok(None) };
        match result.wait_within(&call.limits, &self.limits)? {
            Ok((bytes, _memory)) => Ok(Some(bytes)),
            Err(_) => Ok(None),
        }
    }
}

impl Drop for PendingLoad {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::retry::Attempt;
    use crate::http::Request;
    use crate::options::ClientOptions;
    use crate::service::client_core::ClientCore;
    use crate::url::parse_blob;

    /// A future is copied each time it is passed on, until its task owns it. So it should be small.
    #[test]
    fn the_future_that_loads_a_small_entry_is_small() {
        let call = ClientCore::new(&ClientOptions::new()).call().unwrap();
        let target = Arc::new(parse_blob("http://127.0.0.1/account/container/blob", None).unwrap());
        let load = EntryLoad { call: call.clone(), target: target.clone(), extent: Extent::Whole { expected: None } };
        let one = load.load_entry(None);
        assert!(size_of_val(&one) < 4096, "{} bytes", size_of_val(&one));
        let attempt = Attempt::first();
        let request = call.service.send(Request::new(http::Method::GET, target.uri("").unwrap()), &attempt);
        assert!(size_of_val(&request) < 4096, "{} bytes", size_of_val(&request));
    }
}
