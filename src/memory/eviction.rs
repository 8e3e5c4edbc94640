//! Those who hold memory that they could do without.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use super::Budget;
use crate::sys::lock::lock;

/// Someone who holds memory. Asked from any thread and in the middle of its own work, so it must not wait for a lock:
/// who is busy has nothing to give.
pub(crate) trait Holder: Send + Sync {
    /// Since when it has not used what it could give up at once; `None` when there is nothing.
    fn idle_since(&self) -> Option<Instant> {
        None
    }

    /// Gives up some `bytes`, what it needs least first; how many.
    fn give_up(&self, _bytes: u64) -> u64 {
        0
    }

    /// Sends what it holds on its way, so that the memory comes back without its caller; whether there was something.
    fn send_off(&self) -> bool {
        false
    }
}

/// The process's holders, each with its budget's number.
#[derive(Default)]
pub(super) struct Holders(Mutex<Table>);

#[derive(Default)]
struct Table {
    next: u64,
    entries: HashMap<u64, (usize, Weak<dyn Holder>)>,
}

impl std::fmt::Debug for Holders {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Holders")
    }
}

impl Holders {
    pub(super) fn add(&self, budget: usize, holder: Weak<dyn Holder>) -> u64 {
        let mut table = lock(&self.0);
        table.next += 1;
        let number = table.next;
        table.entries.insert(number, (budget, holder));
        number
    }

    fn remove(&self, number: u64) {
        lock(&self.0).entries.remove(&number);
    }

    /// Those of one budget, or all.
    fn of(&self, budget: Option<usize>) -> Vec<Arc<dyn Holder>> {
        let table = lock(&self.0);
        let wanted = table.entries.values().filter(|(of, _)| budget.is_none_or(|budget| budget == *of));
        wanted.filter_map(|(_, holder)| holder.upgrade()).collect()
    }

    /// Has the one that was idle longest give up memory, if it was since `before`; how much.
    pub(super) fn evict(&self, bytes: u64, before: Option<Instant>, budget: Option<usize>) -> u64 {
        let Some(before) = before else { return 0 };
        // Outside of the lock: the last owner of a holder may be this list.
        let mut idle: Vec<_> = self.of(budget).into_iter().filter_map(|one| Some((one.idle_since()?, one))).collect();
        idle.retain(|(since, _)| *since <= before);
        idle.sort_by_key(|(since, _)| *since);
        idle.iter().map(|(_, holder)| holder.give_up(bytes)).find(|&freed| freed > 0).unwrap_or(0)
    }

    /// Has one holder send off what it has begun.
    pub(super) fn send_off(&self, budget: Option<usize>) -> bool {
        self.of(budget).iter().any(|holder| holder.send_off())
    }
}

/// A holder's place in the list.
pub(crate) struct Registration {
    budget: Arc<Budget>,
    number: u64,
}

impl Registration {
    pub(super) fn new(budget: Arc<Budget>, number: u64) -> Self {
        Self { budget, number }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.budget.pool.holders.remove(self.number);
    }
}
