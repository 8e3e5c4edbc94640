//! Map-style datasets: entries by index, loaded when a caller asks for them, or before.

use std::sync::Arc;

use crate::blob::BlobReader;
use crate::client::Client;
use crate::core::runtime::{block_on, start};
use crate::dataset::entries::{Entries, Entry};
use crate::dataset::gather::Gather;
use crate::dataset::hints::Hints;
use crate::dataset::load::EntryLoad;
use crate::dataset::prefetch::Prefetcher;
use crate::dataset::sample::Item;
use crate::error::{Error, Result, Status};
use crate::service::client_core::{Call, ClientCore};
use crate::sys::blocking::check_may_block;
use crate::sys::caller_buffer::{CallerBuffer, Loan};
use crate::sys::fill_buffer::FilledBuffer;
use crate::sys::process::PerProcess;

mod build;
pub(crate) mod depth;
pub(crate) mod entries;
mod gather;
mod hints;
pub(crate) mod load;
pub(crate) mod manifest;
pub(crate) mod prefetch;
pub(crate) mod sample;
mod sequential;
pub(crate) mod serialized;
pub(crate) mod table_text;
pub(crate) mod tar_index;

pub use build::BlobRange;
pub(crate) use build::{entries_of_urls, listing};
pub use sample::Sample;

/// Blobs, or parts of blobs, by index. The list of entries never changes. Cheap to clone, safe to share between
/// threads, and usable in a forked child.
#[derive(Clone)]
pub struct Dataset(Arc<DatasetInner>);

struct DatasetInner {
    core: ClientCore,
    entries: Arc<Entries>,
    prefetcher: PerProcess<Arc<Prefetcher<Hints>>>,
}

impl Dataset {
    fn new(client: &Client, mut entries: Entries) -> Self {
        entries.shrink();
        let inner =
            DatasetInner { core: client.core().child(), entries: Arc::new(entries), prefetcher: PerProcess::new() };
        Self(Arc::new(inner))
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.0.entries.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The blob's name, or the member's path in its archive.
    pub fn name(&self, index: usize) -> Result<&str> {
        Ok(self.entry(index)?.name())
    }

    /// The name of the blob's container.
    pub fn container_name(&self, index: usize) -> Result<&str> {
        Ok(self.entry(index)?.container_name().to_str().unwrap_or_default())
    }

    /// The entry's size in bytes. `None` while it is unknown; a read of the entry makes it known.
    pub fn size(&self, index: usize) -> Result<Option<u64>> {
        Ok(self.entry(index)?.size())
    }

    /// The URL, without query, of the blob, or of the archive that the member is in.
    pub fn url(&self, index: usize) -> Result<String> {
        Ok(self.entry(index)?.url())
    }

    /// Reads an entry. If the caller reads entries in order, the next ones are loaded ahead.
    pub fn get(&self, index: usize) -> Result<Sample> {
        check_may_block()?;
        self.entry(index)?;
        let (call, prefetcher) = (self.0.core.call()?, self.prefetcher()?);
        let pending = prefetcher.take(index as u64);
        // Start this load before the read-ahead, so that it does not wait for those loads.
        let direct = if pending.is_none() { Some(start(self.load(&call, index)?.into_bytes())?) } else { None };
        prefetcher.observe(&call, index, 1)?;
        let arrived = pending.map(|pending| pending.wait(&call)).transpose()?.flatten();
        let bytes = match (arrived, direct) {
            (Some(bytes), _) => bytes,
            (None, Some(direct)) => direct.wait(call.limits.interruption())?,
            (None, None) => block_on(call.limits.interruption(), self.load(&call, index)?.into_bytes())?,
        };
        prefetcher.go_on(&call)?;
        Ok(self.sample(prefetcher, index, bytes))
    }

    /// Reads entries concurrently. Returns one sample for each index, in this order, or the first error. An index that
    /// occurs twice gives two copies.
    pub fn get_batch(&self, indices: &[usize]) -> Result<Vec<Sample>> {
        check_may_block()?;
        for &index in indices {
            self.entry(index)?;
        }
        let (call, prefetcher) = (self.0.core.call()?, self.prefetcher()?);
        let mut distinct = indices.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let mut pending = Vec::new();
        let mut missing = Vec::new();
        for index in distinct {
            match prefetcher.take(index as u64) {
                Some(load) => pending.push((index, load)),
                None => missing.push(index),
            }
        }
        let direct = self.load_all(&call, &missing)?;
        if let Some(first) = contiguous(indices) {
            prefetcher.observe(&call, first, indices.len())?;
        }
        let (mut loaded, mut failed) = (Vec::with_capacity(pending.len() + missing.len()), Vec::new());
        for (index, pending) in pending {
            match pending.wait(&call)? {
                Some(bytes) => loaded.push((index, bytes)),
                None => failed.push(index),
            }
        }
        loaded.extend(missing.into_iter().zip(direct.wait(&call.limits)?));
        let again = self.load_all(&call, &failed)?;
        loaded.extend(failed.into_iter().zip(again.wait(&call.limits)?));
        prefetcher.go_on(&call)?;
        self.in_order(prefetcher, indices, loaded)
    }

    /// Reads an entry into the caller's memory and returns its size in bytes. Fails with `Status::BufferTooSmall` if it
    /// does not fit.
    pub fn get_into(&self, index: usize, buffer: &mut [u8]) -> Result<usize> {
        self.read_into(&[index], vec![CallerBuffer::from_slice(buffer)]).into_sizes().map(|sizes| sizes[0])
    }

    /// Reads entries into the caller's memory, concurrently. Returns their sizes in bytes, or the first error.
    pub fn get_batch_into(&self, indices: &[usize], buffers: &mut [&mut [u8]]) -> Result<Vec<usize>> {
        if indices.len() != buffers.len() {
            return Err(Error::invalid(format!("{} buffers for {} indices", buffers.len(), indices.len())));
        }
        let buffers = buffers.iter_mut().map(|buffer| CallerBuffer::from_slice(buffer)).collect();
        self.read_into(indices, buffers).into_sizes()
    }

    /// Reads entries into the caller's memory, as [`get_batch_into`](Self::get_batch_into) does. The sizes are known
    /// even if a buffer is too small.
    pub(crate) fn read_into(&self, indices: &[usize], buffers: Vec<CallerBuffer<'_>>) -> ReadInto {
        match self.try_read_into(indices, buffers) {
            Ok(read) => read,
            Err(error) => ReadInto { sizes: Vec::new(), error: Some(error) },
        }
    }

    fn try_read_into(&self, indices: &[usize], mut buffers: Vec<CallerBuffer<'_>>) -> Result<ReadInto> {
        check_may_block()?;
        for &index in indices {
            self.entry(index)?;
        }
        let (call, prefetcher) = (self.0.core.call()?, self.prefetcher()?);
        let capacities: Vec<_> = buffers.iter().map(CallerBuffer::len).collect();
        let mut sizes = vec![None; indices.len()];
        let mut missing = Vec::new();
        for (slot, &index) in indices.iter().enumerate() {
            let pending = prefetcher.take(index as u64);
            match pending.map(|pending| pending.wait(&call)).transpose()?.flatten() {
                Some(bytes) => {
                    if bytes.len() <= capacities[slot] {
                        buffers[slot].fill(&bytes);
                    }
                    sizes[slot] = Some(bytes.len() as u64);
                }
                None => missing.push(slot),
            }
        }
        let loaded = CallerBuffer::lend_all(buffers, |loans| self.load_all_into(&call, indices, &missing, loans))?;
        for (slot, size) in missing.into_iter().zip(loaded) {
            sizes[slot] = Some(size);
        }
        if let Some(first) = contiguous(indices) {
            prefetcher.observe(&call, first, indices.len())?;
        }
        let mut read = ReadInto { sizes: Vec::with_capacity(indices.len()), error: None };
        for (slot, (&index, size)) in indices.iter().zip(sizes).enumerate() {
            let size = size.ok_or_else(|| Error::internal("an entry's size was not found"))?;
            let length = usize::try_from(size).map_err(|_| Error::out_of_memory(usize::MAX))?;
            prefetcher.record_size(length);
            self.entry(index)?.learn_size(size);
            read.sizes.push(length);
            if length > capacities[slot] && read.error.is_none() {
                let message = format!("{} has {size} bytes, and its buffer {}", self.describe(index), capacities[slot]);
                read.error = Some(Error::new(Status::BufferTooSmall, message));
            }
        }
        Ok(read)
    }

    /// Loads the entries of `slots` into the caller's buffers. Returns their sizes, in the order of the slots.
    fn load_all_into(&self, call: &Call, indices: &[usize], slots: &[usize], loans: Vec<Loan>) -> Result<Vec<u64>> {
        let mut loans: Vec<_> = loans.into_iter().map(Some).collect();
        let loads = slots.iter().map(|&slot| {
            let mut loan = loans[slot].take().ok_or_else(|| Error::internal("a buffer is lent already"))?;
            let load = self.load(call, indices[slot])?;
            Ok(async move { load.load_into(&mut loan).await })
        });
        Gather::start(loads, call.service.max_concurrency())?.wait(&call.limits)
    }

    /// Loads entries ahead, in this order, as far as the memory limit allows. Returns at once. An empty slice withdraws
    /// earlier hints.
    pub fn prefetch(&self, indices: &[usize]) -> Result<()> {
        for &index in indices {
            self.entry(index)?;
        }
        self.prefetcher()?.hint(&self.0.core.call()?, indices)
    }

    /// Opens an entry for reading. If the entry is a part of a blob, the reader sees only this part.
    pub fn open(&self, index: usize) -> Result<BlobReader> {
        self.item(index)?.open(&self.0.core)
    }

    /// Ends all calls of this dataset, its readers and its streams with `Status::Cancelled`, now and in future. Returns
    /// at once. Callable from any thread.
    pub fn cancel(&self) {
        self.0.core.cancel();
    }

    pub(crate) fn core(&self) -> &ClientCore {
        &self.0.core
    }

    pub(crate) fn entries(&self) -> &Arc<Entries> {
        &self.0.entries
    }

    pub(crate) fn entry(&self, index: usize) -> Result<Entry<'_>> {
        self.0.entries.entry(index)
    }

    fn item(&self, index: usize) -> Result<Item> {
        self.entry(index)?;
        Ok(Item { entries: self.0.entries.clone(), index })
    }

    fn prefetcher(&self) -> Result<&Arc<Prefetcher<Hints>>> {
        self.0.prefetcher.get_or_try_init(|| Prefetcher::of_dataset(&self.0.core, &self.0.entries))
    }

    /// Describes an entry for error messages.
    fn describe(&self, index: usize) -> String {
        self.entry(index).map_or_else(|_| String::new(), |entry| format!("{} (index {index})", entry.url()))
    }

    fn load(&self, call: &Call, index: usize) -> Result<EntryLoad> {
        Ok(EntryLoad::new(call.clone(), &self.entry(index)?))
    }

    /// Starts to load entries into memory of their own.
    fn load_all(&self, call: &Call, indices: &[usize]) -> Result<Gather<FilledBuffer>> {
        let loads = indices.iter().map(|&index| Ok(self.load(call, index)?.into_bytes()));
        Gather::start(loads, call.service.max_concurrency())
    }

    fn sample(&self, prefetcher: &Prefetcher<Hints>, index: usize, bytes: FilledBuffer) -> Sample {
        prefetcher.record_size(bytes.len());
        let item = Item { entries: self.0.entries.clone(), index };
        Sample::new(&self.0.core, item, index as u64, Some(bytes))
    }

    /// Makes one sample for each index out of the distinct entries that were loaded.
    fn in_order(
        &self,
        prefetcher: &Prefetcher<Hints>,
        indices: &[usize],
        mut loaded: Vec<(usize, FilledBuffer)>,
    ) -> Result<Vec<Sample>> {
        loaded.sort_unstable_by_key(|(index, _)| *index);
        let mut given = vec![false; loaded.len()];
        let mut samples = Vec::with_capacity(indices.len());
        for &index in indices {
            let at = loaded.binary_search_by_key(&index, |(index, _)| *index);
            let at = at.map_err(|_| Error::internal("an entry of a batch did not arrive"))?;
            let bytes = &loaded[at].1;
            let bytes = if std::mem::replace(&mut given[at], true) { bytes.duplicate()? } else { bytes.clone() };
            samples.push(self.sample(prefetcher, index, bytes));
        }
        Ok(samples)
    }
}

/// The result of a read into the caller's buffers. With `Status::BufferTooSmall` it has the sizes too.
pub(crate) struct ReadInto {
    pub(crate) sizes: Vec<usize>,
    pub(crate) error: Option<Error>,
}

impl ReadInto {
    fn into_sizes(self) -> Result<Vec<usize>> {
        self.error.map_or(Ok(self.sizes), Err)
    }
}

/// The first index, if each index follows the one before it.
fn contiguous(indices: &[usize]) -> Option<usize> {
    let follows = |pair: &[usize]| pair[0].checked_add(1) == Some(pair[1]);
    indices.first().copied().filter(|_| indices.windows(2).all(follows))
}
