//! A stream under way: the entries that are given out next, those that are loaded ahead, and those to be tried again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};

use tokio::task::AbortHandle;

use crate::core::runtime::{block_on, spawn};
use crate::dataset::depth::{Foresight, depth};
use crate::dataset::load::{EntryLoad, PendingLoad};
use crate::dataset::prefetch::{Prefetcher, Upcoming};
use crate::dataset::sample::{Item, Sample};
use crate::error::{Error, Result, Status};
use crate::service::client_core::{Call, ClientCore};
use crate::service::list_blobs::{Listing, Page};
use crate::stream::listed::ShardPage;
use crate::stream::shard::Shard;
use crate::stream::shuffle::{NextItem, ShuffleBuffer};
use crate::stream::source::NameReader;
use crate::sys::fill_buffer::FilledBuffer;
use crate::sys::lock::lock;

/// With fewer listed names than this, the next page is requested: half a page.
const FEW_NAMES: usize = 2500;

/// The state that is shared by all threads that take samples from a stream.
pub(super) struct Pipeline {
    core: ClientCore,
    shard: Shard,
    /// `None` for a table.
    listing: Option<Listing>,
    prefetcher: Arc<Prefetcher<PlannedEntries>>,
    /// Locked before the prefetcher's state.
    state: Mutex<EpochState>,
    /// Signalled when a page has arrived, and when the stream restarts.
    changed: Condvar,
}

/// Where the stream is in its epoch.
pub(super) struct EpochState {
    /// How often the stream was restarted.
    generation: u64,
    lazy: bool,
    pub(super) sequence: ShuffleBuffer<Item>,
    pub(super) names: NameReader,
    /// The entries that are given out next, in order.
    planned: VecDeque<Planned>,
    /// Entries that could not be loaded and are tried again, by position.
    pub(super) retry: BTreeMap<u64, Item>,
    /// The position that is given out next.
    pub(super) next_position: u64,
    /// The position that was given out first.
    first_position: u64,
    /// The request for the next page.
    page: Option<AbortHandle>,
    /// The error of the last page's request. The next caller gets it.
    page_error: Option<Error>,
}

struct Planned {
    position: u64,
    item: Item,
    /// In bytes, as far as it is known; 0 in a lazy stream.
    size: u64,
}

/// The planned entries whose load has not started, by position. They are started and taken in order.
#[derive(Default)]
struct PlannedEntries(VecDeque<(u64, Item)>);

impl Upcoming for PlannedEntries {
    fn first(&mut self) -> Option<(u64, Item)> {
        self.0.front().cloned()
    }

    fn remove(&mut self, key: u64) {
        if self.0.front().is_some_and(|(position, _)| *position == key) {
            self.0.pop_front();
        }
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

impl EpochState {
    pub(super) fn new(
        lazy: bool,
        sequence: ShuffleBuffer<Item>,
        names: NameReader,
        retry: Vec<(u64, Item)>,
        position: u64,
    ) -> Self {
        Self {
            generation: 0,
            lazy,
            sequence,
            names,
            planned: VecDeque::new(),
            retry: retry.into_iter().collect(),
            next_position: position,
            first_position: position,
            page: None,
            page_error: None,
        }
    }
}

impl Pipeline {
    pub(super) fn new(
        core: &ClientCore,
        shard: Shard,
        listing: Option<Listing>,
        state: EpochState,
    ) -> Result<Arc<Self>> {
        Ok(Arc::new(Self {
            core: core.clone(),
            shard,
            listing,
            prefetcher: Prefetcher::new(core, PlannedEntries::default())?,
            state: Mutex::new(state),
            changed: Condvar::new(),
        }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, EpochState> {
        lock(&self.state)
    }

    /// Drops everything that is planned or being loaded, and continues with `state`.
    pub(super) fn restart(&self, mut state: EpochState) {
        let mut current = self.lock();
        state.generation = current.generation + 1;
        *current = state;
        self.prefetcher.clear();
        self.changed.notify_all();
    }

    /// The next sample, or `None` at the end of the epoch.
    pub(super) fn next(self: &Arc<Self>, call: &Call) -> Result<Option<Sample>> {
        let mut state = self.lock();
        loop {
            if let Some((position, item)) = state.retry.pop_first() {
                return self.give_out(state, position, item, None, call).map(Some);
            }
            self.plan(&mut state, call)?;
            if let Some(Planned { position, item, .. }) = state.planned.pop_front() {
                state.next_position = position + 1;
                let pending = self.prefetcher.take(position);
                return self.give_out(state, position, item, pending, call).map(Some);
            }
            if let Some(error) = state.page_error.take() {
                return Err(error);
            }
            if state.page.is_none() {
                return Ok(None);
            }
            state = call.limits.wait_for(&self.changed, &self.state, state, &call.limits)?;
        }
    }

    /// Decides which entries are given out next, as far as the depth goes, and starts to load them.
    fn plan(self: &Arc<Self>, state: &mut EpochState, call: &Call) -> Result<()> {
        let steps = u32::try_from(state.next_position - state.first_position).unwrap_or(u32::MAX);
        let limit = self.core.budget()?.limit();
        let depth = depth(Foresight::Sequence, steps, call.service.max_concurrency(), limit);
        let mut bytes: u64 = state.planned.iter().map(|planned| planned.size).sum();
        let mut new = Vec::new();
        while state.planned.len() < depth.entries && (bytes < depth.bytes || state.planned.is_empty()) {
            if state.names.is_resuming() {
                break;
            }
            match state.sequence.next() {
                NextItem::Item(position, item) => {
                    let size = if state.lazy { 0 } else { self.prefetcher.likely_size(&item) };
                    bytes += size;
                    if !state.lazy {
                        new.push((position, item.clone()));
                    }
                    state.planned.push_back(Planned { position, item, size });
                }
                NextItem::NeedsMore if state.names.read_table(self.shard, &mut state.sequence) => {}
                NextItem::NeedsMore | NextItem::End => break,
            }
        }
        self.prefetcher.extend(call, |planned| planned.0.extend(new))?;
        if state.page.is_none() && state.page_error.is_none() && state.sequence.queued() < FEW_NAMES {
            self.request_page(state, call)?;
        }
        Ok(())
    }

    fn request_page(self: &Arc<Self>, state: &mut EpochState, call: &Call) -> Result<()> {
        let (Some(request), Some(listing)) = (state.names.next_page(), self.listing.clone()) else { return Ok(()) };
        let (call, generation, shard, pipeline) =
            (call.in_background(), state.generation, self.shard, Arc::downgrade(self));
        state.page = Some(spawn(async move {
            let page = listing.page(&call, &request.marker, || request.new_page(&listing, shard)).await;
            take_page(&pipeline, generation, &listing, page);
        })?);
        Ok(())
    }

    /// Gives a sample to the caller, once its bytes are loaded.
    fn give_out(
        self: &Arc<Self>,
        state: MutexGuard<'_, EpochState>,
        position: u64,
        item: Item,
        pending: Option<PendingLoad>,
        call: &Call,
    ) -> Result<Sample> {
        let (generation, lazy) = (state.generation, state.lazy);
        drop(state);
        if lazy {
            return Ok(Sample::new(&self.core, item, position, None));
        }
        match load(&item, pending, call) {
            Ok(bytes) => {
                self.prefetcher.record_size(bytes.len());
                Ok(Sample::new(&self.core, item, position, Some(bytes)))
            }
            Err(error) => {
                let mut state = self.lock();
                if may_be_temporary(&error) && state.generation == generation {
                    state.retry.insert(position, item);
                }
                Err(error)
            }
        }
    }
}

/// Waits for an entry's bytes, and loads them now if they were not loaded ahead.
fn load(item: &Item, pending: Option<PendingLoad>, call: &Call) -> Result<FilledBuffer> {
    if let Some(bytes) = pending.map(|pending| pending.wait(call)).transpose()?.flatten() {
        return Ok(bytes);
    }
    block_on(call.limits.interruption(), EntryLoad::new(call.clone(), &item.entry()?).into_bytes())
}

fn may_be_temporary(error: &Error) -> bool {
    error.is_retryable() || matches!(error.status(), Status::Timeout | Status::Cancelled)
}

/// Takes the result of a page's request.
fn take_page(pipeline: &Weak<Pipeline>, generation: u64, listing: &Listing, page: Result<Page<ShardPage>>) {
    let Some(pipeline) = pipeline.upgrade() else { return };
    let mut guard = pipeline.lock();
    let state = &mut *guard;
    if state.generation == generation {
        state.page = None;
        let added = page.and_then(|page| state.names.add_page(listing, page, pipeline.shard, &mut state.sequence));
        match added {
            Ok(retry) => state.retry.extend(retry),
            Err(error) => state.page_error = Some(error),
        }
        pipeline.changed.notify_all();
    }
}

impl Drop for EpochState {
    fn drop(&mut self) {
        if let Some(page) = &self.page {
            page.abort();
        }
    }
}
