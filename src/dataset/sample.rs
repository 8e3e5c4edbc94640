//! A sample: one entry's bytes, and the entry that they came from.

use std::sync::Arc;

use crate::blob::BlobReader;
use crate::dataset::entries::{Entries, Entry, Extent};
use crate::error::Result;
use crate::service::client_core::ClientCore;
use crate::sys::fill_buffer::FilledBuffer;

/// An entry, and the table that it is in.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) entries: Arc<Entries>,
    pub(crate) index: usize,
}

impl Item {
    pub(crate) fn entry(&self) -> Result<Entry<'_>> {
        self.entries.entry(self.index)
    }

    /// Opens the entry for reading. The reader sees only the entry's bytes.
    pub(crate) fn open(&self, core: &ClientCore) -> Result<BlobReader> {
        let entry = self.entry()?;
        match entry.extent() {
            Extent::Whole { .. } => BlobReader::open(core, entry.target()),
            Extent::Range { range, version } => BlobReader::open_part(core, entry.target(), range, version),
        }
    }
}

/// The bytes of one blob, of a part of a blob, or of a member of an archive. They are aligned to 64 bytes and never
/// change. Each sample has memory of its own, which its clones share.
#[derive(Clone)]
pub struct Sample {
    core: ClientCore,
    item: Item,
    position: u64,
    bytes: Option<FilledBuffer>,
}

impl Sample {
    /// Makes a sample; without bytes, a sample of a lazy stream.
    pub(crate) fn new(core: &ClientCore, item: Item, position: u64, bytes: Option<FilledBuffer>) -> Self {
        if let (Some(bytes), Ok(entry)) = (&bytes, item.entry()) {
            entry.learn_size(bytes.len() as u64);
        }
        Self { core: core.clone(), item, position, bytes }
    }

    /// The bytes. Empty for a sample of a lazy stream.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_deref().unwrap_or_default()
    }

    /// Whether the sample has its bytes. False for a sample of a lazy stream.
    pub fn is_fetched(&self) -> bool {
        self.bytes.is_some()
    }

    /// The URL, without query, of the blob, or of the archive that the member is in.
    pub fn url(&self) -> String {
        self.item.entry().map_or_else(|_| String::new(), |entry| entry.url())
    }

    /// The blob's name, or the member's path in its archive.
    pub fn name(&self) -> &str {
        self.item.entry().map_or("", |entry| entry.name())
    }

    /// The container's name.
    pub fn container_name(&self) -> &str {
        self.item.entry().map_or("", |entry| entry.container_name().to_str().unwrap_or_default())
    }

    /// The position in the stream's sequence of this epoch, or the index in the dataset.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The size in bytes, from the listing, the range, the archive or an earlier read. `None` while it is unknown.
    pub fn blob_size(&self) -> Option<u64> {
        self.item.entry().ok().and_then(|entry| entry.size())
    }

    /// Opens the blob, or its part, for reading. The blob may have been replaced since the sample was read.
    pub fn open(&self) -> Result<BlobReader> {
        self.item.open(&self.core)
    }

    pub(crate) fn item(&self) -> &Item {
        &self.item
    }
}
