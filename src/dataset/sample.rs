//! A sample: one entry's bytes, and where they came from.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::AbortHandle;

use crate::blob::BlobReader;
use crate::core::limits::Limits;
use crate::core::runtime::{Started, start_abortable};
use crate::dataset::entries::{Entries, Entry, Part};
use crate::dataset::load::load_entry;
use crate::error::Result;
use crate::memory::Reservation;
use crate::service::client_core::{Call, ClientCore};
use crate::sys::block::Filled;

/// An entry, kept alive for itself.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) entries: Arc<Entries>,
    pub(crate) index: usize,
}

impl Item {
    pub(crate) fn entry(&self) -> Result<Entry<'_>> {
        self.entries.entry(self.index)
    }

    /// Opens the entry for reading, as if it were a blob of its own.
    pub(crate) fn open(&self, core: &ClientCore) -> Result<BlobReader> {
        let entry = self.entry()?;
        match entry.part() {
            Part::Whole { .. } => BlobReader::open(core, entry.target()),
            Part::Range { range, version } => BlobReader::open_part(core, entry.target(), range, version),
        }
    }
}

/// The bytes of one blob, of a part of one, or of a member of an archive. They are this sample's alone, aligned to
/// 64 bytes, and never change.
#[derive(Clone)]
pub struct Sample {
    core: ClientCore,
    item: Item,
    position: u64,
    bytes: Option<Filled>,
}

impl Sample {
    /// Without bytes, the sample only says where they are.
    pub(crate) fn new(core: &ClientCore, item: Item, position: u64, bytes: Option<Filled>) -> Self {
        if let (Some(bytes), Ok(entry)) = (&bytes, item.entry()) {
            entry.learn_size(bytes.len() as u64);
        }
        Self { core: core.clone(), item, position, bytes }
    }

    /// The bytes; none for a sample of a lazy stream.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_deref().unwrap_or_default()
    }

    /// Whether the bytes were fetched.
    pub fn is_fetched(&self) -> bool {
        self.bytes.is_some()
    }

    /// The blob's URL without query; of an archive's member, the archive's.
    pub fn url(&self) -> String {
        self.item.entry().map_or_else(|_| String::new(), |entry| entry.url())
    }

    /// The blob's name, or a member's path in its archive.
    pub fn name(&self) -> &str {
        self.item.entry().map_or("", |entry| entry.name())
    }

    /// The container's name.
    pub fn container_name(&self) -> &str {
        self.item.entry().map_or("", |entry| entry.container_name().to_str().unwrap_or_default())
    }

    /// Its place in the stream's own sequence of the epoch, or its index in the dataset.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The size in bytes that the listing, the range, the archive or an earlier read gave, if one did.
    pub fn blob_size(&self) -> Option<u64> {
        self.item.entry().ok().and_then(|entry| entry.size())
    }

    /// Opens what the sample came from. The current version, which may be a later one than the sample's.
    pub fn open(&self) -> Result<BlobReader> {
        self.item.open(&self.core)
    }

    pub(crate) fn item(&self) -> &Item {
        &self.item
    }
}

/// What an entry of unknown size is taken to have while no other has been seen.
const LIKELY_SIZE: u64 = 1 << 20;

/// What sizes are usual among some entries.
#[derive(Debug, Default)]
pub(crate) struct UsualSize {
    bytes: AtomicU64,
    count: AtomicU64,
}

impl UsualSize {
    pub(crate) fn saw(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// An entry's size, or the mean of those that were seen.
    pub(crate) fn likely(&self, item: &Item) -> u64 {
        let known = item.entry().ok().and_then(|entry| entry.size());
        known.unwrap_or_else(|| {
            let bytes = self.bytes.load(Ordering::Relaxed);
            bytes.checked_div(self.count.load(Ordering::Relaxed)).unwrap_or(LIKELY_SIZE)
        })
    }
}

/// An entry's bytes, fetched before they are asked for. Dropped, the fetch ends.
pub(crate) struct Pending {
    result: Option<Started<(Filled, Option<Reservation>)>>,
    request: AbortHandle,
    /// Those of the fetch, which know its trouble.
    limits: Limits,
}

impl Pending {
    /// Begins to fetch; `ended` is dropped when that is over, however it ends.
    pub(crate) fn start<G: Send + 'static>(call: &Call, item: &Item, memory: Reservation, ended: G) -> Result<Self> {
        let entry = item.entry()?;
        let (call, target, part) = (call.in_background(), Arc::new(entry.target()), entry.part());
        let limits = call.limits.clone();
        let (result, request) = start_abortable(async move {
            let _ended = ended;
            load_entry(&call, &target, &part, Some(memory)).await
        })?;
        Ok(Self { result: Some(result), request, limits })
    }

    /// Waits for the bytes: an error when the call's deadline passes, `None` when the fetch failed, so that the call
    /// has to try for itself.
    pub(crate) fn wait(mut self, call: &Call) -> Result<Option<Filled>> {
        let Some(result) = self.result.take() else { return Ok(None) };
        match result.wait_until(call.limits.deadline) {
            Some(Ok((bytes, _memory))) => Ok(Some(bytes)),
            Some(Err(_)) => Ok(None),
            None => Err(self.limits.deadline_passed()),
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.request.abort();
    }
}
