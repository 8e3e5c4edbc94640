//! The holders of memory that can be evicted, and the choice between them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use super::budget::ProcessBudget;
use crate::sys::lock::lock;

/// Holds memory that can be evicted. Its functions are called from any thread, also while the holder works, so they
/// must not wait for a lock: a holder whose lock is taken has nothing to evict.
pub(crate) trait EvictableHolder: Send + Sync {
    /// The last use of the memory that can be evicted at once; `None` when there is no such memory.
    fn idle_since(&self) -> Option<Instant> {
        None
    }

    /// Frees about `bytes`, the least needed memory first; returns how many bytes it frees.
    fn evict(&self, _bytes: u64) -> u64 {
        0
    }

    /// Begins to send buffered data, so that its memory is freed without the holder's caller. Returns whether there was
    /// any.
    fn flush(&self) -> bool {
        false
    }
}

/// The holders of a process. Each belongs to a budget, which is known by its number.
#[derive(Default)]
pub(super) struct Holders(Mutex<Table>);

#[derive(Default)]
struct Table {
    next: u64,
    entries: HashMap<u64, (usize, Weak<dyn EvictableHolder>)>,
}

impl std::fmt::Debug for Holders {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Holders")
    }
}

impl Holders {
    fn add(&self, budget: usize, holder: Weak<dyn EvictableHolder>) -> u64 {
        let mut table = lock(&self.0);
        table.next += 1;
        let number = table.next;
        table.entries.insert(number, (budget, holder));
        number
    }

    fn remove(&self, number: u64) {
        lock(&self.0).entries.remove(&number);
    }

    /// The holders of one budget, or all with `None`.
    fn of(&self, budget: Option<usize>) -> Vec<Arc<dyn EvictableHolder>> {
        let table = lock(&self.0);
        let wanted = table.entries.values().filter(|(of, _)| budget.is_none_or(|budget| budget == *of));
        wanted.filter_map(|(_, holder)| holder.upgrade()).collect()
    }

    /// Evicts about `bytes` from the holder that was not used for the longest time, if it was not used since
    /// `used_before`. Returns how many bytes that frees.
    pub(super) fn evict(&self, bytes: u64, used_before: Instant, budget: Option<usize>) -> u64 {
        // Do not hold the lock here: dropping the last reference to a holder takes it, to remove the holder from the
        // table.
        let mut idle: Vec<_> = self.of(budget).into_iter().filter_map(|one| Some((one.idle_since()?, one))).collect();
        idle.retain(|(since, _)| *since <= used_before);
        idle.sort_by_key(|(since, _)| *since);
        idle.iter().map(|(_, holder)| holder.evict(bytes)).find(|&freed| freed > 0).unwrap_or(0)
    }

    /// Makes one holder send its buffered data; returns whether a holder had any.
    pub(super) fn flush_one(&self, budget: Option<usize>) -> bool {
        self.of(budget).iter().any(|holder| holder.flush())
    }
}

/// Keeps a holder in the table of its process until it is dropped.
pub(crate) struct Registration {
    process: Arc<ProcessBudget>,
    number: u64,
}

impl Registration {
    pub(super) fn new(process: Arc<ProcessBudget>, budget: usize, holder: Weak<dyn EvictableHolder>) -> Self {
        let number = process.holders.add(budget, holder);
        Self { process, number }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.process.holders.remove(self.number);
    }
}
