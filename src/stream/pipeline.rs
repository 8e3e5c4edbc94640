//! A stream under way: what is planned, what is being fetched, and what has to be tried again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::time::Instant;

use once_cell::sync::OnceCell;
use tokio::task::AbortHandle;

use super::source::{Feed, Shard, Wish};
use crate::core::runtime::{block_on, spawn};
use crate::dataset::load::load_entry;
use crate::dataset::sample::{Item, Pending, Sample, UsualSize};
use crate::error::{Error, Result, Status};
use crate::memory::{EvictableHolder, IDLE, Registration};
use crate::service::client_core::{Call, ClientCore};
use crate::service::list_blobs::{Listing, Page};
use crate::stream::shuffle::{Next, ShuffleBuffer};
use crate::sys::block::Filled;
use crate::sys::lock::lock;

/// How many samples are fetched ahead at first; each one given out doubles it.
const FIRST_AHEAD: usize = 8;
const MOST_AHEAD: usize = 128;
/// With fewer names than this at hand, the next page is asked for.
const FEW_NAMES: usize = 2500;

/// What the threads share that take from a stream.
pub(super) struct Running {
    core: ClientCore,
    shard: Shard,
    /// The listing, for what is not a table.
    listing: Option<Listing>,
    usual: UsualSize,
    state: Mutex<State>,
    pub(super) changed: Condvar,
    _registered: OnceCell<Registration>,
}

pub(super) struct State {
    /// How often everything was begun anew.
    pub(super) generation: u64,
    lazy: bool,
    pub(super) sequence: ShuffleBuffer<Item>,
    pub(super) feed: Feed,
    /// What will be given out next, in order.
    planned: VecDeque<Planned>,
    /// What was given out and failed for now, by position.
    pub(super) retry: BTreeMap<u64, Item>,
    /// The next position to be given out.
    pub(super) given: u64,
    ahead: usize,
    page: Option<AbortHandle>,
    /// When samples were last planned.
    used: Instant,
    /// Why the last page did not come, for the next caller.
    trouble: Option<Error>,
}

struct Planned {
    position: u64,
    item: Item,
    size: u64,
    pending: Option<Pending>,
}

impl State {
    pub(super) fn new(
        generation: u64,
        lazy: bool,
        sequence: ShuffleBuffer<Item>,
        feed: Feed,
        retry: Vec<(u64, Item)>,
        position: u64,
    ) -> Self {
        Self {
            generation,
            lazy,
            sequence,
            feed,
            planned: VecDeque::new(),
            retry: retry.into_iter().collect(),
            given: position,
            ahead: FIRST_AHEAD,
            page: None,
            used: Instant::now(),
            trouble: None,
        }
    }
}

impl Running {
    pub(super) fn new(core: &ClientCore, shard: Shard, listing: Option<Listing>, state: State) -> Result<Arc<Self>> {
        let running = Arc::new(Self {
            core: core.clone(),
            shard,
            listing,
            usual: UsualSize::default(),
            state: Mutex::new(state),
            changed: Condvar::new(),
            _registered: OnceCell::new(),
        });
        let as_holder: Arc<dyn EvictableHolder> = running.clone();
        running._registered.get_or_try_init(|| Ok::<_, Error>(core.budget()?.register(Arc::downgrade(&as_holder))))?;
        Ok(running)
    }

    pub(super) fn next(self: &Arc<Self>, call: &Call) -> Result<Option<Sample>> {
        let mut state = self.lock();
        loop {
            if let Some((position, item)) = state.retry.pop_first() {
                let planned = Planned { position, item, size: 0, pending: None };
                return self.give(state, planned, call).map(Some);
            }
            self.plan(&mut state, call)?;
            if let Some(planned) = state.planned.pop_front() {
                state.given = planned.position + 1;
                state.ahead = (state.ahead * 2).min(MOST_AHEAD);
                return self.give(state, planned, call).map(Some);
            }
            if let Some(trouble) = state.trouble.take() {
                return Err(trouble);
            }
            if state.page.is_none() {
                return Ok(None);
            }
            state = call.limits.wait_for(&self.changed, state, call.limits.deadline)?;
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Decides what is given out next, and begins to fetch it, as far as the memory limit allows.
    fn plan(self: &Arc<Self>, state: &mut State, call: &Call) -> Result<()> {
        let budget = self.core.budget()?;
        let most = budget.limit() / 2;
        state.used = Instant::now();
        let mut bytes: u64 = state.planned.iter().map(|planned| planned.size).sum();
        while state.planned.len() < state.ahead && (bytes < most || state.planned.is_empty()) {
            if state.feed.is_resuming() {
                break;
            }
            match state.sequence.next() {
                Next::Item(position, item) => {
                    let size = if state.lazy { 0 } else { self.usual.likely(&item) };
                    let memory = if state.lazy { None } else { budget.reserve(size, IDLE) };
                    let short = memory.is_none() && !state.lazy;
                    // Should it not start, the caller who asks for the sample fetches it, and hears why that fails.
                    let pending = memory.and_then(|memory| Pending::start(call, &item, memory, ()).ok());
                    bytes += size;
                    state.planned.push_back(Planned { position, item, size, pending });
                    if short {
                        break;
                    }
                }
                Next::NeedsMore if state.feed.feed_table(self.shard, &mut state.sequence) => {}
                Next::NeedsMore | Next::End => break,
            }
        }
        if state.page.is_none() && state.trouble.is_none() && state.sequence.queued() < FEW_NAMES {
            self.ask_for_page(state, call)?;
        }
        Ok(())
    }

    fn ask_for_page(self: &Arc<Self>, state: &mut State, call: &Call) -> Result<()> {
        let (Some(wish), Some(listing)) = (state.feed.wish(), self.listing.clone()) else { return Ok(()) };
        let (call, generation, shard, running) =
            (call.in_background(), state.generation, self.shard, Arc::downgrade(self));
        state.page = Some(spawn(async move {
            let Wish { marker, .. } = &wish;
            let page = listing.page(&call, marker, |number| wish.keep(shard, number)).await;
            take_page(&running, generation, &listing, page);
        })?);
        Ok(())
    }

    /// Gives a sample to the caller, once it is there.
    fn give(&self, state: MutexGuard<'_, State>, planned: Planned, call: &Call) -> Result<Sample> {
        let (generation, lazy) = (state.generation, state.lazy);
        drop(state);
        let Planned { position, item, pending, .. } = planned;
        if lazy {
            return Ok(Sample::new(&self.core, item, position, None));
        }
        match self.bytes(&item, pending, call) {
            Ok(bytes) => {
                self.usual.saw(bytes.len());
                Ok(Sample::new(&self.core, item, position, Some(bytes)))
            }
            Err(error) => {
                let mut state = self.lock();
                if failed_for_now(&error) && state.generation == generation {
                    state.retry.insert(position, item);
                }
                Err(error)
            }
        }
    }

    fn bytes(&self, item: &Item, pending: Option<Pending>, call: &Call) -> Result<Filled> {
        if let Some(bytes) = pending.map(|pending| pending.wait(call)).transpose()?.flatten() {
            return Ok(bytes);
        }
        let entry = item.entry()?;
        let (call, target, part) = (call.clone(), Arc::new(entry.target()), entry.part());
        block_on(async move { load_entry(&call, &target, &part, None).await.map(|(bytes, _)| bytes) })
    }
}

impl EvictableHolder for Running {
    fn idle_since(&self) -> Option<Instant> {
        let state = self.state.try_lock().ok()?;
        state.planned.iter().any(|planned| planned.pending.is_some()).then_some(state.used)
    }

    /// What would be given out last goes first, and is fetched when it is asked for.
    fn evict(&self, bytes: u64) -> u64 {
        let Ok(mut state) = self.state.try_lock() else { return 0 };
        let mut freed = 0;
        for planned in state.planned.iter_mut().rev().filter(|planned| planned.pending.is_some()) {
            if freed >= bytes {
                break;
            }
            planned.pending = None;
            freed += planned.size;
        }
        freed
    }
}

fn failed_for_now(error: &Error) -> bool {
    error.is_retryable() || matches!(error.status(), Status::Timeout | Status::Cancelled)
}

/// What a page's request ends with.
fn take_page(running: &Weak<Running>, generation: u64, listing: &Listing, page: Result<Page>) {
    let Some(running) = running.upgrade() else { return };
    let mut guard = running.lock();
    let state = &mut *guard;
    if state.generation == generation {
        state.page = None;
        let fed = page.and_then(|page| state.feed.feed_page(listing, page, running.shard, &mut state.sequence));
        match fed {
            Ok(retry) => state.retry.extend(retry),
            Err(error) => state.trouble = Some(error),
        }
        running.changed.notify_all();
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if let Some(page) = &self.page {
            page.abort();
        }
    }
}
