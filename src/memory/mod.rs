//! The memory that the library holds on its callers' behalf: what is read ahead, what is being written.
//!
//! All clients of a process share one [`Pool`], and each has a [`Budget`] in it; neither is ever exceeded. When there is
//! none left, someone gives some up: what was only read ahead goes at once, a block that a writer has begun is sent as it
//! is. So nothing waits for memory that only a caller could free.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::sys::lock::lock;
use crate::sys::process::PerProcess;

mod default_limit;
mod eviction;
pub(crate) mod segment_pool;

pub(crate) use default_limit::default_memory_limit;
use eviction::Holders;
pub(crate) use eviction::{Holder, Registration};

/// Who reads ahead takes memory from others only when those have not used it for this long.
pub(crate) const IDLE: Duration = Duration::from_secs(1);

/// A child of a fork begins with nothing held: what its parent holds stays the parent's.
static POOL: PerProcess<Arc<Pool>> = PerProcess::for_static();

/// Bytes that may be held, and bytes that are.
#[derive(Debug, Default)]
struct Account {
    limit: AtomicU64,
    used: AtomicU64,
    peak: AtomicU64,
    /// Those of them that come back without anybody's doing: blocks under way.
    landing: AtomicU64,
}

impl Account {
    fn take(&self, bytes: u64) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        let fits = |used: u64| used.checked_add(bytes).filter(|&total| total <= limit);
        let Ok(before) = self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits) else { return false };
        self.peak.fetch_max(before + bytes, Ordering::Relaxed);
        true
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::AcqRel);
    }
}

/// What the process has.
#[derive(Debug, Default)]
struct Pool {
    account: Account,
    holders: Holders,
    /// How many wait for memory: rarely anybody, so that nobody else has to be woken.
    waiting: AtomicUsize,
    /// Counts what came back or can be had again while somebody waits.
    returned: Mutex<u64>,
    changed: Condvar,
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, u64> {
        lock(&self.returned)
    }

    fn tell(&self) {
        // After what was given back, as the waiting look there after they were counted.
        if self.waiting.load(Ordering::SeqCst) > 0 {
            *self.lock() += 1;
            self.changed.notify_all();
        }
    }
}

/// A client's share.
#[derive(Debug)]
pub(crate) struct Budget {
    account: Account,
    pool: Arc<Pool>,
}

impl Budget {
    /// The pool is as large as the largest of them.
    pub(crate) fn new(limit: u64) -> Result<Arc<Self>> {
        let pool = POOL.get_or_try_init(|| Ok(Arc::default()))?.clone();
        pool.account.limit.fetch_max(limit, Ordering::Relaxed);
        Ok(Arc::new(Self { account: Account { limit: limit.into(), ..Account::default() }, pool }))
    }

    /// All that may be held.
    pub(crate) fn limit(&self) -> u64 {
        self.account.limit.load(Ordering::Relaxed)
    }

    /// What one use of many may take without starving the others.
    pub(crate) fn fair_share(&self) -> u64 {
        self.limit() / 4
    }

    /// What is held now, and the most that ever was.
    pub(crate) fn use_and_peak(&self) -> (u64, u64) {
        (self.account.used.load(Ordering::Relaxed), self.account.peak.load(Ordering::Relaxed))
    }

    /// Lets others take from `holder`, until the registration is dropped.
    pub(crate) fn register(self: &Arc<Self>, holder: std::sync::Weak<dyn Holder>) -> Registration {
        Registration::new(self.clone(), self.pool.holders.add(self.id(), holder))
    }

    fn id(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self) as usize
    }

    /// Takes `bytes` out of the budget until the reservation is dropped, if they are there.
    pub(crate) fn try_reserve(self: &Arc<Self>, bytes: u64) -> Option<Reservation> {
        self.take(bytes).ok()
    }

    /// The same, out of the hands of those who have not used theirs for `idle`.
    pub(crate) fn reserve(self: &Arc<Self>, bytes: u64, idle: Duration) -> Option<Reservation> {
        let mut given_up = 0;
        loop {
            let short = match self.take(bytes) {
                Ok(reservation) => return Some(reservation),
                Err(short) => short,
            };
            // What was given up may still be in use for a moment; more of it would be too much.
            if given_up >= bytes || bytes > self.limit() {
                return None;
            }
            match self.pool.holders.evict(bytes - given_up, Instant::now().checked_sub(idle), self.whose(short)) {
                0 => return None,
                freed => given_up += freed,
            }
        }
    }

    fn take(self: &Arc<Self>, bytes: u64) -> std::result::Result<Reservation, Short> {
        if !self.account.take(bytes) {
            return Err(Short::Client);
        }
        if !self.pool.account.take(bytes) {
            self.account.give_back(bytes);
            return Err(Short::Process);
        }
        Ok(Reservation { budget: self.clone(), bytes, landing: 0 })
    }

    /// Whose memory would help.
    fn whose(self: &Arc<Self>, short: Short) -> Option<usize> {
        (short == Short::Client).then(|| self.id())
    }

    /// Sees to it that `bytes` come back without any caller's doing; false when nothing more will.
    pub(crate) fn ask_for(self: &Arc<Self>, bytes: u64) -> bool {
        let Err(short) = self.take(bytes) else { return true };
        let landing = match short {
            Short::Client => &self.account.landing,
            Short::Process => &self.pool.account.landing,
        };
        landing.load(Ordering::Acquire) >= bytes
            || self.pool.holders.send_off(self.whose(short))
            || landing.load(Ordering::Acquire) > 0
    }

    /// Listens for memory that comes back from here on. Whoever needs some looks again after this, and then waits.
    pub(crate) fn listen(&self) -> Listener<'_> {
        self.pool.waiting.fetch_add(1, Ordering::SeqCst);
        Listener { pool: &self.pool, returned: *self.pool.lock() }
    }

    /// Wakes those who wait for memory.
    pub(crate) fn tell(&self) {
        self.pool.tell();
    }

    fn give_back(&self, bytes: u64, landing: u64) {
        for account in [&self.account, &self.pool.account] {
            account.landing.fetch_sub(landing, Ordering::AcqRel);
            account.give_back(bytes);
        }
        self.pool.tell();
    }
}

/// Hears of memory that comes back.
pub(crate) struct Listener<'a> {
    pool: &'a Pool,
    returned: u64,
}

impl Listener<'_> {
    /// Waits until some has, or `patience` is over.
    pub(crate) fn wait(self, patience: Duration) {
        let lock = self.pool.lock();
        drop(self.pool.changed.wait_timeout_while(lock, patience, |now| *now == self.returned));
    }
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        self.pool.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Which limit stands in the way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Short {
    Client,
    Process,
}

/// A part of a budget, given back on drop.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    bytes: u64,
    landing: u64,
}

impl Reservation {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes it one of `bytes`, if the budget has them.
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

    /// From here on it comes back without any caller's doing.
    pub(crate) fn is_landing(&mut self) {
        self.set_landing(self.bytes);
    }

    /// It is back, for someone to use again or to give up; whom to [`tell`](Budget::tell) when it can be had.
    pub(crate) fn has_landed(&mut self) -> Arc<Budget> {
        self.set_landing(0);
        self.budget.clone()
    }

    fn set_landing(&mut self, bytes: u64) {
        for account in [&self.budget.account, &self.budget.pool.account] {
            account.landing.fetch_add(bytes, Ordering::AcqRel);
            account.landing.fetch_sub(self.landing, Ordering::AcqRel);
        }
        self.landing = bytes;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes, self.landing);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    fn budget(limit: u64, pool: &Arc<Pool>) -> Arc<Budget> {
        pool.account.limit.fetch_max(limit, Ordering::Relaxed);
        Arc::new(Budget { account: Account { limit: limit.into(), ..Account::default() }, pool: pool.clone() })
    }

    #[test]
    fn the_limit_holds_and_what_is_dropped_comes_back() {
        let budget = budget(10, &Arc::default());
        let first = budget.try_reserve(7).unwrap();
        assert!(budget.try_reserve(4).is_none());
        assert!(budget.try_reserve(u64::MAX).is_none());
        drop(first);
        assert!(budget.try_reserve(10).is_some());
        assert_eq!(budget.use_and_peak(), (0, 10));
    }

    #[test]
    fn clients_share_what_the_largest_of_them_may_have() {
        let pool = Arc::default();
        let (small, large) = (budget(10, &pool), budget(100, &pool));
        let held = large.try_reserve(95).unwrap();
        assert!(small.try_reserve(6).is_none());
        let rest = small.try_reserve(5).unwrap();
        drop(held);
        assert!(small.try_reserve(6).is_none(), "its own limit");
        drop(rest);
        assert_eq!(pool.account.used.load(Ordering::Relaxed), 0);
    }

    /// Holds a reservation until it is asked for it.
    struct Cache(Mutex<Option<Reservation>>, Instant, AtomicBool);

    impl Holder for Cache {
        fn idle_since(&self) -> Option<Instant> {
            self.0.lock().unwrap().as_ref().map(|_| self.1)
        }
        fn give_up(&self, _: u64) -> u64 {
            self.0.lock().unwrap().take().map_or(0, |memory| memory.bytes)
        }
        fn send_off(&self) -> bool {
            !self.2.swap(true, Ordering::Relaxed)
        }
    }

    #[test]
    fn the_one_that_was_idle_longest_gives_up_first() {
        let pool = Arc::default();
        let (one, other) = (budget(100, &pool), budget(100, &pool));
        let now = Instant::now();
        let cache = |budget: &Arc<Budget>, idle| {
            Arc::new(Cache(Mutex::new(budget.try_reserve(40)), now - Duration::from_secs(idle), AtomicBool::new(false)))
        };
        let (old, new) = (cache(&one, 60), cache(&other, 0));
        let (weak_old, weak_new) = (Arc::downgrade(&old), Arc::downgrade(&new));
        let registered = (one.register(weak_old), other.register(weak_new));
        assert!(one.reserve(101, Duration::ZERO).is_none());
        assert!(old.idle_since().is_some() && new.idle_since().is_some(), "what never fits drives nobody out");
        let first = one.reserve(30, IDLE).unwrap();
        assert!(old.idle_since().is_none() && new.idle_since().is_some());
        assert!(one.reserve(50, IDLE).is_none(), "the other one is not idle");
        assert!(one.reserve(50, Duration::ZERO).is_some());
        drop((first, registered));
        assert!(!pool.holders.send_off(None), "nobody is registered any more");
    }

    #[test]
    fn memory_that_is_landing_is_waited_for() {
        let budget = budget(100, &Arc::default());
        assert!(budget.ask_for(100), "it is there");
        let mut block = budget.try_reserve(80).unwrap();
        assert!(!budget.ask_for(30), "nobody will give it back");
        block.is_landing();
        assert!(budget.ask_for(30));
        let listener = budget.listen();
        std::thread::scope(|scope| {
            scope.spawn(|| drop(block));
            listener.wait(Duration::from_secs(60));
        });
        assert!(budget.try_reserve(100).is_some());
    }
}
