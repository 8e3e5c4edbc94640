//! A dataset's samples that were fetched before anyone asked for them: hints in the order in which they came, as many
//! of them under way as connections and memory allow.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Instant;

use once_cell::sync::OnceCell;

use crate::core::runtime::ensure_started;
use crate::dataset::entries::Entries;
use crate::dataset::sample::{Item, Pending, UsualSize};
use crate::dataset::sequential::SequentialDetector;
use crate::error::Result;
use crate::memory::{EvictableHolder, IDLE, Registration, Reservation};
use crate::service::client_core::{Call, ClientCore};
use crate::sys::lock::lock;

pub(crate) struct Prefetcher {
    core: ClientCore,
    entries: Arc<Entries>,
    state: Mutex<State>,
    usual: UsualSize,
    _registered: OnceCell<Registration>,
}

#[derive(Default)]
struct State {
    walk: SequentialDetector,
    /// Entries to be fetched, in order. One that was taken meanwhile is not `queued` any more.
    queue: VecDeque<usize>,
    queued: Bits,
    held: HashMap<usize, Held>,
    /// Keys of `held`, oldest first; withdrawn ones before all others.
    order: BTreeMap<Age, usize>,
    next_age: u64,
    in_flight: usize,
    /// Whether the caller says what comes next, so that nothing has to be guessed.
    hinted: bool,
    /// Whether something was taken since the last hint.
    taken: bool,
    /// When something was taken or asked for.
    used: Option<Instant>,
}

/// Ordered by which goes first: what nobody waits for any more, then what has waited longest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Age {
    wanted: bool,
    number: u64,
}

struct Held {
    pending: Pending,
    age: Age,
    size: u64,
}

impl Prefetcher {
    pub(crate) fn new(core: &ClientCore, entries: &Arc<Entries>) -> Result<Arc<Self>> {
        let budget = core.budget()?;
        let state = State { queued: Bits::new(entries.len()), ..State::default() };
        let prefetcher = Arc::new(Self {
            core: core.clone(),
            entries: entries.clone(),
            state: Mutex::new(state),
            usual: UsualSize::default(),
            _registered: OnceCell::new(),
        });
        let as_holder: Arc<dyn EvictableHolder> = prefetcher.clone();
        prefetcher._registered.get_or_init(|| budget.register(Arc::downgrade(&as_holder)));
        Ok(prefetcher)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// What was fetched of an entry, or is being fetched. It is the caller's then.
    pub(crate) fn take(&self, index: usize) -> Option<Pending> {
        let mut state = self.lock();
        state.used = Some(Instant::now());
        // Whoever asks fetches it now: no need to do so again.
        state.queued.clear(index);
        let held = state.held.remove(&index)?;
        state.order.remove(&held.age);
        state.taken = true;
        Some(held.pending)
    }

    /// Takes note of what was asked for, and begins to fetch what will be next.
    pub(crate) fn observe(self: &Arc<Self>, call: &Call, first: usize, count: usize) -> Result<()> {
        let mut state = self.lock();
        let ahead = state.walk.observe(first, count, call.service.max_concurrency());
        // Hints that are used up say nothing of what comes next.
        state.hinted &= !(state.queue.is_empty() && state.held.is_empty());
        if !state.hinted {
            match ahead {
                Some(range) => self.guess(&mut state, range.start, range.end.min(self.entries.len())),
                None => state.withdraw(),
            }
        }
        self.pump(&mut state, call)
    }

    /// Queues the entries from `start` on that are not there yet, as many as half of the budget would hold.
    fn guess(&self, state: &mut State, start: usize, end: usize) {
        let mut left = self.core.budget().map_or(0, |budget| budget.limit() / 2);
        for index in start..end {
            let Some(rest) = left.checked_sub(self.usual.likely(&self.item(index))) else { return };
            left = rest;
            if !state.held.contains_key(&index) && state.queued.set(index) {
                state.queue.push_back(index);
            }
        }
    }

    /// Takes the caller's word for what comes next. No hints at all withdraw the earlier ones.
    pub(crate) fn hint(self: &Arc<Self>, call: &Call, indices: &[usize]) -> Result<()> {
        ensure_started()?;
        let mut state = self.lock();
        state.used = Some(Instant::now());
        if indices.is_empty() {
            state.withdraw();
            state.hinted = false;
            return Ok(());
        }
        // What was guessed, or hinted and left lying, makes way for what is wanted now if memory is short.
        let left_lying = !state.hinted || !state.taken;
        if left_lying && self.is_stuck(&state) {
            state.withdraw();
        }
        (state.hinted, state.taken) = (true, false);
        for &index in indices {
            if !state.held.contains_key(&index) && state.queued.set(index) {
                state.queue.push_back(index);
            }
        }
        if left_lying && self.is_stuck(&state) {
            state.age_all();
        }
        self.pump(&mut state, call)
    }

    /// Whether hints wait for memory.
    fn is_stuck(&self, state: &State) -> bool {
        let next = state.queue.iter().find(|&&index| state.queued.get(index));
        next.is_some_and(|&index| self.reserve_idle(self.usual.likely(&self.item(index))).is_none())
    }

    /// Goes on with the hints after memory has come back.
    pub(crate) fn go_on(self: &Arc<Self>, call: &Call) -> Result<()> {
        let mut state = self.lock();
        self.pump(&mut state, call)
    }

    /// Starts as much of the queue as connections and memory allow.
    fn pump(self: &Arc<Self>, state: &mut State, call: &Call) -> Result<()> {
        if state.queue.is_empty() {
            return Ok(());
        }
        ensure_started()?;
        // Some connections are left to those who need something at once.
        let most = (call.service.max_concurrency() * 3 / 4).max(1);
        while state.in_flight < most
            && let Some(&index) = state.queue.front()
        {
            if !state.queued.get(index) || state.held.contains_key(&index) {
                state.queued.clear(index);
                state.queue.pop_front();
                continue;
            }
            let size = self.usual.likely(&self.item(index));
            let Some(memory) = self.reserve(state, size) else {
                if size <= self.core.budget()?.limit() {
                    return Ok(());
                }
                // It will never fit; whoever asks for it fetches it.
                state.queued.clear(index);
                continue;
            };
            state.queue.pop_front();
            state.queued.clear(index);
            self.start(state, call, index, memory)?;
        }
        Ok(())
    }

    /// Memory out of the budget, or from someone who has not used it for a while.
    fn reserve_idle(&self, size: u64) -> Option<Reservation> {
        self.core.budget().ok()?.reserve(size, IDLE)
    }

    /// The same; what nobody wants any more makes way.
    fn reserve(&self, state: &mut State, size: u64) -> Option<Reservation> {
        loop {
            if let Some(memory) = self.reserve_idle(size) {
                return Some(memory);
            }
            let (&age, _) = state.order.first_key_value().filter(|(age, _)| !age.wanted)?;
            let index = state.order.remove(&age)?;
            state.held.remove(&index);
        }
    }

    fn start(self: &Arc<Self>, state: &mut State, call: &Call, index: usize, memory: Reservation) -> Result<()> {
        let ended = Ended(Arc::downgrade(self));
        let size = memory.bytes();
        let pending = Pending::start(call, &self.item(index), memory, ended)?;
        let age = Age { wanted: true, number: state.next_age };
        state.next_age += 1;
        state.in_flight += 1;
        state.order.insert(age, index);
        state.held.insert(index, Held { pending, age, size });
        Ok(())
    }

    fn item(&self, index: usize) -> Item {
        Item { entries: self.entries.clone(), index }
    }

    /// Learns what sizes are usual here.
    pub(crate) fn saw(&self, bytes: usize) {
        self.usual.saw(bytes);
    }
}

impl State {
    /// Forgets the hints; what they have brought goes first when memory is short.
    fn withdraw(&mut self) {
        for index in self.queue.drain(..) {
            self.queued.clear(index);
        }
        self.age_all();
    }

    fn age_all(&mut self) {
        if self.held.values().all(|held| !held.age.wanted) {
            return;
        }
        self.order.clear();
        for (&index, held) in &mut self.held {
            held.age.wanted = false;
            self.order.insert(held.age, index);
        }
    }
}

impl EvictableHolder for Prefetcher {
    fn idle_since(&self) -> Option<Instant> {
        let state = self.state.try_lock().ok()?;
        if state.held.is_empty() { None } else { state.used }
    }

    /// What nobody wants goes first, then what would have been taken last.
    fn evict(&self, bytes: u64) -> u64 {
        let Ok(mut guard) = self.state.try_lock() else { return 0 };
        let state = &mut *guard;
        let (mut freed, mut dropped) = (0, Vec::new());
        while freed < bytes {
            let unwanted = state.order.first_key_value().filter(|(age, _)| !age.wanted).map(|(&age, _)| age);
            let Some(age) = unwanted.or_else(|| state.order.last_key_value().map(|(&age, _)| age)) else { break };
            let Some(held) = state.order.remove(&age).and_then(|index| state.held.remove(&index)) else { continue };
            freed += held.size;
            dropped.push(held);
        }
        // Their tasks take the lock when they end.
        drop(guard);
        drop(dropped);
        freed
    }
}

/// Tells the prefetcher that one of its fetches is over.
struct Ended(Weak<Prefetcher>);

impl Drop for Ended {
    fn drop(&mut self) {
        let Some(prefetcher) = self.0.upgrade() else { return };
        let mut state = prefetcher.lock();
        state.in_flight -= 1;
        // Without connections nothing can be fetched ahead; whoever asks will hear why.
        if let Ok(call) = prefetcher.core.call() {
            let _ = prefetcher.pump(&mut state, &call);
        }
    }
}

/// One bit for each entry.
#[derive(Default)]
struct Bits(Vec<u64>);

impl Bits {
    fn new(length: usize) -> Self {
        Self(vec![0; length.div_ceil(64)])
    }

    fn get(&self, index: usize) -> bool {
        self.0.get(index / 64).is_some_and(|word| word & (1 << (index % 64)) != 0)
    }

    /// Sets a bit; false when it was set already.
    fn set(&mut self, index: usize) -> bool {
        let was_set = self.get(index);
        if let Some(word) = self.0.get_mut(index / 64) {
            *word |= 1 << (index % 64);
        }
        !was_set
    }

    fn clear(&mut self, index: usize) {
        if let Some(word) = self.0.get_mut(index / 64) {
            *word &= !(1 << (index % 64));
        }
    }
}
