//! The budgets: how much memory each client and the whole process may hold, and how threads wait for memory.
//!
//! All clients of a process share one [`ProcessBudget`], and each has a [`Budget`]; neither is ever exceeded. When no
//! memory is left, some is evicted: read-ahead data is dropped at once, and a block that a writer has begun is
//! sent early. So no call waits for memory that only another caller could free.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use super::eviction::{EvictableHolder, Holders, Registration};
use crate::error::Result;
use crate::sys::lock::lock;
use crate::sys::process::PerProcess;

/// Memory that is only read ahead is reserved by evicting holders that were not used for this long.
pub(crate) const IDLE: Duration = Duration::from_secs(1);

/// The process's budget. It starts empty in a forked child, because the parent's memory is counted in the parent.
static PROCESS: PerProcess<Arc<ProcessBudget>> = PerProcess::for_static();

/// Counts bytes against a limit.
#[derive(Debug, Default)]
struct Account {
    limit: AtomicU64,
    used: AtomicU64,
    /// The maximum of `used` so far.
    peak: AtomicU64,
    /// The part of `used` that is freed without a caller's help: blocks that are being sent.
    in_flight: AtomicU64,
}

impl Account {
    /// Takes `bytes`, or returns `false` when the limit does not allow that.
    fn take(&self, bytes: u64) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        let mut used = self.used.load(Ordering::Acquire);
        // Not `fetch_update`, which newer versions of Rust deprecate for a method that older ones do not have.
        loop {
            let Some(total) = used.checked_add(bytes).filter(|&total| total <= limit) else { return false };
            match self.used.compare_exchange_weak(used, total, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    self.peak.fetch_max(total, Ordering::Relaxed);
                    return true;
                }
                Err(changed) => used = changed,
            }
        }
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::AcqRel);
    }
}

/// The budget of the process, as large as that of its largest client.
#[derive(Debug, Default)]
pub(super) struct ProcessBudget {
    account: Account,
    pub(super) holders: Holders,
    /// How many threads wait for memory. Usually there are none, and then giving memory back needs no lock.
    waiting: AtomicUsize,
    /// Counts how often memory became available while a thread waited.
    returned: Mutex<u64>,
    changed: Condvar,
}

impl ProcessBudget {
    fn lock(&self) -> MutexGuard<'_, u64> {
        lock(&self.returned)
    }

    /// Wakes the threads that wait for memory. Call it after the memory was given back: a thread counts itself as
    /// waiting before it looks for memory once more.
    fn notify(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            *self.lock() += 1;
            self.changed.notify_all();
        }
    }
}

/// The budget of one client.
#[derive(Debug)]
pub(crate) struct Budget {
    account: Account,
    process: Arc<ProcessBudget>,
}

impl Budget {
    /// A client's budget of `limit` bytes.
    pub(crate) fn new(limit: u64) -> Result<Arc<Self>> {
        let process = PROCESS.get_or_try_init(|| Ok(Arc::default()))?.clone();
        process.account.limit.fetch_max(limit, Ordering::Relaxed);
        Ok(Arc::new(Self { account: Account { limit: limit.into(), ..Account::default() }, process }))
    }

    /// The most bytes that the client may hold.
    pub(crate) fn limit(&self) -> u64 {
        self.account.limit.load(Ordering::Relaxed)
    }

    /// How many bytes one of several uses may take without starving the others.
    pub(crate) fn fair_share(&self) -> u64 {
        self.limit() / 4
    }

    /// How many bytes are held now, and the maximum so far.
    pub(crate) fn use_and_peak(&self) -> (u64, u64) {
        (self.account.used.load(Ordering::Relaxed), self.account.peak.load(Ordering::Relaxed))
    }

    /// Lets the process evict memory of `holder` until the registration is dropped.
    pub(crate) fn register(self: &Arc<Self>, holder: Weak<dyn EvictableHolder>) -> Registration {
        Registration::new(self.process.clone(), self.id(), holder)
    }

    fn id(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self) as usize
    }

    /// Reserves `bytes` if they are free.
    pub(crate) fn try_reserve(self: &Arc<Self>, bytes: u64) -> Option<Reservation> {
        self.take(bytes).ok()
    }

    /// Reserves `bytes`, evicting memory that was not used for `idle` if needed. `None` when that does not free enough.
    pub(crate) fn reserve(self: &Arc<Self>, bytes: u64, idle: Duration) -> Option<Reservation> {
        let mut evicted = 0;
        loop {
            let exceeded = match self.take(bytes) {
                Ok(reservation) => return Some(reservation),
                Err(exceeded) => exceeded,
            };
            // Evicted memory may still be in use for a moment. Do not evict more because of that.
            if evicted >= bytes || bytes > self.limit() {
                return None;
            }
            let used_before = Instant::now().checked_sub(idle)?;
            match self.process.holders.evict(bytes - evicted, used_before, self.scope_of(exceeded)) {
                0 => return None,
                freed => evicted += freed,
            }
        }
    }

    fn take(self: &Arc<Self>, bytes: u64) -> std::result::Result<Reservation, ExceededLimit> {
        if !self.account.take(bytes) {
            return Err(ExceededLimit::Client);
        }
        if !self.process.account.take(bytes) {
            self.account.give_back(bytes);
            return Err(ExceededLimit::Process);
        }
        Ok(Reservation { budget: self.clone(), bytes, in_flight: 0 })
    }

    /// The number of the budget whose holders can free memory, or `None` if the holders of all budgets can.
    fn scope_of(self: &Arc<Self>, exceeded: ExceededLimit) -> Option<usize> {
        (exceeded == ExceededLimit::Client).then(|| self.id())
    }

    /// Makes writers send blocks early so that `bytes` are freed soon. Returns `false` when nothing will be freed
    /// without a caller's help.
    pub(crate) fn request_release(self: &Arc<Self>, bytes: u64) -> bool {
        let Err(exceeded) = self.take(bytes) else { return true };
        let in_flight = match exceeded {
            ExceededLimit::Client => &self.account.in_flight,
            ExceededLimit::Process => &self.process.account.in_flight,
        };
        in_flight.load(Ordering::Acquire) >= bytes
            || self.process.holders.flush_one(self.scope_of(exceeded))
            || in_flight.load(Ordering::Acquire) > 0
    }

    /// Notices memory that is freed from now on. Try to reserve once more before [`Listener::wait`].
    pub(crate) fn listen(&self) -> Listener<'_> {
        self.process.waiting.fetch_add(1, Ordering::SeqCst);
        Listener { process: &self.process, returned: *self.process.lock() }
    }

    /// Wakes the threads that wait for memory.
    pub(crate) fn notify(&self) {
        self.process.notify();
    }

    fn accounts(&self) -> [&Account; 2] {
        [&self.account, &self.process.account]
    }

    fn give_back(&self, bytes: u64, in_flight: u64) {
        for account in self.accounts() {
            account.in_flight.fetch_sub(in_flight, Ordering::AcqRel);
            account.give_back(bytes);
        }
        self.process.notify();
    }
}

/// Notices memory that is freed.
pub(crate) struct Listener<'a> {
    process: &'a ProcessBudget,
    returned: u64,
}

impl Listener<'_> {
    /// Waits until memory was freed since [`Budget::listen`], at most for `timeout`.
    pub(crate) fn wait(self, timeout: Duration) {
        let lock = self.process.lock();
        drop(self.process.changed.wait_timeout_while(lock, timeout, |now| *now == self.returned));
    }
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        self.process.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The limit that leaves no memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ExceededLimit {
    Client,
    Process,
}

/// A part of a budget, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    bytes: u64,
    in_flight: u64,
}

impl Reservation {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Changes the reservation to `bytes`; returns `false` and changes nothing when the budget does not have them.
    pub(crate) fn resize(&mut self, bytes: u64) -> bool {
        if bytes > self.bytes {
            let Some(mut more) = self.budget.try_reserve(bytes - self.bytes) else { return false };
            more.bytes = 0;
        } else {
            self.budget.give_back(self.bytes - bytes, 0);
        }
        self.bytes = bytes;
        true
    }

    /// Counts the memory as in flight: it will be freed without a caller's help.
    pub(crate) fn begin_flight(&mut self) {
        self.set_in_flight(self.bytes);
    }

    /// Ends the flight that [`begin_flight`](Self::begin_flight) began. [Notify](Budget::notify) the budget that this
    /// returns when the memory can be evicted or used again.
    pub(crate) fn end_flight(&mut self) -> Arc<Budget> {
        self.set_in_flight(0);
        self.budget.clone()
    }

    fn set_in_flight(&mut self, bytes: u64) {
        for account in self.budget.accounts() {
            account.in_flight.fetch_add(bytes, Ordering::AcqRel);
            account.in_flight.fetch_sub(self.in_flight, Ordering::AcqRel);
        }
        self.in_flight = bytes;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes, self.in_flight);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    fn budget(limit: u64, process: &Arc<ProcessBudget>) -> Arc<Budget> {
        process.account.limit.fetch_max(limit, Ordering::Relaxed);
        Arc::new(Budget { account: Account { limit: limit.into(), ..Account::default() }, process: process.clone() })
    }

    #[test]
    fn dropped_memory_can_be_reserved_again_within_the_limit() {
        let budget = budget(10, &Arc::default());
        let first = budget.try_reserve(7).unwrap();
        assert!(budget.try_reserve(4).is_none());
        assert!(budget.try_reserve(u64::MAX).is_none());
        drop(first);
        assert!(budget.try_reserve(10).is_some());
        assert_eq!(budget.use_and_peak(), (0, 10));
    }

    #[test]
    fn clients_share_the_limit_of_the_largest_one() {
        let process = Arc::default();
        let (small, large) = (budget(10, &process), budget(100, &process));
        let held = large.try_reserve(95).unwrap();
        assert!(small.try_reserve(6).is_none());
        let rest = small.try_reserve(5).unwrap();
        drop(held);
        assert!(small.try_reserve(6).is_none(), "its own limit");
        drop(rest);
        assert_eq!(process.account.used.load(Ordering::Relaxed), 0);
    }

    /// Holds a reservation until it is evicted.
    struct Cache(Mutex<Option<Reservation>>, Instant, AtomicBool);

    impl EvictableHolder for Cache {
        fn idle_since(&self) -> Option<Instant> {
            self.0.lock().unwrap().as_ref().map(|_| self.1)
        }
        fn evict(&self, _: u64) -> u64 {
            self.0.lock().unwrap().take().map_or(0, |memory| memory.bytes)
        }
        fn flush(&self) -> bool {
            !self.2.swap(true, Ordering::Relaxed)
        }
    }

    #[test]
    fn the_longest_idle_holder_is_evicted_first() {
        let process = Arc::default();
        let (one, other) = (budget(100, &process), budget(100, &process));
        let now = Instant::now();
        let cache = |budget: &Arc<Budget>, idle| {
            Arc::new(Cache(Mutex::new(budget.try_reserve(40)), now - Duration::from_secs(idle), AtomicBool::new(false)))
        };
        let (old, new) = (cache(&one, 60), cache(&other, 0));
        let (weak_old, weak_new) = (Arc::downgrade(&old), Arc::downgrade(&new));
        let registered = (one.register(weak_old), other.register(weak_new));
        assert!(one.reserve(101, Duration::ZERO).is_none());
        assert!(
            old.idle_since().is_some() && new.idle_since().is_some(),
            "a reservation above the limit evicts nothing"
        );
        let first = one.reserve(30, IDLE).unwrap();
        assert!(old.idle_since().is_none() && new.idle_since().is_some());
        assert!(one.reserve(50, IDLE).is_none(), "the other holder is not idle");
        assert!(one.reserve(50, Duration::ZERO).is_some());
        drop((first, registered));
        assert!(!process.holders.flush_one(None), "no holder is registered any more");
    }

    #[test]
    fn a_listener_waits_for_memory_in_flight() {
        let budget = budget(100, &Arc::default());
        assert!(budget.request_release(100), "the memory is free");
        let mut block = budget.try_reserve(80).unwrap();
        assert!(!budget.request_release(30), "nothing will free the memory");
        block.begin_flight();
        assert!(budget.request_release(30));
        let listener = budget.listen();
        std::thread::scope(|scope| {
            scope.spawn(|| drop(block));
            listener.wait(Duration::from_secs(60));
        });
        assert!(budget.try_reserve(100).is_some());
    }
}
