//! The progress of a call on a blob, reported to the caller's callback on the caller's own thread.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::sys::blocking::without_blocking;
use crate::sys::lock::lock;

/// How often a waiting call reports its progress.
pub(super) const INTERVAL: Duration = Duration::from_millis(100);
/// The total of a blob that is still being written.
pub(crate) const UNKNOWN: u64 = u64::MAX;

/// Called with the number of bytes done and the total.
pub(crate) type ProgressCallback = dyn Fn(u64, u64) + Send + Sync;

thread_local! {
    /// Reports the progress of this thread's current call.
    static CURRENT: RefCell<Option<Rc<dyn Fn()>>> = const { RefCell::new(None) };
}

/// A blob's progress, and the callback that it is reported to.
#[derive(Default)]
pub(crate) struct Progress {
    callback: Mutex<Option<Arc<ProgressCallback>>>,
    /// Bytes delivered to the caller, or stored by the service.
    done: Arc<AtomicU64>,
    /// The last reported number. Locked while the callback runs, so that the numbers never decrease.
    reported: Mutex<Option<u64>>,
}

impl Progress {
    pub(crate) fn set(&self, callback: Option<Arc<ProgressCallback>>) {
        let old = std::mem::replace(&mut *lock(&self.callback), callback);
        drop(old);
    }

    /// The counter of done bytes for the transfers; `None` without a callback.
    pub(crate) fn counter(&self) -> Option<Arc<AtomicU64>> {
        lock(&self.callback).is_some().then(|| self.done.clone())
    }

    /// The number of bytes done so far.
    pub(crate) fn landed(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Runs a call on the blob. Reports its progress while this thread waits in it, and at its end. `settle` takes the
    /// call's result and the bytes done before it, and returns the bytes done after it and the total.
    pub(crate) fn during<T>(
        self: &Arc<Self>,
        total: u64,
        call: impl FnOnce() -> T,
        settle: impl FnOnce(&T, u64) -> (u64, u64),
    ) -> T {
        let Some(callback) = lock(&self.callback).clone() else { return call() };
        let before = self.done.load(Ordering::Relaxed);
        let (this, reported_to) = (self.clone(), callback.clone());
        let reporter = CurrentReporter::set(Rc::new(move || this.report(&reported_to, total)));
        let result = call();
        drop(reporter);
        let (done, total) = settle(&result, before);
        self.done.store(done, Ordering::Relaxed);
        self.report(&callback, total);
        result
    }

    fn report(&self, callback: &Arc<ProgressCallback>, total: u64) {
        // If the lock is taken, another thread is reporting.
        let Ok(mut reported) = self.reported.try_lock() else { return };
        let done = self.done.load(Ordering::Relaxed);
        if reported.is_none_or(|last| done > last || total != UNKNOWN && done == total) {
            *reported = Some(done);
            without_blocking(|| callback(done, total));
        }
    }
}

/// Sets this thread's reporter. Dropping it, also by a panic, restores the previous reporter.
struct CurrentReporter {
    outer: Option<Rc<dyn Fn()>>,
}

impl CurrentReporter {
    fn set(report: Rc<dyn Fn()>) -> Self {
        Self { outer: replace_current(Some(report)) }
    }
}

impl Drop for CurrentReporter {
    fn drop(&mut self) {
        replace_current(self.outer.take());
    }
}

/// Reports the progress of this thread's current call, if its caller has set a callback.
pub(crate) fn report_current() {
    if let Some(report) = current() {
        report();
    }
}

/// Whether this thread's current call reports its progress.
pub(crate) fn is_reporting() -> bool {
    current().is_some()
}

/// `None` also in a static destructor, after the thread's variables were destroyed: such a call reports only at its
/// end.
fn current() -> Option<Rc<dyn Fn()>> {
    CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
}

fn replace_current(report: Option<Rc<dyn Fn()>>) -> Option<Rc<dyn Fn()>> {
    CURRENT.try_with(|current| current.replace(report)).ok().flatten()
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn a_call_that_panics_leaves_no_reporter_on_its_thread() {
        let progress: Arc<Progress> = Arc::default();
        progress.set(Some(Arc::new(|_, _| {})));
        let result = catch_unwind(AssertUnwindSafe(|| {
            progress.during(1, || assert!(!is_reporting(), "on purpose"), |_, before| (before, 1));
        }));
        assert!(result.is_err() && !is_reporting());
    }
}
