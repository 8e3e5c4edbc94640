//! The calls on a handle take turns: state that one call at a time uses, also while it waits for the network.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};

use tokio::time::Instant;

use crate::core::interrupt;
use crate::error::Result;
use crate::sys::lock::lock;

/// State that one call at a time has. Unlike with a mutex, the interrupt callback of a thread can end its wait.
pub(crate) struct Turn<T> {
    /// Locked by the call that has the turn. Other calls only try to lock it, so nothing ever waits for this lock.
    state: Mutex<T>,
    /// How many threads wait for their turn. Usually there are none, and then nobody is woken, which is a system call.
    waiting: AtomicUsize,
    queue: Mutex<()>,
    /// Signalled when a turn ends while threads wait.
    ended: Condvar,
}

impl<T> Turn<T> {
    pub(crate) fn new(state: T) -> Self {
        Self { state: Mutex::new(state), waiting: AtomicUsize::new(0), queue: Mutex::default(), ended: Condvar::new() }
    }

    /// Waits until no other call has the state, and takes it.
    pub(crate) fn take(&self) -> Result<Taken<'_, T>> {
        self.try_take().map_or_else(|| self.wait(), Ok)
    }

    /// Takes the state unless a call has it. Never waits.
    pub(crate) fn try_take(&self) -> Option<Taken<'_, T>> {
        let state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(state)) => state.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(Taken { state, _end: EndOfTurn(self) })
    }

    fn wait(&self) -> Result<Taken<'_, T>> {
        let _waiting = Waiting::begin(&self.waiting);
        loop {
            let queue = lock(&self.queue);
            // A turn that ends from here on wakes this thread, see the end of a turn.
            if let Some(taken) = self.try_take() {
                return Ok(taken);
            }
            let due = interrupt::due().map(|due| due.saturating_duration_since(Instant::now()));
            match due {
                None => drop(self.ended.wait(queue).unwrap_or_else(PoisonError::into_inner)),
                Some(due) => drop(self.ended.wait_timeout(queue, due).unwrap_or_else(PoisonError::into_inner)),
            }
            interrupt::ask()?;
        }
    }
}

/// Counts a thread as waiting.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        // Either the end of a turn sees the count, or this thread sees the end.
        fence(Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The state, for one call. Others can take it when this is dropped, also by a panic.
pub(crate) struct Taken<'a, T> {
    // Dropped before the end of the turn wakes others.
    state: MutexGuard<'a, T>,
    _end: EndOfTurn<'a, T>,
}

impl<T> Deref for Taken<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.state
    }
}

impl<T> DerefMut for Taken<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.state
    }
}

struct EndOfTurn<'a, T>(&'a Turn<T>);

impl<T> Drop for EndOfTurn<'_, T> {
    fn drop(&mut self) {
        fence(Ordering::SeqCst);
        if self.0.waiting.load(Ordering::SeqCst) > 0 {
            // With the lock, since a thread that has found the state taken may not wait yet. All are woken, because one
            // of them may be interrupted and would not take the state.
            let _queue = lock(&self.0.queue);
            self.0.ended.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn each_call_has_the_state_for_itself() {
        let turn = Turn::new(0_u64);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..5000 {
                        let mut state = turn.take().unwrap();
                        let before = *state;
                        std::hint::spin_loop();
                        *state = before + 1;
                    }
                });
            }
        });
        assert_eq!(*turn.take().unwrap(), 20_000);
        assert_eq!(turn.waiting.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn state_is_given_back_by_a_panic() {
        let turn = Turn::new(7);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _state = turn.take().unwrap();
            assert!(turn.try_take().is_none());
            panic!("on purpose");
        }));
        assert!(panicked.is_err());
        assert_eq!(*turn.take().unwrap(), 7);
    }

    #[test]
    fn the_callback_ends_the_wait_for_a_turn() {
        let turn = Turn::new(());
        let state = turn.take().unwrap();
        thread::scope(|scope| {
            let waits = scope.spawn(|| {
                interrupt::set_interrupt_callback(Some(Box::new(|| true))).unwrap();
                turn.take().map(drop)
            });
            assert_eq!(waits.join().unwrap().unwrap_err().message(), "interrupted by the caller");
        });
        drop(state);
        assert!(turn.take().is_ok());
    }
}
