//! The calls on a handle take turns: state that one call at a time uses, also while it waits for the network.

use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::core::interrupt;
use crate::error::Result;
use crate::sys::lock::lock;

/// State that one call at a time has. Unlike with a mutex, this thread's interrupt callback can end the wait for it.
pub(crate) struct Turn<T> {
    queue: Mutex<Queue>,
    /// Signalled when the state is free, if a thread waits for it.
    freed: Condvar,
    /// Locked by the call that has the turn only, so nothing ever waits for this lock.
    state: Mutex<T>,
}

#[derive(Default)]
struct Queue {
    taken: bool,
    /// How many threads wait. Usually there are none, and then nobody needs to be woken, which would be a system call.
    waiting: usize,
}

impl<T> Turn<T> {
    pub(crate) fn new(state: T) -> Self {
        Self { queue: Mutex::default(), freed: Condvar::new(), state: Mutex::new(state) }
    }

    /// Waits until no other call has the state, and takes it.
    pub(crate) fn take(&self) -> Result<Taken<'_, T>> {
        let mut queue = lock(&self.queue);
        while queue.taken {
            queue.waiting += 1;
            let due = interrupt::due();
            queue = match due.map(|due| due.saturating_duration_since(Instant::now())) {
                None => self.freed.wait(queue).unwrap_or_else(PoisonError::into_inner),
                Some(left) => self.freed.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0,
            };
            queue.waiting -= 1;
            if due.is_some() && queue.taken {
                drop(queue);
                interrupt::ask()?;
                queue = lock(&self.queue);
            }
        }
        queue.taken = true;
        drop(queue);
        Ok(self.taken())
    }

    /// Takes the state unless a call has it. Never waits.
    pub(crate) fn try_take(&self) -> Option<Taken<'_, T>> {
        let mut queue = self.queue.try_lock().ok()?;
        if std::mem::replace(&mut queue.taken, true) {
            return None;
        }
        drop(queue);
        Some(self.taken())
    }

    fn taken(&self) -> Taken<'_, T> {
        Taken { state: lock(&self.state), _end: End(self) }
    }
}

/// The state, for one call. It is free again when this is dropped, also by a panic.
pub(crate) struct Taken<'a, T> {
    // Dropped before the end of the turn.
    state: MutexGuard<'a, T>,
    _end: End<'a, T>,
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

struct End<'a, T>(&'a Turn<T>);

impl<T> Drop for End<'_, T> {
    fn drop(&mut self) {
        let mut queue = lock(&self.0.queue);
        queue.taken = false;
        let is_awaited = queue.waiting > 0;
        drop(queue);
        if is_awaited {
            // All of them: one that is woken may be interrupted, and would not take the state.
            self.0.freed.notify_all();
        }
    }
}
