//! Forks and signals of the host process, which the library must notice by itself.

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

/// The effective user id of the process.
pub(crate) fn effective_user() -> u32 {
    // SAFETY: it has no arguments, and always succeeds.
    unsafe { libc::geteuid() }
}

/// A value that each forked child makes anew. A child never drops, closes or locks the value that it inherited, because
/// the sockets and the epoll set in it still belong to the parent.
pub(crate) struct PerProcess<T> {
    /// The generation of the process that made this.
    made_in: u32,
    value: OnceCell<ManuallyDrop<T>>,
    /// The value of a forked child. Not a `OnceCell`, which a fork in the middle of its initialisation would leave
    /// locked.
    in_child: OnceBox<PerProcess<T>>,
}

impl<T> PerProcess<T> {
    pub(crate) fn new() -> Self {
        Self::made_in(generation())
    }

    /// An empty value, for a static. It needs no `Lazy`, and so no lock.
    pub(crate) const fn for_static() -> Self {
        Self::made_in(0)
    }

    const fn made_in(generation: u32) -> Self {
        Self { made_in: generation, value: OnceCell::new(), in_child: OnceBox::new() }
    }

    /// This process's value; `make` makes it on first use.
    pub(crate) fn get_or_try_init(&self, make: impl FnOnce() -> Result<T>) -> Result<&T> {
        self.get_or_inherit(|_| make())
    }

    /// This process's value; `make` makes it on first use. `make` gets the value of the nearest ancestor process, which
    /// it may read, but whose locks it must not wait for.
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
    /// This process's value if it was made.
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

/// A value that can be used only in the process that made it. A forked child neither uses nor drops it.
pub(crate) struct ProcessBound<T> {
    made_in: u32,
    value: ManuallyDrop<T>,
}

impl<T> ProcessBound<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { made_in: generation(), value: ManuallyDrop::new(value) }
    }

    /// The value, or an error in a forked child.
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

/// Kills the process group of `leader`: that process and those that it has started.
pub(crate) fn kill_group(leader: u32) {
    let Ok(leader) = libc::pid_t::try_from(leader) else { return };
    // SAFETY: kill touches no memory. The leader was not waited for, so no other process has its id.
    unsafe { libc::kill(-leader, libc::SIGKILL) };
}

/// Runs `start_threads` with every signal blocked in this thread. New threads inherit that, so no signal handler of the
/// host runs on the library's threads, and a closed connection does not raise SIGPIPE there.
pub(crate) fn with_signals_blocked<T>(start_threads: impl FnOnce() -> T) -> T {
    // SAFETY: sigset_t is plain data that sigfillset initialises; both sets live on this stack.
    let previous = unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut previous: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut previous);
        previous
    };
    // Restore the mask in a drop, because tokio panics when it cannot start a thread.
    let _restore = SignalMask(previous);
    start_threads()
}

/// Restores a thread's signal mask when it is dropped.
struct SignalMask(libc::sigset_t);

impl Drop for SignalMask {
    fn drop(&mut self) {
        // SAFETY: the set was filled by pthread_sigmask.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut()) };
    }
}

/// Whether `works` returns true in a forked child, which has only this thread and 20 seconds.
#[cfg(test)]
pub(crate) fn in_fork(works: impl FnOnce() -> bool) -> bool {
    // SAFETY: glibc keeps its locks usable in the child, and the child uses no other lock that another test's thread
    // may hold.
    match unsafe { libc::fork() } {
        0 => {
            // SAFETY: it sets a timer, whose signal ends a child that hangs.
            unsafe { libc::alarm(20) };
            let code = i32::from(!works());
            // SAFETY: it ends the child without the parent's exit handlers.
            unsafe { libc::_exit(code) }
        }
        child => {
            let mut status = 0;
            // SAFETY: it waits for the child that was just made.
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
    fn a_child_makes_its_own_value_without_waiting() {
        static VALUE: PerProcess<Mutex<u32>> = PerProcess::for_static();
        let make = |parent: Option<&Mutex<u32>>| {
            let inherited = parent.and_then(|parent| parent.try_lock().ok().map(|value| *value));
            Ok(Mutex::new(inherited.unwrap_or(100) + 1))
        };
        let value = || VALUE.get_or_inherit(make).map(|value| *value.lock().unwrap()).unwrap_or(0);
        assert_eq!(value(), 101);
        // The grandchild inherits from the child.
        assert!(in_fork(|| value() == 102 && in_fork(|| value() == 103) && value() == 102));
        let held = VALUE.get().unwrap().lock().unwrap();
        assert!(in_fork(|| value() == 101), "a value that is locked at the fork is made anew");
        drop(held);
        assert_eq!(value(), 101);
    }

    #[test]
    fn the_signal_mask_is_restored_after_a_panic() {
        let blocks_sigterm = || {
            // SAFETY: sigset_t is plain data that pthread_sigmask fills in; it lives on this stack.
            unsafe {
                let mut now: libc::sigset_t = std::mem::zeroed();
                libc::pthread_sigmask(libc::SIG_SETMASK, std::ptr::null(), &raw mut now);
                libc::sigismember(&raw const now, libc::SIGTERM) == 1
            }
        };
        assert!(with_signals_blocked(blocks_sigterm));
        // tokio panics when the system cannot start a thread.
        assert!(std::panic::catch_unwind(|| with_signals_blocked(|| panic!("on purpose"))).is_err());
        assert!(!blocks_sigterm());
    }
}
