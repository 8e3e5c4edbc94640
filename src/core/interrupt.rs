//! Interrupts: a thread's callback ends the call in which the thread waits. It is for languages that only note a Ctrl-C
//! while foreign code runs.
//!
//! A call that begins on a thread with a callback has an [`Interruption`]. While the thread waits, it asks the callback,
//! and if that says so, it interrupts the call: the tasks of this call end as they do at a deadline, and the tasks that
//! other calls share go on.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::error::{Error, Result, Status};
use crate::sys::blocking::without_blocking;

/// How often a waiting thread asks its callback. A person takes an answer within a tenth of a second for immediate, and
/// forty short wake-ups a second cost nothing that could be measured.
const INTERVAL: Duration = Duration::from_millis(25);

/// Says whether the running call is to end.
pub(crate) type InterruptCallback = dyn Fn() -> bool;

thread_local! {
    static CALLBACK: RefCell<Option<Rc<InterruptCallback>>> = const { RefCell::new(None) };
    /// Whether there is one. Most threads have none, and should not pay for the rest of this module.
    static HAS_CALLBACK: Cell<bool> = const { Cell::new(false) };
    static CURRENT: Cell<CurrentCall> = const { Cell::new(CurrentCall { due: None, entered: false, ended: false }) };
}

/// What a thread knows of the call that it is in.
#[derive(Clone, Copy)]
struct CurrentCall {
    /// When the callback is asked next. It is set by the first wait of a call, so that short calls never ask.
    due: Option<Instant>,
    /// Whether the beginning of the call is known, which it is in calls from C.
    entered: bool,
    /// Whether the callback has ended the call. It is not asked again in this call.
    ended: bool,
}

/// Sets the callback of this thread. While a call of this library waits on this thread, the callback runs on it about
/// every 25 ms. If it returns true, the call fails within 100 ms with [`Status::Cancelled`]; other than after a
/// cancellation, later calls work. `None` removes the callback.
///
/// Only a writer does not recover: it fails for good, as after every failed write. Blocking calls of this library fail
/// inside the callback.
pub fn set_interrupt_callback(callback: Option<Box<dyn Fn() -> bool>>) -> Result<()> {
    let (has_callback, new) = (callback.is_some(), callback.map(Rc::from));
    let old = CALLBACK.try_with(|current| current.replace(new));
    HAS_CALLBACK.set(has_callback && old.is_ok());
    // Dropped here, since its drop may run code of the caller.
    old.map(drop).map_err(|_| Error::unsupported("this thread is ending"))
}

/// The beginning of a call from C. The interrupts of the calls around it, if it is made from a callback, are kept apart.
pub(crate) fn enter() -> Entered {
    let new = CurrentCall { due: None, entered: true, ended: false };
    Entered(HAS_CALLBACK.get().then(|| CURRENT.replace(new)))
}

/// A call from C, until it is dropped. It has the state of the call around it.
pub(crate) struct Entered(Option<CurrentCall>);

impl Drop for Entered {
    fn drop(&mut self) {
        if let Some(outer) = self.0 {
            CURRENT.set(outer);
        }
    }
}

fn interrupted() -> Error {
    Error::new(Status::Cancelled, "interrupted by the caller")
}

/// `None` also in a static destructor, after the thread's variables were destroyed.
fn callback() -> Option<Rc<InterruptCallback>> {
    CALLBACK.try_with(|callback| callback.borrow().clone()).ok().flatten()
}

/// When this thread has to ask its callback next; `None` if it has none.
pub(super) fn due() -> Option<Instant> {
    if !HAS_CALLBACK.get() {
        return None;
    }
    let mut current = CURRENT.get();
    if current.ended {
        return None;
    }
    let due = current.due.unwrap_or_else(|| Instant::now() + INTERVAL);
    current.due = Some(due);
    CURRENT.set(current);
    Some(due)
}

/// Asks this thread's callback, if it is time to. An error if it ends the call. Call it without a lock.
pub(super) fn ask() -> Result<()> {
    if due().is_none_or(|due| Instant::now() < due) {
        return Ok(());
    }
    let ends = callback().is_some_and(|callback| without_blocking(|| callback()));
    // Counted from its end, so that a slow callback is not called without a pause.
    let current = CURRENT.get();
    let ended = current.ended || ends && current.entered;
    CURRENT.set(CurrentCall { due: Some(Instant::now() + INTERVAL), ended, ..current });
    if ends { Err(interrupted()) } else { Ok(()) }
}

/// Whether a call was interrupted. The call's tasks share it, and the caller's thread sets it.
#[derive(Debug)]
pub(crate) struct Interruption {
    interrupted: AtomicBool,
    /// Wakes the tasks that wait for a cancellation.
    notify: Arc<Notify>,
}

impl Interruption {
    /// The interruption of a call, or of a step of a call from C, that begins on this thread; `None` if the thread has no
    /// callback. An error if the call was interrupted in an earlier step.
    pub(crate) fn of_new_call(notify: &Arc<Notify>) -> Result<Option<Arc<Self>>> {
        if !HAS_CALLBACK.get() {
            return Ok(None);
        }
        if CURRENT.get().ended {
            return Err(interrupted());
        }
        Ok(Some(Arc::new(Self { interrupted: AtomicBool::new(false), notify: notify.clone() })))
    }

    /// An error if the call was interrupted.
    pub(super) fn check(&self) -> Result<()> {
        if self.interrupted.load(Ordering::Acquire) { Err(interrupted()) } else { Ok(()) }
    }

    /// When the call's thread has to ask next; `None` if it need not.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.check().is_err() { None } else { due() }
    }

    /// Asks the callback of the call's thread, if it is time to, and interrupts the call if that says so. Call it on this
    /// thread, without a lock.
    pub(crate) fn ask(&self) -> Result<()> {
        self.check()?;
        ask().inspect_err(|_| {
            self.interrupted.store(true, Ordering::Release);
            self.notify.notify_waiters();
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::sync::{Condvar, Mutex};

    use crate::core::cancel::{CancelToken, Cancellation};
    use crate::core::limits::Limits;
    use crate::core::runtime::{block_on, start};

    /// The limits of a call that begins now on this thread.
    fn call() -> Limits {
        try_call().unwrap()
    }

    fn try_call() -> Result<Limits> {
        let (cancellation, notify) = (Arc::<Cancellation>::default(), Arc::default());
        let interruption = Interruption::of_new_call(&notify)?;
        Ok(Limits::new(0, None, Arc::default(), CancelToken::new(cancellation, interruption, notify)))
    }

    /// Sets a callback that says yes after `times` times, and returns how often it was asked.
    fn end_after(times: u32) -> Rc<Cell<u32>> {
        let asked = Rc::new(Cell::new(0));
        let count = asked.clone();
        let callback = move || {
            count.set(count.get() + 1);
            count.get() > times
        };
        set_interrupt_callback(Some(Box::new(callback))).unwrap();
        asked
    }

    /// A task that ends only by the limits of its call.
    fn endless(limits: &Limits) -> impl Future<Output = Result<()>> + Send + 'static {
        let limits = limits.clone();
        async move { crate::core::retry::retry(&limits, |_| std::future::pending()).await }
    }

    #[test]
    fn a_call_that_waits_for_a_task_is_interrupted_once() {
        let asked = end_after(3);
        let limits = call();
        let error = block_on(limits.interruption(), endless(&limits)).unwrap_err();
        assert_eq!((error.status(), error.message()), (Status::Cancelled, "interrupted by the caller"));
        assert_eq!(asked.get(), 4);
        // The call is over: its further steps fail, and it does not ask again.
        assert!(block_on(limits.interruption(), endless(&limits)).is_err() && limits.check().is_err());
        assert!(limits.ask().is_err() && limits.is_interrupted());
        assert_eq!(asked.get(), 4);
        // Another call begins anew.
        assert!(call().check().is_ok() && limits.in_background().check().is_ok());
    }

    #[test]
    fn a_call_that_waits_for_other_threads_is_interrupted_without_its_lock() {
        let (state, changed) = (Arc::new(Mutex::new(())), Condvar::new());
        let is_free = state.clone();
        set_interrupt_callback(Some(Box::new(move || is_free.try_lock().is_ok()))).unwrap();
        let limits = call();
        let mut guard = state.lock().unwrap();
        let error = loop {
            match limits.wait_for(&changed, &state, guard, &limits) {
                Ok(again) => guard = again,
                Err(error) => break error,
            }
        };
        assert_eq!(error.status(), Status::Cancelled);
    }

    #[test]
    fn a_call_without_a_callback_has_nothing_to_ask() {
        set_interrupt_callback(None).unwrap();
        let limits = call();
        assert!(limits.interruption().is_none() && limits.wakes_at().is_none() && due().is_none());
        // Nor is there one on the library's threads.
        end_after(0);
        let limits = call();
        assert!(limits.interruption().is_some());
        block_on(limits.interruption(), async {
            assert!(call().interruption().is_none());
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn a_wait_within_limits_ends_and_its_task_goes_on() {
        end_after(0);
        let (limits, background) = (call(), call().in_background());
        let waited = start(endless(&background)).unwrap().wait_within(&limits, &background);
        assert_eq!(waited.unwrap_err().status(), Status::Cancelled);
        assert!(background.check().is_ok());
    }

    #[test]
    fn a_call_from_c_is_asked_once_however_many_steps_it_has() {
        let asked = end_after(0);
        let entered = enter();
        let limits = call();
        assert!(block_on(limits.interruption(), endless(&limits)).is_err());
        assert!(try_call().is_err() && due().is_none());
        // A call from inside a callback is another one.
        let inner = enter();
        assert!(try_call().is_ok());
        drop(inner);
        assert!(try_call().is_err());
        drop(entered);
        assert!(try_call().is_ok() && asked.get() == 1);
    }

    #[test]
    fn a_callback_may_replace_and_remove_itself() {
        set_interrupt_callback(Some(Box::new(|| {
            end_after(1);
            false
        })))
        .unwrap();
        let limits = call();
        assert!(block_on(limits.interruption(), endless(&limits)).is_err());
        set_interrupt_callback(Some(Box::new(|| {
            set_interrupt_callback(None).unwrap();
            true
        })))
        .unwrap();
        let limits = call();
        assert!(block_on(limits.interruption(), endless(&limits)).is_err());
        assert!(due().is_none());
    }
}
