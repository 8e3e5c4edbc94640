//! Loads entries before a caller asks for them: the one prefetcher, which datasets and streams share.
//!
//! A [`Prefetcher`] starts loads in order, as many as connections and memory allow, holds their results until they are
//! taken, and gives the memory back when others need it. Which entries come next is up to its [`Upcoming`]: the hints
//! and guesses of a dataset, the sequence of a stream.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Instant;

use once_cell::sync::OnceCell;

use crate::core::runtime::ensure_started;
use crate::dataset::depth::most_loads;
use crate::dataset::load::{EntryLoad, PendingLoad};
use crate::dataset::sample::Item;
use crate::error::Result;
use crate::memory::{EvictableHolder, IDLE, Registration, Reservation};
use crate::service::client_core::{Call, ClientCore};
use crate::sys::lock::lock;

/// The size of an entry whose size is unknown, while no other entry has been read.
const ASSUMED_SIZE: u64 = 1 << 20;

/// The entries to be loaded next, in order. Each has a key of its own: an index, or a position.
pub(crate) trait Upcoming: Send + 'static {
    /// The entry to be loaded first, which stays in the queue.
    fn first(&mut self) -> Option<(u64, Item)>;
    /// Takes an entry out of the queue, if it is in there.
    fn remove(&mut self, key: u64);
    /// Empties the queue.
    fn clear(&mut self);
}

/// Loads the entries of `U` ahead of their caller. Safe to share between threads; its lock is never held while
/// something is waited for.
pub(crate) struct Prefetcher<U> {
    core: ClientCore,
    sizes: UsualSize,
    state: Mutex<PrefetchState<U>>,
    _registration: OnceCell<Registration>,
}

/// The queue of a prefetcher, and the loads that it has started.
pub(super) struct PrefetchState<U> {
    pub(super) upcoming: U,
    /// Loads under way, and results that were not taken yet.
    loads: HashMap<u64, Load>,
    /// The keys of `loads`, unwanted ones first, then in the order in which they were started.
    order: BTreeMap<Rank, u64>,
    next_number: u64,
    /// How many loads have not ended, including ones that were dropped and are still ending.
    in_flight: usize,
    /// Whether a result was taken since this was last set to false.
    pub(super) taken: bool,
    /// When the caller last asked for something.
    last_used: Option<Instant>,
}

/// The order in which loads are dropped when memory is short.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    wanted: bool,
    number: u64,
}

struct Load {
    pending: PendingLoad,
    rank: Rank,
    size: u64,
}

impl<U: Upcoming> Prefetcher<U> {
    pub(crate) fn new(core: &ClientCore, upcoming: U) -> Result<Arc<Self>> {
        let budget = core.budget()?;
        let state = PrefetchState {
            upcoming,
            loads: HashMap::new(),
            order: BTreeMap::new(),
            next_number: 0,
            in_flight: 0,
            taken: false,
            last_used: None,
        };
        let prefetcher = Arc::new(Self {
            core: core.clone(),
            sizes: UsualSize::default(),
            state: Mutex::new(state),
            _registration: OnceCell::new(),
        });
        let holder: Arc<dyn EvictableHolder> = prefetcher.clone();
        prefetcher._registration.get_or_init(|| budget.register(Arc::downgrade(&holder)));
        Ok(prefetcher)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, PrefetchState<U>> {
        lock(&self.state)
    }

    /// Hands over the load of an entry, which may still be under way. If it returns `None`, the caller has to load the
    /// entry itself; the entry is removed from the queue.
    pub(crate) fn take(&self, key: u64) -> Option<PendingLoad> {
        let mut state = self.lock();
        state.touch();
        state.upcoming.remove(key);
        let load = state.loads.remove(&key)?;
        state.order.remove(&load.rank);
        state.taken = true;
        Some(load.pending)
    }

    /// Adds entries to the queue, and starts the loads that come next.
    pub(crate) fn extend(self: &Arc<Self>, call: &Call, add: impl FnOnce(&mut U)) -> Result<()> {
        let mut state = self.lock();
        add(&mut state.upcoming);
        self.start_loads(&mut state, call)
    }

    /// Starts further loads, after memory came back.
    pub(super) fn go_on(self: &Arc<Self>, call: &Call) -> Result<()> {
        let mut state = self.lock();
        self.start_loads(&mut state, call)
    }

    /// Starts the loads that come next, as many as connections and memory allow.
    pub(super) fn start_loads(self: &Arc<Self>, state: &mut PrefetchState<U>, call: &Call) -> Result<()> {
        if state.upcoming.first().is_none() {
            return Ok(());
        }
        ensure_started()?;
        let most = most_loads(call.service.max_concurrency());
        while state.in_flight < most
            && let Some((key, item)) = state.upcoming.first()
        {
            if state.loads.contains_key(&key) {
                state.upcoming.remove(key);
                continue;
            }
            let size = self.likely_size(&item);
            let Some(memory) = self.reserve(state, size) else {
                if size <= self.core.budget()?.limit() {
                    return Ok(());
                }
                // It will never fit. A caller that asks for the entry loads it.
                state.upcoming.remove(key);
                continue;
            };
            state.upcoming.remove(key);
            self.start(state, call, key, &item, memory)?;
        }
        Ok(())
    }

    /// Whether the entry that comes next has to wait for memory.
    pub(super) fn is_short_of_memory(&self, state: &mut PrefetchState<U>) -> bool {
        let first = state.upcoming.first();
        first.is_some_and(|(_, item)| self.reserve_idle(self.likely_size(&item)).is_none())
    }

    /// Reserves memory that is free, or that its holder has not used for a while.
    fn reserve_idle(&self, size: u64) -> Option<Reservation> {
        self.core.budget().ok()?.reserve(size, IDLE)
    }

    /// Reserves memory, dropping unwanted loads first.
    fn reserve(&self, state: &mut PrefetchState<U>, size: u64) -> Option<Reservation> {
        loop {
            if let Some(memory) = self.reserve_idle(size) {
                return Some(memory);
            }
            let (&rank, _) = state.order.first_key_value().filter(|(rank, _)| !rank.wanted)?;
            let key = state.order.remove(&rank)?;
            state.loads.remove(&key);
        }
    }

    fn start(
        self: &Arc<Self>,
        state: &mut PrefetchState<U>,
        call: &Call,
        key: u64,
        item: &Item,
        memory: Reservation,
    ) -> Result<()> {
        let size = memory.bytes();
        let load = EntryLoad::new(call.in_background(), &item.entry()?);
        let guard = LoadGuard(Arc::downgrade(self));
        let pending = PendingLoad::start(load, memory, guard)?;
        state.in_flight += 1;
        let rank = Rank { wanted: true, number: state.next_number };
        state.next_number += 1;
        state.order.insert(rank, key);
        state.loads.insert(key, Load { pending, rank, size });
        Ok(())
    }

    /// Drops all loads and empties the queue.
    pub(crate) fn clear(&self) {
        let mut state = self.lock();
        state.upcoming.clear();
        state.order.clear();
        let loads = std::mem::take(&mut state.loads);
        // Their guards take the lock.
        drop(state);
        drop(loads);
    }

    /// An entry's size in bytes, or the mean of the entries read so far if it is unknown.
    pub(crate) fn likely_size(&self, item: &Item) -> u64 {
        let known = item.entry().ok().and_then(|entry| entry.size());
        known.unwrap_or_else(|| self.sizes.mean())
    }

    /// Records the size of an entry that was read.
    pub(crate) fn record_size(&self, bytes: usize) {
        self.sizes.record(bytes);
    }

    pub(super) fn memory_limit(&self) -> u64 {
        self.core.budget().map_or(0, |budget| budget.limit())
    }
}

impl<U: Upcoming> PrefetchState<U> {
    /// Whether an entry is being loaded, or was loaded and not taken yet.
    pub(super) fn has_load(&self, key: u64) -> bool {
        self.loads.contains_key(&key)
    }

    pub(super) fn has_loads(&self) -> bool {
        !self.loads.is_empty()
    }

    /// Records that the caller asked for something now.
    pub(super) fn touch(&mut self) {
        self.last_used = Some(Instant::now());
    }

    /// Empties the queue. Finished loads can still be taken, but are dropped first when memory is short.
    pub(super) fn withdraw(&mut self) {
        self.upcoming.clear();
        self.mark_unwanted();
    }

    /// Marks all present loads, so that they are dropped first when memory is short.
    pub(super) fn mark_unwanted(&mut self) {
        if self.loads.values().all(|load| !load.rank.wanted) {
            return;
        }
        self.order.clear();
        for (&key, load) in &mut self.loads {
            load.rank.wanted = false;
            self.order.insert(load.rank, key);
        }
    }
}

impl<U: Upcoming> EvictableHolder for Prefetcher<U> {
    fn idle_since(&self) -> Option<Instant> {
        let state = self.state.try_lock().ok()?;
        if state.loads.is_empty() { None } else { state.last_used }
    }

    /// Drops unwanted loads first, then those that were started last.
    fn evict(&self, bytes: u64) -> u64 {
        let Ok(mut guard) = self.state.try_lock() else { return 0 };
        let state = &mut *guard;
        let (mut freed, mut dropped) = (0, Vec::new());
        while freed < bytes {
            let unwanted = state.order.first_key_value().filter(|(rank, _)| !rank.wanted).map(|(&rank, _)| rank);
            let Some(rank) = unwanted.or_else(|| state.order.last_key_value().map(|(&rank, _)| rank)) else { break };
            let Some(load) = state.order.remove(&rank).and_then(|key| state.loads.remove(&key)) else { continue };
            freed += load.size;
            dropped.push(load);
        }
        // Their guards take the lock.
        drop(guard);
        drop(dropped);
        freed
    }
}

/// Dropped when a load ends, also after an error or an abort. Its drop starts the next loads.
struct LoadGuard<U: Upcoming>(Weak<Prefetcher<U>>);

impl<U: Upcoming> Drop for LoadGuard<U> {
    fn drop(&mut self) {
        let Some(prefetcher) = self.0.upgrade() else { return };
        let mut state = prefetcher.lock();
        state.in_flight -= 1;
        if state.upcoming.first().is_none() {
            return;
        }
        // If no call can be made, nothing is loaded ahead. The caller's next request gets the error.
        if let Ok(call) = prefetcher.core.call() {
            let _ = prefetcher.start_loads(&mut state, &call);
        }
    }
}

/// The mean size of the entries that were read.
#[derive(Debug, Default)]
struct UsualSize {
    bytes: AtomicU64,
    count: AtomicU64,
}

impl UsualSize {
    fn record(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    fn mean(&self) -> u64 {
        let bytes = self.bytes.load(Ordering::Relaxed);
        bytes.checked_div(self.count.load(Ordering::Relaxed)).unwrap_or(ASSUMED_SIZE)
    }
}
