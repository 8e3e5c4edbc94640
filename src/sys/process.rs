//! Fork and signals: what the host process does that no handle is told of.

use std::mem::ManuallyDrop;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use once_cell::sync::OnceCell;

use crate::error::{Error, Result, Status};

static GENERATION: AtomicU32 = AtomicU32::new(0);
static WATCH_FORKS: Once = Once::new();

extern "C" fn count_fork() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

/// How many forks lie between this process and the one that first used the library.
pub(crate) fn generation() -> u32 {
    WATCH_FORKS.call_once(|| {
        // SAFETY: the handler only touches an atomic, which is allowed after fork in any process.
        let result = unsafe { libc::pthread_atfork(None, None, Some(count_fork)) };
        // ENOMEM is its only failure; without the handler a fork would go unnoticed.
        assert_eq!(result, 0, "pthread_atfork: out of memory");
    });
    GENERATION.load(Ordering::Relaxed)
}

/// A value made anew in each forked child. A child never drops, closes or locks what it inherited: the
/// sockets and the epoll set are still the parent's.
pub(crate) struct PerProcess<T> {
    made_in: u32,
    value: OnceCell<ManuallyDrop<T>>,
    in_child: OnceCell<Box<PerProcess<T>>>,
}

impl<T> PerProcess<T> {
    pub(crate) fn new() -> Self {
        Self { made_in: generation(), value: OnceCell::new(), in_child: OnceCell::new() }
    }

    pub(crate) fn get_or_try_init(&self, make: impl FnOnce() -> Result<T>) -> Result<&T> {
        self.get_or_inherit(|_| make())
    }

    /// The same, with what the nearest ancestor had for `make` to look at: it may read there what it can get
    /// without waiting.
    pub(crate) fn get_or_inherit(&self, make: impl FnOnce(Option<&T>) -> Result<T>) -> Result<&T> {
        self.get_or_inherit_from(None, make)
    }

    fn get_or_inherit_from(&self, inherited: Option<&T>, make: impl FnOnce(Option<&T>) -> Result<T>) -> Result<&T> {
        if self.made_in == generation() {
            return self.value.get_or_try_init(|| make(inherited).map(ManuallyDrop::new)).map(|value| &**value);
        }
        let inherited = self.value.get().map(|value| &**value).or(inherited);
        self.in_child.get_or_init(|| Box::new(Self::new())).get_or_inherit_from(inherited, make)
    }
}

impl<T> PerProcess<T> {
    /// This process's value, if it was made.
    pub(crate) fn get(&self) -> Option<&T> {
        if self.made_in == generation() {
            return self.value.get().map(|value| &**value);
        }
        self.in_child.get().and_then(|inner| inner.get())
    }
}

impl<T> Drop for PerProcess<T> {
    fn drop(&mut self) {
        if self.made_in == generation()
            && let Some(value) = self.value.take()
        {
            drop(ManuallyDrop::into_inner(value));
        }
    }
}

/// A value that is of use only in the process that made it.
pub(crate) struct ProcessBound<T> {
    made_in: u32,
    value: ManuallyDrop<T>,
}

impl<T> ProcessBound<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { made_in: generation(), value: ManuallyDrop::new(value) }
    }

    pub(crate) fn get(&self) -> Result<&T> {
        if self.made_in == generation() {
            return Ok(&self.value);
        }
        Err(Error::new(
            Status::Forked,
            "this handle was opened before the process forked; open the blob again in the child",
        ))
    }
}

impl<T> Drop for ProcessBound<T> {
    fn drop(&mut self) {
        if self.made_in == generation() {
            // SAFETY: this is the only place that drops the value, and a value is dropped once.
            unsafe { ManuallyDrop::drop(&mut self.value) };
        }
    }
}

/// Ends a process that leads a group of its own, and whatever it has started.
pub(crate) fn kill_group(leader: u32) {
    let Ok(leader) = libc::pid_t::try_from(leader) else { return };
    // SAFETY: kill touches no memory. The leader was not waited for, so its number is still its own.
    unsafe { libc::kill(-leader, libc::SIGKILL) };
}

/// Runs `start_threads` with every signal blocked in this thread. Threads inherit the mask, so that a
/// host's signal handler never runs on one of ours, and a reset connection never raises SIGPIPE there.
pub(crate) fn with_signals_blocked<T>(start_threads: impl FnOnce() -> T) -> T {
    // SAFETY: sigset_t is plain data that sigfillset initialises; both sets live on this stack.
    let previous = unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut previous: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut previous);
        previous
    };
    // Also when no thread can be started, which tokio panics of.
    let _restore = SignalMask(previous);
    start_threads()
}

/// A thread's signal mask, which it has again when this is dropped.
struct SignalMask(libc::sigset_t);

impl Drop for SignalMask {
    fn drop(&mut self) {
        // SAFETY: the set was filled by pthread_sigmask.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signal_mask_comes_back_after_a_panic_too() {
        let blocks_sigterm = || {
            // SAFETY: sigset_t is plain data that pthread_sigmask fills in; it lives on this stack.
            unsafe {
                let mut now: libc::sigset_t = std::mem::zeroed();
                libc::pthread_sigmask(libc::SIG_SETMASK, std::ptr::null(), &raw mut now);
                libc::sigismember(&raw const now, libc::SIGTERM) == 1
            }
        };
        assert!(with_signals_blocked(blocks_sigterm));
        // As tokio does when the system has no thread left.
        assert!(std::panic::catch_unwind(|| with_signals_blocked(|| panic!("on purpose"))).is_err());
        assert!(!blocks_sigterm());
    }
}
