//! How far a call on a blob has come, told to the caller on the caller's own thread.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::sys::blocking::without_blocking;
use crate::sys::lock::lock;

/// How often a waiting call looks whether there is something to tell.
pub(crate) const INTERVAL: Duration = Duration::from_millis(100);
/// The total of what is still being written.
pub(crate) const UNKNOWN: u64 = u64::MAX;

/// Called with the bytes done and those in all.
pub(crate) type Callback = dyn Fn(u64, u64) + Send + Sync;

thread_local! {
    /// What the call that this thread is in reports to.
    static CURRENT: RefCell<Option<Rc<dyn Fn()>>> = const { RefCell::new(None) };
}

/// A blob's progress, if someone wants to hear of it.
#[derive(Default)]
pub(crate) struct Progress {
    callback: Mutex<Option<Arc<Callback>>>,
    /// Bytes delivered to the caller, or landed at the service.
    done: Arc<AtomicU64>,
    /// What was told last; held while it is told, so that numbers never go back.
    told: Mutex<Option<u64>>,
}

impl Progress {
    pub(crate) fn set(&self, callback: Option<Arc<Callback>>) {
        let old = std::mem::replace(&mut *lock(&self.callback), callback);
        drop(old);
    }

    /// The counter of moved bytes, for those who move them.
    pub(crate) fn counter(&self) -> Option<Arc<AtomicU64>> {
        lock(&self.callback).is_some().then(|| self.done.clone())
    }

    /// What those have counted so far.
    pub(crate) fn landed(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Runs a call on the blob, and tells how it gets on while this thread waits in it, and at its end.
    /// `settle` says how many bytes are done after it.
    pub(crate) fn during<T>(
        self: &Arc<Self>,
        total: u64,
        call: impl FnOnce() -> T,
        settle: impl FnOnce(&T, u64) -> (u64, u64),
    ) -> T {
        let Some(callback) = lock(&self.callback).clone() else { return call() };
        let before = self.done.load(Ordering::Relaxed);
        let (this, told_to) = (self.clone(), callback.clone());
        let telling = Telling::begin(Rc::new(move || this.tell(&told_to, total)));
        let result = call();
        drop(telling);
        let (done, total) = settle(&result, before);
        self.done.store(done, Ordering::Relaxed);
        self.tell(&callback, total);
        result
    }

    fn tell(&self, callback: &Arc<Callback>, total: u64) {
        // Another thread is telling just now.
        let Ok(mut told) = self.told.try_lock() else { return };
        let done = self.done.load(Ordering::Relaxed);
        if told.is_none_or(|last| done > last || total != UNKNOWN && done == total) {
            *told = Some(done);
            without_blocking(|| callback(done, total));
        }
    }
}

/// The thread reports to this; when it ends, also by a panic, to what was before.
struct Telling {
    outer: Option<Rc<dyn Fn()>>,
}

impl Telling {
    fn begin(tell: Rc<dyn Fn()>) -> Self {
        Self { outer: replace_current(Some(tell)) }
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        replace_current(self.outer.take());
    }
}

/// Tells the caller of the call that this thread is in, if it wants to know.
pub(crate) fn tick() {
    if let Some(tell) = current() {
        tell();
    }
}

/// Whether this thread is in a call whose progress someone wants to hear.
pub(crate) fn is_wanted() -> bool {
    current().is_some()
}

/// A call from a static destructor finds the thread's own variables gone: its progress is told at its end only.
fn current() -> Option<Rc<dyn Fn()>> {
    CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
}

fn replace_current(tell: Option<Rc<dyn Fn()>>) -> Option<Rc<dyn Fn()>> {
    CURRENT.try_with(|current| current.replace(tell)).ok().flatten()
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn a_call_that_panics_leaves_nothing_behind_on_its_thread() {
        let progress: Arc<Progress> = Arc::default();
        progress.set(Some(Arc::new(|_, _| {})));
        let result = catch_unwind(AssertUnwindSafe(|| {
            progress.during(1, || assert!(!is_wanted(), "on purpose"), |_, before| (before, 1));
        }));
        assert!(result.is_err() && !is_wanted());
    }
}
