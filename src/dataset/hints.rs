//! Which entries of a dataset are loaded ahead: those that the caller names, or, without hints, those that follow when
//! it reads in order.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::core::runtime::ensure_started;
use crate::dataset::depth::{Foresight, depth};
use crate::dataset::entries::Entries;
use crate::dataset::prefetch::{PrefetchState, Prefetcher, Upcoming};
use crate::dataset::sample::Item;
use crate::dataset::sequential::SequentialDetector;
use crate::error::Result;
use crate::service::client_core::{Call, ClientCore};

/// The indices to be loaded next, in the order of the hints.
pub(crate) struct Hints {
    entries: Arc<Entries>,
    detector: SequentialDetector,
    /// May hold indices that were removed already; their bits in `queued` are clear.
    queue: VecDeque<usize>,
    queued: Bits,
    /// Whether the caller gives hints. Then nothing is guessed.
    hinted: bool,
}

impl Hints {
    fn item(&self, index: usize) -> Item {
        Item { entries: self.entries.clone(), index }
    }

    fn push(&mut self, index: usize) {
        if self.queued.set(index) {
            self.queue.push_back(index);
        }
    }
}

impl Upcoming for Hints {
    fn first(&mut self) -> Option<(u64, Item)> {
        while let Some(&index) = self.queue.front() {
            if self.queued.get(index) {
                return Some((index as u64, self.item(index)));
            }
            self.queue.pop_front();
        }
        None
    }

    fn remove(&mut self, key: u64) {
        self.queued.clear(key as usize);
    }

    fn clear(&mut self) {
        for index in self.queue.drain(..) {
            self.queued.clear(index);
        }
    }
}

impl Prefetcher<Hints> {
    pub(crate) fn of_dataset(core: &ClientCore, entries: &Arc<Entries>) -> Result<Arc<Self>> {
        let hints = Hints {
            entries: entries.clone(),
            detector: SequentialDetector::default(),
            queue: VecDeque::new(),
            queued: Bits::new(entries.len()),
            hinted: false,
        };
        Self::new(core, hints)
    }

    /// Records a request for `count` entries from `first` on, and starts to load the entries that a caller that reads
    /// in order will request next.
    pub(crate) fn observe(self: &Arc<Self>, call: &Call, first: usize, count: usize) -> Result<()> {
        let mut state = self.lock();
        let steps = state.upcoming.detector.observe(first, count);
        // Hints that are used up do not tell which entries come next.
        let used_up = state.upcoming.queue.is_empty() && !state.has_loads();
        state.upcoming.hinted &= !used_up;
        if !state.upcoming.hinted {
            match steps {
                Some(steps) => self.queue_guess(&mut state, call, first + count, count, steps),
                None => state.withdraw(),
            }
        }
        self.start_loads(&mut state, call)
    }

    /// Queues the entries from `start` on that are not loaded yet, up to the depth.
    fn queue_guess(&self, state: &mut PrefetchState<Hints>, call: &Call, start: usize, batch: usize, steps: u32) {
        let foresight = Foresight::Guess { batch };
        let depth = depth(foresight, steps, call.service.max_concurrency(), self.memory_limit());
        let end = start.saturating_add(depth.entries).min(state.upcoming.entries.len());
        let mut left = depth.bytes;
        for index in start..end {
            let Some(rest) = left.checked_sub(self.likely_size(&state.upcoming.item(index))) else { return };
            left = rest;
            if !state.has_load(index as u64) {
                state.upcoming.push(index);
            }
        }
    }

    /// Queues the entries that the caller will request next. An empty slice withdraws the earlier hints.
    pub(crate) fn hint(self: &Arc<Self>, call: &Call, indices: &[usize]) -> Result<()> {
        ensure_started()?;
        let mut state = self.lock();
        state.touch();
        if indices.is_empty() {
            state.withdraw();
            state.upcoming.hinted = false;
            return Ok(());
        }
        // If memory is short, earlier guesses, and earlier hints that no request has used, are dropped for the new
        // hints.
        let is_unused = !state.upcoming.hinted || !state.taken;
        if is_unused && self.is_short_of_memory(&mut state) {
            state.withdraw();
        }
        (state.upcoming.hinted, state.taken) = (true, false);
        for &index in indices {
            if !state.has_load(index as u64) {
                state.upcoming.push(index);
            }
        }
        if is_unused && self.is_short_of_memory(&mut state) {
            state.mark_unwanted();
        }
        self.start_loads(&mut state, call)
    }
}

/// One bit for each entry, so that hints for a whole large dataset take little memory.
struct Bits(Vec<u64>);

impl Bits {
    fn new(length: usize) -> Self {
        Self(vec![0; length.div_ceil(64)])
    }

    fn get(&self, index: usize) -> bool {
        self.0.get(index / 64).is_some_and(|word| word & (1 << (index % 64)) != 0)
    }

    /// Sets a bit. Returns false if it was set already.
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
