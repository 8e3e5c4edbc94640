//! The budget for memory that the library holds on a client's behalf.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that may be held, and bytes that are. Nobody waits here: who gets no memory does without, because
/// what would free it may be up to the caller that is waiting.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: u64,
    used: AtomicU64,
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicU64::new(0) })
    }

    /// All that may be held.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// What one use of many may take without starving the others.
    pub(crate) fn fair_share(&self) -> u64 {
        self.limit / 4
    }

    /// Takes `bytes` out of the budget until the reservation is dropped, if they are there.
    pub(crate) fn try_reserve(self: &Arc<Self>, bytes: u64) -> Option<Reservation> {
        let fits = |used: u64| used.checked_add(bytes).filter(|&total| total <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(Reservation { budget: self.clone(), bytes })
    }
}

/// A part of a budget, given back on drop.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Reservation {
    /// Makes it one of `bytes`, if the budget has them.
    pub(crate) fn resize(&mut self, bytes: u64) -> bool {
        if bytes > self.bytes {
            let Some(mut more) = self.budget.try_reserve(bytes - self.bytes) else { return false };
            more.bytes = 0;
        } else {
            self.budget.used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
        true
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_holds_and_what_is_dropped_comes_back() {
        let budget = Budget::new(10);
        let first = budget.try_reserve(7).unwrap();
        assert!(budget.try_reserve(4).is_none());
        assert!(budget.try_reserve(u64::MAX).is_none());
        drop(first);
        assert!(budget.try_reserve(10).is_some());
    }
}
