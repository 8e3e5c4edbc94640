//! Map-style datasets: entries by index, fetched when they are asked for or before.

use std::sync::{Arc, Mutex};

use crate::blob::BlobReader;
use crate::client::Client;
use crate::core::parallel::Transfers;
use crate::core::runtime::{block_on, start};
use crate::dataset::entries::{Entries, Entry};
use crate::dataset::load::{load_entry, load_entry_into};
use crate::dataset::prefetch::Prefetcher;
use crate::dataset::sample::{Item, Pending};
use crate::error::{Error, Result, Status};
use crate::service::client_core::{Call, ClientCore};
use crate::sys::block::Filled;
use crate::sys::blocking::check_may_block;
use crate::sys::caller_buffer::{CallerBuffer, Loan};
use crate::sys::lock::lock;
use crate::sys::process::PerProcess;

mod build;
pub(crate) mod entries;
pub(crate) mod load;
pub(crate) mod manifest;
mod prefetch;
pub(crate) mod sample;
mod sequential;
pub(crate) mod tar_index;

pub use build::BlobRange;
pub(crate) use build::{entries_of_urls, listing};
pub use sample::Sample;

/// Blobs, or parts of blobs, by index. Listed once and immutable. Cheap to clone, safe to share between threads, and
/// usable in a forked child.
#[derive(Clone)]
pub struct Dataset(Arc<Inner>);

struct Inner {
    core: ClientCore,
    entries: Arc<Entries>,
    prefetcher: PerProcess<Arc<Prefetcher>>,
}

impl Dataset {
    fn new(client: &Client, mut entries: Entries) -> Self {
        entries.shrink();
        let inner = Inner { core: client.core().child(), entries: Arc::new(entries), prefetcher: PerProcess::new() };
        Self(Arc::new(inner))
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.0.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The blob's name, or an archive's member's path in it.
    pub fn name(&self, index: usize) -> Result<&str> {
        Ok(self.entry(index)?.name())
    }

    /// The name of the blob's container.
    pub fn container_name(&self, index: usize) -> Result<&str> {
        Ok(self.entry(index)?.container_name().to_str().unwrap_or_default())
    }

    /// The entry's size in bytes; `None` while it is not known, which a read changes.
    pub fn size(&self, index: usize) -> Result<Option<u64>> {
        Ok(self.entry(index)?.size())
    }

    /// The blob's URL without query; of an archive's member, the archive's.
    pub fn url(&self, index: usize) -> Result<String> {
        Ok(self.entry(index)?.url())
    }

    /// Fetches an entry. A caller that walks through the dataset in order is noticed, and read ahead of.
    pub fn get(&self, index: usize) -> Result<Sample> {
        check_may_block()?;
        self.entry(index)?;
        let (call, prefetcher) = (self.0.core.call()?, self.prefetcher()?);
        let pending = prefetcher.take(index);
        // Before what may be wanted later, so that it does not have to wait for that.
        let direct = if pending.is_none() { Some(start(self.load_entry(&call, index)?)?) } else { None };
        prefetcher.observe(&call, index, 1)?;
        let arrived = pending.map(|pending| pending.wait(&call)).transpose()?.flatten();
        let bytes = match (arrived, direct) {
            (Some(bytes), _) => bytes,
            (None, Some(direct)) => direct.wait()?,
            (None, None) => block_on(self.load_entry(&call, index)?)?,
        };
        prefetcher.go_on(&call)?;
        Ok(self.sample(prefetcher, index, bytes))
    }

    /// Fetches entries concurrently, all or none, in this order. An index that comes twice gives two copies.
    pub fn get_batch(&self, indices: &[usize]) -> Result<Vec<Sample>> {
        check_may_block()?;
        for &index in indices {
            self.entry(index)?;
        }
        let (call, prefetcher) = (self.0.core.call()?, self.prefetcher()?);
        let mut distinct = indices.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let (pending, missing): (Vec<_>, Vec<_>) =
            distinct.iter().map(|&index| (index, prefetcher.take(index))).partition(|(_, pending)| pending.is_some());
        let mut brought = Vec::with_capacity(distinct.len());
        let direct = self.bring_all(&call, missing.into_iter().map(|(index, _)| index).collect())?;
        if let Some(first) = contiguous(indices) {
            prefetcher.observe(&call, first, indices.len())?;
        }
        let mut again = Vec::new();
        for (index, pending) in pending {
            match pending.map(|pending| Pending::wait(pending, &call)).transpose()?.flatten() {
                Some(bytes) => brought.push((index, bytes)),
                None => again.push(index),
            }
        }
        brought.extend(direct.wait()?);
        brought.extend(self.bring_all(&call, again)?.wait()?);
        prefetcher.go_on(&call)?;
        self.in_order(prefetcher, indices, brought)
    }

    /// Reads an entry into memory of the caller's; its size. `Status::BufferTooSmall` when it does not fit.
    pub fn get_into(&self, index: usize, buffer: &mut [u8]) -> Result<usize> {
        self.get_into_all(&[index], vec![CallerBuffer::from_slice(buffer)]).into_sizes().map(|sizes| sizes[0])
    }

    /// Reads entries into memory of the caller's, concurrently, all or none; their sizes.
    pub fn get_batch_into(&self, indices: &[usize], buffers: &mut [&mut [u8]]) -> Result<Vec<usize>> {
        if indices.len() != buffers.len() {
            return Err(Error::invalid(format!("{} buffers for {} indices", buffers.len(), indices.len())));
        }
        let buffers = buffers.iter_mut().map(|buffer| CallerBuffer::from_slice(buffer)).collect();
        self.get_into_all(indices, buffers).into_sizes()
    }

    pub(crate) fn get_into_all(&self, indices: &[usize], buffers: Vec<CallerBuffer<'_>>) -> Fitted {
        match self.fit(indices, buffers) {
            Ok(fitted) => fitted,
            Err(error) => Fitted { sizes: Vec::new(), error: Some(error) },
        }
    }

    fn fit(&self, indices: &[usize], mut buffers: Vec<CallerBuffer<'_>>) -> Result<Fitted> {
        check_may_block()?;
        for &index in indices {
            self.entry(index)?;
        }
        let (call, prefetcher) = (self.0.core.call()?, self.prefetcher()?);
        let capacities: Vec<_> = buffers.iter().map(CallerBuffer::len).collect();
        let mut sizes = vec![None; indices.len()];
        let mut missing = Vec::new();
        for (slot, &index) in indices.iter().enumerate() {
            let arrived = prefetcher.take(index).map(|pending| pending.wait(&call)).transpose()?.flatten();
            match arrived {
                Some(bytes) => {
                    if bytes.len() <= capacities[slot] {
                        buffers[slot].fill(&bytes);
                    }
                    sizes[slot] = Some(bytes.len() as u64);
                }
                None => missing.push(slot),
            }
        }
        let found = CallerBuffer::lend_all(buffers, |loans| self.load_into(&call, indices, missing, loans))?;
        for (slot, size) in found {
            sizes[slot] = Some(size);
        }
        if let Some(first) = contiguous(indices) {
            prefetcher.observe(&call, first, indices.len())?;
        }
        let mut fitted = Fitted { sizes: Vec::with_capacity(indices.len()), error: None };
        for (slot, (&index, size)) in indices.iter().zip(sizes).enumerate() {
            let size = size.ok_or_else(|| Error::internal("an entry's size was not found"))?;
            let length = usize::try_from(size).map_err(|_| Error::out_of_memory(usize::MAX))?;
            prefetcher.saw(length);
            self.entry(index)?.learn_size(size);
            fitted.sizes.push(length);
            if length > capacities[slot] && fitted.error.is_none() {
                let message = format!("{} has {size} bytes, and its buffer {}", self.describe(index), capacities[slot]);
                fitted.error = Some(Error::new(Status::BufferTooSmall, message));
            }
        }
        Ok(fitted)
    }

    /// Loads the entries of `slots` into the caller's buffers; returns the slots with the sizes of their entries.
    fn load_into(
        &self,
        call: &Call,
        indices: &[usize],
        slots: Vec<usize>,
        loans: Vec<Loan>,
    ) -> Result<Vec<(usize, u64)>> {
        let mut loans: Vec<_> = loans.into_iter().map(Some).collect();
        let found = Arc::new(Mutex::new(Vec::with_capacity(slots.len())));
        let mut parts = Vec::new();
        for slot in slots {
            let Some(mut loan) = loans[slot].take() else { continue };
            let entry = self.entry(indices[slot])?;
            let (call, target, part, found) = (call.clone(), Arc::new(entry.target()), entry.part(), found.clone());
            parts.push(Box::pin(async move {
                let size = load_entry_into(&call, &target, &part, &mut loan).await?;
                lock(&found).push((slot, size));
                Ok(())
            }));
        }
        Transfers::start(parts, call.service.max_concurrency()).and_then(Transfers::wait)?;
        let mut found = lock(&found);
        Ok(std::mem::take(&mut *found))
    }

    /// Says which entries come next, so that they can be fetched before they are asked for, in this order and as far
    /// as the memory limit allows. Returns at once. Without any index, earlier hints are withdrawn.
    pub fn prefetch(&self, indices: &[usize]) -> Result<()> {
        for &index in indices {
            self.entry(index)?;
        }
        self.prefetcher()?.hint(&self.0.core.call()?, indices)
    }

    /// Opens an entry for reading: the blob, or the part of one as if it were all there is.
    pub fn open(&self, index: usize) -> Result<BlobReader> {
        self.item(index)?.open(&self.0.core)
    }

    /// Ends what is running, of its readers and streams too, and refuses what comes later, with `Status::Cancelled`, for
    /// good. Returns at once; from any thread.
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

    fn prefetcher(&self) -> Result<&Arc<Prefetcher>> {
        self.0.prefetcher.get_or_try_init(|| Prefetcher::new(&self.0.core, &self.0.entries))
    }

    /// An entry as errors name it.
    fn describe(&self, index: usize) -> String {
        self.entry(index).map_or_else(|_| String::new(), |entry| format!("{} (index {index})", entry.url()))
    }

    fn load_entry(&self, call: &Call, index: usize) -> Result<impl Future<Output = Result<Filled>> + Send + use<>> {
        let entry = self.entry(index)?;
        let (call, target, part) = (call.clone(), Arc::new(entry.target()), entry.part());
        Ok(async move { load_entry(&call, &target, &part, None).await.map(|(bytes, _)| bytes) })
    }

    /// Begins to bring entries into memory of their own.
    fn bring_all(&self, call: &Call, indices: Vec<usize>) -> Result<Batch> {
        let found = Arc::new(Mutex::new(Vec::with_capacity(indices.len())));
        let mut parts = Vec::with_capacity(indices.len());
        for index in indices {
            // On the heap: 64 of them in a row are a piece of memory that comes fresh from the kernel each time.
            let (bytes, found) = (Box::pin(self.load_entry(call, index)?), found.clone());
            parts.push(async move {
                let bytes = bytes.await?;
                lock(&found).push((index, bytes));
                Ok(())
            });
        }
        let transfers = match parts.is_empty() {
            true => None,
            false => Some(Transfers::start(parts, call.service.max_concurrency())?),
        };
        Ok(Batch { transfers, found })
    }

    fn sample(&self, prefetcher: &Prefetcher, index: usize, bytes: Filled) -> Sample {
        prefetcher.saw(bytes.len());
        let item = Item { entries: self.0.entries.clone(), index };
        Sample::new(&self.0.core, item, index as u64, Some(bytes))
    }

    /// One sample for each index out of what was brought for all of them.
    fn in_order(
        &self,
        prefetcher: &Prefetcher,
        indices: &[usize],
        mut brought: Vec<(usize, Filled)>,
    ) -> Result<Vec<Sample>> {
        brought.sort_unstable_by_key(|(index, _)| *index);
        let mut given = vec![false; brought.len()];
        let mut samples = Vec::with_capacity(indices.len());
        for &index in indices {
            let at = brought.binary_search_by_key(&index, |(index, _)| *index);
            let at = at.map_err(|_| Error::internal("an entry of a batch did not arrive"))?;
            let bytes = &brought[at].1;
            let bytes = if std::mem::replace(&mut given[at], true) { bytes.duplicate()? } else { bytes.clone() };
            samples.push(self.sample(prefetcher, index, bytes));
        }
        Ok(samples)
    }
}

/// Entries on their way into memory of their own.
struct Batch {
    transfers: Option<Transfers>,
    found: Arc<Mutex<Vec<(usize, Filled)>>>,
}

impl Batch {
    fn wait(self) -> Result<Vec<(usize, Filled)>> {
        self.transfers.map_or(Ok(()), Transfers::wait)?;
        let mut found = lock(&self.found);
        Ok(std::mem::take(&mut *found))
    }
}

/// What became of reads into the caller's buffers. With `Status::BufferTooSmall` the sizes needed are there too.
pub(crate) struct Fitted {
    pub(crate) sizes: Vec<usize>,
    pub(crate) error: Option<Error>,
}

impl Fitted {
    fn into_sizes(self) -> Result<Vec<usize>> {
        self.error.map_or(Ok(self.sizes), Err)
    }
}

/// The first of indices that follow each other.
fn contiguous(indices: &[usize]) -> Option<usize> {
    let follows = |pair: &[usize]| pair[0].checked_add(1) == Some(pair[1]);
    indices.first().copied().filter(|_| indices.windows(2).all(follows))
}
