//! Cancellation: from any thread, permanent, and inherited by everything that was opened with the cancelled object.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use crate::core::interrupt::Interruption;
use crate::error::{Error, Result, Status};

/// Whether an object, or the object that it was opened with, was cancelled. It has no lock, because a forked child
/// could inherit it locked.
#[derive(Debug, Default)]
pub(crate) struct Cancellation {
    cancelled: AtomicBool,
    parent: Option<Arc<Cancellation>>,
}

impl Cancellation {
    /// A cancellation of its own that is also cancelled when `self` is.
    pub(crate) fn child(self: &Arc<Self>) -> Arc<Self> {
        Arc::new(Self { cancelled: AtomicBool::new(false), parent: Some(self.clone()) })
    }

    /// Cancels permanently. To wake waiting tasks, the caller also notifies the client's `cancel_notify`.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire) || self.parent.as_ref().is_some_and(|parent| parent.is_cancelled())
    }

    /// An error if it is cancelled.
    pub(crate) fn check(&self) -> Result<()> {
        match self.is_cancelled() {
            false => Ok(()),
            true => Err(cancelled()),
        }
    }
}

/// The cancellation of a handle, and the interruption of one call on it, for which tasks can wait. All of a client share
/// one `Notify`: they are rare, so they may wake every waiting task of the client.
#[derive(Clone, Debug)]
pub(crate) struct CancelToken {
    cancellation: Arc<Cancellation>,
    interruption: Option<Arc<Interruption>>,
    notify: Arc<Notify>,
}

impl CancelToken {
    pub(crate) fn new(
        cancellation: Arc<Cancellation>,
        interruption: Option<Arc<Interruption>>,
        notify: Arc<Notify>,
    ) -> Self {
        Self { cancellation, interruption, notify }
    }

    /// The token of work that goes on after the call, so that an interruption does not end it.
    pub(super) fn in_background(&self) -> Self {
        Self { interruption: None, ..self.clone() }
    }

    /// The interruption of the call; `None` if its thread has no callback.
    pub(super) fn interruption(&self) -> Option<&Arc<Interruption>> {
        self.interruption.as_ref()
    }

    /// An error if it is cancelled or interrupted.
    pub(super) fn check(&self) -> Result<()> {
        self.cancellation.check()?;
        self.interruption.as_ref().map_or(Ok(()), |interruption| interruption.check())
    }

    /// Waits for the cancellation or interruption, and returns its error.
    pub(super) async fn cancelled(&self) -> Error {
        loop {
            let mut notified = pin!(self.notify.notified());
            // Registers before the check, so that no cancellation is missed.
            notified.as_mut().enable();
            if let Err(error) = self.check() {
                return error;
            }
            notified.await;
        }
    }
}

fn cancelled() -> Error {
    Error::new(Status::Cancelled, "cancelled")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancellation_reaches_children_but_no_parents_or_siblings() {
        let client = Arc::new(Cancellation::default());
        let (derived, other) = (client.child(), client.child());
        let blob = derived.child();
        derived.cancel();
        assert!(blob.is_cancelled() && derived.is_cancelled());
        assert!(!other.is_cancelled() && !client.is_cancelled());
        client.cancel();
        assert!(other.is_cancelled());
        assert_eq!(blob.check().unwrap_err().status(), Status::Cancelled);
    }
}
