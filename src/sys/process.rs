//! Fork and signals: what the host process does that no handle is told of.

use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicU32, Ordering};

use once_cell::race::{OnceBool, OnceBox};
use once_cell::sync::OnceCell;

use crate::error::{Error, Result, Status};

/// How many forks lie between this process and the one in which the library was first used.
static FORKS: AtomicU32 = AtomicU32::new(0);
/// Whether [`count_fork`] runs in each forked child. Set without a lock, which a child could inherit locked.
static COUNTS_FORKS: OnceBool = OnceBool::new();

extern "C" fn count_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// A number that differs between this process, its ancestors and its children.
pub(crate) fn generation() -> u32 {
    // Two threads may both register the handler; a fork then counts twice, which does not matter.
    // SAFETY: the handler only touches an atomic, which is allowed in a forked child.
    let counts_forks = COUNTS_FORKS.get_or_init(|| unsafe { libc::pthread_atfork(None, None, Some(count_fork)) } == 0);
    if counts_forks {
        return FORKS.load(Ordering::Relaxed);
    }
    // There was no memory for the handler. The process id tells the processes apart too, at the cost of a system call.
    std::process::id()
}

/// The user whose rights the process has now.
pub(crate) fn effective_user() -> u32 {
    // SAFETY: it has no arguments, and always succeeds.
    unsafe { libc::geteuid() }
}

/// A value made anew in each forked child. A child never drops, closes or locks what it inherited: the
/// sockets and the epoll set are still the parent's.
pub(crate) struct PerProcess<T> {
    made_in: u32,
    value: OnceCell<ManuallyDrop<T>>,
    /// Not a `OnceCell`: a thread that is making this at a fork would leave it locked in the grandchild.
    in_child: OnceBox<PerProcess<T>>,
}

impl<T> PerProcess<T> {
    pub(crate) fn new() -> Self {
        Self::made_in(generation())
    }

    /// One for a static, which needs no `Lazy`, and so no lock, to be made.
    pub(crate) const fn for_static() -> Self {
        Self::made_in(0)
    }

    const fn made_in(generation: u32) -> Self {
        Self { made_in: generation, value: OnceCell::new(), in_child: OnceBox::new() }
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

/// Whether `works` does in a forked child. The child has this thread alone, and some seconds.
#[cfg(test)]
pub(crate) fn in_fork(works: impl FnOnce() -> bool) -> bool {
    // SAFETY: glibc keeps its own locks usable in the child, and nothing else that other tests' threads hold is used.
    match unsafe { libc::fork() } {
        0 => {
            // SAFETY: a child that waits for ever is ended by the signal.
            unsafe { libc::alarm(20) };
            let code = i32::from(!works());
            // SAFETY: ends the child without running what the parent will run.
            unsafe { libc::_exit(code) }
        }
        child => {
            let mut status = 0;
            // SAFETY: waits for the child just made.
            let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
            waited == child && status == 0
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn a_child_makes_its_own_and_waits_for_nothing_of_its_parents() {
        static VALUE: PerProcess<Mutex<u32>> = PerProcess::for_static();
        let make = |parent: Option<&Mutex<u32>>| {
            let inherited = parent.and_then(|parent| parent.try_lock().ok().map(|value| *value));
            Ok(Mutex::new(inherited.unwrap_or(100) + 1))
        };
        let value = || VALUE.get_or_inherit(make).map(|value| *value.lock().unwrap()).unwrap_or(0);
        assert_eq!(value(), 101);
        // The grandchild inherits through a child that has a value of its own.
        assert!(in_fork(|| value() == 102 && in_fork(|| value() == 103) && value() == 102));
        let held = VALUE.get().unwrap().lock().unwrap();
        assert!(in_fork(|| value() == 101), "what is locked at the fork is made anew");
        drop(held);
        assert_eq!(value(), 101);
    }

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
